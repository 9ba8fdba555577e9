"""Whether durable commits are missing after a start, because a write-ahead log was damaged.

SQLite takes of a WAL what is whole and passes over the rest without a word: a flipped bit looks to it like the end that
a power cut leaves. Two things tell them apart (SQLite's "Database File Format" 4 and "WAL-mode File Format" 2). The
index beside a WAL counts frames only once they are synced, so a count above what a start finds is a loss. And with
`synchronous=FULL` a commit is begun only when the one before it is on the disk, so of several that stand behind the
last good frame all but the last were durable.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

MAX_FRAMES = 1 << 17  # looked at: half a gigabyte, twice what the log lets its WAL grow to

_HEADER = struct.Struct(">IIII8s8s")  # magic, version, page size, number of checkpoints, salts, checksum
_FRAME = struct.Struct(">II8s8x")  # page, size of the database after a commit or else 0, salts; checksum
_INDEX = struct.Struct("=16xI12x8s8x")  # frames, salts; the first of two equal copies
_BACKFILL = struct.Struct("=I")  # behind both: frames that are in the database as well
_MAGIC = 0x377F0682  # the lowest bit: whether checksums are of big-endian words


class Wal(NamedTuple):
    """A WAL as it lies there before its database is opened."""

    durable: int = 0  # frames that its index calls synced
    in_database: int = 0  # of these, the ones that a checkpoint has written back
    commits: tuple[int, ...] = ()  # the frames, counted from 1, that end a commit


class _Index(NamedTuple):
    frames: int
    salts: bytes
    backfilled: int


def look(database: Path) -> Wal:
    """Read the marks of a WAL and its index. To be called before the database is opened."""
    index = _index(database)
    try:
        with _of(database, "-wal").open("rb") as file:
            header = file.read(_HEADER.size)
            salts = _salts(header)
            if not salts and index is not None:  # a damaged header: the index knows which WAL this was
                salts = index.salts
            page_size = _page_size(database)
            commits = []
            for number in range(1, MAX_FRAMES + 1):
                file.seek(_HEADER.size + (number - 1) * (_FRAME.size + page_size))
                frame = file.read(_FRAME.size)
                if len(frame) < _FRAME.size:
                    break
                page, size, of = _FRAME.unpack(frame)
                if page and size and of == salts:
                    commits.append(number)
    except FileNotFoundError:
        salts, commits = (index.salts if index is not None else b""), []
    except OSError:
        return Wal()
    if index is None or index.salts != salts:
        return Wal(commits=tuple(commits))
    return Wal(index.frames, index.backfilled, tuple(commits))


def lost(database: Path, before: Wal) -> int:
    """How many durable commits at least are missing, now that the database is open; 0 where none is known to be."""
    index = _index(database)
    kept = max(index.frames if index is not None else 0, before.in_database)
    behind = [number for number in before.commits if number > kept]
    known = max(1, sum(number <= before.durable for number in behind)) if before.durable > kept else 0
    return max(known, len(behind) - 1)


def frames(database: Path) -> int:
    """Pages in the WAL of an open database that are not in the database yet."""
    index = _index(database)
    return index.frames - index.backfilled if index is not None else 0


def _index(database: Path) -> _Index | None:
    """What the WAL's index says; None where there is none, or it was being written."""
    try:
        content = _of(database, "-shm").read_bytes()
    except OSError:
        return None
    size = _INDEX.size
    if len(content) < 2 * size + _BACKFILL.size or content[:size] != content[size : 2 * size]:
        return None
    frames, salts = _INDEX.unpack(content[:size])
    return _Index(frames, salts, *_BACKFILL.unpack_from(content, 2 * size))


def _salts(header: bytes) -> bytes:
    """The salts in a WAL's header; b"" where it is damaged."""
    if len(header) == _HEADER.size:
        magic, _, _, _, salts, checksum = _HEADER.unpack(header)
        if magic | 1 == _MAGIC | 1 and _checksum(header[:24], big=bool(magic & 1)) == checksum:
            return bytes(salts)
    return b""


def _page_size(database: Path) -> int:
    """Bytes, as the database's own header has them; a WAL has the same."""
    with database.open("rb") as file:
        size = int.from_bytes(file.read(18)[16:], "big")
    return 65_536 if size == 1 else max(size, 512)


def _checksum(content: bytes, *, big: bool) -> bytes:
    """The WAL's own: two running sums over pairs of 32-bit words, written big-endian."""
    first = second = 0
    words = struct.unpack(f"{'>' if big else '<'}{len(content) // 4}I", content)
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return struct.pack(">II", first, second)


def _of(database: Path, suffix: str) -> Path:
    return database.with_name(database.name + suffix)
