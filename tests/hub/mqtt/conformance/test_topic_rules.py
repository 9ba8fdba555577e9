"""Thousands of seeded topics and filters, most of them meant to slip through: nobody gets beyond his channel.

The rule is told by a model that knows no parsing: what was granted or taken, brought to the plain form, begins with
`channels/<the thing's own channel>/messages`.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.hub.mqtt.conformance import wire
from tests.hub.mqtt.conformance.wire import V5

FILTERS = 10_000
TOPICS = 3_000
PER_PACKET = 40
ODD = [
    *(
        "",
        "+",
        "channels",
        "messages",
        "mainflux",
        "$SYS",
        "$share",
        "broker",
        "..",
        ".",
        "%c",
        "%u",
        "*",
        ">",
        "~",
    ),
    *(
        "Channels",
        "CHANNELS",
        "channels ",
        " channels",
        "ch\u0430nnels",
        "\ufeffchannels",
        "messages\u200b",
        "a.b",
    ),
    *(
        "messages.",
        ".messages",
        "senml-json",
        "octet-stream",
        "room",
        "x" * 300,
        "\U0001f4a7",
        "\u202e",
        "'",
        '"',
        "\\",
    ),
]


def levels(rng: random.Random, own: str, other: str) -> list[str]:
    """A path that is nearly right, or nothing of the kind."""
    path = [
        "channels",
        own if rng.random() < 0.5 else other,
        "messages",
        *rng.choices(ODD, k=rng.randrange(4)),
    ]
    for _ in range(rng.randrange(3)):
        where = rng.randrange(len(path) + 1)
        match rng.randrange(4):
            case 0:
                path.insert(where, rng.choice([*ODD, own, other]))
            case 1:
                del path[where : where + 1]
            case 2:
                path[where : where + 1] = [rng.choice([*ODD, own.upper(), own + " ", own[:-1], other])]
            case 3:
                path = [*rng.choice([["mainflux"], [""], ["$share", "g"], ["$SYS"], ["mainflux", ""]]), *path]
    if rng.random() < 0.1:
        path += ["a"] * rng.choice([31, 32, 33, 200, 2000])
    return path


def filters(rng: random.Random, own: str, other: str) -> Iterator[str]:
    for _ in range(FILTERS):
        text = "/".join([*levels(rng, own, other), *(["#"] if rng.random() < 0.4 else [])])
        if text and len(text.encode()) < 60_000:
            yield text


def contained(text: str, own: str) -> bool:
    """Whether all that a granted filter can match is of the own channel."""
    if text.startswith("$share/"):
        text = text.split("/", 2)[2]
    plain = text.removeprefix("/").removeprefix("mainflux/")
    home = f"channels/{own}/messages"
    return plain == home or plain.startswith(home + "/")


@pytest.mark.parametrize("thing", ["b", "stranger"])
def test_no_filter_reaches_beyond_the_own_channel(open_arena: Any, version: int, thing: str) -> None:
    async def main() -> None:
        async with open_arena(version) as arena:
            registry = arena.world.hub.registry
            other = registry.create_channel("another").id
            own = arena.world.channel
            client = await arena.client(thing)
            granted = 0
            texts = filters(random.Random(f"{version} {thing}"), own, other)
            while batch := list(itertools.islice(texts, PER_PACKET)):
                client.send(wire.subscribe(version, 1, [(text, 0) for text in batch]))
                seen = await client.read_until_closed_or(wire.SUBACK)
                if not seen or seen[-1].kind != wire.SUBACK:  # one was malformed: each again by itself
                    client = await arena.client(thing)
                    codes = []
                    for text in batch:
                        client.send(wire.subscribe(version, 1, [(text, 0)]))
                        seen = await client.read_until_closed_or(wire.SUBACK)
                        if seen and seen[-1].kind == wire.SUBACK:
                            codes += seen[-1].codes
                        else:
                            codes.append(0x80)
                            client = await arena.client(thing)
                else:
                    codes = list(seen[-1].codes)
                taken = [text for text, code in zip(batch, codes, strict=True) if code < 0x80]
                assert [text for text in taken if thing == "stranger" or not contained(text, own)] == []
                granted += len(taken)
                if taken:
                    await client.unsubscribe(*taken)
            assert (granted > FILTERS // 20) == (thing == "b")  # the generator does make good ones

    asyncio.run(main())


def test_no_topic_reaches_beyond_the_own_channel(open_arena: Any) -> None:
    """Taken messages are in the log under the channel they were sent to, and none under another."""

    async def main() -> None:
        async with open_arena(V5) as arena:
            other = arena.world.hub.registry.create_channel("another").id
            own = arena.world.channel
            rng = random.Random(5)
            client = await arena.client("a")
            taken = 0
            for _ in range(TOPICS):
                topic = "/".join(level for level in levels(rng, own, other) if level != "+")
                if not topic or len(topic.encode()) > 60_000:
                    continue
                client.publish(topic, b"x", 1)
                answer = await client.read()
                if answer.kind != wire.PUBACK:
                    assert answer.code >= 0x80
                    client = await arena.client("a")
                elif answer.code < 0x80:
                    # A publisher of 2017 may leave out what follows the channel.
                    assert contained(topic, own) or topic.removeprefix("/") == f"mainflux/channels/{own}", (
                        topic
                    )
                    taken += 1
            await client.fence()
            found = arena.world.hub.log.read(0, limit=TOPICS)
            assert {message.channel for message in found} == {own}
            assert len(found) == taken > TOPICS // 20
            assert all(len(message.subtopic) <= 1024 for message in found)

    asyncio.run(main())
