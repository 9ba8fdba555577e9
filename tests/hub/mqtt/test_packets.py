"""The packet codec against the specification's examples, paho-mqtt's bytes, and damage."""

from __future__ import annotations

import random

import pytest

from hub.mqtt import packets as p
from hub.mqtt import replies
from hub.mqtt.decoder import Decoder
from hub.mqtt.fields import encode_length, read_length
from hub.mqtt.reasons import CONNECT_CODES, ConnectCode, PacketError

# Laid out by hand after the figures of MQTT 3.1.1 (3.11, 3.23 and 3.30 are the specification's own examples).
VECTORS = [
    pytest.param(
        bytes.fromhex("101d00044d51545404c2003c0005") + b"node1" + b"\x00\x05thing" + b"\x00\x03key",
        p.Connect(4, True, 60, "node1", None, "thing", b"key"),
        id="CONNECT with user name and password",
    ),
    pytest.param(
        bytes.fromhex("101c00044d5154540436000a0001") + b"c" + b"\x00\x07will/me" + b"\x00\x04gone",
        p.Connect(4, True, 10, "c", p.Will("will/me", b"gone", 2, True), None, None),
        id="CONNECT with a retained will at QoS 2",
    ),
    pytest.param(
        bytes.fromhex("100c00044d5154540402003c0000"),
        p.Connect(4, True, 60, "", None, None, None),
        id="CONNECT with an empty client id",
    ),
    pytest.param(
        bytes.fromhex("300a0003612f62") + b"hello",
        p.Publish("a/b", b"hello", 0, False, False, 0),
        id="PUBLISH QoS 0",
    ),
    pytest.param(
        bytes.fromhex("3d070003612f62000a"),
        p.Publish("a/b", b"", 2, True, True, 10),
        id="PUBLISH figure 3.11 with DUP, QoS 2, RETAIN",
    ),
    pytest.param(bytes.fromhex("4002ffff"), p.PubAck(65535), id="PUBACK"),
    pytest.param(bytes.fromhex("50020102"), p.PubRec(258), id="PUBREC"),
    pytest.param(bytes.fromhex("62020001"), p.PubRel(1), id="PUBREL"),
    pytest.param(bytes.fromhex("70020001"), p.PubComp(1), id="PUBCOMP"),
    pytest.param(
        bytes.fromhex("820e000a0003612f62010003632f6402"),
        p.Subscribe(10, (p.Asked("a/b", 1), p.Asked("c/d", 2))),
        id="SUBSCRIBE figure 3.23",
    ),
    pytest.param(
        bytes.fromhex("a20c000a0003612f620003632f64"),
        p.Unsubscribe(10, ("a/b", "c/d")),
        id="UNSUBSCRIBE figure 3.30",
    ),
    pytest.param(bytes.fromhex("c000"), p.PingReq(), id="PINGREQ"),
    pytest.param(bytes.fromhex("e000"), p.Disconnect(), id="DISCONNECT"),
]
CONNECT = VECTORS[0].values[0]


def fresh(max_packet: int = 1 << 20, *, connected: bool = True) -> Decoder:
    decoder = Decoder(max_packet)
    if connected:
        decoder.feed(CONNECT, [])
    return decoder


def fresh_for(wire: bytes) -> Decoder:
    return fresh(connected=wire[0] != 0x10)


def decode(wire: bytes, *, connected: bool = True) -> list[p.Packet]:
    packets: list[p.Packet] = []
    fresh(connected=connected).feed(wire, packets)
    return packets


@pytest.mark.parametrize(("wire", "packet"), VECTORS)
def test_packet_is_read_like_a_stream(wire: bytes, packet: p.Packet) -> None:
    whole: list[p.Packet] = []
    decoder = fresh_for(wire)
    decoder.feed(wire + b"\x30", whole)
    assert whole == [packet]
    assert decoder.buffered == 1

    by_bytes: list[p.Packet] = []
    decoder = fresh_for(wire)
    for at in range(len(wire)):
        assert by_bytes == []
        decoder.feed(wire[at : at + 1], by_bytes)
    assert by_bytes == [packet]
    assert decoder.buffered == 0

    for end in range(len(wire)):
        prefix: list[p.Packet] = []
        decoder = fresh_for(wire)
        decoder.feed(wire[:end], prefix)
        assert prefix == []
        assert decoder.buffered == end


def test_every_packet_of_one_read_is_decoded_in_order() -> None:
    wires = [vector.values[0] for vector in VECTORS[3:]]
    assert decode(b"".join(wires)) == [vector.values[1] for vector in VECTORS[3:]]


def test_decoding_stops_behind_connect_until_the_server_goes_on() -> None:
    decoder = fresh(64, connected=False)
    packets: list[p.Packet] = []
    big = b"\x30\x80\x01" + b"\x00\x01t" + bytes(125)
    decoder.feed(CONNECT + big, packets)
    assert len(packets) == 1
    decoder.max_packet = 1000
    decoder.feed(b"", packets)
    assert packets[1] == p.Publish("t", bytes(125), 0, False, False, 0)


REJECTED = [
    pytest.param("3003000341", id="topic longer than the packet"),
    pytest.param("300100", id="PUBLISH without a topic length"),
    pytest.param("30020000", id="empty topic"),
    pytest.param("30040002612b", id="plus in a topic name"),
    pytest.param("300400022361", id="hash in a topic name"),
    pytest.param("300400026100", id="U+0000 in a topic"),
    pytest.param("30050003eda080", id="surrogate in a topic"),
    pytest.param("30040002c328", id="topic that is not UTF-8"),
    pytest.param("36050001610001", id="QoS 3"),
    pytest.param("3803000161", id="DUP at QoS 0"),
    pytest.param("32050001610000", id="PUBLISH with packet id 0"),
    pytest.param("32040001610a", id="PUBLISH with half a packet id"),
    pytest.param("40020000", id="PUBACK with packet id 0"),
    pytest.param("4003000100", id="PUBACK of three bytes"),
    pytest.param("400101", id="PUBACK of one byte"),
    pytest.param("60020001", id="PUBREL with wrong flags"),
    pytest.param("8006000100016100", id="SUBSCRIBE with wrong flags"),
    pytest.param("82020001", id="SUBSCRIBE without a filter"),
    pytest.param("8206000100016103", id="SUBSCRIBE with QoS 3"),
    pytest.param("8206000100016184", id="SUBSCRIBE with reserved bits"),
    pytest.param("8206000000016100", id="SUBSCRIBE with packet id 0"),
    pytest.param("82050001000000", id="SUBSCRIBE to an empty filter"),
    pytest.param("820700010002612300", id="SUBSCRIBE to a#"),
    pytest.param("82080001000323 2f6100".replace(" ", ""), id="SUBSCRIBE to #/a"),
    pytest.param("820800010003612b2f00", id="SUBSCRIBE to a+/"),
    pytest.param("82050001000161", id="SUBSCRIBE without its QoS byte"),
    pytest.param("a2020001", id="UNSUBSCRIBE without a filter"),
    pytest.param("a20400010005", id="UNSUBSCRIBE cut within a field"),
    pytest.param("c00100", id="PINGREQ with a body"),
    pytest.param("c100", id="PINGREQ with flags"),
    pytest.param("e00100", id="DISCONNECT with a body"),
    pytest.param("0000", id="reserved type 0"),
    pytest.param("f000", id="reserved type 15"),
    pytest.param("20020000", id="CONNACK from a client"),
    pytest.param("9003000100", id="SUBACK from a client"),
    pytest.param("b0020001", id="UNSUBACK from a client"),
    pytest.param("d000", id="PINGRESP from a client"),
    pytest.param("30ffffffff01", id="remaining length of five bytes"),
    pytest.param("30ffffff7f", id="packet larger than allowed"),
    pytest.param("100c00044d5154540402003c0000", id="second CONNECT"),
]


@pytest.mark.parametrize("wire", REJECTED)
def test_malformed_packet_is_refused(wire: str) -> None:
    with pytest.raises(PacketError):
        decode(bytes.fromhex(wire))


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        pytest.param("c000", None, id="PINGREQ before CONNECT"),
        pytest.param("3003000161", None, id="PUBLISH before CONNECT"),
        pytest.param("1100", None, id="CONNECT with flags"),
        pytest.param("100c0004485454500402003c0000", None, id="another protocol's name"),
        pytest.param("100c00044d5154540602003c0000", 1, id="level 6"),
        pytest.param("100e00064d51497364700302003c0000", 1, id="MQTT 3.1"),
        pytest.param("100c00044d5154540403003c0000", None, id="reserved connect flag"),
        pytest.param("100c00044d515454040a003c0000", None, id="will QoS without a will"),
        pytest.param("100c00044d5154540422003c0000", None, id="will retain without a will"),
        pytest.param("101100044d515454041e003c00000001610000", None, id="will with QoS 3"),
        pytest.param(
            "100f00044d5154540442003c00000001 61".replace(" ", ""), None, id="password without user name"
        ),
        pytest.param("100c00044d5154540400003c0000", 2, id="kept session without a client id"),
        pytest.param("100d00044d5154540402003c000061", None, id="bytes behind the last field"),
        pytest.param("100a00044d5154540402003c", None, id="no client id"),
    ],
)
def test_connect_is_refused_with_the_code_the_protocol_has(wire: str, code: int | None) -> None:
    with pytest.raises(PacketError) as caught:
        decode(bytes.fromhex(wire), connected=False)
    assert CONNECT_CODES.get(caught.value.code) == code


def test_packets_before_a_malformed_one_are_handed_out() -> None:
    packets: list[p.Packet] = []
    with pytest.raises(PacketError):
        fresh().feed(bytes.fromhex("c000 40020001 0000 c000".replace(" ", "")), packets)
    assert packets == [p.PingReq(), p.PubAck(1)]


def test_size_is_refused_at_the_fixed_header_before_the_body_arrives() -> None:
    decoder = fresh(100)
    decoder.feed(b"\x30", [])
    with pytest.raises(PacketError, match="103 bytes, 100 allowed"):
        decoder.feed(b"\x65", [])


def test_topic_cache_stays_bounded_and_right() -> None:
    decoder = fresh()
    for round_ in range(2):
        for n in range(700):
            packets: list[p.Packet] = []
            decoder.feed(replies.encode_publish(f"t/{n}".encode(), b"x", 0), packets)
            assert packets == [p.Publish(f"t/{n}", b"x", 0, False, False, 0)], round_


@pytest.mark.parametrize(
    ("length", "wire"),
    [  # table 2.4 of the specification: the first and last value of each size
        (0, "00"),
        (127, "7f"),
        (128, "8001"),
        (16_383, "ff7f"),
        (16_384, "808001"),
        (2_097_151, "ffff7f"),
        (2_097_152, "80808001"),
        (268_435_455, "ffffff7f"),
    ],
)
def test_remaining_length_both_ways(length: int, wire: str) -> None:
    raw = bytes.fromhex(wire)
    assert encode_length(length) == raw
    assert read_length(raw + b"\x00", 0) == (length, len(raw))
    for end in range(len(raw)):
        assert read_length(raw[:end], 0) is None


def test_server_packets_have_the_bytes_of_the_specification() -> None:
    assert replies.encode_connack(ConnectCode.ACCEPTED, session_present=True) == bytes.fromhex("20020100")
    assert replies.encode_connack(ConnectCode.NOT_AUTHORIZED) == bytes.fromhex("20020005")
    assert replies.encode_puback(258) == bytes.fromhex("40020102")
    assert replies.encode_pubrec(1) == bytes.fromhex("50020001")
    assert replies.encode_pubrel(1) == bytes.fromhex("62020001")
    assert replies.encode_pubcomp(1) == bytes.fromhex("70020001")
    assert replies.encode_suback(10, b"\x00\x02\x80") == bytes.fromhex("9005000a000280")  # figure 3.26
    assert replies.encode_unsuback(10) == bytes.fromhex("b002000a")
    assert bytes.fromhex("d000") == replies.PINGRESP
    # Figures 3.10, 3.11
    assert replies.encode_publish(b"a/b", b"", 1, 10) == bytes.fromhex("32070003612f62000a")
    assert replies.encode_publish(b"a", b"x", 2, 1, retain=True, dup=True) == bytes.fromhex(
        "3d0600016100 0178".replace(" ", "")
    )


@pytest.mark.parametrize("seed", range(4))
def test_only_packet_errors_escape_from_damaged_bytes(seed: int) -> None:
    rng = random.Random(seed)
    wires = [vector.values[0] for vector in VECTORS]
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
        decoder = fresh(4096, connected=rng.random() < 0.8)
        packets: list[p.Packet] = []
        data = bytes(damaged)
        cut = rng.randrange(len(data) + 1)
        try:
            decoder.feed(data[:cut], packets)
            decoder.feed(data[cut:], packets)
        except PacketError:
            pass
        assert decoder.buffered <= len(data)
