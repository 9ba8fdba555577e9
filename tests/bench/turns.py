"""Servers that are compared: each a child process that stores what it accepts, measured in turns under the same load.

A server prints one line of JSON when it listens, and {"stored": n} after a line on its standard input. Needs nothing
but the standard library: servers may run in an environment of their own.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SENML = json.dumps(
    [
        {"bn": "urn:dev:mac:0004a30b001c0530:", "n": "temperature", "u": "Cel", "v": 21.5},
        {"n": "humidity", "u": "%RH", "v": 44},
        {"n": "battery", "u": "V", "v": 3.61},
        {"n": "open", "vb": False},
    ]
).encode()

Load = Callable[
    [float], tuple[list[float], float]
]  # for so many seconds: latencies, and the seconds they took


@dataclass(frozen=True)
class Run:
    accepted: int
    seconds: float
    cpu_s: float
    p50_ms: float
    p99_ms: float

    @property
    def rate(self) -> float:
        return self.accepted / self.seconds


def say(what: dict[str, object]) -> None:
    """A server's line to whoever measures it."""
    print(json.dumps(what), flush=True)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(kind: str, command: Sequence[str], load_on: Callable[[Any], Load], seconds: float) -> Run:
    """Start `command --directory D`, load what its first line names for `seconds`, and count what it has stored."""
    with tempfile.TemporaryDirectory(prefix="fluxgate-bench-") as directory:
        child = subprocess.Popen(
            [*command, "--directory", directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            load = load_on(json.loads(child.stdout.readline()))
            warm, _ = load(0.5)
            cpu = cpu_seconds(child.pid)
            latencies, elapsed = load(seconds)
            cpu = cpu_seconds(child.pid) - cpu
            child.stdin.write("stop\n")
            child.stdin.flush()
            stored = json.loads(child.stdout.readline())["stored"]
        finally:
            child.stdin.close()
            child.terminate()
            child.wait(timeout=20)
            child.stdout.close()
    if stored != len(warm) + len(latencies):
        raise SystemExit(f"{kind}: {len(warm) + len(latencies)} messages acknowledged, {stored} stored")
    latencies.sort()
    return Run(
        accepted=len(latencies),
        seconds=elapsed,
        cpu_s=cpu,
        p50_ms=latencies[len(latencies) // 2] * 1e3,
        p99_ms=latencies[int(len(latencies) * 0.99)] * 1e3,
    )


def compare(kinds: Sequence[str], rounds: int, measure: Callable[[str], Run], unit: str) -> None:
    """All kinds in turn, `rounds` times, then medians and how many times as fast the first is as each."""
    runs: dict[str, list[Run]] = {kind: [] for kind in kinds}
    for number in range(1, rounds + 1):
        for kind in kinds:
            run = measure(kind)
            runs[kind].append(run)
            print(
                f"round {number}  {kind:9} {run.rate:8.0f} {unit}/s   p50 {run.p50_ms:6.2f} ms   "
                f"p99 {run.p99_ms:7.2f} ms   server CPU {run.cpu_s / run.accepted * 1e6:6.1f} us/{unit}   "
                "stored = acknowledged",
                flush=True,
            )
    print()
    first = kinds[0]
    for kind in kinds:
        rates = [run.rate for run in runs[kind]]
        ratios = [ours.rate / theirs.rate for ours, theirs in zip(runs[first], runs[kind], strict=True)]
        print(
            f"{kind:9} median {statistics.median(rates):8.0f} {unit}/s ({min(rates):.0f} to {max(rates):.0f});"
            f" {first} / {kind}: median {statistics.median(ratios):5.1f}x"
        )
