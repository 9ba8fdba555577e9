"""Answers of codecs become SenML records: names, times, units, and what is left out."""

import json
import random
import string

import pytest

from gateway.codecs import CodecError, units
from gateway.codecs.js.wire import MAX_FRAME, Kind, Reader, WireError, pack
from gateway.codecs.mapping import (
    MAX_DEPTH,
    MAX_RECORDS,
    answer_of,
    decoded,
    escaped,
    original,
    result_of,
    time_of,
)
from hub.message import SENML_JSON
from hub.senml import decode, encode_json

TIME = 1_760_000_000.0  # 2025-10-09T08:53:20Z
BASE = "urn:dev:mac:70b3d57ed0000001:"


def records(data, unit_map=None):
    made = decoded({"r": {"data": data}}, TIME, BASE, unit_map or {})
    assert not made.problem, made.problem
    out = []
    for each in made.records:
        value = next(v for v in (each.value, each.string_value, each.bool_value) if v is not None)
        out.append((each.name.removeprefix(BASE), each.unit, value, each.time - TIME))
    return out, made.notes


MAPPED = [
    pytest.param({"a": 1, "b": -2.5, "c": True, "d": "open"},
                 [("a", "", 1.0, 0), ("b", "", -2.5, 0), ("c", "", True, 0), ("d", "", "open", 0)], id="kinds"),
    pytest.param({"air": {"temperature": 21.5, "co": {"level": 3}}},
                 [("air/temperature", "Cel", 21.5, 0), ("air/co/level", "", 3.0, 0)], id="nested"),
    pytest.param({"counts": [5, 6, [7]]},
                 [("counts/0", "", 5.0, 0), ("counts/1", "", 6.0, 0), ("counts/2/0", "", 7.0, 0)], id="indexes"),
    pytest.param({"probes": [{"t": 1}, {"t": 2}]}, [("probes/0/t", "", 1.0, 0), ("probes/1/t", "", 2.0, 0)],
                 id="objects without a time"),
    pytest.param({"log": [{"time": TIME - 600, "t": 1}, {"time": TIME - 300, "t": 2}]},
                 [("log/t", "", 1.0, -600), ("log/t", "", 2.0, -300)], id="measurements with their times"),
    pytest.param([{"ts": 1_759_999_400_000, "t": 1}, {"ts": 1_759_999_700_000, "t": 2}],
                 [("t", "", 1.0, -600), ("t", "", 2.0, -300)], id="a list is the answer"),
    pytest.param({"log": [{"time": TIME, "t": 1}, {"time": TIME, "t": 2}]},
                 [("log/0/t", "", 1.0, 0), ("log/1/t", "", 2.0, 0)], id="equal times do not tell apart"),
    pytest.param({"timestamp": "2025-10-09T08:53:20Z", "t": 1}, [("t", "", 1.0, 0)], id="ISO time"),
    pytest.param({"measured_at": "2025-10-09T10:53:20+02:00", "t": 1}, [("t", "", 1.0, 0)], id="ISO with offset"),
    pytest.param({"sampleTime": "2025-10-09T08:53:10.500Z", "t": 1}, [("t", "", 1.0, -9.5)], id="fractions"),
    pytest.param({"time": "1759999990", "t": 1}, [("t", "", 1.0, -10)], id="seconds as text"),
    pytest.param({"timestamp": 1234, "t": 1}, [("timestamp", "", 1234.0, 0), ("t", "", 1.0, 0)], id="an uptime"),
    pytest.param({"time": TIME + 200_000, "t": 1}, [("time", "", TIME + 200_000, 0), ("t", "", 1.0, 0)],
                 id="a time in the future is a value"),
    pytest.param({"time": TIME - 60}, [("time", "", TIME - 60, 0)], id="a time alone is a value"),
    pytest.param({"outer": {"time": TIME - 60, "t": 1, "in": {"u": 2}}, "v": 3},
                 [("outer/t", "", 1.0, -60), ("outer/in/u", "", 2.0, -60), ("v", "", 3.0, 0)], id="time of a part"),
    pytest.param({"temp": {"value": 21.5, "unit": "°C"}, "p": {"value": 1013, "units": "mbar"}},
                 [("temp", "Cel", 21.5, 0), ("p", "hPa", 1013.0, 0)], id="value and unit"),
    pytest.param({"x": {"value": 1, "unit": "furlongs per fortnight"}}, [("x", "", 1.0, 0)], id="no such unit"),
    pytest.param({"x": {"value": 1, "unit": "V", "time": TIME - 5}}, [("x", "V", 1.0, -5)], id="value, unit, time"),
    pytest.param({"x": {"value": 1, "min": 0}}, [("x/value", "", 1.0, 0), ("x/min", "", 0.0, 0)], id="value and more"),
    pytest.param(5, [("value", "", 5.0, 0)], id="a number is the answer"),
    pytest.param({"battery_mV": 3300, "BatV": 3.1, "TempC_SHT": 2, "Hum_SHT": 3, "level-cm": 4, "pressureHpa": 1013},
                 [("battery_mV", "mV", 3300.0, 0), ("BatV", "V", 3.1, 0), ("TempC_SHT", "", 2.0, 0),
                  ("Hum_SHT", "", 3.0, 0), ("level-cm", "cm", 4.0, 0), ("pressureHpa", "hPa", 1013.0, 0)], id="units"),
    pytest.param({"batterymV": 3300, "vitaminC": 1, "battery": 90}, [("batterymV", "", 3300.0, 0),
                 ("vitaminC", "", 1.0, 0), ("battery", "", 90.0, 0)], id="no guesses"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "expected"), MAPPED)
def test_an_answer_becomes_records(data, expected):
    assert records(data)[0] == expected


def test_units_of_the_codec_come_before_those_of_the_name():
    data = {"air": {"temperature": 70}, "temperature": 20, "list": [{"level": 1}], "bar": 2}
    got, _ = records(data, {"air/temperature": "K", "list/level": "m", "bar": "", "temperature": "Cel"})
    assert [(name, unit) for name, unit, *_ in got] == [
        ("air/temperature", "K"),
        ("temperature", "Cel"),
        ("list/0/level", "m"),
        ("bar", ""),
    ]


NAMES = [
    "a",
    "Température",
    "a/b",
    "a:b",
    "",
    " ",
    "x:e9:",
    "€",
    "😀",
    "\x00",
    "\ud800",
    "_a",
    ".",
    "a b\n",
    "::",
    ":0:",
]


@pytest.mark.parametrize("key", NAMES, ids=map(ascii, NAMES))
def test_names_keep_within_the_alphabet_and_can_be_taken_back(key):
    assert original(escaped(key)) == key
    ((name, *_),), _ = records({key: 1})
    assert name == escaped(key)
    pack = encode_json(decoded({"r": {"data": {key: 1}}}, TIME, BASE, {}).records, base_name=BASE)
    assert decode(SENML_JSON, pack, TIME)[0].name == BASE + name


def test_random_names_can_be_taken_back():
    rng = random.Random(7)
    letters = string.ascii_letters + ":0a/é _-.\u20ac\U0001f600"
    seen = {}
    for _ in range(5_000):
        key = "".join(rng.choices(letters, k=rng.randrange(12)))
        name = escaped(key)
        assert original(name) == key
        assert seen.setdefault(name, key) == key


def test_the_table_of_the_alphabet_holds():
    table = {"Température": "Temp:e9:rature", "CO₂ level": "CO:2082::20:level", "a/b": "a:2f:b", "": "::"}
    assert {key: escaped(key) for key in table} == table


@pytest.mark.parametrize(
    ("data", "note"),
    [
        ({"a": 1, "b": None}, "b is null and is left out"),
        ({"a": 1, "b": "x" * 2000}, "b is longer than 1024 characters and is left out"),
        ({"a": 1, "n" * 300: 2}, "too long a name"),
        ({"a": 1, "b": 10**400}, "b is inf and is left out"),
        ({"a": 1, "log": [{"time": TIME - 1, "v": {"value": 1}}], "x": {}}, ""),
    ],
)
def test_what_is_left_out_is_noted(data, note):
    got, notes = records(data)
    assert got[0][0] == "a"
    assert any(note in each for each in notes) or not note


def test_depth_and_number_are_bounded_with_a_note():
    deep: object = 1
    for _ in range(MAX_DEPTH + 2):
        deep = {"d": deep}
    got, notes = records({"a": 1, "deep": deep})
    assert len(got) == 1
    assert f"deeper than {MAX_DEPTH} levels" in "".join(notes)
    got, notes = records({"n": list(range(MAX_RECORDS + 50))})
    assert len(got) == MAX_RECORDS
    assert notes == (f"more than {MAX_RECORDS} values: the rest is left out",)


def test_two_values_of_one_name_and_time_are_not_both_kept():
    got, notes = records({"t": [{"time": TIME - 1, "a": 1}, {"time": TIME - 2, "a": 2}], "t/a": 1})
    assert len(got) == 3, "a slash in a key is no nesting"
    got, notes = records({"x": {"0": 1}, "y": 2})
    assert (len(got), notes) == (2, ())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"r": None}, "nothing"),
        ({"r": {"fault": "Error: x", "line": 7}}, "Error: x (line 7)"),
        ({"r": {"fault": "Error: x", "line": "7"}}, "Error: x"),
        ({"r": {"errors": ["a", 5, {"b": 1}]}}, "a; 5; {'b': 1}"),
        ({"r": {"errors": {"a": 1}}}, "{'a': 1}"),
        ({"r": {"data": {}}}, "no value"),
        ({"r": {"data": {"a": None}}}, "no value (a is null and is left out)"),
        ({}, "nothing"),
        ({"r": []}, "nothing"),
    ],
)
def test_an_answer_without_values_is_a_problem_in_words(answer, words):
    made = decoded(answer, TIME, BASE, {})
    assert made.records == []
    assert words in made.problem


def test_warnings_are_carried():
    made = decoded(
        {"r": {"data": {"a": 1}, "warnings": ["low", 5], "errors": []}, "n": ["b is NaN"]}, TIME, BASE, {}
    )
    assert made.notes == ("low", "5", "b is NaN")


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -1, 5, 1e30, 10**400, float("nan"), "", "yesterday", "2025-13-40T00:00:00Z", "9" * 400, "9" * 30,
     [], {}, "1999-01-01T00:00:00Z"],
)  # fmt: skip
def test_what_is_no_plausible_time_is_none(value):
    assert time_of(value, TIME) is None


def test_units_that_people_write_become_registered_ones():
    assert [units.of_text(each) for each in ("°C", " mV ", "%", "Lux", "a b", "x" * 30, "µg/m³")] == [
        "Cel", "mV", "/100", "lx", "", "", "ug/m3"
    ]  # fmt: skip


def test_damaged_answers_raise_nothing_but_codec_error():
    rng = random.Random(11)
    good = json.dumps(
        {
            "r": {
                "data": {"a": [1, {"time": TIME, "b": "x"}], "Ü": {"value": 1, "unit": "V"}},
                "warnings": ["w"],
            },
            "n": ["n"],
        }
    ).encode()
    read = 0
    for _ in range(6_000):
        wire = bytearray(good)
        for _ in range(rng.randrange(1, 5)):
            wire[rng.randrange(len(wire))] = rng.choice(b'{}[]",:0129eE-nulltrue\\u \xff\x00')
        if rng.random() < 0.2:
            del wire[rng.randrange(len(wire)) :]
        text = wire.decode("utf-8", "replace")
        try:
            answer = answer_of(text)
        except CodecError:
            continue
        made = decoded(answer, TIME, BASE, {})
        if made.problem:
            continue
        read += 1
        decode(SENML_JSON, encode_json(made.records, base_name=BASE), TIME)
    assert read > 300


def test_random_trees_become_valid_senml():
    rng = random.Random(12)

    def tree(depth):
        kind = rng.randrange(9 if depth else 5)
        if kind < 5:
            return rng.choice(
                [1, -2.5, True, None, "text", "", 1e300, 10**30, "2025-10-09T08:53:20Z", TIME - 5, "\ud800"]
            )
        keys = ["time", "value", "unit", "temperature", "Ü", "", "a/b", "x" * 200, "errors"]
        if kind < 7:
            return {rng.choice(keys): tree(depth - 1) for _ in range(rng.randrange(4))}
        return [tree(depth - 1) for _ in range(rng.randrange(4))]

    kept = 0
    for _ in range(3_000):
        made = decoded({"r": {"data": tree(5)}}, TIME, BASE, {"temperature": "K"})
        assert made.problem or made.records
        if made.records:
            kept += 1
            again = decode(SENML_JSON, encode_json(made.records, base_name=BASE), TIME)
            assert len(again) == len(made.records)
    assert kept > 1_000


# The pipe

FRAMES = [(Kind.LOAD, 1, 2, 0, "function f() {}"), (Kind.CALL, 2**63, 7, 50, 'decodeUplink {"a":"é"}'),
          (Kind.ANSWER, 3, 2**32 - 1, 12, ""), (Kind.READY, 0, 0, 0, "x" * 5000)]  # fmt: skip


def test_frames_come_through_a_stream_in_any_pieces():
    wire = b"".join(pack(*frame) for frame in FRAMES)
    for size in (1, 7, 21, 4096, len(wire)):
        reader = Reader()
        got = [frame for at in range(0, len(wire), size) for frame in reader.feed(wire[at : at + size])]
        assert [tuple(frame) for frame in got] == FRAMES


def test_a_lone_surrogate_does_not_break_the_pipe():
    assert Reader().feed(pack(Kind.CALL, 1, 1, 1, "a\ud800b"))[0].text == "a?b"


def test_damaged_frames_raise_nothing_but_wire_error():
    rng = random.Random(13)
    wire = b"".join(pack(*frame) for frame in FRAMES[:3])
    read = refused = 0
    for _ in range(5_000):
        bad = bytearray(wire)
        for _ in range(rng.randrange(1, 4)):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
        try:
            read += len(Reader().feed(bytes(bad)))
        except WireError:
            refused += 1
    assert read > 1_000
    assert refused > 1_000
    with pytest.raises(WireError, match="frame of"):
        Reader().feed((MAX_FRAME + 1).to_bytes(4, "little") + bytes(40))


def test_only_an_object_is_an_answer():
    for text in ("", "[]", "5", "{", "null", "[" * 5000):
        with pytest.raises(CodecError, match="cannot be read"):
            answer_of(text)
    with pytest.raises(CodecError, match="nothing"):
        result_of({"r": 5})
