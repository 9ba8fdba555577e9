"""Payloads that are SenML already, or stay bytes."""

import random

import pytest

from gateway.codecs import CODECS, CodecError, get_codec

TIME = 1_760_000_000.0
BASE = "urn:dev:mac:70b3d57ed0000001:"

# RFC 8428, 5.1.2 (shortened) and section 6's CBOR example of the same kind, made by hand from table 4
JSON_PACK = b'[{"bn":"sensor:","n":"voltage","u":"V","v":120.1},{"n":"current","t":-5,"u":"A","v":1.2}]'
CBOR_PACK = bytes.fromhex("81a30067766f6c74616765016156020f")  # [{0: "voltage", 1: "V", 2: 15}]


def test_json_is_resolved_and_named_as_the_devices_own():
    records = get_codec("senml").decode(2, JSON_PACK, TIME, BASE)
    assert [(r.name, r.unit, r.value, r.time) for r in records] == [
        (BASE + "sensor:current", "A", 1.2, TIME - 5),
        (BASE + "sensor:voltage", "V", 120.1, TIME),
    ]


def test_cbor_is_told_from_json_by_its_first_byte():
    (record,) = get_codec("senml").decode(2, CBOR_PACK, TIME, BASE)
    assert (record.name, record.unit, record.value, record.time) == (BASE + "voltage", "V", 15, TIME)


def test_a_device_that_names_itself_rightly_keeps_its_names():
    pack = f'[{{"bn":"{BASE}","n":"t","v":1}}]'.encode()
    assert get_codec("senml").decode(2, pack, TIME, BASE)[0].name == BASE + "t"


def test_no_device_can_write_under_the_name_of_another():
    pack = b'[{"bn":"urn:dev:mac:70b3d57ed0000002:","n":"t","v":1}]'
    assert get_codec("senml").decode(2, pack, TIME, BASE)[0].name == BASE + "urn:dev:mac:70b3d57ed0000002:t"


@pytest.mark.parametrize(
    "payload", [b"", b"[", b"[]", b"\x80", b'[{"n":"a b","v":1}]', b'[{"n":"a"}]', b"\x00\x01"]
)
def test_what_is_no_senml_is_refused(payload):
    with pytest.raises(CodecError):
        get_codec("senml").decode(2, payload, TIME, BASE)


def test_a_name_that_grows_too_long_under_the_device_is_refused():
    pack = b'[{"n":"' + b"a" * 250 + b'","v":1}]'
    with pytest.raises(CodecError, match="name"):
        get_codec("senml").decode(2, pack, TIME, BASE)


def test_damaged_packs_raise_nothing_but_codec_error():
    rng = random.Random(6)
    codec = get_codec("senml")
    for _ in range(10_000):
        wire = bytearray(rng.choice((JSON_PACK, CBOR_PACK)))
        for _ in range(rng.randrange(1, 4)):
            wire[rng.randrange(len(wire))] = rng.randrange(256)
        if rng.random() < 0.3:
            del wire[rng.randrange(len(wire)) :]
        try:
            records = codec.decode(2, bytes(wire), TIME, BASE)
        except CodecError:
            continue
        assert all(record.name.startswith(BASE) for record in records)


def test_raw_is_one_data_value_named_after_its_port():
    (record,) = get_codec("raw").decode(9, b"\x00\xff", TIME, BASE)
    assert (record.name, record.data_value, record.time) == (BASE + "port_9", b"\x00\xff", TIME)
    with pytest.raises(CodecError, match="empty"):
        get_codec("raw").decode(9, b"", TIME, BASE)


def test_codecs_are_known_by_their_names():
    assert set(CODECS) == {"cayenne", "senml", "raw"}
    with pytest.raises(CodecError, match="cayenne, senml, raw"):
        get_codec("lpp")
