"""Addresses and identities that try to reach more than one's own: on every door each is refused, and audited once."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiocoap
import pytest
import websockets

from hub.access import Access, Decision
from hub.tokens.scopes import parse
from tests.attacks.addresses import FILTERS, NO_TEXTS, PATHS, PUBLISH_PATHS, TOPICS
from tests.hub.mqtt.conftest import Client, text

RunSite = Callable[..., None]
PACK = b'[{"n":"t","v":1}]'
PATIENCE_S = 10


def names(s: Any) -> dict[str, str]:
    return {"own": s.device.channel, "foreign": s.foreign.device.channel}


@contextlib.asynccontextmanager
async def dialled(s: Any) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", s.mqtt.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


@contextlib.asynccontextmanager
async def connected(s: Any, key: str = "") -> AsyncIterator[Client]:
    async with dialled(s) as client:
        client.connect("c", s.device.id, key or s.device.key)
        assert await client.read() == (0x20, b"\0\0")
        yield client


def test_no_filter_over_mqtt_reaches_beyond_ones_own_channels(site: RunSite) -> None:
    async def scenario(s: Any) -> None:
        async with connected(s) as client, s.accepted():
            assert await client.subscribe((f"channels/{s.device.channel}/messages/#", 1)) == b"\1"
        for pattern in FILTERS:
            wanted = pattern.format(**names(s))
            async with connected(s) as client, s.refused_once("access", who=f"things/{s.device.id}"):
                try:
                    assert await client.subscribe((wanted, 0)) == b"\x80", wanted[:200]
                except asyncio.IncompleteReadError:
                    assert set("#+$") & set(wanted)  # no filter at all: a wildcard or share name out of place
        assert len(s.mqtt.routes) == 0

    site(scenario)


def test_no_topic_over_mqtt_reaches_beyond_ones_own_channels(site: RunSite) -> None:
    async def scenario(s: Any) -> None:
        for pattern in TOPICS:
            topic = pattern.format(**names(s))
            async with connected(s) as client, s.refused_once("access", who=f"things/{s.device.id}"):
                client.publish(topic, PACK, 1, 1)
                assert await client.closed(), topic[:200]
        assert s.hub.log.committed_seq == 0

    site(scenario)


def test_what_is_no_text_of_mqtt_closes_the_connection(site: RunSite) -> None:
    async def scenario(s: Any) -> None:
        own, foreign = (name.encode() for name in names(s).values())
        for pattern in NO_TEXTS:
            topic = pattern.replace(b"{own}", own).replace(b"{foreign}", foreign)
            for first, body in (
                (0x32, text(topic) + b"\0\1" + PACK),
                (0x82, b"\0\1" + text(topic) + b"\0"),
                (0xA2, b"\0\1" + text(topic)),
            ):
                async with connected(s) as client, s.refused_once("access", who=f"things/{s.device.id}"):
                    client.packet(first, body)
                    assert await client.closed(), (first, topic)

    site(scenario)


def test_no_user_name_is_spliced_into_anything(site: RunSite) -> None:
    """CVE-2017-7650: a user name of `#` or `+` once matched every pattern."""

    async def scenario(s: Any) -> None:
        other = s.foreign.device
        own_key = s.device.key
        _, narrow = s.hub.registry.grants.add(
            "thing", s.device.id, name="", scopes=parse("messages:read"), now_s=s.hub.now_s()
        )
        wrong = [
            *(
                ("#", own_key),
                ("+", own_key),
                ("%u", own_key),
                ("%c", own_key),
                ("*", own_key),
                (" ", own_key),
            ),
            *((other.id, own_key), (s.device.id, other.key), (other.id, narrow), (s.device.id, narrow + "A")),
            *((f"{s.device.id}/..", own_key), (f"{s.device.id} ", own_key), (s.device.id.upper(), own_key)),
            *(
                (s.device.id, ""),
                (s.device.id, "#"),
                (s.device.id, s.device.id),
                (s.device.id, "fgk_"),
                ("", "x" * 43),
            ),
            *(
                (s.owner.user.email, own_key),
                (s.device.id, s.owner.token),
                ("viewer@example.org", s.owner.token),
            ),
            *(
                ("", s.owner.token),
                ("@", s.owner.token),
                (s.owner.user.id, "a.b.c"),
                (f"things/{s.device.id}", own_key),
            ),
        ]
        for user, key in wrong:
            async with s.refused_once("access"), dialled(s) as client:
                client.connect("c", user, key)
                assert (await client.read())[0] == 0x20, (user, key)
                assert await client.closed()
        for user, key in ((s.device.id, own_key), ("", narrow), (s.owner.user.email, s.owner.token)):
            async with s.accepted(), dialled(s) as client:
                client.connect("c", user, key)
                assert await client.read() == (0x20, b"\0\0")

    site(scenario)


@pytest.mark.parametrize(
    "client_id", ["#", "+", "%u", "../x", "$SYS", "a/b/c", "{other}", "x" * 20_000, "\u202e"]
)
def test_no_client_id_reaches_the_session_of_somebody_else(site: RunSite, client_id: str) -> None:
    async def scenario(s: Any) -> None:
        other = s.foreign.device
        async with dialled(s) as theirs:
            theirs.connect("shared", other.id, other.key, clean=False)
            await theirs.read()
            await theirs.subscribe((f"channels/{other.channel}/messages", 1))
        await s.hub.publish(
            s.hub.authenticate_thing(other.key), "mqtt", other.channel, "", "application/json", b"1"
        )
        chosen = [client_id.format(other=other.id), "shared", f"{other.id}/shared", f"{other.id}#shared"]
        for each in chosen:
            async with dialled(s) as mine:
                mine.connect(each, s.device.id, s.device.key, clean=False)
                try:
                    first, body = await mine.read()
                except asyncio.IncompleteReadError:
                    assert len(each) > 10_000  # longer than a CONNECT may be
                    continue
                assert (first, body) == (0x20, b"\0\0")  # no session present
                assert await mine.fence() == []

    site(scenario)


# HTTP


async def ask(s: Any, method: str, path: str, *headers: str, body: bytes = PACK) -> int:
    """A request whose path is sent exactly as written; the status of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", s.http.port)
    lines = [f"{method} {path} HTTP/1.1", "Host: gateway", "Connection: close", *headers]
    if method == "POST":
        lines += ["Content-Type: application/senml+json", f"Content-Length: {len(body)}"]
    writer.write("\r\n".join([*lines, "", ""]).encode() + (body if method == "POST" else b""))
    try:
        async with asyncio.timeout(PATIENCE_S):
            return int((await reader.readline()).split()[1])
    finally:
        writer.close()


def test_no_path_over_http_reaches_beyond_ones_own_channels(site: RunSite) -> None:
    async def scenario(s: Any) -> None:
        mine = f"Authorization: Thing {s.device.key}"
        who = f"things/{s.device.id}"
        for pattern in (*PATHS, *PUBLISH_PATHS):
            path = pattern.format(**names(s))
            async with s.refused_once("access", who=who):
                assert await ask(s, "POST", path, mine) in (400, 403), path
        for pattern in PATHS:
            path = pattern.format(**names(s))
            for accept in ("application/json", "text/event-stream"):
                async with s.refused_once("access", who=who):
                    assert await ask(s, "GET", path, mine, f"Accept: {accept}") in (400, 403), path
        assert s.hub.log.committed_seq == 0
        async with s.accepted():
            assert await ask(s, "POST", s.device.messages, mine) == 202
            assert await ask(s, "GET", s.device.messages, mine) == 200

    site(scenario)


def test_a_path_that_climbs_is_no_path(site: RunSite) -> None:
    """Nothing is served there: no server of ours takes dots away, so none of these is another channel's address."""

    async def scenario(s: Any) -> None:
        mine = f"Authorization: Thing {s.device.key}"
        for pattern in (
            *(
                "/channels/{own}/../{foreign}/messages",
                "/channels/{own}/messages/../../{foreign}/messages/%2e%2e/",
            ),
            *(
                "/channels/{own}%2f..%2f{foreign}/messages",
                "/channels/./{foreign}/messages",
                "//channels/{foreign}/messages",
                "/channels/{own}/messages/a%0d%0ab",
            ),
            *(
                "/channels/{own};/../{foreign}/messages",
                "/Channels/{foreign}/messages",
                "/x/../channels/{foreign}/messages",
            ),
        ):
            await ask(s, "POST", pattern.format(**names(s)), mine)
            await ask(s, "GET", pattern.format(**names(s)), mine)
        assert {message.channel for message in s.hub.log.read(0)} <= {s.device.channel}

    site(scenario)


def test_no_credential_over_http_stands_for_more_than_itself(site: RunSite) -> None:
    async def scenario(s: Any) -> None:
        key, token = s.device.key, s.owner.token
        for headers in (
            [],
            [f"Authorization: Thing {token}"],
            [f"Authorization: Bearer {key}x"],
            [f"Authorization: Thing {key} {key}"],
            [f"Authorization: Thing {key}, Thing {s.foreign.device.key}"],
            ["Authorization: Thing *"],
            ["Authorization: Thing #"],
            ["Authorization: Bearer fgk_"],
            ["Authorization: Bearer a.b.c"],
            ["Authorization: Basic Iz8="],
            [f"Authorization: Digest {key}"],
            [f"Authorization: Thing {'x' * 30_000}"],
            [f"Cookie: session={token}"],
            [f"X-Api-Key: {key}"],
        ):
            async with s.refused_once("access"):
                assert await ask(s, "POST", s.device.messages, *headers) in (401, 431), headers
            async with s.refused_once("access"):
                assert await ask(s, "GET", "/things", *headers) in (401, 431), headers
        assert s.hub.log.committed_seq == 0

    site(scenario)


# WebSocket


def test_no_websocket_reaches_beyond_ones_own_channels(site: RunSite) -> None:
    async def scenario(s: Any) -> None:
        mine = {"Authorization": f"Thing {s.device.key}"}
        for pattern in PATHS:
            if pattern.endswith("/msg"):
                continue
            path = pattern.format(**names(s))
            async with s.refused_once("access", who=f"things/{s.device.id}"):
                assert await upgraded(s.ws_url + path, mine) in (400, 403), path
        for secret in ("%23", "x", "fgk_", "a.b.c"):
            async with s.refused_once("access"):
                assert await upgraded(f"{s.ws_url}{s.device.messages}?authorization={secret}", {}) == 401
        async with s.accepted():
            assert await upgraded(s.ws_url + s.device.messages, mine) == 101

    site(scenario)


async def upgraded(url: str, headers: dict[str, str]) -> int:
    """The status of the answer to an upgrade."""
    try:
        async with websockets.connect(url, additional_headers=headers) as socket:
            assert socket.response is not None
            return socket.response.status_code
    except websockets.InvalidStatus as refused:
        return refused.response.status_code


def test_no_frame_of_a_websocket_reaches_beyond_its_channel(site: RunSite) -> None:
    async def scenario(s: Any) -> None:
        mine = {"Authorization": f"Thing {s.device.key}"}
        url = s.ws_url + s.device.messages + "?envelope=1"
        async with websockets.connect(url, additional_headers=mine) as socket:
            for subtopic in ("+", "#", "a/+", "a/#", ">", "*", "a\0b", "a\nb", "/a" * 60, "x" * 2000):
                async with s.refused_once("access", who=f"things/{s.device.id}"):
                    await socket.send(json.dumps({"id": 1, "payload": 1, "subtopic": subtopic}))
                    assert json.loads(await socket.recv())["status"] == 400, subtopic
            await socket.send(json.dumps({"id": 1, "payload": 1, "channel": s.foreign.device.channel}))
            assert json.loads(await socket.recv())["status"] == 400
        assert s.hub.log.committed_seq == 0

    site(scenario)


# CoAP

SEGMENTS = [
    *(
        ("channels", "{foreign}", "messages"),
        ("channels", "{foreign}", "messages", "a"),
        ("channels", "#"),
        ("#",),
    ),
    *(
        ("mainflux", "channels", "{foreign}", "messages"),
        ("channels", "+", "messages"),
        ("channels", "*", "messages"),
    ),
    *(
        ("channels", "{own}/../{foreign}", "messages"),
        ("channels", "{own}\0", "messages"),
        ("+", "{own}", "messages"),
    ),
    *(
        ("channels", "{own}", "messages", "a+"),
        ("channels", "{own}", "messages", "#", "x"),
        ("channels", "", "messages"),
    ),
    *(
        ("channels", "%c", "messages"),
        ("channels", "{own}", "messages", "a\0b"),
        ("channels", "{own}", "messages", ">"),
    ),
]


def test_no_path_over_coap_reaches_beyond_ones_own_channels(site: RunSite) -> None:
    async def scenario(s: Any) -> None:
        context = await aiocoap.Context.create_client_context()

        async def ask_coap(code: Any, path: tuple[str, ...], key: str, **more: Any) -> Any:
            message = aiocoap.Message(code=code, uri=f"coap://127.0.0.1:{s.coap.port}/", **more)
            message.opt.uri_path = path
            message.opt.uri_query = (f"auth={key}",) if key else ()
            return (await asyncio.wait_for(context.request(message).response, PATIENCE_S)).code

        own = ("channels", s.device.channel, "messages")
        try:
            for pattern in SEGMENTS:
                path = tuple(segment.format(**names(s)) for segment in pattern)
                known = len(path) > 2 and path[-3:][0] != "+" and "channels" in path
                for code, more in (
                    (aiocoap.POST, {"payload": PACK}),
                    (aiocoap.GET, {}),
                    (aiocoap.GET, {"observe": 0}),
                ):
                    before = len(s.refusals())
                    answer = await ask_coap(code, path, s.device.key, **more)
                    assert answer in (aiocoap.BAD_REQUEST, aiocoap.FORBIDDEN, aiocoap.NOT_FOUND), (
                        path,
                        answer,
                    )
                    found = s.refusals()[before:]
                    assert sum(line.count for line in found) == (answer != aiocoap.NOT_FOUND), (path, found)
                    assert known or answer == aiocoap.NOT_FOUND
            assert s.hub.log.committed_seq == 0
            for key in ("", "#", "x" * 43, "fgk_", s.owner.token, s.device.id):
                async with s.refused_once("access"):
                    assert await ask_coap(aiocoap.POST, own, key, payload=PACK) == aiocoap.UNAUTHORIZED
            async with s.accepted():
                assert await ask_coap(aiocoap.POST, own, s.device.key, payload=PACK) == aiocoap.CHANGED
        finally:
            await context.shutdown()

    site(scenario)


# Negative control: with the question to the access seam taken away, the same probes get through.


def test_without_the_access_seam_foreign_channels_are_reached(
    site: RunSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Access, "decide", lambda *_args, **_more: Decision(True, "nobody asked"))

    async def scenario(s: Any) -> None:
        foreign = s.foreign.device.channel
        async with connected(s) as client:
            assert await client.subscribe((f"channels/{foreign}/messages", 0)) == b"\0"
            client.publish(f"channels/{foreign}/messages", PACK, 1, 1)
            assert [packet[0] >> 4 for packet in (await client.read(), await client.read())] in (
                [3, 4],
                [4, 3],
            )
        assert (
            await ask(s, "POST", f"/channels/{foreign}/messages", f"Authorization: Thing {s.device.key}")
            == 202
        )

    site(scenario)
