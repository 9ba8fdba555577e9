"""docs/mqtt-conformance.md: every statement once, every named test there, and the counts that it tells."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PAGE = HERE.parents[3] / "docs" / "mqtt-conformance.md"
REFERENCE = re.compile(r"`((?:\.\./)*test_\w+\.py)::(test_\w+)`")

# Section and the number of its last statement, as the standards have them: what the list must hold.
SECTIONS_3_1_1 = (
    "1.5.3:3 2.2.2:2 2.3.1:7 3.1.0:2 3.1.2:24 3.1.3:11 3.1.4:5 3.2.0:1 3.2.2:6 3.3.1:12 3.3.2:3 "
    "3.3.4:1 3.3.5:2 3.6.1:1 3.8.1:1 3.8.3:4 3.8.4:6 3.9.3:2 3.10.1:1 3.10.3:2 3.10.4:6 3.12.4:1 "
    "3.14.1:1 3.14.4:3 4.1.0:2 4.3.1:1 4.3.2:2 4.3.3:2 4.4.0:1 4.5.0:2 4.6.0:6 4.7.1:3 4.7.2:1 "
    "4.7.3:4 4.8.0:2 6.0.0:4 7.0.0:2 7.1.1:1 7.1.2:1"
)
SECTIONS_5_0 = (
    "1.5.4:3 1.5.5:1 1.5.7:1 2.1.3:1 2.2.1:6 2.2.2:1 3.1.0:2 3.1.2:30 3.1.3:12 3.1.4:6 3.2.0:2 "
    "3.2.2:22 3.3.1:13 3.3.2:20 3.3.4:10 3.4.2:3 3.5.2:3 3.6.1:1 3.6.2:3 3.7.2:3 3.8.1:1 3.8.3:5 "
    "3.8.4:8 3.9.2:2 3.9.3:2 3.10.1:1 3.10.3:2 3.10.4:6 3.11.2:2 3.11.3:2 3.12.4:1 3.14.0:1 "
    "3.14.1:1 3.14.2:4 3.14.4:3 3.15.1:1 3.15.2:3 4.1.0:2 4.2:1 4.3.1:1 4.3.2:5 4.3.3:13 4.4.0:2 "
    "4.5.0:2 4.6.0:6 4.7.0:1 4.7.1:2 4.7.2:1 4.7.3:4 4.8.2:6 4.9.0:3 4.12.0:7 4.12.1:2 4.13.1:1 "
    "4.13.2:1 6.0.0:4"
)
SKIPPED = {"MQTT 5.0": {"2.2.1-1"}}  # numbers the standard does not use
VERSIONS = [
    pytest.param("MQTT 3.1.1", SECTIONS_3_1_1, id="3.1.1"),
    pytest.param("MQTT 5.0", SECTIONS_5_0, id="5.0"),
]


def table(version: str) -> list[tuple[str, str, str]]:
    """Statement, words and what shows it, of one version's table."""
    section = PAGE.read_text().partition(f"\n## {version}\n")[2].partition("\n## ")[0]
    rows = [
        tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in section.splitlines() if "|" in line
    ]
    return [(row[0], row[1], row[2]) for row in rows[2:]]


@cache
def functions_in(file: str) -> set[str]:
    tree = ast.parse((HERE / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("version", "sections"), VERSIONS)
def test_each_statement_is_there_once_and_in_order(version: str, sections: str) -> None:
    lasts = [part.split(":") for part in sections.split()]
    wanted = [f"{section}-{n}" for section, last in lasts for n in range(1, int(last) + 1)]
    wanted = [statement for statement in wanted if statement not in SKIPPED.get(version, ())]
    assert [statement for statement, _, _ in table(version)] == wanted


@pytest.mark.parametrize(("version", "_sections"), VERSIONS)
def test_each_named_test_exists(version: str, _sections: str) -> None:
    for statement, words, shown in table(version):
        assert words, statement
        named = REFERENCE.findall(shown)
        assert named or "::" not in shown, statement
        for file, name in named:
            assert name in functions_in(file), f"{statement}: {file}::{name}"


def test_each_test_named_anywhere_on_the_page_exists() -> None:
    for file, name in REFERENCE.findall(PAGE.read_text()):
        assert name in functions_in(file), f"{file}::{name}"


@pytest.mark.parametrize(("version", "_sections"), VERSIONS)
def test_each_statement_without_a_test_says_why(version: str, _sections: str) -> None:
    for statement, _, shown in table(version):
        if not REFERENCE.search(shown):
            assert shown == "client" or re.fullmatch(r"[A-Z].+\.", shown), statement


@pytest.mark.parametrize(("version", "_sections"), VERSIONS)
def test_the_page_counts_right(version: str, _sections: str) -> None:
    shown = [cell for _, _, cell in table(version)]
    by_test = sum(bool(REFERENCE.search(cell)) for cell in shown)
    of_clients = shown.count("client")
    counts = (len(shown), by_test, of_clients, len(shown) - by_test - of_clients)
    assert f"| {version} | {' | '.join(str(count) for count in counts)} |" in PAGE.read_text()


def test_each_test_of_this_folder_is_named_or_general() -> None:
    """A test that shows no statement is for what the statements leave to the server."""
    named = {
        name
        for version in ("MQTT 3.1.1", "MQTT 5.0")
        for row in table(version)
        for _, name in REFERENCE.findall(row[2])
    }
    written = {
        name
        for file in HERE.glob("test_*.py")
        if file.name != "test_table.py"
        for name in functions_in(file.name)
    }
    tests = {name for name in written if name.startswith("test_")}
    assert len(tests & named) > 0.7 * len(tests)
