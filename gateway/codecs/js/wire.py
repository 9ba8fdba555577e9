"""Frames between the gateway and its codec process, the same both ways: a length, a kind, numbers, text.

`length u32, kind u8, id u64, codec u32, number u32`, little-endian, then UTF-8 text; `length` counts what follows it.
"""

from __future__ import annotations

import enum
from struct import Struct
from typing import NamedTuple

HEAD = Struct("<IBQII")
_AFTER_LENGTH = HEAD.size - 4
MAX_FRAME = 1 << 20  # the longest source, and answers with their log, are well below

PROGRESS = Struct("<QQQ")  # shared memory: the call under way, CPU nanoseconds at its start, calls from it on


class Kind(enum.IntEnum):
    """To the child: LOAD, CALL, BENCH, QUICK. From it: READY, LOADED, ANSWER, STOPPED, SPENT."""

    LOAD = 1  # text: source; `codec` is the number it gets
    CALL = 2  # text: the input as JSON, with what to ask in "ask"; `number`: milliseconds of CPU it may take
    BENCH = 3  # as CALL, and the log is wanted
    QUICK = 4  # as CALL, of a codec that is known to be quick: several may share the limit
    READY = 16  # text: what holds the process in; `number`: microseconds that the measuring loop took
    LOADED = 17  # text: JSON {"functions", "kept"} or {"fault", "line"}; `number`: microseconds of CPU
    ANSWER = 18  # text: JSON of prelude.js; `number`: microseconds of CPU
    STOPPED = 19  # as ANSWER: the time was up
    SPENT = 20  # as ANSWER: the memory was


class WireError(Exception):
    """The other side sent what is no frame."""


class Frame(NamedTuple):
    kind: int
    id: int
    codec: int
    number: int
    text: str


def pack(kind: int, id_: int, codec: int, number: int, text: str) -> bytes:
    """One frame. A lone surrogate becomes "?"."""
    body = text.encode("utf-8", "replace")
    return HEAD.pack(_AFTER_LENGTH + len(body), kind, id_, codec, number) + body


class Reader:
    """Frames out of bytes as they come."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """What is complete now. Raises WireError; after that the stream has no meaning any more."""
        buffer = self._buffer
        buffer += data
        frames = []
        at = 0
        while len(buffer) - at >= HEAD.size:
            length, kind, id_, codec, number = HEAD.unpack_from(buffer, at)
            if not _AFTER_LENGTH <= length <= MAX_FRAME:
                raise WireError(f"a frame of {length} bytes")
            end = at + 4 + length
            if end > len(buffer):
                break
            try:
                text = str(memoryview(buffer)[at + HEAD.size : end], "utf-8")
            except UnicodeDecodeError:
                raise WireError("text that is not UTF-8") from None
            frames.append(Frame(kind, id_, codec, number, text))
            at = end
        del buffer[:at]
        return frames
