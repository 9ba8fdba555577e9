"""docs/lorawan.md names every codec, counter and MAC command there is, and no other."""

import dataclasses
import re
from pathlib import Path

from gateway.codecs import CODECS
from gateway.lorawan import profile
from gateway.lorawan.counters import Counters
from gateway.lorawan.maclayer import QUIET_UPLINKS
from gateway.lorawan.settings import Settings
from gateway.lorawan.uplinking import CONFIRMED_REPEATS

TEXT = (Path(__file__).parents[3] / "docs" / "lorawan.md").read_text()


def section(title: str) -> str:
    return re.split(r"^#{2,3} ", TEXT.split(f"# {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def first_cells(text: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)` \|", text, flags=re.MULTILINE)


def test_every_codec_is_described():
    assert first_cells(section("Uplinks")) == list(CODECS)


def test_every_counter_is_named():
    assert re.findall(r"`(\w+)`", section("Counters")) == [
        field.name for field in dataclasses.fields(Counters)
    ]


def test_the_numbers_are_those_of_the_code():
    assert Settings().max_downlinks == 16
    assert "Sixteen" in TEXT
    assert CONFIRMED_REPEATS == profile.MAX_ATTEMPTS == 8
    assert f"rests for {QUIET_UPLINKS} uplinks" in TEXT.replace("\n", " ")
