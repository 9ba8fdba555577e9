"""What the radio promises about time, in lock-step virtual time: answers to the microsecond, nothing lost at
full load, no longer deaf than it must be, and nothing that grows. Longer runs: tests/bench/bench_radio.py."""

from __future__ import annotations

import gc
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from hw_sim.records import Fate, FrameRecord, ListeningSpan
from radio.config import ModuleConfig, RadioConfig, Role
from radio.gwmp import RxPacket, TxError, TxPacket
from radio.hardware.realtime import Quiet
from radio.jit import MS, Transmission
from radio.lora import LoRaModulation, airtime_us
from radio.service import Radio
from radio.sx127x.modem import Sent
from radio.sx127x.registers import Settings

if TYPE_CHECKING:
    from tests.radio.conftest import Bench, Carrier

SECOND = 1000 * MS
UP = bytes.fromhex("40f17dbe4900020001954378762b11ff0d")
BOARD = "fluxgate-sim-4"
# A channel of each bandwidth and where its RX1 answer goes; regions let a gateway send 500 kHz in North America.
CHANNELS = {
    125_000: ("EU868", 868_100_000, 868_100_000),
    250_000: ("EU868", 869_525_000, 869_525_000),
    500_000: ("US915", 904_600_000, 923_300_000),
}
TOLERANCE_NS = 20_000


def config(*modules: ModuleConfig, region: str = "EU868") -> RadioConfig:
    # Any bandwidth with any spreading factor
    return RadioConfig(modules=modules, gateway_eui=bytes(8), region=region, tx_lead_us=0, any_channel=True)


def answering(carrier: Carrier, config: RadioConfig, freq_hz: int) -> tuple[Radio, list[RxPacket]]:
    """A radio whose frames are answered in RX1, from inside the callback, as an in-process server does."""
    heard: list[RxPacket] = []

    def on_frame(rx: RxPacket, end_ns: int) -> None:
        heard.append(rx)
        order = TxPacket(
            tmst=(rx.tmst + 1_000_000) % 2**32,
            imme=False,
            freq_hz=freq_hz,
            rfch=0,
            powe_dbm=14,
            modulation=rx.modulation,
            ipol=True,
            data=b"down" + rx.data[:8],
            ncrc=True,
        )
        assert radio.transmit(order, end_ns).error is TxError.NONE

    radio = Radio(config, carrier.platform, on_frame)
    return radio, heard


def rx1_errors_ns(carrier: Carrier, bw_hz: int, sf: int, frames: int = 2) -> list[int]:
    """How far the answers to some frames start from RX1, as the air saw both."""
    region, up_hz, down_hz = CHANNELS[bw_hz]
    module = ModuleConfig(BOARD, 0, up_hz, sf, bw_hz)
    radio, _heard = answering(carrier, config(module, region=region), down_hz)
    carrier.start(radio)
    device = carrier.device("device")
    for i in range(frames):
        device.sends((1 + 8 * i) * SECOND + i * 333, Settings(up_hz, LoRaModulation(sf, bw_hz)), UP)
    carrier.run_until(8 * frames * SECOND)
    ups, downs = by_sender(carrier)
    carrier.stop(radio)
    assert len(ups) == len(downs) == frames
    return [down.start_ns - (up.end_ns + SECOND) for up, down in zip(ups, downs, strict=True)]


def by_sender(carrier: Carrier) -> tuple[list[FrameRecord], list[FrameRecord]]:
    ups, downs = ([f for f in carrier.frames if f.sender.startswith("device") is up] for up in (True, False))
    return ups, downs


@pytest.mark.parametrize("bw_hz", CHANNELS)
@pytest.mark.parametrize("sf", range(7, 13))
def test_rx1_starts_within_twenty_microseconds(carrier: Carrier, sf: int, bw_hz: int) -> None:
    errors = rx1_errors_ns(carrier, bw_hz, sf)
    assert all(abs(error) <= TOLERANCE_NS for error in errors), errors


@pytest.mark.parametrize("bw_hz", CHANNELS)
@pytest.mark.parametrize("sf", range(8, 13))
def test_a_driver_that_takes_rxdone_for_the_end_of_the_frame_answers_late(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch, sf: int, bw_hz: int
) -> None:
    monkeypatch.setattr("radio.calibration.rx_done_latency_ns", lambda _sf, _bw_hz: 0)
    assert min(rx1_errors_ns(carrier, bw_hz, sf, frames=1)) > 10 * TOLERANCE_NS


def test_answers_keep_their_time_where_the_counter_wraps(carrier: Carrier) -> None:
    radio, heard = answering(carrier, config(ModuleConfig(BOARD, 0)), 868_100_000)
    wrap_ns = 2**32 * 1000
    carrier.run_until(wrap_ns - 3 * SECOND)
    carrier.start(radio)
    device = carrier.device("device")
    for before_ns in (2 * SECOND, 500 * MS, -SECOND):  # answered before, across, and after the wrap
        device.sends(wrap_ns - before_ns, Settings(868_100_000, LoRaModulation(7, 125_000)), UP)
    carrier.run_until(wrap_ns + 4 * SECOND)
    ups, downs = by_sender(carrier)
    assert [rx.tmst > 2**31 for rx in heard] == [True, True, False]
    assert all(abs(d.start_ns - u.end_ns - SECOND) <= TOLERANCE_NS for u, d in zip(ups, downs, strict=True))
    carrier.stop(radio)


def test_saturated_receivers_lose_nothing_but_what_the_air_destroys(carrier: Carrier) -> None:
    heard: list[RxPacket] = []
    channels = (867_100_000, 868_100_000, 868_300_000, 868_500_000)
    modules = [ModuleConfig(BOARD, i, freq_hz=f, role=Role.RX) for i, f in enumerate(channels)]
    radio = Radio(config(*modules), carrier.platform, lambda rx, _end_ns: heard.append(rx))
    carrier.start(radio)
    mod = LoRaModulation(7, 125_000)
    step_ns = airtime_us(mod, len(UP)) * 1000 + MS  # back to back, as fast as a device gets its next frame in
    frames = 80
    for i, freq_hz in enumerate(channels):
        device, other = carrier.device(f"device{i}"), carrier.device(f"device{i}b")
        for n in range(frames):
            device.sends(SECOND + n * step_ns, Settings(freq_hz, mod), UP + bytes((i, n)))
        for n in range(3):  # somebody else in between
            other.sends(2 * SECOND + n * 700 * MS + i * 5 * MS, Settings(freq_hz, mod), b"noise" * 3)
    carrier.run_until(SECOND + (frames + 3) * step_ns)
    received = [
        (i, frame.payload)
        for frame in carrier.frames
        for i in range(len(channels))
        if frame.fate(f"module{i}") is Fate.RECEIVED
    ]
    good = [(rx.chan, rx.data) for rx in heard if rx.stat == 1]
    assert sorted(good) == sorted(received)
    assert 4 * frames - 30 < len(good) < 4 * (frames + 3)  # the air did destroy some
    carrier.stop(radio)


def test_a_downlink_makes_a_receiver_deaf_for_its_airtime_and_seven_milliseconds_at_most(
    carrier: Carrier,
) -> None:
    """Measured where the model's receiver goes off and on, not where the driver says so."""
    spans: list[ListeningSpan] = []
    carrier.air.records.listening_observers.append(spans.append)
    radio, heard = answering(carrier, config(ModuleConfig(BOARD, 0)), 868_100_000)
    carrier.start(radio)
    device = carrier.device("device")
    for i in range(5):
        device.sends((1 + 2 * i) * SECOND, Settings(868_100_000, LoRaModulation(7, 125_000)), UP)
    carrier.run_until(12 * SECOND)
    _ups, downs = by_sender(carrier)
    status = radio.status(carrier.kernel.now_ns)["modules"][0]
    carrier.stop(radio)
    assert len(heard) == len(downs) == 5
    deaf_ns = [after.start_ns - before.end_ns for before, after in pairwise(spans)]
    for deaf, down in zip(deaf_ns, downs, strict=True):
        assert down.airtime_ns < deaf <= down.airtime_ns + 7 * MS
    assert abs(status["deaf_ns"] - sum(deaf_ns)) < 5 * MS


def test_nothing_grows_with_the_frames_that_pass(carrier: Carrier) -> None:
    radio, heard = answering(carrier, config(ModuleConfig(BOARD, 0)), 868_100_000)
    carrier.start(radio)
    device = carrier.device("device")
    counts = []
    for part in range(3):
        for i in range(25):
            device.sends(
                (1 + 60 * part + 2 * i) * SECOND, Settings(868_100_000, LoRaModulation(7, 125_000)), UP
            )
        carrier.run_until(60 * (part + 1) * SECOND)
        heard.clear()
        carrier.air.records.frames.clear()
        gc.collect()
        counts.append(len(gc.get_objects()))
    carrier.stop(radio)
    assert counts[2] - counts[1] < 100, counts


def test_garbage_is_collected_only_when_no_downlink_is_in_hand(bench_for: Callable[..., Bench]) -> None:
    quiet = Quiet()
    bench = bench_for(Settings(868_100_000, LoRaModulation(7, 125_000)), quiet=quiet)
    tx = Transmission(1, 30 * SECOND, 868_100_000, LoRaModulation(9, 125_000), 14, True, False, 8, bytes(12))
    seen: dict[int, bool] = {}
    for at_ns in (tx.start_ns - 6 * MS, tx.start_ns - 2 * MS, tx.end_ns - MS, tx.end_ns + 10 * MS):
        bench.at(at_ns, lambda at_ns=at_ns: seen.setdefault(at_ns, gc.isenabled()))
    bench.at(29 * SECOND, lambda: bench.owner.submit(tx, 29 * SECOND))
    bench.run_until(60 * SECOND)
    assert list(seen.values()) == [True, False, False, True]
    assert 2 <= quiet.collections <= 6
    assert bench.of(Sent)


def test_two_runs_of_the_same_seed_are_the_same(carrier_for: Callable[[], Carrier]) -> None:
    def run() -> list[tuple[str, int]]:
        carrier = carrier_for()
        modules = (ModuleConfig(BOARD, 0), ModuleConfig(BOARD, 1, sf=9))
        radio, _heard = answering(carrier, config(*modules), 868_100_000)
        carrier.start(radio)
        for i, sf in enumerate((7, 9, 7)):
            device = carrier.device(f"device{i}")
            device.sends((1 + i) * SECOND, Settings(868_100_000, LoRaModulation(sf, 125_000)), UP)
        carrier.run_until(8 * SECOND)
        carrier.stop(radio)
        return [(f.sender, f.start_ns) for f in carrier.frames]

    assert run() == run()
