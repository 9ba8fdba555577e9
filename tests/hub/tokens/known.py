"""A registry with an owner and a thing in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub.keys import ServerKey
from hub.registry import Registry
from hub.tokens.grants import Grant
from hub.tokens.scopes import parse

NOW = 1_800_000_000.0


@dataclass
class Known:
    """A registry and who is in it; `path` is its file."""

    registry: Registry
    path: Path
    user_id: str
    thing_id: str

    def again(self) -> None:
        """Close the registry and open it from its file."""
        self.registry.close()
        self.registry = Registry.open(self.path, ServerKey(bytes(32)))

    def key(self, **more: Any) -> tuple[Grant, str]:
        """An API key of the owner."""
        return self.registry.grants.add(
            "user", self.user_id, name="phone", scopes=parse("things:read messages:read"), now_s=NOW, **more
        )
