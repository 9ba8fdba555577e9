"""The text of a JSON document beside its values: on which line each of them stands, for messages that say where."""

from __future__ import annotations

import json
import re
from typing import Any

from hub.policy.errors import PolicyError

MAX_DOCUMENT = 256 * 1024  # characters
MAX_DEPTH = 16

Path = tuple[str | int, ...]

_SPACE = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_OTHER = re.compile(r"[^\s,\]}]+")


class Source:
    """A document as it was written. Raises PolicyError for what is no JSON, or has the same name twice."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_DOCUMENT:
            raise PolicyError(f"a document has at most {MAX_DOCUMENT} characters")
        self._text = text
        self._starts: dict[Path, int] = {}
        try:
            self.value: Any = json.loads(text, object_pairs_hook=_unique)
        except json.JSONDecodeError as error:
            raise PolicyError(f"not JSON: {error.msg}", line=error.lineno) from None
        except (RecursionError, ValueError) as error:
            raise PolicyError(f"not JSON: {error}") from None
        self._walk(0, ())

    def wrong(self, reason: str, *path: str | int) -> PolicyError:
        """The error to raise about the value at `path`."""
        return PolicyError(reason, _shown(path), self.line(*path))

    def line(self, *path: str | int) -> int:
        """Where a value begins; that of what holds it, where it is not there."""
        while path and path not in self._starts:
            path = path[:-1]
        return self._text.count("\n", 0, self._starts.get(path, 0)) + 1

    def _walk(self, at: int, path: Path) -> int:
        """Note where the value at `at` and those in it begin; returns where it ends. The text is known to be JSON."""
        if len(path) > MAX_DEPTH:
            raise PolicyError(f"a document is at most {MAX_DEPTH} deep")
        at = _skip(self._text, at)
        self._starts[path] = at
        opening = self._text[at]
        if opening not in "{[":
            found = _STRING.match(self._text, at) or _OTHER.match(self._text, at)
            assert found is not None
            return found.end()
        closing, index = "}" if opening == "{" else "]", 0
        at = _skip(self._text, at + 1)
        while self._text[at] != closing:
            key: str | int = index
            if opening == "{":
                found = _STRING.match(self._text, at)
                assert found is not None
                key = json.loads(found[0])
                at = _skip(self._text, found.end()) + 1  # the colon
            at = _skip(self._text, self._walk(at, (*path, key)))
            at = _skip(self._text, at + 1) if self._text[at] == "," else at
            index += 1
        return at + 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} stands twice in one object")
    return found


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()


def _shown(path: Path) -> str:
    shown = ""
    for each in path:
        shown += f"[{each}]" if isinstance(each, int) else f".{each}" if shown else each
    return shown
