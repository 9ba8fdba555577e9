"""Downlink orders that arrive as messages: an application publishes to `commands/<DevEUI>` on the device's channel.

The body is JSON, `{"fport": 10, "payload": "01ff", "confirmed": true}`. The right to order is the right to publish
on that channel, which `hub.access` has checked. An order is taken once its message is durable, and only from
the device's own channel. This is a reader of the log with a cursor: a command that was acknowledged before a
crash is carried out after it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import msgspec

from gateway.downlinks import Downlinks
from gateway.live import LiveFrames
from gateway.lorawan.clock import Instant
from gateway.lorawan.errors import LorawanError
from gateway.lorawan.server import NetworkServer, Queued
from gateway.lorawan.types import DevEUI
from hub.errors import HubError
from hub.log import Log
from hub.message import Message

log = logging.getLogger(__name__)

PREFIX = "commands."
CURSOR = "commands"
BACKLOG_STEP = 100  # commands taken at a time at start
MAX_LAG = 10_000  # messages read again at start; moving the cursor at every commit would cost a commit each


class CommandError(Exception):
    """A command that cannot be carried out; the text says why."""


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a command."""

    fport: int
    payload: str = ""  # hex
    confirmed: bool = False


def order(server: NetworkServer, dev_eui: str, command: Command, now: Instant) -> Queued:
    """Queue a downlink. Raises CommandError; UnknownDevice, QueueFull and OrderError of the server."""
    try:
        eui = DevEUI.parse(dev_eui)
    except ValueError as error:
        raise CommandError(str(error)) from None
    try:
        payload = bytes.fromhex(command.payload)
    except ValueError:
        raise CommandError('payload is not hex: two digits a byte, such as "0a1f"') from None
    return server.queue_downlink(eui, command.fport, payload, command.confirmed, now=now)


def _read(payload: bytes) -> Command:
    """Raises CommandError saying what does not fit."""
    try:
        return msgspec.json.decode(payload, type=Command)
    except msgspec.ValidationError as error:
        raise CommandError(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CommandError(f"not JSON: {error}") from None


def is_command(message: Message) -> bool:
    """Whether a message orders a downlink."""
    return message.protocol != "lora" and message.subtopic.startswith(PREFIX)


class Commands:
    """Follows the log for commands."""

    def __init__(
        self,
        server: NetworkServer,
        hub_log: Log,
        live: LiveFrames,
        downlinks: Downlinks,
        clock: Callable[[], Instant],
    ) -> None:
        self._downlinks = downlinks
        self._server = server
        self._log = hub_log
        self._live = live
        self._clock = clock
        self.accepted = 0
        self.refused = 0
        after = hub_log.cursor(CURSOR, start=hub_log.committed_seq)
        while backlog := hub_log.read(after, is_command, BACKLOG_STEP):
            for message in backlog:
                self._take(message)
            after = backlog[-1].seq
        hub_log.move_cursor(CURSOR, hub_log.committed_seq)
        self.close = hub_log.on_commit(self._committed)

    def _committed(self, messages: Sequence[Message]) -> None:
        commands = [message for message in messages if is_command(message)]
        for message in commands:
            self._take(message)
        last = messages[-1].seq
        if commands or last - self._log.cursor(CURSOR) > MAX_LAG:
            self._log.move_cursor(CURSOR, last)

    def _take(self, message: Message) -> None:
        dev_eui = message.subtopic[len(PREFIX) :]
        try:
            command = _read(message.payload)
            if self._server.device(DevEUI.parse(dev_eui)).channel_id != message.channel:
                raise CommandError("the device belongs to another channel")
            self._downlinks.take(order(self._server, dev_eui, command, self._clock()))
        except (CommandError, LorawanError, HubError, ValueError) as error:
            self.refused += 1
            detail = f"command refused: {error}"
            self._live.add(
                "rejected",
                self._clock().wall_ns / 1e9,
                lambda: {"dev_eui": dev_eui, "reason": "command", "detail": detail},
            )
        else:
            self.accepted += 1
