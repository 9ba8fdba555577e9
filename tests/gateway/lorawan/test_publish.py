"""Uplinks become SenML messages, and a payload nobody can read stays what it was."""

import dataclasses
import json

import pytest
from msgspec.structs import replace

from gateway.lorawan.publish import Publisher
from hub.message import OCTET_STREAM, SENML_JSON, TimeQuality
from hub.senml import decode


@pytest.fixture
def made(network, node):
    def make(payload, *, codec="cayenne", **flags):
        network.add(dataclasses.replace(node.config, codec=codec))
        network.join(node)
        uplink = network.hear(node.uplink(payload, **flags), sf=9, snr_db=-4.5)
        return uplink, Publisher("boot-7").messages(uplink)

    return make


def test_values_and_radio_metadata_go_to_their_own_subtopics(made, node):
    uplink, published = made(bytes.fromhex("036701100567 00ff"))
    values, radio = published.messages
    for message in published.messages:
        assert message.channel == node.config.channel_id
        assert message.publisher == node.config.thing_id
        assert (message.protocol, message.content_type) == ("lora", SENML_JSON)
        assert (message.created_ns, message.time, message.boot) == (
            uplink.at.wall_ns,
            TimeQuality.NTP,
            "boot-7",
        )
    assert (values.subtopic, radio.subtopic) == ("70b3d57ed0000001", "70b3d57ed0000001.radio")
    time_s = uplink.at.wall_ns // 1000 / 1e6
    assert [(r.name, r.unit, r.value, r.time) for r in decode(SENML_JSON, values.payload, 0)] == [
        ("urn:dev:mac:70b3d57ed0000001:temperature_3", "Cel", 27.2, time_s),
        ("urn:dev:mac:70b3d57ed0000001:temperature_5", "Cel", 25.5, time_s),
    ]
    base = "urn:dev:mac:70b3d57ed0000001:"
    assert [
        (r.name.removeprefix(base), r.unit, r.value, r.time) for r in decode(SENML_JSON, radio.payload, 0)
    ] == [
        ("rssi", "dBm", -87, time_s),
        ("snr", "dB", -4.5, time_s),
        ("sf", "", 9, time_s),
        ("frequency", "Hz", 868_100_000, time_s),
        ("fcnt", "count", 0, time_s),
    ]
    assert (published.records, published.problem) == (2, "")
    assert published.values == [
        {"n": "temperature_3", "u": "Cel", "v": 27.2},
        {"n": "temperature_5", "u": "Cel", "v": 25.5},
    ]


def test_what_a_clock_that_is_not_set_has_stamped_says_now(made):
    """So the records are corrected together with their message, once the clock is set."""
    uplink, _ = made(bytes.fromhex("03670110"))
    unset = replace(uplink, at=replace(uplink.at, quality=TimeQuality.UNSET))
    published = Publisher("boot-7").messages(unset)
    for message in published.messages:
        assert "bt" not in json.loads(message.payload)[0]
        assert {record.time for record in decode(SENML_JSON, message.payload, 1.7e9)} == {1.7e9}


def test_an_uplink_without_application_payload_has_radio_metadata_only(made):
    _, published = made(b"", fport=None)
    assert [message.subtopic for message in published.messages] == ["70b3d57ed0000001.radio"]


def test_an_undecodable_payload_is_kept_as_bytes_and_named(made):
    _, published = made(b"\x01\xf1\x00")
    values = published.messages[0]
    assert (values.content_type, values.payload) == (OCTET_STREAM, b"\x01\xf1\x00")
    assert published.problem == "codec cayenne: type 241 of channel 1 is unknown"
    assert (published.values, published.records) == ([], 0)


def test_a_raw_payload_is_published_as_it_came(made):
    _, published = made(b"\x00\xff", codec="raw")
    assert (published.messages[0].content_type, published.messages[0].payload) == (OCTET_STREAM, b"\x00\xff")
    assert published.problem == ""


def test_a_device_with_a_codec_of_another_version_loses_nothing(made):
    _, published = made(b"\x01", codec="gone")
    assert published.messages[0].payload == b"\x01"
    assert published.problem == "codec gone: there is no codec of this name; there are cayenne, senml, raw"


def test_every_kind_of_value_is_shown(made):
    pack = [
        {"bn": "urn:x:", "n": "a", "vs": "open"},
        {"n": "b", "vb": True},
        {"n": "c", "vd": "_w"},
        {"n": "d", "s": 4.5, "u": "J"},
    ]
    _, published = made(json.dumps(pack).encode(), codec="senml")
    assert published.values == [
        {"n": "urn:x:a", "u": "", "vs": "open"},
        {"n": "urn:x:b", "u": "", "vb": True},
        {"n": "urn:x:c", "u": "", "vs": "ff"},
        {"n": "urn:x:d", "u": "J", "v": 4.5},
    ]
