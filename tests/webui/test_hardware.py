"""The radio's modules, time on air and band: what the pages say of them."""

from __future__ import annotations

import gzip
from typing import Any

import pytest

from tests.webui.double import HOSTILE, GatewayDouble, Visitor
from webui import hardware_words as hw
from webui import rule_words as rules
from webui import time_words as tw
from webui.forms import read_band
from webui.hardware import (
    Calibration,
    Hardware,
    Histogram,
    Position,
    RadioModule,
    Realtime,
    Receiver,
    ScanPoint,
    Server,
    SubBand,
    Time,
)

STARTS = {"unit": "us", "bounds": [10, 20, 50], "counts": [90, 9, 0, 1], "count": 100, "min": 1, "max": 412}
MODULES: list[dict[str, Any]] = [
    {
        "name": "uputronics-dual/0",
        "role": "rx",
        "freq_hz": 868_100_000,
        "datr": "SF7BW125",
        "state": "listening",
        "backend": "gpiod",
        "received": 1234,
        "faults_by_kind": {"lost_edge": 2, "brown_out": 0},
        "faults": 2,
    },
    {
        "name": "uputronics-dual/1",
        "role": "tx",
        "state": "down",
        "fault": "all bits read 0: no power",
        "backend": "polling",
        "sent": 100,
        "start_error_us": STARTS,
        "slack_us": {"unit": "us", "bounds": [1000], "counts": [0, 100], "count": 100, "min": 2000, "max": 9},
    },
]
HARDWARE = {
    "reachable": True,
    "problem": "",
    "modules": MODULES,
    "duty_cycle": [
        {"min_hz": 868_000_000, "max_hz": 868_600_000, "used_us": 9_000_000, "budget_us": 36_000_000},
        {"min_hz": 1, "max_hz": 2, "used_us": 0, "budget_us": None},
    ],
    "servers": [
        {"name": "local", "connected": True, "forwarded": 7},
        {"name": "ttn", "connected": False, "forwarded": 2, "filtered": 5},
    ],
}

STATION: dict[str, Any] = {
    "eui": "58a0cbfffe800001",
    "name": "roof",
    "address": "192.0.2.7",
    "since": 1_760_000_000.0,
    "last_seen_s": 3.2,
    "configured": True,
    "station": "2.0.6(rpi/std)",
    "model": "rpi",
    "package": "",
    "features": "rmtsh",
    "received": 17,
    "sent": 2,
    "malformed": 1,
    "round_trip_ms": 41.5,
}
ADVICE = (
    "no real-time priority, so a busy machine may start downlinks late: run the radio as its systemd unit"
)
SERIAL: dict[str, Any] = {
    "name": "serial",
    "kind": "rn2483",
    "role": "rxtx",
    "freq_hz": 868_300_000,
    "datr": "SF9BW125",
    "state": "listening",
    "backend": "serial",
    "realtime": False,
    "model": "RN2483 1.0.5",
    "capabilities": {
        "timestamps": "coarse",
        "frequency_error": False,
        "crc_told": False,
        "min_lead_us": 260_000,
        "deaf": "after each frame its line on the wire and 20 ms",
        "power_dbm": [-3, 14],
    },
}
FULL: dict[str, Any] = HARDWARE | {
    "mono_ns": 1_000_000_000_000,
    "realtime": {"priority": False, "memory_locked": True, "advice": [ADVICE]},
    "modules": [
        MODULES[0]
        | {
            "realtime": False,
            "degraded": "edges of DIO0 get lost: frames are asked for, and their times are inexact",
            "recovered": 2,
            "recovery_ms": {"last": 3.0, "worst": 340.2},
            "sweep": {
                "sfs": [7, 9],
                "per_sf": {
                    "7": {"looks": 900, "detections": 120, "frames": 74, "hit_rate": 0.6167},
                    "9": {"looks": 400, "hit_rate": None},
                },
            },
        },
        MODULES[1] | {"realtime": False},
        SERIAL,
    ],
    "duty_cycle": [
        {
            "min_hz": 868_000_000,
            "max_hz": 868_600_000,
            "used_us": 35_900_000,
            "budget_us": 36_000_000,
            "allowed_in_ms": {"100": 0, "1500": 700_000, "500": 240_000, "3000": None},
        }
    ],
    "regulation": {
        "region": "AS923-1-JP",
        "dwell_us": 400_000,
        "lbt": {"threshold_dbm": -80, "listen_us": 5000, "busy": 3, "deferred": 1},
        "refused": {"duty_cycle": 12, "power": 1, "solar_flare": 2},
        "last_refusals": [
            {"at_ns": 900_000_000_000, "kind": "duty_cycle", "reason": "the one before"},
            {
                "at_ns": 988_000_000_000,
                "kind": "duty_cycle",
                "reason": "duty cycle 1.0% of 868-868.6 MHz is used up; 57 ms would be allowed in 240 s",
            },
        ],
        "ledger": {"survives_restart": False, "fault": "the disk is read-only", "writes": 1},
    },
    "servers": [
        {"name": "local", "connected": True, "since_s": 7200.5, "forwarded": 7, "host": "127.0.0.1:1700"},
        {
            "name": "cloud",
            "kind": "station",
            "host": "wss://lns.example.org:8887",
            "connected": False,
            "since_s": 95.0,
            "trouble": "the server's certificate is for another name",
            "forwarded": 2,
            "filtered": 5,
            "not_wanted": 1,
            "waiting": 3,
            "dropped": 4,
            "downlinks_refused": 6,
        },
    ],
    "calibration": {
        "source": "measured",
        "modules": ["uputronics-dual/0", "uputronics-dual/1"],
        "utc_s": 1_760_000_000,
        "table": [{"datr": "SF7BW125", "latency_us": 50.5}, {"datr": "SF9BW125"}],
        "rejected": ["SF12BW125: 2 frames are too few"],
    },
    "gnss": {
        "state": "suspect",
        "reason": "the date is 1024 weeks off",
        "fault": "",
        "satellites": 9,
        "hdop": 0.9,
        "dimensions": 3,
        "pps": "gpiod",
        "pps_age_s": 0.4,
    },
    "position": {"latitude": -33.86, "longitude": 151.2, "altitude_m": 20},
    "time": {"quality": "gnss", "source": "pps", "error_us": 1.6, "ppm": -1.234},
}


def test_each_module_is_told_in_a_technicians_words(person: Visitor, double: GatewayDouble) -> None:
    double.hardware = HARDWARE
    person.get("/radio/modules")
    for said in (
        "Listens on 868.1 MHz, SF7.",
        "Sends only.",
        "all bits read 0: no power",
        "Lost edge",
        "99 % of 100\u00a0downlinks started within 20\u00a0µs of their moment, the worst by 412\u00a0µs.",
        "Orders come at least 2\u00a0ms before their moment. That is short",
        "Edges are stamped by the kernel",
        "devices may miss downlinks",
        "868 to 868.6\u00a0MHz",
        "9\u00a0s of 36\u00a0s (25%)",
        "does not answer",
    ):
        assert said in person.page, said
    assert "Brown out" not in person.page


def test_what_the_radio_tells_is_said(person: Visitor, double: GatewayDouble) -> None:
    double.hardware = FULL
    person.get("/radio/modules")
    for said in (
        "No real-time priority, so a busy machine may start downlinks late: run",
        "Without real-time priority.",
        "Edges of DIO0 get lost: frames are asked for",
        "Listens on 868.1 MHz, SF7 and SF9 in turn.",
        "62% of 120\u00a0detections became frames",
        "nothing detected yet",
        "After a fault it worked again within 340\u00a0ms at most.",
        "RN2483 1.0.5. Over a serial line:",
        "Of frames: their times are coarse, their frequency error is not told,",
        "A downlink must be ordered 260\u00a0ms ahead. Deaf after each frame",
        "Used up: a frame of 500\u00a0ms may go out in 4 min",
        "<b>Time on air used up</b> 12 times",
        "12 s ago: duty cycle 1.0% of 868-868.6 MHz is used up",
        "<b>Too strong</b> once",
        "<b>Solar flare</b> 2 times",
        "and might send too much: the disk is read-only.",
        "Rules of <bdi>AS923-1-JP</bdi>",
        "No transmission may be longer than 400\u00a0ms.",
        "listens for 5\u00a0ms before it sends",
        "\u221280\u00a0dBm or more. The channel was busy 3 times. 1\u00a0downlink waited",
        "answers, for 2 h",
        "does not answer, for 1 min",
        "The server&#39;s certificate is for another name.",
        "3 waiting, 6 not for it, 4 lost, as it was away for too long",
        "6\u00a0downlinks refused",
        "2025, ",
        "by uputronics-dual/0 and uputronics-dual/1, for 2\u00a0settings (SF7BW125,",
        "Not believed: SF12BW125: 2 frames are too few",
        "<code>fluxgate radio calibrate</code>",
        "from GNSS, good to 2\u00a0µs",
        "GNSS receiver: the date is 1024 weeks off.",
        "9, HDOP 0.9",
        "comes each second",
        "\u221233.86, 151.2, 20\u00a0m",
        "1.23\u00a0ppm slow",
    ):
        assert said in person.page, said


def test_only_what_there_is_is_shown(person: Visitor, double: GatewayDouble) -> None:
    """A radio that tells nothing of all this, and one whose modules cannot measure each other."""
    double.hardware = {
        "reachable": True,
        "modules": [{}],
        "duty_cycle": [{}],
        "servers": [{"connected": True}],
    }
    assert person.get("/radio/modules").status_code == 200
    for heading in (
        "Time and place",
        "Rules",
        "Delays",
        "Network servers",
        "Downlinks refused",
        "banner warn",
    ):
        assert heading not in person.page, heading
    double.hardware |= {"calibration": {"source": "table"}}
    person.get("/radio/modules")
    assert "The table of usual values is in use" in person.page
    assert "fluxgate radio calibrate" not in person.page


def test_the_part_that_is_fetched_again_and_again_is_small(person: Visitor, double: GatewayDouble) -> None:
    double.hardware = FULL
    person.get("/radio/modules/state")
    assert len(gzip.compress(person.page.encode())) < 3000
    assert "Delays of the modules" not in person.page


@pytest.mark.parametrize(
    "wrong",
    [{"modules": "none"}, {"time": []}, {"gnss": {"satellites": "many"}}, {"regulation": {"refused": [1]}}],
    ids=str,
)
def test_an_answer_that_is_not_understood_is_told_as_such(
    person: Visitor, double: GatewayDouble, wrong: dict[str, Any]
) -> None:
    double.hardware = FULL | wrong
    assert person.get("/radio/modules").status_code == 503
    assert "answer not understood" in person.page


def test_fields_and_words_of_tomorrow_break_nothing(person: Visitor, double: GatewayDouble) -> None:
    double.hardware = FULL | {
        "lasers": [1],
        "gnss": {"state": "orbiting", "pps": "laser", "beams": 3},
        "time": {"quality": "caesium", "error_us": 0.001, "ppm": 0.0},
        "calibration": {"source": "guessed", "utc_s": 10**18},
        "duty_cycle": [{"budget_us": 1, "allowed_in_ms": {"soon": 5, "100": None}}],
    }
    assert person.get("/radio/modules").status_code == 200
    for said in ("orbiting", "caesium, good to 1\u00a0µs", "exact", "longer than an hour&#39;s budget"):
        assert said in person.page, said


def test_a_radio_that_does_not_answer_is_said_and_the_page_is_there(person: Visitor) -> None:
    assert person.get("/radio/modules").status_code == 200
    assert "How the modules are is not known: the radio process is not running." in person.page


def _with_hostile_texts(value: Any) -> Any:
    """A status in which every text is hostile."""
    if isinstance(value, dict):
        return {key: _with_hostile_texts(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_hostile_texts(each) for each in value]
    return HOSTILE if isinstance(value, str) else value


def test_names_from_outside_are_never_markup(person: Visitor, double: GatewayDouble) -> None:
    double.hardware = _with_hostile_texts(FULL) | {
        "servers": [{"name": HOSTILE, "host": HOSTILE, "trouble": HOSTILE}] * 2,
        "gnss": {"fault": HOSTILE},
        "calibration": {"source": "measured", "modules": [HOSTILE], "table": [{"datr": HOSTILE}]},
    }
    double.hardware["modules"].append({"faults_by_kind": {HOSTILE: 1}, "sweep": {"per_sf": {HOSTILE: {}}}})
    double.hardware["regulation"]["refused"] = {HOSTILE: 1}
    double.scanned = {"module": HOSTILE, "points": [{"freq_hz": 1, "rssi_dbm": -90.0, "peak_dbm": -80.0}]}
    double.gateways[0] |= {"address": HOSTILE, "problem": HOSTILE}
    double.warnings = [HOSTILE]
    double.station = [_with_hostile_texts(STATION)]
    for path in ("/radio/modules", "/radio", "/more"):
        assert person.get(path).status_code == 200
        assert "&lt;script&gt;" in person.page
        assert "<script>alert" not in person.page
    person.get("/radio/band")
    person.post("/radio/band", {"start": "868", "stop": "868", "step": "200"})
    assert "<script>alert" not in person.page


def test_the_band_is_suggested_around_what_the_modules_hear_and_shown(
    person: Visitor, double: GatewayDouble
) -> None:
    person.get("/radio/band")
    assert 'value="867.1"' in person.page
    assert 'value="869.1"' in person.page
    double.scanned = {
        "module": "uputronics-dual/0",
        "points": [
            {
                "freq_hz": 867_900_000 + 200_000 * step,
                "rssi_dbm": -70.0 if step == 3 else -115.0,
                "peak_dbm": -60.0,
            }
            for step in range(6)
        ],
        "frames_spared": 2,
    }
    answer = person.post("/radio/band", {"start": "867,9", "stop": "868.9", "step": "200"})
    assert answer.status_code == 200
    assert double.scans == [{"start_hz": 867_900_000, "stop_hz": 868_900_000, "step_hz": 200_000}]
    assert "Much louder: 868.5\u00a0MHz." in person.page
    assert "2\u00a0frames came in meanwhile and were received." in person.page
    assert person.page.count('<rect class="peak"') == 6


def test_a_scan_that_is_refused_says_why_and_keeps_what_was_typed(person: Visitor) -> None:
    person.get("/radio/band")
    answer = person.post("/radio/band", {"start": "868", "stop": "869", "step": "100"})
    assert answer.status_code == 422
    assert "the radio process is not running" in person.page
    assert 'value="869"' in person.page


@pytest.mark.parametrize(
    ("typed", "field"),
    [
        ({"start": "x", "stop": "869", "step": "100"}, "start"),
        ({"start": "868", "stop": "nan", "step": "100"}, "stop"),
        ({"start": "868", "stop": "867", "step": "100"}, "stop"),
        ({"start": "868", "stop": "869", "step": "1"}, "step"),
        ({"start": "863", "stop": "870", "step": "10"}, "step"),
        ({}, "start"),
    ],
    ids=str,
)
def test_a_part_of_the_band_that_cannot_be_is_told_at_its_field(typed: dict[str, str], field: str) -> None:
    assert field in read_band(typed).errors


def test_a_histogram_tells_the_bound_that_holds_a_share() -> None:
    shown = Histogram(bounds=[10, 20], counts=[5, 4, 1], count=10, max=77)
    assert [shown.within(share) for share in (0.5, 0.9, 0.99)] == [10, 20, 77]
    assert Histogram().within(0.99) is None


def test_early_counts_as_much_as_late() -> None:
    early = Histogram(bounds=[-50, -20, 0, 20], counts=[1, 4, 90, 5, 0], count=100, min=-77, max=3)
    assert [early.within(share) for share in (0.9, 0.99, 1.0)] == [20, 50, 77]
    assert early.worst == 77


def test_states_and_uses_have_words() -> None:
    assert hw.module_state(RadioModule("a", state="listening")).word == "listening"
    assert hw.module_state(RadioModule("a", state="armed")).word == "sending"
    assert hw.module_state(RadioModule("a", role="tx", state="resting")).word == "ready"
    assert hw.module_state(RadioModule("a", scanning=True, degraded="x")) == hw.State(
        "warn", "scanning the band"
    )
    assert hw.module_use(RadioModule("a", kind="rn2483", freq_hz=868_100_000, datr="SF9BW125")).startswith(
        "RN2483 modem: listens"
    )
    assert rules.airtime(SubBand(1, 2, 5)) == "5\u00a0µs, no limit"
    assert hw.band_chart([]) is None
    assert hw.band_sentence([]) == "Nothing was measured."
    assert "No step is much louder" in hw.band_sentence([ScanPoint(868_100_000, -110, -100)])


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (Server(connected=True, acked_percent=72.4), "It confirms only 72% of what it is sent"),
        (Server(connected=True, acked_percent=100.0), ""),
        (Server(connected=False, acked_percent=0.0), ""),
        (Server(connected=True, join_conflicts=1), "1\u00a0join was answered by another server"),
        (Server(connected=True, join_conflicts=2), "2\u00a0joins were answered by another server"),
        (
            Server(connected=True, channels_not_heard=7),
            "It asks for 7\u00a0channels that no module listens to.",
        ),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_server_is_a_sentence(server: Server, said: str) -> None:
    assert rules.server_trouble(server).startswith(said)
    assert bool(rules.server_trouble(server)) == bool(said)


@pytest.mark.parametrize(
    ("receiver", "state", "pulse"),
    [
        (Receiver("fix", pps="gpiod", pps_age_s=0.9), "has a fix", "comes each second"),
        (
            Receiver("lost", pps="gpiod", pps_age_s=130.0),
            "lost its fix",
            "none for 2 min: look after its wire",
        ),
        (Receiver("cold", pps="gpiod"), "no fix yet", "none came yet: look after the wire"),
        (Receiver("silent"), "says nothing", "not watched: the time comes from its sentences alone"),
        (Receiver("fix", fault="no such file"), "not reached", "not watched"),
        (Receiver(), "unknown", "not watched"),
    ],
    ids=str,
)
def test_a_receiver_is_told_by_what_it_is_good_for(receiver: Receiver, state: str, pulse: str) -> None:
    assert tw.receiver_state(receiver).word == state
    assert tw.pulse(receiver).startswith(pulse)
    assert bool(tw.receiver_reason(receiver)) == (state not in {"has a fix", "unknown"})


def test_time_place_and_crystal_have_words() -> None:
    assert tw.quality(Time("ntp", 12_400.0)) == "from the internet (NTP), good to 12.4\u00a0ms"
    assert tw.quality(Time("unset")) == "not set"
    assert tw.crystal(0.84) == "0.84\u00a0ppm fast"
    assert tw.place(Position(52.5, 13.40001)) == "52.5, 13.40001"
    assert tw.satellites(Receiver(satellites=3, dimensions=2)) == "3, without height"
    assert tw.calibration(Calibration("measured")) == "Measured by its own modules."
    assert tw.can_calibrate(Hardware(modules=[RadioModule("a"), RadioModule("b")]))
    assert not tw.can_calibrate(Hardware(modules=[RadioModule("a"), RadioModule("b", kind="rn2483")]))


def test_missing_priority_is_said_only_where_it_was_asked_for() -> None:
    """Simulated hardware has no need of it, and a serial module has no thread that would."""
    refused, module = Realtime(False, ["x"]), RadioModule("a", realtime=False)
    assert hw.lacks_priority(module, refused)
    assert not hw.lacks_priority(module, Realtime(False))
    assert not hw.lacks_priority(RadioModule("a"), refused)
    assert not hw.lacks_priority(RadioModule("a", kind="rn2483", realtime=False), refused)


def test_concentrators_are_told_with_what_is_wrong(person: Visitor, double: GatewayDouble) -> None:
    double.gateways[0] |= {"address": "192.0.2.9", "restarts": 2, "problem": "192.0.2.66 speaks in its name"}
    double.station = [STATION]
    double.warnings = ["gateway 01 is not listened to: add it to `gateways` in [lorawan]"] * 7
    person.get("/more")
    for said in ("192.0.2.9", "2 times", "192.0.2.66 speaks in its name.", "<bdi>roof</bdi>, Basics Station"):
        assert said in person.page, said
    for said in (
        "58A0 CBFF FE80 0001",
        "192.0.2.7",
        "17, 2",
        "1\u00a0message",
        "42 ms",
        "rpi 2.0.6(rpi/std)",
    ):
        assert said in person.page, said
    assert "has no channel plan" not in person.page
    person.get("/radio")
    assert (
        person.page.count("Gateway 01 is not listened to: add it to <code>gateways</code> in [lorawan].") == 5
    )
    assert "And 2 more warnings" in person.page


def test_a_gateway_with_only_basics_stations_hears(person: Visitor, double: GatewayDouble) -> None:
    double.gateways.clear()
    double.station = [STATION | {"configured": False}]
    person.get("/more")
    assert "No packet forwarder has reported" not in person.page
    assert "has no channel plan and hears nothing" in person.page
    person.get("/lamps")
    assert "The radio is listening." in person.page
