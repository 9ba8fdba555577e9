"""The codec process: reads calls from its standard input, answers on its standard output, and holds nothing else.

One thread, one call at a time. A timer of the kernel ends the process where a call does not end by itself: some
loops inside the engine never look at its own limit. What it was doing stands in memory shared with the gateway.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import time

from gateway.codecs.js import confine
from gateway.codecs.js.contexts import LOAD_S, Contexts, Refused, Spent, Stopped
from gateway.codecs.js.wire import PROGRESS, Frame, Kind, Reader, pack

IN, OUT, SHARED = 0, 1, 3  # descriptors
GRACE_S = 0.05  # wall time beyond a call's limit of CPU time, until the timer ends the process
READ = 1 << 16
FLUSH_BYTES = 1 << 16
FLUSH_NS = 20_000_000  # answers wait no longer for the rest of their batch


def main() -> None:
    """Serve until the input ends."""
    shared = mmap.mmap(SHARED, PROGRESS.size)
    os.close(SHARED)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    contexts = Contexts()
    speed_us = _speed(contexts)
    holds = confine.enter()
    _write(pack(Kind.READY, 0, 0, speed_us, "\n".join(holds)))
    reader = Reader()
    begun = 0
    while data := os.read(IN, READ):
        answers = bytearray()
        flushed_ns = time.monotonic_ns()
        for frame in reader.feed(data):
            begun += 1
            limit_s = LOAD_S if frame.kind == Kind.LOAD else frame.number / 1000
            signal.setitimer(signal.ITIMER_REAL, limit_s + GRACE_S)
            start_ns = time.process_time_ns()
            PROGRESS.pack_into(shared, 0, frame.id, start_ns, begun)
            kind, text = _answer(contexts, frame, limit_s)
            took_us = (time.process_time_ns() - start_ns) // 1000
            answers += pack(kind, frame.id, frame.codec, min(took_us, 0xFFFFFFFF), text)
            if len(answers) > FLUSH_BYTES or time.monotonic_ns() - flushed_ns > FLUSH_NS:
                signal.setitimer(signal.ITIMER_REAL, 0)
                _write(answers)
                answers.clear()
                flushed_ns = time.monotonic_ns()
        signal.setitimer(signal.ITIMER_REAL, 0)
        PROGRESS.pack_into(shared, 0, 0, time.process_time_ns(), begun)
        _write(answers)


def _answer(contexts: Contexts, frame: Frame, limit_s: float) -> tuple[Kind, str]:
    try:
        if frame.kind == Kind.LOAD:
            return Kind.LOADED, contexts.load(frame.codec, frame.text)
        ask, _, text = frame.text.partition(" ")
        return Kind.ANSWER, contexts.call(frame.codec, ask, text, limit_s, frame.kind == Kind.BENCH)
    except Refused as error:
        kind = Kind.LOADED if frame.kind == Kind.LOAD else Kind.ANSWER
        return kind, json.dumps({"r": {"fault": error.words, "line": error.line}})
    except Stopped:
        return Kind.STOPPED, ""
    except Spent:
        return Kind.SPENT, ""


def _speed(contexts: Contexts) -> int:
    """Microseconds of CPU for a fixed piece of work: about 3,000 on a desktop machine, far more on a small one."""
    contexts.load(
        0,
        "function decodeUplink() { var n = 0; for (var i = 0; i < 100000; i++) n += i % 7; return {data: n}; }",
    )
    start_ns = time.process_time_ns()
    contexts.call(0, "decodeUplink", '{"bytes":[]}', 60.0)
    contexts.forget(0)
    return (time.process_time_ns() - start_ns) // 1000


def _write(data: bytes | bytearray) -> None:
    """All of it: the pipe takes less at a time where the gateway is slow to read."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(OUT, rest) :]


if __name__ == "__main__":
    main()
