"""docs/coap.md names every limit with its default, and the counters and codes it names exist."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path

from hub.coap.formats import CONTENT_TYPES
from hub.coap.limits import COUNTERS, Limits
from hub.coap.packets import Code, dotted
from hub.hub import MAX_PAYLOAD

PAGE = (Path(__file__).parents[3] / "docs" / "coap.md").read_text()
ROWS = re.findall(r"^\| `(\w+)` \| ([\d.]+) \| .*? \| (?:`(\w+)` )?\|$", PAGE, re.MULTILINE)


def test_each_limit_is_documented_with_its_default() -> None:
    assert {name: float(default) for name, default, _ in ROWS} == asdict(Limits())


def test_each_counter_of_the_page_exists() -> None:
    assert {counter for _, _, counter in ROWS if counter} <= set(COUNTERS)
    assert "not_shown" in COUNTERS


def test_each_counter_that_a_limit_names_exists_in_the_code_and_the_reverse() -> None:
    code = "\n".join(
        path.read_text() for path in (Path(__file__).parents[3] / "platform/hub/coap").glob("*.py")
    )
    unused = [name for name in COUNTERS if code.count(f'"{name}"') < 2]
    assert unused == []


def test_each_answer_of_the_door_is_documented() -> None:
    table = PAGE[PAGE.index("## Answers") : PAGE.index("## Keys in the open")]
    documented = set(re.findall(r"\b[245]\.\d\d\b", table))
    sent = {dotted(code) for code in Code if code >= Code.VALID}
    assert sent - documented == {dotted(Code.INTERNAL)}  # our fault, never meant to be seen
    assert documented <= sent


def test_each_format_is_documented() -> None:
    rows = re.findall(r"^\| (\d+) `", PAGE, re.MULTILINE)
    assert {int(number) for number in rows} == set(CONTENT_TYPES)
    assert f"{MAX_PAYLOAD >> 10} KiB" in PAGE
