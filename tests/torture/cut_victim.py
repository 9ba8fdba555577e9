"""One life of a hub on a recorded disk, with clients that drive it; `cuts.py` runs it over the shim.

Reads orders as JSON lines and runs each in a forked child, so that a life costs no start of Python. Answers with
the child's exit status: 0 for a life that ended as ordered.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import random
import sqlite3
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop
from torture.clients import Publisher1, Publisher2, Retainer, Subscriber
from torture.promises import Book
from torture.shim import Call, Shim

from hub import database, disk, history_tail, log_writer
from hub.access import Principal
from hub.errors import HubError
from hub.history import Query
from hub.hub import Hub, HubSettings
from hub.keys import ServerKey
from hub.log import Log, Migration, Write
from hub.message import OCTET_STREAM, SENML_JSON, Message
from hub.mqtt import MIGRATIONS, MqttDoor
from hub.registry import Registry

TABLE = Migration("torture/1", ("CREATE TABLE torture(body TEXT PRIMARY KEY) WITHOUT ROWID",))
SMALL_WAL = 96 << 10  # so that a short life sees several checkpoints
SMALL_RESERVE = 256
SMALL_BALLAST = 16 << 10
SMALL_HISTORY = {"TAIL_RECORDS": 24, "TAIL_MESSAGES": 16}  # so that it compacts in a short life
DEADLINE_S = 30.0
COMMIT_INTERVAL_S = 0.01
REFUSED = 3  # exit status: an error of the disk was raised to whoever started the hub


class LessSynchronous(sqlite3.Connection):
    """The negative control: the log's writer, with a setting that does not wait for the disk."""

    level = "NORMAL"

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql.startswith("PRAGMA synchronous"):
            sql = f"PRAGMA synchronous = {self.level}"
        return super().execute(sql, *parameters)


def open_hub(folder: Path, order: dict[str, Any], **more: Any) -> Hub:
    """The hub as a gateway opens it, with one more table whose rows belong to messages."""
    more |= _adapt(order)
    settings = HubSettings(commit_interval_s=COMMIT_INTERVAL_S, max_messages=order["max_messages"])
    return Hub.open(folder, migrations=(*MIGRATIONS, TABLE), settings=settings, **more)


def open_parts(folder: Path, order: dict[str, Any]) -> tuple[Registry, Log]:
    """Registry and log alone, as the hub opens them."""
    more = _adapt(order)
    registry = Registry.open(folder / "registry.db", ServerKey.load(folder / "server.key"))
    log = Log.open(
        folder / "log.db",
        migrations=(*MIGRATIONS, TABLE),
        commit_interval_s=COMMIT_INTERVAL_S,
        max_messages=order["max_messages"],
        **more,
    )
    return registry, log


def _adapt(order: dict[str, Any]) -> dict[str, Any]:
    """Set the bounds of this life; returns further arguments for the log."""
    if order["small"]:
        database.WAL_BYTES = SMALL_WAL
        log_writer.RESERVE = SMALL_RESERVE
        disk.BALLAST_BYTES = SMALL_BALLAST
        for name, value in SMALL_HISTORY.items():
            setattr(history_tail, name, value)
    if order["synchronous"] != "FULL":
        LessSynchronous.level = order["synchronous"]
        return {"connection": LessSynchronous}
    return {}


class Life:
    """Everything that happens between one start and one end."""

    def __init__(self, book: Book, shim: Shim, order: dict[str, Any]) -> None:
        self.book, self.shim, self.order = book, shim, order
        self.rng = random.Random(order["seed"])
        self.operations: int = order["operations"]

    def say(self, mark: str) -> None:
        self.shim.mark(mark)
        self.book.apply(mark)

    def _seen(self, messages: Sequence[Message]) -> None:
        self.say(f"seen {messages[-1].seq}")

    async def run(self) -> None:
        """Live until the clients are done; with a fault, until the log fails or a client is cut off."""
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._fail_from("open")
        self.hub = hub = open_hub(
            Path(self.order["folder"]),
            self.order,
            on_failure=lambda _error: failed.cancel(),
        )
        hub.log.on_append(self._seen)
        door = MqttDoor(hub, port=0)
        await door.start()
        book, port = self.book, door.port
        reader = Subscriber(book, self.say, port)
        await reader.resume()
        self._fail_from("load")
        twice, once = Publisher2(book, self.say, port), Publisher1(book, self.say, port)
        keeper = Retainer(book, self.say, port)
        clients = (reader, twice, once, keeper)
        await twice.resume()
        await once.open()
        await keeper.open()
        twice.begin(self.operations)
        once.begin(self.operations)
        work = asyncio.gather(
            asyncio.wait_for(twice.done, DEADLINE_S),
            asyncio.wait_for(once.done, DEADLINE_S),
            keeper.run(self.operations // 3, random.Random(self.order["seed"])),
            self._publish(),
            self._administer(),
            self._query(),
        )
        cut_off = [client.link.lost for client in clients if client.link]
        ends: list[asyncio.Future[Any]] = [work, failed, *cut_off]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if "fault" in self.order:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        else:
            await work
        if self.order["ends"] == "clean":
            for client in clients:
                client.close()
            await door.close()
            await hub.close()

    def _fail_from(self, moment: str) -> None:
        """Begin to count towards the fault, where one was ordered from here on."""
        fault = self.order.get("fault")
        if fault and fault["from"] == moment:
            self.shim.fail(
                Call(fault["calls"]),
                fault["at"],
                fault["error"],
                forever=fault["forever"],
                partial=fault["partial"],
            )

    async def _publish(self) -> None:
        """As HTTP does: a call that returns when it is durable; every other one with a row of its own."""
        thing = Principal("thing", self.book.publisher[0])
        for n in range(self.operations):
            self.say("body")
            if n % 2:
                body = f"h-{self.book.bodies}"
                also = [("INSERT INTO torture VALUES (?)", (body,))]
                await self.hub.publish(
                    thing, "http", self.book.channel, "load", OCTET_STREAM, body.encode(), also=also
                )
            else:
                body = f'[{{"n":"t","v":{self.book.bodies}}}]'
                await self.hub.publish(thing, "http", self.book.channel, "load", SENML_JSON, body.encode())
            self.say(f"ack {body}")
            if n % 5 == 0:
                self.say("body")
                posted = f"p-{self.book.bodies}".encode()
                self.hub.post(thing, "http", self.book.channel, "load", OCTET_STREAM, posted)
            if n % 4 == 0:
                self.say(f"cursor {self.hub.log.committed_seq}")
                self.hub.log.move_cursor("elsewhere", self.hub.log.committed_seq)

    async def _administer(self) -> None:
        """People make things and replace keys."""
        registry = self.hub.registry
        for n in range(self.operations // 8):
            if self.book.keys and n % 3 == 2:
                thing_id = self.rng.choice(sorted(self.book.keys))
                self.say(f"replace {thing_id}")
                key = await asyncio.to_thread(registry.rotate_key, thing_id)
            else:
                thing, key = await asyncio.to_thread(registry.create_thing, f"made {n}")
                thing_id = thing.id
            self.say(f"key {thing_id} {key}")
            await asyncio.sleep(0.001)

    async def _query(self) -> None:
        for _ in range(3):
            await asyncio.sleep(0.005)
            await self.hub.history.query(Query(channel=self.book.channel, limit=5))


def live(order: dict[str, Any]) -> int:
    """In the forked child: 0 where the life ended as ordered, REFUSED where a fault was met as it should be."""
    shim = Shim()
    book: Book = pickle.loads(Path(order["book"]).read_bytes())
    shim.start(Path(order["folder"]), Path(order["trace"]), order.get("sync_delay_us", 0))
    if order.get("early"):
        acknowledge_early()
    life = Life(book, shim, order)
    try:
        uvloop.run(_bounded(life)) if order["ends"] == "clean" else _until_crash(life)
    except (OSError, sqlite3.Error, HubError) as error:
        if "fault" in order:
            shim.mark(f"counted {shim.counted()}")
            return REFUSED
        traceback.print_exception(error)
        return 1
    except Exception:
        traceback.print_exc()
        return 1
    if "fault" in order:
        shim.mark(f"counted {shim.counted()}")
    return 0


async def _bounded(life: Life) -> None:
    await asyncio.wait_for(life.run(), 2 * DEADLINE_S)


def acknowledge_early() -> None:
    """The fault that a control must find: "durable" is said at once, for the life of this process."""
    take = Log.post

    def submit(self: Any, messages: Sequence[Message], also: Sequence[Write], done: Any) -> list[int]:
        seqs = take(self, messages, also)
        self._loop.call_soon(done, None)
        return seqs

    async def append(self: Any, messages: Sequence[Message], also: Sequence[Write] = ()) -> list[int]:
        return take(self, messages, also)

    Log.submit, Log.append = submit, append  # type: ignore[method-assign]


def _until_crash(life: Life) -> None:
    """End without any goodbye: nothing is closed, threads die where they stand."""
    loop = uvloop.new_event_loop()
    loop.run_until_complete(life.run())
    os._exit(0)


def serve(run: Any) -> None:
    """Run each order of standard input in a child. What the hub logs on the way is not looked at."""
    logging.disable(logging.CRITICAL)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if not child:
            status = 1
            try:
                status = run(order)
            finally:
                sys.stderr.flush()
                os._exit(status)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve(live)
