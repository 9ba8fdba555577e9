"""The NATS source with a real nats-server and a real hub, both of which are killed."""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
from typing import Any, ClassVar

import pytest

from gateway import nats_place, nats_reading, nats_seen
from gateway.nats_intake import Fate
from gateway.nats_reading import Delivery, Reading, Wanted
from gateway.nats_source import NatsSource, NatsSourceConfig
from gateway.upstream import nats_words
from gateway.upstream.backoff import Backoff
from gateway.upstream.errors import SinkRefused
from gateway.upstream.nats_api import ApiError, ConsumerConfig, StreamConfig, StreamState
from gateway.upstream.sink import UpstreamState
from hub import wire
from hub.hub import Hub
from hub.message import OCTET_STREAM, SENML_JSON, Message, TimeQuality

GATEWAY = "0102030405060708"
OTHER = "ffeeddccbbaa0099"
CHANNEL = "6b3ff1e6-3a4c-4d1e-9c58-4f6a2f1d7c10"


def open_hub(folder) -> Hub:
    hub = Hub.open(folder / "hub", migrations=nats_place.MIGRATIONS)
    if not hub.registry.channel(CHANNEL):
        hub.registry.create_channel("fleet", id=CHANNEL)
    return hub


def source_of(hub, cluster, **settings) -> NatsSource:
    config = NatsSourceConfig("commands", cluster, **settings)
    return NatsSource(hub, config, GATEWAY, backoff=Backoff(base_s=0.02, cap_s=0.05))


def foreign(n: int, **changes) -> Message:
    values = {
        "channel": CHANNEL,
        "subtopic": "commands",
        "publisher": "their-thing",
        "protocol": "mqtt",
        "content_type": OCTET_STREAM,
        "payload": b"%d" % n,
        "created_ns": 1_790_000_000_000_000_000 + n,
        "seq": n + 1,
        "time": TimeQuality.NTP,
        "boot": "their-boot",
    } | changes
    return Message(**values)


async def publish(client, messages, *, gateway: str = OTHER) -> None:
    for message in messages:
        subject = f"channels.{message.channel}" + (f".{message.subtopic}" if message.subtopic else "")
        await client.jetstream().publish(subject, wire.encode(message, gateway))


async def with_stream(client, **settings) -> None:
    await client.jetstream().add_stream(name="channels", subjects=["channels.>"], **settings)


def payloads(hub) -> list[bytes]:
    return [message.payload for message in hub.log.read(0, limit=100_000)]


def numbered(count: int) -> list[bytes]:
    return [b"%d" % n for n in range(count)]


def test_a_message_of_the_cluster_keeps_publisher_time_and_identity(
    nats_server, tmp_path, cluster_of, plain_client, running, until
) -> None:
    async def main() -> None:
        hub = open_hub(tmp_path)
        async with plain_client(nats_server) as client:
            await with_stream(client)
            await publish(client, [foreign(41)])
            async with running(source_of(hub, cluster_of(nats_server))):
                await until(lambda: hub.log.committed_seq)
        (stored,) = hub.log.read(0)
        assert stored == foreign(41, seq=stored.seq, origin=f"{OTHER}/42")
        await hub.close()

    asyncio.run(main())


def test_a_mainflux_service_is_heard_too(
    nats_server, tmp_path, cluster_of, plain_client, running, until
) -> None:
    """Its message has neither content type nor identity: SenML is found out."""
    senml = b'[{"n":"t","v":1}]'
    records = [senml, b"\x00no senml"]

    async def main() -> None:
        hub = open_hub(tmp_path)
        async with plain_client(nats_server) as client:
            await with_stream(client)
            for payload in records:
                fields = (CHANNEL.encode(), b"", b"thing", b"http", payload)
                data = b"".join(
                    bytes([field << 3 | 2, len(value)]) + value for field, value in enumerate(fields, start=1)
                )
                await client.jetstream().publish(f"channels.{CHANNEL}", data)
            async with running(source_of(hub, cluster_of(nats_server))):
                await until(lambda: hub.log.message_count == 2)
        assert [(each.content_type, each.payload) for each in hub.log.read(0)] == [
            (SENML_JSON, senml),
            (OCTET_STREAM, records[1]),
        ]
        assert [each.origin for each in hub.log.read(0)] == ["channels/1", "channels/2"]
        await hub.close()

    asyncio.run(main())


def test_what_is_not_for_this_hub_is_passed_over_and_counted(
    nats_server, tmp_path, cluster_of, plain_client, running, until
) -> None:
    async def main() -> None:
        hub = open_hub(tmp_path)
        source = source_of(hub, cluster_of(nats_server))
        async with plain_client(nats_server) as client:
            await with_stream(client)
            await publish(client, [foreign(0)], gateway=GATEWAY)  # our own
            await publish(client, [foreign(1, channel="unknown")])
            await publish(
                client, [foreign(6, channel=news, subtopic=OTHER) for news in ("corrections", "gaps")]
            )
            await client.jetstream().publish(f"channels.{CHANNEL}", b"\xff no protobuf")
            forged = wire.encode(foreign(2, subtopic="doors"), OTHER)
            await client.jetstream().publish(f"channels.{CHANNEL}.lamps", forged)
            await publish(client, [foreign(3, content_type=SENML_JSON)])  # is none
            await publish(client, [foreign(4, payload=bytes(hub.settings.max_payload + 1))])
            await publish(client, [foreign(5)])
            async with running(source):
                await until(lambda: source.status().stored == 1)
                await until(lambda: source.status().behind == 0)
        assert payloads(hub) == [b"5"]
        assert source.status().passed_over == {
            Fate.OWN: 1,
            Fate.DENIED: 1,
            Fate.BAD: 4,
            Fate.CORRECTION: 1,
            Fate.GAP: 1,
        }
        assert "message 8 of the stream" in source.status().passed_over_detail
        await hub.close()

    asyncio.run(main())


def test_a_configured_thing_brings_only_the_channels_it_is_connected_to(
    nats_server, tmp_path, cluster_of, plain_client, running, until
) -> None:
    async def main() -> None:
        hub = open_hub(tmp_path)
        thing, _ = hub.registry.create_thing("cluster")
        theirs = hub.registry.create_channel("other")
        hub.registry.connect([CHANNEL], [thing.id])
        source = source_of(hub, cluster_of(nats_server), thing=thing.id)
        async with plain_client(nats_server) as client:
            await with_stream(client)
            await publish(client, [foreign(0, channel=theirs.id), foreign(1)])
            async with running(source):
                await until(lambda: source.status().stored == 1)
                hub.registry.disconnect([CHANNEL], [thing.id])
                await publish(client, [foreign(2)])
                await until(lambda: source.status().passed_over.get(Fate.DENIED) == 2)
        assert payloads(hub) == [b"1"]
        await hub.close()

    asyncio.run(main())


def test_only_the_named_channels_are_asked_for(
    nats_server, tmp_path, cluster_of, plain_client, running, until
) -> None:
    async def main() -> None:
        hub = open_hub(tmp_path)
        other = hub.registry.create_channel("other")
        async with plain_client(nats_server) as client:
            await with_stream(client)
            batch = [foreign(0, channel=other.id), foreign(1, subtopic=""), foreign(2, subtopic="a.b")]
            await publish(client, batch)
            async with running(source_of(hub, cluster_of(nats_server), channels=(CHANNEL,))):
                await until(lambda: hub.log.message_count == 2)
            both = source_of(hub, cluster_of(nats_server), channels=(CHANNEL, other.id))
            async with running(both):
                await until(lambda: both.status().state is UpstreamState.CONNECTED)
                await publish(client, [foreign(3, channel=other.id), foreign(4)])
                await until(lambda: hub.log.message_count == 4)
        assert payloads(hub) == [b"1", b"2", b"3", b"4"]
        await hub.close()

    asyncio.run(main())


def test_a_server_before_2_10_is_understood_but_for_several_filters_which_is_said() -> None:
    """As nats-server 2.9 (Debian 12) answers: it passes over what it does not know."""

    class OldServer:
        asked: ClassVar[list[dict[str, Any]]] = []

        async def api(self, call: str, kind: type, body: Any = None) -> Any:
            if call.startswith("STREAM.INFO"):
                return kind(StreamConfig(retention="limits"), StreamState(7), created="then")
            if call.startswith("CONSUMER.INFO"):
                raise ApiError(nats_words.NO_CONSUMER, "consumer not found")
            self.asked.append(body["config"])
            known = {name: value for name, value in body["config"].items() if name == "filter_subject"}
            return kind(ConsumerConfig(**known))

        async def subscribe(self, _handler: Any) -> str:
            return "_INBOX"

    async def main() -> None:
        await Reading(OldServer(), Wanted("channels", "c", ["channels.>"])).consumer(None)
        assert OldServer.asked[0]["filter_subject"] == "channels.>"
        later = Reading(OldServer(), Wanted("channels", "c", ["channels.>"], backlog=False))
        assert await later.stream() == "then"
        assert await later.consumer(None) == 7  # it does not say itself where a new consumer begins
        assert OldServer.asked[1]["opt_start_seq"] == 8
        with pytest.raises(SinkRefused, match=r"before 2\.10") as refused:
            await Reading(OldServer(), Wanted("channels", "c", ["channels.a", "channels.a.>"])).consumer(None)
        assert "leave `channels` empty" in refused.value.words

    asyncio.run(main())


def test_a_source_may_begin_with_what_comes_next(
    nats_server, tmp_path, cluster_of, plain_client, running, until
) -> None:
    async def main() -> None:
        hub = open_hub(tmp_path)
        source = source_of(hub, cluster_of(nats_server), backlog=False)
        async with plain_client(nats_server) as client:
            await with_stream(client)
            await publish(client, [foreign(n) for n in range(5)])
            async with running(source):
                await until(lambda: source.status().state is UpstreamState.CONNECTED)
                assert hub.log.query("SELECT seq FROM nats_source") == [(5,)]
                await publish(client, [foreign(n) for n in range(5, 8)])
                await until(lambda: hub.log.message_count == 3)
        assert payloads(hub) == [b"5", b"6", b"7"]
        await hub.close()

    asyncio.run(main())


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_each_message_is_stored_once_and_in_order_whatever_the_server_suffers(
    nats_server, tmp_path, cluster_of, plain_client, running, until, fault, monkeypatch
) -> None:
    monkeypatch.setattr(nats_reading, "BATCH", 40)

    async def main() -> None:
        hub = open_hub(tmp_path)
        async with plain_client(nats_server) as client:
            await with_stream(client)
            await publish(client, [foreign(n) for n in range(1000)])
        source = source_of(hub, cluster_of(nats_server))
        async with running(source):
            for round_ in range(4):
                await until(lambda round_=round_: hub.log.message_count >= 200 * round_ + 20)
                if fault == signal.SIGSTOP:
                    nats_server.send_signal(fault)
                    await asyncio.sleep(0)
                    nats_server.send_signal(signal.SIGCONT)
                else:
                    nats_server.stop(fault)
                    nats_server.start()
            await until(lambda: hub.log.message_count >= 1000 and source.status().behind == 0)
        assert payloads(hub) == numbered(1000)
        await hub.close()

    asyncio.run(main())


def test_a_line_that_breaks_again_and_again_still_makes_each_message_stored_once(
    nats_server, tmp_path, cluster_of, plain_client, running, until, bad_line
) -> None:
    total = 1500

    async def main() -> None:
        hub = open_hub(tmp_path)
        async with plain_client(nats_server) as client:
            await with_stream(client)
            await publish(client, [foreign(n) for n in range(total)])
        line = bad_line(nats_server.port, seed=3, most_bytes=40_000, black_holes=False)
        async with line.standing():
            source = source_of(hub, cluster_of(line))
            async with running(source):
                await until(lambda: line.breaks >= 25 or hub.log.message_count >= total)
                line.mend()
                await until(lambda: hub.log.message_count >= total)
        assert payloads(hub) == numbered(total)
        assert line.breaks > 5
        await hub.close()

    asyncio.run(main())


@pytest.mark.parametrize("knows", [True, False], ids=["as built", "control"])
def test_a_copy_that_the_stream_took_after_its_window_is_stored_once_also_over_a_restart(
    nats_server, tmp_path, cluster_of, plain_client, running, until, monkeypatch, knows
) -> None:
    """The control, which knows no copies, stores them."""
    if not knows:
        monkeypatch.setattr(nats_seen.Seen, "__contains__", lambda _self, _message: False)

    async def main() -> None:
        hub = open_hub(tmp_path)
        async with plain_client(nats_server) as client:
            await with_stream(client)
            # Without an id the stream takes what is sent again, as with one whose time in the window has passed.
            await publish(client, [foreign(n) for n in (0, 1, 2, 1, 2, 3)])
            source = source_of(hub, cluster_of(nats_server))
            async with running(source):
                await until(lambda: source.status().stored + source.status().again == 6)
            assert source.status().again == (2 if knows else 0)
            await hub.close()
            hub = open_hub(tmp_path)
            await publish(client, [foreign(n) for n in (2, 3, 4)])
            source = source_of(hub, cluster_of(nats_server))
            async with running(source):
                await until(lambda: source.status().stored + source.status().again == 3)
        assert (payloads(hub) == numbered(5)) is knows
        assert len(payloads(hub)) == (5 if knows else 9)
        await hub.close()

    asyncio.run(main())


CHILD = """
import asyncio, sys
from pathlib import Path
from gateway import nats_reading, nats_place, nats_seen
from gateway.nats_source import NatsSource, NatsSourceConfig
from gateway.upstream.nats_config import NatsServers
from hub.hub import Hub

folder, port, hasty = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "hasty"
nats_reading.BATCH = 50

if hasty:  # the control: the place in the stream is not written with the messages, and no copy is known
    nats_seen.Seen.__contains__ = lambda self, message: False
    async def store(self, messages, position):
        await self._hub.log.append(messages)
    NatsSource._store = store

async def main():
    hub = Hub.open(folder / "hub", migrations=nats_place.MIGRATIONS)
    def tell(*_):  # the sum, also at the start: a kill may fall between a commit and its line
        print(hub.log.message_count, flush=True)
    tell()
    hub.log.on_commit(tell)
    config = NatsSourceConfig("commands", NatsServers((f"127.0.0.1:{port}",), tls=False))
    await NatsSource(hub, config, "0102030405060708").run()

asyncio.run(main())
"""


@pytest.mark.parametrize("hasty", [False, True], ids=["as built", "control"])
def test_kills_of_the_hub_lose_nothing_and_store_nothing_twice(
    nats_server, tmp_path, cluster_of, plain_client, hasty
) -> None:
    """The control, which does not write its place with the messages, does store some twice."""
    total = 1200

    async def prepare() -> None:
        hub = open_hub(tmp_path)
        await hub.close()
        async with plain_client(nats_server) as client:
            await with_stream(client)
            await publish(client, [foreign(n) for n in range(total)])

    asyncio.run(prepare())
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", CHILD, str(tmp_path), str(nats_server.port), "hasty" if hasty else ""]
    stored = 0
    for round_ in itertools.count():
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert child.stdout is not None
        goal = min(total, stored + 150 + 37 * round_)
        for line in child.stdout:
            stored = int(line)
            if stored >= goal:
                break
        child.kill()
        stored = max([stored, *(int(line) for line in child.stdout.read().split("\n")[:-1])])
        child.stdout.close()
        child.wait()
        if stored >= total:
            break

    async def judge() -> list[bytes]:
        hub = open_hub(tmp_path)
        found = payloads(hub)
        await hub.close()
        return found

    found = asyncio.run(judge())
    if hasty:
        assert len(found) > len(set(found))
    else:
        assert found == numbered(total)


def test_a_stream_that_was_deleted_and_made_again_is_read_from_its_begin(
    nats_server, tmp_path, cluster_of, plain_client, running, until
) -> None:
    async def main() -> None:
        hub = open_hub(tmp_path)
        source = source_of(hub, cluster_of(nats_server))
        async with plain_client(nats_server) as client:
            await with_stream(client)
            await publish(client, [foreign(n) for n in range(50)])
            async with running(source):
                await until(lambda: hub.log.message_count == 50)
                await client.jetstream().delete_stream("channels")
                await until(lambda: source.status().state is not UpstreamState.CONNECTED)
                await until(lambda: "no stream channels" in source.status().detail)
                await with_stream(client)
                await publish(client, [foreign(n) for n in range(50, 60)])
                await until(lambda: hub.log.message_count == 60)
        assert payloads(hub) == numbered(60)
        await hub.close()

    asyncio.run(main())


def test_a_hub_restored_from_a_backup_gets_what_it_lost_again(
    nats_server, tmp_path, cluster_of, plain_client, running, until
) -> None:
    """JetStream believes it delivered: the hub's own table decides."""

    async def main() -> None:
        hub = open_hub(tmp_path)
        async with plain_client(nats_server) as client:
            await with_stream(client)
            await publish(client, [foreign(n) for n in range(30)])
            source = source_of(hub, cluster_of(nats_server))
            async with running(source):
                await until(lambda: hub.log.message_count == 30 and source.status().behind == 0)
                info = await client.jetstream().consumer_info("channels", f"fluxgate-{GATEWAY}-commands")
                while info.ack_floor.stream_seq < 30:
                    info = await client.jetstream().consumer_info("channels", f"fluxgate-{GATEWAY}-commands")
            (tenth,) = hub.log.read(0)[9:10]
            writes = [
                ("UPDATE nats_source SET seq = 10", ()),
                ("DELETE FROM log WHERE seq > ?", (tenth.seq,)),
            ]
            await hub.log.write(writes)
            assert payloads(hub) == numbered(10)
            again = source_of(hub, cluster_of(nats_server))
            async with running(again):
                await until(lambda: again.status().stored == 20)
        assert payloads(hub) == numbered(30)
        await hub.close()

    asyncio.run(main())


def test_messages_brought_here_are_not_sent_out_again(
    nats_server, tmp_path, cluster_of, plain_client, running, until, sink_to, relay_to, stream_of
) -> None:
    """Sink and source on one stream: the gateway's own go out once, the other's come in once, none in circles."""

    async def main() -> None:
        hub = open_hub(tmp_path)
        source = source_of(hub, cluster_of(nats_server))
        relay = relay_to(hub.log, sink_to(nats_server))
        async with plain_client(nats_server) as client:
            await with_stream(client)
            async with running(source), running(relay):
                await publish(client, [foreign(n) for n in range(20)])
                await hub.log.append([foreign(n, seq=0, origin="") for n in range(100, 120)])
                await until(lambda: relay.status().delivered == 20 and source.status().stored == 20)
                await until(lambda: hub.log.cursor("upstream/fleet") == hub.log.committed_seq)
                await until(lambda: source.status().passed_over.get(Fate.OWN) == 20)
                assert relay.status().queued == 0
        assert hub.log.message_count == 40
        assert len(await stream_of(nats_server)) == 40
        await hub.close()

    asyncio.run(main())


def test_a_stream_that_forgets_what_was_read_is_refused(
    nats_server, tmp_path, cluster_of, plain_client, running, until
) -> None:
    async def main() -> None:
        hub = open_hub(tmp_path)
        source = source_of(hub, cluster_of(nats_server))
        async with plain_client(nats_server) as client:
            await with_stream(client, retention="interest")
            async with running(source):
                await until(lambda: source.status().state is UpstreamState.REFUSED)
            assert "retention interest" in source.status().detail
        await hub.close()

    asyncio.run(main())


def test_one_message_larger_than_a_batch_does_not_stop_the_reading(
    nats_server, tmp_path, cluster_of, plain_client, running, until, monkeypatch
) -> None:
    monkeypatch.setattr(nats_reading, "BATCH_BYTES", 5000)

    async def main() -> None:
        hub = open_hub(tmp_path)
        async with plain_client(nats_server) as client:
            await with_stream(client)
            sizes = [10, 1000, 20_000, 4000, 30_000, 30_000, 10]
            await publish(client, [foreign(n, payload=bytes(size)) for n, size in enumerate(sizes)])
            async with running(source_of(hub, cluster_of(nats_server))):
                await until(lambda: hub.log.message_count == len(sizes))
        assert [len(payload) for payload in payloads(hub)] == sizes
        await hub.close()

    asyncio.run(main())


class Reply:
    def __init__(self, reply: str) -> None:
        self.reply = reply


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        pytest.param("$JS.ACK.S.C.1.52.7.1700000000000000000.9", (52, 7, 9), id="first form"),
        pytest.param("$JS.ACK._.hash.S.C.2.52.7.1700000000000000000.9.rnd", (52, 7, 9), id="second form"),
        pytest.param(
            "$JS.ACK.hub.hash.S.C.2.52.7.1700000000000000000.9", (52, 7, 9), id="without the last word"
        ),
        pytest.param("_INBOX.x.y", None, id="an inbox"),
        pytest.param("$JS.ACK.S.C.1.a.7.1.9", None, id="no number"),
        pytest.param("", None, id="none"),
    ],
)
def test_a_deliverys_numbers_are_in_its_reply_subject(reply, found) -> None:
    delivery = Delivery.of(Reply(reply))
    if found is None:
        assert delivery is None
    else:
        assert (delivery.stream_seq, delivery.consumer_seq, delivery.pending) == found


@pytest.mark.parametrize(
    "settings",
    [{"name": ""}, {"stream": "a b"}, {"subject": "a.>"}, {"channels": ("*",)}, {"channels": ("c",) * 101}],
)
def test_a_source_that_cannot_work_is_refused(cluster_of, nats_server, settings) -> None:
    with pytest.raises(ValueError, match=" "):
        NatsSourceConfig(**({"name": "n", "cluster": cluster_of(nats_server)} | settings))
