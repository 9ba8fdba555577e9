"""Class B in the API and among the warnings, and how the radio's status gets there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.classb_api import ClassBApi, view
from gateway.lorawan.clock import Instant
from gateway.lorawan.server import NetworkServer
from gateway.lorawan.settings import Settings
from gateway.radio_link import RadioLink
from hub.message import TimeQuality
from radio.control import ControlError
from radio.regions import get_region

EUI = bytes.fromhex("aa555a0000000101")
NOW = Instant(10**12, 1_770_000_000 * 10**9, TimeQuality.NTP)
GOOD = {
    "time": {"gps_time": True, "error_us": 12.5, "gps_ms": 1_454_035_218_000},
    "mono_ns": 10**12,
    "gnss": {},
}


def server(**settings: Any) -> NetworkServer:
    return NetworkServer(get_region("EU868"), settings=Settings(**settings))


def test_where_class_b_is_off_it_says_how_to_switch_it_on_and_warns_of_nothing() -> None:
    off = server()
    assert "class_b = true" in view(off.class_b_status(NOW)).problem
    assert ClassBApi(off, lambda: NOW).warnings() == []


def test_a_beacon_that_is_not_sent_is_a_warning_with_its_reason() -> None:
    network = server(class_b=True)
    network.class_b.told(
        EUI, {"reachable": True, "gnss": None, "time": {"error_us": 9000, "source": "ntp"}}, NOW
    )
    (warning,) = ClassBApi(network, lambda: NOW).warnings()
    assert warning.startswith("class B: no beacon is sent: the radio has no GNSS receiver")
    assert ClassBApi(server(class_b=True, beacon=False), lambda: NOW).warnings() == []


def test_the_radio_s_status_reaches_class_b_with_each_look() -> None:
    answers: list[dict[str, Any] | ControlError] = [dict(GOOD), ControlError("connection refused")]

    def ask(path: Path, op: str, args: Mapping[str, Any] | None, timeout_s: float) -> dict[str, Any]:
        answer = answers.pop(0)
        if isinstance(answer, ControlError):
            raise answer
        return answer

    network = server(class_b=True)
    radio = RadioLink(Path("unused"), lambda: 10**12, ask)
    radio.seen = lambda status: network.class_b.told(EUI, status, NOW)
    asyncio.run(radio.look())
    shown = view(network.class_b_status(NOW))
    assert (shown.beacon, shown.problem, shown.error_us) == (True, "", 12.5)
    assert shown.senders == [EUI.hex()]
    assert shown.next_beacon_ms is not None
    assert shown.next_beacon_ms % 128_000 == 1
    assert 0 < shown.next_beacon_ms - 1_454_035_218_000 <= 128_001
    asyncio.run(radio.look())
    assert "connection refused" in view(network.class_b_status(NOW)).problem
