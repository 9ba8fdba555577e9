"""The MQTT clients of the power-cut runs: they keep their half of the protocol over any number of crashes.

The same code runs beside the process under test and, after a cut, against what recovered.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from . import mqtt_client as wire
from .mqtt_client import Link
from .promises import RETAINED_ADDRESSES, Book, is_clear

Say = Callable[[str], None]


class SessionLost(Exception):
    """A kept session that had been acknowledged was not there after a restart."""


class Client:
    """One connection of one client to the door at `port`."""

    client_id = ""
    clean = True
    publishes = True

    def __init__(self, book: Book, say: Say, port: int, *, version: int = 4) -> None:
        self.book, self.say, self.port, self.version = book, say, port, version
        self.connected: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.link: Link | None = None

    async def open(self) -> bool:
        """Connect; True where the server still had the session. Raises OSError, ConnectionError."""
        self.link = await Link.open(self.port, self.on_packet)
        thing, key = self.book.publisher if self.publishes else self.book.subscriber
        self.send(wire.connect(self.client_id, thing, key, clean=self.clean, version=self.version))
        return bool(await self.answered(self.connected))

    async def answered(self, answer: asyncio.Future[Any]) -> Any:
        """What the door says. Raises ConnectionError where it ends the connection instead."""
        assert self.link
        await asyncio.wait({answer, self.link.lost}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ConnectionError("the door has closed the connection")
        return answer.result()

    def on_packet(self, first: int, body: bytes) -> None:
        if first == wire.CONNACK:
            if body[1]:
                self.connected.set_exception(ConnectionError(f"refused with {body[1]}"))
            else:
                self.connected.set_result(bool(body[0] & 1))

    def topic(self, subtopic: str) -> str:
        label = f"{self.book.label}/" if self.book.label else ""
        return f"channels/{self.book.channel}/messages/{label}{subtopic}"

    def new_body(self, kind: str) -> str:
        self.say("body")
        return f"{kind}{self.book.label}-{self.book.bodies}"

    def publish(
        self,
        subtopic: str,
        payload: bytes,
        qos: int,
        packet_id: int,
        *,
        retain: bool = False,
        dup: bool = False,
    ) -> None:
        topic = self.topic(subtopic)
        self.send(wire.publish(topic, payload, qos, packet_id, retain=retain, dup=dup, version=self.version))

    def send(self, packet: bytes) -> None:
        assert self.link
        self.link.send(packet)

    def close(self) -> None:
        if self.link:
            self.link.close()


class Publisher1(Client):
    """QoS 1, a few in flight; half of it SenML, for the history."""

    WINDOW = 4

    def __init__(self, book: Book, say: Say, port: int, *, version: int = 4) -> None:
        super().__init__(book, say, port, version=version)
        self._waiting: dict[int, str] = {}
        self._next = 0
        self._left = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin(self, count: int) -> None:
        self._left = count
        for _ in range(self.WINDOW):
            self._send()

    def _send(self) -> None:
        if not self._left:
            if not self._waiting and not self.done.done():
                self.done.set_result(None)
            return
        self._left -= 1
        self._next += 1
        body = self.new_body("q1")
        if self._next % 2:
            body = f'[{{"n":"t{self.book.label}","v":{self.book.bodies}}}]'
        self._waiting[self._next] = body
        self.publish("load", body.encode(), 1, self._next)

    def on_packet(self, first: int, body: bytes) -> None:
        if first == wire.PUBACK:
            sent = self._waiting.pop(wire.packet_id_of(body))
            if wire.reason_of(body) < wire.REFUSED:
                self.say(f"ack {sent}")
            self._send()
        else:
            super().on_packet(first, body)


class Publisher2(Client):
    """QoS 2 with a kept session: after a crash it goes on where it was, with the same packet ids."""

    client_id, clean = "exactly-once", False
    WINDOW = 4

    def __init__(self, book: Book, say: Say, port: int, *, version: int = 4) -> None:
        super().__init__(book, say, port, version=version)
        self._left = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def resume(self) -> None:
        """Connect and take up what was under way (4.4). Raises SessionLost."""
        if not await self.open() and self.book.publisher_kept:
            raise SessionLost("the session of the QoS 2 publisher is gone")
        for packet_id, (body, received) in list(self.book.outgoing.items()):
            if received:
                self.send(wire.answer(wire.PUBREL, packet_id))
            else:
                self.publish("load", body.encode(), 2, packet_id, dup=True)

    def begin(self, count: int) -> None:
        self._left = count
        self._fill()

    def _fill(self) -> None:
        while self._left and len(self.book.outgoing) < self.WINDOW:
            self._left -= 1
            packet_id = next(n for n in range(1, 100) if n not in self.book.outgoing)
            body = self.new_body("q2")
            self.say(f"out {packet_id} {body}")
            self.publish("load", body.encode(), 2, packet_id)
        if not self._left and not self.book.outgoing and not self.done.done():
            self.done.set_result(None)

    def on_packet(self, first: int, body: bytes) -> None:
        if first == wire.PUBREC:
            packet_id = wire.packet_id_of(body)
            if wire.reason_of(body) >= wire.REFUSED:
                self.say(f"comp {packet_id}")
                self._fill()
                return
            self.say(f"rec {packet_id}")
            self.send(wire.answer(wire.PUBREL, packet_id))
        elif first == wire.PUBCOMP:
            self.say(f"comp {wire.packet_id_of(body)}")
            self._fill()
        else:
            super().on_packet(first, body)


class Subscriber(Client):
    """QoS 2 subscription with a kept session; counts what reaches the application."""

    client_id, clean, publishes = "reader", False, False

    def __init__(self, book: Book, say: Say, port: int, last: str = "", *, version: int = 4) -> None:
        """`until` is over when the body `last` has come."""
        super().__init__(book, say, port, version=version)
        self._last = last
        self.until: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def resume(self) -> None:
        """Connect; subscribe where this is the first time. Raises SessionLost."""
        present = await self.open()
        if not present and self.book.subscribed:
            raise SessionLost("the session of the subscriber is gone")
        if not self.book.subscribed:
            self.send(wire.subscribe(1, self.topic("load"), 2, version=self.version))
            await self.answered(self._subscribed)

    def on_packet(self, first: int, body: bytes) -> None:
        if first >> 4 == 3:
            self._message(wire.read_publish(first, body, self.version))
        elif first == wire.PUBREL:
            packet_id = wire.packet_id_of(body)
            if packet_id in self.book.held:
                self.say(f"free {packet_id}")
            self.send(wire.answer(wire.PUBCOMP, packet_id))
        elif first == wire.SUBACK:
            if body[-1] != 2:
                self._subscribed.set_exception(ConnectionError(f"SUBACK {body[-1]}"))
                return
            self.say("subscribed")
            self._subscribed.set_result(None)
        else:
            super().on_packet(first, body)

    def _message(self, message: wire.Published) -> None:
        body = message.payload.decode()
        if message.qos == 2:
            if message.packet_id not in self.book.held:
                self.say(f"hold {message.packet_id} {body}")
            self.send(wire.answer(wire.PUBREC, message.packet_id))
        else:
            self.say(f"got {body}")
            if message.qos == 1:
                self.send(wire.answer(wire.PUBACK, message.packet_id))
        if body == self._last and not self.until.done():
            self.until.set_result(None)


class Retainer(Client):
    """Publishes retained values, one at a time."""

    def __init__(self, book: Book, say: Say, port: int, *, version: int = 4) -> None:
        super().__init__(book, say, port, version=version)
        self._acknowledged: asyncio.Future[None] | None = None

    async def run(self, count: int, rng: random.Random) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(count):
            address = rng.randrange(RETAINED_ADDRESSES)
            value = self.book.retained_sent[address] + 1
            self.say(f"retain {address} {value}")
            payload = b"" if is_clear(value) else f"r{self.book.label}-{address}-{value}".encode()
            self._acknowledged = loop.create_future()
            self.publish(f"retained/{address}", payload, 1, 1, retain=True)
            await self.answered(self._acknowledged)
            self.say(f"retained {address} {value}")

    def on_packet(self, first: int, body: bytes) -> None:
        if first == wire.PUBACK and self._acknowledged and not self._acknowledged.done():
            self._acknowledged.set_result(None)
        else:
            super().on_packet(first, body)


class RetainedReader(Client):
    """Reads which retained messages there are."""

    publishes = False

    def __init__(self, book: Book, say: Say, port: int, *, version: int = 4) -> None:
        super().__init__(book, say, port, version=version)
        self.found: dict[str, bytes] = {}
        self._pinged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._shown: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def read(self) -> dict[int, int]:
        """Value by address."""
        await self.open()
        # QoS 0, so that all of it is on the way before the answer to a ping that follows the SUBACK.
        self.send(wire.subscribe(1, self.topic("retained/#"), 0, version=self.version))
        await self.answered(self._shown)
        self.send(b"\xc0\x00")
        await self.answered(self._pinged)
        return {int(topic.rpartition("/")[2]): int(body.split(b"-")[2]) for topic, body in self.found.items()}

    def on_packet(self, first: int, body: bytes) -> None:
        if first >> 4 == 3:
            message = wire.read_publish(first, body, self.version)
            if message.retain:
                self.found[message.topic] = message.payload
        elif first == wire.SUBACK:
            self._shown.set_result(None)
        elif first == 0xD0:
            self._pinged.set_result(None)
        else:
            super().on_packet(first, body)
