"""A message as a follower is shown it: its payload alone, or an envelope that says where it came from.

In: a message of the log and what the follower accepts. Out: bytes for a WebSocket frame or the data of an event. SenML
is converted between JSON and CBOR where that is asked for (`hub.convert`); nothing else is.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import msgspec

from hub.convert import negotiate, transcode
from hub.errors import SenmlError
from hub.http.follow import Gap
from hub.message import JSON, SENML_CBOR, SENML_JSON, Message

TEXT_TYPES = frozenset({JSON, SENML_JSON})

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Shown:
    """A payload in the type it is shown in; `text` where that type is text."""

    content_type: str
    payload: bytes

    @property
    def text(self) -> bool:
        return self.content_type in TEXT_TYPES


def show(message: Message, accept: str) -> Shown | None:
    """The payload as `accept` (RFC 9110, 12.5.1; "" for anything) wants it; None where it cannot be shown so."""
    wanted = negotiate(accept, message.content_type)
    if wanted is None:
        return None
    if wanted == message.content_type:
        return Shown(wanted, message.payload)
    try:
        return Shown(wanted, transcode(message.content_type, message.payload, wanted))
    except SenmlError:  # taken in under rules of an earlier version: as it is, or not at all
        return (
            Shown(message.content_type, message.payload) if negotiate(accept, message.content_type) else None
        )


def as_text(shown: Shown) -> Shown:
    """SenML CBOR as SenML JSON, for a wire that carries text; others unchanged."""
    if shown.content_type != SENML_CBOR:
        return shown
    try:
        return Shown(SENML_JSON, transcode(SENML_CBOR, shown.payload, SENML_JSON))
    except SenmlError:
        return shown


def envelope(message: Message, shown: Shown, gateway: str) -> bytes:
    """One JSON object: the identity of the message, then its payload as JSON or, where it is none, in base64."""
    body: dict[str, Any] = {
        "type": "message",
        "seq": message.seq,
        "channel": message.channel,
        "subtopic": message.subtopic,
        "publisher": message.publisher,
        "protocol": message.protocol,
        "created_ns": message.created_ns,
        "time": message.time.value,
        "content_type": shown.content_type,
    }
    if gateway:
        body["gateway"] = gateway
    if message.origin:
        body["origin"] = message.origin
    if shown.text:
        body["payload"] = msgspec.Raw(shown.payload)
    else:
        body["payload_base64"] = base64.b64encode(shown.payload).decode()
    return _encode(body)


def gap(missing: Gap) -> bytes:
    """What a follower is told when retention has removed what it asked for."""
    return _encode({"type": "gap", "first": missing.first, "last": missing.last})
