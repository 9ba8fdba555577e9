"""The radio's modules, time on air and band: what the pages say of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.webui.double import HOSTILE, GatewayDouble, Visitor
from webui import hardware_words as hw
from webui.forms import read_band
from webui.hardware import Histogram, RadioModule, ScanPoint, SubBand

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


def test_a_radio_that_does_not_answer_is_said_and_the_page_is_there(person: Visitor) -> None:
    assert person.get("/radio/modules").status_code == 200
    assert "How the modules are is not known: the radio process is not running." in person.page


def test_names_from_outside_are_never_markup(person: Visitor, double: GatewayDouble) -> None:
    double.hardware = {
        "reachable": True,
        "modules": [{"name": HOSTILE, "fault": HOSTILE, "backend": HOSTILE, "faults_by_kind": {HOSTILE: 1}}],
        "servers": [{"name": HOSTILE}, {"name": HOSTILE}],
    }
    double.scanned = {"module": HOSTILE, "points": [{"freq_hz": 1, "rssi_dbm": -90.0, "peak_dbm": -80.0}]}
    person.get("/radio/modules")
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


def test_states_and_uses_have_words() -> None:
    assert hw.module_state(RadioModule("a", state="listening")).word == "listening"
    assert hw.module_state(RadioModule("a", state="armed")).word == "sending"
    assert hw.module_state(RadioModule("a", role="tx", state="resting")).word == "ready"
    assert hw.module_use(RadioModule("a", kind="rn2483", freq_hz=868_100_000, datr="SF9BW125")).startswith(
        "RN2483 modem: listens"
    )
    assert hw.airtime(SubBand(1, 2, 5)) == "5\u00a0µs, no limit"
    assert hw.band_chart([]) is None
    assert hw.band_sentence([]) == "Nothing was measured."
    assert "No step is much louder" in hw.band_sentence([ScanPoint(868_100_000, -110, -100)])
