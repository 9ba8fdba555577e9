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
from collections.abc import Sequence

from gateway.codecs.js import confine
from gateway.codecs.js.contexts import LOAD_S, Contexts, Refused, Spent, Stopped
from gateway.codecs.js.wire import PROGRESS, Frame, Kind, Reader, pack

IN, OUT, SHARED = 0, 1, 3  # descriptors
GRACE_S = 0.05  # wall time beyond a call's limit of CPU time, until the timer ends the process
READ = 1 << 16
MAX_BATCH = 64  # calls
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
    serve(contexts, shared)


def serve(contexts: Contexts, shared: mmap.mmap) -> None:
    """Answer what comes until there is no more."""
    reader = Reader()
    while data := os.read(IN, READ):
        answers = bytearray()
        flushed_ns = time.monotonic_ns()
        frames = reader.feed(data)
        at = 0
        while at < len(frames):
            size = _batch(frames, at)
            answers += _answered(contexts, frames[at : at + size], shared)
            at += size
            if len(answers) > FLUSH_BYTES or time.monotonic_ns() - flushed_ns > FLUSH_NS:
                signal.setitimer(signal.ITIMER_REAL, 0)
                _write(answers)
                answers.clear()
                flushed_ns = time.monotonic_ns()
        signal.setitimer(signal.ITIMER_REAL, 0)
        PROGRESS.pack_into(shared, 0, 0, time.process_time_ns(), 0)
        _write(answers)


def _batch(frames: Sequence[Frame], at: int) -> int:
    """How many frames from `at` on are calls of one codec that may share an entry into the engine."""
    first = frames[at]
    end = at + 1
    if first.kind == Kind.QUICK:
        while end < min(len(frames), at + MAX_BATCH):
            frame = frames[end]
            if frame.kind != Kind.QUICK or frame.codec != first.codec:
                break
            end += 1
    return end - at


def _answered(contexts: Contexts, frames: Sequence[Frame], shared: mmap.mmap) -> bytes:
    """The frames that answer these: one call, or a batch of one codec."""
    first = frames[0]
    limit_s = LOAD_S if first.kind == Kind.LOAD else first.number / 1000
    signal.setitimer(signal.ITIMER_REAL, limit_s + GRACE_S)
    start_ns = time.process_time_ns()
    PROGRESS.pack_into(shared, 0, first.id, start_ns, len(frames))
    if len(frames) > 1:
        try:
            texts = contexts.calls(first.codec, [frame.text for frame in frames], limit_s)
        except (Refused, Stopped, Spent):  # of one of them: each for itself
            return b"".join(_answered(contexts, [frame], shared) for frame in frames)
        took_us = (time.process_time_ns() - start_ns) // 1000 // len(frames)
        return b"".join(
            pack(Kind.ANSWER, frame.id, frame.codec, took_us, text)
            for frame, text in zip(frames, texts, strict=True)
        )
    kind, text = _answer(contexts, first, limit_s)
    took_us = (time.process_time_ns() - start_ns) // 1000
    return pack(kind, first.id, first.codec, min(took_us, 0xFFFFFFFF), text)


def _answer(contexts: Contexts, frame: Frame, limit_s: float) -> tuple[Kind, str]:
    try:
        if frame.kind == Kind.LOAD:
            return Kind.LOADED, contexts.load(frame.codec, frame.text)
        return Kind.ANSWER, contexts.call(frame.codec, frame.text, limit_s, frame.kind == Kind.BENCH)
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
    contexts.call(0, '{"ask":"decodeUplink","bytes":[]}', 60.0)
    contexts.forget(0)
    return (time.process_time_ns() - start_ns) // 1000


def _write(data: bytes | bytearray) -> None:
    """All of it: the pipe takes less at a time where the gateway is slow to read."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(OUT, rest) :]


if __name__ == "__main__":
    main()
