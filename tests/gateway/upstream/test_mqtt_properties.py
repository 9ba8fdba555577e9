"""Packed properties, read back by paho's own decoder."""

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.upstream.mqtt_properties import PackedProperties


@pytest.mark.parametrize(
    ("content_type", "user"),
    [
        pytest.param("application/senml+json", [("gateway", "0102030405060708"), ("seq", "1")], id="usual"),
        pytest.param("", [], id="empty"),
        pytest.param("text/plain", [("straße", "ü" * 100), ("seq", "2")], id="two bytes of length"),
        pytest.param("x", [("n", "v" * 20_000)], id="three bytes of length"),
        pytest.param("x", [("same", "1"), ("same", "2")], id="one name twice"),
    ],
)
def test_another_implementation_reads_what_was_packed(content_type: str, user: list) -> None:
    packed = PackedProperties(content_type, user).pack()
    read = Properties(PacketTypes.PUBLISH)
    _, length = read.unpack(packed + b"payload")
    assert length == len(packed)
    assert read.ContentType == content_type
    assert getattr(read, "UserProperty", []) == user


def test_it_packs_as_another_implementation_does() -> None:
    user = [("gateway", "0102030405060708"), ("seq", "77")]
    other = Properties(PacketTypes.PUBLISH)
    other.ContentType = "application/senml+cbor"
    other.UserProperty = user
    assert PackedProperties("application/senml+cbor", user).pack() == other.pack()


def test_all_that_a_publisher_may_say_is_read_back() -> None:
    packed = PackedProperties(
        "text/plain",
        [("a", "b")],
        payload_format=1,
        expiry_s=3600,
        response_topic="answers/here",
        correlation_data=b"\x00\xff",
    ).pack()
    read = Properties(PacketTypes.PUBLISH)
    read.unpack(packed)
    assert (read.PayloadFormatIndicator, read.MessageExpiryInterval) == (1, 3600)
    assert (read.ResponseTopic, read.CorrelationData) == ("answers/here", b"\x00\xff")
    assert (read.ContentType, read.UserProperty) == ("text/plain", [("a", "b")])


def test_a_string_too_long_for_mqtt_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="longer than MQTT allows"):
        PackedProperties("x" * 65_536, [])
