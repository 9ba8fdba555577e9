"""Requests of many connections that come in one turn of the loop: each gets its own answer, whatever the others get."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from hub.errors import BadMessage, Busy, HubError, LogFailed
from hub.http import burst
from hub.http.burst import MAX_BURST, MAX_BURST_BYTES, Burst
from hub.http.publish import Head, Publisher
from hub.message import OCTET_STREAM, Message
from tests.hub.http.wire import read_answer

HEAD = Head(b"Thing k", "c", "", OCTET_STREAM, 0)
Run = Callable[..., None]


class FakePublisher:
    """Numbers messages as the log does; what it was given is in `taken`, each burst a list."""

    def __init__(self, refuse: Exception | None = None) -> None:
        self.refuse = refuse
        self.taken: list[list[Message]] = []
        self.waiting: list[Callable[[HubError | None], None]] = []
        self.seq = 0

    def admit(self, head: Head, payload: bytes, source_ip: str) -> Message:
        if payload == b"bad":
            raise BadMessage("no")
        self.seq += 1
        return Message(head.channel, "", source_ip, "http", OCTET_STREAM, payload, 0, self.seq)

    def submit(self, messages: Sequence[Message], done: Callable[[HubError | None], None]) -> None:
        if self.refuse:
            raise self.refuse
        self.taken.append(list(messages))
        self.waiting.append(done)


class FakeSender:
    """A connection that notes what it is told, and can break."""

    def __init__(self, *, broken: bool = False) -> None:
        self.told: list[int | Exception] = []
        self.broken = broken

    def stored(self, seq: int) -> None:
        if self.broken:
            raise ZeroDivisionError
        self.told.append(seq)

    def failed(self, error: Exception) -> None:
        self.told.append(error)


def in_a_loop(publisher: FakePublisher, use: Callable[[Burst], None]) -> None:
    """Run `use`, then the end of the turn."""

    async def main() -> None:
        use(Burst(cast(Publisher, publisher)))
        await asyncio.sleep(0)

    asyncio.run(main())


def send(many: Burst, senders: Sequence[FakeSender], payloads: Sequence[bytes]) -> None:
    for sender, payload in zip(senders, payloads, strict=True):
        many.add(sender, HEAD, payload, "10.0.0.1")


def test_what_comes_in_one_turn_goes_to_the_log_at_once_and_each_is_told_its_number() -> None:
    publisher, senders = FakePublisher(), [FakeSender() for _ in range(5)]
    in_a_loop(publisher, lambda many: send(many, senders, [b"%d" % n for n in range(5)]))
    (messages,) = publisher.taken
    assert [message.payload for message in messages] == [b"0", b"1", b"2", b"3", b"4"]
    assert [sender.told for sender in senders] == [[]] * 5, "nothing is durable yet"
    publisher.waiting[0](None)
    assert [sender.told for sender in senders] == [[1], [2], [3], [4], [5]]


def test_a_message_that_is_refused_leaves_the_others_theirs() -> None:
    publisher, senders = FakePublisher(), [FakeSender() for _ in range(3)]
    in_a_loop(publisher, lambda many: send(many, senders, [b"a", b"bad", b"b"]))
    publisher.waiting[0](None)
    assert [sender.told for sender in (senders[0], senders[2])] == [[1], [2]]
    assert [type(error) for error in senders[1].told] == [BadMessage]


def test_where_all_are_refused_the_log_is_not_asked() -> None:
    publisher, senders = FakePublisher(), [FakeSender() for _ in range(2)]
    in_a_loop(publisher, lambda many: send(many, senders, [b"bad", b"bad"]))
    assert publisher.taken == []
    assert [len(sender.told) for sender in senders] == [1, 1]


@pytest.mark.parametrize("error", [Busy("full"), ZeroDivisionError("our own fault")], ids=["busy", "bug"])
def test_when_the_log_takes_nothing_everybody_is_told_why(error: Exception) -> None:
    senders = [FakeSender() for _ in range(3)]
    in_a_loop(FakePublisher(error), lambda many: send(many, senders, [b"a", b"b", b"c"]))
    assert [sender.told for sender in senders] == [[error]] * 3


def test_when_the_commit_fails_nobody_is_told_a_number() -> None:
    publisher, senders = FakePublisher(), [FakeSender() for _ in range(3)]
    in_a_loop(publisher, lambda many: send(many, senders, [b"a", b"b", b"c"]))
    error = LogFailed("the disk is gone")
    publisher.waiting[0](error)
    assert [sender.told for sender in senders] == [[error]] * 3


def test_a_connection_that_cannot_be_answered_keeps_nobody_else_waiting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    publisher = FakePublisher()
    senders = [FakeSender(), FakeSender(broken=True), FakeSender()]
    in_a_loop(publisher, lambda many: send(many, senders, [b"a", b"b", b"c"]))
    with caplog.at_level(logging.ERROR, "hub.http"):
        publisher.waiting[0](None)
    assert [sender.told for sender in senders] == [[1], [], [3]]
    assert [record.getMessage() for record in caplog.records] == ["an answer failed"]


@pytest.mark.parametrize(
    ("payload", "count"),
    [
        pytest.param(b"a", MAX_BURST, id="many messages"),
        pytest.param(bytes(MAX_BURST_BYTES // 4), 4, id="large messages"),
    ],
)
def test_a_burst_that_has_reached_its_bound_does_not_wait_for_the_end_of_the_turn(
    payload: bytes, count: int
) -> None:
    publisher = FakePublisher()

    def use(many: Burst) -> None:
        send(many, [FakeSender() for _ in range(count - 1)], [payload] * (count - 1))
        assert publisher.taken == []
        send(many, [FakeSender()], [payload])
        assert [len(messages) for messages in publisher.taken] == [count]
        send(many, [FakeSender()], [b"one more"])

    in_a_loop(publisher, use)
    assert [len(messages) for messages in publisher.taken] == [count, 1]


def test_the_next_request_of_a_connection_that_was_refused_is_in_the_next_burst() -> None:
    publisher, other = FakePublisher(), FakeSender()

    class Pipelining(FakeSender):
        def failed(self, error: Exception) -> None:
            super().failed(error)
            many[0].add(self, HEAD, b"next", "")

    one, many = Pipelining(), list[Burst]()

    async def main() -> None:
        many.append(Burst(cast(Publisher, publisher)))
        send(many[0], [one, other], [b"bad", b"a"])
        for _ in range(3):
            await asyncio.sleep(0)

    asyncio.run(main())
    assert [[message.payload for message in messages] for messages in publisher.taken] == [[b"a"], [b"next"]]


def test_many_connections_at_once_are_each_answered_for_their_own_message(run: Run) -> None:
    async def scenario(site: Any) -> None:
        def request(n: int) -> bytes:
            value = b"null" if n % 7 == 3 else b"%04d" % (1000 + n)
            body = b'[{"n":"level","v":%b}]' % value
            head = (
                f"POST {site.messages} HTTP/1.1\r\nHost: a\r\nAuthorization: Thing {site.key}\r\n"
                f"Content-Type: application/senml+json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            return head.encode() + body

        count = burst.MAX_BURST + 20
        ends = [await asyncio.open_connection("127.0.0.1", site.door.port) for _ in range(count)]

        async def answer(n: int) -> tuple[int, str]:
            said = await read_answer(ends[n][0])
            return said.status, said.headers.get("fluxgate-seq", "")

        ends[0][1].write(request(0))  # teaches the door the head
        assert (await answer(0))[0] == 202
        stored: dict[int, bytes] = {}
        for turn in range(3):
            for n in range(count):
                ends[n][1].write(request(n))
            answers = [await answer(n) for n in range(count)]
            stored = {message.seq: message.payload for message in site.hub.log.read(0, None, 10_000)}
            for n, (status, seq) in enumerate(answers):
                if n % 7 == 3:
                    assert (status, seq) == (400, "")
                else:
                    assert status == 202
                    assert stored[int(seq)] == request(n)[-len(stored[int(seq)]) :], (turn, n)
        bad = len(range(3, count, 7))
        assert len(stored) == 1 + 3 * (count - bad)
        assert site.door.wire.direct == 3 * count
        for _, writer in ends:
            writer.close()

    run(scenario)
