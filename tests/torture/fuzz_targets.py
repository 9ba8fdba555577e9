"""What the fuzzer feeds: every parser that strangers reach, and the doors behind them on connections in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hub import content, convert, senml, topics, wire
from hub.coap.packets import BadPacket
from hub.coap.packets import decode as decode_coap
from hub.errors import BadMessage, SenmlError, TopicError, WireError
from hub.message import JSON, SENML_CBOR, SENML_JSON
from hub.mqtt.decoder import Decoder
from hub.mqtt.reasons import PacketError
from radio import gwmp
from radio.errors import GwmpError

from .fuzz import Opener, Target, plain
from .fuzz_coap import coap_door
from .fuzz_credentials import CREDENTIALS
from .fuzz_entrances import announcements, handshakes
from .fuzz_framing import FRAMING
from .fuzz_mqtt import sessions
from .fuzz_seeds import (
    CBOR_SEEDS,
    CBOR_WORDS,
    CHANNEL,
    COAP_SEEDS,
    COAP_WORDS,
    FAULTS_5,
    GWMP_WORDS,
    JSON_SEEDS,
    MQTT_WORDS,
    RFC_CBOR,
    SENML,
    SENML_WORDS,
    TOPIC,
    connects_of,
    gwmp_seeds,
    packets_of,
    wire_seeds,
)
from .fuzz_strangers import STRANGERS
from .fuzz_web import http, mqtt_websocket, websocket

# MQTT


def mqtt_decoder(version: int) -> Opener:
    connects, packets = connects_of(version), packets_of(version)

    @contextmanager
    def opened() -> Iterator[Target]:
        def feed(data: bytes) -> bool:
            decoder = Decoder(65536)
            decoder.max_alias = 16
            found: list[Any] = []
            try:
                decoder.feed(data, found)
                decoder.feed(b"", found)  # what stands behind a CONNECT
            except PacketError:
                return False
            return bool(found)

        seeds = [connects[0] + packet for packet in packets] + connects
        yield Target(seeds, feed, (*MQTT_WORDS, *FAULTS_5))

    return opened


# CoAP


@contextmanager
def coap_decoder() -> Iterator[Target]:
    def feed(data: bytes) -> bool:
        try:
            decode_coap(data)
        except BadPacket:
            return False
        return True

    yield Target(COAP_SEEDS, feed, COAP_WORDS)


# Content


def _both_ways(content_type: str) -> Callable[[bytes], object]:
    def take(data: bytes) -> object:
        records = senml.decode(content_type, data, 1.7e9)
        senml.encode_json(records)
        senml.encode_cbor(records)
        return convert.transcode(content_type, data, SENML_CBOR if content_type == SENML_JSON else SENML_JSON)

    return take


def _content(data: bytes) -> object:
    kind, _, payload = data.partition(b"\n")
    name = kind.decode("latin-1")
    convert.negotiate(name, SENML_JSON)
    kept = content.check(name, payload, 1.7e9)
    if kept in (JSON, SENML_JSON):
        payload.decode()  # it is shown to followers as text
    return kept


def _topic(data: bytes) -> object:
    text = data.decode("utf-8", "surrogateescape")
    refused = 0
    for parse in (topics.parse_topic, topics.parse_filter, topics.parse_subtopic):
        try:
            parse(text)
        except TopicError:
            refused += 1
    if refused == 3:
        raise TopicError("all three")
    return text


DOORS: dict[str, Opener] = {
    "mqtt 3.1.1 session": sessions(4),
    "mqtt 5 session": sessions(5),
    "http": http,
    "websocket": websocket,
    "mqtt over websocket": mqtt_websocket,
    "coap door": coap_door,
}
ENTRANCES: dict[str, Opener] = {"announced": announcements, "tls": handshakes}
PARSERS: dict[str, Opener] = {
    "mqtt 3.1.1 decoder": mqtt_decoder(4),
    "mqtt 5 decoder": mqtt_decoder(5),
    "coap decoder": coap_decoder,
    "senml json": plain(JSON_SEEDS, _both_ways(SENML_JSON), SenmlError, SENML_WORDS),
    "senml cbor": plain(CBOR_SEEDS, _both_ways(SENML_CBOR), SenmlError, CBOR_WORDS),
    "wire": plain(
        wire_seeds(), wire.decode, WireError, (b"\x0a", b"\xff" * 9 + b"\x01", b"\x80\x80", b"\x7a\x02")
    ),
    "gwmp": plain(gwmp_seeds(), gwmp.decode, GwmpError, GWMP_WORDS),
    "topics": plain(
        [
            TOPIC.encode(),
            f"channels/{CHANNEL}/messages/+/#".encode(),
            b"mainflux/channels/x/messages/senml-json",
            b"a.b",
        ],
        _topic,
        TopicError,
        (b"/", b"+", b"#", b"$", b".", b"*", b">", b"\x00", b"\xed\xa0\x80", b"//", b"messages"),
    ),
    "content": plain(
        [
            SENML_JSON.encode() + b"\n" + SENML,
            SENML_CBOR.encode() + b"\n" + RFC_CBOR,
            b"application/json; charset=utf-8\n{}",
        ],
        _content,
        BadMessage,
        (b"\n", b";q=", b"*/*", b"application/", b"senml+json", b"[{", b"\xff"),
    ),
}
TARGETS = PARSERS | FRAMING | STRANGERS | CREDENTIALS | ENTRANCES | DOORS
