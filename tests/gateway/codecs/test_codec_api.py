"""The library and the test bench over HTTP."""

import asyncio
import base64
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from gateway.codecs import library as codec_library
from gateway.codecs.library import Body, Library, Sample, check, earlier
from gateway.codecs.trials import same

OpenSite = Any

SOURCE = """function decodeUplink(input) {
  console.log("port", input.fPort);
  return {data: {level: input.bytes[0], "Höhe": input.bytes.length}, warnings: ["w"]};
}
function encodeDownlink(input) {
  return {bytes: [input.data.level], fPort: 4};
}
function decodeDownlink(input) {
  return {data: {level: input.bytes[0]}};
}
"""
SAMPLES = [
    {"payload": "0a00", "fport": 2, "name": "ten", "expected": {"level": 10, "Höhe": 2}},
    {"payload": "ff"},
]


def claimed(site: OpenSite, test: Any) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            await test(s, s.api)

    asyncio.run(main())


def test_a_codec_is_stored_shown_changed_and_removed(site: OpenSite) -> None:
    async def test(s: Any, api: Any) -> None:
        body = {
            "name": "level",
            "source": SOURCE,
            "description": "a tank",
            "samples": SAMPLES,
            "units": {"level": "m"},
        }
        made = await api.post("/codecs", json=body)
        assert made.status_code == 201, made.text
        assert made.headers["location"] == "/codecs/level"
        shown = (await api.get("/codecs/level")).json()
        assert (shown["version"], shown["units"], shown["devices"], shown["held"], shown["earlier"]) == (
            1, {"level": "m"}, 0, "", []
        )  # fmt: skip
        assert (await api.post("/codecs", json=body)).status_code == 409
        changed = {**body, "source": SOURCE.replace('bytes[0], "H', 'bytes[0] * 2, "H')}
        refused = await api.put("/codecs/level", json=changed)
        assert refused.status_code == 422
        assert refused.json()["differences"] == [
            {
                "sample": 0,
                "name": "ten",
                "problem": "it gives something else",
                "expected": {"level": 10, "Höhe": 2},
                "got": {"level": 20, "Höhe": 2},
            }
        ]
        assert (await api.get("/codecs/level")).json()["version"] == 1
        assert (await api.put("/codecs/level", json={**changed, "force": True})).json()["version"] == 2
        listed = (await api.get("/codecs")).json()
        assert [(each["name"], each["kind"], each["version"]) for each in listed["codecs"]] == [
            ("cayenne", "own", 1), ("senml", "own", 1), ("raw", "own", 1), ("level", "javascript", 2)
        ]  # fmt: skip
        assert any("seccomp" in each for each in listed["process"]["holds"])
        back = await api.post("/codecs/level/rollback", json={"version": 1})
        assert (back.json()["version"], back.json()["source"], back.json()["earlier"]) == (3, SOURCE, [2, 1])
        assert (await api.post("/codecs/level/rollback", json={"version": 9})).status_code == 404
        exported = await api.get("/codecs/level/export")
        assert exported.headers["content-disposition"] == 'attachment; filename="level.codec.json"'
        assert (await api.delete("/codecs/level")).status_code == 204
        assert (await api.get("/codecs/level")).status_code == 404
        assert (await api.post("/codecs", json=exported.json())).json()["source"] == SOURCE

    claimed(site, test)


def test_a_codec_that_devices_use_stays(site: OpenSite, device: Any) -> None:
    async def test(s: Any, api: Any) -> None:
        await api.post("/codecs", json={"name": "level", "source": SOURCE})
        body = {"dev_eui": str(device.dev_eui), "app_key": "00" * 16, "codec": "level"}
        assert (await api.post("/lorawan/devices", json=body)).status_code == 201
        refused = await api.delete("/codecs/level")
        assert refused.status_code == 409
        assert "1 devices use level" in refused.text
        assert (await api.get("/codecs/level")).json()["devices"] == 1

    claimed(site, test)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"name": "Level", "source": SOURCE}, "small letters"),
    ({"name": "", "source": SOURCE}, "small letters"),
    ({"name": "x", "source": " "}, "no source"),
    ({"name": "x", "source": SOURCE, "samples": [{"payload": "0"}]}, "not hex"),
    ({"name": "x", "source": SOURCE, "samples": [{"payload": "00", "fport": 0}]}, "port 0"),
    (
        {
            "name": "x",
            "source": SOURCE,
            "samples": [{"payload": "00", "recv_time": "noon", "expected": 1}],
        },
        "no time",
    ),
    ({"name": "x", "source": SOURCE, "samples": [{"payload": "00" * 300}]}, "300 bytes"),
    ({"name": "x", "source": SOURCE, "units": {"a": "m" * 100}}, "units"),
]


def test_what_cannot_be_stored_is_refused_in_words(site: OpenSite) -> None:
    async def test(s: Any, api: Any) -> None:
        for body, words in REFUSED:
            answer = await api.post("/codecs", json=body)
            assert answer.status_code == 400
            assert words in answer.json()["detail"]

    claimed(site, test)


def test_a_source_that_cannot_be_evaluated_is_not_stored_whatever_is_asked(site: OpenSite) -> None:
    async def test(s: Any, api: Any) -> None:
        for source, words in (
            ("function decodeUplink( {", "SyntaxError"),
            ("throw new Error('at once');\nfunction decodeUplink() {}", "at once (line 1)"),
            ("var a = 1;", "none of the functions"),
            ("for (;;); function decodeUplink() {}", "stopped"),
        ):
            answer = await api.post("/codecs", json={"name": "x", "source": source, "force": True})
            assert answer.status_code == 422
            assert words in answer.json()["differences"][0]["problem"]

    claimed(site, test)


def test_the_bench_shows_what_comes_of_bytes(site: OpenSite) -> None:
    async def test(s: Any, api: Any) -> None:
        asked = {
            "source": SOURCE,
            "payload": "0a 0b",
            "fport": 9,
            "recv_time": 1_760_000_000,
            "units": {"level": "m"},
        }
        report = (await api.post("/codecs/test", json=asked)).json()
        assert report.pop("ms") < 100
        assert report == {
            "data": {"level": 10, "Höhe": 2},
            "records": [
                {"n": "level", "t": 1_760_000_000, "u": "m", "v": 10},
                {"n": "H:f6:he", "t": 1_760_000_000, "v": 2},
            ],
            "names": {"H:f6:he": "Höhe"},
            "warnings": ["w"],
            "log": ["port 9"],
        }
        asked = {"source": SOURCE, "base64": base64.b64encode(b"\x07").decode()}
        assert (await api.post("/codecs/test", json=asked)).json()["data"]["level"] == 7
        await api.post("/codecs", json={"name": "level", "source": SOURCE})
        down = (
            await api.post("/codecs/level/test", json={"ask": "encodeDownlink", "data": {"level": 5}})
        ).json()
        assert (down["fport"], down["payload"]) == (4, "05")
        back = (await api.post("/codecs/level/test", json={"ask": "decodeDownlink", "payload": "05"})).json()
        assert back["data"] == {"level": 5}

    claimed(site, test)


def test_the_bench_says_what_is_wrong_and_where(site: OpenSite) -> None:
    async def test(s: Any, api: Any) -> None:
        source = "function decodeUplink(i) {\n  console.log('here');\n  return i.nothing.at.all;\n}"
        report = (await api.post("/codecs/test", json={"source": source, "payload": "00"})).json()
        assert (report["line"], report["log"]) == (3, ["here"])
        assert report["problem"].startswith("TypeError")
        endless = {"source": "function decodeUplink(i) { for (;;); }", "payload": "00"}
        assert "stopped" in (await api.post("/codecs/test", json=endless)).json()["problem"]
        typo = {"source": "function decodeUplink(i) {\n  return {data: };\n}", "payload": "00"}
        assert (await api.post("/codecs/test", json=typo)).json()["line"] == 2
        for body, words in (
            ({"source": ""}, "no source"),
            ({"source": "x", "ask": "sing"}, "ask is one of"),
            ({"source": "x", "payload": "0"}, "not hex"),
            ({"source": "x", "base64": "?"}, "not base64"),
            ({"source": "x", "fport": 0}, "fport is"),
        ):
            refused = await api.post("/codecs/test", json=body)
            assert refused.status_code == 400
            assert words in refused.text

    claimed(site, test)


def test_the_gateways_own_codecs_are_on_the_bench_too(site: OpenSite) -> None:
    async def test(s: Any, api: Any) -> None:
        report = (await api.post("/codecs/cayenne/test", json={"payload": "03670110", "recv_time": 5})).json()
        assert report["records"] == [{"n": "temperature_3", "t": 5, "u": "Cel", "v": 27.2}]
        down = {"ask": "encodeDownlink", "data": {"switch_1": True}}
        assert (await api.post("/codecs/cayenne/test", json=down)).json()["payload"] == "018e01"
        assert (
            "cut short"
            in (await api.post("/codecs/cayenne/test", json={"payload": "0367"})).json()["problem"]
        )
        assert (await api.get("/codecs/cayenne")).status_code == 404
        assert (await api.post("/codecs", json={"name": "cayenne", "source": SOURCE})).status_code == 409

    claimed(site, test)


def test_only_the_owner_changes_codecs_and_nobody_reads_them_unasked(site: OpenSite) -> None:
    async def test(s: Any, api: Any) -> None:
        del api.headers["authorization"]
        for path in ("/codecs", "/codecs/x"):
            assert (await api.get(path)).status_code == 401
        for method, path in (
            ("POST", "/codecs"),
            ("PUT", "/codecs/x"),
            ("DELETE", "/codecs/x"),
            ("POST", "/codecs/test"),
            ("POST", "/codecs/x/lift"),
            ("POST", "/codecs/x/rollback"),
        ):
            assert (await api.request(method, path, json={})).status_code == 401, (method, path)

    claimed(site, test)


# Without HTTP


def test_earlier_versions_are_bounded() -> None:
    library = Library()
    with closing(sqlite3.connect(":memory:")) as db:
        for statement in codec_library.MIGRATIONS[0].statements:
            db.execute(statement)
        for number in range(9):
            codec, writes = library.prepare("x", Body(source=f"// {number}"), number)
            for sql, parameters in writes:
                db.execute(sql, parameters)
            library.take(codec)
        assert [body.version for body in earlier(db, "x")] == [8, 7, 6, 5, 4]
        db.execute("INSERT INTO lorawan_codec VALUES ('torn', X'7b', 0)")
        again = Library()
        problems = again.load(db)
        assert [problem.split(":")[0] for problem in problems] == [
            "codec torn cannot be read and is left out"
        ]
        assert (again["x"].body.version, again["x"].body.source, again["x"].body.created_ns) == (9, "// 8", 0)
        for sql, parameters in codec_library.removal("x"):
            db.execute(sql, parameters)
        assert earlier(db, "x") == []
    db.close()


def test_the_number_of_codecs_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_library, "MAX_CODECS", 2)
    library = Library()
    for name in ("a", "b"):
        library.take(library.prepare(name, Body(source="1"), 0)[0])
    with pytest.raises(codec_library.CodecError, match="no more fit"):
        library.prepare("c", Body(source="1"), 0)
    assert library.prepare("a", Body(source="2"), 0)[0].body.version == 2
    with pytest.raises(codec_library.CodecError, match="at most 64 samples"):
        check("a", Body(source="1", samples=[Sample(payload="")] * 65))
    with pytest.raises(codec_library.CodecError, match="characters"):
        check("a", Body(source="x" * 200_001))


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ({"a": 0.1 + 0.2}, {"a": 0.3}, True),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": True}, {"a": 1}, False),
        ({"a": [1, 2]}, {"a": [1]}, False),
        ({"a": 1}, {"b": 1}, False),
        ("x", "x", True),
        (None, 0, False),
        ({"a": {"b": [1, {"c": "d"}]}}, {"a": {"b": [1, {"c": "d"}]}}, True),
    ],
)
def test_what_counts_as_the_same(one: Any, other: Any, alike: bool) -> None:
    assert same(one, other) is alike
