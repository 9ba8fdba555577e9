"""The MQTT 5 codec against the npm package mqtt-packet in both directions, the specification, and damage."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.mqtt import bodies, replies
from hub.mqtt import packets as p
from hub.mqtt.decoder import Decoder
from hub.mqtt.fields import Fields, encode_length
from hub.mqtt.properties import MAX_USER_PROPERTIES, TABLE, On, Properties, encode_properties, read_properties
from hub.mqtt.reasons import PacketError, Reason

NODE = Path(__file__).parents[2] / "node"
CONNECT = bytes.fromhex("100d00044d5154540502003c000000")


def oracle(requests: list[dict[str, Any]]) -> list[Any]:
    """One run of the other codec for all requests."""
    done = subprocess.run(
        ["node", "mqtt_packet.js"], cwd=NODE, input=json.dumps(requests), text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    answers: list[Any] = json.loads(done.stdout)
    return answers


def hexed(value: bytes) -> dict[str, str]:
    return {"hex": value.hex()}


def fresh(*, connected: bool = True, aliases: int = 10) -> Decoder:
    decoder = Decoder(1 << 20)
    if connected:
        decoder.feed(CONNECT, [])
        decoder.max_alias = aliases
    return decoder


def decode(wire: bytes, **how: Any) -> list[p.Packet]:
    found: list[p.Packet] = []
    fresh(connected=wire[0] != 0x10, **how).feed(wire, found)
    return found


USER = (("a", "1"), ("a", "2"), ("ö", ""))
USER_JS = {"a": ["1", "2"], "ö": ""}

# What a client sends: as the other codec names it, and as ours reads it.
SENT: list[Any] = [
    pytest.param(
        {
            "cmd": "connect",
            "protocolId": "MQTT",
            "protocolVersion": 5,
            "clean": True,
            "clientId": "node1",
            "keepalive": 60,
            "username": "thing",
            "password": hexed(b"key"),
            "properties": {
                "sessionExpiryInterval": 1234,
                "receiveMaximum": 432,
                "maximumPacketSize": 100,
                "topicAliasMaximum": 456,
                "requestResponseInformation": True,
                "requestProblemInformation": True,
                "userProperties": USER_JS,
                "authenticationMethod": "scram",
                "authenticationData": hexed(b"\x01\x02"),
            },
            "will": {
                "topic": "will/me",
                "payload": hexed(b"gone"),
                "qos": 2,
                "retain": True,
                "properties": {
                    "willDelayInterval": 1234,
                    "payloadFormatIndicator": False,
                    "messageExpiryInterval": 4321,
                    "contentType": "test",
                    "responseTopic": "topic",
                    "correlationData": hexed(b"\x01\x02\x03\x04"),
                    "userProperties": USER_JS,
                },
            },
        },
        p.Connect(
            5,
            True,
            60,
            "node1",
            p.Will(
                "will/me",
                b"gone",
                2,
                True,
                Properties(
                    payload_format=0,
                    message_expiry_s=4321,
                    content_type="test",
                    response_topic="topic",
                    correlation_data=b"\x01\x02\x03\x04",
                    will_delay_s=1234,
                    user=USER,
                ),
            ),
            "thing",
            b"key",
            Properties(
                session_expiry_s=1234,
                authentication_method="scram",
                authentication_data=b"\x01\x02",
                request_problem_information=1,
                request_response_information=1,
                receive_maximum=432,
                topic_alias_maximum=456,
                user=USER,
                maximum_packet_size=100,
            ),
        ),
        id="CONNECT with everything",
    ),
    pytest.param(
        {
            "cmd": "publish",
            "topic": "a/b",
            "payload": hexed(b"hi"),
            "qos": 2,
            "messageId": 9,
            "dup": True,
            "retain": True,
            "properties": {
                "payloadFormatIndicator": True,
                "messageExpiryInterval": 4321,
                "topicAlias": 7,
                "responseTopic": "topic",
                "correlationData": hexed(b"\x01"),
                "userProperties": USER_JS,
                "contentType": "text/plain",
            },
        },
        p.Publish(
            "a/b",
            b"hi",
            2,
            True,
            True,
            9,
            Properties(
                payload_format=1,
                message_expiry_s=4321,
                content_type="text/plain",
                response_topic="topic",
                correlation_data=b"\x01",
                topic_alias=7,
                user=USER,
            ),
        ),
        id="PUBLISH with everything",
    ),
    pytest.param(
        {"cmd": "publish", "topic": "a", "payload": hexed(b""), "qos": 0, "dup": False, "retain": False},
        p.Publish("a", b"", 0, False, False, 0),
        id="PUBLISH without properties",
    ),
    pytest.param(
        {
            "cmd": "subscribe",
            "messageId": 6,
            "properties": {"subscriptionIdentifier": 145, "userProperties": {"accept": "x"}},
            "subscriptions": [
                {"topic": "a/+", "qos": 1, "nl": True, "rap": True, "rh": 2},
                {"topic": "$share/g/b/#", "qos": 2, "nl": False, "rap": False, "rh": 0},
            ],
        },
        p.Subscribe(
            6,
            (p.Asked("a/+", 1, True, True, 2), p.Asked("$share/g/b/#", 2)),
            Properties(subscription_ids=(145,), user=(("accept", "x"),)),
        ),
        id="SUBSCRIBE",
    ),
    pytest.param(
        {
            "cmd": "unsubscribe",
            "messageId": 8,
            "properties": {"userProperties": USER_JS},
            "unsubscriptions": ["a/b", "c"],
        },
        p.Unsubscribe(8, ("a/b", "c")),
        id="UNSUBSCRIBE",
    ),
    *(
        pytest.param(
            {"cmd": cmd, "messageId": 2, "reasonCode": code, "properties": {"reasonString": "why"}},
            kind(2, code),
            id=cmd,
        )
        for cmd, kind, code in (
            ("puback", p.PubAck, 0x97),
            ("pubrec", p.PubRec, 0x80),
            ("pubrel", p.PubRel, 0x92),
            ("pubcomp", p.PubComp, 0x92),
        )
    ),
    pytest.param({"cmd": "puback", "messageId": 2, "reasonCode": 0}, p.PubAck(2), id="PUBACK of two bytes"),
    pytest.param(
        {"cmd": "disconnect", "reasonCode": 4, "properties": {"sessionExpiryInterval": 145}},
        p.Disconnect(4, 145),
        id="DISCONNECT with will",
    ),
    pytest.param(
        {
            "cmd": "auth",
            "reasonCode": 24,
            "properties": {"authenticationMethod": "m", "authenticationData": hexed(b"\x00")},
        },
        p.Auth(0x18),
        id="AUTH",
    ),
]


@pytest.fixture(scope="module")
def wires() -> list[bytes]:
    """The packets of SENT as the other codec writes them."""
    built = oracle([{"build": vector.values[0], "version": 5} for vector in SENT])
    return [bytes.fromhex(wire) for wire in built]


@pytest.mark.parametrize("index", range(len(SENT)), ids=[vector.id for vector in SENT])
def test_packets_of_another_codec_are_read_like_a_stream(index: int, wires: list[bytes]) -> None:
    wire, packet = wires[index], SENT[index].values[1]
    assert decode(wire + b"\xc0") == [packet]
    decoder = fresh(connected=wire[0] != 0x10)
    found: list[p.Packet] = []
    for at in range(len(wire)):
        assert found == []
        decoder.feed(wire[at : at + 1], found)
    assert found == [packet]
    for end in range(len(wire)):
        found = []
        fresh(connected=wire[0] != 0x10).feed(wire[:end], found)
        assert found == []


EVERYTHING = Properties(
    session_expiry_s=1234,
    assigned_client_id="auto-1",
    server_keepalive_s=99,
    response_information="r",
    reason_string="why",
    receive_maximum=432,
    topic_alias_maximum=456,
    retain_available=1,
    user=(("a", "1"), ("b", "2")),
    maximum_packet_size=100,
    wildcards_available=1,
    subscription_ids_available=1,
    shared_available=0,
)

# What a server sends: our bytes, and what the other codec must read in them.
REPLIES: list[Any] = [
    pytest.param(
        replies.encode_connack_5(Reason.SUCCESS, EVERYTHING, session_present=True),
        {
            "cmd": "connack",
            "sessionPresent": True,
            "reasonCode": 0,
            "properties": {
                "sessionExpiryInterval": 1234,
                "assignedClientIdentifier": "auto-1",
                "serverKeepAlive": 99,
                "responseInformation": "r",
                "reasonString": "why",
                "receiveMaximum": 432,
                "topicAliasMaximum": 456,
                "retainAvailable": True,
                "userProperties": {"a": "1", "b": "2"},
                "maximumPacketSize": 100,
                "wildcardSubscriptionAvailable": True,
                "subscriptionIdentifiersAvailable": True,
                "sharedSubscriptionAvailable": False,
            },
        },
        id="CONNACK with everything",
    ),
    pytest.param(
        replies.encode_connack_5(Reason.BAD_USER_NAME_OR_PASSWORD),
        {"cmd": "connack", "sessionPresent": False, "reasonCode": 0x86},
        id="CONNACK refused",
    ),
    pytest.param(
        replies.encode_answer_5(replies.PUBACK, 258, Reason.NOT_AUTHORIZED, "why"),
        {"cmd": "puback", "messageId": 258, "reasonCode": 0x87, "properties": {"reasonString": "why"}},
        id="PUBACK with a reason",
    ),
    pytest.param(
        replies.encode_answer_5(replies.PUBREC, 1, Reason.NO_MATCHING_SUBSCRIBERS),
        {"cmd": "pubrec", "messageId": 1, "reasonCode": 0x10},
        id="PUBREC",
    ),
    pytest.param(
        replies.encode_answer_5(replies.PUBCOMP, 1, 0), {"cmd": "pubcomp", "messageId": 1}, id="PUBCOMP"
    ),
    pytest.param(
        replies.encode_answer_5(replies.PUBREL, 3, Reason.PACKET_IDENTIFIER_NOT_FOUND),
        {"cmd": "pubrel", "messageId": 3, "reasonCode": 0x92},
        id="PUBREL",
    ),
    pytest.param(
        replies.encode_suback_5(10, bytes((0, 2, 0x87)), "why"),
        {"cmd": "suback", "messageId": 10, "granted": [0, 2, 0x87], "properties": {"reasonString": "why"}},
        id="SUBACK",
    ),
    pytest.param(
        replies.encode_unsuback_5(10, bytes((0, 0x11))),
        {"cmd": "unsuback", "messageId": 10, "granted": [0, 0x11]},
        id="UNSUBACK",
    ),
    pytest.param(
        replies.encode_disconnect(Reason.SESSION_TAKEN_OVER, "why"),
        {"cmd": "disconnect", "reasonCode": 0x8E, "properties": {"reasonString": "why"}},
        id="DISCONNECT",
    ),
    pytest.param(
        replies.publish_head_5(b"a/b", b"\x0b\x07\x0b\x80\x01\x23\x00\x05", 3, 1, 9, retain=True, dup=True)
        + b"xyz",
        {
            "cmd": "publish",
            "topic": "a/b",
            "qos": 1,
            "messageId": 9,
            "retain": True,
            "dup": True,
            "payload": hexed(b"xyz"),
            "properties": {"subscriptionIdentifier": [7, 128], "topicAlias": 5},
        },
        id="PUBLISH",
    ),
]


@pytest.fixture(scope="module")
def read_by_others() -> list[Any]:
    return oracle([{"read": vector.values[0].hex(), "version": 5} for vector in REPLIES])


@pytest.mark.parametrize("index", range(len(REPLIES)), ids=[vector.id for vector in REPLIES])
def test_another_codec_reads_what_the_server_sends(index: int, read_by_others: list[Any]) -> None:
    found, wanted = read_by_others[index], REPLIES[index].values[1]
    assert {name: found.get(name) for name in wanted} == wanted


# Table 2-4 of the specification: number, type, and the packets it stands on.
SPECIFIED = """
01 u8 PUBLISH WILL
02 u32 PUBLISH WILL
03 text PUBLISH WILL
08 text PUBLISH WILL
09 binary PUBLISH WILL
0b length PUBLISH SUBSCRIBE
11 u32 CONNECT CONNACK DISCONNECT
12 text CONNACK
13 u16 CONNACK
15 text CONNECT CONNACK AUTH
16 binary CONNECT CONNACK AUTH
17 u8 CONNECT
18 u32 WILL
19 u8 CONNECT
1a text CONNACK
1c text CONNACK DISCONNECT
1f text CONNACK PUBACK PUBREC PUBREL PUBCOMP SUBACK UNSUBACK DISCONNECT AUTH
21 u16 CONNECT CONNACK
22 u16 CONNECT CONNACK
23 u16 PUBLISH
24 u8 CONNACK
25 u8 CONNACK
26 pair CONNECT CONNACK PUBLISH WILL PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK UNSUBSCRIBE UNSUBACK DISCONNECT AUTH
27 u32 CONNECT CONNACK
28 u8 CONNACK
29 u8 CONNACK
2a u8 CONNACK
"""
EXAMPLES = {
    "u8": b"\x01",
    "u16": b"\x00\x01",
    "u32": b"\x00\x00\x00\x01",
    "length": b"\x01",
    "text": b"\x00\x01x",
    "binary": b"\x00\x01x",
    "pair": b"\x00\x01x\x00\x01y",
}
ROWS = [line.split() for line in SPECIFIED.strip().splitlines()]


def block(*parts: bytes) -> Fields:
    body = b"".join(parts)
    return Fields(encode_length(len(body)) + body)


def test_the_table_has_each_property_of_the_specification() -> None:
    assert [f"{row.number:02x}" for row in TABLE] == [row[0] for row in ROWS]


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_property_is_taken_where_it_may_stand_and_nowhere_else(row: list[str]) -> None:
    number, kind, *allowed = row
    example = bytes.fromhex(number) + EXAMPLES[kind]
    method = b"\x15\x00\x01m" if number == "16" else b""
    for packet in On:
        if packet.name in allowed:
            assert read_properties(block(method, example), packet) is not None
        else:
            with pytest.raises(PacketError) as caught:
                read_properties(block(example), packet)
            assert caught.value.code == Reason.MALFORMED_PACKET


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_property_that_stands_there_twice_is_a_protocol_error(row: list[str]) -> None:
    number, kind, first, *_ = row
    twice = (bytes.fromhex(number) + EXAMPLES[kind]) * 2
    method = b"\x15\x00\x01m" if number == "16" else b""
    if number in ("26", "0b"):  # may repeat
        assert read_properties(block(twice), On[first]) is not None
        return
    with pytest.raises(PacketError) as caught:
        read_properties(block(method, twice), On[first])
    assert caught.value.code == Reason.PROTOCOL_ERROR


def test_subscription_identifier_stands_once_on_subscribe() -> None:
    with pytest.raises(PacketError) as caught:
        read_properties(block(b"\x0b\x01\x0b\x02"), On.SUBSCRIBE)
    assert caught.value.code == Reason.PROTOCOL_ERROR


@pytest.mark.parametrize(
    ("wire", "on", "code"),
    [
        pytest.param("0102", On.PUBLISH, 0x82, id="payload format 2"),
        pytest.param("0b00", On.SUBSCRIBE, 0x82, id="subscription identifier 0"),
        pytest.param("1702", On.CONNECT, 0x82, id="request problem information 2"),
        pytest.param("1902", On.CONNECT, 0x82, id="request response information 2"),
        pytest.param("210000", On.CONNECT, 0x82, id="receive maximum 0"),
        pytest.param("2700000000", On.CONNECT, 0x82, id="maximum packet size 0"),
        pytest.param("230000", On.PUBLISH, 0x94, id="topic alias 0"),
        pytest.param("16000178", On.CONNECT, 0x82, id="authentication data without a method"),
        pytest.param("08000161", On.PUBLISH, None, id="response topic"),
        pytest.param("080001 23".replace(" ", ""), On.PUBLISH, 0x81, id="response topic with a wildcard"),
        pytest.param("00", On.PUBLISH, 0x81, id="identifier 0"),
        pytest.param("8100", On.PUBLISH, 0x81, id="identifier longer than it need be"),
        pytest.param("0200", On.PUBLISH, 0x81, id="cut within a number"),
        pytest.param("030005 61".replace(" ", ""), On.PUBLISH, 0x81, id="text longer than the block"),
        pytest.param("03000100", On.PUBLISH, 0x81, id="U+0000 in text"),
        pytest.param("26000161", On.PUBLISH, 0x81, id="half a pair"),
    ],
)
def test_value_out_of_range_is_refused_with_its_code(wire: str, on: On, code: int | None) -> None:
    fields = block(bytes.fromhex(wire))
    if code is None:
        assert read_properties(fields, on) is not None
        return
    with pytest.raises(PacketError) as caught:
        read_properties(fields, on)
    assert caught.value.code == code


def test_user_properties_are_bounded_by_count_and_bytes() -> None:
    pair = b"\x26\x00\x01a\x00\x01b"
    found = read_properties(block(pair * MAX_USER_PROPERTIES), On.PUBLISH)
    assert found is not None
    assert len(found.user) == MAX_USER_PROPERTIES
    for too_much in (pair * (MAX_USER_PROPERTIES + 1), b"\x26\x00\x01a\x20\x00" + bytes([97]) * 0x2000):
        with pytest.raises(PacketError) as caught:
            read_properties(block(too_much), On.PUBLISH)
        assert caught.value.code == Reason.QUOTA_EXCEEDED


text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
on_publish = st.builds(
    Properties,
    payload_format=st.none() | st.integers(0, 1),
    message_expiry_s=st.none() | st.integers(0, 2**32 - 1),
    content_type=st.none() | text,
    response_topic=st.none() | st.just("a/b"),
    correlation_data=st.none() | st.binary(max_size=20),
    subscription_ids=st.lists(st.integers(1, 268_435_455), max_size=4).map(tuple),
    topic_alias=st.none() | st.integers(1, 65_535),
    user=st.lists(st.tuples(text, text), max_size=5).map(tuple),
)


@given(on_publish)
def test_properties_read_back_what_was_written(properties: Properties) -> None:
    wire = encode_properties(properties)
    fields = Fields(wire + b"payload")
    found = read_properties(fields, On.PUBLISH)
    assert (found or Properties()) == properties
    assert fields.at == len(wire)


def test_topic_alias_is_learnt_used_replaced_and_bounded() -> None:
    decoder = fresh(aliases=2)
    found: list[p.Packet] = []
    feed = decoder.feed
    feed(bytes.fromhex("3007 000161 03 230001"), found)
    feed(bytes.fromhex("3006 0000 03 230001"), found)
    feed(bytes.fromhex("3007 000162 03 230001"), found)
    feed(bytes.fromhex("3006 0000 03 230001"), found)
    assert [packet.topic for packet in found if isinstance(packet, p.Publish)] == ["a", "a", "b", "b"]
    for wire, code in (
        ("3007 000161 03 230003", Reason.TOPIC_ALIAS_INVALID),
        ("3006 0000 03 230002", Reason.PROTOCOL_ERROR),
        ("3003 0000 00", Reason.PROTOCOL_ERROR),
    ):
        with pytest.raises(PacketError) as caught:
            feed(bytes.fromhex(wire), [])
        assert caught.value.code == code


def test_what_a_connection_remembers_of_its_topics_is_bounded_in_bytes() -> None:
    decoder = fresh(aliases=50)
    for n in range(200):
        topic = b"%03d" % n + bytes([97]) * (60_000 if n % 2 else 1000)
        head = replies.publish_head_5(topic, b"\x23" + (n % 50 + 1).to_bytes(2, "big"), 0, 0)
        found: list[p.Packet] = []
        decoder.feed(head, found)
        assert [packet.topic for packet in found if isinstance(packet, p.Publish)] == [topic.decode()]
    assert sum(map(len, decoder._topics)) <= 16 << 10
    assert sum(map(len, decoder._aliases.values())) <= 50 * 1280


REJECTED = [
    pytest.param("30050001 61 020b01", 0x81, id="properties longer than PUBLISH"),
    pytest.param("3006 000161 02 0b01", 0x82, id="subscription identifier from a client"),
    pytest.param("30030001 61", 0x81, id="PUBLISH without a property length"),
    pytest.param("30830000 000161 00 30", 0x81, id="remaining length longer than it need be"),
    pytest.param("4003 0001 01", 0x82, id="PUBACK with a reserved code"),
    pytest.param("6203 0001 80", 0x82, id="PUBREL with a code of PUBACK"),
    pytest.param("4004 0000 00 00", 0x82, id="PUBACK with packet id 0"),
    pytest.param("8206 0001 00 000161", 0x81, id="SUBSCRIBE cut before its options"),
    pytest.param("8203 0001 00", 0x82, id="SUBSCRIBE without a filter"),
    pytest.param("8207 0001 00 000161 03", 0x82, id="SUBSCRIBE with QoS 3"),
    pytest.param("8207 0001 00 000161 30", 0x82, id="SUBSCRIBE with retain handling 3"),
    pytest.param("8207 0001 00 000161 40", 0x81, id="SUBSCRIBE with reserved bits"),
    pytest.param("8210 0001 00 000a 247368617265 2f67 2f61 04", 0x82, id="No Local on a shared subscription"),
    pytest.param("820e 0001 00 0008 247368617265 2f67 00", 0x81, id="share without a filter"),
    pytest.param("8210 0001 00 000a 247368617265 2f2b 2f61 00", 0x81, id="share name with a wildcard"),
    pytest.param("a203 0001 00", 0x82, id="UNSUBSCRIBE without a filter"),
    pytest.param("e001 8b", 0x82, id="DISCONNECT with a server's code"),
    pytest.param("e006 00 04 1c 0001 61", 0x82, id="server reference from a client"),
    pytest.param("f002 18 00", 0x82, id="AUTH without a method"),
    pytest.param("f001 01", 0x82, id="AUTH with a reserved code"),
    pytest.param("f100", 0x81, id="AUTH with flags"),
    pytest.param("2003 00 00 00", 0x82, id="CONNACK from a client"),
    pytest.param("100d00044d5154540502003c000000", 0x82, id="second CONNECT"),
]


@pytest.mark.parametrize(("wire", "code"), REJECTED)
def test_malformed_packet_is_refused_with_its_code(wire: str, code: int) -> None:
    found: list[p.Packet] = []
    with pytest.raises(PacketError) as caught:
        fresh().feed(bytes.fromhex(wire.replace(" ", "")), found)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("wire", "level", "code"),
    [
        pytest.param("100d00044d5154540503003c000000", 5, 0x81, id="reserved flag"),
        pytest.param("100d00044d5154540702003c000000", 5, 0x84, id="level 7"),
        pytest.param("100d00044d5154540302003c000000", 4, 0x84, id="level 3"),
        pytest.param("100f00044d5154540502003c02 2400 0000", 5, 0x81, id="a property of CONNACK"),
    ],
)
def test_refused_connect_is_answered_in_its_own_form(wire: str, level: int, code: int) -> None:
    with pytest.raises(PacketError) as caught:
        fresh(connected=False).feed(bytes.fromhex(wire.replace(" ", "")), [])
    assert (caught.value.level, caught.value.code) == (level, code)


@pytest.mark.parametrize("seed", range(4))
def test_only_packet_errors_escape_from_damaged_bytes(seed: int, wires: list[bytes]) -> None:
    rng = random.Random(seed)
    for _ in range(3000):
        damaged = bytearray(b"".join(rng.sample(wires, rng.randint(1, 3))))
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(damaged))
            match rng.randrange(4):
                case 0:
                    damaged[at] = rng.randrange(256)
                case 1:
                    damaged[at] ^= 1 << rng.randrange(8)
                case 2:
                    del damaged[at : at + rng.randint(1, 4)]
                case _:
                    damaged[at:at] = rng.randbytes(rng.randint(1, 4))
            if not damaged:
                damaged = bytearray(b"\x00")
        decoder = fresh(connected=rng.random() < 0.8)
        data = bytes(damaged)
        cut = rng.randrange(len(data) + 1)
        try:
            decoder.feed(data[:cut], [])
            decoder.feed(data[cut:], [])
        except PacketError:
            pass
        assert decoder.buffered <= len(data)


def test_bodies_of_the_other_version_are_not_taken() -> None:
    with pytest.raises(PacketError):
        bodies.read(4, 0x40, bytes.fromhex("000110"))
    with pytest.raises(PacketError):
        bodies.read(4, 0xF0, b"")
