"""Reason codes (MQTT 5.0, 2.4) and the CONNACK return codes of MQTT 3.1.1 that say the same."""

from __future__ import annotations

import enum

LEVEL_3_1_1 = 4
LEVEL_5_0 = 5


class Reason(enum.IntEnum):
    """MQTT 5.0, 2.4. 0x00 is also "normal disconnection" and "granted QoS 0"; from 0x80 on it failed."""

    SUCCESS = 0x00
    GRANTED_QOS_1 = 0x01
    GRANTED_QOS_2 = 0x02
    DISCONNECT_WITH_WILL = 0x04
    NO_MATCHING_SUBSCRIBERS = 0x10
    NO_SUBSCRIPTION_EXISTED = 0x11
    CONTINUE_AUTHENTICATION = 0x18
    RE_AUTHENTICATE = 0x19
    UNSPECIFIED_ERROR = 0x80
    MALFORMED_PACKET = 0x81
    PROTOCOL_ERROR = 0x82
    IMPLEMENTATION_SPECIFIC_ERROR = 0x83
    UNSUPPORTED_PROTOCOL_VERSION = 0x84
    CLIENT_IDENTIFIER_NOT_VALID = 0x85
    BAD_USER_NAME_OR_PASSWORD = 0x86
    NOT_AUTHORIZED = 0x87
    SERVER_UNAVAILABLE = 0x88
    SERVER_BUSY = 0x89
    BANNED = 0x8A
    SERVER_SHUTTING_DOWN = 0x8B
    BAD_AUTHENTICATION_METHOD = 0x8C
    KEEP_ALIVE_TIMEOUT = 0x8D
    SESSION_TAKEN_OVER = 0x8E
    TOPIC_FILTER_INVALID = 0x8F
    TOPIC_NAME_INVALID = 0x90
    PACKET_IDENTIFIER_IN_USE = 0x91
    PACKET_IDENTIFIER_NOT_FOUND = 0x92
    RECEIVE_MAXIMUM_EXCEEDED = 0x93
    TOPIC_ALIAS_INVALID = 0x94
    PACKET_TOO_LARGE = 0x95
    MESSAGE_RATE_TOO_HIGH = 0x96
    QUOTA_EXCEEDED = 0x97
    ADMINISTRATIVE_ACTION = 0x98
    PAYLOAD_FORMAT_INVALID = 0x99
    RETAIN_NOT_SUPPORTED = 0x9A
    QOS_NOT_SUPPORTED = 0x9B
    USE_ANOTHER_SERVER = 0x9C
    SERVER_MOVED = 0x9D
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9E
    CONNECTION_RATE_EXCEEDED = 0x9F
    MAXIMUM_CONNECT_TIME = 0xA0
    SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED = 0xA1
    WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED = 0xA2


class ConnectCode(enum.IntEnum):
    """CONNACK return codes of MQTT 3.1.1 (3.2.2.3)."""

    ACCEPTED = 0
    UNACCEPTABLE_PROTOCOL = 1
    IDENTIFIER_REJECTED = 2
    SERVER_UNAVAILABLE = 3
    BAD_CREDENTIALS = 4
    NOT_AUTHORIZED = 5


CONNECT_CODES = {  # what 3.1.1 has no word for is not authorized
    Reason.SUCCESS: ConnectCode.ACCEPTED,
    Reason.UNSUPPORTED_PROTOCOL_VERSION: ConnectCode.UNACCEPTABLE_PROTOCOL,
    Reason.CLIENT_IDENTIFIER_NOT_VALID: ConnectCode.IDENTIFIER_REJECTED,
    Reason.SERVER_UNAVAILABLE: ConnectCode.SERVER_UNAVAILABLE,
    Reason.QUOTA_EXCEEDED: ConnectCode.SERVER_UNAVAILABLE,
    Reason.BAD_USER_NAME_OR_PASSWORD: ConnectCode.BAD_CREDENTIALS,
    Reason.NOT_AUTHORIZED: ConnectCode.NOT_AUTHORIZED,
}

_REFUSALS = frozenset({0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99})

# The codes a client may send, by first byte of the packet (MQTT 5.0: 3.4.2.1, 3.5.2.1, 3.6.2.1, 3.7.2.1, 3.14.2.1,
# 3.15.2.1).
FROM_CLIENT = {
    0x40: frozenset({0x00, 0x10}) | _REFUSALS,
    0x50: frozenset({0x00, 0x10}) | _REFUSALS,
    0x62: frozenset({0x00, 0x92}),
    0x70: frozenset({0x00, 0x92}),
    0xE0: frozenset({0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99}),
    0xF0: frozenset({0x18, 0x19}),
}


class PacketError(Exception):
    """The peer broke the protocol; the connection is to be closed (3.1.1: 4.8, 5.0: 4.13).

    `code` is what MQTT 5 says about it. `level` is the protocol level of a CONNECT that was refused, in whose form
    CONNACK is to be sent; 0 where it is not known or the fault is in a later packet.
    """

    def __init__(self, reason: str, code: Reason = Reason.MALFORMED_PACKET) -> None:
        super().__init__(reason)
        self.code = code
        self.level = 0
