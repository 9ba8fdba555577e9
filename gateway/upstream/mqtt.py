"""The MQTT sink: QoS 1, over TLS unless told otherwise, MQTT 5.0 or 3.1.1.

A message counts as delivered with its PUBACK. PUBACKs may come in any order: `deliver` reports how many
messages from the front of the batch are acknowledged without a gap.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from hub.log import Gap
from hub.message import JSON, Message, TimeQuality
from hub.timekeeping import Correction

from . import corrections, gaps, words
from .absolute import with_absolute_times
from .config import UpstreamMqttConfig
from .delivery import PipelinedSink
from .mqtt_link import MqttLink
from .mqtt_properties import PackedProperties
from .pipeline import Owed

INFLIGHT_BYTES = 256 << 10  # on a slow line, more in flight only makes every acknowledgement later
BATCHES_AHEAD = 4  # a batch is so many windows: the line runs idle that much less often
ACK_TIMEOUT_S = 60.0  # without a single PUBACK while some are owed


class MqttSink(PipelinedSink[MqttLink]):
    """Delivers to one broker. See `gateway.upstream.sink.Sink`."""

    def __init__(self, config: UpstreamMqttConfig, gateway: str) -> None:
        """`gateway` names this gateway (its EUI, 16 hex digits) in topics, user properties and client id."""
        super().__init__(config.name, config.inflight * BATCHES_AHEAD, config.refusal_hold_s)
        self._inflight = config.inflight
        self._config = config
        self._gateway = gateway

    async def open(self, on_lost: Callable[[], None]) -> None:
        self._on_lost = on_lost
        client_id = self._config.client_id or f"fluxgate-{self._gateway}"
        self._link = link = MqttLink(self._config, client_id, on_puback=self._puback, on_lost=self._lost)
        await link.open()
        self._inflight = min(self._config.inflight, link.receive_maximum)
        self.window = self._inflight * BATCHES_AHEAD

    async def close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    async def announce(self, news: Correction | Gap) -> str:
        if isinstance(news, Gap):
            template, payload = self._config.gaps, gaps.encode(news, self._gateway)
        else:
            template, payload = self._config.corrections, corrections.encode(news, self._gateway)
        if not template:
            return ""
        link = self._connected()
        topic = self._config.prefix + template.format(gateway=self._gateway)
        properties = PackedProperties(JSON, (("gateway", self._gateway),)) if self._of_5 else None
        try:
            with self._announcement(link):
                self._pipeline.sent(link.publish(topic, payload, properties), 0, len(payload), topic)
                while self._pipeline:
                    await self._wait(link)
        except ValueError as error:
            return f"{topic}: {error}"
        return self._refusal

    @property
    def _of_5(self) -> bool:
        return self._config.protocol == "5"

    async def _send(self, link: MqttLink, index: int, message: Message) -> None:
        size = len(message.payload)
        while not self._pipeline.has_room(size, window=self._inflight, window_bytes=INFLIGHT_BYTES):
            await self._wait(link)
        topic = topic_for(self._config, self._gateway, message)
        payload = with_absolute_times(message)
        try:
            properties = _properties(self._gateway, message) if self._of_5 else None
            mid = link.publish(topic, payload, properties)
        except ValueError as error:  # no MQTT topic, or too large for this broker
            self._reject(index, str(error))
            return
        self._pipeline.sent(mid, index, len(payload), topic)

    async def _wait(self, link: MqttLink) -> None:
        await self._pipeline.wait(self._connected, ACK_TIMEOUT_S)

    def _puback(self, mid: int, code: int) -> None:
        owed = self._pipeline.answered(mid)
        if owed is None:
            return
        if self._announcing:
            if code in words.OF_THE_TOPIC or code in words.NEVER_ACCEPTED:
                self._refusal = f"{owed.topic} is refused (reason {code:#04x})"
            elif code >= 0x80:
                self._end(words.of_puback(code, owed.topic))
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
        else:
            self._end(error)


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
