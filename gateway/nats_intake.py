"""What becomes of one message that the cluster brings: taken in, passed over, or refused with the reason.

The cluster's server lets a sender write only on the subjects it has rights for, so the message must be of the
channel and subtopic that its subject says. Whether this gateway takes it is asked at the hub's access seam, for
the principal that the configuration names. Publisher, time and identity stay those of the gateway it came from.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import msgspec

from gateway.upstream.nats import CORRECTIONS, GAPS, subject_for
from hub import content, topics, wire
from hub.access import Access, Action, Principal, Resource
from hub.errors import HubError
from hub.message import OCTET_STREAM, SENML_JSON, Message


class Fate(enum.StrEnum):
    """Why a message of the stream is not in this hub's log."""

    OWN = "own"  # sent by this gateway
    CORRECTION = "correction"  # another gateway's word on its clock; its messages here keep their times
    GAP = "gap"  # another gateway's word on what its retention took
    DENIED = "denied"  # the access seam said no
    BAD = "bad"  # not the protobuf message, or not of this subject, or content that does not hold


@dataclass(frozen=True, slots=True)
class PassedOver:
    fate: Fate
    reason: str


class Intake:
    """Decides for one stream. Knows no connection."""

    def __init__(
        self, access: Access, principal: Principal, *, gateway: str, subject: str, max_payload: int
    ) -> None:
        """`subject` is what stands before `.<channel>` in the stream; `max_payload` is in bytes."""
        self._access = access
        self._principal = principal
        self._gateway = gateway
        self._subject = subject
        self._max_payload = max_payload

    def admit(self, subject: str, data: bytes, place: str) -> Message | PassedOver:
        """The message to store, without a number; or why it is not for this hub.

        `place` is "<stream>/<number>": the identity of a message that was born without one, so that no sink
        here takes it for this gateway's own.
        """
        try:
            message = wire.decode(data)
            if subject != subject_for(self._subject, message):
                return PassedOver(Fate.BAD, f"a message of channel {message.channel!r} on another's subject")
            if message.origin and wire.parse_origin(message.origin)[0] == self._gateway:
                return PassedOver(Fate.OWN, "sent by this gateway")
            if message.channel == CORRECTIONS:
                return PassedOver(Fate.CORRECTION, "a time correction")
            if message.channel == GAPS:
                return PassedOver(Fate.GAP, "a word on messages that are gone")
            decision = self._access.decide(
                self._principal, Action.PUBLISH, Resource(message.channel, message.subtopic)
            )
            if not decision.allowed:
                return PassedOver(Fate.DENIED, decision.reason)
            if len(message.payload) > self._max_payload:
                return PassedOver(Fate.BAD, f"a payload has at most {self._max_payload} bytes")
            return self._checked(message, place)
        except HubError as error:
            return PassedOver(Fate.BAD, error.reason)

    def _checked(self, message: Message, place: str) -> Message:
        """With subtopic and content type as this hub keeps them. Raises HubError where the content does not hold.

        A Mainflux service says no content type: what is SenML is taken as that, anything else as bytes.
        """
        subtopic = topics.parse_subtopic(message.subtopic)
        created_s = message.created_ns / 1e9
        if message.content_type:
            content_type = content.check(message.content_type, message.payload, created_s)
        else:
            try:
                content_type = content.check(SENML_JSON, message.payload, created_s)
            except HubError:
                content_type = OCTET_STREAM
        return msgspec.structs.replace(
            message, subtopic=subtopic, content_type=content_type, origin=message.origin or place
        )
