"""How many bytes and flushes a stored message costs the card, against the least that durable storage can cost.

    python tests/bench/bench_bytes.py [--folder DIR] [--full]

The floor is 80 bytes appended to a file of its full length with one fdatasync a commit. As root an ext4 image on a
loop device of its own is counted, the file system's journal included; else what this process wrote
(/proc/self/io, without the journal). "a day" is a day at one message a second with the default and with the
card-saver interval, from as many commits as such a day has, at the speed of the disk. "at the bound" is a log
that removes as much as it takes; "ring" is what overwriting rows in place would cost, for comparison.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "platform"))

from hub import log_writer
from hub.log import MAX_MESSAGES, Log
from hub.log_reader import encode_row
from hub.log_writer import PAGE_SIZE
from hub.message import SENML_JSON, Message

RNG = random.Random(1)
DEVICES = [
    (str(uuid.UUID(int=RNG.getrandbits(128))), str(uuid.UUID(int=RNG.getrandbits(128)))) for _ in range(100)
]
BOOT = str(uuid.UUID(int=RNG.getrandbits(128)))
PACK = (
    b'[{"bn":"urn:dev:mac:0011223344556677:","bt":1700000000,"n":"temperature","u":"Cel","v":21.5},'
    b'{"n":"humidity","u":"%RH","v":48},{"n":"battery","u":"V","v":3.61},{"n":"rssi","u":"dBm","v":-97}]'
)
FLOOR_BYTES = 80  # of a message, in the floor
DAY = 86_400  # messages of a day at one a second
IMAGE_BYTES = 1 << 30
SECTOR = 512


def message(n: int) -> Message:
    channel, thing = DEVICES[n % len(DEVICES)]
    return Message(channel, "", thing, "lora", SENML_JSON, PACK, 1_700_000_000_000_000_000 + n, boot=BOOT)


@dataclass
class Counter:
    """Bytes and flushes since the machine started: of one block device, or of this process."""

    device: str | None  # name of a block device, None: this process

    def read(self) -> tuple[int, int | None]:
        if self.device is None:
            for line in Path("/proc/self/io").read_text().splitlines():
                if line.startswith("write_bytes:"):
                    return int(line.split()[1]), None
            raise SystemExit("the kernel does not count what a process writes")
        os.sync()
        fields = Path(f"/sys/block/{self.device}/stat").read_text().split()
        return int(fields[6]) * SECTOR, int(fields[15])


@contextlib.contextmanager
def place(folder: Path | None) -> Iterator[tuple[Path, Counter]]:
    """Where to write and how to count: a loop device where we may have one."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        base = Path(name)
        if os.geteuid() == 0 and shutil.which("mkfs.ext4"):
            image, mounted = base / "image", base / "disk"
            mounted.mkdir()
            with image.open("wb") as file:
                file.truncate(IMAGE_BYTES)
            subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
            if subprocess.run(["mount", "-o", "loop,noatime", image, mounted], check=False).returncode == 0:
                try:
                    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
                    device = next(fields[0] for fields in mounts if fields[1] == str(mounted))
                    yield mounted, Counter(device.removeprefix("/dev/"))
                finally:
                    subprocess.run(["umount", mounted], check=True)
                return
        yield base, Counter(None)


@dataclass
class Cost:
    bytes: float  # a message
    flushes: float | None  # a commit
    longest_ms: float  # a commit

    def line(self, name: str, floor: float | None = None) -> str:
        ratio = f"{self.bytes / floor:8.2f}" if floor else f"{'':8}"
        flushes = "" if self.flushes is None else f"{self.flushes:10.2f}"
        return f"{name:44}{self.bytes:11,.0f}{ratio}{flushes:>10}{self.longest_ms:12.1f}"


def floor(folder: Path, counter: Counter, messages: int, group: int) -> Cost:
    """The least an acknowledged append can cost."""
    path = folder / "floor"
    commits = messages // group
    with path.open("wb") as file:
        file.write(bytes(FLOOR_BYTES * messages + 4096))
        os.fsync(file.fileno())
    handle = os.open(path, os.O_WRONLY)
    before, longest = counter.read(), 0.0
    for n in range(commits):
        start = time.perf_counter()
        os.pwrite(handle, b"x" * (FLOOR_BYTES * group), n * FLOOR_BYTES * group)
        os.fdatasync(handle)
        longest = max(longest, time.perf_counter() - start)
    after = counter.read()
    os.close(handle)
    path.unlink()
    return cost(before, after, messages, commits, longest)


def cost(
    before: tuple[int, int | None], after: tuple[int, int | None], messages: int, commits: int, longest: float
) -> Cost:
    flushes = None if after[1] is None or before[1] is None else (after[1] - before[1]) / commits
    return Cost((after[0] - before[0]) / messages, flushes, longest * 1000)


async def logged(
    folder: Path, counter: Counter, messages: int, group: int, *, kept: int | None = None, quiet: bool = False
) -> Cost:
    """`group` messages a commit; with `kept`, in a log that is full with that many and removes as it takes.

    `quiet`: rows are compressed as in a gateway that takes few messages a second, although here they come fast.
    """
    log_writer.SMALL_RATE = 1 << 60 if quiet else 0
    log = Log.open(folder / "log.db", commit_interval_s=3600, max_messages=kept or MAX_MESSAGES)
    filled = 0
    while filled < (kept or 10_000):
        await log.append([message(n) for n in range(1000)])
        filled += 1000
    commits = messages // group
    before, longest = counter.read(), 0.0
    for n in range(commits):
        batch = [message(n * group + k) for k in range(group)]
        start = time.perf_counter()
        await log.append(batch)
        longest = max(longest, time.perf_counter() - start)
    after = counter.read()
    await log.close()
    await asyncio.to_thread(clear, folder)
    return cost(before, after, messages, commits, longest)


def clear(folder: Path) -> None:
    for part in folder.glob("*.db*"):
        part.unlink()


def ring(folder: Path, counter: Counter, messages: int, group: int, kept: int) -> Cost:
    """The log's rows, page size and settings, each row put in the place of the oldest."""
    path = folder / "ring.db"
    conn = sqlite3.connect(path, isolation_level=None)
    for pragma in (f"page_size = {PAGE_SIZE}", "journal_mode = WAL", "synchronous = FULL"):
        conn.execute(f"PRAGMA {pragma}")
    conn.execute(f"PRAGMA wal_autocheckpoint = {(4 << 20) // PAGE_SIZE}")
    conn.execute("CREATE TABLE log(slot INTEGER PRIMARY KEY, body BLOB NOT NULL)")
    body = encode_row(message(1))

    def put(first: int, count: int) -> None:
        conn.execute("BEGIN IMMEDIATE")
        rows = [((first + k) % kept, body) for k in range(count)]
        conn.executemany("INSERT OR REPLACE INTO log VALUES (?, ?)", rows)
        conn.execute("COMMIT")

    for n in range(0, kept, 1000):
        put(n, 1000)
    commits = messages // group
    before, longest = counter.read(), 0.0
    for n in range(commits):
        start = time.perf_counter()
        put(n * group, group)
        longest = max(longest, time.perf_counter() - start)
    after = counter.read()
    conn.close()
    clear(folder)
    return cost(before, after, messages, commits, longest)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--full", action="store_true", help="the whole day, not a twelfth of it")
    options = parser.parse_args()
    day = DAY if options.full else DAY // 12
    with place(options.folder) as (folder, counter):
        counted = f"device {counter.device}" if counter.device else "this process, no journal"
        rows = (len(encode_row(message(1), small=small)) for small in (False, True))
        print(
            f"counted: {counted}; pages of {PAGE_SIZE} bytes; a row of {next(rows)} bytes, {next(rows)} where quiet"
        )
        print(f"{'':44}{'bytes/msg':>11}{'floor x':>8}{'flushes':>10}{'longest ms':>12}")
        for group, messages in ((1, 4_000), (10, 20_000), (100, 100_000)):
            least = floor(folder, counter, messages, group)
            print(least.line(f"{group:4} a commit: floor"))
            for name, found in (
                ("log, busy", asyncio.run(logged(folder, counter, messages, group))),
                ("log, quiet", asyncio.run(logged(folder, counter, messages, group, quiet=True))),
                (
                    "log at the bound, busy",
                    asyncio.run(logged(folder, counter, messages, group, kept=20_000)),
                ),
                ("ring, busy", ring(folder, counter, messages, group, 20_000)),
            ):
                print(found.line(f"{group:4} a commit: {name}", least.bytes))
        for name, group in (("every second (default)", 1), ("every 60 s (card saver)", 60)):
            found = asyncio.run(logged(folder, counter, day // group * group, group, quiet=True))
            print(f"a day at 1 message/s, committed {name}: {found.bytes * DAY / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
