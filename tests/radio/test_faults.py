"""Chips, wires and supplies that fail: what the driver notices, how fast it works again, and what never leaves it.

`python tests/torture/chip_faults.py` is the long version of the first two.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from torture import chip_faults

from hw_sim import registers as reg
from hw_sim.chip_faults import ChipFault
from radio.errors import FaultKind
from radio.jit import MS, Transmission
from radio.lora import LoRaModulation
from radio.sx127x.health import ADVICE
from radio.sx127x.modem import Fault, Mended, NotSent, Received, Sent
from radio.sx127x.registers import Settings
from radio.sx127x.watch import POLL_NS

if TYPE_CHECKING:
    from tests.radio.conftest import Bench

SECOND = 1000 * MS
SF7 = LoRaModulation(7, 125_000)
UP = bytes.fromhex("40f17dbe4900020001954378762b11ff0d")
LISTEN = Settings(868_100_000, SF7)
_ids = itertools.count(1)


def downlink(start_ns: int, payload: bytes = bytes(range(12)), power_dbm: int = 14) -> Transmission:
    return Transmission(next(_ids), start_ns, 869_525_000, SF7, power_dbm, True, False, 8, payload)


def test_two_hundred_faults_are_noticed_and_mended_and_nothing_wrong_is_sent() -> None:
    logging.disable(logging.CRITICAL)
    findings = chip_faults.run(200, seed=21)
    logging.disable(logging.NOTSET)
    print(findings)
    assert findings.problems == []
    assert findings.wrong == 0
    assert len(findings.met) == len(ChipFault)
    assert max(findings.detection_ms) <= 2000
    assert max(findings.recovery_ms) <= 5000


def test_control_a_driver_without_its_checks_sends_what_nobody_ordered() -> None:
    logging.disable(logging.CRITICAL)
    findings = chip_faults.run(100, seed=5, checks=False)
    logging.disable(logging.NOTSET)
    print(findings)
    assert findings.wrong > 0
    assert findings.unnoticed > 0


def disturbed(bench: Bench, fault: ChipFault, at_ns: int, duration_ns: int = 500 * MS, **knobs: Any) -> Bench:
    """Let a fault strike, run until all is over, and have one more frame sent."""
    bench.chip.strict = False

    def strike() -> None:
        for name, value in knobs.items():
            setattr(bench.chip.faults, name, value)
        if not knobs:
            bench.chip.faults.inject(fault, duration_ns)

    bench.at(at_ns, strike)
    if knobs:
        bench.at(at_ns + duration_ns, bench.chip.faults.clear)
    bench.device_sends(9 * SECOND, LISTEN, UP)
    bench.run_until(10 * SECOND)
    return bench


@pytest.mark.parametrize(
    ("fault", "kind", "duration_ns"),
    [
        (ChipFault.SPI_LOW, FaultKind.SPI_LOW, 1500 * MS),
        (ChipFault.SPI_HIGH, FaultKind.SPI_HIGH, 1500 * MS),
        (ChipFault.SPI_ECHO, FaultKind.SPI_ECHO, 1500 * MS),
        (ChipFault.BROWN_OUT, FaultKind.BROWN_OUT, 10 * MS),
        (ChipFault.SETTING, FaultKind.SETTINGS, MS),
        (ChipFault.MODE_LEFT, FaultKind.MODE, MS),
        (ChipFault.PLL, FaultKind.PLL, 1500 * MS),
        (ChipFault.CRYSTAL, FaultKind.CRYSTAL, 1500 * MS),
    ],
)
def test_a_quiet_receiver_notices_what_is_wrong_and_works_again(
    bench_for: Callable[..., Bench], fault: ChipFault, kind: FaultKind, duration_ns: int
) -> None:
    bench = disturbed(bench_for(LISTEN), fault, 2300 * MS, duration_ns)
    health = bench.owner.modem.health
    assert health.by_kind[kind] >= 1
    assert [event.packet.payload for event in bench.of(Received)] == [UP]
    status = bench.owner.status(10 * SECOND)
    assert (status["state"], status["fault"], status["degraded"]) == ("listening", "", "")
    assert status["recovered"] == sum(status["faults_by_kind"].values())
    assert status["detection_ms"]["worst"] <= 2000
    assert status["recovery_ms"]["worst"] <= 5000


@pytest.mark.parametrize("fault", [ChipFault.CRYSTAL, ChipFault.BROWN_OUT, ChipFault.SPI_LOW])
def test_a_resting_sender_is_looked_at_as_well(bench_for: Callable[..., Bench], fault: ChipFault) -> None:
    bench = bench_for(None)
    bench.chip.strict = False
    bench.at(2300 * MS, lambda: bench.chip.faults.inject(fault, 1500 * MS))
    bench.run_until(4 * SECOND)
    assert sum(bench.owner.modem.health.by_kind.values()) >= 1
    tx = downlink(9 * SECOND)
    bench.at(8 * SECOND, lambda: bench.owner.submit(tx, 8 * SECOND))
    bench.run_until(10 * SECOND)
    assert len(bench.of(Sent)) == 1


def test_noise_on_the_wires_is_counted_and_survived(bench_for: Callable[..., Bench]) -> None:
    bench = disturbed(bench_for(LISTEN), ChipFault.SPI_NOISE, 1500 * MS, 4 * SECOND, flip_one_in=3)
    assert bench.owner.modem.health.by_kind[FaultKind.SPI_NOISE] >= 1
    assert [event.packet.payload for event in bench.of(Received)] == [UP]


def test_a_mode_that_does_not_take_at_once_is_asked_for_again(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(LISTEN)
    tx = downlink(2 * SECOND)
    bench.at(SECOND, lambda: bench.owner.submit(tx, SECOND))
    bench.at(tx.start_ns - 6 * MS, lambda: setattr(bench.chip.faults, "refused_modes", 3))
    bench.run_until(4 * SECOND)
    assert len(bench.of(Sent)) == 1
    assert bench.owner.modem.health.by_kind == {FaultKind.MODE: 1}
    assert bench.owner.modem.counters.starts == 1


def test_a_mode_that_is_refused_for_good_ends_in_a_reset(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(LISTEN)
    tx = downlink(2 * SECOND)
    bench.at(SECOND, lambda: bench.owner.submit(tx, SECOND))
    bench.at(tx.start_ns - 6 * MS, lambda: setattr(bench.chip.faults, "refused_modes", 10_000))
    bench.run_until(4 * SECOND)
    (failed,) = bench.of(NotSent)
    assert "STDBY not reached" in failed.reason
    assert not failed.maybe_aired
    assert [event.kind for event in bench.of(Fault)] == [FaultKind.MODE]
    assert bench.state == "LISTENING"


def test_what_only_sending_needs_is_put_right_without_leaving_a_frame(
    bench_for: Callable[..., Bench],
) -> None:
    bench = bench_for(LISTEN)
    tx = downlink(SECOND)
    bench.at(500 * MS, lambda: bench.owner.submit(tx, 500 * MS))
    bench.at(1500 * MS, lambda: bench.chip.poke(reg.PA_CONFIG, 0x80))
    for i in range(18):  # one after the other, whenever the look comes
        bench.device_sends(1600 * MS + i * 58 * MS, LISTEN, UP + bytes((i,)))
    bench.run_until(3 * SECOND)
    assert bench.chip.peek(reg.PA_CONFIG) == 0xFC
    assert [event.packet.payload[-1] for event in bench.of(Received)] == list(range(18))
    assert bench.owner.modem.health.by_kind == {FaultKind.SETTINGS: 1}


def test_a_receiver_that_stays_inside_a_frame_is_set_up_anew(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(LISTEN)
    bench.at(1500 * MS, lambda: bench.chip.poke(reg.MODEM_STAT, 0x07))
    bench.device_sends(9 * SECOND, LISTEN, UP)
    bench.run_until(10 * SECOND)
    assert bench.owner.modem.health.by_kind == {FaultKind.RX_STUCK: 1}
    assert bench.owner.modem.counters.starts == 1
    assert len(bench.of(Received)) == 1


def test_a_bus_the_system_refuses_is_tried_again(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(LISTEN)
    transfer = bench.chip._transfer

    def refuse(data: bytes) -> bytes:
        raise OSError(5, "Input/output error")

    bench.at(1500 * MS, lambda: setattr(bench.chip, "_transfer", refuse))
    bench.at(4 * SECOND, lambda: setattr(bench.chip, "_transfer", transfer))
    bench.run_until(7 * SECOND)
    assert bench.owner.modem.health.by_kind == {FaultKind.SPI_REFUSED: 1}
    assert bench.state == "LISTENING"


def test_a_line_that_stays_high_does_not_stop_reception(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(LISTEN)
    bench.chip.strict = False
    hold = bench.chip.faults.hold_line
    bench.at(1500 * MS, lambda: hold(True))
    for i in range(4):
        bench.device_sends(6 * SECOND + i * 100 * MS, LISTEN, UP + bytes((i,)))
    bench.run_until(8 * SECOND)
    heard = bench.of(Received)
    assert [event.packet.payload[-1] for event in heard] == [0, 1, 2, 3]
    assert all(event.coarse for event in heard)
    assert "DIO0 stays high" in bench.owner.status(0)["degraded"]
    bench.at(8 * SECOND, lambda: hold(None))
    bench.device_sends(20 * SECOND, LISTEN, UP)
    bench.run_until(21 * SECOND)
    assert not bench.of(Received)[-1].coarse
    assert bench.owner.status(0)["degraded"] == ""


def test_a_flag_that_cannot_be_cleared_is_reset_away(bench_for: Callable[..., Bench]) -> None:
    bench = disturbed(
        bench_for(LISTEN),
        ChipFault.STUCK_FLAG,
        1500 * MS,
        SECOND,
        stuck_flags=reg.RX_DONE | reg.PAYLOAD_CRC_ERROR,
    )
    assert bench.of(Received)[-1].packet.crc_ok
    bench.device_sends(11 * SECOND, LISTEN, UP)
    bench.at(10 * SECOND, lambda: setattr(bench.chip.faults, "stuck_flags", reg.RX_DONE))
    bench.at(13 * SECOND, bench.chip.faults.clear)
    bench.run_until(16 * SECOND)
    assert [event.packet.payload for event in bench.of(Received)] == [
        UP,
        UP,
    ]  # taken once, not again and again
    assert bench.owner.modem.health.by_kind[FaultKind.STUCK_FLAG] >= 1
    assert bench.state == "LISTENING"


def test_after_a_lost_edge_the_next_frames_are_asked_for_quickly(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(LISTEN)
    bench.chip.faults.lost_edges = 3
    bench.device_sends(1500 * MS, LISTEN, UP)
    for i in range(3):
        bench.device_sends(3 * SECOND + i * 60 * MS, LISTEN, UP + bytes((i,)))
    bench.run_until(4 * SECOND)
    heard = bench.of(Received)
    assert [event.coarse for event in heard] == [True, True, True, False]
    assert bench.owner.modem.health.by_kind == {FaultKind.LOST_EDGE: 3}
    assert bench.owner.status(0)["degraded"] == ""


@pytest.mark.parametrize("before_ms", [20, 1])
def test_a_flag_that_says_done_too_early_does_not_cut_the_frame(
    bench_for: Callable[..., Bench], before_ms: int
) -> None:
    bench = bench_for(LISTEN)
    tx = downlink(2 * SECOND)
    bench.at(SECOND, lambda: bench.owner.submit(tx, SECOND))
    bench.at(tx.end_ns - before_ms * MS, lambda: bench.chip.poke(reg.IRQ_FLAGS, reg.TX_DONE))
    bench.run_until(3 * SECOND)
    assert [frame.aborted for frame in bench.frames] == [False]
    assert len(bench.of(Sent)) == 1
    assert bench.state == "LISTENING"


def test_a_chip_that_goes_on_sending_is_stopped(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(LISTEN)
    tx = downlink(2 * SECOND)
    bench.at(SECOND, lambda: bench.owner.submit(tx, SECOND))
    bench.at(SECOND, lambda: bench.chip.faults.inject(ChipFault.TX_HUNG, 3 * SECOND))
    bench.run_until(tx.end_ns + 20 * MS)
    assert bench.chip.mode != reg.TX
    assert [event.kind for event in bench.of(Fault)] == [FaultKind.TX_HUNG]
    assert bench.of(NotSent)[0].maybe_aired


@pytest.mark.parametrize(
    "address", [reg.FRF_MSB, reg.PA_CONFIG, reg.MODEM_CONFIG2, reg.INVERT_IQ, reg.SYNC_WORD]
)
@pytest.mark.parametrize("before_us", [4000, 300])
def test_a_setting_that_changed_before_the_start_is_put_right(
    bench_for: Callable[..., Bench], address: int, before_us: int
) -> None:
    bench = bench_for(LISTEN)
    tx = downlink(2 * SECOND)
    bench.at(SECOND, lambda: bench.owner.submit(tx, SECOND))
    chip = bench.chip
    bench.at(tx.start_ns - before_us * 1000, lambda: chip.poke(address, chip.peek(address) ^ 0x41))
    bench.run_until(3 * SECOND)
    (frame,) = bench.frames
    assert (frame.payload, frame.power_dbm, frame.modulation, frame.iq_inverted) == (
        tx.payload,
        14,
        SF7,
        True,
    )
    assert abs(frame.freq_hz - tx.freq_hz) < 62
    assert abs(frame.start_ns - tx.start_ns) < 500_000
    assert [event.kind for event in bench.of(Mended)] == [FaultKind.SETTINGS]
    assert len(bench.of(Sent)) == 1


def test_a_frame_that_left_the_fifo_is_loaded_again(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(LISTEN)
    tx = downlink(2 * SECOND)
    bench.at(SECOND, lambda: bench.owner.submit(tx, SECOND))
    for op_mode in (0x80, 0x81):  # SLEEP, which empties it, and STDBY
        bench.at(
            tx.start_ns - 3 * MS + op_mode, lambda op_mode=op_mode: bench.chip.spi(bytes((0x81, op_mode)))
        )
    bench.run_until(3 * SECOND)
    assert [frame.payload for frame in bench.frames] == [tx.payload]
    assert len(bench.of(Sent)) == 1


def test_a_chip_that_is_reset_while_armed_sends_nothing(bench_for: Callable[..., Bench]) -> None:
    for before_us in (3000, 250, 100, 45):
        bench = bench_for(LISTEN)
        bench.chip.strict = False
        tx = downlink(2 * SECOND)
        bench.at(SECOND, lambda bench=bench, tx=tx: bench.owner.submit(tx, SECOND))
        bench.at(tx.start_ns - before_us * 1000, bench.chip._reset_registers)
        bench.run_until(3 * SECOND)
        assert bench.frames == []
        assert bench.chip.warnings["the FSK modem sends"] == 0
        assert len(bench.of(NotSent)) == 1
        assert [event.kind for event in bench.of(Fault)] == [FaultKind.BROWN_OUT]
        assert bench.state == "LISTENING"


def test_a_start_that_goes_astray_on_the_wire_is_stopped_before_the_air(
    bench_for: Callable[..., Bench],
) -> None:
    """The write of RegOpMode with one address bit inverted: it goes to PaConfig, or nowhere."""
    for bit in range(7):
        bench = bench_for(LISTEN)
        bench.chip.strict = False
        tx = downlink(2 * SECOND)
        bench.at(SECOND, lambda bench=bench, tx=tx: bench.owner.submit(tx, SECOND))
        transfer = bench.chip._transfer

        def astray(data: bytes, transfer: Callable[[bytes], bytes] = transfer, bit: int = bit) -> bytes:
            return transfer(bytes((data[0] ^ 1 << bit,)) + data[1:] if data == b"\x81\x83" else data)

        bench.chip._transfer = astray  # type: ignore[method-assign]
        bench.run_until(3 * SECOND)
        assert bench.frames == []
        assert len(bench.of(NotSent)) == 1
        assert bench.state == "LISTENING"


def test_a_brown_out_on_the_air_is_noticed_within_two_seconds_of_a_long_frame(
    bench_for: Callable[..., Bench],
) -> None:
    bench = bench_for(LISTEN)
    bench.chip.strict = False
    slow = Transmission(
        99, 2 * SECOND, 869_525_000, LoRaModulation(12, 125_000), 14, True, False, 8, bytes(200)
    )
    bench.at(SECOND, lambda: bench.owner.submit(slow, SECOND))
    bench.at(4500 * MS, lambda: bench.chip.power_cycle())
    bench.run_until(6 * SECOND)
    assert [event.maybe_aired for event in bench.of(NotSent)] == [True]
    assert bench.state == "LISTENING"


def test_a_module_without_reset_pin_recovers_too(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(LISTEN, without=("reset",))
    bench.owner._has_reset = False
    disturbed(bench, ChipFault.BROWN_OUT, 2300 * MS, 100 * MS)
    assert [event.packet.payload for event in bench.of(Received)] == [UP]


def test_mild_measures_that_do_not_help_end_in_a_reset(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(LISTEN)
    for second in range(2, 8):
        bench.at(second * SECOND + 500 * MS, lambda: bench.chip.poke(reg.SYNC_WORD, 0x12))
    bench.run_until(9 * SECOND)
    assert bench.owner.modem.counters.starts >= 2
    assert bench.owner.modem.health.by_kind[FaultKind.SETTINGS] == 6


def test_an_episode_is_said_once_with_what_to_do(
    bench_for: Callable[..., Bench], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="radio.owner")
    bench = bench_for(LISTEN)
    bench.chip.strict = False
    for second in range(2, 30, 2):
        bench.at(second * SECOND + 300 * MS, lambda: bench.chip.power_cycle())
    bench.run_until(32 * SECOND)
    said = [record.message for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(said) == 1
    assert "it has been reset by something" in said[0]
    assert "power supply" in said[0]
    assert bench.owner.modem.health.by_kind == {FaultKind.BROWN_OUT: 14}


def test_the_end_of_an_episode_is_said_too(
    bench_for: Callable[..., Bench], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="radio.owner")
    bench = bench_for(LISTEN)
    for second in (2, 5):
        bench.at(second * SECOND, lambda: bench.chip.drop_out(reg.STDBY))
    bench.run_until(70 * SECOND)
    assert caplog.messages[-1] == "radio module module: mode is over; it happened 2 time(s)"


def test_every_kind_of_fault_has_advice() -> None:
    assert set(ADVICE) == set(FaultKind)


def test_a_look_at_a_quiet_receiver_takes_few_transfers(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(LISTEN)
    bench.run_until(500 * MS)
    before = bench.chip.transfers
    bench.run_until(500 * MS + 10 * POLL_NS)
    assert bench.chip.transfers - before <= 20


def test_a_received_frame_takes_five_transfers(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(LISTEN)
    for i in range(10):
        bench.device_sends(1100 * MS + i * 80 * MS, LISTEN, UP)
    bench.run_until(1080 * MS)
    before = bench.chip.transfers
    bench.run_until(1950 * MS)
    assert len(bench.of(Received)) == 10
    assert bench.chip.transfers - before == 50
