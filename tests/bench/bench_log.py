"""How fast the durable log takes messages, against one plain commit a message, in one run.

    python tests/bench/bench_log.py [--messages 20000] [--rounds 3] [--folder DIR]

Each figure is the median of the rounds, which are interleaved; after each round the rows found in the file are
compared with the messages sent. "plain" is what one writes first: a text row and a commit with synchronous=FULL for
each message. CPU is of the whole process, the writer thread included.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "platform"))

from hub.log import Log
from hub.message import SENML_JSON, Message

CHANNEL = "6f2a1d52-6f2c-4b6a-a5a1-0a3d4be1c001"
THING = "6f2a1d52-6f2c-4b6a-a5a1-0a3d4be1c002"
PACK = (
    b'[{"bn":"urn:dev:mac:0011223344556677:","bt":1700000000,"n":"temperature","u":"Cel","v":21.5},'
    b'{"n":"humidity","u":"%RH","v":48},{"n":"battery","u":"V","v":3.61},{"n":"rssi","u":"dBm","v":-97}]'
)

Case = Callable[[Path, int], Coroutine[Any, Any, int]]  # folder, messages: rows found afterwards


def message(n: int) -> Message:
    return Message(CHANNEL, "", THING, "lora", SENML_JSON, PACK, 1_700_000_000_000_000_000 + n)


async def plain(folder: Path, count: int) -> int:
    """A text row and a commit for each message."""
    conn = sqlite3.connect(folder / "plain.db", isolation_level=None)
    conn.execute("PRAGMA journal_mode = WAL")
    conn.execute("PRAGMA synchronous = FULL")
    conn.execute(
        "CREATE TABLE messages(id INTEGER PRIMARY KEY, channel TEXT, subtopic TEXT, publisher TEXT, protocol TEXT, "
        "content_type TEXT, payload BLOB, created INTEGER)"
    )
    for n in range(count):
        one = message(n)
        conn.execute(
            "INSERT INTO messages(channel, subtopic, publisher, protocol, content_type, payload, created) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                one.channel,
                one.subtopic,
                one.publisher,
                one.protocol,
                one.content_type,
                one.payload,
                one.created_ns,
            ),
        )
    (rows,) = conn.execute("SELECT count(*) FROM messages").fetchone()
    conn.close()
    return int(rows)


async def alone(log: Log, count: int) -> None:
    """One client that waits for each message."""
    for n in range(count):
        await log.append((message(n),))


async def sixty_four(log: Log, count: int) -> None:
    """64 clients that each wait for each of their messages."""

    async def client(share: range) -> None:
        for n in share:
            await log.append((message(n),))

    await asyncio.gather(*(client(range(start, count, 64)) for start in range(64)))


async def room(log: Log) -> None:
    """Wait where the disk is behind: who only posts would be told Busy."""
    if log.pending > 20_000:
        await log.flush()


async def posted_singly(log: Log, count: int) -> None:
    """Nobody waits; one message a call, 64 calls a turn of the loop."""
    for n in range(count):
        await room(log)
        log.post((message(n),))
        if n % 64 == 63:
            await asyncio.sleep(0)
    await log.flush()


async def posted_in_hundreds(log: Log, count: int) -> None:
    """Nobody waits; a hundred messages a call."""
    for start in range(0, count, 100):
        await room(log)
        log.post([message(n) for n in range(start, min(start + 100, count))])
        await asyncio.sleep(0)
    await log.flush()


def through_log(body: Callable[[Log, int], Awaitable[None]]) -> Case:
    async def case(folder: Path, count: int) -> int:
        log = Log.open(folder / "log.db")
        await body(log, count)
        await log.close()
        log = Log.open(folder / "log.db")
        (rows,) = log.query("SELECT count(*) FROM log")[0]
        await log.close()
        return int(rows)

    return case


# name, case, its share of --messages (lone commits are slow)
CASES: list[tuple[str, Case, float]] = [
    ("plain: a commit a message", plain, 0.1),
    ("append, 1 client", through_log(alone), 0.1),
    ("append, 64 clients", through_log(sixty_four), 1),
    ("post, 1 a call", through_log(posted_singly), 5),
    ("post, 100 a call", through_log(posted_in_hundreds), 5),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    results: dict[str, list[tuple[float, float]]] = {name: [] for name, _, _ in CASES}
    for _ in range(options.rounds):
        for name, case, share in CASES:
            count = int(options.messages * share)
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                wall, cpu = time.perf_counter(), time.process_time()
                rows = asyncio.run(case(Path(folder), count))
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if rows != count:
                sys.exit(f"{name}: {rows} rows of {count} messages")
            results[name].append((count / wall, cpu / count * 1e6))
    base = statistics.median(rate for rate, _ in results[CASES[0][0]])
    print(f"{'':28}{'messages/s':>12}{'ratio':>8}{'CPU us/message':>16}")
    for name, rounds in results.items():
        rate = statistics.median(rate for rate, _ in rounds)
        cpu = statistics.median(cpu for _, cpu in rounds)
        print(f"{name:28}{rate:12,.0f}{rate / base:8.1f}{cpu:16.1f}")


if __name__ == "__main__":
    main()
