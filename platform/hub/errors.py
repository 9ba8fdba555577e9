"""What the hub raises. Each class knows its wire replies: HTTP status and MQTT 5 reason code.

`AccessDenied` and `BadMessage` are the sender's fault, `Busy` passes, `LogFailed` is ours and ends the
process.
"""

from __future__ import annotations

from typing import ClassVar


class HubError(Exception):
    """Base of everything the hub raises on purpose.

    `reason` is a sentence for the person at the other end.
    """

    http_status: ClassVar[int] = 500
    mqtt_reason: ClassVar[int] = 0x80  # Unspecified error

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class AccessDenied(HubError):
    """The principal is known and may not do this."""

    http_status = 403
    mqtt_reason = 0x87  # Not authorized


class BadMessage(HubError):
    """The content does not keep to its content type, or is too large."""

    http_status = 400
    mqtt_reason = 0x99  # Payload format invalid


class TooLarge(BadMessage):
    """The payload is longer than the hub takes."""

    http_status = 413
    mqtt_reason = 0x95  # Packet too large


class UnsupportedType(BadMessage):
    """The content type is none of those the hub keeps."""

    http_status = 415


class TopicError(HubError):
    """A topic, filter or subtopic that the hub has no place for."""

    http_status = 400
    mqtt_reason = 0x90  # Topic Name invalid


class SenmlError(HubError):
    """Bytes that are no SenML pack (RFC 8428)."""

    http_status = 400
    mqtt_reason = 0x99


class WireError(HubError):
    """Bytes that are no protobuf message, or a message without such a form."""

    http_status = 400
    mqtt_reason = 0x99


class ProxyProtocolError(HubError):
    """Bytes that begin no PROXY header: whoever sends them is no proxy."""

    http_status = 400
    mqtt_reason = 0x82  # Protocol Error


class Busy(HubError):
    """A bound is reached; the same request may succeed a moment later."""

    http_status = 503
    mqtt_reason = 0x97  # Quota exceeded


class TooManyTries(HubError):
    """Password or claim code guessed too often; `retry_after_s` is None where waiting does not help."""

    http_status = 429
    mqtt_reason = 0x97

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class LogFailed(HubError):
    """The log could not make this durable. Nothing was acknowledged and nothing will be tried again."""

    http_status = 503
    mqtt_reason = 0x83  # Implementation specific error


class LogFull(LogFailed):
    """No room on the disk. Unlike its parent this passes: the log goes on when there is room again."""

    http_status = 507
    mqtt_reason = 0x97


class WriteRefused(HubError):
    """The database refused a statement handed in with `also`; its messages were not stored either."""


class NotFound(HubError):
    """No such thing, channel, user or connection."""

    http_status = 404


class Conflict(HubError):
    """The id, key or e-mail address is taken."""

    http_status = 409


class Invalid(HubError):
    """A value outside its limits."""

    http_status = 400
