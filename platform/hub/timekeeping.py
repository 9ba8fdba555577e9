"""Wall time on a machine without a clock of its own: noticing that it was set, and correcting what came before.

A Raspberry Pi starts with a wrong time and learns the right one later, if ever. Messages are stamped with what
the clock said then, with the boot they belong to and how far that time could be trusted. When the clock is set,
the size of the step is known exactly, because the monotonic clock went on meanwhile: a `Correction` says by how
much the untrusted stamps of that boot were wrong. Stored messages are never rewritten; `corrected` applies the
corrections on reading. A boot whose clock was never set stays marked as it is.

Pure: both clocks are arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from .message import Message, TimeQuality

# Wall and monotonic clock run at one rate on Linux, slewing included; what differs is a step. Half a step this
# long goes unnoticed until the clock is synchronised, and is then part of that correction.
STEP_NS: Final = 100_000_000

TRUSTED: Final = frozenset({TimeQuality.GNSS, TimeQuality.NTP})


@dataclass(frozen=True, slots=True)
class Correction:
    """The wall clock of `boot` was set by `offset_ns` after message `up_to_seq` had got its number.

    Add `offset_ns` to the time of that boot's messages up to there, as long as their time is not trusted;
    they then have `quality`. Corrections of one boot apply one after the other, in the order they were made,
    until the time is trusted: steps add up, and a step after a synchronisation leaves what came before it.
    """

    boot: str
    up_to_seq: int
    offset_ns: int  # positive: the clock was late
    quality: TimeQuality  # of the clock after the step


@dataclass(frozen=True, slots=True)
class KeptClock:
    """What the last process knew of the clock: how a restart within one boot, or the next boot, goes on."""

    boot: str
    offset_ns: int  # wall minus monotonic, of the wall time that messages were stamped with
    quality: TimeQuality
    wall_ns: int  # the latest time seen


class ClockWatch:
    """Notices that the wall clock was set: wall minus monotonic changes by a step, or becomes trusted."""

    __slots__ = ("_offset_ns", "_trusted")

    def __init__(self, offset_ns: int | None = None, quality: TimeQuality = TimeQuality.UNSET) -> None:
        """`offset_ns` and `quality`: what an earlier process of this boot found; None for a new boot."""
        self._offset_ns = offset_ns
        self._trusted = quality in TRUSTED

    def observe(self, mono_ns: int, wall_ns: int, quality: TimeQuality) -> int | None:
        """By how many ns the wall clock was set since the last answer; None where nothing is to be told.

        Told are a step of more than STEP_NS either way, and the moment the clock becomes trusted, also where
        it turns out to have been right (0).
        """
        offset = wall_ns - mono_ns
        if self._offset_ns is None:
            self._offset_ns = offset
            self._trusted = quality in TRUSTED
            return None
        step = offset - self._offset_ns
        trusted = quality in TRUSTED
        if -STEP_NS <= step <= STEP_NS and (self._trusted or not trusted):
            self._trusted = trusted
            return None
        self._offset_ns = offset
        self._trusted = trusted
        return step


def shift(
    boot: str, seq: int, quality: TimeQuality, corrections: Iterable[Correction]
) -> tuple[int, TimeQuality]:
    """What to add to the time of message `seq` of `boot`, in ns, and the quality it then has."""
    offset = 0
    for correction in corrections:
        if quality in TRUSTED:
            break
        if correction.boot == boot and seq <= correction.up_to_seq:
            offset += correction.offset_ns
            quality = correction.quality
    return offset, quality


def corrected(message: Message, corrections: Sequence[Correction]) -> Message:
    """`message` with the time it should have been stamped with; itself where no correction applies."""
    if message.time in TRUSTED or not corrections:
        return message
    offset, quality = shift(message.boot, message.seq, message.time, corrections)
    if not offset and quality is message.time:
        return message
    return msgspec.structs.replace(message, created_ns=message.created_ns + offset, time=quality)


def merged(corrections: Sequence[Correction], new: Correction) -> list[Correction]:
    """`corrections` and `new`, as one where no message lies between the last and the new one.

    Only untrusted steps merge: a trusted one ends the chain for what came before it.
    """
    last = corrections[-1] if corrections else None
    if last and last.boot == new.boot and last.up_to_seq == new.up_to_seq and last.quality not in TRUSTED:
        one = Correction(new.boot, new.up_to_seq, last.offset_ns + new.offset_ns, new.quality)
        return [*corrections[:-1], one]
    return [*corrections, new]
