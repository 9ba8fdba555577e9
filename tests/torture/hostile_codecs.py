"""Hostile codecs beside a sound one: how soon each is stopped, what the sound one loses, how much memory it takes.

    python tests/torture/hostile_codecs.py [rounds]

Each round runs every hostile codec once among 500 calls of the sound one, in random order. Printed: the wall time from
the answer before to that of a hostile call (0 where both came in one batch), the longest time without any answer, the
sound calls that were not answered rightly (0), and the most memory that a codec process had. On a busy machine a call
is tried again that was cut short without having had its CPU time, so run this on an idle one. With `control` as second
argument the limits are off in a process of its own, and an endless loop has to be running still after two seconds.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import sys
import time
from functools import partial

from gateway.codecs.js import process, worker
from gateway.codecs.js.worker import CodecWorker, Result, Script, Verdict
from gateway.codecs.library import uplink_input

HOSTILE = {
    "loop": "for (;;);",
    "regex": "/(a+)+$/.test('a'.repeat(40) + 'b')",
    "getter": "return {data: {get a() { for (;;); }}}",
    "proxy": "return {data: new Proxy({}, {ownKeys() { for (;;); }})}",
    "toJSON": "return {data: {toJSON() { for (;;); }}}",
    "join": "new Array(1e8).join('abc')",
    "join in a try": "try { for (;;) new Array(1e8).join('abc') } finally { return {data: 1} }",
    "fill": "return {data: Array(1e7).fill(1)}",
    "repeat": "return {data: 'x'.repeat(1e9)}",
    "pad": "return {data: 'x'.padEnd(1 << 29)}",
    "buffer": "return {data: new Uint8Array(1e9)}",
    "memory": "var a = []; for (;;) a.push(new Array(1000))",
    "sort": "return {data: Array.from({length: 1e5}, () => Math.random()).sort(() => Math.random() - 0.5)}",
    "recursion": "(function f() { f(); })()",
    "answer": "return {data: 'x'.repeat(1e7)}",
    "promises": "(function f() { Promise.resolve().then(f); f(); })()",
}
SOUND = "function decodeUplink(i) { return {data: {n: i.bytes[0]}}; }"
SOUND_CALLS = 500
CONTROL_BOOT = (
    "import gateway.codecs.js.child as c, gateway.codecs.js.contexts as k; c.GRACE_S = 600; made = k._made;"
    "k._made = lambda s, l: (lambda x: (x.context.set_time_limit(600), x)[1])(made(s, l))"
)


async def main(rounds: int) -> None:
    rng = random.Random(1)
    codecs = CodecWorker()
    numbers = iter(range(1, 1 << 30))
    sound = Script(next(numbers), SOUND)
    walls: dict[str, list[float]] = {name: [] for name in HOSTILE}
    wrong = served = 0
    longest = 0.0  # between two answers, whosever the second is: answers come in batches
    last = time.monotonic()  # the previous answer: then the next call was the oldest

    for _ in range(rounds):
        order: list[str] = [*HOSTILE, *[""] * SOUND_CALLS]
        rng.shuffle(order)
        left = len(order)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def answered(result: Result, name: str, wanted: int, done: asyncio.Future[None] = done) -> None:
            nonlocal left, wrong, served, last, longest
            now = time.monotonic()
            longest = max(longest, now - last)
            if name:
                walls[name].append(now - last)
            else:
                served += 1
                good = result.verdict is Verdict.DONE and json.loads(result.text)["r"]["data"] == {
                    "n": wanted
                }
                wrong += not good
            last = now
            left -= 1
            if not left:
                done.set_result(None)

        last = time.monotonic()
        for name in order:
            wanted = rng.randrange(256)
            body = f"function decodeUplink(i) {{ {HOSTILE[name]} }}" if name else ""
            script = Script(next(numbers), body) if name else sound
            codecs.call(
                script,
                "decodeUplink",
                uplink_input(1, bytes([wanted]), 1.76e9),
                partial(answered, name=name, wanted=wanted),
            )
        await done
    codecs.close()
    for name, found in walls.items():
        print(
            f"{name:16}{max(found) * 1000:8.0f} ms at most {sorted(found)[len(found) // 2] * 1000:8.0f} ms as a rule"
        )
    print(f"longest time without an answer: {longest * 1000:.0f} ms")
    print(f"{served} calls of the sound codec, {wrong} not answered rightly; {codecs.counters}")
    print(
        f"memory of a process at most {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.1f} MB"
    )


async def control() -> None:
    process._BOOT = process._BOOT.replace("; main()", f"; {CONTROL_BOOT}; main()")
    worker.PATIENCE_S = 600.0
    codecs = CodecWorker()
    script = Script(1, f"function decodeUplink(i) {{ {HOSTILE['loop']} }}")
    call = asyncio.ensure_future(codecs.ask(script, "decodeUplink", uplink_input(1, b"", 1.76e9)))
    done, _ = await asyncio.wait([call], timeout=2.0)
    codecs.close()
    await call
    print("the control was stopped: something else ends it" if done else "the control ran on, as it should")
    sys.exit(bool(done))


if __name__ == "__main__":
    asyncio.run(control() if sys.argv[2:] == ["control"] else main(int(sys.argv[1]) if sys.argv[1:] else 5))
