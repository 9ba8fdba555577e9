"""A message as an MQTT 5 subscriber is shown it: its properties (5.0, 3.3.2.3), its identity, its form.

What the publisher said is forwarded unaltered, the message expiry interval less the time it has waited. Behind
the publisher's user properties stand the gateway's own: which gateway took the message in, under which number,
from whom, over which protocol, when, and how far that time can be trusted.
"""

from __future__ import annotations

import contextlib

from hub.convert import negotiate, transcode
from hub.errors import SenmlError
from hub.hub import Clock
from hub.log import Log
from hub.message import SENML_CBOR, Message, TimeQuality
from hub.message import Properties as MessageProperties
from hub.mqtt.fields import encode_binary
from hub.mqtt.properties import Properties
from hub.timekeeping import corrected

MISSED = "missed"  # user property of a CONNACK or PUBLISH
MAX_PUBLISHERS = 1_000  # whose user properties are remembered; then the memory starts afresh
_UNSURE = frozenset({TimeQuality.UNSET, TimeQuality.RESTORED})


def message_properties(properties: Properties | None) -> MessageProperties | None:
    """What the log keeps of the properties of a PUBLISH or a will; None where there is nothing to keep."""
    if properties is None:
        return None
    kept = MessageProperties(
        properties.payload_format,
        properties.message_expiry_s,
        properties.response_topic or "",
        properties.correlation_data,
        properties.user,
        properties.content_type or "",
    )
    return None if kept == _NOTHING else kept


_NOTHING = MessageProperties()
_SEQ = b"\x26" + encode_binary(b"seq")  # a user property without its value
_CREATED = b"\x26" + encode_binary(b"created_ns")


class Showing:
    """Property blocks and converted payloads; what the last message needed is remembered for its next receiver."""

    def __init__(self, gateway: str, hub_log: Log, clock: Clock) -> None:
        self._log = hub_log
        self._clock = clock
        self._gateway = gateway
        self._gateway_pair = _pair("gateway", gateway) if gateway else b""
        self._around_created: dict[tuple[str, str, TimeQuality], tuple[bytes, bytes]] = {}
        self._message: Message | None = None  # of `_identity_block`
        self._identity_block = b""
        self._converted: tuple[Message, str, bytes, str] | None = None

    def left_s(self, message: Message) -> int | None:
        """Seconds until the message expires, 0 where it has (3.3.2.3.3); None where it never does.

        Stamps of before the clock was set are compared only after they were corrected, or with one another:
        what was taken in is never thrown away because the clock was set.
        """
        properties = message.properties
        if properties is None or properties.expiry_s is None:
            return None
        message = corrected(message, self._log.corrections())
        now_ns, quality = self._clock()
        if (message.time in _UNSURE) != (quality in _UNSURE):
            return properties.expiry_s
        waited_s = max(0, now_ns - message.created_ns) // 1_000_000_000
        return max(0, properties.expiry_s - waited_s)

    def expired(self, message: Message) -> bool:
        properties = message.properties
        return properties is not None and properties.expiry_s is not None and self.left_s(message) == 0

    def block(self, message: Message, converted: str, *, typed: bool = False) -> bytes:
        """The properties, without length, identifiers and alias.

        `converted` is the content type it was converted to, "" where it was not. `typed`: the type is said in
        any case.
        """
        if message is not self._message:
            self._identity_block = self._identity(message)
            self._message = message
        properties = message.properties
        content_type = converted or (properties.content_type if properties is not None else "")
        # Of an MQTT publisher's messages CBOR is what the topic has named; the rest a subscriber may guess as we did.
        if not content_type and (typed or message.protocol != "mqtt" or message.content_type == SENML_CBOR):
            content_type = message.content_type
        said = b"\x03" + encode_binary(content_type.encode()) if content_type else b""
        if properties is None:
            return said + self._identity_block
        return self._given(message, properties, said, converted=bool(converted)) + self._identity_block

    def _given(
        self, message: Message, properties: MessageProperties, content_type: bytes, *, converted: bool
    ) -> bytes:
        """What the publisher said."""
        out = bytearray()
        if properties.payload_format is not None and not converted:
            out += bytes((0x01, properties.payload_format))
        left_s = self.left_s(message)
        if left_s is not None:
            out += b"\x02" + left_s.to_bytes(4, "big")
        out += content_type
        if properties.response_topic:
            out += b"\x08" + encode_binary(properties.response_topic.encode())
        if properties.correlation_data is not None:
            out += b"\x09" + encode_binary(properties.correlation_data)
        for name, value in properties.user:
            out += _pair(name, value)
        return bytes(out)

    def _identity(self, message: Message) -> bytes:
        message = corrected(message, self._log.corrections())
        gateway, seq = self._gateway_pair, b"%d" % message.seq
        if message.origin:
            name, _, number = message.origin.rpartition("/")
            gateway, seq = _pair("gateway", name), number.encode()
        key = (message.publisher, message.protocol, message.time)
        around = self._around_created.get(key)
        if around is None:
            if len(self._around_created) >= MAX_PUBLISHERS:
                self._around_created.clear()
            before = _pair("publisher", message.publisher) + _pair("protocol", message.protocol) + _CREATED
            around = self._around_created[key] = (before, _pair("time", message.time.value))
        created = b"%d" % message.created_ns
        parts = (gateway, _SEQ, encode_binary(seq), around[0], encode_binary(created), around[1])
        return b"".join(parts)

    @staticmethod
    def missed(messages: int) -> bytes:
        """The property of a client that has missed messages which retention took before their turn."""
        return _pair(MISSED, str(messages))

    def form(self, message: Message, accept: str) -> tuple[bytes, str]:
        """The payload for a subscriber that named what it accepts, and the type it was converted to.

        "" where it was not: it is accepted as it is, or there is no way to what is accepted.
        """
        held = self._converted
        if held is not None and held[0] is message and held[1] == accept:
            return held[2], held[3]
        payload, converted = message.payload, ""
        wanted = negotiate(accept, message.content_type)
        if wanted is not None and wanted != message.content_type:
            with contextlib.suppress(SenmlError):
                payload, converted = transcode(message.content_type, payload, wanted), wanted
        self._converted = (message, accept, payload, converted)
        return payload, converted


def _pair(name: str, value: str) -> bytes:
    return b"\x26" + encode_binary(name.encode()) + encode_binary(value.encode())
