"""Following the log: nothing missing, nothing twice, in order, whatever the reader's pace; gaps are announced."""

from __future__ import annotations

import asyncio
import random
import shutil
from pathlib import Path
from typing import Any

from hub.http import follow
from hub.http.follow import Followers, Gap
from hub.hub import Hub, HubSettings
from hub.message import Message
from hub.topics import Filter

CHANNEL = "c1"


def message(make_message: Any, n: int, channel: str = CHANNEL, **more: Any) -> Message:
    made: Message = make_message(n, channel=channel, **more)
    return made


def drain(follower: Any, limit: int = 1000) -> list[Any]:
    """What can be had now, over however many readings of the log."""
    found: list[Any] = []
    while True:
        items = follower.take(limit)
        found += items
        if not items and follower._live:
            return found


def test_a_random_reader_gets_each_message_once_and_in_order(
    tmp_path: Path, make_message: Any, mocker: Any
) -> None:
    mocker.patch.object(follow, "QUEUE", 8)
    mocker.patch.object(follow, "ROWS", 5)

    async def main(seed: int) -> None:
        rng = random.Random(seed)
        hub = Hub.open(tmp_path / str(seed))
        followers = Followers(hub)
        before = await hub.log.append([message(make_message, n) for n in range(rng.randrange(30))])
        start = rng.randrange(len(before) + 1)
        ready = asyncio.Event()
        follower = followers.follow(Filter(CHANNEL, "#"), start, ready)
        got: list[int] = []
        sent = before[start:]
        for _ in range(60):
            if rng.random() < 0.5:
                channel = rng.choice((CHANNEL, CHANNEL, "c2"))
                made = [message(make_message, n, channel) for n in range(rng.randrange(1, 7))]
                seqs = await hub.log.append(made)
                sent += seqs if channel == CHANNEL else []
            else:
                got += [item.seq for item in follower.take(rng.randrange(1, 20))]
        got += [item.seq for item in drain(follower)]
        assert got == sent
        assert ready.is_set() or not sent
        follower.close()
        follower.close()
        await hub.log.append([message(make_message, 1)])
        assert follower.take(5) == []
        await hub.close()

    for seed in range(12):
        asyncio.run(main(seed))


def test_a_follower_without_a_start_sees_only_what_comes(tmp_path: Path, make_message: Any) -> None:
    async def main() -> None:
        hub = Hub.open(tmp_path)
        followers = Followers(hub)
        await hub.log.append([message(make_message, 1)])
        follower = followers.follow(Filter(CHANNEL, "a.+"), None, asyncio.Event(), without="me")
        for subtopic, publisher in (("a.b", "you"), ("a", "you"), ("a.c", "me"), ("a.d", "you")):
            await hub.log.append([Message(CHANNEL, subtopic, publisher, "mqtt", "application/json", b"1", 1)])
        assert [item.subtopic for item in drain(follower) if isinstance(item, Message)] == ["a.b", "a.d"]
        await hub.close()

    asyncio.run(main())


def test_what_retention_has_removed_is_announced(tmp_path: Path, make_message: Any) -> None:
    async def main() -> None:
        hub = Hub.open(tmp_path, settings=HubSettings(max_messages=100))
        followers = Followers(hub)
        for n in range(40):
            await hub.log.append([message(make_message, n * 10 + part) for part in range(10)])
        first = hub.log.first_seq
        assert first > 100
        follower = followers.follow(Filter(CHANNEL, "#"), 5, asyncio.Event())
        items = drain(follower)
        assert items[0] == Gap(6, first - 1)
        assert [item.seq for item in items[1:]] == list(range(first, 401))
        assert followers.gaps == 1
        again = followers.follow(Filter(CHANNEL, "#"), first - 1, asyncio.Event())
        assert [item.seq for item in drain(again)] == list(range(first, 401))
        await hub.close()

    asyncio.run(main())


def test_numbers_that_no_message_had_are_not_announced_as_missing(tmp_path: Path, make_message: Any) -> None:
    """A process killed before its first message leaves the numbers it had reserved unused."""

    async def main() -> None:
        first = Hub.open(tmp_path / "first")
        shutil.copytree(tmp_path / "first", tmp_path / "killed")
        await first.close()
        hub = Hub.open(tmp_path / "killed")
        (seq,) = await hub.log.append([message(make_message, 1)])
        assert seq > 1
        followers = Followers(hub)
        follower = followers.follow(Filter(CHANNEL, "#"), 0, asyncio.Event())
        assert [item.seq for item in drain(follower) if isinstance(item, Message)] == [seq]
        assert followers.gaps == 0
        await hub.close()

    asyncio.run(main())
