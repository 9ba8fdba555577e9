"""The MQTT sink: QoS 1, over TLS unless told otherwise, MQTT 5.0 or 3.1.1.

A message counts as delivered with its PUBACK. PUBACKs may come in any order: `deliver` reports how many
messages from the front of the batch are acknowledged without a gap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from hub.message import Message

from . import words
from .absolute import with_absolute_times
from .config import UpstreamMqttConfig
from .errors import SinkError, SinkOffline
from .mqtt_link import MqttLink
from .mqtt_properties import PackedProperties

INFLIGHT_BYTES = 256 << 10  # on a slow line, more in flight only makes every acknowledgement later
ACK_TIMEOUT_S = 60.0  # without a single PUBACK while some are owed


class MqttSink:
    """Delivers to one broker. See `gateway.upstream.sink.Sink`."""

    def __init__(self, config: UpstreamMqttConfig, gateway: str) -> None:
        """`gateway` names this gateway (its EUI, 16 hex digits) in topics, user properties and client id."""
        self.name = config.name
        self.window = config.inflight
        self.rejected = 0
        self._config = config
        self._gateway = gateway
        self._link: MqttLink | None = None
        self._owed: dict[int, tuple[int, int, str]] = {}  # packet id -> index in the batch, bytes, topic
        self._owed_bytes = 0
        self._settled: set[int] = set()
        self._progress = asyncio.Event()
        self._on_lost: Callable[[], None] = lambda: None

    async def open(self, on_lost: Callable[[], None]) -> None:
        self._on_lost = on_lost
        client_id = self._config.client_id or f"fluxgate-{self._gateway}"
        self._link = link = MqttLink(self._config, client_id, on_puback=self._puback, on_lost=self._lost)
        await link.open()
        self.window = min(self._config.inflight, link.receive_maximum)

    def check(self) -> None:
        self._connected()

    async def close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    async def deliver(self, batch: Sequence[Message]) -> int:
        link = self._connected()
        self._owed.clear()
        self._owed_bytes = 0
        self._settled.clear()
        try:
            for index, message in enumerate(batch):
                while self._owed and not self._has_room(len(message.payload)):
                    await self._wait_for_progress(link)
                self._send(link, index, message)
            while self._owed:
                await self._wait_for_progress(link)
        except SinkError:
            if not (arrived := self._front()):
                raise
            return arrived
        return len(batch)

    def _connected(self) -> MqttLink:
        """Raises the SinkError that ended the connection."""
        if self._link is None:
            raise SinkOffline("not connected")
        if self._link.lost is not None:
            raise self._link.lost
        return self._link

    def _has_room(self, size: int) -> bool:
        return len(self._owed) < self.window and self._owed_bytes + size <= INFLIGHT_BYTES

    def _send(self, link: MqttLink, index: int, message: Message) -> None:
        topic = topic_for(self._config, self._gateway, message)
        payload = with_absolute_times(message)
        try:
            properties = _properties(self._gateway, message) if self._config.protocol == "5" else None
            mid = link.publish(topic, payload, properties)
        except ValueError:  # no MQTT topic, or too large for this broker
            self.rejected += 1
            self._settled.add(index)
            return
        self._owed[mid] = index, len(payload), topic
        self._owed_bytes += len(payload)

    async def _wait_for_progress(self, link: MqttLink) -> None:
        """Until a PUBACK came. Raises SinkError when the connection ends or no PUBACK comes for too long."""
        self._progress.clear()
        self._connected()
        try:
            async with asyncio.timeout(ACK_TIMEOUT_S):
                await self._progress.wait()
        except TimeoutError:
            link.end(SinkOffline("the broker takes messages and acknowledges none"))
        self._connected()

    def _puback(self, mid: int, code: int) -> None:
        owed = self._owed.pop(mid, None)
        if owed is None:
            return
        index, size, topic = owed
        self._owed_bytes -= size
        if code < 0x80:
            self._settled.add(index)
        elif code in words.NEVER_ACCEPTED:
            self.rejected += 1
            self._settled.add(index)
        elif self._link is not None:
            self._link.end(words.of_puback(code, topic))
        self._progress.set()

    def _lost(self) -> None:
        self._progress.set()
        self._on_lost()

    def _front(self) -> int:
        """How many messages from the front of the batch are settled without a gap."""
        count = 0
        while count in self._settled:
            count += 1
        return count


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
    """Content type, and the identity that lets a receiver drop a second copy."""
    user = (
        ("gateway", gateway),
        ("seq", str(message.seq)),
        ("publisher", message.publisher),
        ("protocol", message.protocol),
        ("created_ns", str(message.created_ns)),
        ("time", message.time.value),
    )
    return PackedProperties(message.content_type, user)
