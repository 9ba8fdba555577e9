"""What a server, a file or a line may hold instead of what belongs there: only the declared error comes out."""

import random

import pytest

from gateway.nats_reading import Delivery
from gateway.upstream.nats_api import (
    ApiError,
    ConsumerInfo,
    Done,
    StreamInfo,
    check_acknowledgement,
    decode_reply,
)
from gateway.upstream.nats_keys import NatsKey, read_creds

ROUNDS = 5000

# Answers of nats-server 2.15
STREAM = (
    b'{"type":"io.nats.jetstream.api.v1.stream_info_response","total":0,"offset":0,"limit":0,"config":{"name":'
    b'"channels","subjects":["channels.\\u003e"],"retention":"limits","max_consumers":-1,"duplicate_window":120000000000'
    b'},"created":"2026-11-22T17:37:55.123456789Z","state":{"messages":1,"bytes":52,"first_seq":1,"last_seq":1}}'
)
CONSUMER = (
    b'{"type":"io.nats.jetstream.api.v1.consumer_info_response","stream_name":"channels","name":"c","config":{'
    b'"durable_name":"c","filter_subjects":["channels.a","channels.a.\\u003e"],"ack_wait":60000000000},"delivered":{'
    b'"consumer_seq":3,"stream_seq":7,"last_active":"2026-11-22T17:37:55Z"},"ack_floor":{"consumer_seq":2,'
    b'"stream_seq":6},"num_ack_pending":1,"num_pending":0}'
)
REFUSED = b'{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"channels","seq":0}'
STORED = b'{"stream":"channels","seq":42,"duplicate":true}'
CREDS = (
    "-----BEGIN NATS USER JWT-----\neyJ0eXAi.eyJqdGk.c2ln\n------END NATS USER JWT------\n\n"
    "-----BEGIN USER NKEY SEED-----\nSUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY\n"
    "------END USER NKEY SEED------\n"
)


def damaged(whole: bytes, rng: random.Random) -> bytes:
    data = bytearray(whole)
    for _ in range(rng.randrange(1, 4)):
        match rng.randrange(4):
            case 0:
                data[rng.randrange(len(data))] = rng.randrange(256)
            case 1:
                del data[rng.randrange(1, len(data) + 1) :]
            case 2:
                at = rng.randrange(len(data) + 1)
                data[at:at] = rng.choice([b"null", b"[", b"{", b'"', b"-1", b"1e400", b"\xff", b"9" * 30])
            case 3:
                at, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
                del data[at : min(end, at + 20)]
        if not data:
            data += b"x"
    return bytes(data)


def test_whole_answers_are_read() -> None:
    stream = decode_reply(STREAM, StreamInfo)
    assert (stream.config.subjects, stream.config.duplicate_window) == (("channels.>",), 120 * 10**9)
    consumer = decode_reply(CONSUMER, ConsumerInfo)
    assert (consumer.delivered.stream_seq, consumer.ack_floor.consumer_seq, consumer.num_ack_pending) == (
        7,
        2,
        1,
    )
    check_acknowledgement(STORED)
    with pytest.raises(ApiError, match=r"maximum bytes exceeded \(10077\)"):
        check_acknowledgement(REFUSED)


@pytest.mark.parametrize("kind", [StreamInfo, ConsumerInfo, Done])
def test_damaged_answers_raise_nothing_but_api_error(kind) -> None:
    rng = random.Random(9)
    read = 0
    for _ in range(ROUNDS):
        data = damaged(rng.choice([STREAM, CONSUMER, REFUSED]), rng)
        try:
            assert isinstance(decode_reply(data, kind), kind)
        except ApiError:
            continue
        read += 1
    assert read > 10


def test_damaged_acknowledgements_raise_nothing_but_api_error() -> None:
    rng = random.Random(10)
    refused = 0
    for _ in range(ROUNDS):
        try:
            check_acknowledgement(damaged(rng.choice([STORED, REFUSED]), rng))
        except ApiError:
            refused += 1
    assert 0 < refused < ROUNDS


class Reply:
    def __init__(self, reply: str) -> None:
        self.reply = reply


def test_damaged_reply_subjects_are_no_deliveries_or_have_numbers() -> None:
    rng = random.Random(11)
    whole = b"$JS.ACK.domain.hash.S.C.2.52.7.1700000000000000000.9.rnd"
    for _ in range(ROUNDS):
        delivery = Delivery.of(Reply(damaged(whole, rng).decode("latin-1")))
        assert delivery is None or isinstance(delivery.stream_seq + delivery.consumer_seq, int)


def test_damaged_credentials_raise_nothing_but_value_error(tmp_path) -> None:
    rng = random.Random(12)
    path = tmp_path / "damaged.creds"
    read = 0
    for _ in range(ROUNDS // 5):
        path.write_bytes(damaged(CREDS.encode(), rng))
        try:
            jwt, key = read_creds(str(path))
        except ValueError:
            continue
        read += 1
        assert jwt.isascii()
        assert isinstance(key, NatsKey)
    assert read > 10
