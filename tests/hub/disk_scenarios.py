"""What happens on a disk that is really full or really read-only; test_log_disk.py runs each in its own process.

Arguments: a scenario's name and a folder, the mount point of a small file system that this process may fill and
mount again. Says "ok" on standard output where all was as it should be.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from hub import disk, log_writer
from hub.disk import DiskState
from hub.errors import LogFull
from hub.history import Query
from hub.hub import Hub
from hub.keys import ServerKey
from hub.log import Log
from hub.message import OCTET_STREAM, SENML_JSON, Message
from hub.registry import Registry

RECOVERY_S = 10.0
CHANNEL = "6f2a1d52-6f2c-4b6a-a5a1-0a3d4be1c001"

Scenario = Callable[[Path], Coroutine[Any, Any, None]]


def message(text: str, size: int = 0) -> Message:
    return Message("channel", "", "publisher", "mqtt", OCTET_STREAM, text.encode().ljust(size), 1)


def fill(folder: Path) -> Path:
    """Leave no byte free."""
    path = folder / "fill"
    for step in (65536, 4096, 1):
        with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
            while file.write(bytes(step)):
                pass
    assert disk.free_bytes(folder) == 0
    return path


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", folder], check=True)


@contextlib.contextmanager
def full(folder: Path) -> Iterator[None]:
    path = fill(folder)
    yield
    path.unlink()


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    remount(folder, "ro")
    yield
    remount(folder, "rw")


def open_files(folder: Path) -> list[str]:
    """What this process has open below `folder`."""
    targets = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # of the listing itself
            targets.append(os.readlink(f"/proc/self/fd/{number}"))
    return [target for target in targets if target.startswith(f"{folder}/")]


async def refused(log: Log) -> str:
    try:
        await log.append([message("refused")])
    except LogFull as error:
        return error.reason
    raise AssertionError("stored where nothing can be")


async def recovers(log: Log) -> None:
    back = asyncio.Event()
    log.on_state(lambda state: back.set() if state is DiskState.OK else None)
    if log.state is not DiskState.OK:
        await asyncio.wait_for(back.wait(), RECOVERY_S)


def bodies(log: Log) -> list[str]:
    return [found.payload.decode().strip() for found in log.read(0, None, 1_000_000)]


async def runs_full(folder: Path) -> None:
    """Space runs out under load; sign-in and counters go on; space returns."""
    log = Log.open(folder / "log.db", min_free_bytes=0)
    registry = Registry.open(folder / "registry.db", ServerKey.load(folder / "server.key"))
    user = registry.claim(registry.claim_code() or "", "a@example.org", "a long password")
    acknowledged = []
    reasons: list[str] = []
    live: list[int] = []
    log.on_append(lambda messages: live.extend(one.seq for one in messages))
    path = fill(folder)
    for n in range(100_000):
        try:
            await log.append([message(f"message {n}", 1000)])
            acknowledged.append(f"message {n}")
        except LogFull as error:
            reasons.append(error.reason)
            break
    assert "the disk is full" in reasons[0], reasons
    assert log.state == "full"
    assert "full" in await refused(log)
    path.open("ab").close()
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
        while disk.free_bytes(folder) > disk.BALLAST_BYTES // 2:
            file.write(bytes(4096))
    token = registry.issue_token(user.id, 1.0)  # the ballast has made room for that
    assert registry.user_by_token(token, 2.0) == user
    await log.write([("INSERT OR REPLACE INTO state(name, value) VALUES ('counter', 7)", ())])
    seen = len(live)
    log.post([message("live")])
    assert len(live) == seen + 1
    assert bodies(log) == acknowledged
    await asyncio.sleep(3 * log_writer.PROBE_S)
    assert log.state == "full"  # what the ballast freed is not for messages
    path.unlink()
    await recovers(log)
    await log.append([message("after")])
    assert bodies(log) == [*acknowledged, "after"]
    assert (folder / "log.db.ballast").stat().st_size == disk.BALLAST_BYTES
    assert log.query("SELECT value FROM state WHERE name = 'counter'") == [(7,)]
    registry.close()
    await log.close()
    log = Log.open(folder / "log.db", min_free_bytes=0)
    assert bodies(log) == [*acknowledged, "after"]
    assert log.message_count == log.count_after(0) == len(acknowledged) + 1
    await log.close()


def starts(
    how: Callable[[Path], contextlib.AbstractContextManager[None]], *, clean: bool, known: bool
) -> Scenario:
    """Start while the disk cannot be written, with files of a run that ended cleanly or was killed, or without."""

    async def scenario(folder: Path) -> None:
        key = ServerKey.load(folder / "server.key")
        expected: list[str] = []
        if known:
            expected = [f"message {n}" for n in range(50)]
            environment = os.environ | {"CLEAN": "1" if clean else ""}
            await asyncio.to_thread(
                subprocess.run, [sys.executable, __file__, "fill", str(folder)], check=True, env=environment
            )
        names = {"full": "full", "read_only": "read-only"}[how.__name__]
        (folder / "log.db.ballast").unlink(missing_ok=True)
        shown: list[int] = []
        with how(folder):
            log = Log.open(folder / "log.db", min_free_bytes=0)
            registry = Registry.open(folder / "registry.db", key)
            assert log.state == names, (log.state, names)
            assert names in await refused(log)
            assert bodies(log) == expected
            assert log.count_after(0) == len(expected)
            assert len(registry.things().items) == (1 if known else 0)
            log.on_append(lambda messages: shown.extend(one.seq for one in messages))
            log.post([message("live")])
            assert len(shown) == 1
            assert log.cursor("reader", 3) == (7 if known else 3)
        await recovers(log)
        (seq,) = await log.append([message("after")])
        assert seq > shown[0]
        assert bodies(log) == [*expected, "after"]
        registry.create_thing("another")
        registry.close()
        await log.close()
        log = Log.open(folder / "log.db", min_free_bytes=0)
        assert bodies(log) == [*expected, "after"]
        assert log.message_count == log.count_after(0) == len(expected) + 1
        assert log.set_aside is None
        await log.close()
        registry = Registry.open(folder / "registry.db", key)
        assert len(registry.things().items) == (2 if known else 1)
        registry.close()

    return scenario


async def prepare(folder: Path) -> None:
    """A run that leaves 50 messages, a cursor and a thing, and is killed unless CLEAN."""
    log = Log.open(folder / "log.db", min_free_bytes=0)
    registry = Registry.open(folder / "registry.db", ServerKey.load(folder / "server.key"))
    registry.create_thing("a thing")
    log.move_cursor("reader", 7)
    for n in range(50):
        await log.append([message(f"message {n}")])
    if not os.environ.get("CLEAN"):
        os._exit(0)
    registry.close()
    await log.close()


async def runs_short(folder: Path) -> None:
    """Other programs take the disk's room: what everybody has read goes, what somebody has not read stays."""
    least = 24 << 20
    log = Log.open(folder / "log.db", min_free_bytes=least)
    for n in range(12):
        await log.append([message(f"message {n * 100 + k}", 10_000) for k in range(100)])
    log.move_cursor("reader", 600)
    used = 1200 * 10_000  # bytes of payload; how much of it is in the file yet, and not beside it, varies
    assert disk.free_bytes(folder) < least
    for n in range(1500):
        await log.append([message(f"later {n}")])
        log.move_cursor("reader", 600)
        if log.first_seq == 601 and log.path.stat().st_size < used * 3 // 4:
            break
        await asyncio.sleep(0.02)
    assert log.first_seq == 601
    assert log.gaps() == []
    assert log.state == "ok"
    await log.close()
    assert log.path.stat().st_size < used * 3 // 4  # given back to the disk
    log = Log.open(folder / "log.db", min_free_bytes=0)
    assert bodies(log)[:600] == [f"message {n}" for n in range(600, 1200)]
    await log.close()


async def starts_full_with_ballast(folder: Path) -> None:
    """The ballast makes room to open everything, and its room is still not for messages."""
    await asyncio.to_thread(subprocess.run, [sys.executable, __file__, "fill", str(folder)], check=True)
    with full(folder):
        hub = Hub.open(folder)
        assert hub.log.state == "full"
        assert "full" in await refused(hub.log)
        assert len(bodies(hub.log)) == 50
        await asyncio.to_thread(hub.registry.create_thing, "one more")
        await asyncio.sleep(3 * log_writer.PROBE_S)
        assert hub.log.state == "full"
    await recovers(hub.log)
    await hub.log.append([message("after")])
    await hub.close()


def starts_whole(how: Callable[[Path], contextlib.AbstractContextManager[None]], *, clean: bool) -> Scenario:
    """The whole hub, its history included."""

    async def scenario(folder: Path) -> None:
        environment = os.environ | {"CLEAN": "1" if clean else ""}
        await asyncio.to_thread(
            subprocess.run, [sys.executable, __file__, "fill hub", str(folder)], check=True, env=environment
        )
        (folder / "log.db.ballast").unlink()
        for _ in range(2):
            with how(folder):
                hub = Hub.open(folder)
                assert hub.log.state != "ok"
                await refused(hub.log)
                page = await hub.history.query(Query(CHANNEL))
                assert page.total == 1
            await recovers(hub.log)
            await hub.log.append([message("after")])
            assert (await hub.history.query(Query(CHANNEL))).total == 1
            await hub.close()
            assert open_files(folder) == []
            (folder / "log.db.ballast").unlink()
        hub = Hub.open(folder)
        assert bodies(hub.log)[1:] == ["after", "after"]
        assert (await hub.history.query(Query(CHANNEL))).total == 1
        await hub.close()

    return scenario


async def prepare_hub(folder: Path) -> None:
    """One record in the history."""
    hub = Hub.open(folder)
    await hub.log.append([Message(CHANNEL, "", "publisher", "mqtt", SENML_JSON, b'[{"n":"t","v":1}]', 1)])
    assert (await hub.history.query(Query(CHANNEL))).total == 1
    if not os.environ.get("CLEAN"):
        os._exit(0)
    await hub.close()


SCENARIOS: dict[str, Scenario] = {
    "fill": prepare,
    "fill hub": prepare_hub,
    "starts full with ballast": starts_full_with_ballast,
    "runs full": runs_full,
    "runs short": runs_short,
    **{
        f"starts {how.__name__} {end}": starts(how, clean=end == "after a clean end", known=end != "new")
        for how in (full, read_only)
        for end in ("after a clean end", "after a kill", "new")
    },
    **{
        f"starts whole {how.__name__} {end}": starts_whole(how, clean=end == "after a clean end")
        for how in (full, read_only)
        for end in ("after a clean end", "after a kill")
    },
}


if __name__ == "__main__":
    gc.disable()  # or it would close, now and then, what was left open
    log_writer.PROBE_S = log_writer.LOOK_S = 0.05
    asyncio.run(SCENARIOS[sys.argv[1]](Path(sys.argv[2])))
    if not sys.argv[1].startswith("fill"):
        print("ok")
