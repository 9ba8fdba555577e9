"""Where in a TOML file something stands, for messages that name the line. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

Key = str | int

_HEADER = re.compile(r"\s*(\[\[?)\s*([\w.\"' -]+?)\s*\]\]?")
_ASSIGNED = re.compile(r"\s*(?:\"([^\"]*)\"|'([^']*)'|([\w-]+))\s*=")


def line_of(text: str, keys: Sequence[Key]) -> int:
    """Line of the deepest part of `keys`, such as ("thing", 2, "name"), that the file spells out; 0 for none."""
    best = depth = 0
    section: list[Key] = []
    counts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        header = _HEADER.match(line)
        if header:
            name = ".".join(part.strip(" \"'") for part in header[2].split("."))
            section = _place(name, header[1] == "[[", counts)
            candidate: list[Key] = section
        else:
            assigned = _ASSIGNED.match(line)
            if not assigned:
                continue
            candidate = [*section, next(part for part in assigned.groups() if part is not None)]
        if len(candidate) > depth and list(keys[: len(candidate)]) == candidate:
            best, depth = number, len(candidate)
    return best


def _place(name: str, repeated: bool, counts: dict[str, int]) -> list[Key]:
    """The keys of a section, with the index of each repeated table on the way."""
    place: list[Key] = []
    parts = name.split(".")
    for at, part in enumerate(parts, start=1):
        place.append(part)
        whole = ".".join(parts[:at])
        if at == len(parts) and repeated:
            counts[whole] = counts.get(whole, -1) + 1
        if whole in counts:
            place.append(counts[whole])
    return place


def spelled(keys: Sequence[Key]) -> str:
    """("thing", 2, "name") as `thing[2].name`."""
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def keys_of(where: str) -> list[Key]:
    """`$.thing[2].name`, as msgspec names a place, as keys."""
    return [int(index) if index else name for name, index in re.findall(r"\.([\w-]+)|\[(\d+)\]", where)]
