"""The MQTT sink: QoS 1, over TLS unless told otherwise, MQTT 5.0 or 3.1.1.

A message counts as delivered with its PUBACK. PUBACKs may come in any order: `deliver` reports how many
messages from the front of the batch are acknowledged without a gap.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from hub.message import JSON, Message, TimeQuality
from hub.timekeeping import Correction

from . import corrections, words
from .absolute import with_absolute_times
from .config import UpstreamMqttConfig
from .errors import SinkError, SinkOffline
from .mqtt_link import MqttLink
from .mqtt_properties import PackedProperties
from .pipeline import Owed, Pipeline
from .refusals import Refusals
from .sink import Rejected, ignore_rejected

log = logging.getLogger("gateway.upstream")

INFLIGHT_BYTES = 256 << 10  # on a slow line, more in flight only makes every acknowledgement later
BATCHES_AHEAD = 4  # a batch is so many windows: the line runs idle that much less often
ACK_TIMEOUT_S = 60.0  # without a single PUBACK while some are owed


class MqttSink:
    """Delivers to one broker. See `gateway.upstream.sink.Sink`."""

    def __init__(self, config: UpstreamMqttConfig, gateway: str) -> None:
        """`gateway` names this gateway (its EUI, 16 hex digits) in topics, user properties and client id."""
        self.name = config.name
        self.window = config.inflight * BATCHES_AHEAD
        self._inflight = config.inflight
        self.rejected = 0
        self.on_rejected: Rejected = ignore_rejected
        self._config = config
        self._gateway = gateway
        self._link: MqttLink | None = None
        self._batch: Sequence[Message] = ()
        self._pipeline = Pipeline()
        self._refusals = Refusals(config.refusal_hold_s)
        self._announcing = False
        self._on_lost: Callable[[], None] = lambda: None

    async def open(self, on_lost: Callable[[], None]) -> None:
        self._on_lost = on_lost
        client_id = self._config.client_id or f"fluxgate-{self._gateway}"
        self._link = link = MqttLink(self._config, client_id, on_puback=self._puback, on_lost=self._lost)
        await link.open()
        self._inflight = min(self._config.inflight, link.receive_maximum)
        self.window = self._inflight * BATCHES_AHEAD

    def check(self) -> None:
        self._connected()

    async def close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    async def deliver(self, batch: Sequence[Message]) -> int:
        link = self._connected()
        self._batch = batch
        pipeline = self._pipeline
        pipeline.begin()
        try:
            for index, message in enumerate(batch):
                while not pipeline.has_room(
                    len(message.payload), window=self._inflight, window_bytes=INFLIGHT_BYTES
                ):
                    await self._wait_for_progress(link)
                self._send(link, index, message)
            while pipeline:
                await self._wait_for_progress(link)
        except SinkError as error:
            link.end(error)
            if not (arrived := pipeline.front()):
                raise
            return arrived
        finally:
            self._batch = ()
        return len(batch)

    async def announce(self, correction: Correction) -> None:
        if not self._config.corrections:
            return
        link = self._connected()
        topic = self._config.prefix + self._config.corrections.format(gateway=self._gateway)
        payload = corrections.encode(correction, self._gateway)
        properties = PackedProperties(JSON, (("gateway", self._gateway),)) if self._of_5 else None
        self._pipeline.begin()
        self._announcing = True
        try:
            self._pipeline.sent(link.publish(topic, payload, properties), 0, len(payload), topic)
            while self._pipeline:
                await self._wait_for_progress(link)
        except ValueError as error:
            log.warning("upstream %s: no time corrections on %s: %s", self.name, topic, error)
        except SinkError as error:
            link.end(error)
            raise
        finally:
            self._announcing = False

    @property
    def _of_5(self) -> bool:
        return self._config.protocol == "5"

    def _connected(self) -> MqttLink:
        """Raises the SinkError that ended the connection."""
        if self._link is None:
            raise SinkOffline("not connected")
        if self._link.lost is not None:
            raise self._link.lost
        return self._link

    def _send(self, link: MqttLink, index: int, message: Message) -> None:
        topic = topic_for(self._config, self._gateway, message)
        payload = with_absolute_times(message)
        try:
            properties = _properties(self._gateway, message) if self._of_5 else None
            mid = link.publish(topic, payload, properties)
        except ValueError as error:  # no MQTT topic, or too large for this broker
            self._reject(index, str(error))
            return
        self._pipeline.sent(mid, index, len(payload), topic)

    async def _wait_for_progress(self, link: MqttLink) -> None:
        """Until a PUBACK came. Raises SinkError when the connection ends or no PUBACK comes for too long."""
        await self._pipeline.wait(self._connected, ACK_TIMEOUT_S)

    def _puback(self, mid: int, code: int) -> None:
        owed = self._pipeline.answered(mid)
        if owed is None:
            return
        if self._announcing:
            if code >= 0x80:
                log.warning("upstream %s: time corrections are refused (reason %#04x)", self.name, code)
        elif code < 0x80:
            self._pipeline.settle(owed.place)
            self._refusals.accepted(owed.topic)
        elif code in words.NEVER_ACCEPTED:
            self._reject(owed.place, f"the broker refuses the message itself (reason {code:#04x})")
        else:
            self._refused(owed, code)

    def _refused(self, owed: Owed, code: int) -> None:
        """The broker has something against the topic, or against messages altogether."""
        error = words.of_puback(code, owed.topic)
        if code in words.OF_THE_TOPIC and self._refusals.given_up(owed.topic, time.monotonic()):
            self._reject(owed.place, error.words)
        elif self._link is not None:
            self._link.end(error)

    def _reject(self, index: int, reason: str) -> None:
        """Message `index` of the batch can never be delivered."""
        self.rejected += 1
        self._pipeline.settle(index)
        self.on_rejected(self._batch[index], reason)

    def _lost(self) -> None:
        self._pipeline.wake()
        self._on_lost()


def topic_for(config: UpstreamMqttConfig, gateway: str, message: Message) -> str:
    """The template filled in; a subtopic's dots become slashes, an empty one leaves no slash at the end."""
    topic = config.topic.format(
        channel=message.channel,
        subtopic=message.subtopic.replace(".", "/"),
        publisher=message.publisher,
        protocol=message.protocol,
        gateway=gateway,
    )
    return config.prefix + topic.rstrip("/")


def _properties(gateway: str, message: Message) -> PackedProperties:
    """What the publisher said, content type, and the identity that lets a receiver drop a second copy.

    Names and order are those that a subscriber of this gateway's own MQTT door sees.
    """
    user: tuple[tuple[str, str], ...] = (
        ("gateway", gateway),
        ("seq", str(message.seq)),
        ("publisher", message.publisher),
        ("protocol", message.protocol),
        ("created_ns", str(message.created_ns)),
        ("time", message.time.value),
    )
    given = message.properties
    if given is None:
        return PackedProperties(message.content_type, user)
    return PackedProperties(
        given.content_type or message.content_type,
        given.user + user,
        payload_format=given.payload_format,
        expiry_s=_left_s(message, given.expiry_s, time.time_ns()),
        response_topic=given.response_topic,
        correlation_data=given.correlation_data,
    )


def _left_s(message: Message, expiry_s: int | None, now_ns: int) -> int | None:
    """What is left of a message's expiry (MQTT 5.0, 3.3.2.3.3), at least 1 s: the cloud's record has no holes.

    Counted only where the time of the message is known.
    """
    if expiry_s is None or message.time is TimeQuality.UNSET:
        return expiry_s
    waited_s = max(0, now_ns - message.created_ns) // 1_000_000_000
    return max(1, expiry_s - waited_s)
