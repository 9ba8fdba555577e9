"""RadioHead datagrams and plain frames: the header as the library has it, and no bytes that make a parser fail."""

import random

import pytest

from gateway.rawlora.frames import (
    Datagram,
    RawFrameError,
    acknowledgement,
    build_datagram,
    parse_datagram,
    split_plain,
)


def test_the_header_is_to_from_id_and_flags():
    # RadioHead's RHDatagram: TO, FROM, ID, FLAGS, in this order (RH_RF95.h, "Packet Format").
    assert parse_datagram(bytes.fromhex("0105074068656c6c6f")) == Datagram(1, 5, 7, 0x40, b"hello")
    assert build_datagram(Datagram(1, 5, 7, 0x40, b"hello")).hex() == "0105074068656c6c6f"
    assert parse_datagram(bytes.fromhex("01050740")).is_retry


def test_an_acknowledgement_goes_back_with_the_same_id_and_one_byte():
    # RHReliableDatagram::acknowledge sends the ID with RH_FLAGS_ACK (0x80) and the single octet "!".
    assert acknowledgement(Datagram(1, 5, 7, 0, b"hello")) == bytes.fromhex("05010780") + b"!"
    assert parse_datagram(bytes.fromhex("0501078021")).is_ack


@pytest.mark.parametrize("data", [b"", b"\x01\x02\x03"])
def test_fewer_than_four_bytes_are_no_datagram(data):
    with pytest.raises(RawFrameError):
        parse_datagram(data)


def test_an_address_byte_is_taken_from_its_place():
    assert split_plain(b"\x05hello", 0) == (5, b"hello")
    assert split_plain(b"AB\x05", 2) == (5, b"")
    with pytest.raises(RawFrameError):
        split_plain(b"AB", 2)


@pytest.mark.parametrize(
    "datagram", [Datagram(256, 0, 0, 0, b""), Datagram(0, -1, 0, 0, b""), Datagram(0, 0, 0, 0, bytes(252))]
)
def test_what_does_not_fit_is_not_built(datagram):
    with pytest.raises(RawFrameError):
        build_datagram(datagram)


def test_damaged_frames_raise_their_own_error_only():
    rng = random.Random(1)
    vectors = [bytes.fromhex("0105074068656c6c6f"), bytes.fromhex("0501078021"), b"\x05hello", b""]
    for _ in range(5000):
        data = bytearray(rng.choice(vectors))
        for _ in range(rng.randrange(4)):
            if data and rng.random() < 0.5:
                data[rng.randrange(len(data))] = rng.randrange(256)
            elif rng.random() < 0.5:
                del data[rng.randrange(len(data) + 1) :]
            else:
                data += rng.randbytes(rng.randrange(300))
        try:
            datagram = parse_datagram(bytes(data))
            assert build_datagram(datagram) == bytes(data)
            assert parse_datagram(acknowledgement(datagram)).is_ack
        except RawFrameError:
            assert len(data) < 4 or len(data) > 255
        try:
            address, rest = split_plain(bytes(data), rng.randrange(8))
            assert 0 <= address <= 255
            assert len(rest) < len(data)
        except RawFrameError:
            assert len(data) < 8
