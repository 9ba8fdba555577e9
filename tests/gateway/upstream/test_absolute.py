import json
import random

import cbor2
import pytest

from gateway.upstream.absolute import with_absolute_times
from hub.message import JSON, SENML_CBOR, SENML_JSON, TimeQuality

TAKEN_NS = 1_790_000_000_500_000_000
TAKEN_S = 1_790_000_000.5


def sent(
    message, payload: bytes, content_type: str = SENML_JSON, time: TimeQuality = TimeQuality.NTP
) -> bytes:
    return with_absolute_times(
        message(1, payload=payload, content_type=content_type, created_ns=TAKEN_NS, time=time)
    )


@pytest.mark.parametrize(
    ("record", "time"),
    [
        pytest.param({"n": "t", "v": 21}, TAKEN_S, id="no time at all: now"),
        pytest.param({"n": "t", "v": 21, "t": -60}, TAKEN_S - 60, id="a minute before now"),
        pytest.param({"bt": -10, "n": "t", "v": 21, "t": 2}, TAKEN_S - 8, id="base time relative too"),
    ],
)
def test_a_relative_time_counts_from_when_the_gateway_took_the_message(message, record, time) -> None:
    (resolved,) = json.loads(sent(message, json.dumps([record]).encode()))
    assert resolved.get("bt", 0) + resolved.get("t", 0) == time
    assert resolved["v"] == 21


def test_cbor_stays_cbor(message) -> None:
    (resolved,) = cbor2.loads(sent(message, cbor2.dumps([{0: "t", 2: 21}]), SENML_CBOR))
    assert resolved.get(-3, 0) + resolved.get(6, 0) == TAKEN_S


@pytest.mark.parametrize(
    ("payload", "content_type"),
    [
        pytest.param(b'[{"n":"t","v":21,"t":1.79e9,"x":1}]', SENML_JSON, id="absolute, byte for byte"),
        pytest.param(b'[{"n":"t","v":21}]', JSON, id="plain JSON"),
        pytest.param(b'[{"n":"t"', SENML_JSON, id="damaged"),
        pytest.param(b"", SENML_CBOR, id="empty"),
    ],
)
def test_what_needs_no_time_stays_as_it_is(message, payload: bytes, content_type: str) -> None:
    assert sent(message, payload, content_type) == payload


def test_a_clock_that_was_never_set_adds_no_time(message) -> None:
    payload = b'[{"n":"t","v":21}]'
    assert sent(message, payload, time=TimeQuality.UNSET) == payload


def test_no_damage_stops_a_message(message) -> None:
    rng = random.Random(7)
    whole = [
        (
            SENML_JSON,
            b'[{"bn":"urn:dev:mac:0123456789abcdef:","bt":-5,"n":"t","u":"Cel","v":21.5},{"n":"h","v":4}]',
        ),
        (
            SENML_CBOR,
            cbor2.dumps([{-2: "urn:dev:mac:0123456789abcdef:", -3: -5, 0: "t", 2: 21.5}, {0: "h", 2: 4}]),
        ),
    ]
    for _ in range(4000):
        content_type, payload = rng.choice(whole)
        damaged = bytearray(payload)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        assert isinstance(sent(message, bytes(damaged[: rng.randint(0, len(damaged))]), content_type), bytes)
