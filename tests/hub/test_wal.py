"""A damaged write-ahead log: what SQLite drops without a word is counted, and an ordinary end is no loss."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from hub import wal
from hub.database import open_writer

COMMITS = 12
HEADER, FRAME_HEADER = 32, 24

Damage = Callable[[bytearray, int], None]


def life(folder: Path, *, checkpoint_at: int = 0, page_size: int = 2048) -> Path:
    """A database as a killed process leaves it: COMMITS rows, each a durable transaction, none of them closed."""
    folder.mkdir()
    path = folder / "a.db"
    with contextlib.closing(open_writer(path, page_size=page_size)) as conn:
        conn.execute("CREATE TABLE row(number INTEGER PRIMARY KEY, text TEXT)")
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for number in range(1, COMMITS + 1):
            conn.execute("INSERT INTO row VALUES (?, ?)", (number, "x" * 3000))
            if number == checkpoint_at:
                conn.execute("PRAGMA wal_checkpoint(PASSIVE)")
        killed = folder / "killed"
        killed.mkdir()
        for part in folder.glob("a.db*"):
            shutil.copy(part, killed / part.name)
    return killed / "a.db"


def rows_after(path: Path) -> tuple[int, int]:
    """Rows found at the next start, and the losses it tells of."""
    told: list[int] = []
    with contextlib.closing(open_writer(path, on_loss=told.append)) as conn:
        (rows,) = conn.execute("SELECT count(*) FROM row").fetchone()
    return rows, sum(told)


def told_of(path: Path) -> int:
    told: list[int] = []
    with contextlib.closing(open_writer(path, on_loss=told.append)):
        return sum(told)


def damaged(path: Path, damage: Damage) -> None:
    file = path.with_name("a.db-wal")
    content = bytearray(file.read_bytes())
    damage(content, int.from_bytes(content[8:12], "big"))
    file.write_bytes(content)


def flip(at: int) -> Damage:
    def damage(content: bytearray, _page_size: int) -> None:
        content[at % len(content)] ^= 0x10

    return damage


def test_a_killed_process_has_lost_nothing_and_nothing_is_said(tmp_path: Path) -> None:
    for checkpoint_at in (0, 5, COMMITS):
        path = life(tmp_path / str(checkpoint_at), checkpoint_at=checkpoint_at)
        assert rows_after(path) == (COMMITS, 0)


def test_an_orderly_end_and_a_new_database_say_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    for _ in range(2):
        told: list[int] = []
        with contextlib.closing(open_writer(path, on_loss=told.append)) as conn:
            conn.execute("CREATE TABLE IF NOT EXISTS row(number INTEGER PRIMARY KEY)")
        assert told == []


@pytest.mark.parametrize("page_size", [1024, 4096])
@pytest.mark.parametrize("at", [*range(0, 32, 4), *range(40, 52_000, 3_989)])
def test_a_flipped_bit_that_costs_a_commit_is_told_and_no_other(
    tmp_path: Path, at: int, page_size: int
) -> None:
    path = life(tmp_path / "life", page_size=page_size)
    damaged(path, flip(at))
    rows, told = rows_after(path)
    assert told <= COMMITS - rows
    assert bool(told) == (rows < COMMITS)


def test_without_the_index_a_single_commit_behind_the_damage_may_be_a_cut_and_more_are_a_loss(
    tmp_path: Path,
) -> None:
    path = life(tmp_path / "life")
    content = path.with_name("a.db-wal").read_bytes()
    commits = wal.look(path).commits
    size = FRAME_HEADER + int.from_bytes(content[8:12], "big")
    for kept in (COMMITS - 1, COMMITS - 2, 3):
        copy = tmp_path / str(kept)
        shutil.copytree(path.parent, copy)
        (copy / "a.db-shm").unlink()
        damaged(copy / "a.db", flip(HEADER + commits[kept - 1] * size + 100))
        assert rows_after(copy / "a.db") == (kept, COMMITS - kept - 1)


def test_a_wal_that_ends_early_or_is_gone_is_a_loss_by_its_index(tmp_path: Path) -> None:
    for share in (0.0, 0.3, 0.9):
        path = life(tmp_path / str(share))
        file = path.with_name("a.db-wal")
        os.truncate(file, int(file.stat().st_size * share))
        rows, told = rows_after(path)
        assert rows < COMMITS
        assert told
    path = life(tmp_path / "gone")
    path.with_name("a.db-wal").unlink()
    assert told_of(path)
    path = life(tmp_path / "copied", checkpoint_at=COMMITS)  # all of it is in the database
    path.with_name("a.db-wal").unlink()
    assert rows_after(path) == (COMMITS, 0)


def test_the_frames_of_an_earlier_round_are_no_commits_of_this_one(tmp_path: Path) -> None:
    folder = tmp_path / "life"
    folder.mkdir()
    path = folder / "a.db"
    with contextlib.closing(open_writer(path)) as conn:
        conn.execute("CREATE TABLE row(number INTEGER PRIMARY KEY, text TEXT)")
        for number in range(1, COMMITS + 1):
            conn.execute("INSERT INTO row VALUES (?, ?)", (number, "x" * 3000))
        conn.execute("PRAGMA wal_checkpoint(RESTART)")
        # The WAL begins anew and keeps its old frames behind
        conn.execute("INSERT INTO row VALUES (100, '')")
        killed = folder / "killed"
        killed.mkdir()
        for part in folder.glob("a.db*"):
            shutil.copy(part, killed / part.name)
    assert len(wal.look(killed / "a.db").commits) == 1
    assert rows_after(killed / "a.db") == (COMMITS + 1, 0)


def test_a_torn_index_is_not_believed(tmp_path: Path) -> None:
    path = life(tmp_path / "life")
    index = path.with_name("a.db-shm")
    content = bytearray(index.read_bytes())
    struct.pack_into("=I", content, 16, 9_999)
    index.write_bytes(content)
    assert wal.look(path).durable == 0
    assert rows_after(path) == (COMMITS, 0)


def test_the_loss_is_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = life(tmp_path / "life")
    damaged(path, flip(HEADER + 40))
    with caplog.at_level(logging.ERROR):
        rows_after(path)
    assert "a.db-wal was damaged: the newest changes are lost" in caplog.text
