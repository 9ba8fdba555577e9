"""The page of what MAC commands settle with a device, and that of steering, against a small gateway."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.webui.browsing import Watched
from tests.webui.double import HOSTILE, GatewayDouble, Visitor
from webui import mac_words as mw
from webui.macs import Mac, Setting

EUI = "a84041ffff1c3d5e"
IMPOSSIBLE = {
    "mode": "impossible",
    "region": "US915",
    "channels": [{"index": 0, "freq_hz": 902_300_000, "drs": [3], "default": True}],
    "sentences": [
        {"words": "US915 does not work with this: one channel of 64.", "serious": True},
        {"words": "This gateway hears channel 0.", "serious": False},
    ],
    "devices": [{"dev_eui": EUI, "name": HOSTILE, "heard_share": 0.02, "words": "heard 2% of the last 100"}],
}


@pytest.fixture
def state() -> dict[str, Any]:
    """What the API tells of a device that is being told another receive delay."""
    return {
        "dev_eui": EUI,
        "version": "1.0.3",
        "session": True,
        "settings": [
            {"name": "data_rate", "title": "Data rate", "wanted": "DR5", "reported": "DR5"},
            {
                "name": "rx_timing",
                "title": "Receive delay",
                "wanted": "RX1 after 5 s",
                "reported": "RX1 after 1 s",
                "state": "asked",
                "words": "asked 1 of 3 times, waits for the answer",
            },
        ],
        "channels": [{"index": 0, "freq_hz": 868_100_000, "enabled": True, "wanted": True, "heard_drs": [5]}],
        "orders": {"rx1_delay_s": 5},
        "adr": {
            "active": True,
            "data_rate": 5,
            "history_snr_db": [7.5, -2.0],
            "history_full": 18,
            "margin_db": 10.0,
            "allowed_drs": [5],
            "decisions": [
                {
                    "time": time.time(),
                    "data_rate": 3,
                    "best_snr_db": 7.5,
                    "margin_db": 10.0,
                    "loss": 0.05,
                    "words": "DR5, power 1, each frame 1 x",
                }
            ],
        },
        "heard": {
            "recent": 0.34,
            "frames": 100,
            "expected": 1 / 3,
            "words": "heard 34% of the last 100 (expected 33%: 1 of its 3 channels are listened to)",
        },
        "trace": [
            {
                "time": time.time(),
                "way": "down",
                "name": "RXTimingSetupReq",
                "words": "RX1 opens 5 s after an uplink",
                "outcome": "waits for an answer",
            }
        ],
    }


@pytest.fixture
def known(visitor: Visitor, double: GatewayDouble, state: dict[str, Any]) -> GatewayDouble:
    double.add_device(EUI, "Cold room 2", last_seen=time.time())
    double.macs[EUI] = state
    visitor.sign_in()
    return double


def test_wanted_and_agreed_stand_side_by_side_with_the_trace_in_words(
    visitor: Visitor, known: GatewayDouble
) -> None:
    visitor.get(f"/devices/{EUI}/mac")
    for text in (
        "1 of 2 settings are under way.",
        "RX1 after 5 s",
        "RX1 after 1 s",
        "asked, not yet answered",
        "asked 1 of 3 times",
        "To the device: RXTimingSetupReq",
        "RX1 opens 5 s after an uplink.",
        "Waits for an answer.",
        "Heard 34% of the last 100 (expected 33%",
        "868.1 MHz",
        "5% lost: DR5, power 1",
        'aria-current="page">MAC',
        'name="rx1_delay_s" type="text" value="5"',
    ):
        assert text in visitor.page, text
    assert visitor.get(f"/devices/{EUI}/mac/state").status_code == 200


def test_each_action_goes_to_the_device(visitor: Visitor, known: GatewayDouble) -> None:
    for action in ("refresh", "status", "reset"):
        visitor.get(f"/devices/{EUI}/mac")
        assert visitor.post(f"/devices/{EUI}/mac", {"action": action}).status_code == 303
    visitor.get(f"/devices/{EUI}/mac")
    assert "Noted." in visitor.page
    visitor.post(f"/devices/{EUI}/mac", {"action": "force_rejoin", "rejoin_type": "2"})
    assert [each["action"] for each in known.mac_actions] == ["refresh", "status", "reset", "force_rejoin"]
    assert known.mac_actions[-1]["rejoin_type"] == 2


def test_values_are_set_and_empty_ones_taken_back(visitor: Visitor, known: GatewayDouble) -> None:
    visitor.get(f"/devices/{EUI}/mac")
    visitor.post(f"/devices/{EUI}/mac", {"action": "set", "data_rate": "3", "rx1_delay_s": ""})
    (sent,) = known.mac_actions
    assert sent["values"]["data_rate"] == 3
    assert sent["values"]["rx1_delay_s"] is None


def test_what_is_no_number_or_is_refused_is_said_at_its_place(visitor: Visitor, known: GatewayDouble) -> None:
    visitor.get(f"/devices/{EUI}/mac")
    assert visitor.post(f"/devices/{EUI}/mac", {"action": "set", "data_rate": "fast"}).status_code == 422
    assert "A whole number, or empty." in visitor.page
    known.mac_refusal = "EU868 has no uplink data rate DR9"
    visitor.get(f"/devices/{EUI}/mac")
    assert visitor.post(f"/devices/{EUI}/mac", {"action": "set", "data_rate": "9"}).status_code == 422
    assert "EU868 has no uplink data rate DR9" in visitor.page
    assert visitor.post(f"/devices/{EUI}/mac", {"action": "explode"}).status_code == 422
    assert known.mac_actions == []


def test_a_device_that_has_not_joined_has_nothing_to_show(visitor: Visitor, known: GatewayDouble) -> None:
    del known.macs[EUI]
    visitor.get(f"/devices/{EUI}/mac")
    assert "It has not joined yet" in visitor.page
    assert 'value="reset"' not in visitor.page


def test_only_a_1_1_device_can_be_told_to_rejoin(visitor: Visitor, known: GatewayDouble) -> None:
    visitor.get(f"/devices/{EUI}/mac")
    assert "force_rejoin" not in visitor.page
    known.macs[EUI]["version"] = "1.1"
    visitor.get(f"/devices/{EUI}/mac")
    assert "force_rejoin" in visitor.page


def test_steering_says_what_is_heard_and_what_cannot_work(visitor: Visitor, known: GatewayDouble) -> None:
    visitor.get("/devices/steering")
    assert "counts as heard" in visitor.page
    known.steering = IMPOSSIBLE
    visitor.get("/devices/steering")
    for text in ("US915 does not work", "902.3 MHz", "DR3", "Heard 2% of the last 100."):
        assert text in visitor.page
    assert "<script>alert" not in visitor.page


def test_words_from_devices_stay_text(visitor: Visitor, known: GatewayDouble) -> None:
    known.macs[EUI]["trace"] = [
        {"time": 1.0, "way": "up", "name": HOSTILE, "words": HOSTILE, "outcome": HOSTILE}
    ]
    visitor.get(f"/devices/{EUI}/mac")
    assert "<script>alert" not in visitor.page


def test_the_verdict_counts_what_is_stuck_before_what_is_under_way() -> None:
    settings = [Setting("a"), Setting("b", state="asked"), Setting("c", state="resting")]
    assert mw.verdict(Mac(session=True, settings=settings)).startswith("1 of 3 settings were refused")
    assert mw.verdict(Mac(session=True, settings=settings[:1])) == "It is as it is wanted."


def test_both_sides_fit_a_phone(watched: Watched, site: GatewayDouble, state: dict[str, Any]) -> None:
    site.macs[EUI] = state
    site.steering = IMPOSSIBLE
    watched.page.set_viewport_size({"width": 320, "height": 800})
    watched.sign_in()
    for path in (f"/devices/{EUI}/mac", "/devices/steering"):
        page = watched.open(path)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
