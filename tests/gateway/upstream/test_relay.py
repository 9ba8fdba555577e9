"""The relay over the real log, with sinks that do as the test says."""

import asyncio
import random

import pytest

from gateway.upstream.backoff import Backoff
from gateway.upstream.errors import SinkOffline, SinkRefused
from gateway.upstream.refusals import MIGRATIONS
from gateway.upstream.relay import Relay
from gateway.upstream.sink import UpstreamState
from hub.log import Gap, Log
from hub.message import TimeQuality


class FakeSink:
    """Takes what it is given while `fault` is None; `lies` says "delivered" for what it then forgets."""

    def __init__(self, name: str = "cloud", window: int = 10) -> None:
        self.name = name
        self.window = window
        self.rejected = 0
        self.on_rejected = None
        self.fault = None
        self.takes = None  # of each batch; None: all
        self.lies = False
        self.got = []
        self.told = []
        self.gaps = []
        self.heard = []  # messages and gaps, in the order in which they were known there
        self.refusal = ""  # of what is announced
        self.opened = 0
        self.batches = []
        self._on_lost = None

    async def open(self, on_lost) -> None:
        self.opened += 1
        self._on_lost = on_lost
        self.check()

    def check(self) -> None:
        if self.fault:
            raise self.fault

    async def deliver(self, batch) -> int:
        self.check()
        await asyncio.sleep(0)
        self.batches.append(len(batch))
        arrived = batch if self.takes is None else batch[: self.takes]
        if not self.lies:
            self.got += arrived
            self.heard += arrived
        return len(arrived)

    async def announce(self, news) -> str:
        self.check()
        await asyncio.sleep(0)
        (self.gaps if isinstance(news, Gap) else self.told).append(news)
        self.heard.append(news)
        return self.refusal

    async def close(self) -> None:
        pass

    def lose(self, fault) -> None:
        self.fault = fault
        self._on_lost()


def quick() -> Backoff:
    return Backoff(base_s=0.001, cap_s=0.001)


def numbers(sink: FakeSink) -> list[int]:
    return [message.seq for message in sink.got]


def test_everything_committed_arrives_once_and_in_order(tmp_path, message, running, until) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        sink = FakeSink()
        before = await log.append([message(n) for n in range(25)])
        async with running(Relay(log, sink)) as relay:
            after = await log.append([message(n) for n in range(25, 50)])
            await until(lambda: len(sink.got) >= 50)
            assert numbers(sink) == before + after
            assert log.cursor("upstream/cloud") == after[-1]
            assert (relay.status().queued, relay.status().delivered) == (0, 50)
        await log.close()

    asyncio.run(main())


def test_the_cursor_moves_only_over_what_arrived(tmp_path, message, running, until) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        sink = FakeSink(window=10)
        sink.takes = 3
        seqs = await log.append([message(n) for n in range(10)])
        async with running(Relay(log, sink)):
            await until(lambda: len(sink.got) == 10)
            assert numbers(sink) == seqs
        await log.close()

    asyncio.run(main())


def test_a_batch_is_never_larger_than_the_window(tmp_path, message, running, until) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        sink = FakeSink(window=7)
        await log.append([message(n) for n in range(100)])
        async with running(Relay(log, sink)):
            await until(lambda: len(sink.got) == 100)
        assert max(sink.batches) == 7
        await log.close()

    asyncio.run(main())


def test_large_messages_make_small_batches(tmp_path, message, running, until) -> None:
    """Four MiB are enough for a batch; they are looked at after each 16 messages."""

    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        sink = FakeSink(window=100)
        sizes = [10] * 20 + [300_000] * 40
        await log.append([message(n, payload=bytes(size)) for n, size in enumerate(sizes)])
        async with running(Relay(log, sink)):
            await until(lambda: len(sink.got) == 60)
        assert sink.batches == [48, 12]
        await log.close()

    asyncio.run(main())


def test_an_outage_keeps_the_reason_and_counts_what_waits(tmp_path, message, running, until) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        sink = FakeSink()
        async with running(Relay(log, sink, backoff=quick())) as relay:
            await until(lambda: relay.status().state is UpstreamState.CONNECTED)
            sink.lose(SinkOffline("the connection was lost"))
            await until(lambda: relay.status().state is UpstreamState.OFFLINE)
            await log.append([message(n) for n in range(30)])
            status = relay.status()
            assert (status.detail, status.queued) == ("the connection was lost", 30)
            sink.fault = SinkRefused("wrong user name or password")
            await until(lambda: relay.status().state is UpstreamState.REFUSED)
            assert relay.status().detail == "wrong user name or password"
            sink.fault = None
            await until(lambda: len(sink.got) == 30)
            assert relay.status().state is UpstreamState.CONNECTED
            assert relay.status().queued == 0
        await log.close()

    asyncio.run(main())


def test_a_person_can_pause_and_resume(tmp_path, message, running, until) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        sink = FakeSink()
        async with running(Relay(log, sink)) as relay:
            await until(lambda: relay.status().state is UpstreamState.CONNECTED)
            relay.pause()
            await until(lambda: relay.status().state is UpstreamState.PAUSED)
            await log.append([message(n) for n in range(5)])
            assert (relay.status().queued, len(sink.got)) == (5, 0)
            relay.resume()
            await until(lambda: len(sink.got) == 5)
        await log.close()

    asyncio.run(main())


def test_pausing_ends_the_wait_between_two_attempts(tmp_path, running, until) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        sink = FakeSink()
        sink.fault = SinkOffline("host not found")
        patient = Backoff(base_s=1e6, cap_s=1e6)
        async with running(Relay(log, sink, backoff=patient)) as relay:
            await until(lambda: sink.opened == 1)
            relay.pause()
            await until(lambda: relay.status().state is UpstreamState.PAUSED)
            sink.fault = None
            relay.resume()
            await until(lambda: relay.status().state is UpstreamState.CONNECTED)
        await log.close()

    asyncio.run(main())


def test_a_restart_goes_on_after_the_cursor(tmp_path, message, running, until) -> None:
    async def main() -> None:
        seqs = []
        sinks = [FakeSink(), FakeSink()]
        for sink in sinks:
            log = Log.open(tmp_path / "log.db")
            seqs += await log.append([message(n) for n in range(10)])
            async with running(Relay(log, sink)):
                await until(lambda sink=sink: len(sink.got) == 10)
            await log.close()
        assert numbers(sinks[0]) + numbers(sinks[1]) == seqs

    asyncio.run(main())


def test_two_destinations_each_get_everything(tmp_path, message, running, until) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        fast, down = FakeSink("fast"), FakeSink("down")
        down.fault = SinkOffline("host not found")
        async with running(Relay(log, fast)), running(Relay(log, down, backoff=quick())) as relay:
            seqs = await log.append([message(n) for n in range(20)])
            await until(lambda: len(fast.got) == 20)
            assert relay.status().queued == 20
            down.fault = None
            await until(lambda: len(down.got) == 20)
        assert numbers(fast) == numbers(down) == seqs
        await log.close()

    asyncio.run(main())


def test_messages_for_others_do_not_hold_the_cursor_back(tmp_path, message, running, until) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        sink = FakeSink()
        wanted = await log.append([message(0, device="mine")])
        seqs = await log.append([message(n, device="other") for n in range(2500)])
        async with running(Relay(log, sink, match=lambda each: each.publisher == "mine")):
            await until(lambda: log.cursor("upstream/cloud") == seqs[-1])
            assert numbers(sink) == wanted
        await log.close()

    asyncio.run(main())


def test_what_retention_removed_is_counted(tmp_path, message, until) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db", max_messages=1000)
        sink = FakeSink()
        relay = Relay(log, sink)
        for _ in range(40):
            await log.append([message(n) for n in range(100)])
        missed = relay.status().missed
        assert missed
        assert missed + log.message_count == 4000
        await log.close()

    asyncio.run(main())


def holds(sink: FakeSink) -> None:
    """Each number is known at the sink exactly once: as a message, or as part of a hole that was told in its place."""
    known = 0
    for each in sink.heard:
        if isinstance(each, Gap):
            assert each.last_seq > known
            known = each.last_seq
        else:
            assert each.seq == known + 1
            known = each.seq


def test_what_retention_took_is_told_before_what_follows_it(tmp_path, message, running, until) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db", max_messages=1000)
        sink = FakeSink()
        relay = Relay(log, sink)
        for _ in range(40):
            (*_, last) = await log.append([message(n) for n in range(100)])
        async with running(relay):
            await until(lambda: log.cursor("upstream/cloud") == last)
            (gap,) = sink.gaps
            assert sink.heard[0] is gap
            assert (gap.first_seq, gap.messages) == (1, relay.status().missed)
            holds(sink)
            await log.append([message(0)])
            await until(lambda: len(sink.heard) == 2 + len(sink.got) - 1)
            assert sink.gaps == [gap]
        await log.flush()
        await log.close()
        log = Log.open(tmp_path / "log.db", max_messages=1000)
        again = FakeSink()
        async with running(Relay(log, again)):  # after a start nothing is told that was told
            (last,) = await log.append([message(0)])
            await until(lambda: log.cursor("upstream/cloud") == last)
        assert not again.gaps
        await log.close()

    asyncio.run(main())


def test_what_retention_took_is_told_after_breaks_and_a_restart_until_the_sink_knows(
    tmp_path, message, running, until
) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db", max_messages=1000)
        sink = FakeSink()
        broken = []

        async def breaks(news) -> str:
            broken.append(news)
            raise SinkOffline("the connection was lost")

        sink.announce = breaks
        relay = Relay(log, sink, backoff=quick())
        for _ in range(15):
            await log.append([message(n) for n in range(100)])
        async with running(relay):
            # A bad line: the hour in which it may be mended is not over
            await until(lambda: len(broken) > 20)
        assert not sink.got
        await log.close()
        log = Log.open(tmp_path / "log.db", max_messages=1000)
        sink = FakeSink()
        async with running(Relay(log, sink)):
            await until(lambda: log.cursor("upstream/cloud") == log.committed_seq)
        assert len(sink.gaps) == 1
        holds(sink)
        await log.close()

    asyncio.run(main())


def test_a_hole_that_comes_while_messages_leave_is_told_in_its_place(
    tmp_path, message, running, until
) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db", max_messages=200)
        sink = FakeSink(window=50)
        deliver = sink.deliver
        floods = iter(range(3))

        async def flooded(batch) -> int:
            """While a batch is on the way, more comes than the log can hold."""
            for _ in range(6 if next(floods, None) is not None else 0):
                await log.append([message(n) for n in range(50)])
            return await deliver(batch)

        sink.deliver = flooded
        async with running(Relay(log, sink)):
            await log.append([message(n) for n in range(50)])
            await until(lambda: log.cursor("upstream/cloud") == log.committed_seq == 950)
        assert len(sink.gaps) == 3
        assert {gap.first_seq for gap in sink.gaps} <= {gap.first_seq for gap in log.gaps("upstream/cloud")}
        holds(sink)
        await log.close()

    asyncio.run(main())


def test_a_relay_that_does_not_tell_of_holes_is_noticed(
    tmp_path, message, running, until, monkeypatch
) -> None:
    """The control of the tests above."""
    monkeypatch.setattr(Relay, "_untold", lambda *_: None)

    async def main() -> None:
        log = Log.open(tmp_path / "log.db", max_messages=200)
        sink = FakeSink()
        relay = Relay(log, sink)
        for _ in range(10):
            await log.append([message(n) for n in range(50)])
        async with running(relay):
            await until(lambda: log.cursor("upstream/cloud") == log.committed_seq)
        with pytest.raises(AssertionError):
            holds(sink)
        await log.close()

    asyncio.run(main())


@pytest.mark.parametrize("breaks", [False, True], ids=["refuses it", "breaks over it"])
def test_a_sink_that_will_not_know_of_holes_gets_its_messages_and_it_is_recorded(
    tmp_path, message, running, until, breaks
) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db", migrations=MIGRATIONS, max_messages=1000)
        sink = FakeSink()
        sink.refusal = "no rights"

        async def broken(news) -> str:
            raise SinkOffline("the connection was lost")

        if breaks:
            sink.announce = broken
        relay = Relay(log, sink, backoff=quick(), hold_s=0.0)
        for _ in range(15):
            await log.append([message(n) for n in range(100)])
        async with running(relay):
            await until(lambda: log.cursor("upstream/cloud") == log.committed_seq)
            status = relay.status()
        assert status.rejected == 1
        assert ("breaks" if breaks else "no rights") in status.rejected_detail
        await log.flush()
        assert log.query("SELECT seq FROM upstream_refused") == [(1,)]
        await log.close()

    asyncio.run(main())


def test_what_is_for_others_is_no_hole(tmp_path, message, running, until) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        sink = FakeSink()
        await log.append([message(0)])
        async with running(Relay(log, sink, match=lambda one: one.payload.endswith(b"1"))):
            await log.append([message(n) for n in range(5)])
            await until(lambda: log.cursor("upstream/cloud") == log.committed_seq)
        assert sink.got
        assert not sink.gaps
        await log.close()

    asyncio.run(main())


def test_a_sink_that_reports_more_than_it_delivered_loses_messages(tmp_path, message, running, until) -> None:
    """The control of the tests above: they do notice a loss."""

    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        sink = FakeSink()
        async with running(Relay(log, sink)):
            seqs = await log.append([message(n) for n in range(10)])
            await until(lambda: log.cursor("upstream/cloud") == seqs[-1])
            sink.lies = True
            lost = await log.append([message(n) for n in range(10, 20)])
            await until(lambda: log.cursor("upstream/cloud") == lost[-1])
            sink.lies = False
            seqs += lost + await log.append([message(n) for n in range(20, 30)])
            await until(lambda: log.cursor("upstream/cloud") == seqs[-1])
        assert set(seqs) - set(numbers(sink)) == set(lost)
        await log.close()

    asyncio.run(main())


class Fussy(FakeSink):
    """Breaks the connection when it is sent a message whose payload is poison; a bad line breaks at random."""

    def __init__(self, *, bad_line: float = 0.0) -> None:
        super().__init__(window=10)
        self.bad_line = bad_line
        self.rng = random.Random(7)
        self.broken = False

    async def open(self, on_lost) -> None:
        self.opened += 1
        self.broken = False

    def check(self) -> None:
        if self.broken:
            raise SinkOffline("the connection was lost")

    async def deliver(self, batch) -> int:
        self.check()
        await asyncio.sleep(0)
        for count, message in enumerate(batch):
            if message.payload == b"poison" or self.rng.random() < self.bad_line:
                self.broken = True
                if count:
                    return count
                self.check()
            self.got.append(message)
        return len(batch)


def test_one_message_that_breaks_each_connection_is_found_and_passed_over(
    tmp_path, message, running, until
) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db", migrations=MIGRATIONS)
        sink = Fussy()
        batch = [message(n, channel=f"channel-{n % 2}") for n in range(30)]
        batch[12] = message(12, payload=b"poison")
        seqs = await log.append(batch)
        relay = Relay(log, sink, backoff=quick(), hold_s=0)
        async with running(relay):
            await until(lambda: log.cursor("upstream/cloud") == seqs[-1])
            status = relay.status()
            assert (status.rejected, status.queued) == (1, 0)
            assert f"message {seqs[12]}: the connection breaks" in status.rejected_detail
            assert set(numbers(sink)) == set(seqs) - {seqs[12]}
            of_channel = [each.seq for each in sink.got if each.channel == "channel-1"]
            assert list(dict.fromkeys(of_channel)) == sorted(set(of_channel))
            await log.flush()
            assert log.query("SELECT upstream, seq FROM upstream_refused") == [("cloud", seqs[12])]
        await log.close()

    asyncio.run(main())


def test_a_poisonous_message_is_held_as_long_as_was_asked_for(tmp_path, message, running, until) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db", migrations=MIGRATIONS)
        sink = Fussy()
        await log.append([message(0, payload=b"poison"), message(1, channel="other")])
        relay = Relay(log, sink, backoff=quick(), hold_s=1e9)
        async with running(relay):
            await until(lambda: sink.opened > 100)
            assert (relay.status().rejected, relay.status().delivered) == (0, 0)
        await log.close()

    asyncio.run(main())


def test_a_bad_line_is_never_blamed_on_a_message(tmp_path, message, running, until) -> None:
    """Four of five messages break the connection for no reason: all arrive, none is passed over."""

    async def main() -> None:
        log = Log.open(tmp_path / "log.db", migrations=MIGRATIONS)
        sink = Fussy(bad_line=0.8)
        seqs = await log.append([message(n, channel=f"channel-{n % 3}") for n in range(60)])
        relay = Relay(log, sink, backoff=quick())
        async with running(relay):
            await until(lambda: log.cursor("upstream/cloud") == seqs[-1])
            assert relay.status().rejected == 0
        assert set(numbers(sink)) == set(seqs)
        await log.close()

    asyncio.run(main())


def test_a_broker_that_is_broken_altogether_costs_no_message(tmp_path, message, running, until) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db", migrations=MIGRATIONS)
        sink = Fussy(bad_line=1.0)
        seqs = await log.append([message(n, channel=f"channel-{n % 3}") for n in range(20)])
        relay = Relay(log, sink, backoff=quick(), hold_s=0)
        async with running(relay):
            await until(lambda: sink.opened > 200)
            assert relay.status().rejected == 0
            sink.bad_line = 0.0
            await until(lambda: log.cursor("upstream/cloud") == seqs[-1])
        assert set(numbers(sink)) == set(seqs)
        await log.close()

    asyncio.run(main())


def test_what_another_gateway_took_in_is_not_sent_out_again(tmp_path, message, running, until) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        sink = FakeSink()
        seqs = await log.append([message(n, origin="" if n % 2 else f"other/{n + 1}") for n in range(10)])
        async with running(Relay(log, sink)):
            await until(lambda: log.cursor("upstream/cloud") == seqs[-1])
        assert numbers(sink) == seqs[1::2]
        await log.close()

    asyncio.run(main())


def test_corrections_are_told_once_and_a_sink_that_breaks_over_them_is_spared(
    tmp_path, message, running, until
) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        sink = FakeSink()
        log.correct("b-1", 1000, TimeQuality.RESTORED)
        async with running(Relay(log, sink)):
            await log.append([message(1, boot="b-1")])
            await until(lambda: len(sink.got) == 1)
            log.correct("b-1", 2000, TimeQuality.NTP)
            await until(lambda: [each.offset_ns for each in sink.told] == [1000, 2000])

        async def breaks(correction) -> str:
            raise SinkOffline("the connection was lost")

        sink.announce = breaks
        async with running(Relay(log, sink, backoff=quick())):
            await log.append([message(2)])
            await until(lambda: len(sink.got) == 2)
        await log.close()

    asyncio.run(main())


def test_times_are_corrected_when_they_are_known_and_else_left_to_the_receiver(
    tmp_path, message, running, until
) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        sink = FakeSink()
        await log.append([message(0, boot="b-1"), message(0, boot="b-2")])
        log.correct("b-1", 1000, TimeQuality.NTP)
        log.correct("b-2", 1000, TimeQuality.RESTORED)
        async with running(Relay(log, sink)):
            await until(lambda: len(sink.got) == 2)
        stamped = message(0).created_ns
        assert [(each.created_ns, each.time) for each in sink.got] == [
            (stamped + 1000, TimeQuality.NTP),
            (stamped, TimeQuality.UNSET),
        ]
        await log.close()

    asyncio.run(main())
