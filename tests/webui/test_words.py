"""Numbers and codes in the words of a technician."""

from __future__ import annotations

import pytest

from webui import words
from webui.client import (
    Counters,
    Device,
    Frame,
    Module,
    PacketForwarder,
    RadioState,
    Status,
    StoreState,
    Upstream,
    Value,
)

NOW = 1_760_000_000.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (0.9, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (6720, "1 h 52 min"),
        (86_400, "1 d"),
        (86_400 * 46 + 7200, "46 d 2 h"),
    ],
)
def test_duration_has_two_units_at_most(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("ago_s", "text"),
    [
        (None, "never heard yet"),
        (0, "heard just now"),
        (-3, "heard just now"),
        (8, "heard 8 s ago"),
        (6720, "silent for 1 h 52 min"),
    ],
)
def test_a_quiet_device_is_silent_and_never_offline(ago_s: float | None, text: str) -> None:
    assert words.seen(None if ago_s is None else NOW - ago_s, NOW) == text


def test_thousands_do_not_wrap() -> None:
    assert words.count(1204) == "1\u202f204"
    assert words.counted(1, "message") == "1\u00a0message"
    assert words.counted(0, "message") == "0\u00a0messages"


@pytest.mark.parametrize(
    ("octets", "text"), [(0, "0 B"), (999, "999 B"), (4_700_000, "4.7 MB"), (41_000_000_000, "41.0 GB")]
)
def test_size_in_the_largest_unit(octets: int, text: str) -> None:
    assert words.size(octets) == text


@pytest.mark.parametrize(
    ("snr_db", "sf", "bars", "word"),
    [
        # The same SNR is judged by what the spreading factor needs: SF7 -7.5 dB, SF12 -20 dB.
        (7.5, 7, 5, "excellent"),
        (7.4, 7, 4, "good"),
        (-5.5, 7, 2, "weak"),
        (-5.5, 12, 4, "good"),
        (-8.0, 7, 1, "critical"),
        (-20.0, 12, 2, "weak"),
        (2.5, None, 4, "good"),
    ],
)
def test_signal_is_judged_by_margin(snr_db: float, sf: int | None, bars: int, word: str) -> None:
    assert words.signal(snr_db, sf) == words.Signal(bars, word)


def test_no_snr_is_no_signal() -> None:
    assert words.signal(None, 7) is None


@pytest.mark.parametrize(
    ("datr", "text"), [("SF7BW125", "SF7"), ("SF12BW500", "SF12 500 kHz"), (None, ""), ("50000", "50000")]
)
def test_bandwidth_is_said_where_unusual(datr: str | None, text: str) -> None:
    assert words.spreading(datr) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Value("t", u="Cel", v=2.3), "2.3\u00a0°C"),
        (Value("t", u="Cel", v=-0.0), "0\u00a0°C"),
        (Value("h", u="%RH", v=55.5), "55.5\u00a0% RH"),
        (Value("p", u="lat", v=48.137154), "48.13715° lat"),
        (Value("gps_3_lon", u="lon", v=13.4), "13.40000°"),
        (Value("n", v=3.0), "3"),
        (Value("n", u="furlong", v=3.0), "3\u00a0furlong"),
        (Value("s", vs="open"), "open"),
        (Value("b", vb=False), "no"),
        (Value("x"), "no value"),
    ],
)
def test_readings_have_their_unit_as_people_write_it(value: Value, text: str) -> None:
    assert words.reading(value) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("urn:dev:mac:a84041ffff1c3d5e_temperature_1", "temperature 1"),
        ("urn:dev:mac:a84041ffff1c3d5e:voltage", "voltage"),
        ("urn:dev:mac:a84041ffff1c3d5e", "urn:dev:mac:a84041ffff1c3d5e"),
        ("battery_voltage", "battery voltage"),
    ],
)
def test_quantity_is_named_without_the_device(name: str, text: str) -> None:
    assert words.reading_name(name) == text


def status(**more: object) -> Status:
    radio = RadioState(True, [PacketForwarder("b827ebfffe12cd34", 4.0)])
    return Status(**{"radio": radio, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "level", "value"),
    [
        pytest.param(status(radio=RadioState()), "warn", "waiting", id="nothing reported yet"),
        pytest.param(
            status(radio=RadioState(False, [PacketForwarder("", 300)])),
            "bad",
            "no report",
            id="radio stopped",
        ),
        pytest.param(
            status(radio=RadioState(True, [PacketForwarder("", 121)])),
            "bad",
            "no report",
            id="report overdue",
        ),
        pytest.param(status(), "ok", "ok", id="fine"),
    ],
)
def test_radio_lamp(found: Status, level: str, value: str) -> None:
    lamp = words.radio_lamp(found)
    assert (lamp.level, lamp.value) == (level, value)


def test_a_full_disk_is_said_before_all_but_a_silent_radio() -> None:
    found = status(store=StoreState(free_bytes=1_000_000, not_stored=3, set_aside=["log.db.damaged-1"]))
    assert (words.store_lamp(found).level, words.store_lamp(found).value) == ("bad", "disk full")
    assert "3\u00a0messages could not be kept" in words.state_sentence(found)
    assert words.store_lamp(status(store=StoreState(free_bytes=words.DISK_FULL_BYTES))).level == "ok"


def test_a_log_that_lost_its_end_says_so() -> None:
    lamp = words.store_lamp(status(store=StoreState(lost_commits=2)))
    assert (lamp.level, lamp.value) == ("warn", "damaged")


@pytest.mark.parametrize(
    ("state", "value", "said"),
    [
        pytest.param("full", "disk full", "Make room on it", id="full"),
        pytest.param("read-only", "read-only", "can still be read", id="read-only"),
    ],
)
def test_a_store_that_keeps_nothing_says_why(state: str, value: str, said: str) -> None:
    lamp = words.store_lamp(status(store=StoreState(state=state, state_reason="the disk can only be read")))
    assert (lamp.level, lamp.value) == ("bad", value)
    assert said in lamp.text


def test_a_damaged_store_is_said_before_an_outage() -> None:
    found = status(
        store=StoreState(set_aside=["log.db.damaged-1"]), upstream=[Upstream("a", "offline", queued=2)]
    )
    assert words.store_lamp(status()).level == "ok"
    assert (words.store_lamp(found).level, words.store_lamp(found).value) == ("warn", "damaged")
    assert words.state_sentence(found).startswith("A damaged file was set aside")


@pytest.mark.parametrize(
    ("sinks", "level", "value"),
    [
        pytest.param([], "off", "not set", id="none configured"),
        pytest.param([Upstream("a", "connected")], "ok", "ok", id="all delivered"),
        pytest.param([Upstream("a", "connected", queued=1204)], "ok", "1\u202f204", id="draining"),
        pytest.param([Upstream("a", "offline", queued=7)], "warn", "7", id="an outage is amber"),
        pytest.param([Upstream("a", "refused", queued=7)], "bad", "7", id="a refusal is red"),
        pytest.param(
            [Upstream("a", "connected"), Upstream("b", "offline", queued=3)],
            "warn",
            "3",
            id="the worst counts",
        ),
        pytest.param([Upstream("a", "a state of tomorrow")], "warn", "offline", id="unknown state"),
    ],
)
def test_upstream_lamp(sinks: list[Upstream], level: str, value: str) -> None:
    lamp = words.upstream_lamp(sinks)
    assert (lamp.level, lamp.value) == (level, value)


def test_home_says_the_worst_first() -> None:
    down = status(radio=RadioState(False, [PacketForwarder("", 300)]), upstream=[Upstream("a", "offline")])
    assert words.state_sentence(down) == "The radio service has not reported for 5 min."
    outage = status(upstream=[Upstream("a", "offline", queued=2)])
    assert (
        words.state_sentence(outage)
        == "Radio fine. Upstream not reachable; 2\u00a0messages wait safely on disk."
    )
    assert words.state_sentence(status(upstream=[Upstream("a", "connected")])).startswith("All is well")


def test_the_header_says_what_the_radio_listens_to() -> None:
    def hears(*modules: Module) -> str:
        return words.listening(status(region="EU868", radio=RadioState(True, modules=list(modules))))

    assert hears() == "EU868"
    one = Module(868_100_000, 7)
    assert hears(one) == "868.1 MHz · SF7"
    assert hears(one, Module(868_300_000, 7, "rx"), Module(869_525_000, 9, "tx")) == "868.1, 868.3 MHz · SF7"
    assert hears(Module(868_300_000, 12), one) == "868.1 MHz · SF7 + 868.3 MHz · SF12"


def test_a_module_is_told_by_what_it_does() -> None:
    assert words.set_to(Module(868_100_000, 7)) == "868.1 MHz · SF7, sends"
    assert words.set_to(Module(868_100_000, 9, "rx")) == "868.1 MHz · SF9"
    assert words.set_to(Module(868_100_000, 7, "tx")) == "sends only"


def test_the_first_values_of_a_frame_are_one_short_line() -> None:
    values = [
        Value("t", u="Cel", v=2.3),
        Value("gps_lat", u="lat", v=52.5),
        Value("h", u="%RH", v=55.5),
        Value("b", vb=True),
    ]
    assert words.readings(values) == "2.3\u00a0°C, 55.5\u00a0% RH"


def test_every_frame_counts_as_heard_once() -> None:
    counters = Counters(uplinks=4, joins=1, rejected={"bad_mic": 2, "replay": 1})
    assert (counters.heard, counters.refused) == (8, 3)


def test_an_unknown_reason_is_still_words() -> None:
    assert words.reason(Frame(1, 0.0, "rejected", reason="solar_flare")) == "Solar flare"
    assert words.reason(Frame(1, 0.0, "rejected")) == "Refused."


@pytest.mark.parametrize(
    ("battery", "text"),
    # DevStatusAns, LoRaWAN 1.0.4, 5.5: 0 external source, 1 minimum, 254 maximum, 255 not measurable.
    [
        (None, "not asked yet"),
        (0, "external power"),
        (1, "0%"),
        (254, "100%"),
        (255, "cannot be measured"),
    ],
)
def test_battery_of_dev_status(battery: int | None, text: str) -> None:
    assert words.battery(Device("00" * 8, battery=battery)) == text


def test_an_eui_is_read_in_groups() -> None:
    assert words.eui("a84041ffff1c3d5e") == "A840 41FF FF1C 3D5E"
    assert words.eui("26011bda") == "26011BDA"
    assert words.eui(None) == ""
