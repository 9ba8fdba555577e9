"""Damaged packets on living MQTT sessions: many on one connection, a new one only where the door has closed it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hub.mqtt import MqttDoor
from hub.mqtt.connection import Connection

from . import mqtt_client as client
from .fuzz import GROUP, Door, Opener
from .fuzz_seeds import CHANNEL, FAULTS_5, KEY, MQTT_WORDS, TOPIC, connects_of, packets_of
from .fuzz_world import Transport, World, opened_world

CLIENTS = GROUP + 8  # connections; one thing may have 32
KEPT = ("kept", *(f"kept{n}" for n in range(4)))  # client ids of sessions that are taken up again
LIFE = 48  # inputs of a connection that the door has no reason to close
PART = LIFE // 2  # inputs that one counts for which leaves the door waiting for the rest of a packet
RAW_EVERY = 4  # inputs; in the others a length that is too long for what follows is put right
KEPT_EVERY, WILL_EVERY = 32, 5  # of the connections: a session that is taken up again, one with a will


class _Client:
    """One connection, and how much has come over it."""

    def __init__(self, transport: Transport, connection: Connection) -> None:
        self.transport = transport
        self.connection = connection
        self.inputs = 0

    @property
    def waits(self) -> bool:
        """Whether the door has only a part of a packet, which the next input would be taken for the rest of."""
        return self.connection._decoder.buffered > 0


class Sessions(Door):
    """Both ends of `CLIENTS` connections in one process; the door's clock goes on with each batch."""

    def __init__(self, world: World, version: int) -> None:
        super().__init__(world.loop)
        self._world = world
        self._version = version
        self._now_s = 0.0
        self._door = MqttDoor(world.hub, port=0, clock=lambda: self._now_s)
        self._clients: list[_Client | None] = [None] * CLIENTS
        self._fed: list[tuple[_Client, bytes]] = []  # in this turn
        self._inputs = self._connections = self._asked = 0
        packets = packets_of(version)
        goodbye = packets.pop(packets.index(b"\xe0\x00"))
        self.seeds = [packet for packet in packets if self._makes_sense(packet)]
        rest = [packet for packet in packets if packet not in self.seeds]
        several = [b"".join(packets[n : n + 3]) for n in range(len(packets) - 2)]
        self.starts = [*rest, goodbye, *several, *connects_of(version)]
        self.words = (*MQTT_WORDS, *packets, *FAULTS_5)

    def _makes_sense(self, packet: bytes) -> bool:
        """Whether it needs no other one before it: an answer to nothing may end the connection, as may a farewell."""
        return packet[0] >> 4 in (3, 8, 10, 12)

    async def start(self) -> None:
        await self._door.start()

    async def close(self) -> None:
        await self._door.close()

    def feed(self, data: bytes) -> None:
        self._inputs += 1
        if self._inputs % RAW_EVERY:
            data = _whole(data)
        slot = self._inputs % CLIENTS
        if data[:1] and data[0] >> 4 == 1 and self._inputs % 8:  # a CONNECT, damaged, begins a connection
            one = self._open()
            one.transport.feed(data)
            if not one.transport.closed:
                self._replace(slot, one)
        else:
            known = self._clients[slot]
            if known is None or known.transport.closed or known.inputs >= LIFE:
                self._replace(slot, known := self._connected(slot))
            one = known
            one.inputs += 1
            one.transport.feed(data)
        self._fed.append((one, data))

    async def turn(self) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for one, data in self._fed:
            if one.transport.closed:
                continue
            if one.waits:
                one.inputs += PART
            else:
                self.taken(data)
        self._fed.clear()

    async def settle(self) -> None:
        await self._world.durable()
        self._now_s += 1.0
        self._door.sweep()
        await self._ask()
        self.problems += self._world.found()

    async def _ask(self) -> None:
        """A client that does nothing wrong gets all of its answers."""
        heard = bytearray()
        transport = self._open(heard.extend).transport
        transport.feed(client.connect("asks", "", KEY, version=self._version))
        transport.feed(client.subscribe(1, f"channels/{CHANNEL}/messages/asks", 0, version=self._version))
        transport.feed(client.publish(TOPIC, b"21.5", 1, 2, version=self._version))
        transport.feed(b"\xc0\x00")
        await self._world.durable()
        await asyncio.sleep(0)
        answers = [first for first, body in _packets(bytes(heard)) if first != 0x20 or body[1] == 0]
        if transport.closed or answers != [0x20, 0x90, 0xD0, 0x40]:
            self.problems.append(f"a client that does nothing wrong heard {bytes(heard)[:300]!r}")
        transport.feed(b"\xe0\x00")
        # One kept session begins anew, or each time it is taken up there were more messages to send again.
        name = KEPT[self._asked % len(KEPT)]
        self._asked += 1
        self._open().transport.feed(client.connect(name, "", KEY, version=self._version) + b"\xe0\x00")

    def _open(self, answered: Callable[[bytes], None] | None = None) -> _Client:
        connection = Connection(self._door)
        transport = Transport(self.loop, connection, answered)
        connection.connection_made(transport)
        return _Client(transport, connection)

    def _connected(self, slot: int) -> _Client:
        self._connections += 1
        kept = self._connections % KEPT_EVERY == 0
        will = (TOPIC, b"gone") if self._connections % WILL_EVERY == 0 else None
        name = KEPT[1 + slot % 4] if kept else f"fuzz{slot}"
        one = self._open()
        one.transport.feed(client.connect(name, "", KEY, version=self._version, clean=not kept, will=will))
        if one.transport.closed:
            self.problems.append(f"{name} with a valid CONNECT is refused")
        return one

    def _replace(self, slot: int, one: _Client) -> None:
        old, self._clients[slot] = self._clients[slot], one
        if old is not None and old is not one:
            old.transport.close()


def _whole(data: bytes) -> bytes:
    """The same where its last packet says that it is longer than it is: what is there is then all of it.

    Otherwise the door would wait for the rest, and nothing behind the fixed header would be read.
    """
    at = 0
    while at < len(data):
        size = shift = 0
        body = at + 1
        while body < len(data) and shift < 28:
            size |= (data[body] & 0x7F) << shift
            shift += 7
            body += 1
            if data[body - 1] < 0x80:
                break
        if body + size > len(data):
            return data[:at] + client.packet(data[at], data[body:])
        at = body + size
    return data


def _packets(wire: bytes) -> Iterator[tuple[int, bytes]]:
    """First byte and body of each packet; the answers asked for here are shorter than 16 KiB."""
    while wire:
        first, size, at = wire[0], wire[1], 2
        if size & 0x80:
            size, at = (size & 0x7F) | wire[2] << 7, 3
        yield first, wire[at : at + size]
        wire = wire[at + size :]


def sessions(version: int) -> Opener:
    @contextmanager
    def opened() -> Iterator[Door]:
        with opened_world() as world:
            door = Sessions(world, version)
            world.loop.run_until_complete(door.start())
            yield door
            world.loop.run_until_complete(door.close())

    return opened
