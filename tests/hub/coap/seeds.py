"""Datagrams to damage: what clients send, by specification and by other implementations, and a pure function to feed.

`KEY` and `CHANNEL` are where a test puts a key and a channel that exist.
"""

from __future__ import annotations

import random

import aiocoap

from hub.coap.admission import Address, Admission, Refused
from hub.coap.blocks import decode_block
from hub.coap.limits import Limits
from hub.coap.oscore import decode_header
from hub.coap.packets import Opt, decode, encode
from hub.coap.request import Addresses, Refusal, read_request

CHANNEL = "6f2a1d52-6f2c-4b6a-a5a1-0a3d4be1c001"
KEY = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ"

# Uri-Path x 3
_TO_CHANNEL = b"\xb8channels\x0d\x17" + CHANNEL.encode() + b"\x08messages"
_AUTH = b"\x4d\x23auth=" + KEY.encode()  # Uri-Query, delta 4 from Uri-Path

SEEDS = [
    bytes.fromhex(
        "40017d34bb74656d7065726174757265"
    ),  # RFC 7252, Figure 16 without the marker: CON GET /temperature
    bytes.fromhex("41017d3520bb74656d7065726174757265"),  # RFC 7252, Figure 19: with token 0x20
    bytes.fromhex("40017d36"),  # CON GET, nothing else
    bytes.fromhex("40007d37"),  # ping
    bytes.fromhex("60007d38"),  # ACK
    bytes.fromhex("70007d39"),  # RST
    bytes.fromhex("60457d34ff32322e332043"),  # a response: 2.05 "22.3 C"
    bytes.fromhex("44015d1f00003974396c6f63616c686f737483747631"),  # RFC 8613, C.4, unprotected
    # RFC 8613, C.4: a protected request
    bytes.fromhex("44025d1f00003974396c6f63616c686f7374620914ff612f1092f1776f1c1668b3825e"),
    b"\x44\x02\x00\x01tokn"
    + _TO_CHANNEL
    + b"\x11\x6e"
    + b"\x3d\x23auth="
    + KEY.encode()
    + b'\xff[{"n":"t","v":1}]',
    b"\x44\x02\x00\x02tokn" + _TO_CHANNEL + _AUTH + b'\xff{"door":"open"}',
    b"\x54\x02\x00\x03tokn" + _TO_CHANNEL + b"\x04roof" + _AUTH + b"\xff\x81\xa2\x00at\x02\x18\x3c",
    b"\x44\x01\x00\x04tokn" + _TO_CHANNEL + _AUTH,
    b"\x44\x01\x00\x05tokn\x60\x58channels\x0d\x17" + CHANNEL.encode() + b"\x08messages" + _AUTH,  # Observe
    b"\x44\x01\x00\x06tokn" + _TO_CHANNEL + _AUTH + b"\x21\x70",  # Accept 112
    b"\x44\x01\x00\x07tokn" + _TO_CHANNEL + _AUTH + b"\x81\x16",  # Block2 1/0/1024
    b"\x44\x02\x00\x08tokn" + _TO_CHANNEL + _AUTH + b"\xc1\x0a\xff" + b"x" * 64,  # Block1 0/1/64
    b"\x44\x01\x00\x09tokn\xbb.well-known\x04core",
    b"\x44\x01\x00\x0atokn\xbb.well-known\x04core\xdc\xe4" + b"timeanswered",  # Echo
]


def damage(rng: random.Random, wire: bytes) -> bytes:
    """One to four random changes."""
    data = bytearray(wire)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(data):
                data[at] = rng.randrange(256)
            case 2:
                del data[at : at + rng.randint(1, 8)]
            case 3:
                data[at:at] = rng.randbytes(rng.randint(1, 8))
            case 4:
                del data[at:]
            case 5:
                other = rng.choice(SEEDS)
                data[at:] = other[rng.randrange(len(other)) :]
    return bytes(data)


_ADMISSION = Admission(Limits(address_rate=1e9, address_burst=1e9), bytes(32))
_ADDRESSES = Addresses()


def feed(data: bytes) -> str:
    """Take one datagram through everything that is pure. Returns what became of it; lets nothing escape.

    What is admitted is also given to aiocoap, whose own complaint is the only one it may have.
    """
    admitted = _ADMISSION.admit(data, Address(("192.0.2.1", 5683)), 0.0)
    if isinstance(admitted, Refused):
        return admitted.counter
    assert decode(encode(*admitted)) == admitted
    try:
        parsed = aiocoap.Message.decode(data)
        assert (int(parsed.code), parsed.mid, parsed.token) == admitted[1:4]
        assert parsed.payload == admitted.payload
    except UnicodeDecodeError:  # it decodes text where the value is not asked for
        pass
    value = admitted.first(Opt.OSCORE)
    if value is not None:
        decode_header(value)
    decode_block(admitted.first(Opt.BLOCK1) or b"")
    if not admitted.is_request:
        return "no request"
    try:
        request = read_request(admitted)
        _ADDRESSES.publish(request.path)
        _ADDRESSES.read(request.path)
    except Refusal as refusal:
        return f"{refusal.response.code:#x}"
    return "request"
