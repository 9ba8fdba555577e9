"""A question that policies are asked: who wants to do what to which resource, and under which circumstances.

Subjects are `things/<id>`, `users/<id>` and `internal/<part>`. Resources are `channels/<id>/messages[/<subtopic>]`,
with `/` between the subtopic's elements as on MQTT, `proxy/<host>/<path>` for another service behind a reverse proxy,
and `gateway` for what concerns neither. Actions are those of `hub.access`: connect, publish, subscribe, deliver,
manage, proxy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Value = str | int | float | bool | tuple[str, ...]

# What a condition may ask for; a key that a request does not have counts as missing.
KEYS: Mapping[str, str] = {
    "source_ip": "address of the client",
    "protocol": "door: mqtt, http, ws, coap, lora",
    "channel": "id of the channel",
    "subtopic": "of the message, with dots between its elements",
    "payload_size": "bytes of the message",
    "content_type": "of the message",
    "current_time": "UTC, in seconds since 1970",
    "owner": "what the channel's metadata names as owner",
    "subject": "who asks, as things/<id> or users/<id>",
    "subject_id": "the id alone",
    "subject_name": "name of the thing, e-mail address of the user",
    "role": "of the user",
}


@dataclass(frozen=True, slots=True)
class Request:
    """`context` holds what of KEYS is known."""

    subject: str
    action: str
    resource: str
    context: Mapping[str, Value] = field(default_factory=dict)

    def value(self, key: str) -> Value | None:
        """What is known under one of KEYS; None where nothing is."""
        if key == "subject":
            return self.subject
        if key == "subject_id":
            return self.subject.partition("/")[2]
        return self.context.get(key)

    def text(self, key: str) -> str | None:
        """The same as text, for variables of patterns."""
        value = self.value(key)
        if value is None or isinstance(value, tuple):
            return None
        return str(value).lower() if isinstance(value, bool) else str(value)
