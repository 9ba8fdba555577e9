"""What a call of a codec costs: Cayenne LPP, JavaScript in fresh and kept contexts, JavaScript through the worker.

    python tests/bench/bench_codecs.py [calls]

All in one run on one core's worth of work, so that ratios mean something on a busy machine; CPU time of both processes,
the best of five rounds. The last line is the whole way of an uplink's payload, from bytes to SenML records.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from gateway.codecs import Decoded, get_codec
from gateway.codecs.js.contexts import Contexts, _made
from gateway.codecs.js.worker import CodecWorker, Script
from gateway.codecs.library import Body, ScriptCodec, uplink_input

SOURCE = """
function decodeUplink(input) {
  var b = input.bytes;
  var data = {};
  data.temperature = ((b[0] << 24 >> 16) | b[1]) / 10;
  data.humidity = b[2] / 2;
  data.battery_mV = (b[3] << 8) | b[4];
  data.open = (b[5] & 1) === 1;
  data.counter = (b[6] << 24) | (b[7] << 16) | (b[8] << 8) | b[9];
  data.status = b[10] > 10 ? "high" : "low";
  return { data: data, warnings: [], errors: [] };
}
"""
PAYLOAD = bytes(range(1, 13))
LPP = bytes.fromhex("0167010d02685a0373277404020149")  # four values
TIME = 1_760_000_000.0
BASE = "urn:dev:mac:70b3d57ed0000001:"
ROUNDS = 5
FRESH_SHARE = 100  # of the calls, as each takes a hundred times as long
BATCHES = (1, 16, 256)


def best(what: Callable[[], object], calls: int) -> float:
    """Microseconds of CPU a call."""
    found = []
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(calls):
            what()
        found.append((time.process_time() - start) / calls * 1e6)
    return min(found)


def of_child(pid: int) -> float:
    """CPU seconds of the codec process: user and system, from the scheduler's own account in nanoseconds."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


async def through_worker(calls: int, size: int, records: bool) -> tuple[float, float]:
    """Microseconds of CPU a call, here and in the codec process."""
    worker = CodecWorker()
    script = Script(1, SOURCE)
    codec = ScriptCodec("bench", Body(source=SOURCE), script, worker)
    await worker.loaded(script)
    assert worker.pid is not None
    text = uplink_input(2, PAYLOAD, TIME)
    found = []
    for _ in range(ROUNDS):
        pid = worker.pid
        here, there = time.process_time(), of_child(pid)
        for _ in range(calls // size):
            left = size
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            def answered(result: object, done: asyncio.Future[None] = done) -> None:
                nonlocal left
                assert not isinstance(result, Decoded) or not result.problem, result
                left -= 1
                if not left:
                    done.set_result(None)

            for _ in range(size):
                if records:
                    codec.decode_later(2, PAYLOAD, TIME, BASE, answered)
                else:
                    worker.call(script, "decodeUplink", text, answered)
            await done
        if worker.pid == pid:  # else the machine was so busy that another process had to take over
            spent = time.process_time() - here, of_child(pid) - there
            found.append((spent[0] / calls * 1e6, spent[1] / calls * 1e6))
    worker.close()
    return min(found, key=sum)


def main() -> None:
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    cayenne = get_codec("cayenne")
    lpp = best(lambda: cayenne.decode(1, LPP, TIME, BASE), calls)
    contexts = Contexts()
    contexts.load(1, SOURCE)
    text = '{"ask":"decodeUplink",' + uplink_input(2, PAYLOAD, TIME)[1:]
    source = replace(contexts._sources[1], kept=False, sealed=False)
    fresh = best(lambda: _made(source, 1.0).run(f"[{text}]", False), max(calls // FRESH_SHARE, 20))
    kept = best(lambda: contexts.call(1, text, 1.0), calls)
    print(f"{'':34}{'us a call':>10}{'here':>8}{'there':>8}{'to LPP':>9}{'to fresh':>10}")

    def line(name: str, whole: float, here: str = "", there: str = "") -> None:
        print(f"{name:34}{whole:10.1f}{here:>8}{there:>8}{whole / lpp:8.1f}x{fresh / whole:9.1f}x")

    line("Cayenne LPP, 4 values", lpp)
    line("JavaScript, a context each", fresh)
    line("JavaScript, kept context", kept)
    for size in BATCHES:
        here, there = asyncio.run(through_worker(max(calls, size), size, records=False))
        line(f"through the worker, {size} at once", here + there, f"{here:.1f}", f"{there:.1f}")
    here, there = asyncio.run(through_worker(calls, 256, records=True))
    line("the same, 256, to SenML records", here + there, f"{here:.1f}", f"{there:.1f}")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"memory of the codec process at most {peak:.1f} MB")


if __name__ == "__main__":
    main()
