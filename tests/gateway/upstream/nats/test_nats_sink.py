"""The NATS sink with a real nats-server that is killed, frozen, short of room and strict about rights."""

import asyncio
import json
import os
import signal

import pytest

from gateway.upstream import nats as nats_sink
from gateway.upstream import nats_link
from gateway.upstream.nats import headers_for, subject_for
from gateway.upstream.sink import UpstreamState
from hub import wire
from hub.message import SENML_JSON, TimeQuality

GATEWAY = "0102030405060708"
CHANNEL = "6b3ff1e6-3a4c-4d1e-9c58-4f6a2f1d7c10"


def without_id(gateway, stream, message) -> dict[str, str]:
    """The control: messages that the stream cannot tell apart."""
    headers = headers_for(gateway, stream, message)
    headers["Copy-Of"] = headers.pop("Nats-Msg-Id")
    return headers


@pytest.mark.parametrize(
    ("channel", "subtopic", "subject"),
    [
        pytest.param("c-1", "", "channels.c-1", id="no subtopic"),
        pytest.param("c-1", "building.3", "channels.c-1.building.3", id="dots stay"),
        pytest.param("c-1", "room 3", "channels.c-1.room%203", id="a blank"),
        pytest.param("c-1", "50%.>.*", "channels.c-1.50%25.%3E.%2A", id="wildcards"),
        pytest.param("c-1", "käse", "channels.c-1.k%C3%A4se", id="beyond ASCII"),
        pytest.param("c-1", "a\r\nPUB x 0", "channels.c-1.a%0D%0APUB%20x%200", id="a forged command"),
    ],
)
def test_subject_follows_channel_and_subtopic(message, channel, subtopic, subject) -> None:
    assert subject_for("channels", message(1, channel=channel, subtopic=subtopic)) == subject


def test_messages_are_in_the_stream_as_mainflux_would_write_them(
    nats_server, open_log, relay_to, sink_to, running, until, message, stream_of, mainflux
) -> None:
    async def main() -> None:
        log = open_log()
        async with running(relay_to(log, sink_to(nats_server))):
            seqs = await log.append(
                [
                    message(1, subtopic="building.3", content_type=SENML_JSON, payload=b'[{"n":"t","v":1}]'),
                    message(2, time=TimeQuality.GNSS),
                ]
            )
            await until(lambda: log.cursor("upstream/fleet") == seqs[-1])
        first, second = await stream_of(nats_server)
        assert (first.id, first.subject) == (f"{GATEWAY}/{seqs[0]}", f"channels.{CHANNEL}.building.3")
        assert mainflux(second.data) == (
            CHANNEL,
            "",
            "device-1",
            "lora",
            b"device-1 2",
            message(2).created_ns,
        )
        assert wire.decode(second.data).origin == f"{GATEWAY}/{seqs[1]}"
        assert second.headers == {
            "Nats-Msg-Id": f"{GATEWAY}/{seqs[1]}",
            "Nats-Expected-Stream": "channels",
            "Content-Type": "application/octet-stream",
            "Fluxgate-Created": str(message(2).created_ns),
            "Fluxgate-Time": "gnss",
        }
        await log.close()

    asyncio.run(main())


def test_the_stream_is_made_as_configured(nats_server, sink_to, plain_client) -> None:
    async def main() -> None:
        settings = {"max_age_s": 3600, "max_bytes": 1 << 20, "duplicate_window_s": 600, "stream": "fleet"}
        sink = sink_to(nats_server, stream=settings, subject="site.channels")
        await sink.open(lambda: None)
        await sink.close()
        async with plain_client(nats_server) as client:
            config = (await client.jetstream().stream_info("fleet")).config
        assert config.subjects == ["site.channels.>"]
        assert (config.max_age, config.max_bytes) == (3600, 1 << 20)
        assert config.duplicate_window == 600
        assert config.storage == "file"

    asyncio.run(main())


def feed(log, message, total, done):
    """Append `total` messages of three devices, each of its own channel, as fast as they become durable."""

    async def feeding() -> list[int]:
        seqs = []
        for n in range(0, total, 10):
            batch = [message(n + k, device=f"d-{k % 3}", channel=f"channel-{k % 3}") for k in range(10)]
            seqs += await log.append(batch)
            await asyncio.sleep(0)
        done.set()
        return seqs

    return asyncio.create_task(feeding())


@pytest.mark.parametrize("fault", ["killed", "frozen", "stopped and killed"])
def test_each_message_is_in_the_stream_once_and_in_order_whatever_the_server_suffers(
    nats_server, open_log, relay_to, sink_to, running, until, message, stream_of, orders, fault
) -> None:
    async def main() -> None:
        log = open_log()
        relay = relay_to(log, sink_to(nats_server, inflight=50))
        fed = asyncio.Event()
        async with running(relay):
            feeding = feed(log, message, 3000, fed)
            for round_ in range(4):
                target = 500 * (round_ + 1)
                await until(lambda target=target: relay.status().delivered >= target)
                if fault != "killed":
                    nats_server.send_signal(signal.SIGSTOP)
                    before = relay.status().delivered
                    await until(lambda before=before: log.committed_seq >= before + 50 or fed.is_set())
                if fault == "frozen":
                    nats_server.send_signal(signal.SIGCONT)
                else:
                    nats_server.stop(signal.SIGKILL)
                    await until(lambda: relay.status().state is UpstreamState.OFFLINE)
                    nats_server.start()
            seqs = await feeding
            await until(lambda: log.cursor("upstream/fleet") == seqs[-1])
            assert (relay.status().queued, relay.status().rejected) == (0, 0)
        stored = await stream_of(nats_server)
        assert sorted(each.id for each in stored) == sorted(f"{GATEWAY}/{seq}" for seq in seqs)
        assert all(order == sorted(order) for order in orders(stored).values())
        await log.close()

    asyncio.run(main())


def test_a_line_that_breaks_two_hundred_times_still_makes_each_message_stored_once(
    nats_server,
    open_log,
    relay_to,
    sink_to,
    running,
    until,
    message,
    stream_of,
    orders,
    bad_line,
    monkeypatch,
) -> None:
    """Cut anywhere in what is said, half-open, swallowed."""
    monkeypatch.setattr(nats_sink, "ACK_TIMEOUT_S", 0.05)
    monkeypatch.setattr(nats_link, "OPEN_TIMEOUT_S", 0.2)
    monkeypatch.setattr(nats_link, "API_TIMEOUT_S", 0.2)
    monkeypatch.setattr(nats_link, "CLOSE_TIMEOUT_S", 0.02)

    async def main() -> None:
        log = open_log()
        line = bad_line(nats_server.port, seed=21, most_bytes=12_000)
        async with line.standing():
            relay = relay_to(log, sink_to(line, inflight=20))
            seqs: list[int] = []
            async with running(relay):
                while line.breaks < 200:
                    if relay.status().queued < 50:
                        n = len(seqs)
                        batch = [message(n + k, channel=f"channel-{k % 3}") for k in range(30)]
                        seqs += await log.append(batch)
                    await asyncio.sleep(0.01)
                monkeypatch.undo()  # what comes now may take its time on a busy machine
                line.mend()
                await until(lambda: log.cursor("upstream/fleet") == seqs[-1])
            assert relay.status().rejected == 0
        stored = await stream_of(nats_server)
        assert sorted(each.id for each in stored) == sorted(f"{GATEWAY}/{seq}" for seq in seqs)
        assert all(order == sorted(order) for order in orders(stored).values())
        await log.close()

    asyncio.run(main())


async def copies_after_a_lost_acknowledgement(
    nats_server, log, sink_to, relay_to, running, until, message, stream_of
) -> list[str]:
    """A server stores what it was sent, and the gateway hears nothing of it: so it sends again."""
    sink = sink_to(nats_server)
    await sink.open(lambda: None)
    seqs = await log.append([message(n) for n in range(20)])
    batch = log.read(0)
    assert await sink.deliver(batch) == 20
    await sink.close()
    async with running(relay_to(log, sink_to(nats_server))):
        await until(lambda: log.cursor("upstream/fleet") == seqs[-1])
    return [each.headers.get("Copy-Of", each.id) for each in await stream_of(nats_server)]


@pytest.mark.parametrize("with_ids", [True, False])
def test_what_is_sent_again_is_stored_once_because_of_its_id(
    nats_server, open_log, relay_to, sink_to, running, until, message, stream_of, monkeypatch, with_ids
) -> None:
    """Without ids, the control, everything that was sent again is there twice."""
    if not with_ids:
        monkeypatch.setattr(nats_sink, "headers_for", without_id)

    async def main() -> None:
        log = open_log()
        kit = (sink_to, relay_to, running, until, message, stream_of)
        found = await copies_after_a_lost_acknowledgement(nats_server, log, *kit)
        assert len(set(found)) == 20
        assert len(found) == (20 if with_ids else 40)
        await log.close()

    asyncio.run(main())


def test_a_stream_deleted_in_the_middle_is_made_again_and_takes_the_rest(
    nats_server, open_log, relay_to, sink_to, running, until, message, stream_of, plain_client
) -> None:
    async def main() -> None:
        log = open_log()
        relay = relay_to(log, sink_to(nats_server))
        async with running(relay), plain_client(nats_server) as client:
            await log.append([message(n) for n in range(100)])
            await until(lambda: relay.status().delivered == 100)
            await client.jetstream().delete_stream("channels")
            later = await log.append([message(n) for n in range(100, 200)])
            await until(lambda: log.cursor("upstream/fleet") == later[-1])
        stored = await stream_of(nats_server)
        assert [each.id for each in stored] == [f"{GATEWAY}/{seq}" for seq in later]
        await log.close()

    asyncio.run(main())


def test_a_stream_that_is_missing_and_may_not_be_made_is_named_and_nothing_is_lost(
    nats_server, open_log, relay_to, sink_to, running, until, message, stream_of, plain_client
) -> None:
    async def main() -> None:
        log = open_log()
        relay = relay_to(log, sink_to(nats_server, stream={"create_stream": False}))
        async with running(relay), plain_client(nats_server) as client:
            seqs = await log.append([message(n) for n in range(10)])
            await until(lambda: relay.status().state is UpstreamState.REFUSED)
            assert "no stream channels" in relay.status().detail
            assert relay.status().queued == 10
            await client.jetstream().add_stream(name="channels", subjects=["channels.>"])
            await until(lambda: relay.status().delivered == 10)
        assert len(await stream_of(nats_server)) == len(seqs)
        await log.close()

    asyncio.run(main())


async def state_with(sink, log, relay_to, running, until, message) -> tuple[str, str]:
    relay = relay_to(log, sink)
    async with running(relay):
        await log.append([message(1)])
        await until(
            lambda: (
                relay.status().state is not UpstreamState.CONNECTING
                and (relay.status().state is not UpstreamState.CONNECTED or relay.status().delivered)
            )
        )
        status = relay.status()
    return status.state.value, status.detail


@pytest.mark.parametrize(
    ("config", "words"),
    [
        pytest.param('subjects: ["other.>"]', "takes other.>, not channels.>", id="other subjects"),
        pytest.param('subjects: ["channels.*"]', "takes channels.*, not", id="no subtopics"),
    ],
)
def test_a_stream_of_that_name_for_something_else_is_said(
    nats_server, open_log, relay_to, sink_to, running, until, message, plain_client, config, words
) -> None:
    async def main() -> None:
        log = open_log()
        async with plain_client(nats_server) as client:
            subject = config.split('"')[1]
            await client.jetstream().add_stream(name="channels", subjects=[subject])
        state, detail = await state_with(sink_to(nats_server), log, relay_to, running, until, message)
        assert state == "refused"
        assert words in detail
        await log.close()

    asyncio.run(main())


def test_a_full_stream_that_keeps_the_old_holds_the_queue_and_says_so(
    nats_server, open_log, relay_to, sink_to, running, until, message, plain_client
) -> None:
    async def main() -> None:
        log = open_log()
        async with plain_client(nats_server) as client:
            stream_api = client.jetstream()
            await stream_api.add_stream(
                name="channels", subjects=["channels.>"], max_bytes=20_000, discard="new"
            )
            relay = relay_to(log, sink_to(nats_server))
            async with running(relay):
                seqs = await log.append([message(n, payload=os.urandom(1000)) for n in range(40)])
                await until(lambda: relay.status().state is UpstreamState.REFUSED)
                assert "stream channels is full" in relay.status().detail
                assert "maximum bytes exceeded" in relay.status().detail
                assert 0 < relay.status().queued < 40
                await stream_api.purge_stream("channels")
                await stream_api.update_stream(
                    name="channels", subjects=["channels.>"], max_bytes=1 << 20, discard="new"
                )
                await until(lambda: log.cursor("upstream/fleet") == seqs[-1])
        await log.close()

    asyncio.run(main())


def test_a_server_without_room_is_said(
    start_nats, open_log, relay_to, sink_to, running, until, message
) -> None:
    server = start_nats(jetstream="max_file_store: 10000")

    async def main() -> None:
        log = open_log()
        state = await state_with(sink_to(server), log, relay_to, running, until, message)
        assert state[0] == "refused"
        assert "storage is used up" in state[1]
        await log.close()

    asyncio.run(main())


def test_a_server_without_jetstream_is_said(
    start_nats, open_log, relay_to, sink_to, running, until, message
) -> None:
    server = start_nats(jetstream=None)

    async def main() -> None:
        log = open_log()
        state = await state_with(sink_to(server), log, relay_to, running, until, message)
        assert state == ("refused", "JetStream is not switched on at the server")
        await log.close()

    asyncio.run(main())


def test_a_message_larger_than_the_stream_or_the_server_takes_holds_nothing_up(
    start_nats, open_log, relay_to, sink_to, running, until, message, stream_of, plain_client
) -> None:
    server = start_nats("max_payload: 20000")

    async def main() -> None:
        log = open_log()
        async with plain_client(server) as client:
            await client.jetstream().add_stream(name="channels", subjects=["channels.>"], max_msg_size=10_000)
        relay = relay_to(log, sink_to(server))
        async with running(relay):
            sizes = [10, 15_000, 10, 25_000, 10]
            seqs = await log.append([message(n, payload=bytes(size)) for n, size in enumerate(sizes)])
            await until(lambda: log.cursor("upstream/fleet") == seqs[-1])
            status = relay.status()
            assert (status.rejected, status.state) == (2, UpstreamState.CONNECTED)
            assert "message" in status.rejected_detail
            await log.flush()
            recorded = log.query("SELECT seq FROM upstream_refused WHERE upstream = 'fleet' ORDER BY seq")
        assert recorded == [(seqs[1],), (seqs[3],)]
        assert len(await stream_of(server)) == 3
        await log.close()

    asyncio.run(main())


def test_a_clock_that_was_set_is_told_as_a_message_of_the_stream(
    nats_server, open_log, relay_to, sink_to, running, until, message, stream_of, mainflux
) -> None:
    async def main() -> None:
        log = open_log()
        for _ in range(2):  # told again after a start, stored once
            relay = relay_to(log, sink_to(nats_server))
            async with running(relay):
                seqs = await log.append([message(1, boot="b-1")])
                log.correct("b-1", -7, TimeQuality.GNSS)
                await until(lambda seqs=seqs: log.cursor("upstream/fleet") == seqs[-1])
                relay.pause()
                relay.resume()
        told = [each for each in await stream_of(nats_server) if "correction" in each.id]
        assert told[0].subject == f"channels.corrections.{GATEWAY}"
        channel, subtopic, _, _, payload, _ = mainflux(told[0].data)
        assert (channel, subtopic) == ("corrections", GATEWAY)
        assert json.loads(payload) == {
            "gateway": GATEWAY,
            "boot": "b-1",
            "up_to_seq": 1,
            "offset_ns": -7,
            "quality": "gnss",
        }
        assert len({each.id for each in told}) == len(told)
        await log.close()

    asyncio.run(main())


def test_what_retention_took_is_told_as_a_message_of_the_stream_before_what_follows(
    nats_server, open_log, relay_to, sink_to, running, until, message, stream_of, mainflux
) -> None:
    async def main() -> None:
        log = open_log(max_messages=100)
        relay = relay_to(log, sink_to(nats_server))
        for _ in range(5):
            await log.append([message(n) for n in range(100)])
        async with running(relay):
            await until(lambda: log.cursor("upstream/fleet") == log.committed_seq)
        stored = await stream_of(nats_server)
        missed = relay.status().missed
        assert missed
        assert len(stored) == 1 + 500 - missed
        assert (stored[0].subject, stored[0].id) == (f"channels.gaps.{GATEWAY}", f"{GATEWAY}/gap/1/{missed}")
        channel, subtopic, _, _, payload, _ = mainflux(stored[0].data)
        assert (channel, subtopic) == ("gaps", GATEWAY)
        told = {"gateway": GATEWAY, "first_seq": 1, "last_seq": missed, "messages": missed}
        assert json.loads(payload) == told
        await log.close()

    asyncio.run(main())
