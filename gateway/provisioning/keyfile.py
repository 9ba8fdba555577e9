"""The key file: secrets of a site that were made up or shown once, readable by its owner alone.

JSON, by kind and name. A secret is in it before the gateway has it, so an interruption loses none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gateway.provisioning.errors import CannotApply
from gateway.rest.kept import write_secret


class KeyFile:
    """Written whole with each change."""

    def __init__(self, path: Path) -> None:
        """Raises CannotApply where the file is there and cannot be used: it is never written over."""
        self.path = path
        self._kinds: dict[str, dict[str, dict[str, Any]]] = {}
        try:
            found = json.loads(path.read_text())
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise CannotApply([f"the key file {path} cannot be read: {error}"]) from None
        if not isinstance(found, dict) or not all(
            isinstance(kind, dict) and all(isinstance(each, dict) for each in kind.values())
            for kind in found.values()
        ):
            raise CannotApply([f"{path} is no key file"])
        self._kinds = found

    def get(self, kind: str, name: str, field: str) -> str:
        """A secret; "" where it is not there."""
        return str(self._kinds.get(kind, {}).get(name, {}).get(field, ""))

    def put(self, kind: str, name: str, **fields: Any) -> None:
        """Keep what is given beside what is there. Raises ApiError where it cannot be written."""
        self._kinds.setdefault(kind, {}).setdefault(name, {}).update(fields)
        write_secret(self.path, json.dumps(self._kinds, indent=2) + "\n")

    @property
    def kept(self) -> frozenset[tuple[str, str]]:
        """The kind and name of each."""
        return frozenset((kind, name) for kind, names in self._kinds.items() for name in names)
