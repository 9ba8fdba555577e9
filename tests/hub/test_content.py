"""Which content type a payload is kept under."""

from __future__ import annotations

import pytest

from hub import content
from hub.errors import BadMessage, UnsupportedType
from hub.message import JSON, OCTET_STREAM, SENML_CBOR, SENML_JSON

PACK = b'[{"bn":"a","v":1},{"n":"b","vb":false}]'


@pytest.mark.parametrize(
    ("named", "payload", "kept"),
    [
        (SENML_JSON, PACK, SENML_JSON),
        ("Application/SenML+JSON; charset=utf-8", PACK, SENML_JSON),
        (SENML_CBOR, bytes.fromhex("81a20061610201"), SENML_CBOR),
        (JSON, PACK, SENML_JSON),
        (JSON, b'[{"n":"a","s":5}]', SENML_JSON),
        (JSON, b'{"n":"a","v":1}', JSON),
        (JSON, b'[{"n":"a","v":1},{"x":1}]', JSON),
        (JSON, b'[{"v":1}]', JSON),
        (JSON, b"[]", JSON),
        (JSON, b"5", JSON),
        (JSON, b"[1, 2]", JSON),
        (OCTET_STREAM, b"", OCTET_STREAM),
        (OCTET_STREAM, bytes(range(256)), OCTET_STREAM),
    ],
)
def test_content_is_kept_under_its_type(named: str, payload: bytes, kept: str) -> None:
    assert content.check(named, payload, 1.7e9) == kept


@pytest.mark.parametrize(
    ("named", "payload"),
    [
        (SENML_JSON, b""),
        (SENML_JSON, b"{}"),
        (SENML_JSON, b"[]"),
        (SENML_CBOR, PACK),
        (JSON, b""),
        (JSON, b"{"),
        (JSON, b"NaN"),
        (JSON, b"[" * 100_000),
        (JSON, b'[{"n":"not a name!","v":1}]'),  # means to be SenML and is not
        (JSON, b'"\xff"'),
    ],
)
def test_content_against_its_type_is_refused(named: str, payload: bytes) -> None:
    with pytest.raises(BadMessage):
        content.check(named, payload, 1.7e9)


@pytest.mark.parametrize("named", ["", "text/plain", "application/xml", "senml+json", ";"])
def test_other_types_are_unsupported(named: str) -> None:
    with pytest.raises(UnsupportedType):
        content.check(named, b"x", 1.7e9)
