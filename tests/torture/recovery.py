"""Opens what a crash left with the real code and compares it with what had been promised."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

from hub.access import Principal
from hub.history import History, HistoryRecord, Query
from hub.hub import Hub
from hub.log import Log
from hub.message import OCTET_STREAM, Message
from hub.mqtt import MqttDoor
from hub.registry import Registry

from .clients import Publisher2, RetainedReader, SessionLost, Subscriber
from .cut_victim import open_hub, open_parts
from .promises import Book, is_clear

DEADLINE_S = 20.0

Problem = tuple[str, str]  # kind, sentence


async def examine(folder: Path, book: Book, order: dict[str, Any], *, clients: bool) -> list[Problem]:
    """All that is wrong in `folder` after a crash; with `clients` also what reconnecting clients see.

    Without them log and registry are opened alone, which takes half as long; with them the whole hub is.
    `book` is used up: the clients go on in it.
    """
    complete = not order["retention"]
    hub: Hub | None = None
    try:
        if clients:
            hub = open_hub(folder, order)
            log, registry = hub.log, hub.registry
        else:
            registry, log = open_parts(folder, order)
    except Exception as error:
        return [("start", f"does not open: {error!r}")]
    problems: list[Problem] = []
    try:
        parts: dict[str, Log | Registry | History] = {"log": log, "registry": registry}
        if hub:
            parts["history"] = hub.history
        problems += _whole(log, parts)
        problems += await _kept(log, registry, book, complete=complete)
        if hub and not problems:
            problems += await _clients(hub, book, complete=complete)
    except Exception as error:
        problems.append(("start", f"does not serve: {error!r}"))
    finally:
        if hub:
            await hub.close()
        else:
            await log.close()
            registry.close()
    return problems


def _whole(log: Log, parts: dict[str, Log | Registry | History]) -> list[Problem]:
    problems: list[Problem] = []
    for name, part in parts.items():
        if part.set_aside:
            problems.append(("corrupt", f"{name} was set aside"))
    answer = log.query("PRAGMA integrity_check(1)")
    if answer != [("ok",)]:
        problems.append(("corrupt", f"integrity_check: {answer}"))
    return problems


async def _kept(log: Log, registry: Registry, book: Book, *, complete: bool) -> list[Problem]:
    """The log's rows, the rows written with them, the numbers, the registry."""
    problems: list[Problem] = []
    messages = log.read(0, None, 1 << 40)
    if log.damaged_rows:
        problems.append(("corrupt", f"{log.damaged_rows} damaged rows"))
    bodies = Counter(message.payload.decode() for message in messages if message.payload)
    if complete and (lost := book.acknowledged - bodies.keys()):
        problems.append(("lost", f"{len(lost)} acknowledged messages: {_some(lost)}"))
    if twice := {body for body, count in bodies.items() if count > 1}:
        problems.append(("twice", f"stored twice: {_some(twice)}"))
    if log.message_count != len(messages):
        problems.append(("atomic", f"{len(messages)} rows, counted as {log.message_count}"))
    if complete:
        rows = {body for (body,) in log.query("SELECT body FROM torture")}
        with_row = {message.payload.decode() for message in messages if message.payload.startswith(b"h-")}
        if rows != with_row:
            problems.append(("atomic", f"message without its row or the reverse: {_some(rows ^ with_row)}"))
    after = Message(book.channel, "after", book.publisher[0], "http", OCTET_STREAM, b"after", 1)
    (seq,) = await log.append((after,))
    if seq <= max(book.seen_seq, messages[-1].seq if messages else 0):
        problems.append(("numbers", f"number {seq} is given again, listeners saw up to {book.seen_seq}"))
    if log.cursor("elsewhere") > book.cursor:
        problems.append(("numbers", "a cursor stands where nobody moved it"))
    for thing_id, key in book.keys.items():
        found = registry.thing(thing_id)
        if found is None or (key and registry.thing_by_key(key) != found):
            problems.append(("lost", f"a thing or its key: {thing_id}"))
    return problems


async def _clients(hub: Hub, book: Book, *, complete: bool) -> list[Problem]:
    problems: list[Problem] = []
    door = MqttDoor(hub, port=0)
    await door.start()
    owed = {body for body, _ in book.outgoing.values()}
    last = "the last"
    reader = Subscriber(book, book.apply, door.port, last)
    twice = Publisher2(book, book.apply, door.port)
    retained = RetainedReader(book, book.apply, door.port)
    subscribed = book.subscribed
    try:
        async with asyncio.timeout(DEADLINE_S):
            await reader.resume()
            await twice.resume()
            twice.begin(0)
            await twice.done
            thing = Principal("thing", book.publisher[0])
            await hub.publish(thing, "http", book.channel, "load", OCTET_STREAM, last.encode())
            await reader.until
            problems += _retained(book, await retained.read())
            messages = hub.log.read(0, None, 1 << 40)
            problems += _delivered(book, messages, owed, complete=complete and subscribed)
            if complete:
                problems += await _history(hub, book, messages)
    except SessionLost as error:
        problems.append(("session", str(error)))
    except TimeoutError:
        problems.append(("session", "clients did not get on within their time"))
    finally:
        for client in (reader, twice, retained):
            client.close()
        await door.close()
    return problems


def _delivered(book: Book, messages: list[Message], owed: set[str], *, complete: bool) -> list[Problem]:
    """Exactly once from QoS 2 publisher to log and from log to QoS 2 subscriber; QoS 1 at least once."""
    problems: list[Problem] = []
    stored = Counter(message.payload.decode() for message in messages if message.subtopic == "load")
    if wrong := {body for body in owed if stored[body] != 1}:
        problems.append(("twice", f"resumed QoS 2 publishes not stored exactly once: {_some(wrong)}"))
    at_least = {message.payload.decode() for message in messages if message.subtopic == "load"}
    if complete and (lost := {body for body in at_least if not book.delivered[body]}):
        problems.append(("lost", f"{len(lost)} messages never reached the subscriber: {_some(lost)}"))
    qos2 = {m.payload.decode() for m in messages if m.qos == 2}
    if twice := {body for body in qos2 if book.delivered[body] > 1}:
        problems.append(("twice", f"reached the QoS 2 subscriber twice: {_some(twice)}"))
    return problems


def _retained(book: Book, found: dict[int, int]) -> list[Problem]:
    problems: list[Problem] = []
    for address, sent in book.retained_sent.items():
        possible = range(book.retained_acknowledged[address], sent + 1)
        value = found.get(address)
        if value is None:  # noqa: SIM108  (two rules, one a line)
            right = any(map(is_clear, possible))
        else:
            right = value in possible and not is_clear(value)
        if not right:
            problems.append(
                ("retained", f"address {address} holds {value}, {possible.start} to {sent} is right")
            )
    return problems


async def _history(hub: Hub, book: Book, messages: list[Message]) -> list[Problem]:
    """Every SenML message of the log is there once, in a query that goes through pages."""
    while hub.history.behind:  # noqa: ASYNC110  (small tails are full for a moment while they are compacted)
        await asyncio.sleep(0.005)
    sent = {m.payload.decode() for m in messages if m.payload.startswith(b"[")}
    found: Counter[str] = Counter()
    while True:
        page = await hub.history.query(Query(channel=book.channel, name="t", limit=500, offset=found.total()))
        for record in page.messages:
            assert isinstance(record, HistoryRecord)
            found[f'[{{"n":"t","v":{record.value:.0f}}}]'] += 1
        if len(page.messages) < 500:
            break
    if found != Counter(sent):
        return [("history", f"{found.total()} records of {len(sent)} messages")]
    return []


def _some(bodies: set[str]) -> str:
    chosen = sorted(bodies)
    random.Random(0).shuffle(chosen)
    return ", ".join(chosen[:4])
