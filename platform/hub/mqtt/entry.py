"""CONNECT: who it is, whether there is room, and what CONNACK says (3.1.4, 3.2)."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, NamedTuple

from hub.access import Action, Circumstances, Principal, Resource
from hub.authority.judge import Shown
from hub.errors import HubError
from hub.hub import Hub
from hub.mqtt.limits import Limits
from hub.mqtt.packets import Connect
from hub.mqtt.properties import Properties
from hub.mqtt.publishing import PROTOCOL, Publishing
from hub.mqtt.reasons import LEVEL_5_0, Reason
from hub.mqtt.session import NEVER
from hub.mqtt.showing import MISSED

if TYPE_CHECKING:
    from hub.mqtt.connection import Connection

SMALL_PACKET = 256  # bytes; a client that takes no more is not told what it could do without (3.2.2.3.10)

log = logging.getLogger("hub.mqtt")


class Refusal(NamedTuple):
    """A CONNECT that is answered with `reason`; `why` is a sentence that names no secret."""

    reason: Reason
    why: str


NO_CREDENTIALS = Refusal(Reason.NOT_AUTHORIZED, "no key as password")
BAD_CREDENTIALS = Refusal(
    Reason.BAD_USER_NAME_OR_PASSWORD,
    "the password is no key or token that is good, or the user name is another's",
)
BAD_CERTIFICATE = Refusal(
    Reason.BAD_USER_NAME_OR_PASSWORD, "the client certificate names no thing, or another than the user name"
)
NO_METHOD = Refusal(Reason.BAD_AUTHENTICATION_METHOD, "there is no authentication but user name and password")
TOO_MANY_CONNECTIONS = Refusal(Reason.QUOTA_EXCEEDED, "too many connections, of this thing or of all")
TOO_MANY_SESSIONS = Refusal(Reason.QUOTA_EXCEEDED, "too many kept sessions, of this thing or of all")


UNKNOWN = (NO_CREDENTIALS, BAD_CREDENTIALS, BAD_CERTIFICATE)  # nobody was found who could be denied anything


class Login(NamedTuple):
    """Who has connected. `token` is a session's or a signed one, to be asked for again while he is."""

    principal: Principal
    token: str = ""
    ends_s: float | None = None  # UTC seconds when a signed token is over


def authenticate(hub: Hub, packet: Connect, certificate: Shown | None, peer: str) -> Login | Refusal:
    """A thing by its key or by a verified certificate that names it, a user by e-mail address and token; either by an
    API key or access token of his.

    Who shows a key or access token may leave the user name empty. Where there is a certificate, what else is shown
    must agree.
    """
    if packet.properties is not None and packet.properties.authentication_method is not None:
        return NO_METHOD
    found = _credentials(hub, packet) if packet.password is not None else None
    if certificate is not None and certificate.thing:
        thing_id = certificate.thing
        principal = hub.authenticate_certificate(thing_id, certificate.serial)
        agrees = found is None or (isinstance(found, Login) and found.principal.id == thing_id)
        if principal is None or not agrees or (packet.username and packet.username != thing_id):
            return BAD_CERTIFICATE
        found = Login(principal)
    if found is None:
        return NO_CREDENTIALS
    if isinstance(found, Login):
        decision = hub.access.decide(
            found.principal, Action.CONNECT, Resource(), Circumstances(PROTOCOL, peer)
        )
        if not decision.allowed:
            return Refusal(Reason.NOT_AUTHORIZED, decision.reason)
    return found


def _credentials(hub: Hub, packet: Connect) -> Login | Refusal:
    try:
        secret = (packet.password or b"").decode()
    except UnicodeDecodeError:
        return BAD_CREDENTIALS
    principal = hub.authenticate_thing(secret)
    if principal is not None:
        return Login(principal) if _names(hub, packet.username, principal) else BAD_CREDENTIALS
    principal = hub.authenticate_bearer(secret, hub.now_s())
    if principal is None or not (packet.username or principal.grant):
        return BAD_CREDENTIALS
    if not _names(hub, packet.username, principal):
        return BAD_CREDENTIALS
    if principal.version is not None:
        return Login(principal)  # an API key, which ends with its row: access hears of that
    return Login(principal, secret, hub.bearers.ends_s(secret, hub.now_s()))


def _names(hub: Hub, username: str | None, principal: Principal) -> bool:
    """Whether the user name, where there is one, is his: a thing's id, a person's address."""
    if not username:
        return True
    if principal.kind == "thing":
        return username == principal.id
    user = hub.registry.user(principal.id)
    return user is not None and username.lower() == user.email.lower()


def check_will(publishing: Publishing, principal: Principal, packet: Connect, peer: str) -> Refusal | None:
    """A will that could not be published is refused here (3.1.2.5)."""
    if packet.will is None:
        return None
    try:
        publishing.check_will(principal, packet.will, peer)
    except HubError as error:
        return Refusal(Reason(error.mqtt_reason), f"will refused: {error.reason}")
    return None


def session_expiry_s(limits: Limits, packet: Connect) -> int:
    """How long the session outlives its connection. 3.1.1: for ever, or not at all (5.0, 3.1.2.11.2)."""
    if packet.level == LEVEL_5_0:
        asked = (packet.properties.session_expiry_s or 0) if packet.properties else 0
    else:
        asked = 0 if packet.clean else NEVER
    return min(asked, limits.session_expiry_s)


def keepalive_s(limits: Limits, packet: Connect) -> int:
    """What the client asked for, or the server keep alive of MQTT 5 (3.2.2.3.14)."""
    bound = limits.max_keepalive_s
    if packet.level == LEVEL_5_0 and bound and not 0 < packet.keepalive_s <= bound:
        return bound
    return packet.keepalive_s


def new_client_id() -> str:
    """For a client of MQTT 5 that has none (3.1.3.1)."""
    return f"auto-{secrets.token_hex(8)}"


def connack_properties(
    hub: Hub, limits: Limits, connection: Connection, packet: Connect, assigned: str, missed: int
) -> Properties:
    """3.2.2.3: what this server does and takes. What is left out is as the client asked.

    `missed` messages retention took from the session that is taken up: nothing else would tell its client.
    """
    asked = packet.properties or Properties()
    tell = missed and (asked.maximum_packet_size or SMALL_PACKET) >= SMALL_PACKET
    expiry_s = session_expiry_s(limits, packet)
    return Properties(
        session_expiry_s=expiry_s if expiry_s != (asked.session_expiry_s or 0) else None,
        receive_maximum=limits.receiving,
        maximum_packet_size=limits.packet_bytes,
        assigned_client_id=assigned or None,
        topic_alias_maximum=limits.topic_aliases,
        retain_available=1,
        wildcards_available=1,
        subscription_ids_available=1,
        shared_available=1,
        server_keepalive_s=connection.keepalive_s if connection.keepalive_s != packet.keepalive_s else None,
        response_information=_response_information(hub, connection.principal)
        if asked.request_response_information
        else None,
        user=((MISSED, str(missed)),) if tell else (),
    )


def _response_information(hub: Hub, principal: Principal) -> str | None:
    """A topic that this thing may subscribe to for responses (3.2.2.3.15); None where it is on no channel."""
    channels = hub.registry.channels_of(principal.id)
    return f"channels/{channels[0].id}/messages/responses/{principal.id}" if channels else None
