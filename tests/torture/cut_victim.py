"""One life of a hub on a recorded disk, with clients that drive it; `cuts.py` runs it over the shim.

Reads orders as JSON lines and runs each in a forked child, so that a life costs no start of Python. Answers with
the child's exit status: 0 for a life that ended as ordered.
"""

from __future__ import annotations

import asyncio
import json
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

from hub import database, log_writer
from hub.access import Principal
from hub.history import Query
from hub.hub import Hub, HubSettings
from hub.log import Migration
from hub.message import OCTET_STREAM, SENML_JSON, Message
from hub.mqtt import MIGRATIONS, MqttDoor

TABLE = Migration("torture/1", ("CREATE TABLE torture(body TEXT PRIMARY KEY) WITHOUT ROWID",))
SMALL_WAL = 96 << 10  # so that a short life sees several checkpoints
SMALL_RESERVE = 256
DEADLINE_S = 30.0


class LessSynchronous(sqlite3.Connection):
    """The negative control: the log's writer, with a setting that does not wait for the disk."""

    level = "NORMAL"

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql.startswith("PRAGMA synchronous"):
            sql = f"PRAGMA synchronous = {self.level}"
        return super().execute(sql, *parameters)


def open_hub(folder: Path, order: dict[str, Any], **more: Any) -> Hub:
    """The hub as a gateway opens it, with one more table whose rows belong to messages."""
    if order["small"]:
        database.WAL_BYTES = SMALL_WAL
        log_writer.RESERVE = SMALL_RESERVE
    if order["synchronous"] != "FULL":
        LessSynchronous.level = order["synchronous"]
        more["connection"] = LessSynchronous
    settings = HubSettings(commit_interval_s=0.01, max_messages=order["max_messages"])
    return Hub.open(folder, migrations=(*MIGRATIONS, TABLE), settings=settings, **more)


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
        self.hub = hub = open_hub(Path(self.order["folder"]), self.order)
        hub.log.on_append(self._seen)
        door = MqttDoor(hub, port=0)
        await door.start()
        book, port = self.book, door.port
        reader = Subscriber(book, self.say, port)
        await reader.resume()
        if fault := self.order.get("fault"):
            self.shim.fail(Call(fault["calls"]), fault["at"], fault["error"], forever=fault["forever"])
        twice, once = Publisher2(book, self.say, port), Publisher1(book, self.say, port)
        keeper = Retainer(book, self.say, port)
        await twice.resume()
        await once.open()
        await keeper.open()
        twice.begin(self.operations)
        once.begin(self.operations)
        await asyncio.gather(
            asyncio.wait_for(twice.done, DEADLINE_S),
            asyncio.wait_for(once.done, DEADLINE_S),
            keeper.run(self.operations // 3, random.Random(self.order["seed"])),
            self._publish(),
            self._administer(),
            self._query(),
        )
        if self.order["ends"] == "clean":
            for client in (reader, twice, once, keeper):
                client.close()
            await door.close()
            await hub.close()

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
    """In the forked child."""
    shim = Shim()
    book: Book = pickle.loads(Path(order["book"]).read_bytes())
    shim.start(Path(order["folder"]), Path(order["trace"]), order.get("sync_delay_us", 0))
    life = Life(book, shim, order)
    try:
        uvloop.run(life.run()) if order["ends"] == "clean" else _until_crash(life)
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def _until_crash(life: Life) -> None:
    """End without any goodbye: nothing is closed, threads die where they stand."""
    loop = uvloop.new_event_loop()
    loop.run_until_complete(life.run())
    os._exit(0)


def serve(run: Any) -> None:
    """Run each order of standard input in a child."""
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
