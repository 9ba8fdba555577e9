"""Every call to the disk failing once and for ever: what was acknowledged is durable, the next start is clean.

A life of the hub (`cut_victim.py`) runs over the shim, which makes the n-th write, sync, truncate, open, rename or
unlink fail. Afterwards the disk is built three times, without and with what the failed call may have left behind, and
looked at as after a power cut (`recovery.py`). A life may end by itself, refuse, or go on; it must not hang, and it
must not acknowledge what is not there.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import pickle
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import shim
from .cut_victim import REFUSED
from .cuts import ALL_MESSAGES, memory_folder, prepare
from .disk import Cut, Disk, Event, Kind, read_trace, write_files
from .promises import Book
from .recovery import Problem, examine
from .shim import Call
from .zygote import Zygote

ERRORS = {Call.WRITE: (errno.EIO, errno.ENOSPC, errno.EROFS), Call.SYNC: (errno.EIO, errno.ENOSPC)}
OTHER_ERRORS = (errno.EIO, errno.ENOSPC, errno.EROFS)
KINDS = (Call.WRITE, Call.SYNC, Call.TRUNCATE, Call.OPEN, Call.RENAME, Call.UNLINK)
OPERATIONS = 12


@dataclass
class Findings:
    """What a run has seen."""

    faults: int = 0
    met: int = 0  # the call came, and failed
    ended: Counter[str] = field(default_factory=Counter)  # lives by how they ended
    by_call: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        calls = ", ".join(f"{name} {count}" for name, count in sorted(self.by_call.items()))
        ends = ", ".join(f"{count} {name}" for name, count in sorted(self.ended.items()))
        return (
            f"{self.faults} faults ({calls}), {self.met} met; lives: {ends}: "
            f"{len(self.problems) or 'no'} problem{'s' if len(self.problems) != 1 else ''}"
        )


Life = tuple[int, Disk, Book, list[Event]]  # exit status, the disk at the end, the book, what was called


class _Bench:
    """One prepared directory on which lives with faults are run."""

    def __init__(self, zygote: Zygote, work: Path) -> None:
        self._zygote, self._work = zygote, work
        self._base = work / "base"
        self._book = prepare(self._base)

    def life(self, fault: dict[str, Any], *, early: bool) -> Life:
        folder, trace, work = self._work / "live", self._work / "trace", self._work
        disk = Disk(self._base)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._base, folder)
        trace.unlink(missing_ok=True)
        (work / "book").write_bytes(pickle.dumps(self._book))
        order = {
            **order_of(fault),
            "early": early,
            "folder": str(folder),
            "trace": str(trace),
            "book": str(work / "book"),
        }
        status = self._zygote.ask(order)
        book: Book = pickle.loads(pickle.dumps(self._book))
        events = read_trace(trace)
        for event in events:
            if event.kind == Kind.MARK:
                book.apply(event.data.decode())
            elif event.kind != Kind.FAULT:
                disk.apply(event)
        return status, disk, book, events

    def failing(self, fault: dict[str, Any], *, early: bool) -> tuple[dict[str, Any], Life]:
        """A life in which the call comes that is to fail, and which one that was.

        How many calls a life makes depends on how many messages share a commit, which a busy machine decides: where
        this one has made fewer than the one that was counted, an earlier call fails in another.
        """
        while True:
            life = self.life(fault, early=early)
            if fault["at"] == 1 or any(event.kind == Kind.FAULT for event in life[3]):
                return fault, life
            fault = fault | {"at": (fault["at"] + 1) // 2}

    def counts(self) -> dict[tuple[str, Call], int]:
        """How often each call comes in a life without a fault, from its two beginnings."""
        found = {}
        for moment in ("open", "load"):
            for call in KINDS:
                fault = {
                    "from": moment,
                    "calls": int(call),
                    "at": 0,
                    "error": 0,
                    "forever": False,
                    "partial": False,
                }
                _, _, _, events = self.life(fault, early=False)
                marks = [event.data.decode() for event in events if event.kind == Kind.MARK]
                found[moment, call] = int(marks[-1].split()[1])
        return found


def order_of(fault: dict[str, Any]) -> dict[str, Any]:
    return {
        "seed": 5,
        "operations": OPERATIONS,
        "ends": "clean",
        "small": True,
        "retention": False,
        "max_messages": ALL_MESSAGES,
        "synchronous": "FULL",
        "fault": fault,
    }


def _faults(counts: dict[tuple[str, Call], int]) -> Iterator[dict[str, Any]]:
    for (moment, call), count in counts.items():
        for error in ERRORS.get(call, OTHER_ERRORS):
            for forever in (False, True):
                for partial in (False, True) if call is Call.WRITE else (False,):
                    for at in range(1, count + 1):
                        yield {
                            "from": moment,
                            "calls": int(call),
                            "at": at,
                            "error": error,
                            "forever": forever,
                            "partial": partial,
                        }


def _mixed(faults: Iterator[dict[str, Any]], rng: random.Random) -> list[dict[str, Any]]:
    """All of them by chance, but every kind of call early: there are a hundred writes for one rename."""
    kinds: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for fault in faults:
        kinds.setdefault((fault["from"], fault["calls"]), []).append(fault)
    for group in kinds.values():
        rng.shuffle(group)
    return [fault for row in itertools.zip_longest(*kinds.values()) for fault in row if fault]


def run(
    count: int | None, seed: int, *, early: bool = False, minutes: float | None = None, say: Any = None
) -> Findings:
    """Every fault once, or `count` of them by chance; a control ends where it has found something lost."""
    findings = Findings()
    work = memory_folder()
    began = time.monotonic()
    rng = random.Random(seed)
    try:
        with Zygote("cut_victim.py", shim.environment()) as zygote:
            bench = _Bench(zygote, work)
            faults = _mixed(_faults(bench.counts()), rng)
            for fault in faults[:count]:
                if minutes is not None and time.monotonic() - began > minutes * 60:
                    break
                if early and any("lost" in problem for problem in findings.problems):
                    break
                _one(bench, fault, findings, work, rng, early=early)
                if say and findings.faults % 200 == 0:
                    say(str(findings))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return findings


def _one(
    bench: _Bench, fault: dict[str, Any], findings: Findings, work: Path, rng: random.Random, *, early: bool
) -> None:
    fault, (status, disk, book, events) = bench.failing(fault, early=early)
    name = (Call(fault["calls"]).name or "").lower()
    where = (
        f"{name} {fault['at']} from {fault['from']} fails with {errno.errorcode[fault['error']]}"
        f"{' for ever' if fault['forever'] else ''}{', half written' if fault['partial'] else ''}"
    )
    findings.faults += 1
    findings.by_call[name] += 1
    findings.met += any(event.kind == Kind.FAULT for event in events)
    findings.ended[{0: "in peace", REFUSED: "refusing"}.get(status, f"with status {status}")] += 1
    if status not in (0, REFUSED):
        findings.problems.append(f"{where}: the life ended with status {status}")
    for cut in (Cut.EVERYTHING, Cut.NOTHING, Cut.SECTORS):
        folder = work / "after"
        shutil.rmtree(folder, ignore_errors=True)
        write_files(folder, disk.cut(cut, rng))
        copied: Book = pickle.loads(pickle.dumps(book))
        found: list[Problem] = asyncio.run(
            examine(folder, copied, order_of(fault), clients=cut is Cut.EVERYTHING)
        )
        findings.problems += [f"{where}; then {cut.value}: {kind}: {text}" for kind, text in found]
