"""The message: what every door hands in, the log keeps and every reader receives.

Fields follow the Mainflux message (channel, subtopic, publisher, protocol, payload, created), with the
content type, the time's quality and the sequence number that the log gives.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

import msgspec

SENML_JSON = "application/senml+json"
SENML_CBOR = "application/senml+cbor"
JSON = "application/json"
OCTET_STREAM = "application/octet-stream"


class TimeQuality(enum.StrEnum):
    """How far a wall-clock time can be trusted; a Raspberry Pi has no clock of its own."""

    GNSS = "gnss"
    NTP = "ntp"
    RESTORED = "restored"  # taken from the last shutdown: runs late by the time spent switched off
    UNSET = "unset"


class Properties(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What an MQTT 5 publisher said beside the payload (MQTT 5.0, 3.3.2.3), and what identifies a bridged message.

    None and "" mean "not given". Fields are only ever added, at the end, with a default.
    """

    payload_format: int | None = None  # 0 bytes, 1 UTF-8 text (3.3.2.3.2)
    expiry_s: int | None = None  # message expiry interval, counted from `created_ns` (3.3.2.3.3)
    response_topic: str = ""
    correlation_data: bytes | None = None
    user: tuple[tuple[str, str], ...] = ()  # in the order given, names may repeat
    content_type: str = ""  # as the publisher wrote it, where that is more than `Message.content_type` tells

    @property
    def size(self) -> int:
        """Characters and bytes held, for whoever keeps messages within a bound."""
        given = len(self.response_topic) + len(self.correlation_data or b"") + len(self.content_type)
        return given + sum(len(name) + len(value) for name, value in self.user)


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One published message.

    `publisher` is the thing that was authenticated, never what a sender claims to be. `subtopic` is "" or its
    elements joined by dots. `seq` is 0 until the log has given a number; numbers rise and are never reused.

    A row of the log is this structure as a msgpack array: fields are only ever added, at the end, with a
    default.
    """

    channel: str  # UUID
    subtopic: str
    publisher: str  # thing id, UUID
    protocol: str  # "lora" "mqtt" "http" "ws" "coap"
    content_type: str
    payload: bytes
    created_ns: int  # UTC
    seq: int = 0
    time: TimeQuality = TimeQuality.UNSET
    boot: str = ""  # boot id, so that times stamped before synchronisation can be corrected
    qos: int = 2  # 0..2, the delivery its publisher asked for; only MQTT asks for less than the highest
    retain: bool = False  # published with RETAIN, for subscribers that ask for it as published
    properties: Properties | None = None
    origin: str = ""  # "<gateway>/<seq>" where another gateway took it in first; "" where this one did
    client: str = ""  # MQTT client id of a publisher that may not get its own messages (No Local); else ""

    @property
    def size(self) -> int:
        """Bytes of payload and properties, about."""
        return len(self.payload) + (self.properties.size if self.properties is not None else 0)


def size_of(messages: Iterable[Message]) -> int:
    """The sum of their sizes, without a call for each."""
    size = 0
    for message in messages:
        size += len(message.payload)
        if message.properties is not None:
            size += message.properties.size
    return size
