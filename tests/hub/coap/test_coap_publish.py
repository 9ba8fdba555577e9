"""Publishing over CoAP: 2.04 after the commit, the right code for everything else, and nothing stored twice."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from typing import Any

import pytest

from hub.coap.admission import Address
from hub.coap.packets import ACK, CON, NON, Code, Opt, Packet, uint
from hub.message import JSON, OCTET_STREAM, SENML_CBOR, SENML_JSON

SENML = b'[{"n":"temperature","u":"Cel","v":21.5}]'
CBOR = bytes.fromhex("81a200617402183c")  # RFC 8428: name (0) "t", value (2) 60


def words(packet: Packet) -> str:
    return packet.payload.decode()


@pytest.mark.parametrize("code", [Code.POST, Code.PUT])
def test_published_is_acknowledged_in_the_reply_and_stored(open_world: Any, code: Code) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            answer = await client.ask(code, payload=SENML, fmt=110, sub="roof/north")
            assert answer[:4] == (ACK, Code.CHANGED, client.mid, b"tk")
            assert answer.payload == b""
            (message,) = world.hub.log.read(0)
            assert (message.channel, message.subtopic) == (world.channel, "roof.north")
            assert (message.publisher, message.protocol) == (world.ids["a"], "coap")
            assert (message.content_type, message.payload) == (SENML_JSON, SENML)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("fmt", "payload", "kept_as"),
    [
        pytest.param(110, SENML, SENML_JSON, id="110 senml+json"),
        pytest.param(112, CBOR, SENML_CBOR, id="112 senml+cbor"),
        pytest.param(50, b'{"door":"open"}', JSON, id="50 json"),
        pytest.param(50, SENML, SENML_JSON, id="50 json that is SenML"),
        pytest.param(42, b"\x01\x02", OCTET_STREAM, id="42 octet-stream"),
        pytest.param(0, b"hello", OCTET_STREAM, id="0 text"),
        pytest.param(None, SENML, SENML_JSON, id="none, SenML"),
        pytest.param(None, b'{"door":"open"}', JSON, id="none, JSON"),
        pytest.param(None, b"{half", OCTET_STREAM, id="none, not quite JSON"),
        pytest.param(None, b"\x01\x02", OCTET_STREAM, id="none, bytes"),
        pytest.param(None, b"", OCTET_STREAM, id="none, empty"),
    ],
)
def test_content_format_says_what_is_kept(
    open_world: Any, fmt: int | None, payload: bytes, kept_as: str
) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            assert (await client.post(payload, fmt=fmt)).code == Code.CHANGED
            (message,) = world.hub.log.read(0)
            assert (message.content_type, message.payload) == (kept_as, payload)

    asyncio.run(main())


def test_word_of_2017_in_the_path_names_the_content_type(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            assert (await client.post(CBOR, sub="roof/senml-cbor")).code == Code.CHANGED
            (message,) = world.hub.log.read(0)
            assert (message.subtopic, message.content_type) == ("roof", SENML_CBOR)

    asyncio.run(main())


REFUSALS = [
    pytest.param({"thing": None}, "4.01", "auth=", id="no key"),
    pytest.param({"thing": None, "queries": ("auth=wrong",)}, "4.01", "not valid", id="wrong key"),
    pytest.param({"thing": "stranger"}, "4.03", "not connected", id="thing on no channel"),
    pytest.param(
        {"path": ("channels", "nowhere", "messages")}, "4.03", "not connected", id="no such channel"
    ),
    pytest.param({"path": ("things",)}, "4.04", "channels/<id>/messages", id="other path"),
    pytest.param({"path": ()}, "4.04", "channels/<id>/messages", id="no path"),
    pytest.param({"sub": "a+b"}, "4.00", "wildcard", id="wildcard"),
    pytest.param({"queries": ("auth=x",)}, "4.01", "not valid", id="two keys, joined"),
    pytest.param({"payload": b"[]", "fmt": 110}, "4.00", "", id="empty pack"),
    pytest.param({"payload": b"{", "fmt": 50}, "4.00", "JSON", id="no JSON"),
    pytest.param({"payload": b"\xff", "fmt": 112}, "4.00", "", id="no CBOR"),
    pytest.param({"fmt": 41}, "4.15", "110, 112, 50, 42 or 0", id="XML"),
    pytest.param({"options": ((Opt.CONTENT_FORMAT, b"abc"),)}, "4.02", "16 bits", id="long format"),
    pytest.param({"options": ((1, b"x"),)}, "4.02", "option 1", id="If-Match"),
    pytest.param({"options": ((2049, b""),)}, "4.02", "option 2049", id="unknown critical option"),
    pytest.param({"options": ((Opt.BLOCK1, b"\x07"),)}, "4.02", "1024", id="reserved block size"),
    pytest.param({"options": ((Opt.PROXY_URI, b"coap://x/"),)}, "5.05", "proxy", id="proxy"),
    pytest.param({"options": ((Opt.URI_PATH, b"\xff"),)}, "4.00", "UTF-8", id="path is not UTF-8"),
    pytest.param({"code": Code.DELETE}, "4.05", "GET, POST or PUT", id="DELETE"),
    pytest.param({"code": Code.FETCH}, "4.05", "GET, POST or PUT", id="FETCH"),
    pytest.param({"code": Code.IPATCH}, "4.05", "GET, POST or PUT", id="iPATCH"),
    pytest.param({"code": 31}, "4.05", "GET, POST or PUT", id="0.31"),
]


@pytest.mark.parametrize(("parts", "code", "said"), REFUSALS)
def test_refusal_has_its_code_and_says_why(
    open_world: Any, parts: dict[str, Any], code: str, said: str
) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            answer = await client.ask(**({"code": Code.POST, "payload": SENML} | parts))
            assert (f"{answer.code >> 5}.{answer.code & 31:02}", answer.type) == (code, ACK)
            assert said in words(answer)
            assert world.payloads() == []

    asyncio.run(main())


def test_unknown_elective_options_and_other_queries_are_passed_over(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            answer = await client.post(queries=("b=1", "c"), options=((2048, b"x"), (3, b"host")))
            assert answer.code == Code.CHANGED

    asyncio.run(main())


def test_non_confirmable_request_has_a_non_confirmable_answer(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            answer = await client.post(kind=NON)
            assert (answer.type, answer.code, answer.token) == (NON, Code.CHANGED, b"tk")

    asyncio.run(main())


def test_non_confirmable_request_with_a_bad_option_is_rejected_silently(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            client.request(Code.POST, kind=NON, options=((1, b"x"),))
            assert await client.fence() == []

    asyncio.run(main())


def test_too_large_payload_says_how_much_is_taken(open_world: Any) -> None:
    async def main() -> None:
        async with open_world(max_payload=100) as world:
            client = await world.client()
            answer = await client.post(b"x" * 101, fmt=42)
            assert (answer.code, answer.uint(Opt.SIZE1)) == (Code.TOO_LARGE, 100)

    asyncio.run(main())


def test_datagram_longer_than_the_door_takes_is_asked_for_in_blocks(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            answer = await client.post(b"x" * 5000, fmt=42)
            assert (answer.code, answer.first(Opt.BLOCK1)) == (Code.TOO_LARGE, b"\x06")
            assert world.counters["refused_size"] == 1

    asyncio.run(main())


def test_request_like_the_last_one_is_read_quickly_and_means_the_same(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            payloads = [SENML, b"\xff\xff", b"\xff", b"plain", b'{"a":1}']
            for payload in payloads * 2:
                assert (await client.post(payload, sub="x")).code == Code.CHANGED
                assert (await client.post(payload, "b", sub="y", fmt=42)).code == Code.CHANGED
            assert len(world.door._messages._learnt) == 2
            found = [(m.subtopic, m.publisher, m.content_type, m.payload) for m in world.hub.log.read(0)]
            kinds = [SENML_JSON, OCTET_STREAM, OCTET_STREAM, OCTET_STREAM, JSON] * 2
            of_a = [
                ("x", world.ids["a"], kind, payload)
                for kind, payload in zip(kinds, payloads * 2, strict=True)
            ]
            of_b = [("y", world.ids["b"], OCTET_STREAM, payload) for payload in payloads * 2]
            assert found[::2] == of_a
            assert found[1::2] == of_b
            assert (await client.ask(Code.GET, payload=b"x", sub="x")).payload == b'{"a":1}'
            assert (await client.ask(Code.DELETE, payload=b"x", sub="x")).code == Code.METHOD_NOT_ALLOWED

    asyncio.run(main())


def test_key_or_right_that_has_gone_is_refused_also_where_the_request_is_known(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            assert (await client.post()).code == (await client.post()).code == Code.CHANGED
            await asyncio.to_thread(world.hub.registry.disconnect, [world.channel], [world.ids["a"]])
            assert (await client.post()).code == Code.FORBIDDEN
            await asyncio.to_thread(world.hub.registry.rotate_key, world.ids["a"])
            assert (await client.post()).code == Code.UNAUTHORIZED

    asyncio.run(main())


def test_known_requests_are_bounded(open_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.coap.resource.MAX_HEADS", 4)
    monkeypatch.setattr("hub.coap.admission.MAX_HEADS", 4)

    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            for n in range(30):
                assert (await client.post(sub=f"s{n}")).code == Code.CHANGED
                assert len(world.door._messages._learnt) <= 4
                assert len(world.door.endpoint.admission._known) <= 4

    asyncio.run(main())


# The same request again


def test_retransmission_gets_the_same_answer_and_is_stored_once(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            wire = world.request(Code.POST, payload=SENML)
            answers = []
            for _ in range(3):
                client.send(wire)
                answers.append(await client.read())
            assert answers[0].code == Code.CHANGED
            assert answers[0] == answers[1] == answers[2]
            assert world.payloads() == [SENML]
            assert world.counters["duplicates"] == 2

    asyncio.run(main())


def test_retransmissions_while_the_commit_runs_are_one_message_and_one_answer(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            wire = world.request(Code.POST, payload=SENML)
            for _ in range(5):  # all are in the socket before the loop comes to the first
                client.send(wire)
            answer = await client.read()
            assert answer.code == Code.CHANGED
            assert all(packet == answer for packet in await client.fence())
            assert world.payloads() == [SENML]

    asyncio.run(main())


def test_number_that_came_around_is_a_new_message(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            for n in range(3):
                client.send(world.request(Code.POST, mid=7, token=bytes((n,)), payload=SENML))
                answer = await client.read()
                assert (answer.code, answer.token) == (Code.CHANGED, bytes((n,)))
            assert len(world.payloads()) == 3

    asyncio.run(main())


def test_same_number_of_another_client_is_another_request(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            for _ in range(2):
                client = await world.client()
                client.send(world.request(Code.POST, mid=7, payload=SENML))
                assert (await client.read()).code == Code.CHANGED
            assert len(world.payloads()) == 2

    asyncio.run(main())


def test_request_is_forgotten_after_its_lifetime(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            wire = world.request(Code.POST, payload=SENML)
            for _ in range(2):
                client.send(wire)
                assert (await client.read()).code == Code.CHANGED
                world.pass_time(248)
            assert len(world.payloads()) == 2
            assert len(world.door.endpoint.exchanges) == 0

    asyncio.run(main())


def test_request_stored_before_a_restart_is_not_stored_again(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            local = client.transport.get_extra_info("sockname")
            wire = world.request(Code.POST, payload=SENML)
            client.send(wire)
            before = await client.read()
        async with open_world() as world:
            sent: list[bytes] = []
            world.door.endpoint.send = lambda data, _address: sent.append(data)
            world.door.receive(wire, Address(local))
            world.door.receive(wire, Address(local))
            assert len(sent) == 2
            assert sent[0] == sent[1]
            assert sent[0][1] == before.code == Code.CHANGED
            assert world.payloads() == [SENML]
            world.pass_time(300)  # after which it may be a new one
            world.door.receive(wire, Address(local))
            await world.hub.log.flush()
            assert world.payloads() == [SENML, SENML]

    asyncio.run(main())


def test_bound_of_remembered_requests_forgets_the_oldest_and_counts(open_world: Any) -> None:
    async def main() -> None:
        async with open_world(exchanges=3) as world:
            client = await world.client()
            for _ in range(5):
                assert (await client.post()).code == Code.CHANGED
            assert len(world.door.endpoint.exchanges) == 3
            assert world.counters["forgotten_exchanges"] == 2

    asyncio.run(main())


# Waiting for the disk


class SlowDisk(sqlite3.Connection):
    """A disk whose commits wait until they are let go."""

    gate = threading.Event()

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if sql.startswith("COMMIT"):
            SlowDisk.gate.wait(20)
        return super().execute(sql, *args)


def test_answer_that_takes_long_comes_in_a_message_of_its_own(open_world: Any) -> None:
    async def main() -> None:
        SlowDisk.gate.set()
        async with open_world(database=SlowDisk) as world:
            client = await world.client()
            SlowDisk.gate.clear()
            wire = client.request(Code.POST, payload=SENML)
            while not world.counters["datagrams"]:  # noqa: ASYNC110 (a counter, not an event)
                await asyncio.sleep(0)
            world.pass_time(1.1)
            acknowledgement = await client.read()
            assert acknowledgement == Packet(ACK, 0, client.mid, b"")
            client.send(wire)  # its acknowledgement may have been lost
            assert await client.read() == acknowledgement
            assert world.payloads() == []
            SlowDisk.gate.set()
            answer = await client.read()
            assert (answer.type, answer.code, answer.token) == (CON, Code.CHANGED, b"tk")
            world.pass_time(3.1)
            assert await client.read() == answer  # sent again until it is acknowledged
            client.acknowledge(answer)
            assert await client.fence() == []
            world.pass_time(100)
            assert await client.fence() == []
            assert world.payloads() == [SENML]

    asyncio.run(main())


def test_too_many_requests_waiting_for_the_disk_are_told_when_to_come_again(open_world: Any) -> None:
    async def main() -> None:
        SlowDisk.gate.set()
        async with open_world(database=SlowDisk, unanswered=2) as world:
            client = await world.client()
            SlowDisk.gate.clear()
            client.request(Code.POST)
            client.request(Code.POST)
            answer = await client.post()
            assert (answer.code, answer.uint(Opt.MAX_AGE)) == (Code.UNAVAILABLE, 2)
            assert world.counters["refused_busy"] == 1
            SlowDisk.gate.set()
            assert {(await client.read()).code for _ in range(2)} == {Code.CHANGED}

    asyncio.run(main())


def test_full_disk_is_said_and_the_same_request_succeeds_when_there_is_room(
    open_world: Any, failing_disk: Any, full_error: sqlite3.OperationalError
) -> None:
    async def main() -> None:
        async with open_world(database=failing_disk) as world:
            client = await world.client()
            failing_disk.fault = full_error
            wire = client.request(Code.POST, payload=SENML)
            answer = await client.read()
            assert (answer.code, answer.uint(Opt.MAX_AGE)) == (Code.UNAVAILABLE, 30)
            assert "full" in words(answer)
            failing_disk.fault = None
            client.send(wire)
            async with asyncio.timeout(20):
                while (answer := await client.read()).code != Code.CHANGED:
                    world.now[0] += 1  # so that no rate is in the way
                    client.send(wire)
            assert world.payloads() == [SENML]

    asyncio.run(main())


def test_failed_disk_is_never_an_acknowledgement(
    open_world: Any, failing_disk: Any, io_error: sqlite3.OperationalError
) -> None:
    async def main() -> None:
        async with open_world(database=failing_disk) as world:
            client = await world.client()
            failing_disk.fault = io_error
            answers = [await client.post(), await client.post()]
            assert {answer.code for answer in answers} == {Code.UNAVAILABLE}
            assert {answer.uint(Opt.MAX_AGE) for answer in answers} == {30}

    asyncio.run(main())


def test_thing_that_sends_too_fast_is_told(open_world: Any) -> None:
    async def main() -> None:
        async with open_world(thing_rate=1, thing_burst=2) as world:
            client = await world.client()
            codes = [(await client.post()).code for _ in range(3)]
            assert codes == [Code.CHANGED, Code.CHANGED, Code.TOO_MANY_REQUESTS]
            assert (await client.post(thing="b")).code == Code.CHANGED
            world.pass_time(1.1)
            assert (await client.post()).code == Code.CHANGED

    asyncio.run(main())


# Block-wise


def block1(num: int, more: bool, szx: int = 2) -> tuple[tuple[int, bytes], ...]:
    return ((Opt.BLOCK1, uint(num << 4 | more << 3 | szx)),)


def test_upload_in_blocks_is_one_message(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            body = bytes(range(150))
            for n in range(2):
                answer = await client.post(body[n * 64 : n * 64 + 64], fmt=42, options=block1(n, True))
                assert (answer.code, answer.first(Opt.BLOCK1)) == (Code.CONTINUE, block1(n, True)[0][1])
                assert world.payloads() == []
            answer = await client.post(body[128:], fmt=42, options=block1(2, False))
            assert (answer.code, answer.first(Opt.BLOCK1)) == (Code.CHANGED, block1(2, False)[0][1])
            assert world.payloads() == [body]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("num", "more", "size", "code"),
    [
        pytest.param(1, True, 64, Code.INCOMPLETE, id="begins in the middle"),
        pytest.param(0, True, 63, Code.INCOMPLETE, id="a block that is too short"),
        pytest.param(3, False, 64, Code.INCOMPLETE, id="only the last"),
        pytest.param(3000, True, 64, Code.TOO_LARGE, id="beyond the largest payload"),
    ],
)
def test_blocks_that_make_no_body_are_refused(
    open_world: Any, num: int, more: bool, size: int, code: Code
) -> None:
    async def main() -> None:
        async with open_world(max_payload=1000) as world:
            client = await world.client()
            answer = await client.post(b"x" * size, options=block1(num, more))
            assert answer.code == code

    asyncio.run(main())


def test_upload_that_says_it_will_be_too_large_is_refused_at_its_first_block(open_world: Any) -> None:
    async def main() -> None:
        async with open_world(max_payload=1000) as world:
            client = await world.client()
            for size, code in ((1000, Code.CONTINUE), (1001, Code.TOO_LARGE)):
                options = (*block1(0, True), (Opt.SIZE1, uint(size)))
                assert (await client.post(b"x" * 64, options=options)).code == code

    asyncio.run(main())


def test_upload_that_stops_is_forgotten(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            await client.post(b"x" * 64, options=block1(0, True))
            world.pass_time(94)
            assert (await client.post(b"x" * 64, options=block1(1, True))).code == Code.INCOMPLETE

    asyncio.run(main())


def test_uploads_are_bounded_by_number_and_bytes_and_by_rights(open_world: Any) -> None:
    async def main() -> None:
        async with open_world(uploads=3, uploads_per_thing=2, upload_bytes=300) as world:
            client = await world.client()

            async def begin(thing: str, sub: str) -> Packet:
                return await client.post(b"x" * 64, thing, sub=sub, options=block1(0, True))

            assert (await begin("stranger", "1")).code == Code.FORBIDDEN
            assert (await begin("a", "1")).code == Code.CONTINUE
            assert (await begin("a", "2")).code == Code.CONTINUE
            assert (await begin("a", "3")).code == Code.CONTINUE  # in place of the thing's oldest
            again = await client.post(b"x" * 64, sub="1", options=block1(1, True))
            assert again.code == Code.INCOMPLETE
            assert (await begin("b", "1")).code == Code.CONTINUE
            answer = await begin("b", "2")
            assert (answer.code, answer.uint(Opt.MAX_AGE)) == (Code.UNAVAILABLE, 2)
            full = await client.post(b"x" * 128, "b", sub="1", options=block1(0, True, 3))
            assert full.code == Code.CONTINUE
            full = await client.post(b"x" * 128, "b", sub="1", options=block1(1, True, 3))
            assert full.code == Code.UNAVAILABLE

    asyncio.run(main())
