"""Damaged and hostile inputs by the million: only declared errors escape, nothing hangs, memory and log stay small.

A target (`fuzz_targets.py`) takes bytes and says whether they meant something. Inputs are mutations of valid ones:
bits and bytes changed, pieces dropped, doubled, exchanged and spliced, lengths nudged, words of the protocol put in.
What is taken as valid joins the pool, so that mutations pile up behind the first checks.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import multiprocessing
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from gateway.logs import Sparing

HANG_S = 1.0  # of CPU
GIVE_UP_S = 20.0  # after which an input is taken for one that never ends
POOL = 512  # inputs that mutations start from
MAX_INPUT = 2048  # bytes; longer ones only cost time
BATCH = 500  # inputs between two looks at memory and tasks
WARM = 0.2  # of the inputs: memory is measured from here on
GROWTH_BYTES = 48 << 20
LINES_PER_KIND = 20  # and minute, as gateway.logs lets pass
KEPT = 5  # failing inputs of one job

INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF, 0x20, 0x30, 0x2F, 0x7B, 0x22)


@dataclass
class Target:
    """What is fed. `feed` returns whether the input meant something and raises what must not escape."""

    seeds: Sequence[bytes]
    feed: Callable[[bytes], object]
    words: Sequence[bytes] = ()
    settle: Callable[[], None] | None = None  # after each batch


Opener = Callable[[], AbstractContextManager[Target]]


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


class Mutator:
    """Makes inputs; the same seed and the same answers of the target make the same ones."""

    def __init__(self, target: Target, seed: int) -> None:
        self._rng = random.Random(seed)
        self._pool = list(target.seeds)
        self._first = len(self._pool)
        self._words = tuple(target.words) or (b"\x00",)

    def next(self) -> bytes:
        rng = self._rng
        data = bytearray(rng.choice(self._pool))
        for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
            _MUTATIONS[rng.randrange(len(_MUTATIONS))](data, rng, self)
        return bytes(data[:MAX_INPUT])

    def keep(self, data: bytes) -> None:
        """An input that was taken: start from it, too. The given ones stay."""
        if len(self._pool) < POOL:
            self._pool.append(data)
        elif self._rng.random() < 0.1:
            self._pool[self._rng.randrange(self._first, POOL)] = data

    def other(self) -> bytes:
        return self._rng.choice(self._pool)

    def word(self) -> bytes:
        return self._rng.choice(self._words)


def _flip(data: bytearray, rng: random.Random, _mutator: Mutator) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set(data: bytearray, rng: random.Random, _mutator: Mutator) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice(INTERESTING)


def _nudge(data: bytearray, rng: random.Random, _mutator: Mutator) -> None:
    """A length, a count or a number, off by little."""
    if data:
        at = rng.randrange(min(len(data), 16)) if rng.random() < 0.5 else rng.randrange(len(data))
        data[at] = (data[at] + rng.choice((-2, -1, 1, 2, 16, 64))) & 0xFF


def _drop(data: bytearray, rng: random.Random, _mutator: Mutator) -> None:
    if data:
        at = rng.randrange(len(data))
        del data[at : at + rng.choice((1, 1, 2, 4, 16))]


def _double(data: bytearray, rng: random.Random, _mutator: Mutator) -> None:
    if data:
        at = rng.randrange(len(data))
        piece = data[at : at + rng.choice((1, 2, 8, 32))]
        data[at:at] = piece * rng.choice((1, 1, 2, 20))


def _cut(data: bytearray, rng: random.Random, _mutator: Mutator) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _splice(data: bytearray, rng: random.Random, mutator: Mutator) -> None:
    other = mutator.other()
    data[rng.randrange(len(data) + 1) :] = other[rng.randrange(len(other) + 1) :]


def _follow(data: bytearray, _rng: random.Random, mutator: Mutator) -> None:
    data += mutator.other()


def _word(data: bytearray, rng: random.Random, mutator: Mutator) -> None:
    at = rng.randrange(len(data) + 1)
    word = mutator.word()
    data[at : at + (len(word) if rng.random() < 0.5 else 0)] = word


def _noise(data: bytearray, rng: random.Random, _mutator: Mutator) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.randbytes(rng.choice((1, 2, 4, 9)))


_MUTATIONS = (
    _flip,
    _flip,
    _set,
    _set,
    _nudge,
    _nudge,
    _drop,
    _double,
    _cut,
    _splice,
    _follow,
    _word,
    _word,
    _noise,
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
            self.bugs.append(f"logged as our bug: {record.getMessage()}: {text[-600:]}")
        passed = bool(self._sparing.filter(record))
        self.lines += passed
        return passed


class Hang(BaseException):
    """An input did not end."""


@contextmanager
def _watched() -> Iterator[Callable[[], None]]:
    """The returned function starts the clock anew; when it runs out, Hang is raised in the main thread."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    try:
        yield lambda: signal.setitimer(signal.ITIMER_REAL, GIVE_UP_S) and None
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
        with opener() as target, _watched() as restart:
            _feed(target, result, count, seed, minutes, restart)
    finally:
        root.removeHandler(counting)
        root.setLevel(level)
    result.log_lines, result.log_records = counting.lines, counting.records
    result.problems += counting.bugs
    return result


def _feed(
    target: Target, result: Result, count: int, seed: int, minutes: float | None, restart: Callable[[], None]
) -> None:
    mutator = Mutator(target, seed)
    for data in target.seeds:  # first of all, valid ones are taken
        if not target.feed(data):
            result.problems.append(f"a valid input is refused: {data[:200]!r}")
    began = time.perf_counter()
    deadline = began + minutes * 60 if minutes else float("inf")
    memory = 0
    clock = time.perf_counter
    spent_by = time.thread_time  # of this thread alone: other processes of a busy machine do not count
    while result.inputs < count and clock() < deadline and len(result.problems) < KEPT:
        restart()
        for _ in range(min(BATCH, count - result.inputs)):
            data = mutator.next()
            started = spent_by()
            try:
                if target.feed(data):
                    result.valid += 1
                    mutator.keep(data)
            except Hang:
                result.problems.append(f"hangs on {_shown(data)}")
            except Exception:
                result.problems.append(f"{_shown(data)}: {traceback.format_exc(limit=-4)}")
            spent = spent_by() - started
            result.inputs += 1
            if spent > result.slowest_s:
                result.slowest_s = spent
                if spent > HANG_S:
                    result.problems.append(f"took {spent:.1f} s: {_shown(data)}")
        if target.settle:
            target.settle()
        if not memory and result.inputs >= count * WARM:
            memory = resident()
    result.seconds = clock() - began
    result.grown_bytes = max(0, resident() - memory) if memory else 0
    if result.grown_bytes > GROWTH_BYTES:
        result.problems.append(f"memory grew by {result.grown_bytes >> 20} MB")


def _shown(data: bytes) -> str:
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
    names: Sequence[str], count: int, seed: int, minutes: float | None = None, part: int = 100_000
) -> Iterator[Result]:
    """`count` inputs for each target, in parts shared among processes; yields each target when it is done."""
    from .fuzz_targets import SLOW

    parts = []
    for name in names:
        size = part // 20 if name in SLOW else part
        parts.append(
            [
                (name, min(size, count - done), seed * 1_000_003 + n, minutes)
                for n, done in enumerate(range(0, count, size))
            ]
        )
    # Each target in turn, so that a run that is cut short has seen all of them.
    jobs = [job for row in itertools.zip_longest(*parts) for job in row if job]
    totals = {name: Result(name) for name in names}
    left = {name: sum(job[0] == name for job in jobs) for name in names}
    began = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(maxtasksperchild=20) as pool:
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


def sabotaged(opener: Opener) -> Opener:
    """The control: a target that lets an error of its own out on one input in some thousands."""

    @contextmanager
    def opened() -> Iterator[Target]:
        with opener() as target:
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
