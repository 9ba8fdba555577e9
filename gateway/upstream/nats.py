"""The NATS sink: each message as Mainflux's protobuf on `channels.<id>[.<subtopic>]` of a JetStream stream.

A message counts as delivered when JetStream has acknowledged it as stored. Its id, `<gateway>/<seq>`, lets the
stream drop a second copy that comes within its duplicate window, so what an interruption sends twice is stored once.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError

from hub import wire
from hub.errors import WireError
from hub.log import Gap
from hub.message import JSON, Message
from hub.timekeeping import Correction

from . import corrections, gaps, nats_words
from .absolute import absolute
from .delivery import PipelinedSink
from .errors import SinkHeld, SinkOffline, SinkRefused
from .nats_api import ApiError, check_acknowledgement
from .nats_config import NatsSinkConfig
from .nats_link import NatsLink
from .nats_stream import ensure_stream

WINDOW_BYTES = 1 << 20  # in flight; half of what nats-py buffers before it blocks
# Without a single acknowledgement while some are owed. What a stream's leader had in hand when it died is never
# answered, by nobody; sent again it is stored once (Nats-Msg-Id). Twice the 4 to 9 s in which a new leader is elected.
ACK_TIMEOUT_S = 20.0
CORRECTIONS = "corrections"  # channel of the time corrections; the subtopic is the gateway
GAPS = "gaps"  # channel of what says which messages are gone; the subtopic is the gateway
BATCHES_AHEAD = 2  # a batch is so many windows: the pipeline runs empty that much less often

_UNFIT = re.compile(r"[^!-$&-)+-=?-~]")  # in a subject's words: blanks, controls, % * > and what is not ASCII


class NatsSink(PipelinedSink[NatsLink]):
    """Delivers to one stream. See `gateway.upstream.sink.Sink`."""

    def __init__(self, config: NatsSinkConfig, gateway: str, rng: random.Random | None = None) -> None:
        """`gateway` names this gateway (its EUI, 16 hex digits) in message ids and towards the server."""
        super().__init__(config.name, config.inflight * BATCHES_AHEAD, config.refusal_hold_s)
        self._config = config
        self._gateway = gateway
        self._servers = config.cluster.addresses()
        (rng or random.Random()).shuffle(self._servers)  # a fleet spreads over the cluster
        self._inbox = ""
        self._sent = 0  # over all connections: tokens of acknowledgements are never used twice

    async def open(self, on_lost: Callable[[], None]) -> None:
        self._on_lost = on_lost
        host, port = self._servers[0]
        self._servers.append(self._servers.pop(0))  # the next attempt asks the next one
        self._link = link = NatsLink(
            self._config.cluster, self._gateway, on_lost=self._lost, on_denied=self._denied
        )
        await link.open(host, port)
        await ensure_stream(link, self._config.stream, f"{self._config.subject}.>")
        self._inbox = await link.subscribe(self._answer)
        link.check()

    async def close(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    async def announce(self, news: Correction | Gap) -> str:
        """As a message of channel `corrections` or `gaps`, subtopic the gateway: the stream takes it like any other."""
        link = self._connected()
        if isinstance(news, Gap):
            channel, record = GAPS, gaps.encode(news, self._gateway)
            identity = gaps.identity(news, self._gateway)
        else:
            channel, record = CORRECTIONS, corrections.encode(news, self._gateway)
            identity = corrections.identity(news, self._gateway)
        message = Message(channel, self._gateway, "", "gateway", JSON, record, time.time_ns())
        headers = headers_for(self._gateway, self._config.stream.stream, message)
        headers["Nats-Msg-Id"] = identity
        with self._announcement(link):
            body = wire.encode(message, self._gateway)
            await self._publish(link, 0, subject_for(self._config.subject, message), body, headers)
            while self._pipeline:
                await self._wait(link)
        return self._refusal

    async def _wait(self, link: NatsLink) -> None:
        await self._pipeline.wait(link.check, ACK_TIMEOUT_S)

    async def _send(self, link: NatsLink, index: int, message: Message) -> None:
        pipeline = self._pipeline
        try:
            body = wire.encode(absolute(message), self._gateway)
        except WireError as error:
            self._reject(index, error.reason)
            return
        while not pipeline.has_room(len(body), window=self._config.inflight, window_bytes=WINDOW_BYTES):
            await self._wait(link)
        headers = headers_for(self._gateway, self._config.stream.stream, message)
        try:
            await self._publish(link, index, subject_for(self._config.subject, message), body, headers)
        except MaxPayloadError:
            self._reject(index, f"larger than the {link.client.max_payload} bytes that the server takes")

    async def _publish(
        self, link: NatsLink, index: int, subject: str, body: bytes, headers: dict[str, str]
    ) -> None:
        """Send one message, to be acknowledged. Raises MaxPayloadError, SinkError."""
        self._sent += 1
        try:
            await link.client.publish(subject, body, f"{self._inbox}.{self._sent}", headers)
        except MaxPayloadError:
            raise
        except (NatsError, OSError) as error:
            link.check()
            raise SinkOffline("the connection was lost") from error
        self._pipeline.sent(self._sent, index, len(body), subject)

    async def _answer(self, msg: Msg) -> None:
        """An acknowledgement, or why there is none (ADR-1 of NATS: the JetStream publish acknowledgement)."""
        owed = self._pipeline.answered(int(msg.subject.rpartition(".")[2]))
        if owed is None:
            return
        if msg.headers and msg.headers.get("Status") == "503":  # nobody listens on this subject
            self._end(SinkHeld(nats_words.missing_stream(self._config.stream.stream)))
            return
        try:
            check_acknowledgement(msg.data)
        except ApiError as error:
            if self._announcing and error.code in nats_words.TOO_LARGE:
                self._refusal = error.description
            elif error.code in nats_words.TOO_LARGE:
                self._reject(owed.place, error.description)
            else:
                stream = self._config.stream.stream
                self._end(nats_words.of_api(error.code, error.description, stream))
        else:
            self._pipeline.settle(owed.place)
            self._refusals.accepted(owed.topic)

    def _denied(self, subject: str) -> None:
        """The server says, in lower case, that this user may not publish (or listen) there."""
        if subject.startswith("_inbox."):
            self._end(
                SinkRefused(f"the server does not let this user hear answers on _INBOX.{self._gateway}.>")
            )
            return
        found = self._pipeline.first_to(subject)
        if found is None:
            return
        token, owed = found
        words = f"the server does not let this user publish to {owed.topic}"
        if self._announcing:
            self._pipeline.answered(token)
            self._refusal = words
            return
        if self._refusals.given_up(owed.topic, time.monotonic()):
            self._pipeline.answered(token)
            self._reject(owed.place, words)
        else:
            self._end(SinkHeld(words))


def subject_for(prefix: str, message: Message) -> str:
    """`channels.<id>[.<subtopic>]`; what a NATS subject cannot hold is written as %XX of its UTF-8."""
    subject = f"{prefix}.{message.channel}"
    if message.subtopic:
        subject += f".{message.subtopic}"
    return _UNFIT.sub(_escape, subject) if _UNFIT.search(subject) else subject


def _escape(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match.group().encode("utf-8", "surrogatepass"))


def headers_for(gateway: str, stream: str, message: Message) -> dict[str, str]:
    """What can be read without opening the protobuf. Names with Nats- have a meaning to the server."""
    return {
        "Nats-Msg-Id": message.origin or f"{gateway}/{message.seq}",
        "Nats-Expected-Stream": stream,
        "Content-Type": message.content_type,
        "Fluxgate-Created": str(message.created_ns),
        "Fluxgate-Time": message.time.value,
    }
