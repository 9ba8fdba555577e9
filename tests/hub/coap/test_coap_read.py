"""Reading over CoAP: the last value, formats, blocks, and observations with their bounds and their end."""

from __future__ import annotations

import asyncio
from typing import Any

import cbor2
import pytest

from hub.coap.packets import ACK, CON, NON, RST, Code, Opt, Packet, encode_empty, uint
from hub.topics import parse_filter

SENML = b'[{"n":"temperature","u":"Cel","v":21.5}]'
OBSERVE = ((Opt.OBSERVE, b""),)
FORGET = ((Opt.OBSERVE, b"\x01"),)


def accept(number: int) -> tuple[tuple[int, bytes], ...]:
    return ((Opt.ACCEPT, uint(number)),)


def test_get_shows_the_last_value_with_its_format_and_tag(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            await client.post(b'{"n":1}', fmt=50, sub="door")
            await client.post(SENML, sub="roof")
            await client.post(b'{"n":2}', fmt=50, sub="door")
            answer = await client.ask(Code.GET, sub="door")
            assert (answer.type, answer.code, answer.token) == (ACK, Code.CONTENT, b"tk")
            assert (answer.payload, answer.uint(Opt.CONTENT_FORMAT)) == (b'{"n":2}', 50)
            await client.post(b'{"n":3}', fmt=50, sub="door")
            later = await client.ask(Code.GET, sub="door")
            assert later.payload == b'{"n":3}'
            assert later.first(Opt.ETAG) != answer.first(Opt.ETAG)

    asyncio.run(main())


def test_get_with_the_tag_of_what_the_client_has_is_short(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            await client.post()
            tag = (await client.ask(Code.GET)).first(Opt.ETAG)
            answer = await client.ask(Code.GET, options=((Opt.ETAG, tag),))
            assert (answer.code, answer.payload, answer.first(Opt.ETAG)) == (Code.VALID, b"", tag)

    asyncio.run(main())


def test_value_of_the_last_run_is_found_also_behind_many_others(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            await client.post(b"old", fmt=42, sub="rare")
            for n in range(600):
                principal = world.hub.authenticate_thing(world.keys["b"])
                world.hub.post(
                    principal, "http", world.channel, "often", "application/octet-stream", b"%d" % n
                )
            await world.hub.log.flush()
        async with open_world() as world:
            client = await world.client()
            assert (await client.ask(Code.GET, sub="rare")).payload == b"old"
            assert (await client.ask(Code.GET, sub="often")).payload == b"599"

    asyncio.run(main())


def test_who_asks_while_the_value_is_looked_for_is_not_told_that_there_is_none(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            await client.post(b"old", fmt=42, sub="rare")
            principal = world.hub.authenticate_thing(world.keys["b"])
            for _ in range(600):
                world.hub.post(principal, "http", world.channel, "often", "application/octet-stream", b"x")
            await world.hub.log.flush()
            for n in range(4):
                client.request(Code.GET, sub="rare", token=bytes((n,)))
            assert [(await client.read()).payload for _ in range(4)] == [b"old"] * 4

    asyncio.run(main())


def test_wildcards_after_messages_show_the_newest_of_all(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            await client.post(b"1", sub="a/x")
            await client.post(b"2", sub="a/y")
            await client.post(b"3", sub="b")
            assert (await client.ask(Code.GET, sub="a/+")).payload == b"2"
            assert (await client.ask(Code.GET, sub="#")).payload == b"3"
            assert (await client.ask(Code.GET, sub="c/#")).code == Code.NOT_FOUND
            await client.post(b"4", sub="a/x")
            assert (await client.ask(Code.GET, sub="a/+")).payload == b"4"
            everywhere = ("channels", "+", "messages")
            assert (await client.ask(Code.GET, path=everywhere)).code == Code.BAD_REQUEST

    asyncio.run(main())


def test_senml_is_shown_as_json_or_cbor_as_asked(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            await client.post(SENML, fmt=110)
            answer = await client.ask(Code.GET, options=accept(112))
            assert answer.uint(Opt.CONTENT_FORMAT) == 112
            assert cbor2.loads(answer.payload) == [{0: "temperature", 1: "Cel", 2: 21.5}]
            assert (await client.ask(Code.GET, options=accept(110))).payload == SENML
            for number in (42, 50, 0, 60):
                assert (await client.ask(Code.GET, options=accept(number))).code == Code.NOT_ACCEPTABLE
            await client.post(b"text", fmt=0)
            for number in (0, 42):
                answer = await client.ask(Code.GET, options=accept(number))
                assert (answer.payload, answer.uint(Opt.CONTENT_FORMAT)) == (b"text", number)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        pytest.param({"thing": None}, Code.UNAUTHORIZED, id="no key"),
        pytest.param({"thing": "stranger"}, Code.FORBIDDEN, id="not connected"),
        pytest.param({"thing": "stranger", "options": OBSERVE}, Code.FORBIDDEN, id="not connected, observe"),
        pytest.param({"sub": "nothing/here"}, Code.NOT_FOUND, id="no message"),
        pytest.param({"path": ("elsewhere",)}, Code.NOT_FOUND, id="other path"),
        pytest.param({"sub": "a/#/b"}, Code.BAD_REQUEST, id="filter"),
        pytest.param({"options": ((Opt.BLOCK2, b"\x0f"),)}, Code.BAD_OPTION, id="reserved block size"),
    ],
)
def test_get_is_refused_with_its_code(open_world: Any, parts: dict[str, Any], code: Code) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            assert (await client.ask(Code.GET, **parts)).code == code
            assert world.counters["observers_now"] == 0

    asyncio.run(main())


def test_links_say_what_is_here_and_need_no_key(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            well_known = (".well-known", "core")
            answer = await client.ask(Code.GET, None, path=well_known)
            assert (answer.code, answer.uint(Opt.CONTENT_FORMAT)) == (Code.CONTENT, 40)
            assert answer.payload.startswith(b"</channels>")
            refused = await client.ask(Code.GET, None, path=well_known, options=accept(50))
            assert refused.code == Code.NOT_ACCEPTABLE

    asyncio.run(main())


def test_too_many_searches_are_told_when_to_come_again(open_world: Any) -> None:
    async def main() -> None:
        async with open_world(searches=1) as world:
            client = await world.client()
            client.request(Code.GET, sub="a", options=OBSERVE)
            client.request(Code.GET, sub="b")
            answers = [await client.read() for _ in range(2)]
            assert sorted(answer.code for answer in answers) == [Code.CONTENT, Code.UNAVAILABLE]
            assert world.counters["refused_busy"] == 1

    asyncio.run(main())


def test_last_values_in_memory_are_bounded_and_found_again(open_world: Any) -> None:
    async def main() -> None:
        async with open_world(last_values=2, last_values_bytes=100) as world:
            client = await world.client()
            values = world.door._messages.values
            for sub in ("a", "b", "c"):
                await client.post(sub.encode(), sub=sub)
                assert (await client.ask(Code.GET, sub=sub)).payload == sub.encode()
            assert len(values) == 2
            assert (await client.ask(Code.GET, sub="a")).payload == b"a"
            await client.post(b"x" * 101, sub="a")
            assert not values.known(parse_filter(f"channels/{world.channel}/messages/a"))
            assert (
                await client.ask(Code.GET, sub="a", options=((Opt.BLOCK2, b"\x02"),))
            ).payload == b"x" * 64

    asyncio.run(main())


# Blocks of an answer


async def proven(world: Any) -> Any:
    """A client whose address is known to be real."""
    client = await world.client()
    client.request(Code.GET, sub="none", options=OBSERVE)
    await client.read()
    await client.pong()
    await client.ask(Code.GET, sub="none", options=FORGET)
    return client


async def fetch(client: Any, size_szx: int, **parts: Any) -> tuple[bytes, list[Packet]]:
    """A body, block by block."""
    body, answers, more, num = b"", [], True, 0
    while more:
        answer = await client.ask(Code.GET, options=((Opt.BLOCK2, uint(num << 4 | size_szx)),), **parts)
        answers.append(answer)
        assert answer.code == Code.CONTENT, answer
        value = answer.uint(Opt.BLOCK2)
        if value is None:
            return answer.payload, answers
        assert len(body) == (value >> 4) << ((value & 7) + 4)
        body += answer.payload
        more, size_szx = bool(value & 8), value & 7
        num = (value >> 4) + 1
    return body, answers


@pytest.mark.parametrize("szx", [0, 2, 6])
def test_large_value_comes_in_blocks_of_the_size_asked_for(open_world: Any, szx: int) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await proven(world)
            body = bytes(n * 7 % 251 for n in range(1500))
            await client.post(body[:1500], fmt=42)
            fetched, answers = await fetch(client, szx)
            assert fetched == body
            assert all(len(answer.payload) <= 16 << szx for answer in answers)
            assert answers[0].uint(Opt.SIZE2) == 1500
            assert len({answer.first(Opt.ETAG) for answer in answers}) == 1
            beyond = await client.ask(Code.GET, options=((Opt.BLOCK2, uint(100 << 4 | 6)),))
            assert beyond.code == Code.BAD_REQUEST

    asyncio.run(main())


def test_blocks_are_of_the_value_as_it_was_when_the_first_left(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await proven(world)
            await client.post(b"a" * 1500, fmt=42)
            first = await client.ask(Code.GET)
            assert (len(first.payload), first.uint(Opt.BLOCK2)) == (1024, 8 | 6)
            await client.post(b"b" * 1500, fmt=42)
            second = await client.ask(Code.GET, options=((Opt.BLOCK2, uint(1 << 4 | 6)),))
            assert second.payload == b"a" * 476
            assert second.first(Opt.ETAG) == first.first(Opt.ETAG)

    asyncio.run(main())


def test_unproven_address_gets_smaller_blocks_or_is_challenged(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            await client.post(b"x" * 1000, fmt=42)
            wire = client.request(Code.GET)
            answer = await client.read()
            assert 64 <= len(answer.payload) <= 256
            fetched, _ = await fetch(client, 6)
            assert fetched == b"x" * 1000
            assert len(wire) * 3 >= 250
            assert not world.door.endpoint.admission._proven

    asyncio.run(main())


# Observations


async def observe(world: Any, client: Any, **parts: Any) -> Packet:
    """Begin to observe; the first answer."""
    client.request(Code.GET, options=OBSERVE + parts.pop("options", ()), **parts)
    answer = await client.read()
    if not client.proven:
        await client.pong()
        assert await client.fence() == []
    return answer


def test_observer_is_told_of_each_message_in_order(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            observer, publisher = await world.client(), await world.client()
            first = await observe(world, observer, sub="roof", token=b"watch")
            assert (first.code, first.payload) == (Code.CONTENT, b"")
            assert first.first(Opt.OBSERVE) is not None
            numbers = []
            for n in range(5):
                await publisher.post(b"%d" % n, fmt=42, sub="roof")
                await publisher.post(b"other", fmt=42, sub="cellar")
                told = await observer.read()
                assert (told.type, told.code, told.token) == (NON, Code.CONTENT, b"watch")
                assert (told.payload, told.uint(Opt.CONTENT_FORMAT)) == (b"%d" % n, 42)
                numbers.append(told.uint(Opt.OBSERVE))
            assert numbers == sorted(set(numbers))

    asyncio.run(main())


def test_message_of_any_door_is_told_also_ones_own(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            await observe(world, client, token=b"w")
            principal = world.hub.authenticate_thing(world.keys["b"])
            await world.hub.publish(principal, "mqtt", world.channel, "", "application/octet-stream", b"mqtt")
            assert (await client.read()).payload == b"mqtt"
            client.request(Code.POST, payload=b"own", fmt=42)
            answers = {(packet.token, packet.payload) for packet in [await client.read() for _ in range(2)]}
            assert answers == {(b"w", b"own"), (b"tk", b"")}

    asyncio.run(main())


def test_observe_1_ends_it_and_so_does_a_reset(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client, publisher = await world.client(), await world.client()
            await observe(world, client, token=b"1")
            await observe(world, client, token=b"2")
            assert world.counters["observers_now"] == 2
            await client.ask(Code.GET, token=b"1", options=FORGET)
            await publisher.post(b"x", fmt=42)
            told = await client.read()
            assert told.token == b"2"
            client.send(encode_empty(RST, told.mid))
            await client.fence()
            assert world.counters["observers_now"] == 0

    asyncio.run(main())


def test_same_token_again_is_the_same_observation(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            for _ in range(3):
                await observe(world, client, token=b"1")
            assert world.counters["observers_now"] == 1

    asyncio.run(main())


def test_unproven_observer_is_told_nothing_until_it_answers_a_ping(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client, publisher = await world.client(), await world.client()
            client.request(Code.GET, options=OBSERVE, token=b"w")
            await client.read()
            ping = await client.read()
            assert (ping.type, ping.code) == (CON, 0)
            await publisher.post(b"1", fmt=42)
            await publisher.post(b"2", fmt=42)
            assert await client.fence() == []
            client.send(encode_empty(RST, ping.mid))
            assert [(await client.read()).payload for _ in range(2)] == [b"1", b"2"]

    asyncio.run(main())


def test_observer_that_never_answers_is_forgotten(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            client.request(Code.GET, options=OBSERVE)
            await client.read()
            for _ in range(60):
                world.pass_time(2)
            pings = await client.fence()
            assert [packet.code for packet in pings] == [0] * 5
            assert (world.counters["observers_now"], world.counters["lost_observers"]) == (0, 1)

    asyncio.run(main())


def test_guessing_the_number_of_the_ping_ends_the_observation(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            client.request(Code.GET, options=OBSERVE)
            await client.read()
            ping = await client.read()
            for n in range(1, 9):
                client.send(encode_empty(RST, ping.mid + n & 0xFFFF))
            await client.fence()
            assert world.counters["observers_now"] == 0
            assert world.counters["addresses_proven"] == 0

    asyncio.run(main())


def test_every_so_many_notifications_one_wants_an_answer_and_the_next_wait(open_world: Any) -> None:
    async def main() -> None:
        async with open_world(notifications_ahead=4) as world:
            client, publisher = await world.client(), await world.client()
            await observe(world, client)
            for n in range(12):
                await publisher.post(b"%d" % n, fmt=42)
            told = await client.fence()
            assert [packet.type for packet in told] == [NON, NON, NON, CON]
            assert world.counters["dropped_notifications"] == 4
            client.acknowledge(told[-1])
            assert [packet.payload for packet in await client.fence()] == [b"8", b"9", b"10", b"11"]

    asyncio.run(main())


def test_silent_observer_is_asked_now_and_then(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            await client.post(b"last", fmt=42)
            await observe(world, client, token=b"w")
            world.pass_time(3601)
            asked = await client.read()
            assert (asked.type, asked.token, asked.payload) == (CON, b"w", b"last")
            client.acknowledge(asked)
            await client.fence()
            assert world.counters["observers_now"] == 1
            world.pass_time(3601)
            asked = await client.read()
            client.send(encode_empty(RST, asked.mid))
            await client.fence()
            assert world.counters["observers_now"] == 0

    asyncio.run(main())


def test_all_notifications_are_in_the_format_asked_for_or_of_the_first(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client, publisher = await world.client(), await world.client()
            await observe(world, client, token=b"cbor", options=accept(112))
            await observe(world, client, token=b"any")
            await publisher.post(SENML, fmt=110)
            told = {packet.token: packet for packet in [await client.read() for _ in range(2)]}
            assert told[b"cbor"].uint(Opt.CONTENT_FORMAT) == 112
            assert told[b"any"].payload == SENML
            await publisher.post(b"bytes", fmt=42)
            assert await client.fence() == []
            assert world.counters["not_shown"] == 2

    asyncio.run(main())


@pytest.mark.parametrize("how", ["disconnect", "rotate", "remove thing"])
def test_right_that_is_taken_away_ends_the_observation_with_a_reason(open_world: Any, how: str) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            await observe(world, client, token=b"w")
            registry, thing = world.hub.registry, world.ids["a"]
            if how == "disconnect":
                await asyncio.to_thread(registry.disconnect, [world.channel], [thing])
            elif how == "rotate":
                await asyncio.to_thread(registry.rotate_key, thing)
            else:
                await asyncio.to_thread(registry.remove_thing, thing)
            ended = await client.read()
            assert ended.code == (Code.FORBIDDEN if how == "disconnect" else Code.UNAUTHORIZED)
            assert (ended.token, ended.first(Opt.OBSERVE)) == (b"w", None)
            assert ended.payload
            assert (world.counters["observers_now"], world.counters["revoked"]) == (0, 1)

    asyncio.run(main())


def test_observations_are_bounded_and_one_too_many_is_a_plain_get(open_world: Any) -> None:
    async def main() -> None:
        async with open_world(observers=4, observers_per_thing=3, observers_per_address=2) as world:
            first, second, third = [await world.client() for _ in range(3)]

            async def begin(client: Any, thing: str, token: bytes) -> bool:
                client.request(Code.GET, thing, token=token, sub="x", options=OBSERVE)
                while (answer := await client.read()).code == 0:
                    client.send(encode_empty(RST, answer.mid))
                return answer.first(Opt.OBSERVE) is not None

            await first.post(b"value", fmt=42, sub="x")
            assert [await begin(first, "a", b"%d" % n) for n in range(3)] == [True, True, False]
            assert [await begin(second, "a", b"%d" % n) for n in range(2)] == [True, False]
            assert [await begin(third, "b", b"%d" % n) for n in range(2)] == [True, False]
            assert world.counters["refused_observers"] == 3
            assert world.counters["observers_now"] == 4

    asyncio.run(main())


def test_large_notification_is_its_first_block_and_the_rest_is_fetched(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client, publisher = await world.client(), await world.client()
            await observe(world, client, token=b"w")
            body = bytes(n % 256 for n in range(1400))
            await publisher.post(body, fmt=42)
            told = await client.read()
            assert (told.payload, told.uint(Opt.BLOCK2), told.uint(Opt.SIZE2)) == (body[:1024], 8 | 6, 1400)
            await publisher.post(b"newer", fmt=42)
            assert (await client.read()).payload == b"newer"
            rest = await client.ask(Code.GET, options=((Opt.BLOCK2, uint(1 << 4 | 6)),))
            assert (rest.payload, rest.first(Opt.ETAG)) == (body[1024:], told.first(Opt.ETAG))

    asyncio.run(main())


@pytest.mark.parametrize(
    ("parts", "code", "max_age"),
    [
        pytest.param({"thing": None}, Code.UNAUTHORIZED, 0, id="no key"),
        pytest.param({"thing": "stranger"}, Code.FORBIDDEN, 0, id="not connected"),
        pytest.param({"sub": "nothing/here"}, Code.NOT_FOUND, 0, id="no message yet"),
        pytest.param({"options": accept(42)}, Code.NOT_ACCEPTABLE, 0, id="another format"),
        pytest.param({"path": (".well-known", "core")}, Code.CONTENT, None, id="links, always the same"),
    ],
)
def test_refusal_of_a_get_is_not_kept_by_a_cache(
    open_world: Any, parts: dict[str, Any], code: Code, max_age: int | None
) -> None:
    """RFC 7252, 5.9.2: 4.xx may be cached, for 60 s where Max-Age does not say otherwise."""

    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            await client.post(SENML)
            answer = await client.ask(Code.GET, **parts)
            assert (answer.code, answer.uint(Opt.MAX_AGE)) == (code, max_age)

    asyncio.run(main())


def test_a_notification_holds_until_the_next_one_is_sure_to_have_come(open_world: Any) -> None:
    """RFC 7641, 3.3.1 and 4.3.1: a client whose notification is over registers again; ours are not over before."""

    async def main() -> None:
        async with open_world(observer_check_s=100.5) as world:
            client = await world.client()
            empty = await client.ask(Code.GET, options=OBSERVE)
            await client.pong()
            assert (empty.code, empty.uint(Opt.MAX_AGE)) == (Code.CONTENT, 101 + 93)
            await client.post(SENML)
            told = [
                packet for packet in (await client.read(), *await client.fence()) if packet.token == b"tk"
            ]
            assert [packet.uint(Opt.MAX_AGE) for packet in told if packet.first(Opt.OBSERVE)] == [194]
            world.pass_time(101)  # nothing was said meanwhile: the state is told again, long before the 194 s
            again = await client.read()
            assert (again.type, again.payload, again.uint(Opt.MAX_AGE)) == (CON, SENML, 194)
            first = await client.ask(Code.GET, token=b"other", options=OBSERVE)
            assert (first.payload, first.uint(Opt.MAX_AGE)) == (SENML, 194)
            assert (await client.ask(Code.GET, token=b"plain")).uint(Opt.MAX_AGE) == 0

    asyncio.run(main())
