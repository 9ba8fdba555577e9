"""Power cuts at random points, in short; `python tests/torture/run.py cuts` is the long run."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator

import pytest
from torture import cuts
from torture.disk import Cut, Disk, Event, Kind


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """The control damages files on purpose; what the hub logs about them is not the test's."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_no_power_cut_loses_doubles_or_damages_anything_acknowledged() -> None:
    findings = cuts.run(300, seed=1)
    assert findings.examples == []
    assert findings.cuts == 300
    assert findings.with_clients >= 70
    assert findings.acknowledged > 3000


def test_control_without_waiting_for_the_disk_acknowledged_messages_are_lost() -> None:
    findings = cuts.run(1500, seed=2, synchronous="NORMAL", until="lost")
    assert findings.problems["lost"]
    assert not findings.problems["corrupt"]


def test_a_disk_keeps_what_was_synced_and_any_part_of_what_was_not() -> None:
    """The simulator itself: two sectors, the first synced, then both written again."""
    disk = Disk()
    for event in (
        Event(Kind.CREATE, 1, 0, b"file"),
        Event(Kind.WRITE, 1, 0, b"a" * 512),
        Event(Kind.SYNC, 1, 0, b""),
        Event(Kind.SYNCDIR, 0, 0, b""),
        Event(Kind.WRITE, 1, 0, b"b" * 1024),
        Event(Kind.RENAME, 0, 0, b"file\0other"),
    ):
        disk.apply(event)
    rng = random.Random(1)
    assert disk.cut(Cut.NOTHING, rng) == {"file": b"a" * 512}
    assert disk.cut(Cut.EVERYTHING, rng) == {"other": b"b" * 1024}
    seen = {bytes(content) for _ in range(300) for content in disk.cut(Cut.SECTORS, rng).values()}
    assert {b"a" * 512, b"b" * 512, b"a" * 512 + b"b" * 512, b"b" * 1024, b"a" * 512 + bytes(512)} <= seen
    assert any(0 < content[:512].count(b"b") < 512 for content in seen)  # torn
    names = {name for _ in range(50) for name in disk.cut(Cut.SECTORS, rng)}
    assert names == {"file", "other"}


def test_a_name_is_only_safe_once_its_folder_is_synced() -> None:
    disk = Disk()
    disk.apply(Event(Kind.CREATE, 1, 0, b"file"))
    disk.apply(Event(Kind.WRITE, 1, 0, b"content"))
    disk.apply(Event(Kind.SYNC, 1, 0, b""))
    assert disk.cut(Cut.NOTHING, random.Random(1)) == {}
    disk.apply(Event(Kind.SYNCDIR, 0, 0, b""))
    assert disk.cut(Cut.NOTHING, random.Random(1)) == {"file": b"content"}
