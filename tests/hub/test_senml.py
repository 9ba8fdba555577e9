"""SenML against every example of RFC 8428 and its rules, clause by clause."""

from __future__ import annotations

import json
import math

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import senml
from hub.errors import SenmlError
from hub.message import SENML_CBOR, SENML_JSON
from hub.senml import Record

NOW = 1_700_000_000.0
OW = "urn:dev:ow:10e2073a01080063"

# RFC 8428, 5.1.2, third example
CURRENTS = b"""[
 {"bn":"urn:dev:ow:10e2073a0108006:","bt":1.276020076001e+09,"bu":"A","bver":5,"n":"voltage","u":"V","v":120.1},
 {"n":"current","t":-5,"v":1.2}, {"n":"current","t":-4,"v":1.3}, {"n":"current","t":-3,"v":1.4},
 {"n":"current","t":-2,"v":1.5}, {"n":"current","t":-1,"v":1.6}, {"n":"current","v":1.7}
]"""
# RFC 8428, 6: the same pack
CURRENTS_CBOR = bytes.fromhex(
    "87a721781b75726e3a6465763a6f773a3130653230373361303130383030363a22fb41d303a15b00106223614120050067766f6c"
    "7461676501615602fb405e066666666666a3006763757272656e74062402fb3ff3333333333333a3006763757272656e740623"
    "02fb3ff4cccccccccccda3006763757272656e74062202fb3ff6666666666666a3006763757272656e74062102f93e00a30067"
    "63757272656e74062002fb3ff999999999999aa3006763757272656e74060002fb3ffb333333333333"
)
# RFC 8428, 5.1.3 and, resolved, 5.1.4
MOBILE = b"""[
 {"bn":"urn:dev:ow:10e2073a01080063","bt":1.320067464e+09,"bu":"%RH","v":20},
 {"u":"lon","v":24.30621}, {"u":"lat","v":60.07965},
 {"t":60,"v":20.3}, {"u":"lon","t":60,"v":24.30622}, {"u":"lat","t":60,"v":60.07965},
 {"t":120,"v":20.7}, {"u":"lon","t":120,"v":24.30623}, {"u":"lat","t":120,"v":60.07966},
 {"u":"%EL","t":150,"v":98},
 {"t":180,"v":21.2}, {"u":"lon","t":180,"v":24.30628}, {"u":"lat","t":180,"v":60.07967}
]"""
MOBILE_RESOLVED = [
    ("%RH", 1320067464, 20), ("lon", 1320067464, 24.30621), ("lat", 1320067464, 60.07965),
    ("%RH", 1320067524, 20.3), ("lon", 1320067524, 24.30622), ("lat", 1320067524, 60.07965),
    ("%RH", 1320067584, 20.7), ("lon", 1320067584, 24.30623), ("lat", 1320067584, 60.07966),
    ("%EL", 1320067614, 98),
    ("%RH", 1320067644, 21.2), ("lon", 1320067644, 24.30628), ("lat", 1320067644, 60.07967),
]  # fmt: skip


def of_json(text: bytes | str, now: float = NOW) -> list[Record]:
    return senml.decode(SENML_JSON, text if isinstance(text, bytes) else text.encode(), now)


def of_cbor(pack: object, now: float = NOW) -> list[Record]:
    return senml.decode(SENML_CBOR, cbor2.dumps(pack), now)


@pytest.mark.parametrize(
    ("pack", "records"),
    [
        pytest.param(
            b'[{"n":"urn:dev:ow:10e2073a01080063","u":"Cel","v":23.1}]',
            [Record(OW, "Cel", NOW, 23.1)],
            id="5.1.1 single data point",
        ),
        pytest.param(
            b'[{"bn":"urn:dev:ow:10e2073a01080063:","n":"voltage","u":"V","v":120.1},'
            b'{"n":"current","u":"A","v":1.2}]',
            [Record(OW + ":voltage", "V", NOW, 120.1), Record(OW + ":current", "A", NOW, 1.2)],
            id="5.1.2 multiple data points, now",
        ),
        pytest.param(
            CURRENTS,
            [
                *(
                    Record("urn:dev:ow:10e2073a0108006:current", "A", 1276020076.001 - ago, value)
                    for ago, value in ((5, 1.2), (4, 1.3), (3, 1.4), (2, 1.5), (1, 1.6))
                ),
                Record("urn:dev:ow:10e2073a0108006:voltage", "V", 1276020076.001, 120.1),
                Record("urn:dev:ow:10e2073a0108006:current", "A", 1276020076.001, 1.7),
            ],
            id="5.1.2 multiple data points, earlier; version 5",
        ),
        pytest.param(
            b'[{"bn":"urn:dev:ow:10e2073a01080063","bt":1.320067464e+09,"bu":"%RH","v":21.2},'
            b'{"t":10,"v":21.3},{"t":20,"v":21.4},{"t":30,"v":21.4},{"t":40,"v":21.5},{"t":50,"v":21.5},'
            b'{"t":60,"v":21.5},{"t":70,"v":21.6},{"t":80,"v":21.7}]',
            [
                Record(OW, "%RH", 1320067464.0 + after, value)
                for after, value in zip(
                    range(0, 90, 10), (21.2, 21.3, 21.4, 21.4, 21.5, 21.5, 21.5, 21.6, 21.7), strict=True
                )
            ],
            id="5.1.2 stream",
        ),
        pytest.param(
            MOBILE,
            [Record(OW, unit, float(time), float(value)) for unit, time, value in MOBILE_RESOLVED],
            id="5.1.3 and 5.1.4 resolved",
        ),
        pytest.param(
            b'[{"bn":"urn:dev:ow:10e2073a01080063:","n":"temp","u":"Cel","v":23.1},'
            b'{"n":"label","vs":"Machine Room"},{"n":"open","vb":false},{"n":"nfv-reader","vd":"aGkgCg"}]',
            [
                Record(OW + ":temp", "Cel", NOW, 23.1),
                Record(OW + ":label", "", NOW, string_value="Machine Room"),
                Record(OW + ":open", "", NOW, bool_value=False),
                Record(OW + ":nfv-reader", "", NOW, data_value=b"hi \n"),
            ],
            id="5.1.5 multiple data types",
        ),
        pytest.param(
            b'[{"bn":"2001:db8::2/","bt":1.320078429e+09,"n":"temperature","u":"Cel","v":25.2},'
            b'{"n":"humidity","u":"%RH","v":30},{"bn":"2001:db8::1/","n":"temperature","u":"Cel","v":12.3},'
            b'{"n":"humidity","u":"%RH","v":67}]',
            [
                Record("2001:db8::2/temperature", "Cel", 1320078429.0, 25.2),
                Record("2001:db8::2/humidity", "%RH", 1320078429.0, 30.0),
                Record("2001:db8::1/temperature", "Cel", 1320078429.0, 12.3),
                Record("2001:db8::1/humidity", "%RH", 1320078429.0, 67.0),
            ],
            id="5.1.6 collection of resources",
        ),
        pytest.param(
            b'[{"bn":"urn:dev:ow:10e2073a01080063:"},{"n":"temp","u":"Cel","v":23.1},'
            b'{"n":"heat","u":"/","v":1},{"n":"fan","u":"/","v":0}]',
            [
                Record(OW + ":temp", "Cel", NOW, 23.1),
                Record(OW + ":heat", "/", NOW, 1.0),
                Record(OW + ":fan", "/", NOW, 0.0),
            ],
            id="5.1.7 thermostat; a record of base fields only",
        ),
        pytest.param(
            b'[{"bt":1.320078429e+09,"bu":"/","n":"2001:db8::3","v":1},{"n":"2001:db8::4","v":1}]',
            [
                Record("2001:db8::3", "/", 1320078429.0, 1.0),
                Record("2001:db8::4", "/", 1320078429.0, 1.0),
            ],
            id="5.1.7 two lights on",
        ),
        pytest.param(
            b'[{"bt":1.320078429e+09,"bu":"/","n":"2001:db8::3","v":0.5},{"n":"2001:db8::4","v":0.5},'
            b'{"n":"2001:db8::3","t":0.1,"v":0},{"n":"2001:db8::4","t":0.1,"v":0}]',
            [
                Record("2001:db8::3", "/", 1320078429.0, 0.5),
                Record("2001:db8::4", "/", 1320078429.0, 0.5),
                Record("2001:db8::3", "/", 1320078429.1, 0.0),
                Record("2001:db8::4", "/", 1320078429.1, 0.0),
            ],
            id="5.1.7 two lights dimmed, then off",
        ),
    ],
)
def test_examples_of_the_rfc_resolve(pack: bytes, records: list[Record]) -> None:
    assert of_json(pack) == records
    # and the same through CBOR, both ways
    assert of_json(senml.encode_json(records)) == records
    assert senml.decode(SENML_CBOR, senml.encode_cbor(records), NOW) == records


def test_cbor_example_of_the_rfc_reads_as_its_json_twin() -> None:
    assert senml.decode(SENML_CBOR, CURRENTS_CBOR, NOW) == of_json(CURRENTS)


def test_cbor_stream_of_indefinite_length_reads_like_a_definite_one() -> None:
    """RFC 8428, 6: streams use an array of indefinite length."""
    assert CURRENTS_CBOR[0] == 0x87
    assert senml.decode(SENML_CBOR, b"\x9f" + CURRENTS_CBOR[1:] + b"\xff", NOW) == of_json(CURRENTS)


def test_written_packs_say_what_the_rfc_says_of_labels() -> None:
    records = of_json(CURRENTS)
    wire = json.loads(senml.encode_json(records))
    assert wire[0] == {"n": "urn:dev:ow:10e2073a0108006:current", "u": "A", "v": 1.2, "t": 1276020071.001}
    assert cbor2.loads(senml.encode_cbor(records))[0] == {
        0: "urn:dev:ow:10e2073a0108006:current", 1: "A", 2: 1.2, 6: 1276020071.001,
    }  # fmt: skip


def test_a_shared_base_name_and_time_are_written_once() -> None:
    records = [Record(OW + ":temp", "Cel", 1.32e9, 23.5), Record(OW + ":open", "", 1.32e9, bool_value=True)]
    wire = senml.encode_json(records, base_name=OW + ":")
    assert json.loads(wire) == [
        {"bn": OW + ":", "bt": 1.32e9, "n": "temp", "u": "Cel", "v": 23.5},
        {"n": "open", "vb": True},
    ]
    assert of_json(wire) == records
    with pytest.raises(SenmlError):
        senml.encode_json(records, base_name="urn:dev:mac:")


# Times, RFC 8428, 4.5.3


@pytest.mark.parametrize(
    ("base", "time", "resolved"),
    [
        pytest.param(None, None, NOW, id="no time is now"),
        pytest.param(0, 0, NOW, id="zero is now"),
        pytest.param(None, -60, NOW - 60, id="past"),
        pytest.param(None, 60, NOW + 60, id="future"),
        pytest.param(-10, -0.5, NOW - 10.5, id="relative base"),
        pytest.param(None, 2**28 - 1, NOW + 2**28 - 1, id="largest relative time"),
        pytest.param(None, 2**28, float(2**28), id="smallest absolute time"),
        pytest.param(1.7e9, -1, 1.7e9 - 1, id="absolute base"),
        pytest.param(2**27, 2**27, float(2**28), id="only the sum decides"),
    ],
)
def test_times_below_2_to_the_28_count_from_now(
    base: float | None, time: float | None, resolved: float
) -> None:
    fields = (
        {"n": "a", "v": 1} | ({} if base is None else {"bt": base}) | ({} if time is None else {"t": time})
    )
    assert of_json(json.dumps([fields]))[0].time == resolved


def test_records_of_one_time_keep_their_order_when_sorted() -> None:
    pack = [{"n": "late", "v": 1, "t": 5}, *({"n": f"n{i}", "v": i} for i in range(20))]
    assert [record.name for record in of_json(json.dumps(pack))] == [*(f"n{i}" for i in range(20)), "late"]


# Base fields, 4.1 and 4.5.4


@pytest.mark.parametrize(
    ("pack", "values"),
    [
        pytest.param([{"bn": "a", "bv": 20, "v": 1}, {"v": 2}], [21, 22], id="base value is carried on"),
        pytest.param([{"bn": "a", "bv": 20, "v": 1}, {"t": 1}], [21, 20], id="missing value is zero"),
        pytest.param([{"bn": "a", "bv": 20, "v": 1}, {"bv": 0, "v": 2}], [21, 2], id="zero resets"),
        pytest.param([{"bn": "a", "bv": 20}, {"n": "b"}], [20], id="base value alone makes a value"),
        pytest.param([{"bn": "a", "bv": 20, "s": 4}], [None], id="a sum needs no value"),
    ],
)
def test_base_values_are_added(pack: list[dict[str, object]], values: list[float | None]) -> None:
    assert [record.value for record in of_json(json.dumps(pack))] == values


def test_base_sums_are_added_and_make_a_sum_of_their_own() -> None:
    pack = [{"bn": "a", "bs": 100, "s": 1}, {"v": 3}, {"bs": 0, "s": 5}]
    assert [record.sum for record in of_json(json.dumps(pack))] == [101, 100, 5]


def test_an_empty_base_name_and_unit_reset_the_earlier_ones() -> None:
    pack = '[{"bn":"a:","bu":"Cel","n":"x","v":1},{"bn":"","bu":"","n":"y","v":2},{"n":"z","u":"V","v":3}]'
    assert [(record.name, record.unit) for record in of_json(pack)] == [("a:x", "Cel"), ("y", ""), ("z", "V")]


def test_update_time_is_kept() -> None:
    assert of_json('[{"n":"a","v":1,"ut":60}]')[0].update_time == 60


# What is refused

REFUSED = {
    "empty pack": [],
    "base fields only": [{"bn": "a"}],
    "no name": [{"v": 1}],
    "no value": [{"n": "a"}],
    "unit only": [{"n": "a", "u": "V"}],
    "two values": [{"n": "a", "v": 1, "vs": "x"}],
    "value and boolean": [{"n": "a", "v": 1, "vb": False}],
    "string and data": [{"n": "a", "vs": "", "vd": ""}],
    "name begins with a dash": [{"n": "-a", "v": 1}],
    "name with a space": [{"n": "a b", "v": 1}],
    "name of another script": [{"n": "ä", "v": 1}],
    "name with a line end": [{"n": "a\n", "v": 1}],
    "name too long": [{"n": "a" * (senml.MAX_NAME + 1), "v": 1}],
    "unit too long": [{"n": "a", "u": "V" * (senml.MAX_UNIT + 1), "v": 1}],
    "version 11": [{"n": "a", "v": 1, "bver": 11}],
    "version 4": [{"n": "a", "v": 1, "bver": 4}],
    "version changes": [{"n": "a", "v": 1, "bver": 10}, {"n": "a", "v": 1, "bver": 5}],
    "label to be understood": [{"n": "a", "v": 1, "extra_": 2}],
    "boolean as number": [{"n": "a", "v": True}],
    "number as boolean": [{"n": "a", "vb": 1}],
    "number as name": [{"n": 1, "v": 1}],
    "sum of values overflows": [{"bn": "a", "bv": 1.7e308, "v": 1.7e308}],
    "sum of times overflows": [{"bn": "a", "bt": 1.7e308, "t": 1.7e308, "v": 1}],
    "sum of sums overflows": [{"bn": "a", "bs": 1.7e308, "s": 1.7e308}],
    "too many records": [{"n": "a", "v": 1}] * (senml.MAX_RECORDS + 1),
    "not an array": {"n": "a", "v": 1},
    "array of arrays": [[1]],
    "a number": 5,
}
_LABELS = {name: number for number, name in senml._CBOR_LABELS.items()}


@pytest.mark.parametrize("pack", REFUSED.values(), ids=REFUSED.keys())
def test_packs_against_the_rules_are_refused_in_both_forms(pack: object) -> None:
    with pytest.raises(SenmlError):
        of_json(json.dumps(pack))
    if isinstance(pack, list):
        pack = [
            {_LABELS.get(label, label): value for label, value in item.items()}
            if isinstance(item, dict)
            else item
            for item in pack
        ]
    with pytest.raises(SenmlError):
        of_cbor(pack)


@pytest.mark.parametrize(
    "text",
    [
        '[{"n":"a","v":NaN}]',
        '[{"n":"a","v":Infinity}]',
        '[{"n":"a","v":1e999}]',
        '[{"n":"a","v":1' + "0" * 400 + "}]",
        '[{"n":"a","v":1,"x\\u005f":2}]',
        '[{"n":"a","v":1,"x":{},"\\u005F":2}]',
        '[{"n":"a","v":1,"x":' + "[" * 100_000 + "]" * 100_000 + "}]",
        '[{"n":"a","vd":"a+b/"}]',
        '[{"n":"a","vd":"a"}]',
        '[{"n":"a","vd":"aä"}]',
        '[{"n":"\\ud800","v":1}]',
        "[" + " " * senml.MAX_BYTES + "]",
        '[{"n":"a","v":1}] x',
        "",
    ],
)
def test_json_that_is_no_pack_is_refused(text: str) -> None:
    with pytest.raises(SenmlError):
        of_json(text)


@pytest.mark.parametrize(
    "row", [b'"n":"a\xe2(","v":1', b'"n":"a","v":1,"x":"\xe2("', b'"n":"a","v":1,"\xc0\xae":2']
)
def test_json_that_is_not_utf_8_is_refused_in_labels_nobody_knows_too(row: bytes) -> None:
    """RFC 8259, 8.1. A message that is no text could be shown to nobody who follows its channel."""
    with pytest.raises(SenmlError):
        senml.decode(SENML_JSON, b"[{" + row + b"}]", 0.0)


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param("81a200616102c249010000000000000000", id="tag 2, a bignum"),
        pytest.param("81a200616102c349010000000000000000", id="tag 3, a negative bignum"),
        pytest.param("81a200616102c5822003", id="tag 5, a bigfloat"),
        pytest.param("81a200616102d823612a", id="tag 35, a regular expression"),
        pytest.param("81a200616102d81c01", id="tag 28, a shared value"),
        pytest.param("81a200616102c11a514b67b0", id="tag 1, a time"),
        pytest.param("d9d9f781a20061610201", id="tag 55799, CBOR itself"),
        pytest.param("81a200616102c4821b7fffffffffffffff01", id="decimal fraction with a huge exponent"),
        pytest.param("81a200616102c4820a", id="decimal fraction cut off"),
        pytest.param("81a200616102c48203fb3ff8000000000000", id="decimal fraction of a double"),
        pytest.param("81a200616102f97e00", id="NaN"),
        pytest.param("81a200616102f97c00", id="infinity"),
        pytest.param("81a200616102f7", id="undefined"),
        pytest.param("81a2616e61610201", id="text label of the JSON form"),
        pytest.param("81a3006161020118630a", id="unknown number as label"),
        pytest.param("81a3006161020102 02".replace(" ", ""), id="a label twice"),
        pytest.param("81a2006161 21 20".replace(" ", ""), id="version below zero"),
        pytest.param("81a20061610201" + "00", id="bytes after the end"),
        pytest.param("9bffffffffffffffff", id="array of 2**64 - 1 elements"),
        pytest.param("bbffffffffffffffff", id="map of 2**64 - 1 entries"),
        pytest.param("5bffffffffffffffff", id="string of 2**64 - 1 bytes"),
        pytest.param("81" * 5000, id="deep nesting"),
        pytest.param("81a30061610201 6178".replace(" ", "") + "81" * 50 + "00", id="deep extension"),
        pytest.param("81a200 42ff00 0201".replace(" ", ""), id="bytes as name"),
        pytest.param("81a2006261ff0201", id="bad UTF-8"),
        pytest.param("81a181000001", id="array as label"),
        pytest.param("", id="nothing"),
    ],
)
def test_cbor_that_is_no_pack_is_refused(wire: str) -> None:
    with pytest.raises(SenmlError):
        senml.decode(SENML_CBOR, bytes.fromhex(wire), NOW)


def test_decimal_fractions_are_numbers() -> None:
    """RFC 8428, 6 allows tag 4; 273.15 is the example of RFC 8949, 3.4.4."""
    assert senml.decode(SENML_CBOR, bytes.fromhex("81a200616102c48221196ab3"), NOW)[0].value == 273.15


def test_unknown_labels_are_ignored() -> None:
    """RFC 8428, 4.4."""
    assert of_json('[{"n":"a","v":1,"x":[1],"un_known":{"y_":3}}]') == [Record("a", "", NOW, 1.0)]
    assert of_cbor([{0: "a", 2: 1, "x": [1]}]) == [Record("a", "", NOW, 1.0)]


def test_content_types_that_are_not_senml_are_refused() -> None:
    with pytest.raises(SenmlError):
        senml.decode("application/json", b"[]", NOW)


numbers = st.floats(allow_nan=False, allow_infinity=False, width=64)
names = st.from_regex(r"[A-Za-z0-9][-A-Za-z0-9:./_]{0,30}", fullmatch=True)
times = st.floats(min_value=2.0**28, max_value=1e11)
values = st.one_of(
    st.builds(lambda v: {"value": v}, numbers),
    st.builds(lambda v: {"string_value": v}, st.text(st.characters(exclude_categories=["Cs"]), max_size=30)),
    st.builds(lambda v: {"bool_value": v}, st.booleans()),
    st.builds(lambda v: {"data_value": v}, st.binary(max_size=30)),
    st.builds(lambda v: {"sum": v}, numbers),
)
records_made = st.lists(
    st.builds(
        lambda name, unit, time, value: Record(name=name, unit=unit, time=time, **value),
        names,
        st.sampled_from(["", "Cel", "%RH"]),
        times,
        values,
    ),
    min_size=1,
    max_size=12,
).map(lambda records: sorted(records, key=lambda record: record.time))


@given(records_made)
def test_what_is_written_reads_back_in_both_forms(records: list[Record]) -> None:
    assert of_json(senml.encode_json(records)) == records
    assert senml.decode(SENML_CBOR, senml.encode_cbor(records), NOW) == records
    assert all(math.isfinite(record.time) for record in records)
