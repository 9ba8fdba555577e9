"""Pages of codecs: list, editor, bench, files; all of it without JavaScript."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from tests.webui.double import HOSTILE, GatewayDouble, Visitor
from webui import codec_forms as forms
from webui.codecs import Codec, Sample
from webui.forms import Form

SOURCE = "function decodeUplink(i) {\n  return {data: {level: i.bytes[0]}};\n}\n"


def add(double: GatewayDouble, name: str = "tank", **more: Any) -> dict[str, Any]:
    double.codecs[name] = {
        "name": name,
        "source": SOURCE,
        "description": "a tank",
        "samples": [{"payload": "05", "fport": 2, "expected": {"level": 5}}],
        "units": {"level": "m"},
        "version": 3,
        "updated": 1_760_000_000,
        "devices": 1,
        "held": "",
        "calls": 12,
        "slowest_ms": 0.4,
        "earlier": [2, 1],
        **more,
    }
    return double.codecs[name]


def posted(**more: str) -> dict[str, str]:
    return {
        "name": "tank",
        "source": SOURCE,
        "samples": "",
        "units": "",
        "bytes": "",
        "fport": "",
        "data": "",
        **more,
    }


def send(person: Visitor, path: str, data: Any, **more: Any) -> Any:
    """A form of the list's page, which every page's token fits."""
    person.get("/codecs")
    return person.post(path, data, **more)


def test_the_list_tells_what_is_stored_and_what_runs_it(person: Visitor, double: GatewayDouble) -> None:
    add(double, held="on hold, as it had to be stopped 5 times")
    add(double, "door", description=HOSTILE)
    person.get("/codecs")
    for words in (
        "tank",
        "version 3",
        "1\u00a0sample",
        "on hold",
        "cayenne",
        "seccomp",
        "It runs",
        "5\u00a0calls",
    ):
        assert words in person.page, words
    assert "<script>alert" not in person.page
    assert 'href="/codecs"' in person.get("/devices").text


def test_a_codec_is_written_tried_and_stored(person: Visitor, double: GatewayDouble) -> None:
    person.get("/codecs/new")
    assert "function decodeUplink" in person.page
    send(person, "/codecs/new", posted(do="try", bytes="00 D7", fport="3", units="level m"))
    assert double.tried[-1] == {
        "ask": "decodeUplink",
        "source": SOURCE,
        "units": {"level": "m"},
        "fport": 3,
        "payload": "00D7",
    }
    assert "0.1 ms" in person.page
    assert "<dt><bdi>level</bdi></dt><dd><bdi>5.0</bdi> m</dd>" in person.page
    assert "return {data: {level: i.bytes[0]}};" in person.page, "what was typed is still there"
    send(person, "/codecs/new", posted(do="sample", bytes="05", fport="2"))
    assert "2 05 {&#34;level&#34;: 5}" in person.page
    answer = send(
        person,
        "/codecs/new",
        posted(do="save", samples='2 05 {"level": 5}\n\n1 ff\n', units="level m\nair/t Cel"),
    )
    assert answer.status_code == 303
    stored = double.codecs["tank"]
    assert stored["samples"] == [
        {"fport": 2, "payload": "05", "expected": {"level": 5}},
        {"fport": 1, "payload": "ff"},
    ]
    assert stored["units"] == {"level": "m", "air/t": "Cel"}
    person.get("/codecs/tank")
    assert "Stored as version 1." in person.page


def test_a_long_source_is_neither_refused_nor_shortened(person: Visitor, double: GatewayDouble) -> None:
    source = "// é\n" + SOURCE * 2_000
    assert send(person, "/codecs/new", posted(do="save", source=source)).status_code == 303
    assert double.codecs["tank"]["source"] == source
    person.get("/codecs/tank")
    assert person.page.count("return {data: {level: i.bytes[0]}};") == 2_000


def test_what_the_gateway_refuses_is_said_beside_what_was_typed(
    person: Visitor, double: GatewayDouble
) -> None:
    for more, words in (
        ({"source": "SYNTAX"}, "SyntaxError: unexpected token (line 2)"),
        ({"samples": '1 05 "wrong"'}, "sample 1: it gives something else"),
    ):
        answer = send(person, "/codecs/new", posted(do="save", **more))
        assert answer.status_code == 422
        assert words.lower() in person.page.lower()
    assert (
        send(person, "/codecs/new", posted(do="save", samples='1 05 "wrong"', force="yes")).status_code == 303
    )
    assert send(person, "/codecs/new", posted(do="save")).status_code == 422
    assert "already" in person.page


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"do": "save", "name": "Tank 1"}, "Small letters"),
        ({"do": "save", "source": " "}, "nothing to run"),
        ({"do": "save", "samples": "05"}, "port, bytes in hex"),
        ({"do": "save", "samples": "x 05"}, "port, bytes in hex"),
        ({"do": "save", "samples": "1 0g"}, "port, bytes in hex"),
        ({"do": "save", "samples": "1 05 {"}, "port, bytes in hex"),
        ({"do": "save", "units": "level"}, "a name, a blank, its unit"),
        ({"do": "try", "bytes": "?"}, "Hex, two digits"),
        ({"do": "try", "fport": "224"}, "1 to 223"),
        ({"do": "try", "fport": "x"}, "1 to 223"),
        ({"do": "try", "ask": "encodeDownlink", "data": "{"}, "JSON, such as"),
        ({"do": "try", "source": ""}, "nothing to run"),
    ],
)
def test_what_does_not_fit_is_said_in_its_field(
    person: Visitor, double: GatewayDouble, fields: Any, words: str
) -> None:
    assert send(person, "/codecs/new", posted(**fields)).status_code == 422
    assert words in person.page
    assert double.codecs == {}
    assert double.tried == []


def test_the_bench_takes_base64_and_values_and_shows_all_it_is_told(
    person: Visitor, double: GatewayDouble
) -> None:
    double.report = {
        "problem": f"TypeError: {HOSTILE}",
        "line": 7,
        "log": [HOSTILE, "second"],
        "warnings": ["low"],
        "names": {"H:f6:he": "Höhe"},
        "records": [{"n": "H:f6:he", "vs": HOSTILE}],
    }
    send(person, "/codecs/new", posted(do="try", bytes="A9cK"))
    assert double.tried[-1]["base64"] == "A9cK"
    for words in ("(line 7)", "second", "low", "Höhe"):
        assert words in person.page
    assert "<script>alert" not in person.page
    double.report = {"fport": 7, "payload": "01ff"}
    send(person, "/codecs/new", posted(do="try", ask="encodeDownlink", data='{"led": true}'))
    assert double.tried[-1]["data"] == {"led": True}
    assert "fport" not in double.tried[-1]
    assert "01ff" in person.page


def test_a_stored_codec_is_changed_lifted_gone_back_and_removed(
    person: Visitor, double: GatewayDouble
) -> None:
    codec = add(double, held="on hold, as it had to be stopped 5 times")
    person.get("/codecs/tank")
    assert "on hold" in person.page
    assert "2 05 {&#34;level&#34;: 5}" in person.page
    assert send(person, "/codecs/tank/lift", {}).status_code == 303
    assert codec["held"] == ""
    assert send(person, "/codecs/tank/rollback", {"version": "2"}).status_code == 303
    assert codec["rolled_back"] == 2
    assert send(person, "/codecs/tank", posted(do="save", description="new")).status_code == 303
    assert double.codecs["tank"]["version"] == 4
    double.codecs["tank"]["devices"] = 1
    assert send(person, "/codecs/tank/remove", {}).status_code == 422
    assert "give them another codec first" in person.page
    double.codecs["tank"]["devices"] = 0
    assert send(person, "/codecs/tank/remove", {}).status_code == 303
    assert person.get("/codecs/tank").status_code == 404
    assert person.get("/codecs/..%2Fclaim").status_code == 404


def test_a_codec_goes_into_a_file_and_comes_out_of_it(person: Visitor, double: GatewayDouble) -> None:
    add(double)
    exported = person.get("/codecs/tank/export")
    assert exported.headers["Content-Disposition"] == 'attachment; filename="tank.codec.json"'
    for content, status in ((exported.data, 200), (b"{", 422), (b"[]", 422), (b'{"source": 5}', 422)):
        answer = send(
            person,
            "/codecs/import",
            {"file": (io.BytesIO(content), "x.json")},
            content_type="multipart/form-data",
        )
        assert answer.status_code == status
    send(
        person,
        "/codecs/import",
        {"file": (io.BytesIO(exported.data), "x.json")},
        content_type="multipart/form-data",
    )
    assert 'value="tank"' in person.page
    assert "return {data: {level: i.bytes[0]}};" in person.page


def test_samples_and_units_come_back_as_they_were_typed() -> None:
    codec = Codec(
        "x",
        SOURCE,
        samples=[Sample("00ff", 9, expected={"ü": [1, None]}), Sample("01")],
        units={"a/b": "m", "c": "V"},
    )
    form = forms.of_codec(codec)
    body = forms.body_of(Form({**dict.fromkeys(forms.NAMES, ""), **form.values}), "x", force=False)
    assert body["samples"] == [
        {"fport": 9, "payload": "00ff", "expected": {"ü": [1, None]}},
        {"fport": 1, "payload": "01"},
    ]
    assert body["units"] == codec.units
    assert json.loads(json.dumps(body)) == body
