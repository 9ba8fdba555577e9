"""PROXY headers of versions 1 and 2, as other programs write them, whole, in pieces and damaged."""

from __future__ import annotations

import ipaddress
import random

import pytest

from hub.errors import ProxyProtocolError
from hub.proxy_protocol import (
    MAX_BLOCK,
    MAX_LINE,
    SIGNATURE,
    Announced,
    begins_header,
    parse,
)

# Version 1: the specification's own lines (2.1), and one that nginx has written. Version 2: what HAProxy has written in
# front of a request, and what other implementations test themselves with; the last ones speak of no client.
VECTORS = [
    pytest.param(b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", "192.168.0.1", id="1, the example"),
    pytest.param(
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255", id="1, longest"
    ),
    pytest.param(
        b"PROXY TCP6 ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n".replace(
            b"f...f", b":".join([b"ffff"] * 6)
        ),
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        id="1, longest of IPv6",
    ),
    pytest.param(b"PROXY UNKNOWN\r\n", None, id="1, unknown"),
    pytest.param(
        b"PROXY UNKNOWN %b %b 65535 65535\r\n" % ((b":".join([b"ffff"] * 8),) * 2), None, id="1, 107 bytes"
    ),
    pytest.param(b"PROXY TCP4 172.19.0.1 172.19.0.3 42272 80\r\n", "172.19.0.1", id="1, of nginx"),
    pytest.param(
        bytes.fromhex("0d0a0d0a000d0a515549540a2111000cac130001ac130003a6520050"),
        "172.19.0.1",
        id="2, of HAProxy",
    ),
    pytest.param(
        SIGNATURE + bytes.fromhex("21210024" + "2001480178170072d4d9211dff101631" * 2 + "fffdfffd"),
        "2001:4801:7817:72:d4d9:211d:ff10:1631",
        id="2, IPv6",
    ),
    pytest.param(
        SIGNATURE + bytes.fromhex("2111000f" + "0102030405060708000a000b" + "04" + "0000"),
        "1.2.3.4",
        id="2, with a note",
    ),
    pytest.param(SIGNATURE + bytes.fromhex("20000000"), None, id="2, LOCAL"),
    pytest.param(SIGNATURE + bytes.fromhex("201500026865"), None, id="2, LOCAL with an odd family"),
    pytest.param(SIGNATURE + bytes.fromhex("21000000"), None, id="2, unspecified"),
    pytest.param(SIGNATURE + bytes.fromhex("213100d8") + bytes(216), None, id="2, a Unix socket"),
]


@pytest.mark.parametrize(("wire", "address"), VECTORS)
def test_headers_of_others_are_read(wire: bytes, address: str | None) -> None:
    assert parse(wire + b"\x10\x0c\x00\x04MQTT") == Announced(address, len(wire))
    for end in range(len(wire)):
        assert parse(wire[:end]) is None
    assert begins_header(wire)


def test_an_address_of_ipv4_within_ipv6_is_the_one_of_ipv4() -> None:
    assert parse(b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n") == Announced("192.0.2.7", 37)


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(b"\x10\x0c\x00\x04MQTT", id="MQTT at once"),
        pytest.param(b"GET / HTTP/1.1\r\n", id="HTTP"),
        pytest.param(b"proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n", id="in small letters"),
        pytest.param(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", id="without CR"),
        pytest.param(b"PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n", id="two spaces"),
        pytest.param(b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", id="no port"),
        pytest.param(b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", id="port with a leading zero"),
        pytest.param(b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n", id="port too large"),
        pytest.param(b"PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n", id="address with a leading zero"),
        pytest.param(b"PROXY TCP4 ::1 ::1 1 2\r\n", id="IPv6 as TCP4"),
        pytest.param(b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", id="IPv4 as TCP6"),
        pytest.param(b"PROXY TCP4 1.2.3.4 1.2.3.999 1 2\r\n", id="the second address is none"),
        pytest.param(b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", id="UDP"),
        pytest.param(b"PROXY UNKNOWN" + b" " * MAX_LINE, id="line without end"),
        pytest.param(SIGNATURE + bytes.fromhex("1111000c") + bytes(12), id="version 1 as a block"),
        pytest.param(SIGNATURE + bytes.fromhex("2211000c") + bytes(12), id="command 2"),
        pytest.param(SIGNATURE + bytes.fromhex("2112000c") + bytes(12), id="a datagram"),
        pytest.param(SIGNATURE + bytes.fromhex("2141000c") + bytes(12), id="family 4"),
        pytest.param(SIGNATURE + bytes.fromhex("2111000b") + bytes(11), id="shorter than its addresses"),
        pytest.param(SIGNATURE + bytes.fromhex("2111ffff"), id="a block of 64 KiB"),
    ],
)
def test_what_is_no_header_is_refused(wire: bytes) -> None:
    with pytest.raises(ProxyProtocolError):
        parse(wire)


def test_only_its_own_error_escapes_from_damaged_headers() -> None:
    chance = random.Random(2010)
    seeds = [bytes(each.values[0]) for each in VECTORS]  # type: ignore[arg-type]
    for _ in range(6000):
        wire = bytearray(chance.choice(seeds) + b"rest")
        for _ in range(chance.randrange(1, 4)):
            match chance.randrange(3):
                case 0:
                    wire[chance.randrange(len(wire))] = chance.randrange(256)
                case 1:
                    del wire[chance.randrange(len(wire)) :]
                    wire += b"\r"
                case 2:
                    wire.insert(chance.randrange(len(wire)), chance.randrange(256))
        try:
            found = parse(bytes(wire))
        except ProxyProtocolError:
            continue
        if found is None:
            assert len(wire) < MAX_BLOCK
        else:
            assert found.used <= len(wire)
            assert found.address is None or str(ipaddress.ip_address(found.address)) == found.address
