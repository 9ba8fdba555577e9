"""A registry for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.keys import ServerKey
from hub.registry import Registry
from tests.hub.tokens.known import Known


@pytest.fixture
def known(tmp_path: Path) -> Iterator[Known]:
    registry = Registry.open(tmp_path / "registry.db", ServerKey(bytes(32)))
    user = registry.create_user("owner@example.org", "correct horse")
    thing, _ = registry.create_thing("sensor")
    known = Known(registry, tmp_path / "registry.db", user.id, thing.id)
    yield known
    known.registry.close()
