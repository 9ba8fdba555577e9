"""The protobuf message against bytes put together by hand and against a class that knows Mainflux's fields only."""

import random

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from hub import wire
from hub.errors import WireError
from hub.message import OCTET_STREAM, SENML_JSON, Message, Properties, TimeQuality

GATEWAY = "0016c001f10a0b0c"
CHANNEL = "6b3ff1e6-3a4c-4d1e-9c58-4f6a2f1d7c10"
THING = "9e4c0f5e-93c7-4a3e-8a52-5a1c3d0f7b11"
CREATED = 1_790_000_000_123_456_789


def varint(number: int) -> bytes:
    """Protocol Buffers encoding, base 128 varints: seven bits at a time, lowest first."""
    encoded = b""
    while number > 0x7F:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


def number(field: int, value: int) -> bytes:
    """A record of wire type 0."""
    return varint(field << 3) + varint(value)


def data(field: int, value: bytes) -> bytes:
    """A record of wire type 2."""
    return varint(field << 3 | 2) + varint(len(value)) + value


MAINFLUX_FIELDS = (
    b"\x0a\x24"
    + CHANNEL.encode()
    + b"\x12\x0abuilding.3"
    + b"\x1a\x24"
    + THING.encode()
    + b"\x22\x04lora"
    + b'\x2a\x11[{"n":"t","v":1}]'
    + b"\x30\x95\x9a\xbb\xda\xc2\xf0\xd6\xeb\x18"  # 1790000000123456789 in groups of seven bits
)
OUR_FIELDS = (
    data(1001, b"application/senml+json")
    + data(1002, GATEWAY.encode())
    + number(1003, 4711)
    + data(1004, b"gnss")
    + data(1005, b"boot-1")
    + number(1006, 1)
    + number(1007, 1)
)
PROPERTIES = data(
    1008,
    number(1, 1)
    + number(2, 3600)
    + data(3, b"answers/here")
    + data(4, b"\x00\xff")
    + data(5, data(1, b"unit") + data(2, b"m"))
    + data(5, data(1, b"unit") + data(2, b"s"))
    + data(6, b"text/plain"),
)
MESSAGE = Message(
    CHANNEL,
    "building.3",
    THING,
    "lora",
    SENML_JSON,
    b'[{"n":"t","v":1}]',
    CREATED,
    seq=4711,
    time=TimeQuality.GNSS,
    boot="boot-1",
    qos=1,
    retain=True,
    properties=Properties(
        payload_format=1,
        expiry_s=3600,
        response_topic="answers/here",
        correlation_data=b"\x00\xff",
        user=(("unit", "m"), ("unit", "s")),
        content_type="text/plain",
    ),
)


def mainflux_class():
    """What a Mainflux service is compiled with: six fields, none of ours."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="mainflux.proto", package="messaging", syntax="proto3")
    kind = file.message_type.add(name="Message")
    for index, (name, type_) in enumerate(
        (
            ("channel", kinds.TYPE_STRING),
            ("subtopic", kinds.TYPE_STRING),
            ("publisher", kinds.TYPE_STRING),
            ("protocol", kinds.TYPE_STRING),
            ("payload", kinds.TYPE_BYTES),
            ("created", kinds.TYPE_INT64),
        ),
        start=1,
    ):
        kind.field.add(name=name, number=index, type=type_, label=kinds.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("messaging.Message"))


def test_a_message_is_these_bytes_on_the_wire() -> None:
    assert wire.encode(MESSAGE, GATEWAY) == MAINFLUX_FIELDS + OUR_FIELDS + PROPERTIES


def test_these_bytes_are_the_message() -> None:
    decoded = wire.decode(MAINFLUX_FIELDS + OUR_FIELDS + PROPERTIES)
    assert decoded.origin == f"{GATEWAY}/4711"
    assert decoded.seq == 0
    names = set(Message.__struct_fields__) - {"seq", "origin"}
    assert {name: getattr(decoded, name) for name in names} == {
        name: getattr(MESSAGE, name) for name in names
    }


def test_a_mainflux_service_reads_its_six_fields_and_keeps_ours() -> None:
    theirs = mainflux_class().FromString(wire.encode(MESSAGE, GATEWAY))
    assert (theirs.channel, theirs.subtopic, theirs.publisher, theirs.protocol) == (
        CHANNEL,
        "building.3",
        THING,
        "lora",
    )
    assert (theirs.payload, theirs.created) == (b'[{"n":"t","v":1}]', CREATED)
    passed_on = wire.decode(theirs.SerializeToString())
    assert (passed_on.origin, passed_on.content_type) == (f"{GATEWAY}/4711", SENML_JSON)
    assert passed_on.properties == MESSAGE.properties


def test_a_message_of_a_mainflux_service_has_neither_type_nor_identity() -> None:
    theirs = mainflux_class()(
        channel=CHANNEL, publisher=THING, protocol="mqtt", payload=b"x", created=CREATED
    )
    decoded = wire.decode(theirs.SerializeToString())
    assert decoded == Message(CHANNEL, "", THING, "mqtt", "", b"x", CREATED)


def test_what_another_gateway_took_in_keeps_its_identity() -> None:
    bridged = wire.decode(wire.encode(MESSAGE, GATEWAY))
    again = wire.decode(wire.encode(bridged, "ffffffffffffffff"))
    assert again.origin == f"{GATEWAY}/4711"


@pytest.mark.parametrize("payload_format", [None, 0, 1])
@pytest.mark.parametrize("correlation_data", [None, b"", b"\x01"])
@pytest.mark.parametrize("expiry_s", [None, 0, 0xFFFFFFFF])
def test_not_given_and_zero_stay_apart(payload_format, correlation_data, expiry_s) -> None:
    properties = Properties(payload_format, expiry_s, correlation_data=correlation_data)
    message = Message(CHANNEL, "", THING, "mqtt", OCTET_STREAM, b"", 1, seq=1, qos=0, properties=properties)
    decoded = wire.decode(wire.encode(message, GATEWAY))
    assert (decoded.properties, decoded.qos) == (properties, 0)


def test_an_unknown_quality_of_time_is_unset() -> None:
    assert wire.decode(data(1004, b"sundial")).time is TimeQuality.UNSET


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"payload": bytes(wire.MAX_BYTES)}, id="too large"),
        pytest.param({"subtopic": "\ud800"}, id="no UTF-8"),
        pytest.param({"created_ns": 1 << 63}, id="time out of range"),
        pytest.param({"seq": -1}, id="negative number"),
        pytest.param({"origin": "nobody"}, id="broken origin"),
    ],
)
def test_what_has_no_form_is_refused(changes: dict[str, object]) -> None:
    fields = {"seq": 1} | changes
    base = {"channel": CHANNEL, "subtopic": "", "publisher": THING, "protocol": "mqtt"}
    rest = {"content_type": OCTET_STREAM, "payload": b"", "created_ns": 1}
    with pytest.raises(WireError):
        wire.encode(Message(**(base | rest | fields)), GATEWAY)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(bytes(wire.MAX_BYTES + 1), id="too large"),
        pytest.param(b"\x0a\xff", id="length beyond the end"),
        pytest.param(data(1, b"\xff\xfe"), id="no UTF-8"),
        pytest.param(data(1, b"c" * 65), id="long channel"),
        pytest.param(data(2, b"s" * 1025), id="long subtopic"),
        pytest.param(data(1008, data(5, b"") * 65), id="many user properties"),
        pytest.param(data(1008, data(3, b"t" * 1025)), id="long response topic"),
    ],
)
def test_wrong_bytes_are_refused(wrong: bytes) -> None:
    with pytest.raises(WireError):
        wire.decode(wrong)


def test_damaged_messages_raise_nothing_but_wire_error() -> None:
    rng = random.Random(53)
    whole = MAINFLUX_FIELDS + OUR_FIELDS + PROPERTIES
    decoded = 0
    for _ in range(20_000):
        damaged = bytearray(whole)
        for _ in range(rng.randrange(1, 5)):
            match rng.randrange(4):
                case 0:
                    damaged[rng.randrange(len(damaged))] = rng.randrange(256)
                case 1:
                    del damaged[rng.randrange(len(damaged)) :]
                case 2:
                    at = rng.randrange(len(damaged) + 1)
                    damaged[at:at] = rng.randbytes(rng.randrange(1, 6))
                case 3:
                    at = rng.randrange(len(damaged) + 1)
                    damaged[at:at] = damaged[rng.randrange(len(damaged) + 1) :]
            if not damaged:
                damaged += b"\x00"
        try:
            message = wire.decode(bytes(damaged))
        except WireError:
            continue
        decoded += 1
        assert isinstance(message.payload, bytes)
    assert decoded > 500  # damage inside texts leaves messages whole
