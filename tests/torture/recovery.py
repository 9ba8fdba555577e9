"""Opens what a crash left with the real code and compares it with what had been promised."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

from hub.access import Principal
from hub.history import HistoryRecord, Query
from hub.hub import Hub
from hub.message import OCTET_STREAM, Message
from hub.mqtt import MqttDoor

from .clients import Publisher2, RetainedReader, SessionLost, Subscriber
from .cut_victim import open_hub
from .promises import Book, is_clear

DEADLINE_S = 20.0

Problem = tuple[str, str]  # kind, sentence


async def examine(folder: Path, book: Book, order: dict[str, Any], *, clients: bool) -> list[Problem]:
    """All that is wrong in `folder` after a crash; with `clients` also what reconnecting clients see.

    `book` is used up: the clients go on in it.
    """
    problems: list[Problem] = []
    try:
        hub = open_hub(folder, order)
    except Exception as error:
        return [("start", f"does not open: {error!r}")]
    try:
        problems += _whole(hub)
        problems += await _kept(hub, book, complete=not order["retention"])
        if clients and not problems:
            problems += await _clients(hub, book, complete=not order["retention"])
    except Exception as error:
        problems.append(("start", f"does not serve: {error!r}"))
    finally:
        await hub.close()
    return problems


def _whole(hub: Hub) -> list[Problem]:
    problems: list[Problem] = []
    for name, part in (("log", hub.log), ("registry", hub.registry), ("history", hub.history)):
        if part.set_aside:
            problems.append(("corrupt", f"{name} was set aside"))
    answer = hub.log.query("PRAGMA integrity_check(1)")
    if answer != [("ok",)]:
        problems.append(("corrupt", f"integrity_check: {answer}"))
    return problems


async def _kept(hub: Hub, book: Book, *, complete: bool) -> list[Problem]:
    """The log's rows, the rows written with them, the numbers, the registry."""
    problems: list[Problem] = []
    messages = hub.log.read(0, None, 1 << 40)
    if hub.log.damaged_rows:
        problems.append(("corrupt", f"{hub.log.damaged_rows} damaged rows"))
    bodies = Counter(message.payload.decode() for message in messages if message.payload)
    if complete and (lost := book.acknowledged - bodies.keys()):
        problems.append(("lost", f"{len(lost)} acknowledged messages: {_some(lost)}"))
    if twice := {body for body, count in bodies.items() if count > 1}:
        problems.append(("twice", f"stored twice: {_some(twice)}"))
    if hub.log.message_count != len(messages):
        problems.append(("atomic", f"{len(messages)} rows, counted as {hub.log.message_count}"))
    if complete:
        rows = {body for (body,) in hub.log.query("SELECT body FROM torture")}
        with_row = {message.payload.decode() for message in messages if message.payload.startswith(b"h-")}
        if rows != with_row:
            problems.append(("atomic", f"message without its row or the reverse: {_some(rows ^ with_row)}"))
    thing = Principal("thing", book.publisher[0])
    seq = await hub.publish(thing, "http", book.channel, "after", OCTET_STREAM, b"after")
    if seq <= max(book.seen_seq, messages[-1].seq if messages else 0):
        problems.append(("numbers", f"number {seq} is given again, listeners saw up to {book.seen_seq}"))
    if hub.log.cursor("elsewhere") > book.cursor:
        problems.append(("numbers", "a cursor stands where nobody moved it"))
    for thing_id, key in book.keys.items():
        found = hub.registry.thing(thing_id)
        if found is None or (key and hub.registry.thing_by_key(key) != found):
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
