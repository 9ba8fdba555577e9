"""docs/codecs.md tells the truth about codecs, routes, types, names and limits."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gateway.codec_api import CodecApi
from gateway.codecs import CODECS, cayenne, mapping
from gateway.codecs.js import confine, contexts, limits, worker
from gateway.codecs.js.child import GRACE_S
from gateway.codecs.library import MAX_SOURCE, VERSIONS_KEPT, Library

PAGE = (Path(__file__).parents[3] / "docs" / "codecs.md").read_text()
SENTENCES = " ".join(PAGE.split())


def rows(heading: str) -> list[list[str]]:
    """The cells of a section's tables, without their heads."""
    part = re.split(r"^##+ ", PAGE, flags=re.MULTILINE)
    section = next(each for each in part if each.startswith(heading))
    lines = [line for line in section.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    ruled = [at for at, line in enumerate(lines) if line.startswith("|-")]
    return [row for at, row in enumerate(cells) if at not in ruled and at + 1 not in ruled]


def test_every_built_in_codec_is_there() -> None:
    assert [row[0].strip("` ") for row in rows("Which codecs there are")] == list(CODECS)


def test_every_type_of_cayenne_lpp_is_named() -> None:
    told = {word for row in rows("Cayenne LPP") for word in re.findall(r"`([a-z]+(?:_[a-z]+)?)`", row[1])}
    assert told == {*cayenne._NUMBERS, "polyline"}


def test_every_route_is_there_and_no_other() -> None:
    hub: Any = SimpleNamespace()
    routes = {f"{each.method} {each.path}" for each in CodecApi(hub, Library(), dict).endpoints()}  # type: ignore[arg-type]
    assert {row[0].strip("` ") for row in rows("The library")} == routes


def test_every_function_is_there() -> None:
    told = set(
        re.findall(r"`(\w+)\([a-zP, ]+\)`", "\n".join(" ".join(row) for row in rows("JavaScript codecs")))
    )
    assert told == set(contexts._NAMES)


def test_the_names_in_the_table_are_those_that_are_made() -> None:
    table = [
        row
        for row in rows("What becomes of the answer")
        if ":" in row[1] and "`" in row[1] and "time" not in row[1]
    ]
    pairs = {row[0].strip("` "): row[1].strip("` ") for row in table}
    assert len(pairs) == 3
    assert {key: mapping.escaped(key) for key in pairs} == pairs


def test_limits_are_those_of_the_code() -> None:
    for words in (
        f"{limits.CEILING_S * 1000:.0f} ms while a codec is new",
        f"then {limits.ROOM:.0f} times the slowest call of late, at least {limits.FLOOR_S * 1000:.0f} ms",
        f"ends the process {GRACE_S * 1000:.0f} ms later",
        f"kills it after {worker.PATIENCE_S * 1000:.0f} ms without",
        f"{confine.MEMORY_BYTES >> 20} MiB of memory at most",
        f"{contexts.MEMORY_LIMIT >> 20} MiB for one codec",
        f"At most {mapping.MAX_RECORDS} values and {mapping.MAX_DEPTH} levels",
        f"up to {mapping.MAX_TEXT:,} characters",
        f"up to {MAX_SOURCE:,} characters",
    ):
        assert words in SENTENCES, words
    assert (limits.HOLD_AFTER, limits.FORGIVE, VERSIONS_KEPT, worker.IDLE_S) == (5, 1000, 5, 900.0)
