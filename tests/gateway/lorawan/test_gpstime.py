"""GPS time against instants that others have published, and what is believed of a gateway's word."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random

import pytest

from gateway.lorawan.clock import Instant
from gateway.lorawan.gpstime import (
    gps_ms_of,
    gps_ms_of_utc,
    leap_words,
    seconds_and_fraction,
    utc_ns_of_gps,
)
from hub.message import TimeQuality
from radio.gnss.leap import BUILT_IN, fixed
from radio.gwmp import RxPacket
from radio.lora import LoRaModulation

# Instants in both scales as others give them: start of GPS weeks 1356, 1930 and 2048 (weeks of 604800 s, the third
# with the roll-over of 7 April 2019 at 23:59:42 UTC), LIGO's GW150914 (GPS 1126259462.391, 14 September 2015 at
# 09:50:45 UTC), and GPS 10^9 (2011-09-14 01:46:25 UTC).
KNOWN = [
    pytest.param("2006-01-01T00:00:00", 820_108_814_000, id="first second of 2006, 14 s"),
    pytest.param("2019-04-06T23:59:42", 2048 * 604_800_000, id="week number roll-over of 2019"),
    pytest.param("2011-09-14T01:46:25", 1_000_000_000_000, id="GPS 10^9"),
    pytest.param("2015-09-14T09:50:45.391", 1_126_259_462_391, id="GW150914"),
    pytest.param("2017-01-01T00:00:00", 1_167_264_018_000, id="after the last leap second"),
    pytest.param("2016-12-31T23:59:59", 1_167_264_016_000, id="before the last leap second"),
]


def utc(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000) * 1_000_000


def frame(tmms: int | None = None, time_ns: int | None = None) -> RxPacket:
    return RxPacket(0, 868_100_000, 0, 0, 1, LoRaModulation(7, 125_000), -80, 5.0, b"", time_ns, None, tmms)


@pytest.mark.parametrize(("when", "gps_ms"), KNOWN)
def test_known_instants_convert_both_ways(when: str, gps_ms: int) -> None:
    assert gps_ms_of_utc(utc(when)) == gps_ms
    assert utc_ns_of_gps(gps_ms) == utc(when)


def test_leap_second_itself_shares_its_unix_time_with_the_second_after() -> None:
    midnight = utc("2017-01-01T00:00:00")
    assert utc_ns_of_gps(1_167_264_017_000) == midnight
    assert utc_ns_of_gps(1_167_264_018_000) == midnight


def test_every_time_outside_a_leap_second_comes_back() -> None:
    rng = Random(1)
    for _ in range(2000):
        at = rng.randrange(utc("2006-01-02T00:00:00"), utc("2040-01-01T00:00:00")) // 1_000_000 * 1_000_000
        assert utc_ns_of_gps(gps_ms_of_utc(at)) == at


def test_gateway_with_gnss_is_taken_at_its_word() -> None:
    now = Instant(0, utc("2026-03-01T12:00:00"), TimeQuality.NTP)
    told = gps_ms_of_utc(now.wall_ns) - 1300  # its leap second is newer than our table, or we were slow
    assert gps_ms_of(frame(told), now) == told
    assert gps_ms_of(frame(told), Instant(0, 5, TimeQuality.UNSET)) == told


def test_without_gnss_a_trusted_clock_counts_and_another_does_not() -> None:
    wall = utc("2026-03-01T12:00:00")
    for quality in (TimeQuality.NTP, TimeQuality.GNSS):
        assert gps_ms_of(frame(), Instant(0, wall, quality)) == gps_ms_of_utc(wall)
    for quality in (TimeQuality.RESTORED, TimeQuality.UNSET):
        assert gps_ms_of(frame(), Instant(0, wall, quality)) is None


def test_own_time_of_the_frame_counts_while_it_is_plausible() -> None:
    wall = utc("2026-03-01T12:00:00")
    now = Instant(0, wall, TimeQuality.NTP)
    assert gps_ms_of(frame(time_ns=wall - 30_000_000), now) == gps_ms_of_utc(wall) - 30
    assert gps_ms_of(frame(time_ns=wall - 5_000_000_000), now) == gps_ms_of_utc(wall)
    assert gps_ms_of(frame(time_ns=wall + 1_000_000), now) == gps_ms_of_utc(wall)


def test_receiver_that_lost_its_week_number_is_not_believed() -> None:
    now = Instant(0, utc("2026-03-01T12:00:00"), TimeQuality.NTP)
    right = gps_ms_of_utc(now.wall_ns)
    assert gps_ms_of(frame(right - 1024 * 604_800_000), now) == right


@pytest.mark.parametrize(
    ("gps_ms", "seconds", "fraction"),
    [(0, 0, 0), (1_126_259_462_391, 1_126_259_462, 100), (999, 0, 255), ((1 << 32) * 1000 + 500, 0, 128)],
)
def test_device_time_has_256ths_of_a_second(gps_ms: int, seconds: int, fraction: int) -> None:
    assert seconds_and_fraction(gps_ms) == (seconds, fraction)


def test_words_say_how_long_the_leap_seconds_are_certain() -> None:
    before = Instant(0, (BUILT_IN.expires_s - 1) * 10**9)
    after = Instant(0, BUILT_IN.expires_s * 10**9)
    assert leap_words(before) == "GPS is 18 s ahead of UTC (built in, certain until 2026-06-28)"
    assert "ended 2026-06-28" in leap_words(after)
    assert leap_words(after, fixed(19)) == "GPS is 19 s ahead of UTC (setting)"
