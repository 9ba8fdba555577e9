"""The audit log's chain: what a line says, the keyed hash that ties it to the one before, and the check of them all.

Pure. Each line's hash is an HMAC, under a key of the gateway, of the line and of the hash before it: whoever edits,
inserts, removes or moves lines without that key cannot make the chain whole again. What was removed for its age is
anchored: the hash of the last removed line is kept, under an HMAC of its own. The head, kept outside the file as
well, says where the chain must at least reach, so lines missing at the end are noticed too.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

MAX_BREAKS = 20  # places that a check names; one is enough to distrust the file
START = b"\0" * 32  # what comes before the first line


class Line(msgspec.Struct, frozen=True):
    """Something that was decided or changed."""

    n: int  # from 1, without holes
    time_ns: int  # UTC by the gateway's clock
    quality: str  # of that time: gnss ntp restored unset
    boot: str  # id of the machine's boot
    kind: str
    outcome: str  # allowed refused done
    who: str = ""  # users/<id>, things/<id>, or what somebody called himself who could not prove it
    address: str = ""  # where it came from
    door: str = ""
    resource: str = ""
    detail: str = ""
    count: int = 1  # more than 1: so many equal refusals within a minute, time_ns that of the last


class Link(NamedTuple):
    """A line as it is kept: with the hash before it and its own."""

    line: Line
    before: bytes
    hash: bytes


class Mark(NamedTuple):
    """A place in the chain, under an HMAC: the head, or the last line that was removed for its age."""

    n: int
    hash: bytes
    seal: bytes


class Break(msgspec.Struct, frozen=True):
    """Where the chain does not hold."""

    line: int
    words: str


class Verdict(msgspec.Struct, frozen=True):
    """What a check of the whole file found."""

    intact: bool
    lines: int
    first: int  # number of the first line there is; 0 where there is none
    last: int
    removed: int  # lines that went for their age, up to this number
    head: str  # hash of the last line, in hex: noted elsewhere it proves this state later
    breaks: list[Break]


def line_hash(key: bytes, before: bytes, line: Line) -> bytes:
    """The hash of a line that follows one with the hash `before`."""
    return hmac.digest(key, before + msgspec.json.encode(msgspec.structs.astuple(line)), "sha256")


def mark(key: bytes, purpose: str, n: int, at: bytes) -> Mark:
    """The place as it is written down for `purpose`."""
    return Mark(n, at, _seal(key, purpose, n, at))


def is_ours(key: bytes, purpose: str, place: Mark) -> bool:
    """Whether this gateway made the mark, for this purpose."""
    return hmac.compare_digest(place.seal, _seal(key, purpose, place.n, place.hash))


def check(key: bytes, links: Iterable[Link], anchor: Mark | None, head: Mark | None) -> Verdict:
    """Walk the chain from the anchor to its end and hold it against the head. Links come in the order of numbers."""
    breaks: list[Break] = []

    def broken(at: int, words: str) -> None:
        if len(breaks) < MAX_BREAKS:
            breaks.append(Break(at, words))

    n, before, removed = 0, START, 0
    if anchor is not None:
        if is_ours(key, "anchor", anchor):
            n, before, removed = anchor.n, anchor.hash, anchor.n
        else:
            broken(anchor.n, "the mark of what was removed for its age is not the gateway's")
    first = count = 0
    at_head: bytes | None = before if head is not None and head.n == n else None
    for link in links:
        line = link.line
        first, count = first or line.n, count + 1
        if line.n != n + 1:
            broken(line.n, _missing(n + 1, line.n - 1))
        elif link.before != before:
            broken(line.n, f"line {line.n} does not follow the line before it")
        if not hmac.compare_digest(link.hash, line_hash(key, link.before, line)):
            broken(line.n, f"line {line.n} was changed, or is of another gateway")
        n, before = line.n, link.hash
        if head is not None and head.n == n:
            at_head = before
    if head is None:
        if n:
            broken(n, "the mark of the chain's end, kept beside the file, is gone")
    elif not is_ours(key, "head", head):
        broken(n, "the mark of the chain's end, kept beside the file, is not the gateway's")
    elif head.n > n:
        broken(n, _missing(n + 1, head.n))
    elif at_head != head.hash:
        broken(head.n, f"line {head.n} is not the one that was written")
    return Verdict(not breaks, count, first, n, removed, before.hex(), breaks)


def _missing(first: int, last: int) -> str:
    if last < first:
        return f"line {last + 1} stands where line {first} should"
    return f"line {first} is missing" if first == last else f"lines {first} to {last} are missing"


def _seal(key: bytes, purpose: str, n: int, at: bytes) -> bytes:
    return hmac.digest(key, b"%b\0%d\0%b" % (purpose.encode(), n, at), "sha256")
