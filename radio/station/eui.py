"""The ways in which the Basics Station protocol writes an EUI-64.

ID6 writes it like the tail of an IPv6 address, four groups of 16 bits with `::` for zeros, after an optional kind
("router-aabb:1:203:42ff"). Frames carry eight bytes between dashes. A number is allowed as well. An EUI is eight
bytes here, most significant first.
"""

import re

from radio.station.errors import StationError

_KIND = re.compile(r"^[a-z]+-(?=[0-9a-f:]*:)", re.IGNORECASE)
_PAIRS = re.compile(r"[0-9a-f]{2}([-:])(?:[0-9a-f]{2}\1){6}[0-9a-f]{2}", re.IGNORECASE)
_PLAIN = re.compile(r"[0-9a-f]{16}", re.IGNORECASE)
_GROUP = re.compile(r"[0-9a-f]{1,4}", re.IGNORECASE)
MAX_TEXT = 64  # characters; a kind and 23 characters are the longest sensible


def parse_eui(text: str | int) -> bytes:
    """Read any of the spellings. Raises StationError."""
    if isinstance(text, int):
        if not 0 <= text < 1 << 64:
            raise StationError(f"{text} is no EUI-64")
        return text.to_bytes(8, "big")
    if len(text) <= MAX_TEXT:
        if _PAIRS.fullmatch(text):
            return bytes.fromhex(text.replace(text[2], ""))
        if _PLAIN.fullmatch(text):
            return bytes.fromhex(text)
        groups = _groups(_KIND.sub("", text))
        if groups is not None:
            return b"".join(int(group, 16).to_bytes(2, "big") for group in groups)
    raise StationError(f"{text[:MAX_TEXT]!r} is no EUI-64")


def _groups(text: str) -> list[str] | None:
    """The four groups of an ID6, or None where it is none."""
    head, gap, tail = text.partition("::")
    left = head.split(":") if head else []
    right = tail.split(":") if tail else []
    missing = 4 - len(left) - len(right)
    if missing < 1 if gap else missing:
        return None
    groups = left + ["0"] * missing + right
    return groups if all(_GROUP.fullmatch(group) for group in groups) else None


def id6(eui: bytes) -> str:
    """The ID6 form, such as `::1` or `aabb:1:203:42ff`."""
    a, b, c, d = (f"{eui[i] << 8 | eui[i + 1]:x}" for i in (0, 2, 4, 6))
    if b == c == "0":
        return f"{'' if a == '0' else a}::{d if d != '0' or a == '0' else ''}"
    if a == b == "0":
        return f"::{c}:{d}"
    if c == d == "0":
        return f"{a}:{b}::"
    return f"{a}:{b}:{c}:{d}"


def dashes(eui: bytes) -> str:
    """The form that frames carry, such as `00-00-00-00-00-00-00-01`."""
    return eui.hex("-").upper()
