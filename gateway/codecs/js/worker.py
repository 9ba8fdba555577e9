"""Calls of JavaScript codecs, on their way to a process that can be killed and back.

Calls are answered in the order in which they were made. They go out in batches: what gathers while one batch is being
worked on is the next. A process that dies takes nothing with it: the call it died of is blamed if it had used up its
CPU time, and tried again if not; all others go to the next process. None runs while there is nothing to call.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import os
import signal
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count

import msgspec

from gateway.codecs.js.limits import CEILING_S, Strikes, TimeLimit, guilty_s
from gateway.codecs.js.process import READ, Ending, Process, Unavailable
from gateway.codecs.js.wire import Frame, Kind, Reader, WireError, pack

log = logging.getLogger(__name__)

MAX_IN_FLIGHT = 256  # calls handed to the process
MAX_WAITING = 8_192  # calls of all kinds; frames are bounded before, in gateway.turns
PATIENCE_S = 0.28  # without an answer, then the process is killed: it missed its own, shorter limit
START_S = 15.0  # for the process to come up on a machine that is busy
START_TRIES = 3  # in a row, then the calls that wait are answered and the next start waits
KILLED_STARTS = 12  # the same of processes that were killed from outside, say for want of memory
START_AGAIN_S = 10.0
TRIES = 4  # of a call whose process died and that is not to blame
IDLE_S = 900.0  # without a call, then the process is let go
RECYCLE_CALLS, RECYCLE_SOURCES = 500_000, 200  # then a fresh process takes over


class Verdict(enum.Enum):
    DONE = enum.auto()  # `text` is the answer, perhaps that the codec threw
    STOPPED = enum.auto()  # had to be: time, memory, or it broke the process
    LOST = enum.auto()  # not the codec's fault


class Result(msgspec.Struct, frozen=True, gc=False):
    """What came of a call. `words` where it was not done; `seconds` of CPU."""

    verdict: Verdict
    text: str = ""
    words: str = ""
    seconds: float = 0.0


@dataclass(slots=True, eq=False)
class Script:
    """A version of a codec's source. Its number is never used for another."""

    number: int
    source: str
    limit: TimeLimit = field(default_factory=TimeLimit)
    strikes: Strikes = field(default_factory=Strikes)


@dataclass(slots=True, eq=False)
class _Call:
    script: Script
    kind: Kind
    text: str
    done: Callable[[Result], None]
    limit_s: float = CEILING_S
    again: bool = False  # its process died, perhaps of it: it goes alone from now on
    tries: int = 0
    spent_s: float = 0.0  # CPU time of tries that were cut short


@dataclass(slots=True)
class WorkerCounters:
    """Since the start of the gateway."""

    calls: int = 0
    started: int = 0  # processes
    killed: int = 0  # because of a codec
    died: int = 0  # for another reason
    stopped: int = 0  # calls ended at their limit of time or memory, the process went on
    refused: int = 0  # calls that found no room


class CodecWorker:
    """All methods belong to the event loop."""

    def __init__(self) -> None:
        self.counters = WorkerCounters()
        self.holds: list[str] = []  # what confines the process, in words; empty before the first start
        self.work_s = 0.0  # CPU time of the measuring loop: how slow this machine is
        self._waiting: deque[_Call] = deque()
        self._sent: dict[int, _Call] = {}  # by id, in order
        self._ids = count(1)
        self._process: Process | None = None
        self._ready = False
        self._reader = Reader()
        self._unwritten = bytearray()
        self._loaded: set[int] = set()
        self._served = 0  # calls of this process
        self._failed_starts = 0.0  # 1: enough
        self._not_before_s = 0.0  # loop time
        self._watch: asyncio.TimerHandle | None = None
        self._last_sign_s = 0.0  # loop time
        self._pumping = False
        self._drained: asyncio.Future[None] | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return self._process.pid if self._process else None

    @property
    def waiting(self) -> int:
        """Calls without an answer."""
        return len(self._waiting) + len(self._sent)

    def call(
        self, script: Script, ask: str, text: str, done: Callable[[Result], None], *, bench: bool = False
    ) -> None:
        """Ask `script` for `ask` (a TS013 name) with the input `text` (JSON); `done` comes later, in order of calls."""
        kind = Kind.BENCH if bench else Kind.CALL
        self._take(_Call(script, kind, f'{{"ask":"{ask}",{text[1:]}', done))

    def load(self, script: Script, done: Callable[[Result], None]) -> None:
        """Only evaluate the source."""
        self._take(_Call(script, Kind.LOAD, script.source, done))

    async def ask(self, script: Script, ask: str, text: str, *, bench: bool = False) -> Result:
        """As `call`, for whoever can wait."""
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.call(script, ask, text, partial(_set, answer), bench=bench)
        return await answer

    async def loaded(self, script: Script) -> Result:
        """As `load`, for whoever can wait."""
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.load(script, partial(_set, answer))
        return await answer

    async def drained(self) -> None:
        """Return when every call has been answered."""
        while self.waiting:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def close(self) -> None:
        """End the process; calls without an answer are lost, and told so."""
        self._closed = True
        self._let_go()
        self._answer_all("the gateway is ending")

    # Calls

    def _take(self, call: _Call) -> None:
        self.counters.calls += 1
        if self._closed or self.waiting >= MAX_WAITING:
            self.counters.refused += 1
            call.done(Result(Verdict.LOST, words="too many calls wait for the codecs"))
            return
        self._waiting.append(call)
        if not self._pumping:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        """Hand on what waits: the end of a turn of the loop, or of a batch."""
        self._pumping = False
        if self._closed or not self._waiting:
            return
        if not self._sent and (self._served >= RECYCLE_CALLS or len(self._loaded) >= RECYCLE_SOURCES):
            self._let_go()
        if self._process is None:
            self._start()
        elif self._ready and len(self._sent) <= MAX_IN_FLIGHT // 2:
            while self._waiting and len(self._sent) < MAX_IN_FLIGHT:
                self._send(self._waiting.popleft())
            self._write()

    def _send(self, call: _Call) -> None:
        script = call.script
        id_ = next(self._ids)
        if call.kind is not Kind.LOAD and script.number not in self._loaded:
            # Under the call's own number: what goes wrong in it is the call's.
            self._unwritten += pack(Kind.LOAD, id_, script.number, 0, script.source)
        self._loaded.add(script.number)
        call.limit_s = CEILING_S if call.kind is Kind.LOAD else script.limit.limit_s(self.work_s)
        if not self._sent:
            self._signed()
            self._watch_in(PATIENCE_S)
        self._sent[id_] = call
        self._served += 1
        kind = call.kind
        if (
            kind is Kind.CALL
            and not call.again
            and not script.strikes.count
            and script.limit.quick(call.limit_s)
        ):
            kind = Kind.QUICK
        self._unwritten += pack(kind, id_, script.number, round(call.limit_s * 1000), call.text)

    def _write(self) -> None:
        process = self._process
        if process is None or not self._unwritten:
            return
        loop = asyncio.get_running_loop()
        try:
            del self._unwritten[: os.write(process.input, self._unwritten)]
        except BlockingIOError:
            pass
        except OSError:
            return  # it is dying: its output will end, which is where that is dealt with
        if self._unwritten:
            loop.add_writer(process.input, self._write)
        else:
            loop.remove_writer(process.input)

    # Answers

    def _readable(self) -> None:
        assert self._process is not None
        try:
            data = os.read(self._process.output, READ)
        except BlockingIOError:
            return
        if not data:
            self._ended()
            return
        self._signed()
        try:
            frames = self._reader.feed(data)
        except WireError as error:
            log.error("the codec process sent %s and is ended", error)
            self._ended()
            return
        for frame in frames:
            self._answered(frame)
        self._pump()
        self._tell_drained()

    def _tell_drained(self) -> None:
        if self._drained is not None and not self.waiting:
            if not self._drained.done():
                self._drained.set_result(None)
            self._drained = None

    def _answered(self, frame: Frame) -> None:
        if frame.kind == Kind.READY:
            self._ready, self._failed_starts = True, 0.0
            self.work_s, self.holds = frame.number / 1e6, frame.text.splitlines()
            return
        call = self._sent.get(frame.id)
        if call is None or (frame.kind == Kind.LOADED and call.kind is not Kind.LOAD):
            return  # a source loaded on the way; what is wrong with it the call will say
        del self._sent[frame.id]
        script, seconds = call.script, frame.number / 1e6
        if frame.kind in (Kind.ANSWER, Kind.LOADED):
            if frame.kind == Kind.ANSWER:
                script.limit.took(seconds)
                script.strikes.good()
            call.done(Result(Verdict.DONE, frame.text, seconds=seconds))
            return
        words = f"it ran longer than {call.limit_s * 1000:.0f} ms"
        if frame.kind == Kind.SPENT:
            words = "it used up the memory a codec may have (8 MiB)"
        self.counters.stopped += 1
        self._loaded.discard(script.number)  # perhaps it was stopped while it was loaded
        script.strikes.strike(words)
        call.done(Result(Verdict.STOPPED, words=f"stopped: {words}", seconds=seconds))

    # The process

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() < self._not_before_s:
            self._answer_all("the codec process does not start; it is tried again soon")
            return
        try:
            self._process = Process()
        except (Unavailable, OSError) as error:
            log.error("the codec process cannot be started: %s", error)
            self._answer_all(f"the codec process cannot be started: {error}")
            return
        self.counters.started += 1
        self._ready, self._served = False, 0
        self._reader, self._loaded = Reader(), set()
        self._unwritten.clear()
        loop.add_reader(self._process.output, self._readable)
        self._signed()
        self._watch_in(START_S)

    def _watch_in(self, seconds: float) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watch = asyncio.get_running_loop().call_later(seconds, self._look)

    def _signed(self) -> None:
        """The process has shown that it works, or begins to."""
        self._last_sign_s = asyncio.get_running_loop().time()

    def _look(self) -> None:
        """Kill a process that is silent for too long; let one go that nobody needs."""
        self._watch = None
        process = self._process
        if process is None:
            return
        silent_s = asyncio.get_running_loop().time() - self._last_sign_s
        patience_s = START_S if not self._ready else PATIENCE_S if self._sent else IDLE_S
        if silent_s < patience_s:
            self._watch_in(patience_s - silent_s + 0.001)
        elif self._ready and not self._sent:
            self._let_go()
        else:
            process.kill()  # its output ends now

    def _let_go(self) -> Ending | None:
        process, self._process = self._process, None
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if process is None:
            return None
        with contextlib.suppress(RuntimeError):  # the loop has ended before us
            loop = asyncio.get_running_loop()
            loop.remove_reader(process.output)
            loop.remove_writer(process.input)
        return process.end()

    def _ended(self) -> None:
        """Its output is at its end: find out whose fault that was, and go on with another process."""
        was_ready = self._ready
        ending = self._let_go()
        assert ending is not None
        left = list(self._sent.items())
        self._sent.clear()
        again = []
        for id_, call in left:
            call.again = True
            if id_ != ending.call or ending.calls > 1 or self._tried_again(call, ending):
                again.append(call)
        self._waiting.extendleft(reversed(again))
        if not was_ready:
            self._failed_starts += 1 / KILLED_STARTS if ending.signal else 1 / START_TRIES
            log.error("the codec process ended before it was ready (%s)", _how(ending))
            if self._failed_starts > 0.99:
                self._not_before_s = asyncio.get_running_loop().time() + START_AGAIN_S
                self._failed_starts = 0.0
                self._answer_all(f"the codec process does not start ({_how(ending)})")
                return
        if self._waiting:
            self._pump()
        self._tell_drained()

    def _tried_again(self, call: _Call, ending: Ending) -> bool:
        """Whether `call`, of which its process died, deserves another try; if not, it is answered."""
        timed = ending.signal in (signal.SIGALRM, signal.SIGKILL)
        call.spent_s += ending.cpu_s
        if timed and call.spent_s >= guilty_s(call.limit_s, self.work_s):
            words = f"it ran for {call.spent_s * 1000:.0f} ms and did not end"
        else:
            call.tries += 1
            self.counters.died += 1
            if call.tries < TRIES:
                return True
            if timed:
                call.done(Result(Verdict.LOST, words="this machine is too busy to run it"))
                return False
            words = f"its process died of it ({_how(ending)})"
        self.counters.killed += 1
        call.script.strikes.strike(words)
        call.done(Result(Verdict.STOPPED, words=f"stopped: {words}", seconds=ending.cpu_s))
        return False

    def _answer_all(self, words: str) -> None:
        calls = [*self._sent.values(), *self._waiting]
        self._sent.clear()
        self._waiting.clear()
        for call in calls:
            call.done(Result(Verdict.LOST, words=words))
        self._tell_drained()


def _set(answer: asyncio.Future[Result], result: Result) -> None:
    if not answer.done():  # whoever waited was perhaps cancelled
        answer.set_result(result)


def _how(ending: Ending) -> str:
    return f"signal {ending.signal}" if ending.signal else f"exit code {ending.code}"
