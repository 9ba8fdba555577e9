"""The message format: vectors of RFC 7252 and of aiocoap, every way to be malformed, and thousands of damages."""

from __future__ import annotations

import contextlib
import random
from collections import Counter

import aiocoap
import pytest

from hub.coap.blocks import Block, decode_block, szx_for
from hub.coap.packets import ACK, CON, BadPacket, Code, Opt, Packet, decode, encode, uint
from tests.hub.coap.seeds import SEEDS, damage, feed

VECTORS = [
    # RFC 7252, Appendix A
    pytest.param("40017d34bb74656d7065726174757265", (CON, 1, 0x7D34, b"", ((11, b"temperature"),), b""), id="A.16"),
    pytest.param("60457d34ff32322e332043", (ACK, Code.CONTENT, 0x7D34, b"", (), b"22.3 C"), id="A.16 response"),
    pytest.param("41017d3520bb74656d7065726174757265", (CON, 1, 0x7D35, b" ", ((11, b"temperature"),), b""), id="A.19"),
    # RFC 8613, C.4
    pytest.param(
        "44015d1f00003974396c6f63616c686f737483747631",
        (CON, Code.GET, 0x5D1F, bytes.fromhex("00003974"), ((3, b"localhost"), (11, b"tv1")), b""),
        id="RFC 8613 C.4",
    ),
    pytest.param("40007d37", (CON, 0, 0x7D37, b"", (), b""), id="ping"),
]  # fmt: skip


@pytest.mark.parametrize(("wire", "packet"), VECTORS)
def test_vectors_run_both_ways(wire: str, packet: tuple[object, ...]) -> None:
    assert decode(bytes.fromhex(wire)) == packet
    assert encode(*packet) == bytes.fromhex(wire)  # type: ignore[arg-type]


def test_aiocoap_reads_what_is_written_and_the_reverse() -> None:
    rng = random.Random(1)
    for _ in range(300):
        numbers = sorted(rng.choice((3, 4, 11, 15, 60, 252, 2048, 65000)) for _ in range(rng.randint(0, 6)))
        options = tuple(
            (number, rng.randbytes(rng.choice((1, 2, 12, 13, 268, 269, 300))).hex().encode()[:4] if number == 60
             else b"x" * rng.choice((0, 12, 13, 14, 268, 269, 400)))
            for number in numbers
        )  # fmt: skip
        packet = Packet(CON, Code.POST, rng.randrange(65536), rng.randbytes(rng.randint(0, 8)), options, b"p")
        theirs = aiocoap.Message.decode(encode(*packet))
        found = tuple((int(o.number), o.encode()) for o in theirs.opt.option_list() if int(o.number) != 60)
        assert found == tuple(option for option in options if option[0] != 60)
        assert (theirs.mid, theirs.token, theirs.payload) == (packet.mid, packet.token, b"p")
        theirs.direction = aiocoap.message.Direction.OUTGOING
        assert decode(theirs.encode())[:4] == packet[:4]


@pytest.mark.parametrize(
    ("wire", "owed"),
    [
        pytest.param("", None, id="nothing"),
        pytest.param("400101", None, id="three bytes"),
        pytest.param("80010001", None, id="version 2"),
        pytest.param("49010001" + "00" * 9, "70000001", id="token of nine bytes"),
        pytest.param("44010001aabb", "70000001", id="token cut short"),
        pytest.param("54010001aabb", None, id="the same, non-confirmable"),
        pytest.param("4000000100", "70000001", id="empty message with content"),
        pytest.param("40010001ff", "70000001", id="marker without payload"),
        pytest.param("40010001b5", "70000001", id="option beyond the end"),
        pytest.param("40010001f0", "70000001", id="reserved delta"),
        pytest.param("400100010f", "70000001", id="reserved length"),
        pytest.param("40010001d0", "70000001", id="extended delta cut short"),
        pytest.param("40010001e000", "70000001", id="long extended delta cut short"),
        pytest.param("40010001" + "e0ffff" * 2, "70000001", id="number above 65535"),
        pytest.param("40010001" + "00" * 65, "70000001", id="too many options"),
    ],
)
def test_malformed_message_is_rejected_if_confirmable_and_else_ignored(wire: str, owed: str | None) -> None:
    with pytest.raises(BadPacket) as caught:
        decode(bytes.fromhex(wire))
    assert caught.value.reset == (bytes.fromhex(owed) if owed else None)


def test_every_prefix_of_every_seed_decodes_or_is_a_bad_packet() -> None:
    for seed in SEEDS:
        for end in range(len(seed)):
            with contextlib.suppress(BadPacket):
                assert decode(seed[:end]).mid == int.from_bytes(seed[2:4], "big")


def test_damaged_datagrams_have_declared_outcomes_only() -> None:
    rng = random.Random(7252)
    seen = Counter(feed(damage(rng, rng.choice(SEEDS))) for _ in range(20_000))
    assert set(seen) <= {"malformed", "no request", "request", "0x80", "0x82", "0x84", "0xa5"}
    assert min(seen.values()) > 5  # the damage reaches every one of them


def test_blocks_are_read_and_written() -> None:
    # RFC 7959, 2.2 and 3.1: "1:0/0/128" is num 0, no more, szx 3; 3/1/64 from figure 10
    assert decode_block(b"") == Block(0, False, 0)
    assert decode_block(b"\x03") == Block(0, False, 3)
    assert decode_block(b"\x3a") == Block(3, True, 2)
    assert Block(3, True, 2).encode() == b"\x3a"
    assert (Block(3, True, 2).start, Block(3, True, 2).size) == (192, 64)
    assert decode_block(b"\x07") is None
    assert decode_block(b"\x01\x00\x00\x02") is None
    assert [szx_for(size) for size in (15, 16, 31, 32, 1023, 1024, 5000)] == [None, 0, 0, 1, 5, 6, 6]


def test_integers_take_as_few_bytes_as_hold_them() -> None:
    assert [uint(n) for n in (0, 1, 255, 256, 65535, 65536)] == [
        b"", b"\x01", b"\xff", b"\x01\x00", b"\xff\xff", b"\x01\x00\x00",
    ]  # fmt: skip
    assert Packet(0, 1, 1, b"", ((Opt.OBSERVE, b""),)).uint(Opt.OBSERVE) == 0


def test_options_parsed_before_are_found_again_and_nothing_else_is_taken_for_them() -> None:
    rng = random.Random(3)
    known = {}
    for seed in SEEDS:
        packet = decode(seed)
        head = seed[4 + len(packet.token) : len(seed) - len(packet.payload) - 1]
        if packet.payload and b"\xff" not in head:
            known[head] = packet.options
    assert len(known) >= 4
    found = 0
    for _ in range(20_000):
        wire = damage(rng, rng.choice(SEEDS)) if rng.random() < 0.8 else rng.choice(SEEDS)
        try:
            plain: Packet | bytes | None = decode(wire)
        except BadPacket as fault:
            plain = fault.reset
        try:
            quick: Packet | bytes | None = decode(wire, known)
        except BadPacket as fault:
            quick = fault.reset
        assert quick == plain
        found += isinstance(quick, Packet) and any(quick.options is options for options in known.values())
    assert found > 1000
