"""The pages of the diagnosis and of simple nodes in a real browser, on a phone and on a desk."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.webui.browsing import Watched
from tests.webui.double import GatewayDouble

COLD_ROOM = "a84041ffff1c3d5e"
PAGES = ["/devices/diagnosis", f"/devices/{COLD_ROOM}/diagnosis", "/devices/simple"]


@pytest.mark.parametrize("width", [360])
def test_nothing_is_too_wide_or_too_small_to_touch(
    watched: Watched, double: GatewayDouble, width: int
) -> None:
    double.add_device(COLD_ROOM, "Cold room " + "x" * 50, last_seen=time.time())
    evidence = {"freq_hz": 868_100_000, "radio_says": "x" * 200, "regions": ["EU868"] * 8, "where": "digit 3"}
    for over in (None, time.time()):
        double.found(
            "app_key_digits", "y" * 150, dev_eui=COLD_ROOM, name="Cold room", evidence=evidence, resolved=over
        )
    node = {
        "id": "raw-radiohead-5",
        "header": "radiohead",
        "address": 5,
        "name": "z" * 64,
        "codec": "cayenne",
    }
    double.simple[node["id"]] = {**node, "channel_id": "5b1c9a8e-2d77-4c1a-8e0f-7a6b5c4d3e2f", "sf": 7}
    stranger = {"freq_hz": 868_450_000, "first_bytes": "010c0700", "last": time.time(), "rssi_dbm": -90}
    double.simple_heard.append({**stranger, "snr_db": 5.0, "sf": 7, "size": 12, "count": 3})
    watched.page.set_viewport_size({"width": width, "height": 800})
    watched.sign_in()
    for path in PAGES:
        page = watched.open(path)
        page.evaluate("document.querySelectorAll('details').forEach((part) => part.open = true)")
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{path} is {wide} px too wide"
        small: list[Any] = page.evaluate(
            """[...document.querySelectorAll(".button, .bar a, .list a, input:not([type=hidden]), select, summary")]
            .map((part) => [part, (part.closest("label") || part).getBoundingClientRect()])
            .filter(([, box]) => box.width && (box.height < 48 || box.width < 48))
            .map(([part, box]) => `${part.outerHTML.slice(0, 60)} ${box.width}x${box.height}`)"""
        )
        assert small == [], path
