"""One connection's reading of a durable JetStream consumer: messages in the stream's order, without a gap.

A consumer counts its deliveries; a number left out means that something was delivered that did not arrive here,
and is answered by a new connection, never by going on. What was on the way when a connection broke would come again
late and in any order; so a consumer with something on the way is made anew behind the last message that is stored
here. The consumer at the server is for people to see how far behind a gateway is; where to go on, the hub knows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from gateway.upstream import nats_words
from gateway.upstream.errors import SinkOffline, SinkRefused
from gateway.upstream.nats_api import ApiDenied, ApiError, ConsumerInfo, Done, StreamInfo
from gateway.upstream.nats_link import NatsLink

log = logging.getLogger("gateway.nats")

NANOSECONDS = 1_000_000_000
BATCH = 500  # messages asked for at once, and in memory at most
BATCH_BYTES = 4 << 20  # of them
PULL_S = 30.0  # a request for messages stays open so long
ACK_WAIT_S = 60.0  # the server sends again what was not acknowledged for so long: longer than any commit

_T = TypeVar("_T")

# How a request for messages ends without ill: none there, time is up; of 409 the description tells
_REQUEST_OVER = frozenset({"404", "408"})
_BYTES_REACHED = ("batch completed", "message size exceeds maxbytes")


class Delivery(msgspec.Struct, frozen=True):
    """A message that arrived, with what its reply subject says (ADR-15 of NATS)."""

    msg: Msg
    stream_seq: int
    consumer_seq: int  # of this delivery: the next one has the next number
    pending: int  # how many are still to come

    @classmethod
    def of(cls, msg: Msg) -> Delivery | None:
        """None where it is no delivery: `$JS.ACK.` and 7 words more, or 9 or 10 with domain and account."""
        words = msg.reply.split(".")
        if words[:2] != ["$JS", "ACK"] or len(words) < 9:
            return None
        first = 5 if len(words) == 9 else 7
        try:
            stream_seq, consumer_seq, _, pending = (int(word) for word in words[first : first + 4])
        except ValueError:
            return None
        return cls(msg, stream_seq, consumer_seq, pending)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which consumer of which stream, and what it is to be sent."""

    stream: str
    consumer: str
    filters: Sequence[str]
    backlog: bool = True  # a new consumer begins with what the stream holds


class Reading:
    """Use: `created = await stream()`, `position = await consumer(position)`, then `next` and `acknowledge`."""

    def __init__(self, link: NatsLink, wanted: Wanted) -> None:
        self._link = link
        self._wanted = wanted
        self._arrived: asyncio.Queue[Msg | None] = asyncio.Queue()  # bounded by what is asked for
        self._inbox = ""
        self._requests = 0
        self._asked = 0  # messages of the open request
        self._owed = 0  # of them, still to come
        self._bounded = True  # in bytes, too
        self._expected = 0  # number of the next delivery
        self._newest = 0  # number of the stream's newest message when it was looked at

    async def stream(self) -> str:
        """When the stream was made, which tells it from an earlier one of its name. Raises SinkError."""
        info = await self._api(f"STREAM.INFO.{self._wanted.stream}", StreamInfo)
        retention = info.config.retention
        if retention != "limits":  # there, a consumer made anew would find nothing
            raise SinkRefused(f"stream {self._wanted.stream} forgets what was read (retention {retention})")
        self._newest = info.state.last_seq
        return info.created

    async def consumer(self, position: int | None) -> int:
        """Find or make the consumer and listen; where reading begins.

        `position` is the number up to which the stream was read before, None for never. Raises SinkError.
        """
        wanted = self._wanted
        if position is None and not wanted.backlog:
            position = self._newest  # "new" would do, but servers before 2.10 do not say where that is
        info = await self._consumer_info()
        if info is not None and not _goes_on(info, position, wanted.filters):
            await self._api(f"CONSUMER.DELETE.{wanted.stream}.{wanted.consumer}", Done)
            info = None
        if info is None:
            info = await self._create(position)
        self._expected = info.delivered.consumer_seq + 1
        self._inbox = await self._link.subscribe(self._heard)
        return info.ack_floor.stream_seq if position is None else position

    async def next(self) -> list[Delivery]:
        """The next messages, at least one, in order. Raises SinkError when the connection ends."""
        found: list[Delivery] = []
        size = 0
        while not found:
            msg = await self._next_message()
            while msg is not None:
                if msg.headers and "Status" in msg.headers and not msg.data:
                    self._status(msg)
                else:
                    found.append(self._in_order(msg))
                    self._owed -= 1
                    size += len(msg.data)
                if len(found) >= BATCH or size >= BATCH_BYTES or self._arrived.empty():
                    break
                msg = self._arrived.get_nowait()
            self._link.check()
        return found

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Tell JetStream that these are stored, or will never be. Raises SinkError."""
        try:
            client = self._link.client
            for delivery in deliveries:
                await client.publish(delivery.msg.reply, b"+ACK")
        except (NatsError, OSError) as error:
            self._link.check()
            raise SinkOffline("the connection was lost") from error

    def wake(self) -> None:
        """The connection has ended: have whoever waits find out."""
        self._arrived.put_nowait(None)

    # The consumer

    async def _consumer_info(self) -> ConsumerInfo | None:
        wanted = self._wanted
        try:
            return await self._link.api(f"CONSUMER.INFO.{wanted.stream}.{wanted.consumer}", ConsumerInfo)
        except ApiDenied:
            raise SinkRefused(f"this user may not use consumer {wanted.consumer}") from None
        except ApiError as error:
            if error.code == nats_words.NO_CONSUMER:
                return None
            raise nats_words.of_api(error.code, error.description, wanted.stream) from error

    async def _create(self, position: int | None) -> ConsumerInfo:
        wanted = self._wanted
        filters = list(wanted.filters)
        config: dict[str, Any] = {
            "name": wanted.consumer,
            "durable_name": wanted.consumer,
            # Several filters are of nats-server 2.10; before that (Debian 12) there is one, under this name.
            **({"filter_subjects": filters} if len(filters) > 1 else {"filter_subject": filters[0]}),
            "ack_policy": "explicit",
            "ack_wait": int(ACK_WAIT_S * NANOSECONDS),
            "max_ack_pending": 2 * BATCH,
            "replay_policy": "instant",
            "deliver_policy": "all",
        }
        if position is not None:
            config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": position + 1}
        body = {"stream_name": wanted.stream, "config": config}
        made = await self._api(f"CONSUMER.CREATE.{wanted.stream}.{wanted.consumer}", ConsumerInfo, body)
        if _filters(made) != set(filters):
            raise SinkRefused(
                "the server sends more than is asked for, as those before 2.10 do: leave `channels` empty, or "
                "take a newer nats-server"
            )
        return made

    async def _api(self, call: str, kind: type[_T], body: object = None) -> _T:
        try:
            return await self._link.api(call, kind, body)
        except ApiDenied:
            raise SinkRefused(f"this user may not ask JetStream for {call}") from None
        except ApiError as error:
            raise nats_words.of_api(error.code, error.description, self._wanted.stream) from error

    # Messages

    async def _next_message(self) -> Msg | None:
        """Ask for more where nothing is owed; None when the wait was ended by the connection."""
        if self._owed <= 0:
            await self._ask()
        try:
            async with asyncio.timeout(PULL_S + 10):
                return await self._arrived.get()
        except TimeoutError:
            raise SinkOffline("the server leaves a request for messages unanswered") from None

    async def _ask(self) -> None:
        self._requests += 1
        self._asked = self._owed = BATCH if self._bounded else 1
        call = f"CONSUMER.MSG.NEXT.{self._wanted.stream}.{self._wanted.consumer}"
        request = {"batch": self._asked, "expires": int(PULL_S * NANOSECONDS)}
        if self._bounded:
            request["max_bytes"] = BATCH_BYTES
        self._bounded = True
        try:
            await self._link.publish_api(call, request, reply=f"{self._inbox}.{self._requests}")
        except (NatsError, OSError) as error:
            self._link.check()
            raise SinkOffline("the connection was lost") from error

    async def _heard(self, msg: Msg) -> None:
        self._arrived.put_nowait(msg)

    def _status(self, msg: Msg) -> None:
        """The server's word on a request. Raises SinkError where it cannot be followed by another."""
        headers = msg.headers or {}
        status, description = headers.get("Status", ""), headers.get("Description", "")
        if msg.subject != f"{self._inbox}.{self._requests}" or status == "100":
            return  # of an earlier request, or a sign of life
        if status in _REQUEST_OVER:
            self._owed = 0
        elif description.lower() in _BYTES_REACHED:
            self._bounded = self._owed < self._asked  # nothing came: the next one alone is larger than that
            self._owed = 0
        else:
            raise SinkOffline(f"the server ended the reading: {description or status}")

    def _in_order(self, msg: Msg) -> Delivery:
        delivery = Delivery.of(msg)
        if delivery is None:
            raise SinkOffline("the server sent something that is no message of the stream")
        if delivery.consumer_seq != self._expected:
            raise SinkOffline("messages got lost on the way: they will come again")
        self._expected += 1
        return delivery


def _goes_on(info: ConsumerInfo, position: int | None, filters: Sequence[str]) -> bool:
    """Whether what a consumer sends next is what this hub wants next.

    Not with something on the way, nor where it is ahead: then this hub's store was restored from a backup.
    """
    ahead = max(info.ack_floor.stream_seq, info.delivered.stream_seq) > (position or 0)
    return not info.num_ack_pending and not ahead and _filters(info) == set(filters)


def _filters(info: ConsumerInfo) -> set[str]:
    """The subjects of which a consumer is sent messages; empty: of all."""
    one = info.config.filter_subject
    return {one} if one else set(info.config.filter_subjects or ())
