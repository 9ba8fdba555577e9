"""How long what is open outlives the right to it: each way a right can end, on each door, in one run.

    python tests/bench/bench_revocation.py [--rounds 20] [--listeners 0]

A hub with all its doors and its listeners share this process. In each round a listener opens on each door, hears one
message, and the right is taken away in a thread, as a request would; the time runs from there to the end that the
listener sees: its connection closed, its stream over, its observation refused. The change itself, which is durable, is
part of it. `--listeners` other things are connected over MQTT meanwhile, whose rights are asked again too.

The largest time of all is the figure to hold against the second that is promised.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

from tests.attacks.conftest import open_site  # noqa: E402
from tests.attacks.live import DOORS, WAYS, Mqtt, Subject  # noqa: E402

Times = dict[tuple[str, str, str], list[float]]


async def one(s: Any, name: str, way: str, kind: str, doors: tuple[str, ...], times: Times) -> None:
    """One right taken away, with a listener on each door."""
    subject = Subject.new(s, name)
    credential = subject.credential(kind)
    listeners = {door: DOORS[door]() for door in doors}
    for each in listeners.values():
        await each.open(s, credential, subject.channel)
    await subject.publish()
    for each in listeners.values():
        await each.hears(1)
    began = time.monotonic()
    await asyncio.to_thread(subject.revoke, way, credential)
    for door, each in listeners.items():
        await asyncio.wait_for(each.over.wait(), 30)
        times[way, kind, door].append(each.over_s - began)
    for each in listeners.values():
        await each.close()
    if "thing" not in way:
        s.hub.registry.remove_thing(subject.thing_id)
    if way != "user removed":
        s.hub.registry.remove_user(subject.user_id)


async def bystanders(s: Any, count: int) -> list[Mqtt]:
    """Others who listen meanwhile."""
    found = []
    for number in range(count):
        subject = Subject.new(s, f"bystander-{number}")
        listener = Mqtt()
        await listener.open(s, subject.credential("thing key"), subject.channel)
        found.append(listener)
    return found


async def measure(rounds: int, listeners: int) -> Times:
    times: Times = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        async with open_site(Path(folder)) as s:
            others = await bystanders(s, listeners)
            for number in range(rounds):
                for index, (way, kind, doors) in enumerate(WAYS):
                    await one(s, f"field-{number}-{index}", way, kind, doors, times)
            assert not any(each.over.is_set() for each in others), "somebody lost more than was taken away"
            for each in others:
                await each.close()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--listeners", type=int, default=0)
    asked = parser.parse_args()
    logging.disable(logging.WARNING)  # each end is one
    times = asyncio.run(measure(asked.rounds, asked.listeners))
    print(f"ms from the request to the end, {asked.rounds} rounds, {asked.listeners} others connected")
    print(f"{'right':<18}{'shown':<16}" + "".join(f"{door:>16}" for door in DOORS))
    for way, kind, doors in WAYS:
        cells = []
        for door in DOORS:
            found = times[way, kind, door] if door in doors else []
            cells.append(f"{statistics.median(found) * 1e3:7.1f}/{max(found) * 1e3:6.1f}" if found else "")
        print(f"{way:<18}{kind:<16}" + "".join(f"{cell:>16}" for cell in cells))
    for door in DOORS:
        whole = sorted(t for (_, _, at), found in times.items() if at == door for t in found)
        middle, largest = statistics.median(whole) * 1e3, whole[-1] * 1e3
        print(f"{door:<5} median {middle:.1f} ms, largest {largest:.1f} ms of {len(whole)}")
    largest = max(t for found in times.values() for t in found) * 1e3
    print(f"largest of all: {largest:.1f} ms (cells: median/largest)")


if __name__ == "__main__":
    main()
