"""Showing SenML in the form a receiver asks for; the CBOR side is judged by cbor2, not by our own reader."""

import json
import math

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.convert import MAX_RANGES, negotiate, transcode
from hub.errors import SenmlError
from hub.message import JSON, OCTET_STREAM, SENML_CBOR, SENML_JSON

# RFC 8428, 5.1.3 "Multiple Datapoints", shortened, and the labels of its table 4.
PACK = [
    {"bn": "urn:dev:ow:10e2073a01080063", "bt": 1.320067464e9, "bu": "%RH", "v": 20},
    {"u": "lon", "v": 24.30621},
    {"n": "tag", "t": -5, "vs": "open"},
    {"n": "raw", "vd": "AQID"},
    {"n": "on", "vb": True},
    {"n": "energy", "s": 12.5, "ut": 60},
]
MAPS = [
    {-2: "urn:dev:ow:10e2073a01080063", -3: 1320067464, -4: "%RH", 2: 20},
    {1: "lon", 2: 24.30621},
    {0: "tag", 6: -5, 3: "open"},
    {0: "raw", 8: b"\x01\x02\x03"},
    {0: "on", 4: True},
    {0: "energy", 5: 12.5, 7: 60},
]


def test_json_becomes_the_maps_of_the_specification() -> None:
    assert cbor2.loads(transcode(SENML_JSON, json.dumps(PACK).encode(), SENML_CBOR)) == MAPS


def test_cbor_becomes_the_objects_of_the_specification() -> None:
    assert json.loads(transcode(SENML_CBOR, cbor2.dumps(MAPS), SENML_JSON)) == PACK


@pytest.mark.parametrize("name", [SENML_JSON, SENML_CBOR, JSON, OCTET_STREAM])
def test_the_same_type_is_the_same_bytes(name: str) -> None:
    assert transcode(name, b"not even read", name) == b"not even read"


@pytest.mark.parametrize(
    ("content_type", "wanted"),
    [(JSON, SENML_CBOR), (OCTET_STREAM, SENML_JSON), (SENML_JSON, JSON), (SENML_CBOR, OCTET_STREAM)],
)
def test_there_is_no_way_between_other_types(content_type: str, wanted: str) -> None:
    with pytest.raises(SenmlError, match="cannot be shown"):
        transcode(content_type, b"[]", wanted)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_keeps_its_value_there_and_back(number: float) -> None:
    there = transcode(SENML_JSON, json.dumps([{"n": "x", "v": number}]).encode(), SENML_CBOR)
    assert math.isclose(cbor2.loads(there)[0][2], number, rel_tol=0, abs_tol=0)
    assert json.loads(transcode(SENML_CBOR, there, SENML_JSON))[0]["v"] == number


@pytest.mark.parametrize(
    ("accept", "content_type", "shown"),
    [
        pytest.param("", SENML_JSON, SENML_JSON, id="no wish"),
        pytest.param("*/*", SENML_CBOR, SENML_CBOR, id="anything"),
        pytest.param(SENML_CBOR, SENML_JSON, SENML_CBOR, id="the other form"),
        pytest.param(f"{SENML_JSON};q=0.5, {SENML_CBOR}", SENML_JSON, SENML_CBOR, id="by weight"),
        pytest.param("application/*", SENML_JSON, SENML_JSON, id="as published at equal weight"),
        pytest.param(f"{SENML_JSON};q=0, */*", SENML_JSON, SENML_CBOR, id="anything but"),
        pytest.param("Application/SenML+CBOR ; q=1", SENML_JSON, SENML_CBOR, id="letters and spaces"),
        pytest.param("text/html", SENML_JSON, None, id="nothing acceptable"),
        pytest.param(SENML_CBOR, JSON, None, id="JSON is not converted"),
        pytest.param(
            f"{SENML_CBOR};q=high", SENML_JSON, None, id="a weight that is no number counts as none"
        ),
        pytest.param("*/*;q=0", SENML_JSON, None, id="nothing at all"),
    ],
)
def test_what_a_receiver_is_shown(accept: str, content_type: str, shown: str | None) -> None:
    assert negotiate(accept, content_type) == shown


def test_ranges_beyond_the_bound_are_not_read() -> None:
    assert negotiate(",".join(["text/html"] * MAX_RANGES + [SENML_JSON]), SENML_JSON) is None
