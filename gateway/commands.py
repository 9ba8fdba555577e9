"""Downlink orders that arrive as messages: an application publishes to `commands/<DevEUI>` on the device's channel.

The right to order is the right to publish on that channel, which `hub.access` has checked; what is said and how is
`gateway.wanted`. An order is taken once its message is durable, and only from the device's or group's own channel;
one that cannot be carried out leaves a receipt that says why. This is a reader of the log with a cursor: a command
that was acknowledged before a crash is carried out after it, and never twice.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from gateway.codecs import CODECS, CodecError, Codecs
from gateway.downlinks import Downlinks
from gateway.live import LiveFrames
from gateway.lorawan import orderstore
from gateway.lorawan.clock import Instant
from gateway.lorawan.errors import LorawanError, OrderError
from gateway.lorawan.server import NetworkServer, Queued
from gateway.lorawan.types import DevEUI
from gateway.rawlora.service import COMMANDS
from gateway.wanted import PREFIX, CommandError, Wanted, parse
from hub.errors import HubError
from hub.log import Log
from hub.message import Message

GATEWAY = "gateway"  # user property of a relayed message
CURSOR = "commands"
BACKLOG_STEP = 100  # commands taken at a time
MAX_LAG = 10_000  # messages read again at start; moving the cursor at every commit would cost a commit each


def is_command(message: Message) -> bool:
    """Whether a message orders a downlink."""
    subtopic = message.subtopic
    return message.protocol != "lora" and subtopic.startswith(PREFIX) and not subtopic.startswith(COMMANDS)


class Orderly:
    """Takes what was wanted to the server, from whichever door it came."""

    def __init__(self, server: NetworkServer, codecs: Codecs) -> None:
        self._server = server
        self._codecs = codecs

    def queue_now(self, wanted: Wanted, now: Instant, order_id: str = "") -> Queued | None:
        """As `queue`; None where the device's codec has to be waited for."""
        if wanted.value is None or wanted.dev_eui is None:
            return self._queue(wanted, now, order_id, wanted.fport, wanted.payload)
        name = self._server.device(wanted.dev_eui).codec
        codec = CODECS.get(name)
        if codec is None:
            if name in self._codecs.later:
                return None
            raise CodecError(
                f"there is no codec {name!r}: give the payload in hex, or the device another codec"
            )
        return self._queue(wanted, now, order_id, *codec.encode(wanted.fport, wanted.value))

    async def queue(self, wanted: Wanted, now: Instant, order_id: str = "") -> Queued:
        """Raises CommandError, CodecError; UnknownDevice, QueueFull, OrderError of the server."""
        queued = self.queue_now(wanted, now, order_id)
        if queued is None:
            assert wanted.dev_eui is not None
            assert wanted.value is not None
            name = self._server.device(wanted.dev_eui).codec
            fport, payload = await self._codecs.encode(name, wanted.fport, wanted.value)
            queued = self._queue(wanted, now, order_id, fport, payload)
        return queued

    def _queue(
        self, wanted: Wanted, now: Instant, order_id: str, fport: int | None, payload: bytes | None
    ) -> Queued:
        if wanted.value is not None and payload is None:
            raise CommandError("a group has no codec: give the payload as bytes, in hex")
        if fport is None:
            raise CommandError('no port is named: say "fport", or publish to commands/<DevEUI>/<port>')
        order_id = wanted.id or order_id
        if self._server.knows_order(order_id):
            raise CommandError(f"downlink {order_id} waits already")
        if wanted.group:
            return self._server.queue_group_downlink(
                *(wanted.group, fport, payload or b""),
                now=now,
                priority=wanted.priority,
                ttl_s=wanted.ttl_s,
                order_id=order_id,
            )
        assert wanted.dev_eui is not None
        return self._server.queue_downlink(
            *(wanted.dev_eui, fport, payload or b"", wanted.confirmed),
            now=now,
            priority=wanted.priority,
            ttl_s=wanted.ttl_s,
            order_id=order_id,
        )


class Commands:
    """Follows the log for commands; `run` is its task."""

    def __init__(
        self,
        server: NetworkServer,
        hub_log: Log,
        live: LiveFrames,
        downlinks: Downlinks,
        orderly: Orderly,
        clock: Callable[[], Instant],
    ) -> None:
        self.accepted = 0
        self.refused = 0
        self.repeated = 0  # the same order again: after a crash, or by a careful publisher
        self.elsewhere = 0  # of devices of the gateway that relayed them
        self._server = server
        self._log = hub_log
        self._live = live
        self._downlinks = downlinks
        self._orderly = orderly
        self._clock = clock
        self._position = hub_log.cursor(CURSOR, start=hub_log.committed_seq)
        self._behind = True  # `run` takes what comes, and `_committed` only wakes it
        self._woken = asyncio.Event()
        self._woken.set()
        self._unstored: set[int] = set()  # commands whose orders are not durable yet
        # What is before may have been carried out in another life
        self._first_new = hub_log.committed_seq + 1
        self.close = hub_log.on_commit(self._committed)

    def metrics(self) -> dict[str, float]:
        """Counters for /metrics."""
        return {
            "fluxgate_commands_accepted_total": self.accepted,
            "fluxgate_commands_refused_total": self.refused,
            "fluxgate_commands_repeated_total": self.repeated,
        }

    async def run(self) -> None:
        """Carry out what the doors have no time to wait for; runs until cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            while backlog := self._log.read(self._position, is_command, BACKLOG_STEP):
                for message in backlog:
                    with contextlib.suppress(HubError):
                        await self._take(message)
                    self._position = message.seq
                self._move()
            self._position = max(self._position, self._log.committed_seq)
            self._behind = False
            self._move()

    def _committed(self, messages: Sequence[Message]) -> None:
        """Most commands need nothing that is waited for, and are carried out here and now."""
        if self._behind:
            self._woken.set()
            return
        commands = False
        for message in messages:
            if is_command(message):
                commands = True
                if not self._take_now(message):
                    self._position = message.seq - 1
                    self._behind = True
                    self._woken.set()
                    return
        self._position = messages[-1].seq
        if commands or self._position - self._log.cursor(CURSOR) > MAX_LAG:
            self._move()

    def _take_now(self, message: Message) -> bool:
        """False where it has to wait for its codec."""
        try:
            wanted = self._read(message)
            queued = self._orderly.queue_now(wanted, self._clock(), _order_id(message))
            if queued is None:
                return False
            self._store(message, queued)
        except (CommandError, CodecError, LorawanError, ValueError) as error:
            self._refuse(message, error)
        return True

    async def _take(self, message: Message) -> None:
        try:
            wanted = self._read(message)
            if message.seq < self._first_new and self._done_before(wanted, wanted.id or _order_id(message)):
                self.repeated += 1
                return
            self._store(message, await self._orderly.queue(wanted, self._clock(), _order_id(message)))
        except (CommandError, CodecError, LorawanError, ValueError) as error:
            self._refuse(message, error)

    def _read(self, message: Message) -> Wanted:
        """Raises CommandError; UnknownDevice and OrderError for who is not there."""
        now = self._clock()
        wanted = parse(message.subtopic, message.content_type, message.payload, now.wall_ns / 1e9)
        if wanted.dev_eui is not None:
            owner, channel = "device", self._server.device(wanted.dev_eui).channel_id
        else:
            owner, channel = "group", self._server.groups.get(wanted.group).config.channel_id
        if channel != message.channel:
            raise CommandError(f"the {owner} belongs to another channel: publish there")
        if wanted.ttl_s is None and message.properties is not None and message.properties.expiry_s:
            wanted = wanted.within(float(message.properties.expiry_s))
        if wanted.ttl_s is not None and message.seq < self._first_new:
            left_s = wanted.ttl_s - (now.wall_ns - message.created_ns) / 1e9
            if left_s <= 0:
                raise CommandError("expired while the gateway was off: order it again")
            wanted = wanted.within(min(left_s, wanted.ttl_s))
        return wanted

    def _store(self, message: Message, queued: Queued) -> None:
        self.accepted += 1
        seq = message.seq
        self._unstored.add(seq)

        def stored(_error: HubError | None) -> None:  # what could not be stored is told by `Downlinks`
            self._unstored.discard(seq)
            self._move()

        self._downlinks.take(queued, stored)

    def _move(self) -> None:
        """Move the cursor behind what is carried out and durable."""
        done = min(self._unstored, default=self._position + 1) - 1
        if done > self._log.cursor(CURSOR):
            self._log.move_cursor(CURSOR, done)

    def _done_before(self, wanted: Wanted, order_id: str) -> bool:
        """Whether this order was taken in an earlier life: the crash came before the cursor had moved."""
        if self._server.knows_order(order_id):
            return True
        about = wanted.group or str(wanted.dev_eui)
        with contextlib.closing(self._log.reader()) as reader:
            return any(row[0] == order_id for row in orderstore.history(reader.connection, about))

    def _refuse(self, message: Message, error: Exception) -> None:
        """Leave a receipt: on the channel of the device or group, or where nobody is known, where it was ordered.

        What another gateway has relayed here was meant for a device of its own, and it leaves the receipt.
        """
        now, reason = self._clock(), str(error)
        target = message.subtopic[len(PREFIX) :]
        order_id = _order_id(message)
        dev_eui, group = self._target(target, message.channel)
        if dev_eui is None and not group and _relayed(message):
            self.elsewhere += 1
            return
        self.refused += 1
        if dev_eui is None and not group:
            self._downlinks.refuse_stranger(message, target, order_id, reason, now)
        else:
            self._downlinks.refuse(dev_eui, group, order_id, reason, now)
        detail = f"command refused: {reason}"
        self._live.add(
            "rejected",
            now.wall_ns / 1e9,
            lambda: {"dev_eui": target.split(".")[0], "reason": "command", "detail": detail},
        )

    def _target(self, target: str, channel: str) -> tuple[DevEUI | None, str]:
        """The device or group that a refused command is about, where it is one of that channel."""
        first, *rest = target.split(".")
        try:
            if first == "groups" and rest:
                found = self._server.groups.get(rest[0]).config
                return None, found.name if found.channel_id == channel else ""
            dev_eui = DevEUI.parse(first)
            return (dev_eui if self._server.device(dev_eui).channel_id == channel else None), ""
        except (OrderError, ValueError):
            return None, ""


def _relayed(message: Message) -> bool:
    """Whether it came from another gateway, which names itself in a user property (`gateway.upstream`)."""
    return message.properties is not None and any(name == GATEWAY for name, _ in message.properties.user)


def _order_id(message: Message) -> str:
    """Named after the message, so that the same command is the same order after a crash."""
    return f"m{message.seq}"
