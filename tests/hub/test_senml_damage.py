"""Thousands of damaged packs: whatever the bytes, only SenmlError escapes, and what decodes keeps the rules."""

from __future__ import annotations

import contextlib
import math
import random

import cbor2
import msgspec
import pytest

from hub import content, senml
from hub.errors import BadMessage, SenmlError
from hub.message import JSON, SENML_CBOR, SENML_JSON

PACKS = [
    [
        {"bn": "urn:dev:mac:0011223344556677:", "bt": 1.7e9, "bu": "Cel", "n": "t", "v": 21.5},
        {"n": "h", "v": 60},
    ],
    [
        {"n": "a", "vs": "text \u20ac"},
        {"n": "b", "vb": True},
        {"n": "c", "vd": "aGkgCg"},
        {"n": "d", "s": 1e3},
    ],
    [{"n": "a", "v": -1, "t": -5, "ut": 60, "x": {"y": [1, 2, {"z_": None}]}}, {"n": "b", "v": 1, "bver": 5}],
]
LABELS = {name: number for number, name in senml._CBOR_LABELS.items()}
JSON_SEEDS = [msgspec.json.encode(pack) for pack in PACKS]
CBOR_SEEDS = [
    cbor2.dumps(
        [{LABELS.get(k, k): (b"hi \n" if k == "vd" else v) for k, v in record.items()} for record in pack]
    )
    for pack in PACKS
] + [bytes.fromhex("81a200616102c48221196ab3"), b"\x9f\xbf\x00aa\x02\x01\xff\xff"]


def damage(rng: random.Random, wire: bytes) -> bytes:
    """Flip, cut, repeat, insert and overwrite, a few times over."""
    data = bytearray(wire)
    for _ in range(rng.randint(1, 6)):
        if not data:
            break
        at = rng.randrange(len(data))
        match rng.randrange(6):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at] = rng.choice(
                    (0x00, 0x1B, 0x1F, 0x5B, 0x7B, 0x9B, 0x9F, 0xBB, 0xBF, 0xC2, 0xC4, 0xFF)
                )
            case 2:
                del data[at : at + rng.randint(1, 8)]
            case 3:
                data[at:at] = data[at : at + rng.randint(1, 16)]
            case 4:
                data[at:at] = rng.randbytes(rng.randint(1, 6))
            case 5:
                del data[at:]
    return bytes(data)


@pytest.mark.parametrize(
    ("content_type", "seeds"), [(SENML_JSON, JSON_SEEDS), (SENML_CBOR, CBOR_SEEDS)], ids=["JSON", "CBOR"]
)
def test_damaged_packs_let_only_senml_errors_out(content_type: str, seeds: list[bytes]) -> None:
    rng = random.Random(8428)
    decoded = refused = 0
    for _ in range(6000):
        wire = damage(rng, rng.choice(seeds))
        try:
            records = senml.decode(content_type, wire, 1.7e9)
        except SenmlError:
            refused += 1
            continue
        decoded += 1
        for record in records:
            assert senml._NAME.fullmatch(record.name)
            assert math.isfinite(record.time)
            assert record.value is None or math.isfinite(record.value)
        again = senml.encode_json(records)
        assert senml.decode(SENML_JSON, again, 0.0) is not None
    assert decoded > 100  # the mutator also leaves packs whole
    assert refused > 1000


def test_noise_lets_only_senml_errors_out() -> None:
    rng = random.Random(8949)
    for _ in range(4000):
        wire = rng.randbytes(rng.randrange(48))
        for content_type in (SENML_JSON, SENML_CBOR):
            with pytest.raises(SenmlError):
                senml.decode(content_type, wire, 1.7e9)


def test_damaged_content_lets_only_bad_messages_out() -> None:
    rng = random.Random(7159)
    for _ in range(4000):
        wire = damage(rng, rng.choice(JSON_SEEDS))
        with contextlib.suppress(BadMessage):
            assert content.check(JSON, wire, 1.7e9) in (JSON, SENML_JSON)
