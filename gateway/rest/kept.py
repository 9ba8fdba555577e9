"""What a person's computer keeps of gateways: their addresses and authorities by name, and the tokens of sign-ins.

`gateways.json` and `tokens.json` below `~/.config/fluxgate`, readable by their owner alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.rest.client import USAGE, ApiError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")


@dataclass(frozen=True, slots=True)
class Known:
    """A gateway under a name; `ca` is the file of its authority, "" for one that this computer trusts anyway."""

    name: str
    url: str
    ca: str = ""
    default: bool = False


def folder() -> Path:
    """Where it is kept."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "fluxgate"


class Tokens:
    """Tokens of signed-in people, or API keys, by address of the gateway."""

    def __init__(self) -> None:
        self.path = folder() / "tokens.json"

    def get(self, url: str) -> str:
        """The token for that gateway; "" where there is none."""
        return str(_read(self.path).get(url, ""))

    def put(self, url: str, token: str) -> None:
        """Keep a token, or with "" forget it. Raises ApiError where the file cannot be written."""
        tokens = {**_read(self.path), url: token}
        write_secret(self.path, json.dumps({each: value for each, value in tokens.items() if value}))


class Gateways:
    """Gateways by name."""

    def __init__(self) -> None:
        self.path = folder() / "gateways.json"

    def all(self) -> list[Known]:
        """Every one that is kept, by name."""
        found = _read(self.path)
        default = found.get("default", "")
        kept = found.get("gateways", {})
        return [
            Known(name, str(each.get("url", "")), str(each.get("ca", "")), name == default)
            for name, each in sorted(kept.items())
            if isinstance(each, dict)
        ]

    def find(self, text: str) -> Known | None:
        """The one of that name or address; with "" the default one."""
        for each in self.all():
            if text in (each.name, each.url) or (not text and each.default):
                return each
        return None

    def keep(self, known: Known) -> None:
        """Keep it, in place of one of that name. Raises ApiError."""
        if not _NAME.fullmatch(known.name):
            raise ApiError("a gateway's name has 1 to 32 letters, digits, - and _", USAGE)
        others = [each for each in self.all() if each.name != known.name]
        self._write([*others, known], known.name if known.default or not others else self._default())

    def forget(self, name: str) -> None:
        """Raises ApiError where there is none of that name."""
        others = [each for each in self.all() if each.name != name]
        if len(others) == len(self.all()):
            raise ApiError(f"no gateway {name!r} is kept; `fluxgate gateways list` shows them", USAGE)
        self._write(others, self._default() if self._default() != name else "")

    def use(self, name: str) -> None:
        """Make it the one that commands go to. Raises ApiError."""
        if not any(each.name == name for each in self.all()):
            raise ApiError(f"no gateway {name!r} is kept; `fluxgate gateways list` shows them", USAGE)
        self._write(self.all(), name)

    def authority(self, name: str, certificate: str) -> Path:
        """Keep the certificate of a gateway's authority; the file."""
        path = self.path.parent / f"{name}.pem"
        write_secret(path, certificate)
        return path

    def _default(self) -> str:
        return str(_read(self.path).get("default", ""))

    def _write(self, gateways: list[Known], default: str) -> None:
        kept = {each.name: {"url": each.url, **({"ca": each.ca} if each.ca else {})} for each in gateways}
        write_secret(self.path, json.dumps({"default": default, "gateways": kept}, indent=2))


def write_secret(path: Path, text: str) -> None:
    """A file that its owner alone can read, whole or not at all. Raises ApiError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_name(path.name + ".new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        fresh.replace(path)
    except OSError as error:
        raise ApiError(f"{path} cannot be written: {error.strerror or error}") from None


def _read(path: Path) -> Mapping[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text())
        if isinstance(found, dict):
            return found
    return {}
