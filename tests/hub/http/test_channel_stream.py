"""Server-sent events of a channel, through a real server."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import cbor2
import httpx
import pytest

Run = Callable[..., None]
EVENTS = {"accept": "text/event-stream"}
CBOR_PACK = cbor2.dumps([{0: "level", 2: 1.5}])


class Stream:
    """Events of one open stream, comments left out."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def event(self) -> dict[str, str]:
        fields: dict[str, str] = {}
        async for line in self._lines:
            if not line:
                if fields:
                    return fields
            elif not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = fields[name] + "\n" + value if name in fields else value
        raise StopAsyncIteration


@asynccontextmanager
async def opened(site: Any, query: str = "", below: str = "", **headers: str) -> AsyncIterator[Stream]:
    sent = {**EVENTS, **site.thing, **headers}
    async with site.client.stream("GET", f"{site.messages}{below}{query}", headers=sent) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Stream(response)


def test_events_carry_payload_and_number_and_go_on_after_any_of_them(run: Run) -> None:
    async def publish(site: Any, text: str) -> str:
        answer = await site.publish(text.encode(), "", "application/json")
        seq: str = answer.headers["fluxgate-seq"]
        return seq

    async def scenario(site: Any) -> None:
        seqs = [await publish(site, str(n)) for n in range(5)]
        for headers, query in (({"last-event-id": seqs[1]}, ""), ({}, f"?after={seqs[1]}")):
            async with opened(site, query, **headers) as stream:
                for n in range(2, len(seqs)):
                    assert await stream.event() == {"id": seqs[n], "data": str(n)}
                seqs.append(await publish(site, str(len(seqs))))
                assert await stream.event() == {"id": seqs[-1], "data": str(len(seqs) - 1)}
        async with opened(site, "?after=0") as stream:
            assert [(await stream.event())["id"] for _ in seqs] == seqs

    run(scenario)


def test_a_browser_that_comes_back_with_a_number_of_another_life_begins_from_now_on(run: Run) -> None:
    async def scenario(site: Any) -> None:
        await site.publish(b"1", "", "application/json")
        async with opened(site, **{"last-event-id": "999999999"}) as stream:
            await site.publish(b"2", "", "application/json")
            assert (await stream.event())["data"] == "2"
        # Who names the number himself is told that he is wrong; so is who sends no number.
        for query, headers in (("?after=999999999", {}), ("", {"last-event-id": "x"})):
            sent = {**EVENTS, **site.thing, **headers}
            assert (await site.client.get(site.messages + query, headers=sent)).status_code == 400

    run(scenario)


def test_an_envelope_says_who_published_what_and_when(run: Run) -> None:
    async def scenario(site: Any) -> None:
        await site.publish(b'[{"n":"level","v":1}]', "/roof/north")
        await site.publish(b"\x00\xff", "", "application/octet-stream")
        async with opened(site, "?after=0&envelope=1") as stream:
            first, second = [json.loads((await stream.event())["data"]) for _ in range(2)]
        stored = site.stored()
        assert first == {
            "type": "message",
            "seq": stored[0].seq,
            "channel": site.channel_id,
            "subtopic": "roof.north",
            "publisher": site.thing_id,
            "protocol": "http",
            "created_ns": stored[0].created_ns,
            "time": "unset",
            "content_type": "application/senml+json",
            "payload": [{"n": "level", "v": 1}],
        }
        assert base64.b64decode(second["payload_base64"]) == b"\x00\xff"

    run(scenario)


def test_payloads_are_converted_where_text_or_another_type_is_wanted(run: Run) -> None:
    async def scenario(site: Any) -> None:
        await site.publish(CBOR_PACK, "", "application/senml+cbor")
        await site.publish(b"\x01\x02", "", "application/octet-stream")
        async with opened(site, "?after=0") as stream:
            assert json.loads((await stream.event())["data"]) == [{"n": "level", "v": 1.5}]
            assert await stream.event() == {"id": "2", "event": "binary", "data": "AQI="}
        async with opened(site, "?after=0&accept=application/senml%2Bcbor") as stream:
            event = await stream.event()
            assert event["event"] == "binary"
            assert base64.b64decode(event["data"]) == CBOR_PACK
            await site.publish(b'[{"n":"level","v":2}]')
            event = await stream.event()
            assert event["id"] == "3", "bytes cannot be shown as CBOR and are left out"
            assert cbor2.loads(base64.b64decode(event["data"])) == [{0: "level", 2: 2}]

    run(scenario)


def test_a_subtopic_is_a_filter(run: Run) -> None:
    async def scenario(site: Any) -> None:
        for below in ("", "/a", "/a/b", "/c/b", "/a/b/c"):
            await site.publish(b"1", below, "application/json")
        for below, expected in (("/a/b", ["3"]), ("/a/%23", ["2", "3", "5"]), ("/+/b", ["3", "4"])):
            async with opened(site, "?after=0", below) as stream:
                assert [(await stream.event())["id"] for _ in expected] == expected, below

    run(scenario)


def test_a_credential_in_the_address_serves_browsers(run: Run) -> None:
    async def scenario(site: Any) -> None:
        await site.publish(b"1", "", "application/json")
        for value in (site.key, f"Thing {site.key}", site.token, f"Bearer {site.token}"):
            url = httpx.URL(site.messages, params={"authorization": value, "after": "0"})
            async with site.client.stream("GET", url, headers=EVENTS) as response:
                assert response.status_code == 200
                assert (await Stream(response).event())["data"] == "1"
            assert (await site.client.get(url.copy_remove_param("after"))).status_code == 200
            answer = await site.client.get(f"/things?authorization={value}")
            assert answer.status_code == 401

    run(scenario)


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("?after=x", {}, 400),
        ("?after=5", {}, 400),
        ("?after=-1", {}, 400),
        ("?envelope=maybe", {}, 400),
        ("", {"authorization": ""}, 401),
        ("", {"authorization": "Thing wrong"}, 401),
        ("?authorization=wrong", {"authorization": "Thing wrong"}, 401),
    ],
)
def test_a_stream_that_cannot_be_is_a_problem(
    run: Run, query: str, headers: dict[str, str], status: int
) -> None:
    async def scenario(site: Any) -> None:
        sent = {**EVENTS, **site.thing, **headers}
        answer = await site.client.get(f"{site.messages}{query}", headers=sent)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")

    run(scenario)


def test_a_stranger_follows_nothing(run: Run) -> None:
    async def scenario(site: Any) -> None:
        _, key = site.hub.registry.create_thing("stranger")
        for path, headers, status in (
            (site.messages, {"authorization": f"Thing {key}"}, 403),
            ("/channels/none/messages", site.user, 404),
            ("/channels/+/messages", site.user, 400),
            (f"{site.messages}/a%23b", site.user, 400),
        ):
            assert (await site.client.get(path, headers={**EVENTS, **headers})).status_code == status, path

    run(scenario)


@pytest.mark.parametrize("how", ["disconnect", "rotate", "remove", "token"])
def test_a_right_that_ends_ends_the_stream_without_a_further_message(run: Run, how: str) -> None:
    async def scenario(site: Any) -> None:
        registry = site.hub.registry
        other, key = registry.create_thing("other")
        registry.connect([site.channel_id], [other.id])
        headers = site.user if how == "token" else {}
        async with opened(site, **headers) as stream:
            await site.publish(b"1", "", "application/json")
            assert (await stream.event())["data"] == "1"
            match how:
                case "disconnect":
                    registry.disconnect([site.channel_id], [site.thing_id])
                case "rotate":
                    registry.rotate_key(site.thing_id)
                case "remove":
                    registry.remove_thing(site.thing_id)
                case "token":
                    registry.revoke_token(site.token)
            await site.publish(b"2", "", "application/json", authorization=f"Thing {key}")
            with pytest.raises(StopAsyncIteration):
                await stream.event()
        assert site.app.streams.open == 0
        assert site.app.followers._by_channel == {}

    run(scenario)


def test_a_quiet_stream_ends_soon_after_its_right(run: Run) -> None:
    async def scenario(site: Any) -> None:
        async with opened(site) as stream:
            site.hub.registry.disconnect([site.channel_id], [site.thing_id])
            with pytest.raises(StopAsyncIteration):
                await asyncio.wait_for(stream.event(), 10)
        assert site.app.streams.check_s <= 1.0

    run(scenario)
