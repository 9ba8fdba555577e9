"""docs/hub.md tells the truth: its limits, files and modules are those of the code, and none is left out."""

from __future__ import annotations

import asyncio
import importlib
import os
import re
from pathlib import Path

import pytest

import hub
from hub import errors
from hub.hub import Hub

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "hub.md").read_text()
LIMITS = re.findall(r"^\| `(hub[\w.]*)\.([A-Z_]+)`[^|]*\| (\d+) \| (.*) \|$", TEXT, re.MULTILINE)
CORE = sorted(Path(hub.__file__).parent.glob("*.py"))


@pytest.mark.parametrize(("module", "name", "value", "bound"), LIMITS, ids=lambda part: str(part))
def test_each_limit_has_the_documented_value(module: str, name: str, value: str, bound: str) -> None:
    assert getattr(importlib.import_module(module), name) == int(value)
    for error in re.findall(r"`(\w+)`", bound):
        assert issubclass(getattr(errors, error), errors.HubError)


def test_no_limit_of_the_core_is_left_out() -> None:
    documented = {(module, name) for module, name, _, _ in LIMITS}
    derived = {
        ("hub.senml", "MAX_TIME"),
        ("hub.log_writer", "MAX_SEQ"),
    }  # bounds of a value, not of a resource
    defined = {
        (f"hub.{path.stem}", name)
        for path in CORE
        for name in re.findall(r"^((?:MAX|MIN)_[A-Z_]+)(?:, MAX_KEY)? = ", path.read_text(), re.MULTILINE)
    }
    assert defined - derived <= documented


def test_each_module_of_the_core_is_named() -> None:
    inner = {"__init__", "database", "errors", "registry_file", "registry_items", "registry_tables"}
    missing = [path.stem for path in CORE if path.stem not in inner and f"hub/{path.name}" not in TEXT]
    assert missing == []


def test_each_file_of_the_data_directory_is_named(tmp_path: Path) -> None:
    async def main() -> set[str]:
        opened = Hub.open(tmp_path)
        names = set(os.listdir(tmp_path))
        await opened.close()
        return names

    documented = set(re.findall(r"`((?:audit|log|history|registry|server)\.[\w.-]+)`", TEXT))
    documented |= {f"{name}{suffix}" for name in ("history.db", "registry.db") for suffix in ("-wal", "-shm")}
    assert asyncio.run(main()) <= documented
