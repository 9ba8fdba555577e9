"""One gateway module on the register-level chip model, in virtual time: frames in, frames out, and faults."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from radio.gwmp import TxError
from radio.jit import MS, Transmission
from radio.lora import LoRaModulation
from radio.sx127x.modem import POLL_NS, Fault, NotSent, Received, Sent
from radio.sx127x.registers import Settings

if TYPE_CHECKING:
    from tests.radio.conftest import Bench

SECOND = 1000 * MS
UP = bytes.fromhex("40f17dbe4900020001954378762b11ff0d")
SF7 = LoRaModulation(7, 125_000)
_ids = itertools.count(1)


def uplink(mod: LoRaModulation = SF7, *, crc: bool = True) -> Settings:
    return Settings(868_100_000, mod, crc=crc)


def downlink(start_ns: int, mod: LoRaModulation = SF7, payload: bytes = bytes(range(12))) -> Transmission:
    return Transmission(next(_ids), start_ns, 868_100_000, mod, 14, True, False, 8, payload)


@pytest.mark.parametrize("sf", range(7, 13))
def test_a_frame_is_stamped_with_the_end_of_its_last_symbol(bench_for: Callable[..., Bench], sf: int) -> None:
    mod = LoRaModulation(sf, 125_000)
    bench = bench_for(uplink(mod))
    bench.device_sends(SECOND, uplink(mod), UP)
    bench.run_until(5 * SECOND)
    (frame,) = bench.frames
    (heard,) = bench.of(Received)
    assert heard.end_ns == pytest.approx(frame.start_ns + frame.airtime_ns, abs=1000)
    assert (heard.packet.payload, heard.packet.crc_present, heard.packet.crc_ok) == (UP, True, True)
    assert (heard.modulation, heard.freq_hz, heard.coarse) == (mod, 868_100_000, False)
    assert heard.packet.rssi_dbm < -40
    assert heard.packet.snr_db > 0


@pytest.mark.parametrize(("sf", "bw_hz"), [(7, 125_000), (9, 125_000), (12, 125_000), (8, 500_000)])
def test_a_downlink_starts_at_its_microsecond(bench_for: Callable[..., Bench], sf: int, bw_hz: int) -> None:
    bench = bench_for(uplink())
    start_ns = 3 * SECOND + 123_456
    tx = downlink(start_ns, LoRaModulation(sf, bw_hz))
    bench.at(2 * SECOND, lambda: bench.owner.submit(tx, 2 * SECOND))
    bench.run_until(6 * SECOND)
    (frame,) = bench.frames
    assert abs(frame.start_ns - start_ns) <= 20_000
    assert (frame.payload, frame.iq_inverted, frame.crc) == (tx.payload, True, False)
    assert abs(frame.freq_hz - 868_100_000) < 62  # the chip's step
    assert frame.power_dbm == 14
    (sent,) = bench.of(Sent)
    assert abs(sent.start_ns - frame.start_ns) <= 1000
    assert bench.state == "LISTENING"


def test_a_module_hears_again_after_it_has_sent(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(uplink())
    tx = downlink(2 * SECOND)
    bench.at(SECOND, lambda: bench.owner.submit(tx, SECOND))
    bench.device_sends(tx.end_ns + 10 * MS, uplink(), UP)
    bench.run_until(4 * SECOND)
    assert [event.packet.payload for event in bench.of(Received)] == [UP]
    assert bench.owner.modem.counters.deaf_ns < tx.airtime_us * 1000 + 10 * MS


def test_a_device_with_inverted_iq_hears_the_downlink(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(uplink())
    bench.device_listens(SECOND, Settings(868_100_000, SF7, iq_inverted=True, crc=False))
    tx = downlink(2 * SECOND)
    bench.at(SECOND, lambda: bench.owner.submit(tx, SECOND))
    bench.run_until(3 * SECOND)
    assert bench.device.spi(bytes((0x13, 0)))[1] == len(tx.payload)


def test_a_frame_without_crc_is_not_called_good(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(uplink())
    bench.device_sends(SECOND, uplink(crc=False), UP)
    bench.run_until(2 * SECOND)
    (heard,) = bench.of(Received)
    assert heard.packet.crc_present is False
    assert bench.owner.modem.counters.crc_none == 1


def test_back_to_back_frames_are_all_received(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(uplink())
    for i in range(40):
        bench.device_sends(SECOND + i * 60 * MS, uplink(), UP + bytes((i,)))
    bench.run_until(5 * SECOND)
    assert [event.packet.payload[-1] for event in bench.of(Received)] == list(range(40))


def test_a_module_that_only_sends_rests_in_between(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(None)
    tx = downlink(2 * SECOND)
    bench.at(SECOND, lambda: bench.owner.submit(tx, SECOND))
    bench.device_sends(3 * SECOND, uplink(), UP)
    bench.run_until(5 * SECOND)
    assert len(bench.of(Sent)) == 1
    assert bench.of(Received) == []
    assert bench.state == "RESTING"


def test_untimed_edges_are_marked_coarse(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(uplink(), lines="callback")
    bench.device_sends(SECOND, uplink(), UP)
    bench.run_until(2 * SECOND)
    assert [event.coarse for event in bench.of(Received)] == [True]


def test_a_lost_edge_is_found_by_the_regular_look(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(uplink())
    bench.at(SECOND, lambda: setattr(bench.chip.faults, "lost_edges", 1))
    bench.device_sends(SECOND, uplink(), UP)
    bench.device_sends(4 * SECOND, uplink(), UP)
    bench.run_until(5 * SECOND)
    assert [event.coarse for event in bench.of(Received)] == [True, False]
    assert bench.owner.modem.counters.edges_lost == 1


def test_a_lost_tx_done_edge_is_found_by_the_time_out(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(uplink())
    tx = downlink(2 * SECOND)
    bench.at(SECOND, lambda: bench.owner.submit(tx, SECOND))
    bench.at(tx.start_ns + MS, lambda: setattr(bench.chip.faults, "lost_edges", 1))
    bench.run_until(3 * SECOND)
    assert [event.coarse for event in bench.of(Sent)] == [True]
    assert bench.state == "LISTENING"


def test_a_brown_out_is_noticed_and_repaired(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(uplink())
    bench.at(SECOND + 500 * MS, bench.chip.power_cycle)  # usable again before the next look
    bench.device_sends(SECOND + 2 * POLL_NS, uplink(), UP)
    bench.run_until(5 * SECOND)
    assert len(bench.of(Fault)) == 1
    assert len(bench.of(Received)) == 1
    assert bench.owner.modem.counters.starts == 2
    assert bench.owner.fault == ""


def test_a_chip_that_dies_while_sending_is_reset(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(uplink())
    tx = downlink(2 * SECOND)
    bench.at(SECOND, lambda: bench.owner.submit(tx, SECOND))
    bench.at(tx.start_ns + 5 * MS, bench.chip.power_cycle)
    bench.run_until(4 * SECOND)
    assert [(e.reason, e.maybe_aired) for e in bench.of(NotSent)] == [("no TxDone in time", True)]
    assert bench.state == "LISTENING"


def test_a_silent_bus_is_tried_again_until_it_answers(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(uplink())
    bench.chip.faults.spi_reads = 0xFF
    bench.run_until(SECOND)
    assert bench.state == "DOWN"
    assert "no power" in bench.owner.fault
    bench.at(SECOND, lambda: setattr(bench.chip.faults, "spi_reads", None))
    bench.run_until(10 * SECOND)
    assert bench.state == "LISTENING"


def test_an_order_for_a_module_that_is_down_is_reported(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(uplink())
    bench.chip.faults.spi_reads = 0x00
    tx = downlink(2 * SECOND)
    bench.at(SECOND, lambda: bench.owner.submit(tx, SECOND))
    bench.run_until(3 * SECOND)
    assert [(event.tx, event.reason) for event in bench.of(NotSent)] == [(tx, "the module is down")]


def test_a_frame_cut_off_by_a_downlink_is_counted(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(uplink())
    tx = downlink(2 * SECOND)
    bench.at(SECOND, lambda: bench.owner.submit(tx, SECOND))
    bench.device_sends(tx.start_ns - 30 * MS, uplink(), UP)
    bench.run_until(3 * SECOND)
    assert bench.owner.modem.counters.cut == 1
    assert bench.of(Received) == []


def test_stopping_leaves_the_chip_asleep(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(uplink())

    def stop() -> None:
        bench.stop.set()
        bench.owner.clock.wake()

    bench.at(SECOND, stop)
    bench.run_until(2 * SECOND)
    assert bench.chip.mode == 0


@pytest.mark.parametrize("bw_hz", [41_700, 62_500, 250_000, 500_000])
def test_other_bandwidths_are_received_with_their_errata(bench_for: Callable[..., Bench], bw_hz: int) -> None:
    mod = LoRaModulation(8, bw_hz)
    bench = bench_for(uplink(mod))
    bench.device_sends(SECOND, uplink(mod), UP)
    bench.run_until(3 * SECOND)
    (heard,) = bench.of(Received)
    assert heard.end_ns == pytest.approx(bench.frames[0].end_ns, abs=1000)
    assert abs(heard.packet.freq_error_hz) < 100
    assert dict(bench.chip.warnings) == {}


def test_a_chip_used_properly_has_nothing_to_warn_of(bench_for: Callable[..., Bench]) -> None:
    bench = bench_for(uplink())
    bench.run_until(500 * MS)
    brought_up = bench.chip.transfers
    assert bench.owner.submit(downlink(2 * SECOND), 500 * MS) is TxError.NONE
    bench.device_sends(SECOND, uplink(), UP)
    bench.run_until(5 * SECOND)
    assert dict(bench.chip.warnings) == {}
    assert bench.chip.transfers - brought_up < 80  # five looks, a frame in, a frame out
