"""An RN2483 as a gateway's module, in lock-step virtual time: frames, downlinks, and everything that goes wrong."""

import random
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

import radio.rn2483
from hw_sim.air import Air
from hw_sim.board import Board
from hw_sim.hosts import LocalHost, SimClock
from hw_sim.kernel import Kernel
from hw_sim.links import AirSettings
from hw_sim.node_radio import NodeRadio
from hw_sim.records import FrameRecord
from hw_sim.rn2483 import SimRn2483
from hw_sim.sx1276 import SX1276
from hw_sim.uart import SimSerial
from radio.gwmp import TxError
from radio.jit import MS, Transmission
from radio.lora import LoRaModulation
from radio.rn2483 import Rn2483
from radio.rn2483_owner import TIMING, Rn2483Owner
from radio.rn2483_states import MOVES, Move, State, Tuning
from radio.sx127x.modem import Event, NotSent, Received, Sent
from radio.sx127x.registers import Power, Settings

T = TypeVar("T")

S = 1_000_000_000
FREQ_HZ = 868_100_000
UP = b"what a device has to say"


class Bench:
    """One module with its owner on a serial wire, and a device with an SX1276."""

    def __init__(self, sf: int = 9, receives: bool = True) -> None:
        self.kernel = Kernel(seed=7)
        self.air = Air(self.kernel, AirSettings(fading_db=0.0, decode_width_db=0.01))
        self.module = SimRn2483(self.kernel, "module")
        device = SX1276(self.kernel, "device")
        self.air.add(self.module.chip)
        self.air.add(device, x_m=300)
        self.device_chip = device
        self.device = NodeRadio(self.kernel, device)
        self.kernel.after(20 * MS, self.device.start)
        self.modulation = LoRaModulation(sf, 125_000)
        host = LocalHost(self.kernel, Board(self.kernel))
        receive = Tuning(FREQ_HZ, self.modulation, iq_inverted=False, crc=True) if receives else None
        self.core = Rn2483(receive)
        self.events: list[Event] = []
        self.answer_ns: int | None = None  # a downlink so long after each frame
        self.owner = Rn2483Owner(
            "module", self.core, SimSerial(host, self.module.wire), SimClock(host), self._on_event
        )
        self.stop = threading.Event()
        self.kernel.spawn(lambda: self.owner.run(self.stop), "module")

    def _on_event(self, _owner: Rn2483Owner, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Received) and self.answer_ns is not None:
            assert self.submit(event.end_ns + self.answer_ns) is TxError.NONE

    def submit(self, start_ns: int, freq_hz: int = FREQ_HZ, payload: bytes = b"down") -> TxError:
        """Order a downlink."""
        tx = Transmission(1, start_ns, freq_hz, self.modulation, 14, True, False, 8, payload)
        return self.owner.submit(tx, self.kernel.now_ns)

    def device_sends(self, t_ns: int, payload: bytes = UP) -> None:
        settings = Settings(FREQ_HZ, self.modulation)
        self.kernel.at(t_ns, lambda: self.device.transmit(settings, Power(14), payload, lambda _end_ns: None))

    def at(self, t_ns: int, act: Callable[[], object]) -> None:
        self.kernel.at(t_ns, lambda: [act(), None][1])

    def run_until(self, t_ns: int) -> None:
        self.kernel.run_until(t_ns)

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]

    def sent_by(self, name: str) -> list[FrameRecord]:
        return [frame for frame in self.air.records.frames if frame.sender == name]

    @property
    def listens(self) -> bool:
        """Is its receiver on, with the right settings, and does the driver think so?"""
        listening = self.module.chip.listening
        return (
            self.core.state is State.LISTENING
            and listening is not None
            and abs(listening.wave.freq_hz - FREQ_HZ) < 100
            and listening.wave.modulation.sf == self.modulation.sf
        )


@pytest.fixture
def bench_for() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(sf: int = 9, *, receives: bool = True) -> Bench:
        made.append(Bench(sf, receives))
        return made[-1]

    yield make
    for bench in made:
        bench.kernel.close()


@pytest.fixture
def bench(bench_for: Callable[..., Bench]) -> Bench:
    return bench_for()


def test_a_frame_comes_with_the_time_its_last_symbol_ended(bench_for: Callable[..., Bench]) -> None:
    for sf in (7, 12):
        bench = bench_for(sf)
        bench.device_sends(2 * S)
        bench.device_sends(6 * S, payload=bytes(range(200)))
        bench.run_until(20 * S)
        frames, heard = bench.sent_by("device"), bench.of(Received)
        assert [event.packet.payload for event in heard] == [UP, bytes(range(200))]
        for frame, event in zip(frames, heard, strict=True):
            assert abs(event.end_ns - frame.end_ns) < 500_000
            assert event.coarse
            assert event.packet.freq_error_hz is None
            assert -110 < event.packet.rssi_dbm < -95
            assert event.packet.snr_db == 12
        assert bench.listens


def test_a_downlink_starts_within_half_a_millisecond_of_its_time(bench_for: Callable[..., Bench]) -> None:
    for sf in (7, 9, 12):
        bench = bench_for(sf)
        bench.answer_ns = S
        for i in range(4):
            bench.device_sends((2 + 6 * i) * S, payload=UP[: 5 + 5 * i])
        bench.run_until(26 * S)
        ups, downs = bench.sent_by("device"), bench.sent_by("module")
        assert len(bench.of(Sent)) == len(downs) == 4
        for up, down in zip(ups, downs, strict=True):
            assert abs(down.start_ns - up.end_ns - S) < 500_000
            assert down.iq_inverted
            assert not down.crc
            assert abs(down.freq_hz - FREQ_HZ) < 62  # the synthesizer's step
        assert bench.listens


def test_the_thinking_time_of_long_and_short_orders_is_learnt(bench: Bench) -> None:
    for i, size in enumerate((5, 200, 60, 150, 220, 10)):
        bench.at(
            (2 + 5 * i) * S,
            lambda i=i, size=size: bench.submit((4 + 5 * i) * S, payload=bytes([0xA5]) * size),
        )
    bench.run_until(35 * S)
    errors_us = [(frame.start_ns - (4 + 5 * i) * S) / 1000 for i, frame in enumerate(bench.sent_by("module"))]
    assert len(errors_us) == 6
    assert abs(errors_us[1]) > 1500  # 200 bytes right after 5: what the first told is not enough
    assert all(abs(error) < 700 for error in errors_us[2:])


def test_a_module_that_only_sends_never_listens(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(receives=False)
    bench.at(2 * S, lambda: bench.submit(3 * S))
    bench.run_until(8 * S)
    assert bench.core.state is State.RESTING
    assert len(bench.sent_by("module")) == 1
    assert bench.module.chip.listening is None


def test_orders_it_cannot_keep_are_refused(bench: Bench) -> None:
    bench.run_until(2 * S)
    now_ns = bench.kernel.now_ns
    assert bench.submit(now_ns + TIMING.min_lead_ns - 1) is TxError.TOO_LATE
    assert bench.submit(now_ns + S, freq_hz=915_000_000) is TxError.TX_FREQ
    assert bench.submit(now_ns + S) is TxError.NONE
    assert bench.submit(now_ns + S + 100 * MS) is TxError.COLLISION_PACKET


def test_a_frame_that_ends_while_a_downlink_is_prepared_is_kept(bench: Bench) -> None:
    bench.device_sends(2 * S)  # its line goes over the wire at about 2.21 s
    bench.run_until(S)
    assert bench.submit(2_466 * MS) is TxError.NONE  # from 2.216 s on the module prepares
    bench.run_until(4 * S)
    assert [event.packet.payload for event in bench.of(Received)] == [UP]
    assert len(bench.of(Sent)) == 1
    assert bench.listens


def test_damaged_frames_are_counted_and_do_not_stop_the_receiver(bench: Bench) -> None:
    bench.device_sends(2 * S)
    bench.at(2_150 * MS, lambda: bench.device_chip.spi(b"\x81\x81"))  # RegOpMode: standby, in mid-frame
    bench.device_sends(5 * S)
    bench.run_until(8 * S)
    assert bench.core.counters.crc_bad == 1
    assert [event.packet.payload for event in bench.of(Received)] == [UP]
    assert bench.listens


# --- faults: each is found and mended, and without what finds it, it is not ------------------------------

FAULTS = [
    pytest.param("garbage", 1, id="a damaged line"),
    pytest.param("garbage", 8, id="eight damaged lines"),
    pytest.param("noise", 3000, id="noise on the wire"),
    pytest.param("lost_line", 1, id="a lost line"),
    pytest.param("lost_line", 6, id="six lost lines"),
    pytest.param("reset", 1, id="a reset with its banner"),
    pytest.param("silent_reset", 1, id="a reset without banner"),
]


@pytest.mark.parametrize("during", ["listening", "frame", "downlink"])
@pytest.mark.parametrize(("kind", "count"), FAULTS)
def test_a_fault_is_found_and_mended_within_five_seconds(
    bench: Bench, kind: str, count: int, during: str
) -> None:
    bench.device_sends(3 * S)
    if during == "downlink":
        bench.answer_ns = S
    fault_ns = {"listening": 2500 * MS, "frame": 3180 * MS, "downlink": 3950 * MS}[during]
    bench.at(fault_ns, lambda: bench.module.fail(kind, count))
    bench.run_until(9 * S)
    assert bench.listens
    assert bench.owner.fault == ""
    bench.answer_ns = None
    heard = len(bench.of(Received))
    bench.device_sends(10 * S)
    bench.run_until(11 * S)
    assert len(bench.of(Received)) == heard + 1


@pytest.mark.parametrize("kind", ["silent_reset", "lost_line"])
def test_without_the_pings_a_silent_fault_is_never_found(
    bench: Bench, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(radio.rn2483, "PING_NS", 1 << 61)
    bench.run_until(2500 * MS)
    bench.device_sends(3 * S)
    bench.at(3165 * MS if kind == "lost_line" else 2600 * MS, lambda: bench.module.fail(kind))
    bench.run_until(30 * S)
    assert not bench.listens


def test_a_hung_module_is_down_until_it_answers_again(bench: Bench) -> None:
    bench.run_until(2 * S)
    bench.module.fail("hang")
    bench.run_until(8 * S)
    assert "did not answer" in bench.owner.fault
    # The queue does not know; the order is settled when its time comes
    assert bench.submit(9 * S) is TxError.NONE
    bench.run_until(9 * S)
    assert len(bench.of(NotSent)) == 1
    bench.module.fail("wake")
    bench.run_until(40 * S)
    assert bench.listens
    assert bench.owner.recovered == 1
    assert bench.owner.status(0)["faults_by_kind"]["silent"] >= 1


def test_an_adapter_pulled_out_and_put_back_works_again(bench: Bench) -> None:
    bench.run_until(2 * S)
    bench.module.fail("unplug")
    bench.run_until(4 * S)
    assert "no such serial device" in bench.owner.fault
    bench.module.fail("plug")
    bench.run_until(10 * S)
    assert bench.listens
    assert bench.owner.fault == ""


def flip_a_digit_of_each_first_frequency(bench: Bench) -> None:
    """On its way to the module, a set frequency loses a bit, the first time each."""
    seen: set[bytes] = set()

    def damage(data: bytes) -> bytes:
        if data.startswith(b"radio set freq ") and data not in seen:
            seen.add(data)
            return data.replace(b"8681", b"8685").replace(b"8695", b"8691")
        return data

    bench.module.wire.damage_orders = damage


def test_nothing_is_sent_on_a_frequency_damaged_on_the_wire(bench: Bench) -> None:
    flip_a_digit_of_each_first_frequency(bench)
    bench.at(2 * S, lambda: bench.submit(3 * S, freq_hz=869_525_000))
    bench.run_until(6 * S)
    assert [round(frame.freq_hz, -3) for frame in bench.sent_by("module")] == [869_525_000]
    assert bench.core.counters.refused >= 2
    assert bench.listens


def test_without_reading_back_the_damage_goes_on_air(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(radio.rn2483, "is_value", lambda _text: lambda _reply: True)
    flip_a_digit_of_each_first_frequency(bench)
    bench.at(2 * S, lambda: bench.submit(3 * S, freq_hz=869_525_000))
    bench.run_until(6 * S)
    assert [round(frame.freq_hz, -3) for frame in bench.sent_by("module")] == [869_125_000]


def test_after_a_reset_nothing_is_sent_with_the_factory_settings(bench: Bench) -> None:
    bench.run_until(2 * S)
    assert bench.submit(3 * S, freq_hz=869_525_000) is TxError.NONE
    bench.at(2_970 * MS, lambda: bench.module.fail("silent_reset"))  # the line is in, its end is not
    bench.run_until(8 * S)
    assert bench.sent_by("module") == []
    assert len(bench.of(NotSent)) == 1
    assert bench.listens


def test_an_owner_that_is_late_sends_nothing_and_goes_on(bench: Bench) -> None:
    bench.run_until(2 * S)
    bench.submit(3 * S)
    sleep_until = bench.owner.clock.sleep_until
    bench.owner.clock.sleep_until = lambda t_ns: sleep_until(t_ns + 5 * MS)  # type: ignore[method-assign]
    bench.run_until(5 * S)
    assert bench.sent_by("module") == []
    assert bench.core.counters.late == 1
    assert bench.listens


def test_the_receiver_is_off_when_the_owner_has_ended(bench: Bench) -> None:
    bench.run_until(2 * S)
    bench.stop.set()
    bench.owner.clock.wake()
    bench.run_until(3 * S)
    assert bench.module.chip.listening is None


def test_every_state_can_be_left_and_reached() -> None:
    reached = set(MOVES.values())
    left = {state for state, _move in MOVES}
    assert left == set(State)
    assert reached == set(State) - {State.DOWN}  # which every fault leads to
    assert {move for _state, move in MOVES} == set(Move)


def test_whatever_a_module_answers_the_driver_stays_in_its_states() -> None:
    """Sound answers in any order, of a module that has lost its mind: no exception, and nothing grows."""
    lines = [
        b"ok",
        b"busy",
        b"invalid_param",
        b"radio_tx_ok",
        b"radio_err",
        *[b"radio_rx  0102"] * 8,
        b"0",
        b"4294967245",
    ]
    lines += [
        b"868100000",
        b"lora",
        b"34",
        b"sf9",
        b"-7",
        b"on",
        b"off",
        b"RN2483 1.0.5 Oct 31 2018 15:06:52",
    ]
    states = set()
    for seed in range(24):
        rng = random.Random(seed)
        receive = (
            Tuning(FREQ_HZ, LoRaModulation(9, 125_000), iq_inverted=False, crc=True) if seed % 4 else None
        )
        core = Rn2483(receive)
        now_ns, orders, settled = 0, 0, 0
        for _ in range(1000):
            now_ns += rng.randrange(60 * MS)
            events: list[Event] = []
            match rng.randrange(8):
                case 0 if core.state is State.DOWN:
                    core.start(now_ns)
                case 1 | 2:
                    events += core.on_time(max(now_ns, core.next_deadline() or 0))
                case 3 if orders == settled:
                    orders += 1
                    tx = Transmission(
                        1, now_ns + S // 4, FREQ_HZ, LoRaModulation(9, 125_000), 14, True, False, 8, b"x"
                    )
                    events += core.submit(tx, now_ns)
                case 4 if core.fire_at_ns is not None:
                    events += core.fire(core.fire_at_ns + rng.randrange(2 * MS))
                case _:
                    fitting = expected(core) if rng.random() < (0.6, 0.9, 0.99)[seed % 3] else None
                    events += core.on_bytes((fitting or rng.choice(lines)) + b"\r\n", now_ns)
            core.take_output()
            states.add(core.state)
            settled += sum(isinstance(event, Sent | NotSent) for event in events)
            assert settled <= orders
            assert len(core._plan) < 40
    assert states == set(State)


def expected(core: Rn2483) -> bytes | None:
    """What a sound module would say to the command it was given last."""
    if core.state is State.LISTENING and not core._plan:
        return b"radio_rx  0102"
    if not core._plan:
        return b"ok" if core._ok_ns is None else b"radio_tx_ok"
    words = core._plan[0].command.split()
    match words:
        case ["sys", *_]:
            return b"RN2483 1.0.5 Oct 31 2018 15:06:52"
        case ["mac", *_]:
            return b"4294967245"
        case ["radio", "get", key]:
            return core._set.get(key, "-3").encode()
    return b"ok"
