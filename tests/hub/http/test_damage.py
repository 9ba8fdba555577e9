"""Seeded damage to request bodies: whatever arrives, the answer is a success or a problem document of 4xx."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Callable
from typing import Any

import cbor2
from websockets.asyncio.client import connect

from hub.http.idempotency import parse_key
from hub.http.problem import Problem
from hub.http.query import duration
from tests.hub.http import wire

Run = Callable[..., None]

ROUNDS = 2000
TOKENS = (
    b"null", b"true", b"-1", b"1e999", b"99999999999999999999999", b'"\\ud800"', b'"\\u0000"', b"[]", b"{}", b"[[[[[[",
    b'"' + b"x" * 2000 + b'"', b"\xff\xfe", b"\x00", b"NaN", b'{"a":', b",", b'"id":"..",',
)  # fmt: skip


def damaged(rng: random.Random, body: bytes) -> bytes:
    data = bytearray(body)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0:
                data[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del data[at : at + rng.randint(1, 8)]
            case 2:
                data[at:at] = rng.choice(TOKENS)
            case 3:
                data[at:at] = data[: rng.randrange(len(data) + 1)]
            case 4:
                del data[at:]
    return bytes(data)


def requests(site: Any) -> list[tuple[str, str, str, dict[str, str], bytes]]:
    """Valid requests, one for each endpoint that reads a body: method, path, content type, credential, body."""
    thing, channel = site.thing_id, site.channel_id
    managed: list[tuple[str, str, Any]] = [
        ("POST", "/things", {"name": "a", "metadata": {"b": [1, 2.5, None]}}),
        ("POST", "/things/bulk", [{"name": "a"}, {"metadata": {}}]),
        ("POST", "/things/search", {"offset": 0, "limit": 5, "name": "", "metadata": {"a": 1}}),
        ("PUT", f"/things/{thing}", {"name": "b", "metadata": {"x": "y"}}),
        ("POST", "/channels", {"name": "c"}),
        ("POST", "/channels/bulk", [{"name": "c"}]),
        ("PUT", f"/channels/{channel}", {"name": "d"}),
        ("POST", "/connect", {"channel_ids": [channel], "thing_ids": [thing]}),
        ("POST", "/identify", {"token": "a"}),
        ("POST", f"/identify/channels/{channel}/access-by-key", {"token": "a"}),
        ("POST", f"/identify/channels/{channel}/access-by-id", {"thing_id": "a"}),
        ("POST", "/devices", {"name": "e", "description": "f"}),
        ("PUT", f"/devices/{thing}", {"name": "g"}),
        ("POST", f"/devices/{thing}/plug", [channel]),
        ("POST", f"/channels/{channel}/plug", [thing]),
        ("POST", "/claim", {"code": "a", "email": "a@b.c", "password": "d"}),
        ("PATCH", "/password", {"old_password": 1, "password": "x"}),
    ]
    pack = [
        {"bn": "a:", "bt": 1e9, "n": "b", "u": "Cel", "v": 1.5},
        {"n": "c", "vs": "d"},
        {"n": "e", "vb": True},
    ]
    labels = [{-2: "a:", 0: "b", 2: 1.5}, {0: "c", 8: b"\x01"}]
    published = [
        ("application/senml+json", json.dumps(pack).encode()),
        ("application/json", json.dumps(pack).encode()),
        ("application/json", b'{"a":[1,2,{"b":null}]}'),
        ("application/senml+cbor", cbor2.dumps(labels)),
    ]
    return [
        (method, path, "application/json", site.user, json.dumps(body).encode())
        for method, path, body in managed
    ] + [("POST", site.messages, content_type, site.thing, body) for content_type, body in published]


def test_damaged_bodies_never_get_more_than_a_problem(run: Run) -> None:
    async def scenario(site: Any) -> None:
        rng = random.Random(2026)
        valid = requests(site)
        seen: dict[int, int] = {}
        # One that outlives them all
        reader, writer = await asyncio.open_connection("127.0.0.1", site.door.port)
        for _ in range(ROUNDS):
            method, path, content_type, credential, body = rng.choice(valid)
            body = damaged(rng, body)
            writer.write(wire.request(method, path, {**credential, "content-type": content_type}, body))
            answer = await wire.read_answer(reader)
            seen[answer.status] = seen.get(answer.status, 0) + 1
            assert answer.status < 500, (method, path, body, answer.body)
            if answer.status >= 400:
                assert answer.headers["content-type"] == "application/problem+json", (path, body)
                assert json.loads(answer.body)["status"] == answer.status
        writer.close()
        assert seen.keys() <= {200, 201, 202, 400, 401, 403, 404, 409, 413}
        assert seen[400] > ROUNDS // 3

    run(scenario)


def test_damaged_paths_queries_and_credentials_never_get_more_than_a_problem(run: Run) -> None:
    async def scenario(site: Any) -> None:
        rng = random.Random(2027)
        paths = [
            f"{site.messages}?limit=5&offset=0&name=a&v=1&comparator=lt&from=1&to=2&vb=true&vd=AA&format=x",
            f"{site.messages}/a/b?subtopic=a.b&publisher=x&protocol=http",
            f"{site.messages}?aggregation=avg&interval=1h30m&from=1&to=2e9&name=a",
            f"{site.messages}?next=-9q105PLQc3NZQAAAAABAA&limit=2",
            f"{site.messages}?export=csv&v=1&format=messages&authorization={site.key}",
            "/things?offset=0&limit=5&name=a&order=name&dir=asc&metadata=%7B%22a%22%3A1%7D",
            f"/channels/{site.channel_id}/things?disconnected=true&limit=3",
            f"/things/{site.thing_id}",
            "/devices?climit=5",
        ]
        marks = [
            b"%00",
            b"%ff",
            b"%F0%9F",
            b"//",
            b"..",
            b"%2F",
            b"&",
            b"=",
            b"?",
            b"%",
            b"*",
            b"+",
            b"9" * 30,
            b"%0d%0a",
        ]
        for _ in range(ROUNDS // 3):
            path = bytearray(rng.choice(paths).encode())
            for _ in range(rng.randint(1, 3)):
                at = rng.randrange(1, len(path) + 1)
                path[at : at + rng.randrange(4)] = rng.choice(marks)
            value = bytearray(rng.choice((site.user, site.thing))["authorization"].encode())
            if rng.random() < 0.3:
                value[rng.randrange(len(value))] = rng.choice(b"!~:;,aZ09")
            answer = await site.raw(bytes(path), bytes(value))
            assert answer.startswith(b"HTTP/1.1 "), (path, answer)
            assert answer[9:10] in b"24", (path, value, answer)
            if answer[9:10] == b"4":
                assert b"application/problem+json" in answer, (path, answer)

    run(scenario)


def test_damaged_frames_are_answered_one_by_one(run: Run) -> None:
    frames = [
        b'{"id":"a","payload":[{"bn":"a:","n":"b","v":1.5},{"n":"c","vs":"d"}],"subtopic":"a/b"}',
        b'{"id":7,"payload_base64":"AP8=","content_type":"application/octet-stream"}',
        b'{"payload":{"a":[1,2.5,null]},"content_type":"application/json","idempotency_key":"k"}',
    ]

    async def scenario(site: Any) -> None:
        rng = random.Random(2028)
        url = f"ws://127.0.0.1:{site.door.port}{site.messages}?envelope=1"
        seen = {"ack": 0, "error": 0}
        async with connect(url, additional_headers=site.thing, proxy=None) as client:
            for _ in range(ROUNDS):
                frame = damaged(rng, rng.choice(frames))
                await client.send(frame)
                answer = json.loads(await client.recv())
                seen[answer["type"]] += 1
                assert answer["type"] == "ack" or 400 <= answer["status"] < 500, (frame, answer)
        assert seen["error"] > ROUNDS // 3
        assert seen["ack"] > ROUNDS // 200

    run(scenario)


def test_damaged_keys_and_durations_are_refused_in_words() -> None:
    rng = random.Random(2029)
    for _ in range(20_000):
        with contextlib.suppress(Problem):
            assert 1 <= len(parse_key(damaged(rng, rng.choice((b'"1f6e-22"', b"abc"))))) <= 128
        with contextlib.suppress(ValueError):
            assert duration(damaged(rng, b"1h30m5s").decode("latin-1")) < 1e300
