"""Simulated power cuts over the real hub: what was acknowledged is there after any of them.

A life of a hub with clients is recorded call by call (`cut_victim.py` over the shim). At random points of that trace
the disk is built as it may be after a power cut there (`disk.py`), opened with the real code and compared with
what had been promised until then (`recovery.py`). The next life often goes on from what one of the cuts left.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import pickle
import random
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from hub.hub import Hub

from . import shim
from .cut_victim import open_hub
from .disk import Cut, Disk, Kind, read_trace, write_files
from .promises import Book
from .recovery import Problem, examine
from .zygote import Zygote

CUTS_A_LIFE = 150
CHAIN = 5  # lives on one directory at most
CLIENTS_EVERY = 4  # cuts after which clients come back as well
ALL_MESSAGES = 1_000_000
KEPT = 10  # failing cuts of a run that are kept for a second look


@dataclass
class Findings:
    """What a run has seen."""

    cuts: int = 0
    lives: int = 0
    with_clients: int = 0
    acknowledged: int = 0  # messages acknowledged before the cuts, added up over all of them
    problems: Counter[str] = field(default_factory=Counter)  # cuts by kind of problem
    examples: list[str] = field(default_factory=list)

    def add(self, other: Findings) -> None:
        self.cuts += other.cuts
        self.lives += other.lives
        self.with_clients += other.with_clients
        self.acknowledged += other.acknowledged
        self.problems += other.problems
        self.examples = (self.examples + other.examples)[:20]

    def keep(self, order: dict[str, Any], book: Book, files: dict[str, bytes | bytearray]) -> str:
        """Store one failing cut for `run.py again`; returns its folder, or "" once there are enough."""
        if len(self.examples) >= KEPT:
            return ""
        kept = Path(tempfile.mkdtemp(prefix="fluxgate-cut-"))
        write_files(kept / "disk", files)
        (kept / "book").write_bytes(pickle.dumps((order, book)))
        return f" [{kept}]"

    def report(self, where: str, problems: list[Problem]) -> None:
        for kind in {kind for kind, _ in problems}:
            self.problems[kind] += 1
        if len(self.examples) < 20:
            self.examples += [f"{where}: {kind}: {text}" for kind, text in problems]


def memory_folder() -> Path:
    """A folder in memory, where the machine has one: a cut writes files that live for milliseconds."""
    shared = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="torture-", dir=shared if shared.is_dir() else None))


def order_for(rng: random.Random, synchronous: str = "FULL", *, retention: bool = False) -> dict[str, Any]:
    """How a life goes. Most are on files with small bounds, so that much happens in few calls.

    With `retention` the log keeps few messages: then the oldest are gone without being lost.
    """
    return {
        "seed": rng.getrandbits(32),
        "operations": rng.randint(10, 50),
        "ends": rng.choice(("clean", "crash", "crash")),
        "small": rng.random() < 0.9,
        "retention": retention,
        "max_messages": 150 if retention else ALL_MESSAGES,
        "sync_delay_us": rng.choice((0, 0, 300)),
        "synchronous": synchronous,
    }


def prepare(folder: Path) -> Book:
    """A fresh data directory, and the book of what is in it."""
    book = Book()

    async def make() -> None:
        order = order_for(random.Random(0)) | {"small": True}
        hub: Hub = open_hub(folder, order)
        registry = hub.registry
        channel = registry.create_channel("torture")
        publisher, publisher_key = registry.create_thing("publisher")
        subscriber, subscriber_key = registry.create_thing("subscriber")
        registry.connect([channel.id], [publisher.id, subscriber.id])
        book.channel = channel.id
        book.publisher = (publisher.id, publisher_key)
        book.subscriber = (subscriber.id, subscriber_key)
        await hub.close()

    asyncio.run(make())
    return book


def run(count: int, seed: int, synchronous: str = "FULL", until: str = "") -> Findings:
    """Up to `count` cuts in this process, ended early by a problem of the kind `until`.

    The same seed makes the same orders; what threads do in between keeps two runs from being equal, so that
    failing cuts are kept (`again`).
    """
    rng = random.Random(seed)
    findings = Findings()
    work = memory_folder()
    with (
        Zygote("cut_victim.py", shim.environment()) as zygote,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        try:
            links, retention = CHAIN, False
            base = work / "base"
            book = Book()
            while findings.cuts < count and not findings.problems[until]:
                if links >= CHAIN or rng.random() < 0.2:
                    shutil.rmtree(base, ignore_errors=True)
                    book = prepare(base)
                    links, retention = 0, rng.random() < 0.15
                links += 1
                cuts = min(CUTS_A_LIFE, count - findings.cuts)
                where = f"seed {seed}, life {findings.lives}"
                order = order_for(rng, synchronous, retention=retention)
                book = _one_life(zygote, runner, work, book, order, cuts, rng, findings, where)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return findings


def _one_life(
    zygote: Zygote,
    runner: Any,
    work: Path,
    book: Book,
    order: dict[str, Any],
    cuts: int,
    rng: random.Random,
    findings: Findings,
    where: str,
) -> Book:
    """Record a life on `work/base`, cut it, and leave there what one of the cuts made; returns its book."""
    base, folder, trace = work / "base", work / "live", work / "trace"
    disk = Disk(base)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base, folder)
    trace.unlink(missing_ok=True)
    (work / "book").write_bytes(pickle.dumps(book))
    status = zygote.ask(order | {"folder": str(folder), "trace": str(trace), "book": str(work / "book")})
    findings.lives += 1
    if status:
        findings.report(where, [("life", f"ended with status {status}: {order}")])
    events = read_trace(trace)
    points = sorted(rng.randrange(len(events) + 1) for _ in range(cuts))
    next_at = rng.choice(points)
    next_book, next_files = book, disk.cut(Cut.NOTHING, rng)
    at = 0
    for number, point in enumerate(points):
        for event in events[at:point]:
            if event.kind == Kind.MARK:
                book.apply(event.data.decode())
            elif event.kind != Kind.FAULT:
                disk.apply(event)
        at = point
        manner = rng.choice((Cut.NOTHING, Cut.EVERYTHING, Cut.PREFIX, Cut.SECTORS, Cut.SECTORS))
        files = disk.cut(manner, rng)
        copied: Book = pickle.loads(pickle.dumps(book))
        if point == next_at:
            next_book, next_files = pickle.loads(pickle.dumps(book)), {n: bytes(f) for n, f in files.items()}
        with_clients = number % CLIENTS_EVERY == 0
        shutil.rmtree(folder, ignore_errors=True)
        write_files(folder, files)
        problems = runner.run(examine(folder, copied, order, clients=with_clients))
        findings.cuts += 1
        findings.with_clients += with_clients
        findings.acknowledged += len(book.acknowledged)
        if problems:
            kept = findings.keep(order, book, files) if order["synchronous"] == "FULL" else ""
            findings.report(f"{where}, event {point} of {len(events)}, {manner.value}{kept}", problems)
    shutil.rmtree(base)
    write_files(base, next_files)
    return next_book


def again(kept: Path) -> list[Problem]:
    """Look once more at a failing cut that `Findings.keep` stored."""
    order, book = pickle.loads((kept / "book").read_bytes())
    folder = memory_folder()
    try:
        shutil.copytree(kept / "disk", folder, dirs_exist_ok=True)
        return asyncio.run(examine(folder, book, order, clients=True))
    finally:
        shutil.rmtree(folder)


def run_on_all_cores(count: int, seed: int, minutes: float | None = None) -> Findings:
    """`count` cuts, or as many as fit in `minutes`, shared among processes; each part has a seed of its own."""
    cores = multiprocessing.cpu_count()
    total = Findings()
    began = time.monotonic()
    part = 2000
    jobs = [(min(part, count - done), seed * 1_000_003 + n) for n, done in enumerate(range(0, count, part))]
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        for findings in pool.imap_unordered(_part, jobs):
            total.add(findings)
            spent = time.monotonic() - began
            print(
                f"{total.cuts} cuts, {total.cuts / spent:.0f}/s, problems: {dict(total.problems) or 'none'}",
                flush=True,
            )
            if minutes is not None and spent > minutes * 60:
                pool.terminate()
                break
    return total


def _part(job: tuple[int, int]) -> Findings:
    return run(*job)
