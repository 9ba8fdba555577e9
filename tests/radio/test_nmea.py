"""NMEA sentences, UBX frames and lists of leap seconds: vectors from manuals, and damage."""

import contextlib
import datetime
import random
from pathlib import Path

import pytest

from radio.errors import LeapListError, NmeaError
from radio.gnss import ubx
from radio.gnss.leap import BUILT_IN, GPS_EPOCH_S, fixed, parse_leap_list, system_leap_seconds
from radio.gnss.nmea import LEAP_SECOND, Gga, Gsa, Place, Rmc, Sentence, TimeOfDay, Zda, checksum, parse
from radio.gnss.stream import Piece, Splitter, fletcher

NOON_ISH = TimeOfDay(12 * 3600 + 35 * 60 + 19)
ZURICH = Place(47 + 17.11437 / 60, 8 + 33.91522 / 60)

# The first three are the classic examples of gpsd's "NMEA Revealed", the next of the NMEA FAQ; the u-blox ones stand in
# the u-blox 8 / M8 receiver description, chapter 31.
VECTORS: list[tuple[bytes, Sentence | None]] = [
    (
        b"$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A",
        Rmc(True, NOON_ISH, datetime.date(1994, 3, 23), Place(48 + 7.038 / 60, 11 + 31 / 60)),
    ),
    (
        b"$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47",
        Gga(NOON_ISH, 1, 8, 0.9, Place(48 + 7.038 / 60, 11 + 31 / 60), 545.4),
    ),
    (b"$GPGSA,A,3,04,05,,09,12,,,24,,,,,2.5,1.3,2.1*39", Gsa(3, 1.3)),
    (b"$GPZDA,201530.00,04,07,2002,00,00*60", Zda(TimeOfDay(72_930), datetime.date(2002, 7, 4))),
    (
        b"$GPRMC,083559.00,A,4717.11437,N,00833.91522,E,0.004,77.52,091202,,,A*57",
        Rmc(True, TimeOfDay(30_959), datetime.date(2002, 12, 9), ZURICH),
    ),
    (
        b"$GPGGA,092725.00,4717.11399,N,00833.91590,E,1,08,1.01,499.6,M,48.0,M,,*5B",
        Gga(TimeOfDay(34_045), 1, 8, 1.01, Place(47 + 17.11399 / 60, 8 + 33.91590 / 60), 499.6),
    ),
    (b"$GPVTG,77.52,T,,M,0.004,N,0.008,K,A*06", None),
]


def made(body: bytes) -> bytes:
    return b"$" + body + f"*{checksum(body):02X}".encode()


@pytest.mark.parametrize(
    ("data", "sentence"), [pytest.param(*v, id=v[0][:6].decode() + str(i)) for i, v in enumerate(VECTORS)]
)
def test_sentences_of_the_manuals(data: bytes, sentence: Sentence | None) -> None:
    assert parse(data) == sentence


@pytest.mark.parametrize("talker", ["GP", "GN", "GL", "GA", "GB", "GQ", "GI"])
def test_any_talker_will_do(talker: str) -> None:
    rmc = parse(made(f"{talker}RMC,000000.00,A,0000.0,S,00000.0,W,,,010126,,,A".encode()))
    assert isinstance(rmc, Rmc)
    assert rmc.date == datetime.date(2026, 1, 1)


def test_without_a_fix_fields_are_empty() -> None:
    assert parse(made(b"GNRMC,,V,,,,,,,,,,N")) == Rmc(False, None, None, None)
    assert parse(made(b"GNGGA,,,,,,0,00,99.99,,,,,,")) == Gga(None, 0, 0, 99.99, None, None)
    assert parse(made(b"GNGSA,A,1,,,,,,,,,,,,,,,")) == Gsa(1, None)


def test_south_and_west_are_negative_and_fractions_are_kept() -> None:
    rmc = parse(made(b"GNRMC,235960.123,A,3351.5000,S,07030.0,W,,,311216,,,A"))
    assert rmc == Rmc(
        True,
        TimeOfDay(LEAP_SECOND, 123_000_000),
        datetime.date(2016, 12, 31),
        Place(-(33 + 51.5 / 60), -70.5),
    )


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"GNRMC,126060.00,A,0000.0,N,00000.0,E,,,010126,,,A", id="second 60 of another minute"),
        pytest.param(b"GNRMC,240000.00,A,0000.0,N,00000.0,E,,,010126,,,A", id="hour 24"),
        pytest.param(b"GNRMC,120000,A,0000.0,N,00000.0,E,,,310226,,,A", id="31 February"),
        pytest.param(b"GNRMC,120000,A,9000.1,N,00000.0,E,,,010126,,,A", id="beyond the pole"),
        pytest.param(b"GNRMC,120000,A,0060.0,N,00000.0,E,,,010126,,,A", id="60 minutes"),
        pytest.param(b"GNRMC,120000,A,0000.0,X,00000.0,E,,,010126,,,A", id="no side"),
        pytest.param(b"GNRMC,120000,Z,0000.0,N,00000.0,E,,,010126,,,A", id="no status"),
        pytest.param(b"GNRMC,120000,A", id="too short"),
        pytest.param(b"GNGGA,120000,,,,,one,08,1,,M,,M,,", id="no number"),
        pytest.param(b"GNGSA,A,4" + b"," * 15, id="four dimensions"),
        pytest.param(b"GNZDA,120000,0,13,2026,00,00", id="month 13"),
    ],
)
def test_sound_sentences_with_nonsense_are_errors(body: bytes) -> None:
    with pytest.raises(NmeaError):
        parse(made(body))


def test_a_wrong_checksum_is_an_error() -> None:
    with pytest.raises(NmeaError, match="checksum"):
        parse(VECTORS[0][0][:-1] + b"B")


def test_damage_raises_one_error_type_only() -> None:
    rng = random.Random(183)
    for turn in range(6000):
        data = bytearray(rng.choice(VECTORS)[0])
        for _ in range(rng.randrange(1, 5)):
            match rng.randrange(3):
                case 0:
                    data[rng.randrange(len(data))] = rng.randrange(256)
                case 1:
                    data.insert(rng.randrange(len(data)), rng.choice(b",.-0159NSAV*$"))
                case _ if len(data) > 1:
                    del data[rng.randrange(len(data))]
        if turn % 2:  # past the checksum, to what lies behind it
            body = bytes(data[1:-3])
            data = bytearray(made(body))
        with contextlib.suppress(NmeaError):
            parse(bytes(data))


# --- the stream -----------------------------------------------------------------------------------------

TIMELS = b"\x01\x26\x18\x00" + bytes(8) + bytes((2, 18, 2, 0)) + bytes(11) + b"\x03"


def test_pieces_come_out_whole_however_the_bytes_come_in() -> None:
    frame = b"\xb5\x62" + TIMELS + fletcher(TIMELS)
    data = b"\x00\xffrest*11\r\n" + VECTORS[0][0] + b"\r\n" + frame + VECTORS[2][0] + b"\r\n$GPRMC,1"
    whole = Splitter(9600).feed(data, 10**9)
    assert [piece.data for piece in whole] == [VECTORS[0][0], TIMELS, VECTORS[2][0]]
    assert [piece.ubx for piece in whole] == [False, True, False]
    single: list[Piece] = []
    splitter = Splitter(9600)
    for i in range(len(data)):
        single += splitter.feed(data[i : i + 1], 10**9 + i * 1_041_666)
    assert [piece.data for piece in single] == [piece.data for piece in whole]
    starts = [piece.start_ns - 10**9 for piece in single]
    expected = [(data.index(mark) - 1) * 1_041_666 for mark in (b"$GPRMC,123519", b"\xb5\x62", b"$GPGSA")]
    assert starts == pytest.approx(expected, abs=10)


def test_a_sentence_that_lost_its_end_gives_way_to_the_next() -> None:
    splitter = Splitter(9600)
    pieces = splitter.feed(b"$GPRMC,123519,A,48" + VECTORS[2][0] + b"\r\n", 0)
    assert [piece.data for piece in pieces] == [VECTORS[2][0]]
    assert splitter.skipped == 1


def test_noise_never_stops_the_stream() -> None:
    rng = random.Random(1)
    splitter = Splitter(9600)
    for _ in range(300):
        splitter.feed(rng.randbytes(rng.randrange(1, 60)).replace(b"\xb5\x62", b""), 0)
    splitter.feed(bytes(2000), 0)
    assert [piece.data for piece in splitter.feed(b"\n" + VECTORS[0][0] + b"\r\n", 0)][-1:] == [VECTORS[0][0]]


# --- leap seconds ---------------------------------------------------------------------------------------


def test_a_receiver_tells_leap_seconds() -> None:
    assert ubx.parse_timels(TIMELS) == ubx.LeapReport(18, 0, 0)
    assert ubx.parse_timels(TIMELS[:-1] + b"\x00") == ubx.LeapReport(None, None, None)
    assert ubx.parse_timels(b"\x01\x07\x00\x00") is None
    assert ubx.poll(b"\x01\x07") == bytes.fromhex("b562010700000819")  # NAV-PVT, as written in many places
    with pytest.raises(NmeaError):
        ubx.parse_timels(TIMELS[:-1])


def unix(*date: int) -> int:
    return int(datetime.datetime(*date, tzinfo=datetime.UTC).timestamp())  # type: ignore[arg-type, misc]


def test_gps_time_of_known_moments() -> None:
    # Week 2000 of GPS began on 2018-05-06 at 00:00:00 GPS time, 23:59:42 UTC the day before.
    assert BUILT_IN.gps_s(unix(2018, 5, 5, 23, 59, 42)) == 2000 * 604_800
    assert BUILT_IN.unix_s(2000 * 604_800) == unix(2018, 5, 5, 23, 59, 42)
    # The leap second at the end of 2016: 17 s before it, 18 s after.
    before, after = unix(2016, 12, 31, 23, 59, 59), unix(2017, 1, 1)
    assert BUILT_IN.gps_s(after) - BUILT_IN.gps_s(before) == 2
    assert BUILT_IN.unix_s(BUILT_IN.gps_s(before) + 1) == after
    assert BUILT_IN.expires_s == unix(2026, 6, 28)
    assert not BUILT_IN.sure(unix(2026, 7, 1))


def test_a_list_of_the_iers_is_read(tmp_path: Path) -> None:
    text = "#\tcomment\n#@\t3991593600\n3644697600 36 # 1 Jul 2015\n3692217600\t37 # 1 Jan 2017\n"
    leap = parse_leap_list(text)
    assert leap.at_utc(unix(2026, 1, 1)) == 18
    assert leap.at_utc(unix(2016, 1, 1)) == 17
    assert leap.expires_s == unix(2026, 6, 28)
    newer = tmp_path / "list"
    newer.write_text(text.replace("3991593600", "4007404800"))
    assert system_leap_seconds(newer).source == str(newer)
    newer.write_text(text.replace("3991593600", "3900000000"))
    assert system_leap_seconds(newer) is BUILT_IN
    assert system_leap_seconds(tmp_path / "none") is BUILT_IN


def test_a_damaged_list_raises_one_error_type_only() -> None:
    text = "#@ 3991593600\n2272060800 10 # 1 Jan 1972\n3692217600 37\n"
    rng = random.Random(2)
    for _ in range(3000):
        chars = list(text)
        for _ in range(rng.randrange(1, 4)):
            chars[rng.randrange(len(chars))] = rng.choice("0123456789#@ \n\tx-\u0664")
        with contextlib.suppress(LeapListError):
            parse_leap_list("".join(chars))


def test_a_leap_second_that_was_seen_counts_from_the_midnight_after_it() -> None:
    leap = BUILT_IN.inserted(unix(2027, 1, 1))
    assert leap.at_utc(unix(2026, 12, 31)) == 18
    assert leap.at_utc(unix(2027, 1, 1)) == 19
    assert leap.inserted(unix(2027, 1, 1)) == leap
    assert fixed(20).gps_s(GPS_EPOCH_S) == 20
