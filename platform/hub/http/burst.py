"""Requests that take the short way and come in the same turn of the loop: through each stage together.

In: from each connection a message whose head is known (`hub.http.connection`). Out: all of them given to the log at
once, and to each connection the number of its message when that is durable, or why it is not. Taken one after the
other the same messages cost a fifth more of the loop's time: the log is called for each, and the processor meets the
code of each stage anew.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from hub.http.publish import Head, Publisher
from hub.message import Message

# Both keep small what is held before the log's own bounds are asked.
MAX_BURST = 64  # messages that wait for the end of the turn, at most one of each connection
MAX_BURST_BYTES = 1 << 20  # of their payloads

log = logging.getLogger("hub.http")


class Sender(Protocol):
    """Who waits for an answer: a connection. One of the two is called, once for each message."""

    def stored(self, seq: int) -> None:
        """The message is durable and has this number."""

    def failed(self, error: Exception) -> None:
        """The message is not stored, or nobody can promise that it is."""


class Burst:
    """What has come in this turn of the loop."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._arrived: list[tuple[Sender, Head, bytes, str]] = []
        self._size = 0
        self._scheduled = False

    def add(self, sender: Sender, head: Head, payload: bytes, source_ip: str) -> None:
        """Publish `payload` at the end of this turn, or now if much has come."""
        self._arrived.append((sender, head, payload, source_ip))
        self._size += len(payload)
        if len(self._arrived) >= MAX_BURST or self._size >= MAX_BURST_BYTES:
            self._publish()
        elif not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._end_of_turn)

    def _end_of_turn(self) -> None:
        self._scheduled = False
        self._publish()

    def _publish(self) -> None:
        # An answer may bring the next request of its connection, which is then of the next burst.
        arrived, self._arrived, self._size = self._arrived, [], 0
        admit = self._publisher.admit
        senders: list[Sender] = []
        messages: list[Message] = []
        for sender, head, payload, source_ip in arrived:
            try:
                messages.append(admit(head, payload, source_ip))
            except Exception as error:
                sender.failed(error)
            else:
                senders.append(sender)
        if not messages:
            return

        def done(error: Exception | None) -> None:
            for sender, message in zip(senders, messages, strict=True):
                try:
                    if error is None:
                        sender.stored(message.seq)
                    else:
                        sender.failed(error)
                except Exception:  # one that cannot be answered keeps nobody else from their answer
                    log.exception("an answer failed")

        try:
            self._publisher.submit(messages, done)
        except Exception as error:
            done(error)
