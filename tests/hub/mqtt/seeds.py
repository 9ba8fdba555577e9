"""Valid packets of a client, per version, for whoever damages them.

Each function makes packets of one kind; between them every field, flag and property of the version occurs.
`packets` gives them all in a stable order, `conversations` whole connections from CONNECT on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tests.hub.mqtt.conformance import wire
from tests.hub.mqtt.conformance.wire import V4, V5, Props, Will

TOPIC = "channels/6f2a1d52-6f2c-4b6a-a5a1-0a3d4be1c001/messages"
USER, KEY = "6f2a1d52-6f2c-4b6a-a5a1-0a3d4be1c002", "a key of enough characters, 43 of them here"
PAIRS: Props = [("user_property", ("unit", "Cel")), ("user_property", ("", ""))]
MESSAGE: Props = [
    ("payload_format_indicator", 1),
    ("message_expiry_interval", 86_400),
    ("content_type", "application/senml+json"),
    ("response_topic", TOPIC + "/answer"),
    ("correlation_data", bytes(range(32))),
    *PAIRS,
]
SENML = (
    b'[{"bn":"urn:dev:mac:0011223344556677:","bt":1.7e9,"n":"temp","u":"Cel","v":21.5},{"n":"on","vb":true}]'
)


def connects(version: int) -> Iterator[bytes]:
    yield wire.connect(version, "")
    yield wire.connect(version, "sensor-1", user=USER, password=KEY, keepalive=60)
    yield wire.connect(version, "Ä" * 30, user=USER, password=KEY, clean=False, keepalive=65_535)
    for qos in range(3):
        will = Will(
            TOPIC + "/state", b"off", qos, retain=qos == 1, props=[("will_delay_interval", 30), *MESSAGE]
        )
        yield wire.connect(version, "w", user=USER, password=KEY, will=will)
    if version == V5:
        yield wire.connect(version, "password alone", password=KEY)
        props = [
            ("session_expiry_interval", 3600),
            ("receive_maximum", 20),
            ("maximum_packet_size", 65_536),
            ("topic_alias_maximum", 10),
            ("request_response_information", 0),
            ("request_problem_information", 1),
            *PAIRS,
        ]
        yield wire.connect(version, "all", user=USER, password=KEY, clean=False, props=props)
        method = [("authentication_method", "SCRAM-SHA-256"), ("authentication_data", b"n,,n=a,r=b")]
        yield wire.connect(version, "enhanced", props=method)


def publishes(version: int) -> Iterator[bytes]:
    for qos in range(3):
        packet_id = 0x1234 if qos else None
        yield wire.publish(version, TOPIC, SENML, qos, packet_id)
        yield wire.publish(version, TOPIC + "/room/temp", b"", qos, packet_id, retain=True)
        yield wire.publish(version, "mainflux/" + TOPIC + "/senml-json", SENML, qos, packet_id)
        yield wire.publish(version, TOPIC, bytes(range(256)) * 3, qos, packet_id, props=MESSAGE)
        if qos:
            yield wire.publish(version, TOPIC, SENML, qos, packet_id, dup=True, props=MESSAGE)
    if version == V5:
        yield wire.publish(version, TOPIC, b"named", 1, 7, props=[("topic_alias", 1)])
        yield wire.publish(version, "", b"by alias", 1, 8, props=[("topic_alias", 1)])


def acknowledgements(version: int) -> Iterator[bytes]:
    for kind in (wire.PUBACK, wire.PUBREC, wire.PUBREL, wire.PUBCOMP):
        yield wire.ack(version, kind, 0x1234)
        if version == V5:
            code = 0x92 if kind in (wire.PUBREL, wire.PUBCOMP) else 0x97
            yield wire.ack(version, kind, 1, 0)
            yield wire.ack(version, kind, 65_535, code, [("reason_string", "no room"), *PAIRS])


def subscribes(version: int) -> Iterator[bytes]:
    yield wire.subscribe(version, 1, [(TOPIC, 0)])
    yield wire.subscribe(version, 2, [(TOPIC + "/#", 2), (TOPIC + "/+/temp", 1), (TOPIC + "/+", 0)], PAIRS)
    if version == V5:
        identified = [("subscription_identifier", 268_435_455), *PAIRS]
        yield wire.subscribe(version, 3, [(TOPIC, 0x2D), (TOPIC + "/#", 0x1A)], identified)
        yield wire.subscribe(version, 4, [("$share/group/" + TOPIC + "/#", 0x09)])


def unsubscribes(version: int) -> Iterator[bytes]:
    yield wire.unsubscribe(version, 5, [TOPIC])
    yield wire.unsubscribe(version, 6, [TOPIC + "/#", "$share/group/" + TOPIC, "never/had"], PAIRS)


def others(version: int) -> Iterator[bytes]:
    yield wire.PING
    yield wire.disconnect(version)
    if version == V5:
        yield wire.disconnect(version, 0x00)
        props: Props = [("session_expiry_interval", 0), ("reason_string", "bye"), *PAIRS]
        yield wire.disconnect(version, 0x04, props)
        for code in (0x00, 0x18, 0x19):
            yield wire.auth(code, [("authentication_method", "x"), ("authentication_data", b"\0"), *PAIRS])


MAKERS: tuple[Callable[[int], Iterator[bytes]], ...] = (
    connects,
    publishes,
    acknowledgements,
    subscribes,
    unsubscribes,
    others,
)


def packets(version: int) -> list[bytes]:
    """Every packet of every maker; `version` is the protocol level, 4 or 5."""
    return [packet for maker in MAKERS for packet in maker(version)]


def conversations(
    version: int, user: str = USER, password: str = KEY, topic: str = TOPIC
) -> list[list[bytes]]:
    """Packets in an order in which a client may send them, each list on a connection of its own."""
    hello = wire.connect(version, "talker", user=user, password=password, clean=False)
    talk: Sequence[bytes] = [
        wire.subscribe(version, 1, [(topic + "/#", 2)]),
        wire.publish(version, topic + "/a", SENML, 2, 10),
        wire.ack(version, wire.PUBREL, 10),
        wire.publish(version, topic + "/b", b"x", 1, 11, retain=True),
        wire.PING,
        wire.ack(version, wire.PUBREC, 1),
        wire.ack(version, wire.PUBCOMP, 1),
        wire.ack(version, wire.PUBACK, 2),
        wire.unsubscribe(version, 2, [topic + "/#"]),
        wire.disconnect(version),
    ]
    will = Will(topic + "/will", b"gone", 1, retain=True)
    willing = wire.connect(version, "willing", user=user, password=password, will=will)
    return [
        [hello, *talk],
        [willing, *talk[1:6]],
        [hello, *(wire.publish(version, topic, b"%d" % n) for n in range(20))],
    ]


VERSIONS = (V4, V5)
