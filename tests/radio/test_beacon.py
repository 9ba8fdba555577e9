"""A class B beacon in lock-step virtual time: it leaves at its microsecond of GPS time, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from hw_sim.gnss import GnssTable, SimGnss, gnss_of
from hw_sim.hosts import SimLines
from hw_sim.records import Fate, FrameRecord
from hw_sim.uart import SimSerial
from radio.config import ModuleConfig, RadioConfig
from radio.gwmp import TxError, TxPacket
from radio.jit import MS
from radio.lora import LoRaModulation, airtime_us
from radio.service import Radio
from radio.sx127x.registers import Settings

if TYPE_CHECKING:
    from tests.radio.conftest import Carrier

SECOND = 1000 * MS
GPS_OF_UNIX_MS = -315_964_800_000 + 18_000
# LoRaWAN 1.0.4, 13.4
BEACON = bytes.fromhex("00000000 02CC A27E 00 012000 008103 DE55")
SF9 = LoRaModulation(9, 125_000)
FREQ_HZ = 869_525_000
LISTENS = Settings(FREQ_HZ, SF9, crc=False, preamble=10, implicit_header=True, payload_length=len(BEACON))


class Site:
    """A gateway with a GNSS receiver, and one device that waits for a beacon."""

    def __init__(self, carrier: Carrier, table: GnssTable) -> None:
        self.carrier = carrier
        board = carrier.host.board
        self.sim = SimGnss(carrier.kernel, table, board)
        platform = replace(
            carrier.platform,
            serial=lambda _port, _baud: SimSerial(carrier.host, self.sim.wire),
            pulse=lambda line, _clock: SimLines(carrier.host, {"pps": line}),
        )
        config = RadioConfig(
            modules=(ModuleConfig("fluxgate-sim-4", 0),),
            gateway_eui=bytes(8),
            region="EU868",
            tx_lead_us=400,
            gnss=gnss_of(table),
        )
        self.radio = Radio(config, platform, lambda _rx, _end_ns: None)
        carrier.device("device").listens(0, LISTENS)
        self.radio.start()
        carrier.kernel.await_clients(2)

    def run(self, until_s: float) -> None:
        self.carrier.run_until(round(until_s * SECOND))

    def gps_ms(self, kernel_ns: int) -> float:
        """True GPS time of a moment of the kernel's clock."""
        return self.sim.utc_ns(kernel_ns) / MS + GPS_OF_UNIX_MS

    def next_beacon_ms(self) -> int:
        return int(self.gps_ms(self.carrier.kernel.now_ns)) // 128_000 * 128_000 + 128_000

    def order(self, beacon_ms: int) -> TxError:
        order = TxPacket(
            None, False, FREQ_HZ, 0, 27, SF9, False, BEACON, True, preamble=10, tmms=beacon_ms + 1, nhdr=True
        )
        return self.radio.transmit(order, self.carrier.kernel.now_ns).error

    def off_us(self, frame: FrameRecord, beacon_ms: int) -> float:
        """By how much a beacon began after its 1.5 ms, in us."""
        return (self.gps_ms(frame.start_ns) - beacon_ms - 1.5) * 1000

    @property
    def beacons(self) -> list[FrameRecord]:
        return [frame for frame in self.carrier.frames if frame.payload == BEACON]


@pytest.fixture
def site_for(carrier: Carrier) -> Callable[..., Site]:
    def make(**table: float) -> Site:
        return Site(carrier, GnssTable(cold_start_s=5, **table))  # type: ignore[arg-type]

    return make


def until_beacon_s(site: Site, before_s: float) -> float:
    """The kernel's time so long before the next beacon."""
    ahead_ms = site.next_beacon_ms() - site.gps_ms(site.carrier.kernel.now_ns)
    return site.carrier.kernel.now_ns / SECOND + ahead_ms / 1000 - before_s


@pytest.mark.parametrize("host_ppm", [-30.0, 0.0, 12.5])
def test_a_beacon_leaves_within_25_us_of_its_time_and_is_heard(
    site_for: Callable[..., Site], host_ppm: float
) -> None:
    site = site_for(host_ppm=host_ppm)
    site.run(100)
    site.run(until_beacon_s(site, 20))
    beacon_ms = site.next_beacon_ms()
    assert site.order(beacon_ms) is TxError.NONE
    site.run(site.carrier.kernel.now_ns / SECOND + 22)
    (frame,) = site.beacons
    assert abs(site.off_us(frame, beacon_ms)) < 25
    assert frame.airtime_ns == airtime_us(SF9, 17, preamble=10, crc=False, implicit_header=True) * 1000
    assert not frame.iq_inverted
    assert not frame.crc
    assert frame.fate("device") is Fate.RECEIVED
    site.carrier.stop(site.radio)


def test_without_a_receiver_s_time_no_beacon_leaves(site_for: Callable[..., Site]) -> None:
    site = site_for()
    site.run(3)  # no fix yet
    assert site.order(site.next_beacon_ms()) is TxError.GPS_UNLOCKED
    site.run(60)
    assert site.order(site.next_beacon_ms()) is TxError.NONE
    site.carrier.stop(site.radio)


def test_sentences_without_pulse_are_not_good_enough(site_for: Callable[..., Site]) -> None:
    site = site_for()
    site.sim.fail("no_pps")
    site.run(60)
    assert site.order(site.next_beacon_ms()) is TxError.GPS_UNLOCKED
    status = site.radio.place.status(site.carrier.kernel.now_ns)["time"]
    assert (status["source"], status["gps_time"]) == ("nmea", False)
    site.carrier.stop(site.radio)


def test_after_a_lost_fix_beacons_go_on_as_long_as_the_crystal_carries_them(
    site_for: Callable[..., Site],
) -> None:
    site = site_for(host_ppm=12.5)
    site.run(150)
    site.sim.fail("fix_lost")
    site.sim.fail("no_pps")
    site.run(270)
    beacon_ms = site.next_beacon_ms()
    assert site.order(beacon_ms) is TxError.NONE
    site.run(until_beacon_s(site, -1))
    assert abs(site.off_us(site.beacons[0], beacon_ms)) < 1000
    site.run(1500)
    assert site.order(site.next_beacon_ms()) is TxError.GPS_UNLOCKED
    assert len(site.beacons) == 1
    site.carrier.stop(site.radio)


def test_a_downlink_across_the_beacon_is_refused_and_the_beacon_stays(site_for: Callable[..., Site]) -> None:
    site = site_for()
    site.run(80)
    site.run(until_beacon_s(site, 5))
    beacon_ms = site.next_beacon_ms()
    assert site.order(beacon_ms) is TxError.NONE
    in_us = round((beacon_ms - site.gps_ms(site.carrier.kernel.now_ns)) * 1000)
    tmst = (site.carrier.kernel.now_ns // 1000 + in_us - 30_000) % 2**32
    answer = TxPacket(tmst, False, 868_100_000, 0, 14, LoRaModulation(7, 125_000), True, bytes(20), True)
    result = site.radio.transmit(answer, site.carrier.kernel.now_ns)
    assert result.error is TxError.COLLISION_BEACON
    site.run(site.carrier.kernel.now_ns / SECOND + 7)
    assert len(site.beacons) == 1
    site.carrier.stop(site.radio)
