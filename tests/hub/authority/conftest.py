"""A registry with a thing, and what the tests of the authority share."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.keys import ServerKey
from hub.registry import Registry

NOW = 1_800_000_000.0  # 2027
KEY = ServerKey(b"k" * 32)


@dataclasses.dataclass
class Office:
    """A registry that can be closed and opened again. `thing` is in it."""

    path: Path
    registry: Registry
    thing: str = "pump-7"

    def again(self, key: ServerKey = KEY) -> Registry:
        self.registry.close()
        self.registry = Registry.open(self.path, key)
        return self.registry


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    path = tmp_path / "registry.db"
    made = Office(path, Registry.open(path, KEY))
    made.registry.create_thing("pump", id=made.thing)
    yield made
    made.registry.close()
