"""The short way for heads that were seen before: the answers are those of the usual way, byte by byte of cutting."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

from hub.http.limits import Limits
from hub.message import TimeQuality
from tests.hub.http.wire import read_answer

Run = Callable[..., None]


def request(site: Any, value: int, below: str = "", more: str = "") -> bytes:
    body = b'[{"n":"level","v":%d}]' % (100 + value)
    head = (
        f"POST {site.messages}{below} HTTP/1.1\r\nHost: a\r\nAuthorization: Thing {site.key}\r\n"
        f"Content-Type: application/senml+json\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def test_a_known_head_is_answered_like_an_unknown_one(run: Run) -> None:
    async def scenario(site: Any) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.door.port)
        answers = []
        for n in range(4):
            writer.write(request(site, n))
            status, headers, body = await read_answer(reader)
            assert status == 202
            assert int(headers.pop("fluxgate-seq")) == site.stored()[-1].seq
            headers.pop("date")
            answers.append((headers, body))
        assert all(one == answers[0] for one in answers)
        assert site.door.wire.direct == 3
        assert [message.payload[-5:-2] for message in site.stored()] == [b"100", b"101", b"102", b"103"]
        writer.close()

    run(scenario)


def test_however_the_bytes_are_cut_every_message_is_stored_once_and_in_order(run: Run) -> None:
    async def scenario(site: Any) -> None:
        rng = random.Random(64)
        reader, writer = await asyncio.open_connection("127.0.0.1", site.door.port)
        sent = 0
        for _ in range(60):
            count = rng.choice((1, 1, 1, 2, 5))
            wire = b"".join(
                request(site, sent + n, more=rng.choice(("", "X-A: b\r\n"))) for n in range(count)
            )
            sent += count
            cuts = sorted(rng.sample(range(1, len(wire)), rng.randrange(4)))
            for begin, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
                writer.write(wire[begin:end])
                await writer.drain()
                for _ in range(rng.randrange(3)):
                    await asyncio.sleep(0)
            for _ in range(count):
                assert (await read_answer(reader))[0] == 202
        values = [int(message.payload[18:-2]) - 100 for message in site.hub.log.read(0, None, 1000)]
        assert values == list(range(sent))
        assert 0 < site.door.wire.direct < sent
        writer.close()

    run(scenario)


def test_what_was_learnt_does_not_outlive_the_right(run: Run) -> None:
    async def scenario(site: Any) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.door.port)

        async def publish() -> int:
            writer.write(request(site, 1))
            return (await read_answer(reader))[0]

        assert [await publish() for _ in range(3)] == [202, 202, 202]
        site.hub.registry.disconnect([site.channel_id], [site.thing_id])
        assert await publish() == 403
        site.hub.registry.connect([site.channel_id], [site.thing_id])
        assert await publish() == 202
        site.hub.registry.rotate_key(site.thing_id)
        assert await publish() == 401
        assert site.door.wire.direct == 5
        writer.close()

    run(scenario)


def test_a_policy_counts_for_known_heads_too_as_soon_as_it_is_there(run: Run) -> None:
    def policy(site: Any, **more: object) -> dict[str, str]:
        document = {
            "subjects": [f"things/{site.thing_id}"],
            "actions": ["publish"],
            "resources": [f"channels/{site.channel_id}/messages<(/.*)?>"],
            "effect": "deny",
            **more,
        }
        return {"p": json.dumps(document)}

    at_night = {"current_time": {"type": "TimeOfDayCondition", "options": {"from": "22:00", "to": "05:00"}}}
    day_s = 86_400
    noon = now_s = 20_000 * day_s + day_s // 2
    midnight = noon + day_s // 2

    async def scenario(site: Any) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.door.port)

        async def publish(at_s: int) -> int:
            nonlocal now_s
            now_s = at_s
            writer.write(request(site, 1))
            return (await read_answer(reader))[0]

        registry = site.hub.registry
        assert [await publish(noon) for _ in range(3)] == [202, 202, 202]
        registry.change_policies(policy(site), 0)
        assert [await publish(noon) for _ in range(2)] == [403, 403]
        registry.change_policies(policy(site, conditions=at_night), 0)
        # The same head and no change of the registry between: only the hour tells.
        hours = (noon, midnight, midnight, noon + day_s, midnight + day_s)
        answers = [await publish(at_s) for at_s in hours]
        assert answers == [202, 403, 403, 202, 403]
        registry.change_policies({"p": None}, 0)
        assert await publish(midnight + day_s) == 202
        assert site.door.wire.direct == 10
        writer.close()

    run(scenario, clock=lambda: (now_s * 10**9, TimeQuality.NTP))


def test_heads_that_ask_for_more_are_not_learnt(run: Run) -> None:
    async def scenario(site: Any) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.door.port)
        for more in ("Idempotency-Key: a\r\n", "Content-Encoding: identity\r\n", "Authorization: x\r\n"):
            for _ in range(2):
                writer.write(request(site, 1, more=more))
                assert (await read_answer(reader))[0] in (202, 401), more
        writer.write(request(site, 1, more="Connection: close\r\n"))
        await reader.read()
        writer.close()
        assert site.door.wire.direct == 0

    run(scenario)


def test_a_request_that_upgrades_is_not_taken_for_the_one_before(run: Run) -> None:
    async def scenario(site: Any) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.door.port)
        head = (
            f"POST {site.messages} HTTP/1.1\r\nHost: a\r\nAuthorization: {site.key}\r\n"
            "Content-Type: application/octet-stream\r\nContent-Length: 0\r\n\r\n"
        )
        writer.write(head.encode())
        assert (await read_answer(reader))[0] == 202
        writer.write(
            f"GET {site.messages} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            f"Authorization: {site.key}\r\n\r\n".encode()
        )
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        writer.close()
        assert list(site.app.publisher._heads) == [head.encode()]

    run(scenario)


def test_a_client_that_leaves_before_its_answer_costs_nothing(run: Run) -> None:
    async def scenario(site: Any) -> None:
        for _ in range(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", site.door.port)
            writer.write(request(site, 1))
            await read_answer(reader)
            taken = asyncio.Event()
            forget = site.hub.log.on_append(lambda messages, taken=taken: taken.set())
            writer.write(request(site, 2) + request(site, 3)[:50])
            await taken.wait()
            forget()
            writer.transport.abort()
            await site.publish()
        assert len(site.stored()) == 15

    run(scenario)


def test_a_door_that_closes_answers_what_it_has_taken(run: Run) -> None:
    async def scenario(site: Any) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.door.port)
        writer.write(request(site, 1))
        await read_answer(reader)
        taken = asyncio.Event()
        site.hub.log.on_append(lambda messages: taken.set())
        writer.write(request(site, 2))
        await taken.wait()
        await site.door.close()
        assert (await read_answer(reader))[0] == 202
        assert await reader.read() == b""
        writer.close()

    run(scenario)


def test_a_thing_that_publishes_too_fast_is_told_when_to_come_back(run: Run) -> None:
    async def scenario(site: Any) -> None:
        statuses = [(await site.publish()).status_code for _ in range(6)]
        assert statuses == [202, 202, 202, 429, 429, 429]
        refused = await site.publish()
        assert int(refused.headers["retry-after"]) > 100
        assert len(site.stored()) == 3

    run(scenario, limits=Limits(publish_rate=0.001, publish_burst=3))


def test_a_client_that_does_not_read_its_answers_is_not_read_from_either(run: Run) -> None:
    async def scenario(site: Any) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.door.port)
        writer.write(request(site, 0))
        await read_answer(reader)
        (connection,) = site.door._server.server_state.connections
        connection.pause_writing()  # as the transport says when too much is waiting to be written
        assert not connection._raw.is_reading()
        writer.write(request(site, 1))
        await site.publish()
        assert len(site.stored()) == 2
        connection.resume_writing()
        assert (await read_answer(reader))[0] == 202
        assert len(site.stored()) == 3
        writer.close()

    run(scenario)
