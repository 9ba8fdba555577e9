"""What a PUBLISH or a will becomes: a message with its content type, kept as retained one where that is asked."""

from __future__ import annotations

from typing import NamedTuple

from hub import content
from hub.access import Access, Action, Circumstances, Principal, Resource
from hub.errors import AccessDenied, BadMessage, TooLarge
from hub.message import JSON, OCTET_STREAM, SENML_CBOR, SENML_JSON, Message, TimeQuality
from hub.mqtt.intake import Intake
from hub.mqtt.packets import Publish, Will
from hub.mqtt.properties import Properties
from hub.mqtt.retained import Retained
from hub.mqtt.showing import message_properties
from hub.topics import parse_topic

Stamp = tuple[int, TimeQuality]  # UTC in ns, and how far it can be trusted


class Place(NamedTuple):
    """A topic somebody may publish to."""

    channel: str
    subtopic: str
    content_type: str | None  # where the topic's last word names it


class PayloadFormatInvalid(BadMessage):
    """The payload format indicator says UTF-8 text, the payload is none (5.0, 3.3.2.3.2)."""


class Publishing:
    """Makes messages of what clients send; access is asked before."""

    def __init__(
        self,
        access: Access,
        intake: Intake,
        retained: Retained,
        counters: dict[str, int],
        boot: str,
        max_payload: int,
    ) -> None:
        self._access = access
        self._intake = intake
        self._retained = retained
        self._counters = counters
        self._boot = boot
        self._max_payload = max_payload

    def place(self, principal: Principal, topic: str, size: int, peer: str) -> Place:
        """Parse a topic and ask whether `principal` may publish `size` bytes there from the address `peer`.

        Raises TopicError, AccessDenied.
        """
        address = parse_topic(topic)
        where = Resource(address.channel, address.subtopic)
        context = Circumstances(PROTOCOL, peer, size, address.content_type or "")
        decision = self._access.decide(principal, Action.PUBLISH, where, context)
        if not decision.allowed:
            raise AccessDenied(decision.reason)
        return Place(address.channel, address.subtopic, address.content_type)

    def check_will(self, principal: Principal, will: Will, peer: str) -> None:
        """A will is refused at CONNECT where it could not be published. Raises HubError."""
        self.place(principal, will.topic, len(will.payload), peer)
        self._check_payload(will.payload, will.properties)

    def _check_payload(self, payload: bytes, properties: Properties | None) -> None:
        if len(payload) > self._max_payload:
            raise TooLarge(f"a payload has at most {self._max_payload} bytes")
        if properties is not None and properties.payload_format == 1:
            try:
                payload.decode()
            except UnicodeDecodeError:
                raise PayloadFormatInvalid("the payload is not UTF-8 text as it says") from None

    def message(
        self, principal: Principal, place: Place, publish: Publish | Will, stamp: Stamp, client: str = ""
    ) -> Message:
        """The message of a PUBLISH. Raises BadMessage where the payload breaks the type that was named."""
        now_ns, quality = stamp
        payload = publish.payload
        properties = publish.properties
        self._counters[_RECEIVED[publish.qos]] += 1
        if properties is not None or len(payload) > self._max_payload:
            self._check_payload(payload, properties)
        named = place.content_type
        if named is None and properties is not None and properties.content_type is not None:
            named = _NAMED.get(properties.content_type.partition(";")[0].strip().lower())
        if publish.retain and not payload:
            content_type = OCTET_STREAM  # no pack, but how a retained message is cleared
        elif named is None and payload[:1] not in _JSON_STARTS:
            content_type = OCTET_STREAM
        else:
            content_type = _content_type(named, payload, now_ns / 1e9)
        return Message(
            place.channel,
            place.subtopic,
            principal.id,
            PROTOCOL,
            content_type,
            payload,
            now_ns,
            0,
            quality,
            self._boot,
            publish.qos,
            publish.retain,
            message_properties(properties) if properties is not None else None,
            "",
            client,
        )

    def retain(self, message: Message) -> None:
        """RETAIN was set (3.3.1.3): keep the message in the transaction that stores it."""
        undo = self._retained.undo(message)
        write = self._retained.keep(message)
        if write is None:
            self._counters["refused_retained"] += 1
            return
        self._intake.write(write)
        if message.qos:
            self._intake.undo(undo)

    def will(self, principal: Principal, will: Will, stamp: Stamp) -> Message:
        """The message of a will. Asked for again: the right to publish may be gone by now. Raises HubError."""
        place = self.place(principal, will.topic, len(will.payload), "")
        message = self.message(principal, place, will, stamp)
        if will.retain:
            self.retain(message)
        return message


def _content_type(named: str | None, payload: bytes, now_s: float) -> str:
    """What was named, checked; where nothing was, what the bytes are. Raises BadMessage."""
    if named is not None:
        return content.check(named, payload, now_s)
    try:
        return content.check(JSON, payload, now_s)
    except BadMessage:
        return OCTET_STREAM


# Content types of MQTT 5 that are taken at their word; any other is a label that is forwarded.
PROTOCOL = "mqtt"

_NAMED = {name: name for name in (SENML_JSON, SENML_CBOR)}
_JSON_STARTS = frozenset((b"[", b"{", b" ", b"\t", b"\r", b"\n"))
_RECEIVED = ("received_qos0", "received_qos1", "received_qos2")
