"""What becomes of the records that compaction takes from the tail: sorted, parted by clock, cut to chunks.

Pure. In: pieces of the tail. Out: columns, ascending by time, each for one chunk.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from .history_chunks import Values
from .history_tail import Piece
from .timekeeping import Correction

CHUNK_POINTS: Final = 512  # records of a chunk
SHORT_SHARE: Final = 0.25  # of them: less than that more is no chunk of its own
CHUNK_BYTES: Final = 64 << 10  # of text and data in a chunk, unless one value alone is longer


def turn(boot: int, seq: int, corrections: Sequence[Correction], boots: Mapping[str, int]) -> int:
    """How many corrections of its clock come before message `seq`: a chunk never lies on both sides of one."""
    if not boot:
        return 0
    return sum(
        1 for correction in corrections if boots.get(correction.boot) == boot and correction.up_to_seq < seq
    )


def groups(
    piece: Piece, corrections: Sequence[Correction], boots: Mapping[str, int]
) -> Iterator[tuple[int, int, array[float], Values, int]]:
    """Records of one clock between two of its corrections, by time: boot, turn, times, values, last message."""
    if piece.boots is None or not any(piece.boots):
        times, values = in_order(piece.times, piece.values)
        yield 0, 0, times, values, piece.seqs[-1]
        return
    edges = sorted({correction.up_to_seq for correction in corrections})
    members: dict[tuple[int, int], list[int]] = {}
    for index, boot in enumerate(piece.boots):
        side = bisect_left(edges, piece.seqs[index]) if boot else 0
        members.setdefault((boot, side), []).append(index)
    for (boot, _), indexes in members.items():
        group_times = array("d", [piece.times[index] for index in indexes])
        picked = [piece.values[index] for index in indexes]
        group_values: Values = array("d", picked) if isinstance(piece.values, array) else picked
        last_seq = piece.seqs[indexes[-1]]
        times, values = in_order(group_times, group_values)
        yield boot, turn(boot, last_seq, corrections, boots), times, values, last_seq


def in_order(times: array[float], values: Values) -> tuple[array[float], Values]:
    """Both by time; equal times stay in the order of arrival. Values that are all numbers become an array."""
    if isinstance(values, list) and all(type(value) is float for value in values):
        values = array("d", values)
    arrived = times.tolist()
    ascending = sorted(arrived)
    if ascending == arrived:  # the same objects, which are not compared by their values
        return times, values
    order = sorted(range(len(times)), key=arrived.__getitem__)
    picked = [values[index] for index in order]
    return array("d", ascending), array("d", picked) if isinstance(values, array) else picked


def joined(old: Values, new: Values) -> Values:
    if isinstance(old, array) and isinstance(new, array):
        return old + new
    return [*old, *new]


def parts(times: array[float], values: Values) -> Iterator[tuple[array[float], Values]]:
    """Full chunks, and the rest in one that the next records of the series can join; a short rest joins the last."""
    edges = [*range(0, len(times), CHUNK_POINTS), len(times)]
    if len(edges) > 2 and edges[-1] - edges[-2] < CHUNK_POINTS * SHORT_SHARE:
        del edges[-2]
    if isinstance(values, list):
        edges = _cut_by_size(values, edges)
    for start, end in pairwise(edges):
        part = values[start:end]
        if isinstance(part, list) and all(type(value) is float for value in part):
            part = array("d", part)
        yield times[start:end], part


def _cut_by_size(values: list[Any], edges: list[int]) -> list[int]:
    """More edges, where text and data are long."""
    cuts = {0, *edges}
    size = 0
    for index, value in enumerate(values):
        if index in cuts:
            size = 0
        part = (
            value[-1] if isinstance(value, tuple) or (isinstance(value, list) and len(value) == 2) else value
        )
        part = value[0] if isinstance(value, list) and len(value) == 3 else part
        length = len(part) if isinstance(part, str | bytes) else 8
        if size and size + length > CHUNK_BYTES:
            cuts.add(index)
            size = 0
        size += length
    return sorted(cuts)
