"""WebSockets on a channel, judged by the `websockets` client."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Callable
from typing import Any

import cbor2
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from hub.errors import Busy, LogFull
from hub.http import websocket
from hub.http.limits import Limits

Run = Callable[..., None]
PACK = '[{"n":"level","v":1.5}]'


def opened(site: Any, query: str = "", below: str = "", **headers: str) -> connect:
    url = f"ws://127.0.0.1:{site.door.port}{site.messages}{below}{query}"
    # A client that leaves with messages unread would wait for the answer to its close behind them.
    return connect(url, additional_headers={**site.thing, **headers}, proxy=None, close_timeout=0.2)


def other_thing(site: Any) -> dict[str, str]:
    thing, key = site.hub.registry.create_thing("other")
    site.hub.registry.connect([site.channel_id], [thing.id])
    return {"authorization": f"Thing {key}"}


async def closed(client: ClientConnection) -> tuple[int, str]:
    """The code and reason with which the server closes."""
    await client.wait_closed()
    assert client.close_code is not None
    return client.close_code, client.close_reason or ""


async def refused(connection: connect) -> tuple[int, dict[str, Any]]:
    with pytest.raises(InvalidStatus) as info:
        async with connection:
            pass
    response = info.value.response
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, json.loads(response.body)


def test_frames_are_payloads_both_ways_and_own_ones_do_not_come_back(run: Run) -> None:
    async def scenario(site: Any) -> None:
        async with opened(site, below="/roof") as one, opened(site, **other_thing(site)) as two:
            await one.send(PACK)
            assert await two.recv() == PACK
            await one.send(b"\x00\xff")
            assert await two.recv() == b"\x00\xff"
            await one.send("no JSON")
            assert await two.recv() == b"no JSON"
            await two.send('{"a":1}')
            await two.send(PACK)
            await site.publish(b"[1]", "/roof", "application/json", **other_thing(site))
            assert await one.recv() == "[1]", "neither its own nor those without the subtopic"
        kept = [(m.protocol, m.subtopic, m.content_type) for m in site.stored()]
        assert kept == [
            ("ws", "roof", "application/senml+json"),
            ("ws", "roof", "application/octet-stream"),
            ("ws", "roof", "application/octet-stream"),
            ("ws", "", "application/json"),
            ("ws", "", "application/senml+json"),
            ("http", "roof", "application/json"),
        ]

    run(scenario)


def test_a_content_type_may_be_named_in_the_address(run: Run) -> None:
    async def scenario(site: Any) -> None:
        pack = cbor2.dumps([{0: "level", 2: 1.5}])
        async with opened(site, "?accept=application/senml%2Bjson", **other_thing(site)) as reader:
            for query, below in (("?content-type=application/senml%2Bcbor", ""), ("", "/senml-cbor")):
                async with opened(site, query, below) as one:
                    await one.send(pack)
                    assert json.loads(await reader.recv()) == [{"n": "level", "v": 1.5}]
        assert {message.content_type for message in site.stored()} == {"application/senml+cbor"}

    run(scenario)


def test_credentials_go_into_a_header_or_the_address(run: Run) -> None:
    async def scenario(site: Any) -> None:
        url = f"ws://127.0.0.1:{site.door.port}{site.messages}"
        for value in (f"Thing {site.key}", site.key, f"Bearer {site.token}", site.token):
            async with connect(url, additional_headers={"authorization": value}, proxy=None):
                pass
            async with connect(f"{url}?authorization={value.replace(' ', '%20')}", proxy=None):
                pass
        assert (await refused(connect(url, proxy=None)))[0] == 403
        assert (await refused(connect(f"{url}?authorization=wrong", proxy=None)))[0] == 401
        _, key = site.hub.registry.create_thing("stranger")
        status, problem = await refused(connect(f"{url}?authorization={key}", proxy=None))
        assert (status, "not connected" in problem["detail"]) == (403, True)
        for path, status in (("/nothing", 404), ("/mqtt", 404), ("/channels/none/messages", 404)):
            other = f"ws://127.0.0.1:{site.door.port}{path}?authorization={site.token}"
            assert (await refused(connect(other, proxy=None)))[0] == status

    run(scenario)


def test_no_credential_of_an_address_reaches_a_log(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(site: Any) -> None:
        caplog.set_level(logging.DEBUG)
        logging.getLogger("websockets.client").setLevel(logging.ERROR)
        url = f"ws://127.0.0.1:{site.door.port}{site.messages}?authorization="
        async with connect(url + site.key, proxy=None) as client:
            await client.send(PACK)
        await refused(connect(url + "wrong-key", proxy=None))
        assert site.key not in caplog.text
        assert "wrong-key" not in caplog.text

    run(scenario)


def test_an_upgrade_that_is_none_or_is_denied_is_no_line_in_the_log(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    upgrade = "GET {path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{more}\r\n"
    right = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    cases = [
        ("", b"HTTP/1.1 4"),
        ("Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n", b"HTTP/1.1 4"),
        (right + "Content-Length: 5\r\n", b"HTTP/1.1 400"),
        (right + "X" * 9000 + ": a\r\n", b"HTTP/1.1 400"),
        (right, b"HTTP/1.1 403"),
    ]

    async def scenario(site: Any) -> None:
        for more, begin in cases:
            reader, writer = await asyncio.open_connection("127.0.0.1", site.door.port)
            writer.write(upgrade.format(path=site.messages, more=more).encode())
            if "Content-Length" in more:
                writer.write(b"hello")
            assert (await reader.read()).startswith(begin), more[:40]
            writer.close()
        assert (await site.get("/health")).status_code == 200
        assert caplog.records == []
        assert site.door.wire.malformed > 0

    run(scenario)


def test_frames_that_break_the_protocol_are_counted_and_no_line_in_the_log(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    frames = [  # RFC 6455: not UTF-8 (8.1), not masked (5.1), a reserved opcode, a fragmented ping, half a close code
        (b"\x81\x82\0\0\0\0\xc3\x28", 1007),
        (b"\x81\x02hi", 1002),
        (b"\x83\x80\0\0\0\0", 1002),
        (b"\x09\x80\0\0\0\0", 1002),
        (b"\x88\x81\0\0\0\0\x03", 1002),
    ]

    async def scenario(site: Any) -> None:
        for number, (frame, code) in enumerate(frames, start=1):
            async with opened(site) as client:
                client.transport.write(frame)
                assert (await closed(client))[0] == code, frame
            assert site.door.wire.malformed == number
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []

    run(scenario)


def test_a_client_goes_on_where_it_was(run: Run) -> None:
    async def scenario(site: Any) -> None:
        for n in range(300):
            await site.publish(b"%d" % n, "", "application/json")
        async with opened(site, "?after=100&envelope=1", **site.user) as client:
            got = [json.loads(await client.recv()) for _ in range(200)]
            assert [one["seq"] for one in got] == list(range(101, 301))
            assert [one["payload"] for one in got] == list(range(100, 300))
            await site.publish(b'"live"', "", "application/json")
            assert json.loads(await client.recv())["payload"] == "live"

    run(scenario)


def test_envelopes_are_acknowledged_when_they_are_durable(run: Run) -> None:
    async def scenario(site: Any) -> None:
        async with (
            opened(site, "?envelope=1") as client,
            opened(site, "?envelope=1", **other_thing(site)) as two,
        ):
            for n in range(100):
                await client.send(json.dumps({"id": n, "payload": [{"n": "level", "v": n}]}))
            acks = [json.loads(await client.recv()) for _ in range(100)]
            assert acks == [{"type": "ack", "id": n, "seq": n + 1} for n in range(100)]
            seen = [json.loads(await two.recv()) for _ in range(100)]
            assert [one["seq"] for one in seen] == [one["seq"] for one in acks]
            more = {"id": "x", "payload_base64": "AP8=", "subtopic": "a/b", "idempotency_key": "k1"}
            for _ in range(2):
                await client.send(json.dumps(more))
                assert json.loads(await client.recv()) == {"type": "ack", "id": "x", "seq": 101}
            shown = json.loads(await two.recv())
            assert (shown["subtopic"], shown["protocol"]) == ("a.b", "ws")
            assert base64.b64decode(shown["payload_base64"]) == b"\x00\xff"
        assert len(site.hub.log.read(0, None, 500)) == 101

    run(scenario)


BAD_FRAMES = [
    ("{", 400),
    ("[]", 400),
    ('{"id":1}', 400),
    ('{"id":1,"payload":1,"payload_base64":"AA=="}', 400),
    ('{"id":1,"payload_base64":"!"}', 400),
    ('{"id":1,"payload":1,"unknown":2}', 400),
    ('{"id":1,"payload":[{"n":"a","v":"text"}]}', 400),
    ('{"id":1,"payload":1,"content_type":"text/plain"}', 415),
    ('{"id":1,"payload":1,"subtopic":"a.*"}', 400),
    ('{"id":1,"payload":1,"idempotency_key":"with space"}', 400),
    ('{"id":1,"payload_base64":"' + "A" * 400_000 + '"}', 413),
]


def test_a_bad_envelope_is_answered_and_the_connection_goes_on(run: Run) -> None:
    async def scenario(site: Any) -> None:
        async with opened(site, "?envelope=1") as client:
            for text, status in BAD_FRAMES:
                await client.send(text)
                answer = json.loads(await client.recv())
                assert (answer["type"], answer["status"]) == ("error", status), text[:80]
                assert answer["detail"]
            await client.send('{"id":2,"payload":1}')
            assert json.loads(await client.recv())["type"] == "ack"
        assert len(site.stored()) == 1

    run(scenario)


def test_a_plain_frame_that_cannot_be_taken_closes_with_the_reason(run: Run, mocker: Any) -> None:
    async def scenario(site: Any) -> None:
        cases: list[tuple[str, str | bytes, int]] = [
            ("?content-type=application/senml%2Bjson", "[{", 1007),
            ("?content-type=text/plain", "a", 1007),
            ("", b"x" * 300_000, 1009),
            ("", b"x" * 600_000, 1009),
        ]
        for query, frame, code in cases:
            async with opened(site, query) as client:
                await client.send(frame)
                got = await closed(client)
                assert got[0] == code, (query, got)
        async with opened(site, **site.user) as client:
            await client.send("1")
            assert await closed(client) == (1008, "messages are published by things")
        async with opened(site, below="/a/%23") as client:
            await client.send("1")
            assert (await closed(client))[0] == 1008
        for error in (Busy("wait"), LogFull("no room")):
            mocker.patch.object(site.hub.log, "submit", side_effect=error)
            async with opened(site) as client:
                await client.send("1")
                assert await closed(client) == (1013, error.reason)
        assert site.stored() == []

    run(scenario)


@pytest.mark.parametrize("how", ["disconnect", "rotate", "token"])
def test_a_right_that_ends_closes_the_connection(run: Run, how: str) -> None:
    async def scenario(site: Any) -> None:
        headers = site.user if how == "token" else {}
        async with opened(site, **headers) as client:
            match how:
                case "disconnect":
                    site.hub.registry.disconnect([site.channel_id], [site.thing_id])
                case "rotate":
                    site.hub.registry.rotate_key(site.thing_id)
                case "token":
                    site.hub.registry.revoke_token(site.token)
            assert (await closed(client))[0] == 1008
        assert (site.app.sockets.open, site.app.streams.open) == (0, 0)
        assert site.app.followers._by_channel == {}

    run(scenario)


def test_messages_that_are_gone_are_announced_in_each_form(run: Run) -> None:
    async def scenario(site: Any) -> None:
        for n in range(30):
            await asyncio.gather(*(site.publish(b"%d" % n, "", "application/json") for _ in range(10)))
        first = site.hub.log.first_seq
        assert first > 10
        async with opened(site, "?after=3&envelope=1", **site.user) as client:
            assert json.loads(await client.recv()) == {"type": "gap", "first": 4, "last": first - 1}
            assert json.loads(await client.recv())["seq"] == first
        async with opened(site, "?after=3", **site.user) as client:
            code, reason = await closed(client)
            assert (code, f"go on after {first - 1}" in reason) == (websocket.MESSAGES_GONE, True)

    run(scenario, max_messages=100)


def test_a_client_that_does_not_read_costs_little_and_misses_nothing(run: Run) -> None:
    async def scenario(site: Any) -> None:
        body = b'"' + b"x" * 60_000 + b'"'
        async with opened(site, **site.user) as client:
            client.transport.pause_reading()
            for _ in range(400):
                await site.publish(body, "", "application/json")
            assert site.app.followers.fell_behind == 1
            client.transport.resume_reading()
            for _ in range(400):
                assert len(await client.recv()) == len(body)

    run(scenario)


def test_connections_and_streams_are_bounded_and_counted(run: Run) -> None:
    async def scenario(site: Any) -> None:
        site.app.streams.limit = 1
        async with opened(site):
            assert (await refused(opened(site)))[0] == 503
            metrics = (await site.client.get("/metrics")).text
            assert "fluxgate_http_websockets 1" in metrics
            assert site.door.wire.open == 2
        async with opened(site) as client:
            closing = asyncio.create_task(site.door.close())
            assert (await closed(client))[0] == 1012, "restarting: come back"
            await closing
        assert site.door.wire.open == 0

    run(scenario)


def test_a_thing_that_sends_too_fast_hears_so(run: Run) -> None:
    async def scenario(site: Any) -> None:
        async with opened(site, "?envelope=1") as client:
            for n in range(3):
                await client.send(json.dumps({"id": n, "payload": n}))
            answers = [json.loads(await client.recv()) for _ in range(3)]
        assert sorted(one.get("status", 0) for one in answers) == [0, 0, 429]

    run(scenario, limits=Limits(publish_rate=0.001, publish_burst=2))


def test_another_app_may_serve_mqtt_on_its_path(run: Run) -> None:
    async def mqtt(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "mqtt"})
        await send({"type": "websocket.send", "bytes": b"\x20\x02\x00\x00"})
        await send({"type": "websocket.close"})

    async def scenario(site: Any) -> None:
        site.app._mqtt = mqtt
        url = f"ws://127.0.0.1:{site.door.port}/mqtt"
        async with connect(url, subprotocols=["mqtt"], proxy=None) as client:  # type: ignore[list-item]
            assert client.subprotocol == "mqtt"
            assert await client.recv() == b"\x20\x02\x00\x00"

    run(scenario)
