"""The history over CoAP: the questions and answers of the HTTP door, in blocks, bounded, with a way to go on."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlencode

import cbor2
import httpx
import pytest

from hub import senml
from hub.coap.packets import Code, Opt, Packet, uint
from hub.http.app import create_app
from hub.reading import PARAMETERS
from tests.hub.coap.conftest import Client, OpenWorld, World

ACCEPT = {number: ((Opt.ACCEPT, uint(number)),) for number in (42, 50, 60, 110, 112)}


async def fill(world: Any, count: int = 6) -> None:
    """`count` records, one a second from 1000 million seconds on, below x.y, then others of every kind."""
    principal = world.hub.authenticate_thing(world.keys["b"])

    def post(sub: str, payload: bytes, content_type: str = "application/senml+json") -> None:
        world.hub.post(principal, "http", world.channel, sub, content_type, payload)

    for n in range(count):
        post("x.y", json.dumps([{"n": "dev:a", "u": "Cel", "v": n, "t": 1e9 + n}]).encode())
    post(
        "", b'[{"n":"text","vs":"","t":2e9},{"n":"flag","vb":false,"t":2e9},{"n":"data","vd":"AP8","t":2e9}]'
    )
    post("doc", b'{"hello":[1]}', "application/json")
    post("raw", b"\x00\xff", "application/octet-stream")
    await world.hub.log.flush()


async def crowd(world: Any, count: int = 600) -> None:
    """So many newer messages on another subtopic."""
    principal = world.hub.authenticate_thing(world.keys["b"])
    for n in range(count):
        world.hub.post(principal, "http", world.channel, "often", "application/octet-stream", b"%d" % n)
    await world.hub.log.flush()


Run = Callable[..., None]


@pytest.fixture
def run(open_world: OpenWorld) -> Run:
    """Run `scenario(world, client)` where `fill` put so many `records`; limits by name. Again: on the same data."""

    def run_scenario(
        scenario: Callable[[World, Client], Awaitable[None]], records: int = 6, **limits: int
    ) -> None:
        async def main() -> None:
            async with open_world(**limits) as world:
                if records:
                    await fill(world, records)
                await scenario(world, await world.client())

        asyncio.run(main())

    return run_scenario


async def get(client: Any, *queries: str, accept: int = 50, **parts: Any) -> Packet:
    """The whole answer to a question, fetched block by block."""
    answer: Packet = await client.ask(Code.GET, queries=queries, options=ACCEPT[accept], **parts)
    payload = answer.payload
    number = 0
    while answer.code == Code.CONTENT and (block2 := answer.uint(Opt.BLOCK2) or 0) & 8:
        size = block2 & 7
        number = len(payload) >> (size + 4)
        block = (Opt.BLOCK2, uint(number << 4 | size))
        options = (*ACCEPT[accept], block)
        tag = answer.first(Opt.ETAG)
        answer = await client.ask(Code.GET, queries=queries, options=options, **parts)
        assert answer.first(Opt.ETAG) == tag
        payload += answer.payload
    return answer._replace(payload=payload)


QUESTIONS: Sequence[dict[str, str]] = (
    {"limit": "3"},
    {"limit": "0"},
    {"limit": "1001"},
    {"offset": "2", "limit": "2"},
    {"offset": "999999", "limit": "1"},
    {"offset": "999999", "limit": "2"},
    {"offset": "-1"},
    {"v": "0"},
    {"v": "nan"},
    {"v": "2", "comparator": "ge"},
    {"v": "2", "comparator": "like"},
    {"vs": ""},
    {"vb": "false"},
    {"vb": "perhaps"},
    {"vd": "AP8"},
    {"vd": "!!"},
    {"from": "1000000001", "to": "1000000003"},
    {"from": "5", "to": "1"},
    {"subtopic": "x.y", "limit": "1"},
    {"subtopic": "x/y", "limit": "1"},
    {"subtopic": ""},
    {"publisher": "nobody"},
    {"protocol": "http", "name": "dev:a"},
    {"format": "doc"},
    {"format": "raw"},
    {"aggregation": "avg", "interval": "1h"},
    {"aggregation": "avg"},
    {"aggregation": "middle", "interval": "1h"},
    {"interval": "2 moons", "aggregation": "avg"},
    {"next": "nothing"},
    {"next": "nothing", "previous": "nothing"},
    {"limit": "1", "unheard-of": "1"},
)


def test_each_question_has_the_answer_of_the_http_door(run: Run) -> None:
    async def scenario(world: World, client: Client) -> None:
        assert {name for question in QUESTIONS for name in question} >= PARAMETERS
        transport = httpx.ASGITransport(create_app(world.hub))
        headers = {"authorization": f"Thing {world.keys['a']}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://gw", headers=headers) as web:
            found = 0
            for question in QUESTIONS:
                path = f"/channels/{world.channel}/messages"
                expected = await web.get(f"{path}?{urlencode(question)}")
                answer = await get(client, *(f"{name}={value}" for name, value in question.items()))
                if expected.status_code == 200:
                    assert answer.code == Code.CONTENT, question
                    assert json.loads(answer.payload) == expected.json(), question
                    found += bool(expected.json()["messages"])
                else:
                    assert (expected.status_code, answer.code) == (400, Code.BAD_REQUEST), question
                    assert answer.payload.decode() == expected.json()["detail"]
            assert found > 15
            below = await web.get(f"/channels/{world.channel}/messages/x/y?limit=2")
            assert json.loads((await get(client, "limit=2", sub="x/y")).payload) == below.json()
            everything = await web.get(f"/channels/{world.channel}/messages?limit=9")
            assert json.loads((await get(client, "limit=9", sub="#")).payload) == everything.json()
        assert (await get(client, "limit=1", sub="x/+")).code == Code.BAD_REQUEST

    run(scenario)


def test_a_last_message_is_shown_as_it_was_published_however_many_came_since(run: Run) -> None:
    async def written(world: World, client: Client) -> None:
        await crowd(world)

    async def asked(world: World, client: Client) -> None:
        old = await client.ask(Code.GET, sub="x/y")
        assert old.payload == b'[{"n": "dev:a", "u": "Cel", "v": 0, "t": 1000000000.0}]'
        assert (await client.ask(Code.GET, sub="doc")).payload == b'{"hello":[1]}'
        assert (await client.ask(Code.GET, sub="raw")).payload == b"\x00\xff"
        assert (await client.ask(Code.GET, sub="+")).payload == b"599"
        assert (await client.ask(Code.GET, sub="x/#", options=ACCEPT[112])).payload == cbor2.dumps(
            [{0: "dev:a", 1: "Cel", 2: 0, 6: 1000000000}]
        )
        assert (await client.ask(Code.GET, sub="nowhere")).code == Code.NOT_FOUND
        again = await client.ask(Code.GET, sub="x/y")
        assert again.first(Opt.ETAG) == old.first(Opt.ETAG)
        assert world.door.counters["refused_busy"] == 0

    run(written, records=1)
    run(asked, records=0, search_messages=256)


def test_a_last_message_that_the_log_has_let_go_is_put_together_from_the_history(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(world: World, client: Client) -> None:
        await crowd(world)
        monkeypatch.setattr(world.hub.log, "read_one", lambda seq: None)  # as after the retention
        old = await client.ask(Code.GET, sub="x/y")
        assert json.loads(old.payload) == [{"n": "dev:a", "u": "Cel", "v": 0, "t": 1e9}]
        assert old.uint(Opt.CONTENT_FORMAT) == 110
        assert (await client.ask(Code.GET, sub="raw")).payload == b"\x00\xff"

    run(scenario, records=1, search_messages=256)


def test_who_asks_while_the_history_cannot_be_read_is_to_come_again_and_then_gets_the_value(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(world: World, client: Client) -> None:
        await crowd(world)
        with monkeypatch.context() as patch:
            patch.setattr(world.hub.history._reader, "look", _broken)
            assert (await client.ask(Code.GET, sub="x/y")).code == Code.UNAVAILABLE
        assert (await client.ask(Code.GET, sub="x/y")).code == Code.CONTENT

    run(scenario, records=1, search_messages=256)


def _broken(*_: object) -> None:
    raise sqlite3.OperationalError("disk I/O error")


@pytest.mark.parametrize("queries", [(), ("limit=3",)])
def test_what_may_change_with_the_next_message_is_stale_at_once_for_caches(
    run: Run, queries: tuple[str, ...]
) -> None:
    """RFC 7252, 5.10.5: without Max-Age a cache would serve it for 60 s; 5.6.2: so it asks with the ETag."""

    async def scenario(world: World, client: Client) -> None:
        await client.post(b'[{"n":"t","vs":"%s"}]' % (b"x" * 3000))
        answer = await client.ask(Code.GET, queries=queries)
        assert (answer.code, answer.uint(Opt.MAX_AGE)) == (Code.CONTENT, 0)
        block = ((Opt.BLOCK2, uint(1 << 4 | (answer.uint(Opt.BLOCK2) or 0) & 7)),)
        second = await client.ask(Code.GET, queries=queries, options=block)
        assert (second.code, second.uint(Opt.MAX_AGE)) == (Code.CONTENT, 0)
        tag = ((Opt.ETAG, answer.first(Opt.ETAG)),)
        valid = await client.ask(Code.GET, queries=queries, options=tag)
        assert (valid.code, valid.uint(Opt.MAX_AGE)) == (Code.VALID, 0)

    run(scenario, records=0)


@pytest.mark.parametrize("way", ["next", "offset"])
def test_page_ends_at_its_bound_in_bytes_and_says_how_to_go_on(run: Run, way: str) -> None:
    async def cut(world: World, client: Client) -> None:
        values: list[float] = []
        more = ""
        pages = 0
        while True:
            answer = await get(client, "limit=1000", "name=dev:a", *([more] if more else []))
            page = json.loads(answer.payload)
            assert len(answer.payload) <= 1500
            assert page["total"] == 40
            assert page["limit"] == len(page["messages"]) or "next" not in page
            values += [record.get("value", 0.0) for record in page["messages"]]
            pages += 1
            if "next" not in page:
                break
            more = f"next={page['next']}" if way == "next" else f"offset={len(values)}"
        assert values == [float(n) for n in range(39, -1, -1)]
        assert pages > 3

    async def with_room(world: World, client: Client) -> None:
        page = json.loads((await get(client, "limit=1000", "name=dev:a")).payload)
        assert len(page["messages"]) == 40

    run(cut, records=40, page_bytes=1500)
    run(with_room, records=0)


def test_going_on_towards_now_in_cut_pages_misses_none(run: Run) -> None:
    async def scenario(world: World, client: Client) -> None:
        oldest = json.loads((await get(client, "to=1000000001", "name=dev:a")).payload)
        values: list[float] = []
        token = oldest["previous"]
        while True:
            asked = ("limit=1000", "name=dev:a", f"previous={token}")
            page = json.loads((await get(client, *asked)).payload)
            if not page["messages"]:
                break
            values += [record["value"] for record in reversed(page["messages"])]
            token = page["previous"]
        assert values == [float(n) for n in range(1, 40)]

    run(scenario, records=40, page_bytes=1500)


def test_record_larger_than_a_page_comes_alone(run: Run) -> None:
    async def scenario(world: World, client: Client) -> None:
        principal = world.hub.authenticate_thing(world.keys["b"])
        for n in range(3):
            payload = json.dumps([{"n": "long", "vs": str(n) * 5000, "t": 1e9 + n}]).encode()
            world.hub.post(principal, "http", world.channel, "", "application/senml+json", payload)
        await world.hub.log.flush()
        page = json.loads((await get(client, "limit=3")).payload)
        assert [record["string_value"][:1] for record in page["messages"]] == ["2"]
        page = json.loads((await get(client, "limit=3", f"next={page['next']}")).payload)
        assert [record["string_value"] for record in page["messages"]] == ["1" * 5000]

    run(scenario, records=0, page_bytes=1500)


def test_page_as_senml_is_in_the_order_of_time_and_as_cbor_the_same(run: Run) -> None:
    async def scenario(world: World, client: Client) -> None:
        as_json = await get(client, "limit=5", accept=110)
        as_cbor = await get(client, "limit=5", accept=112)
        assert (as_json.uint(Opt.CONTENT_FORMAT), as_cbor.uint(Opt.CONTENT_FORMAT)) == (110, 112)
        records = senml.decode("application/senml+json", as_json.payload, 0.0)
        assert [record.time for record in records] == [1e9 + 4, 1e9 + 5, 2e9, 2e9, 2e9]
        assert senml.decode("application/senml+cbor", as_cbor.payload, 0.0) == records
        page = json.loads((await get(client, "limit=5")).payload)
        assert cbor2.loads((await get(client, "limit=5", accept=60)).payload) == page
        assert (await get(client, "limit=5", accept=42)).code == Code.NOT_ACCEPTABLE
        assert (await get(client, "format=doc", accept=110)).code == Code.NOT_ACCEPTABLE
        nothing = await get(client, "name=nothing", accept=112)
        assert (nothing.code, cbor2.loads(nothing.payload)) == (Code.CONTENT, [])

    run(scenario)


def test_page_that_is_being_fetched_stays_as_its_first_block_was(run: Run) -> None:
    async def scenario(world: World, client: Client) -> None:
        question = ("limit=30",)
        first = await client.ask(Code.GET, queries=question)
        size = (first.uint(Opt.BLOCK2) or 0) & 7
        number = len(first.payload) >> (size + 4)
        await client.post(b'[{"n":"new","v":1,"t":2100000000}]')
        block = ((Opt.BLOCK2, uint(number << 4 | size)),)
        second = await client.ask(Code.GET, queries=question, options=block)
        assert second.first(Opt.ETAG) == first.first(Opt.ETAG)
        # Another thing at the same address has a page of its own.
        other = await client.ask(Code.GET, "b", queries=question, options=block)
        assert other.code == Code.CONTENT
        assert other.first(Opt.ETAG) != first.first(Opt.ETAG)

    run(scenario, records=40)


def test_page_that_the_client_has_is_not_sent_again(run: Run) -> None:
    async def scenario(world: World, client: Client) -> None:
        tag = (await client.ask(Code.GET, queries=("limit=2",))).first(Opt.ETAG)
        same = await client.ask(Code.GET, queries=("limit=2",), options=((Opt.ETAG, tag),))
        assert (same.code, same.payload) == (Code.VALID, b"")
        other = await client.ask(Code.GET, queries=("limit=1",), options=((Opt.ETAG, tag),))
        assert other.code == Code.CONTENT

    run(scenario)


def test_history_is_shown_to_who_may_read_the_channel(run: Run) -> None:
    async def scenario(world: World, client: Client) -> None:
        assert (await client.ask(Code.GET, "stranger", queries=("limit=1",))).code == Code.FORBIDDEN
        assert (await client.ask(Code.GET, None, queries=("limit=1",))).code == Code.UNAUTHORIZED
        path = f"channels/{world.channel}/messages"
        document = {
            "subjects": [f"things/{world.ids['a']}"],
            "actions": ["deliver"],
            "resources": [f"{path}/x/y"],
            "effect": "deny",
        }
        world.hub.registry.change_policies({"p": json.dumps(document)}, 0)
        mine = json.loads((await get(client, "limit=100")).payload)
        theirs = json.loads((await get(client, "limit=100", thing="b")).payload)
        assert (mine["total"], theirs["total"]) == (3, 9)

    run(scenario)


def test_history_is_not_observed_and_takes_no_more_searches_than_it_may(run: Run) -> None:
    async def not_observed(world: World, client: Client) -> None:
        answer = await client.ask(Code.GET, queries=("limit=1",), options=((Opt.OBSERVE, b""),))
        assert (answer.code, answer.first(Opt.OBSERVE)) == (Code.CONTENT, None)
        assert world.counters["observers_now"] == 0

    async def without_searches(world: World, client: Client) -> None:
        answer = await client.ask(Code.GET, queries=("limit=1",))
        assert (answer.code, world.counters["refused_busy"]) == (Code.UNAVAILABLE, 1)

    run(not_observed)
    run(without_searches, records=0, searches=0)


def test_stranger_address_is_sent_no_more_of_a_page_than_three_times_its_question(run: Run) -> None:
    async def scenario(world: World, client: Client) -> None:
        question = world.request(Code.GET, "a", queries=("limit=40",), mid=7)
        client.send(question)
        answer = await client.read()
        assert answer.code == Code.CONTENT
        assert len(answer.payload) + 5 + len(answer.token) < 3 * len(question)

    run(scenario, records=40)
