"""docs/mqtt.md names every limit with its default, and every counter it names exists."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

from hub.hub import MAX_PAYLOAD
from hub.mqtt.limits import COUNTERS, Limits

PAGE = (Path(__file__).parents[3] / "docs" / "mqtt.md").read_text()
ROWS = re.findall(r"^\| `(\w+)` \| ([\d.]+) \| .*? \| (?:`(\w+)` )?\|$", PAGE, re.MULTILINE)


def test_each_limit_is_documented_with_its_default() -> None:
    assert {name: float(default) for name, default, _ in ROWS} == asdict(Limits())


def test_each_counter_of_the_page_exists() -> None:
    assert {counter for _, _, counter in ROWS if counter} <= set(COUNTERS)
    assert "lost_to_retention" in COUNTERS


def test_largest_payload_fits_into_a_packet() -> None:
    assert f"at most {MAX_PAYLOAD} bytes" in PAGE
    assert Limits().packet_bytes >= MAX_PAYLOAD + 1024 + 128
