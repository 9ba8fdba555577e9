"""Signed access tokens over CoAP: longer than an option, sent in pieces, and over when their time is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hub.coap.packets import CON, Code, Opt
from hub.tokens.bearer import AUDIENCE
from hub.tokens.scopes import parse
from hub.tokens.verifier import ACCESS_TOKEN, LEEWAY_S

OPTION_BYTES = 255  # RFC 7252, 5.10: of a Uri-Query
OBSERVE = ((Opt.OBSERVE, b""),)


def token(world: Any, scopes: str, thing: str = "a") -> str:
    """An access token of a thing, good for ten minutes."""
    registry, now_s = world.hub.registry, world.hub.now_s()
    grant, _ = registry.grants.add("thing", world.ids[thing], name="short", scopes=parse(scopes), now_s=now_s)
    claims = {
        "iss": world.hub.bearers.issuer,
        "aud": AUDIENCE,
        "sub": f"things/{world.ids[thing]}",
        "jti": "1",
        "iat": int(now_s),
        "exp": int(now_s) + 600,
        "grant": grant.id,
        "scope": scopes,
        "client_id": "app",
    }
    made: str = registry.signing.sign(claims, ACCESS_TOKEN)
    assert len(made) > OPTION_BYTES
    return made


def pieces(text: str, size: int = 250) -> tuple[str, ...]:
    return tuple(f"auth={text[at : at + size]}" for at in range(0, len(text), size))


@pytest.mark.parametrize("size", [250, 100])
def test_token_in_pieces_is_joined_in_their_order(open_world: Any, size: int) -> None:
    async def main() -> None:
        async with open_world() as world:
            client = await world.client()
            said = pieces(token(world, f"messages:write:{world.channel}"), size)
            for _ in range(2):  # the second by what was learnt from the first
                assert (await client.post(b"1", thing=None, queries=said, fmt=50)).code == Code.CHANGED
            (stored, _) = world.hub.log.read(0)
            assert stored.publisher == world.ids["a"]
            assert (await client.post(thing=None, queries=said[::-1])).code == Code.UNAUTHORIZED
            assert (await client.post(thing=None, queries=said[:-1])).code == Code.UNAUTHORIZED
            # As much as its scopes allow, and no longer than its grant is there.
            assert (await client.ask(Code.GET, None, queries=said)).code == Code.FORBIDDEN
            (grant,) = world.hub.registry.grants.of_owner("thing", world.ids["a"]).grants
            await asyncio.to_thread(world.hub.registry.grants.remove, grant.id)
            assert (await client.post(thing=None, queries=said)).code == Code.UNAUTHORIZED

    asyncio.run(main())


def test_what_is_observed_with_a_token_ends_with_it(open_world: Any) -> None:
    async def main() -> None:
        async with open_world() as world:
            client, keeper = await world.client(), await world.client()
            said = pieces(token(world, f"messages:read:{world.channel}"))
            for one, how in ((client, {"thing": None, "queries": said}), (keeper, {"thing": "b"})):
                one.request(Code.GET, options=OBSERVE, **how)
                assert (await one.read()).first(Opt.OBSERVE) is not None
                await one.pong()
            now_s = world.hub.now_s()
            assert await client.fence() == []
            clock = world.hub.clock
            world.hub.clock = lambda: (int((now_s + 599 + LEEWAY_S) * 1e9), clock()[1])
            world.door.tick()
            assert world.counters["observers_now"] == 2  # control: not a second early
            world.hub.clock = lambda: (int((now_s + 601 + LEEWAY_S) * 1e9), clock()[1])
            world.door.tick()
            (end,) = await client.fence()
            assert (end.type, end.code) == (CON, Code.UNAUTHORIZED)
            assert world.counters["observers_now"] == 1  # who observes with a key goes on

    asyncio.run(main())
