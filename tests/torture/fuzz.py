"""Damaged and hostile inputs by the million: only declared errors escape, nothing hangs, memory and log stay small.

A parser (`Target`) takes bytes and says whether they meant something. A door (`Door`) takes them on live connections
in memory, in one process, and says some turns of its loop later. Inputs are mutations of valid ones (`mutator`); what
is taken as valid joins the pool, so that mutations pile up behind the first checks. After each batch a door must have
answered everything, and must answer a client that does nothing wrong.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import multiprocessing
import signal
import sys
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from gateway.logs import Sparing

from .mutator import Mutator

HANG_S = 1.0  # of CPU
GIVE_UP_S = 20.0  # of CPU, after which an input is taken for one that never ends
STUCK_RINGS = 30  # times GIVE_UP_S in which a batch did not end, whatever CPU the machine has given it
BATCH = 500  # inputs between two looks at memory and tasks
GROUP = 16  # inputs of a door that one turn of its loop brings in
WARM = 0.2  # of the inputs: memory is measured from here on
GROWTH_BYTES = 48 << 20
LINES_A_MINUTE = 400  # twenty kinds, each as often as gateway.logs lets it pass
KEPT = 5  # failing inputs of one job


@dataclass
class Target:
    """A parser. `feed` returns whether the input meant something and raises what must not escape."""

    seeds: Sequence[bytes]
    feed: Callable[[bytes], object]
    words: Sequence[bytes] = ()
    settle: Callable[[], None] | None = None  # after each batch


class Door(ABC):
    """A door behind connections in memory. What goes wrong is put into `problems`."""

    seeds: Sequence[bytes] = ()  # each is taken, alone and first of all
    starts: Sequence[bytes] = ()  # mutated too; the door may rightly refuse them
    words: Sequence[bytes] = ()

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.problems: list[str] = []
        self.taken: Callable[[bytes], None] = lambda _data: None  # told of each input that meant something
        self.hurried = False  # the seeds are through: what is not answered soon is given up

    @abstractmethod
    def feed(self, data: bytes) -> None:
        """Bring one input to a connection. Raises nothing that is not a bug."""

    @abstractmethod
    async def turn(self) -> None:
        """Let the door work; returns when it can take GROUP inputs more."""

    @abstractmethod
    async def settle(self) -> None:
        """Return when nothing is under way, having asked for something valid and looked at what came."""


Opener = Callable[[], AbstractContextManager[Target | Door]]


@dataclass
class Result:
    """One job, or all jobs of a target."""

    target: str
    inputs: int = 0
    valid: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    grown_bytes: int = 0
    log_lines: int = 0  # that would have been written
    log_records: int = 0  # before the flood guard
    problems: list[str] = field(default_factory=list)

    def add(self, other: Result) -> None:
        self.inputs += other.inputs
        self.valid += other.valid
        self.seconds += other.seconds
        self.slowest_s = max(self.slowest_s, other.slowest_s)
        self.grown_bytes = max(self.grown_bytes, other.grown_bytes)
        self.log_lines += other.log_lines
        self.log_records += other.log_records
        self.problems = (self.problems + other.problems)[:20]

    def __str__(self) -> str:
        return (
            f"{self.target}: {self.inputs} inputs, {self.inputs / max(self.seconds, 1e-9):.0f}/s a core, "
            f"{self.valid} valid, slowest {self.slowest_s * 1000:.0f} ms, memory +{self.grown_bytes >> 20} MB, "
            f"{self.log_lines} log lines of {self.log_records}: {len(self.problems) or 'no'} "
            f"problem{'s' if len(self.problems) != 1 else ''}"
        )


class _Counting(logging.Handler):
    """Counts what a gateway's log would hold, and finds tracebacks of our own bugs in it."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.records = self.lines = 0
        self.bugs: list[str] = []
        self._sparing = Sparing()

    def handle(self, record: logging.LogRecord) -> bool:
        self.records += 1
        if record.exc_info and len(self.bugs) < KEPT:
            text = logging.Formatter().formatException(record.exc_info)
            cause = text if len(text) < 3000 else f"{text[:1500]} ... {text[-1500:]}"
            self.bugs.append(f"logged as our bug: {record.getMessage()}: {cause}")
        passed = bool(self._sparing.filter(record))
        self.lines += passed
        return passed


class Hang(BaseException):
    """An input did not end."""


class _Watch:
    """Raises Hang in the main thread where a batch takes GIVE_UP_S of CPU, or waits for what never comes.

    On a busy machine a batch may wait for long without being stuck, so the clock on the wall alone says nothing.
    """

    def __init__(self) -> None:
        self._since_s = 0.0
        self._rings = 0

    def ring(self, _number: int, _frame: FrameType | None) -> None:
        self._rings += 1
        if time.process_time() - self._since_s > GIVE_UP_S or self._rings > STUCK_RINGS:
            self._rings = 0
            raise Hang

    def restart(self) -> None:
        """A new batch begins."""
        self._since_s, self._rings = time.process_time(), 0
        signal.setitimer(signal.ITIMER_REAL, GIVE_UP_S, GIVE_UP_S)


@contextmanager
def _watched() -> Iterator[_Watch]:
    watch = _Watch()
    before = signal.signal(signal.SIGALRM, watch.ring)
    try:
        yield watch
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def resident() -> int:
    """Bytes of memory this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def run(name: str, opener: Opener, count: int, seed: int, minutes: float | None = None) -> Result:
    """Feed `count` inputs to a target in this process."""
    result = Result(name)
    counting = _Counting()
    root = logging.getLogger()
    level = root.level
    root.addHandler(counting)
    root.setLevel(logging.INFO)
    try:
        with opener() as target, _watched() as watch:
            feeding = _Feeding(result, Mutator(_starts(target), target.words, seed), watch, count, minutes)
            if isinstance(target, Door):
                target.loop.run_until_complete(feeding.door(target))
            else:
                feeding.parser(target)
    finally:
        root.removeHandler(counting)
        root.setLevel(level)
    result.log_lines, result.log_records = counting.lines, counting.records
    result.problems += counting.bugs
    if result.log_lines > LINES_A_MINUTE * (1 + result.seconds / 60):
        result.problems.append(f"{result.log_lines} lines of log in {result.seconds:.0f} s")
    return result


def _starts(target: Target | Door) -> list[bytes]:
    return [*target.seeds, *(target.starts if isinstance(target, Door) else ())]


class _Feeding:
    """One job: batch after batch of inputs until there were enough, the time is over or too much was found."""

    def __init__(
        self, result: Result, mutator: Mutator, watch: _Watch, count: int, minutes: float | None
    ) -> None:
        self._result = result
        self._mutator = mutator
        self._watch = watch
        self._count = count
        self._began = time.perf_counter()
        self._deadline = self._began + minutes * 60 if minutes else float("inf")
        self._memory = 0

    def parser(self, target: Target) -> None:
        result = self._result
        for data in target.seeds:  # first of all, valid ones are taken
            if not target.feed(data):
                result.problems.append(f"a valid input is refused: {data[:200]!r}")
        for size in self._batches():
            for _ in range(size):
                data = self._mutator.next()
                started = time.thread_time()
                try:
                    if target.feed(data):
                        result.valid += 1
                        self._mutator.keep(data)
                except Hang:
                    result.problems.append(f"hangs on {shown(data)}")
                except Exception:
                    result.problems.append(f"{shown(data)}: {traceback.format_exc(limit=-4)}")
                self._took(time.thread_time() - started, data)
                result.inputs += 1
            if target.settle is not None:
                target.settle()

    async def door(self, door: Door) -> None:
        taken: set[bytes] = set()
        door.taken = taken.add
        for data in door.seeds:
            door.feed(data)
            await door.turn()
            await door.settle()
            if data not in taken:
                door.problems.append(f"a valid input is refused: {data[:300]!r}")
        door.taken = self._taken
        door.hurried = True
        last: list[bytes] = []
        for size in self._batches():
            try:
                for first in range(0, size, GROUP):
                    last = [self._mutator.next() for _ in range(min(GROUP, size - first))]
                    started = time.thread_time()
                    for data in last:
                        try:
                            door.feed(data)
                        except Exception:
                            door.problems.append(f"{shown(data)}: {traceback.format_exc(limit=-4)}")
                    await door.turn()
                    self._took(time.thread_time() - started, *last)
                    self._result.inputs += len(last)
                await door.settle()
            except Hang:
                self._result.problems.append(f"hangs after {[shown(data) for data in last]}")
                return
            self._result.problems += door.problems
            door.problems.clear()

    def _taken(self, data: bytes) -> None:
        self._result.valid += 1
        self._mutator.keep(data)

    def _took(self, spent_s: float, *inputs: bytes) -> None:
        """CPU of this thread: that other processes keep the machine busy does not count."""
        if spent_s > self._result.slowest_s:
            self._result.slowest_s = spent_s
            if spent_s > HANG_S:
                self._result.problems.append(f"took {spent_s:.1f} s: {[shown(data) for data in inputs]}")

    def _batches(self) -> Iterator[int]:
        """Sizes of batches; memory is looked at between them."""
        result = self._result
        while (
            result.inputs < self._count
            and time.perf_counter() < self._deadline
            and len(result.problems) < KEPT
        ):
            self._watch.restart()
            yield min(BATCH, self._count - result.inputs)
            if not self._memory and result.inputs >= self._count * WARM:
                self._memory = resident()
        result.seconds = time.perf_counter() - self._began
        result.grown_bytes = max(0, resident() - self._memory) if self._memory else 0
        if result.grown_bytes > GROWTH_BYTES:
            result.problems.append(f"memory grew by {result.grown_bytes >> 20} MB")


def shown(data: bytes) -> str:
    """An input for a report; long ones by their digest, with the file they were put in."""
    if len(data) <= 300:
        return data.hex()
    path = Path("/tmp") / f"fluxgate-fuzz-{hashlib.sha256(data).hexdigest()[:12]}"
    path.write_bytes(data)
    return f"{len(data)} bytes in {path}"


def _job(job: tuple[str, int, int, float | None]) -> Result:
    from .fuzz_targets import TARGETS

    name, count, seed, minutes = job
    try:
        return run(name, TARGETS[name], count, seed, minutes)
    except Exception:
        return Result(name, problems=[traceback.format_exc()])


def run_on_all_cores(
    names: Sequence[str],
    count: int,
    seed: int,
    minutes: float | None = None,
    part: int = 100_000,
    processes: int | None = None,
) -> Iterator[Result]:
    """`count` inputs for each target, in parts shared among processes; yields each target when it is done."""
    parts = [
        [
            (name, min(part, count - done), seed * 1_000_003 + n, minutes)
            for n, done in enumerate(range(0, count, part))
        ]
        for name in names
    ]
    # Each target in turn, so that a run that is cut short has seen all of them.
    jobs = [job for row in itertools.zip_longest(*parts) for job in row if job]
    totals = {name: Result(name) for name in names}
    left = {name: sum(job[0] == name for job in jobs) for name in names}
    began = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=20) as pool:
        for result in pool.imap_unordered(_job, jobs):
            total = totals[result.target]
            total.add(result)
            left[result.target] -= 1
            if not left[result.target]:
                yield total
            if minutes is not None and time.monotonic() - began > minutes * 60:
                pool.terminate()
                yield from (totals[name] for name in names if left[name])
                return


def plain(
    seeds: Sequence[bytes], take: Callable[[bytes], object], errors: Any, words: Sequence[bytes]
) -> Opener:
    """A parser that is one function of bytes, with its declared errors."""

    @contextmanager
    def opened() -> Iterator[Target]:
        def feed(data: bytes) -> bool:
            try:
                take(data)
            except errors:
                return False
            return True

        yield Target(seeds, feed, words)

    return opened


def sabotaged(opener: Opener) -> Opener:
    """The control: a parser that lets an error of its own out on one input in some thousands."""

    @contextmanager
    def opened() -> Iterator[Target]:
        with opener() as target:
            assert isinstance(target, Target)
            feed = target.feed

            def careless(data: bytes) -> object:
                if b"\x9d" in data[:40] and len(data) % 8 == 1:
                    raise IndexError("the fault put in on purpose")
                return feed(data)

            target.feed = careless
            yield target

    return opened


if sys.platform != "linux":  # pragma: no cover
    raise ImportError("the harness reads /proc")
