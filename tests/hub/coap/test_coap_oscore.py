"""OSCORE: vectors of RFC 8613, an aiocoap client, replays, and what outlives a crash."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import types
from pathlib import Path
from typing import Any

import aiocoap
import pytest
from aiocoap import oscore
from aiocoap.credentials import CredentialsMap

from hub.coap.admission import Address
from hub.coap.endpoint import Response
from hub.coap.oscore import BLOCK, Context, Contexts, Header, OscoreFault, Secured, decode_header, seal_key
from hub.coap.packets import CON, BadPacket, Code, Opt, Packet, decode, encode
from hub.errors import HubError, Invalid, NotFound
from hub.message import SENML_JSON
from tests.hub.coap.seeds import SEEDS, damage

SENML = b'[{"n":"temperature","u":"Cel","v":21.5}]'

# RFC 8613, Appendix C.1.2: the server's side of the context; C.4 and C.7 are a request and its answer.
SECRET = bytes.fromhex("0102030405060708090a0b0c0d0e0f10")
SALT = bytes.fromhex("9e7ca92223786340")
REQUEST = "44025d1f00003974396c6f63616c686f7374620914ff612f1092f1776f1c1668b3825e"
ANSWER = "64445d1f0000397490ffdbaad1e9a7e7b2a813d3c31524378303cdafae119106"


def rfc_context() -> Context:
    return Context(b"", "thing", SECRET, SALT, 0, fresh=True, sender_id=b"\x01")


def test_keys_are_those_of_the_rfc() -> None:
    context = rfc_context()
    assert context.sender_key.hex() == "ffb14e093c94c9cac9471648b4f98710"
    assert context.recipient_key.hex() == "f0910ed7295e6ad4b54fc793154302ff"
    assert context.common_iv.hex() == "4622d4dd6d944168eefb54987c"


def test_request_and_answer_of_the_rfc(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            contexts = world.door.contexts
            contexts._contexts[b""] = rfc_context()
            inner, secured = contexts.open(decode(bytes.fromhex(REQUEST)))
            assert inner.code == Code.GET
            assert inner.options == ((Opt.URI_PATH, b"tv1"),)
            answer = secured.protect(Response(Code.CONTENT, (), b"Hello World!"))
            assert answer is not None
            wire = encode(2, answer.code, 0x5D1F, bytes.fromhex("00003974"), answer.options, answer.payload)
            assert wire.hex() == ANSWER

    asyncio.run(main())


@pytest.mark.parametrize(
    ("option", "header"),
    [
        pytest.param("0914", Header(b"\x14", b""), id="C.4"),
        pytest.param("091400", Header(b"\x14", b"\x00"), id="C.5"),
        pytest.param(
            "190014083 7cbf3210017a2d3".replace(" ", ""), None, id="C.6: a context ID is not used here"
        ),
        pytest.param("", None, id="empty"),
        pytest.param("01", None, id="no kid"),
        pytest.param("08", None, id="no partial IV"),
        pytest.param("0e010203040506", None, id="reserved length"),
        pytest.param("0a01", None, id="cut short"),
        pytest.param("890100", None, id="reserved flag"),
        pytest.param("0901" + "00" * 8, None, id="long kid"),
    ],
)
def test_option_is_read(option: str, header: Header | None) -> None:
    assert decode_header(bytes.fromhex(option)) == header


class OfAiocoap(oscore.CanProtect, oscore.CanUnprotect, oscore.SecurityContextUtils):  # type: ignore[misc]
    """The thing's side, as another program would have it: aiocoap, with the parameters that were shown."""

    def __init__(self, given: Any) -> None:
        self.alg_aead = oscore.algorithms[given.algorithm]
        self.hashfun = oscore.hashfunctions["sha256"]
        self.sender_id, self.recipient_id = given.sender_id, given.recipient_id
        self.id_context = None
        self.sender_sequence_number = 0
        self.echo_recovery = None
        self.recipient_replay_window = oscore.ReplayWindow(32, lambda: None)
        self.recipient_replay_window.initialize_empty()
        self.derive_keys(given.master_salt, given.master_secret)

    def post_seqnoincrease(self) -> None:
        pass


class Thing:
    """A thing that protects its requests, over the datagrams of a test client."""

    def __init__(self, client: Any, given: Any) -> None:
        self.client = client
        self.context = OfAiocoap(given)
        self.requests: dict[bytes, Any] = {}

    def wire(
        self, code: int, *, token: bytes = b"o", sub: str = "", mid: int | None = None, **options: Any
    ) -> bytes:
        path = ("channels", self.client.world.channel, "messages", *(sub.split("/") if sub else ()))
        inner = aiocoap.Message(code=code, payload=options.pop("payload", b""))
        inner.opt.uri_path = options.pop("path", path)
        for name, value in options.items():
            setattr(inner.opt, name, value)
        outer, self.requests[token] = self.context.protect(inner)
        if mid is None:
            self.client.mid += 1
            mid = self.client.mid
        found = [(int(option.number), option.encode()) for option in outer.opt.option_list()]
        return encode(CON, int(outer.code), mid, token, tuple(found), outer.payload)

    def open(self, packet: Packet) -> Any:
        """What a protected answer says."""
        outer = aiocoap.Message(code=packet.code, payload=packet.payload)
        outer.opt.oscore = packet.first(Opt.OSCORE)
        outer.opt.observe = packet.uint(Opt.OBSERVE)
        outer.direction = aiocoap.message.Direction.INCOMING
        inner, _ = self.context.unprotect(outer, self.requests[packet.token])
        return inner

    async def ask(self, code: int, **parts: Any) -> Any:
        self.client.send(self.wire(code, **parts))
        return self.open(await self.client.read())


async def secured(world: Any, name: str = "a") -> Thing:
    return Thing(await world.client(), await world.door.contexts.create(world.ids[name]))


def test_protected_post_is_of_the_context_and_needs_no_key(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            thing = await secured(world)
            answer = await thing.ask(Code.POST, payload=SENML, content_format=110, sub="roof")
            assert int(answer.code) == Code.CHANGED
            (message,) = world.hub.log.read(0)
            assert (message.publisher, message.content_type, message.subtopic) == (
                world.ids["a"], SENML_JSON, "roof",
            )  # fmt: skip

    asyncio.run(main())


def test_key_of_another_thing_inside_a_protected_request_does_not_change_who_it_is(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            thing = await secured(world)
            answer = await thing.ask(Code.POST, payload=SENML, uri_query=(f"auth={world.keys['b']}",))
            assert int(answer.code) == Code.CHANGED
            assert world.hub.log.read(0)[0].publisher == world.ids["a"]

    asyncio.run(main())


def test_refusals_are_protected_too(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            stranger = await secured(world, "stranger")
            answer = await stranger.ask(Code.POST, payload=SENML)
            assert (int(answer.code), b"not connected" in answer.payload) == (Code.FORBIDDEN, True)
            answer = await stranger.ask(Code.DELETE)
            assert int(answer.code) == Code.METHOD_NOT_ALLOWED

    asyncio.run(main())


def test_nothing_of_a_protected_request_or_its_answer_is_readable(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            thing = await secured(world)
            wire = thing.wire(Code.POST, payload=SENML)
            thing.client.send(wire)
            await thing.client.read()
            thing.client.send(shown := thing.wire(Code.GET))
            answer = await thing.client.read()
            for secret in (SENML, b"temperature", world.channel.encode(), b"channels"):
                assert secret not in wire
                assert secret not in shown
                assert secret not in answer.payload
            assert thing.open(answer).payload == SENML

    asyncio.run(main())


def test_retransmission_has_the_same_answer_and_a_replay_is_refused(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            thing = await secured(world)
            wire = thing.wire(Code.POST, payload=SENML, mid=50)
            thing.client.send(wire)
            first = await thing.client.read()
            thing.client.send(wire)
            assert await thing.client.read() == first
            thing.client.send(wire[:2] + b"\x00\x99" + wire[4:])  # the same request in a message of its own
            replayed = await thing.client.read()
            assert (replayed.code, replayed.payload) == (Code.UNAUTHORIZED, b"Replay detected")
            assert world.payloads() == [SENML]
            assert world.counters["oscore_refused"] == 1

    asyncio.run(main())


def test_damaged_and_unknown_are_refused_in_clear(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            thing = await secured(world)
            wire = thing.wire(Code.POST, payload=SENML)
            for change, code, words in [
                (lambda p: p._replace(payload=p.payload[:-1] + b"!"), 0x80, b"Decryption failed"),
                (lambda p: p._replace(payload=b"short"), 0x80, b"Decryption failed"),
                (lambda p: p._replace(options=((9, b"\x09\x00none"),)), 0x81, b"Security context not found"),
                (lambda p: p._replace(options=((9, b"\x80"),)), 0x82, b"Failed to decode COSE"),
                (lambda p: p._replace(code=Code.GET), 0x85, b"OSCORE comes in POST or FETCH"),
            ]:  # fmt: skip
                changed = change(decode(wire))
                thing.client.send(encode(*changed))
                answer = await thing.client.read()
                assert (answer.code, answer.payload) == (code, words)
            assert world.payloads() == []
            thing.client.send(wire)  # none of that has spent its number
            assert int(thing.open(await thing.client.read()).code) == Code.CHANGED

    asyncio.run(main())


def test_after_a_restart_a_thing_answers_a_challenge_and_old_requests_are_not_played_again(
    open_world: Any,
) -> None:
    async def main() -> None:
        async with open_world() as world:
            thing = await secured(world)
            old = thing.wire(Code.GET, mid=60)
            thing.client.send(old)
            assert int(thing.open(await thing.client.read()).code) == Code.NOT_FOUND
        async with open_world() as world:
            thing.client = await world.client()
            answer = await thing.ask(Code.POST, payload=SENML)
            assert int(answer.code) == Code.UNAUTHORIZED
            assert world.payloads() == []
            thing.client.send(old)
            replayed = await thing.client.read()
            assert replayed.code == Code.CHANGED  # protected: a challenge that only the thing can read
            answer = await thing.ask(Code.POST, payload=SENML, echo=answer.opt.echo)
            assert int(answer.code) == Code.CHANGED
            thing.client.send(old[:2] + b"\x00\x99" + old[4:])
            assert (await thing.client.read()).payload == b"Replay detected"
            assert int((await thing.ask(Code.POST, payload=SENML)).code) == Code.CHANGED
            assert world.payloads() == [SENML, SENML]

    asyncio.run(main())


def test_copy_of_a_request_stored_before_a_restart_is_acknowledged_and_not_stored_again(
    open_world: Any,
) -> None:
    async def main() -> None:
        async with open_world() as world:
            thing = await secured(world)
            local = thing.client.transport.get_extra_info("sockname")
            wire = thing.wire(Code.POST, payload=SENML)
            thing.client.send(wire)
            before = await thing.client.read()
        async with open_world() as world:
            sent: list[bytes] = []
            world.door.endpoint.send = lambda data, _address: sent.append(data)
            await world.hub.log.flush()  # the next numbers are reserved
            world.door.receive(wire, Address(local))
            answer = decode(sent[0])
            assert int(thing.open(answer).code) == Code.CHANGED
            assert answer.payload != before.payload  # a nonce of its own
            assert world.payloads() == [SENML]

    asyncio.run(main())


def test_no_sender_sequence_number_is_used_twice_over_crashes(tmp_path: Path, open_world: Any) -> None:
    async def main() -> None:
        used: list[int] = []
        given: Any = None
        for _ in range(4):
            async with open_world() as world:
                if given is None:
                    given = await world.door.contexts.create(world.ids["a"])
                await world.hub.log.flush()
                context = world.door.contexts._contexts[given.sender_id]
                for _ in range(BLOCK // 2 + 40):
                    with contextlib.suppress(oscore.ContextUnavailable):
                        used.append(context.new_sequence_number())
                    await asyncio.sleep(0)
                # nothing is said to the disk at the end: what was reserved is gone
        assert len(used) == len(set(used))
        assert used == sorted(used)
        assert len(used) > 4 * BLOCK // 2

    asyncio.run(main())


def test_number_that_is_not_reserved_on_disk_is_not_used(
    open_world: Any, failing_disk: Any, full_error: Exception
) -> None:
    async def main() -> None:
        async with open_world(database=failing_disk) as world:
            given = await world.door.contexts.create(world.ids["a"])
            context = world.door.contexts._contexts[given.sender_id]
            failing_disk.fault = full_error
            for _ in range(BLOCK):
                context.new_sequence_number()
                await asyncio.sleep(0)
            with pytest.raises(oscore.ContextUnavailable):
                context.new_sequence_number()
            assert Secured(context, _request_of(context)).protect(Response(Code.CHANGED)) is None
            failing_disk.fault = None
            async with asyncio.timeout(20):
                while context.usable_below == BLOCK:
                    with contextlib.suppress(oscore.ContextUnavailable):
                        context.new_sequence_number()
                    await asyncio.sleep(0.001)
            assert context.new_sequence_number() >= BLOCK

    asyncio.run(main())


def _request_of(context: Context) -> Any:
    return oscore.RequestIdentifiers(
        context.recipient_id, b"\x01", can_reuse_nonce=False, request_code=aiocoap.POST
    )


def test_observation_is_protected_and_each_notification_has_a_number_of_its_own(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            thing = await secured(world)
            publisher = await world.client()
            first = await thing.ask(Code.GET, token=b"w", observe=0)
            assert int(first.code) == Code.CONTENT
            await thing.client.pong()
            await thing.client.fence()
            ivs = set()
            for n in range(3):
                await publisher.post(b"%d" % n, fmt=42)
                told = await thing.client.read()
                assert told.first(Opt.OBSERVE) is not None
                assert thing.open(told).payload == b"%d" % n
                ivs.add(told.first(Opt.OSCORE))
            assert len(ivs) == 3
            await asyncio.to_thread(world.hub.registry.remove_thing, world.ids["a"])
            ended = thing.open(await thing.client.read())
            assert int(ended.code) == Code.UNAUTHORIZED
            thing.client.send(thing.wire(Code.GET))
            assert (await thing.client.read()).payload == b"Security context not found"

    asyncio.run(main())


def test_blocks_go_both_ways_inside(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            thing = await secured(world)
            body = bytes(n % 251 for n in range(1300))
            first = await thing.ask(Code.POST, payload=body[:1024], content_format=42, block1=(0, True, 6))
            assert int(first.code) == Code.CONTINUE
            last = await thing.ask(Code.POST, payload=body[1024:], content_format=42, block1=(1, False, 6))
            assert int(last.code) == Code.CHANGED
            assert world.payloads() == [body]
            fetched, num, szx, more = b"", 0, 6, True
            while more:
                answer = await thing.ask(Code.GET, block2=(num, False, szx))
                fetched += answer.payload
                num, more, szx = (
                    answer.opt.block2.block_number + 1,
                    answer.opt.block2.more,
                    answer.opt.block2.size_exponent,
                )
            assert fetched == body

    asyncio.run(main())


def test_context_is_made_for_a_thing_that_exists_and_ends_when_it_is_removed(open_world: Any) -> None:
    async def main() -> None:
        async with open_world(oscore_contexts=2) as world:
            contexts = world.door.contexts
            with pytest.raises(NotFound):
                await contexts.create("nobody")
            one, two = [await contexts.create(world.ids["a"]) for _ in range(2)]
            assert one.sender_id != two.sender_id
            assert one.master_secret != two.master_secret
            with pytest.raises(Invalid):
                await contexts.create(world.ids["b"])
            assert sorted(contexts.of(world.ids["a"])) == sorted((one.sender_id.hex(), two.sender_id.hex()))
            await contexts.remove(one.sender_id.hex())
            assert contexts.of(world.ids["a"]) == [two.sender_id.hex()]
            for unknown in (one.sender_id.hex(), "zz", ""):
                with pytest.raises(HubError):
                    await contexts.remove(unknown)
        async with open_world() as world:
            assert world.door.contexts.of(world.ids["a"]) == [two.sender_id.hex()]
            await asyncio.to_thread(world.hub.registry.remove_thing, world.ids["a"])
            await asyncio.sleep(0)
            assert len(world.door.contexts) == 0
        async with open_world() as world:
            assert len(world.door.contexts) == 0

    asyncio.run(main())


def test_secrets_are_sealed_on_disk_and_of_no_use_without_the_gateways_key(
    open_world: Any, tmp_path: Path
) -> None:
    async def main() -> None:
        async with open_world() as world:
            given = await world.door.contexts.create(world.ids["a"])
            await world.hub.log.flush()
            files = [path.read_bytes() for path in (tmp_path / "data").iterdir() if path.is_file()]
            assert not any(given.master_secret in content for content in files)
            assert any(given.sender_id in content for content in files)  # the control: it is there
            other = Contexts(
                world.hub.log, world.hub.registry, seal_key(lambda *_: bytes(32)), world.door.limits
            )
            await other.load()
            assert len(other) == 0

    asyncio.run(main())


def test_context_outlives_a_damaged_log_and_its_numbers_jump(open_world: Any, tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world() as world:
            given = await world.door.contexts.create(world.ids["a"])
            highest = world.door.contexts._contexts[given.sender_id].usable_below
        (tmp_path / "data" / "log.db").write_bytes(b"no database" * 1000)
        async with open_world() as world:
            context = world.door.contexts._contexts[given.sender_id]
            assert context.thing == world.ids["a"]
            assert context.sender_sequence_number >= highest + (1 << 24)
            thing = Thing(await world.client(), given)
            answer = await thing.ask(Code.POST, payload=SENML)
            assert int(answer.code) == Code.UNAUTHORIZED
            answer = await thing.ask(Code.POST, payload=SENML, echo=answer.opt.echo)
            assert int(answer.code) == Code.CHANGED

    asyncio.run(main())


def test_context_that_was_removed_ends_its_observations(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            thing = await secured(world)
            await thing.ask(Code.GET, token=b"w", observe=0)
            await thing.client.pong()
            await thing.client.fence()
            (sender_id,) = world.door.contexts.of(world.ids["a"])
            await world.door.contexts.remove(sender_id)
            ended = thing.open(await thing.client.read())
            assert int(ended.code) == Code.UNAUTHORIZED
            assert world.counters["observers_now"] == 0

    asyncio.run(main())


def as_documented(given: Any) -> dict[str, str]:
    """The parameters in the file that docs/coap.md shows."""
    page = (Path(__file__).parents[3] / "docs" / "coap.md").read_text()
    names = json.loads(page[page.index('{"sender-id_hex"') :].partition("```")[0])
    assert names["algorithm"] == given.algorithm
    file = {
        "sender-id_hex": given.sender_id.hex(),
        "recipient-id_hex": given.recipient_id.hex(),
        "secret_hex": given.master_secret.hex(),
        "salt_hex": given.master_salt.hex(),
        "algorithm": given.algorithm,
    }
    assert file.keys() == names.keys()
    return file


def test_an_aiocoap_client_works_with_what_was_shown_also_over_a_restart(
    open_world: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Its OSCORE client imports a library for EDHOC, which nothing here uses and which not every machine has.
    monkeypatch.setitem(sys.modules, "lakers", types.ModuleType("lakers"))

    async def main() -> None:
        folder = tmp_path / "thing"
        folder.mkdir()
        credentials = CredentialsMap()
        for run in range(2):
            async with open_world() as world:
                if not run:
                    given = await world.door.contexts.create(world.ids["a"])
                    (folder / "secret.json").write_text(json.dumps(as_documented(given)))
                    credentials.load_from_dict({"coap://gateway/*": {"oscore": {"basedir": f"{folder}/"}}})
                context = credentials["coap://gateway/*"]
                client = await aiocoap.Context.create_client_context(transports=["oscore", "simple6"])
                client.client_credentials = CredentialsMap({f"coap://127.0.0.1:{world.door.port}/*": context})
                uri = world.uri("roof").partition("?")[0]
                try:
                    posted = await client.request(
                        aiocoap.Message(code=aiocoap.POST, uri=uri, payload=SENML, content_format=110)
                    ).response
                    assert int(posted.code) == Code.CHANGED
                    shown = await client.request(aiocoap.Message(code=aiocoap.GET, uri=uri)).response
                    assert shown.payload == SENML
                    assert world.counters["oscore_requests"] == 2 + run  # the challenge after the restart
                    principal = world.hub.authenticate_thing(world.keys["b"])
                    for _ in range(20):
                        world.hub.post(
                            *(principal, "http", world.channel, "log", "application/senml+json", SENML)
                        )
                    await world.hub.log.flush()
                    page = await client.request(
                        aiocoap.Message(code=aiocoap.GET, uri=f"{uri.rpartition('/')[0]}?limit=20")
                    ).response
                    assert len(page.payload) > 1024, "in blocks"
                    assert json.loads(page.payload)["limit"] == 20
                finally:
                    await client.shutdown()
                assert len(world.payloads()) == 21 * (1 + run)

    asyncio.run(main())


def test_damaged_protected_requests_have_declared_outcomes_only(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            thing = await secured(world)
            rng = random.Random(8613)
            seen = set()
            for _ in range(3000):
                try:
                    packet = decode(damage(rng, thing.wire(Code.POST, payload=SENML)))
                except BadPacket:
                    continue
                try:
                    world.door.contexts.open(packet)
                    seen.add(0)
                except OscoreFault as fault:
                    seen.add(fault.response.code)
            assert seen == {0, 0x80, 0x81, 0x82, 0x85}

    asyncio.run(main())


def test_garbage_from_one_who_has_the_key_has_declared_outcomes_only(open_world: Any, caplog: Any) -> None:
    async def main() -> None:
        async with open_world(stranger_rate=1e6, stranger_burst=1e6) as world:
            thing = await secured(world)
            rng = random.Random(8614)
            outer = aiocoap.Message(code=aiocoap.POST)
            codes = set()
            for n in range(1500):
                plain = rng.randbytes(rng.randint(1, 60))
                if n % 2:
                    plain = damage(rng, rng.choice(SEEDS))[3:] or b"\x01"
                monkey = outer.copy()
                monkey.direction = aiocoap.message.Direction.OUTGOING
                thing.context._split_message = lambda *_, inside=plain, out=monkey: (out, inside)
                thing.client.send(thing.wire(Code.POST))
                answer = await thing.client.read()
                codes.add(answer.code if answer.first(Opt.OSCORE) is None else int(thing.open(answer).code))
            assert codes <= {0x44, 0x45, 0x5F, 0x80, 0x82, 0x84, 0x85, 0x86, 0x88, 0x8F, 0xA5}
            assert {0x80, 0x82, 0x84, 0x85} <= codes

    asyncio.run(main())
    (line,) = [record.getMessage() for record in caplog.records]  # the clock stands still: one a second
    assert "4.0" in line
