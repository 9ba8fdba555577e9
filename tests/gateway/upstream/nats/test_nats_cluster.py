"""Three nats-servers that replicate, each killed in turn while messages go out and come in."""

import asyncio
import signal

from gateway import nats_place
from gateway.nats_source import NatsSource, NatsSourceConfig
from gateway.upstream.backoff import Backoff
from hub.hub import Hub

GATEWAY = "0102030405060708"
# What was in flight to a leader that dies costs an acknowledgement's wait, and each election up to 9 s, some twice.
ELECTIONS_S = 240.0
CHANNELS = [f"channel-{n}" for n in range(3)]


def test_a_cluster_that_loses_each_server_in_turn_has_each_message_once_and_so_has_the_hub(
    nats_cluster, open_log, relay_to, sink_to, cluster_of, running, until, message, stream_of, tmp_path
) -> None:
    async def main() -> None:
        log = open_log()
        hub = Hub.open(tmp_path / "hub", migrations=nats_place.MIGRATIONS)
        for channel in CHANNELS:
            hub.registry.create_channel(channel, id=channel)
        relay = relay_to(log, sink_to(*nats_cluster, stream={"replicas": 3}, inflight=50))
        config = NatsSourceConfig("all", cluster_of(*nats_cluster))
        source = NatsSource(hub, config, "another", backoff=Backoff(base_s=0.02, cap_s=0.05))
        seqs: list[int] = []

        async def send(count: int) -> None:
            for first in range(len(seqs), len(seqs) + count, 30):
                batch = [message(first + k, channel=CHANNELS[k % 3]) for k in range(30)]
                seqs.extend(await log.append(batch))

        async with running(relay), running(source):
            await send(300)
            await until(lambda: relay.status().delivered >= 150)
            for server in nats_cluster:
                server.stop(signal.SIGKILL)
                await send(300)
                await until(lambda: log.cursor("upstream/fleet") == seqs[-1], ELECTIONS_S)
                server.start()
            await until(lambda: source.status().stored >= len(seqs), ELECTIONS_S)
        stored = await stream_of(nats_cluster[0])
        assert sorted(each.id for each in stored) == sorted(f"{GATEWAY}/{seq}" for seq in seqs)
        origins = [each.origin for each in hub.log.read(0, limit=10_000)]
        assert origins == [each.id for each in stored]
        await hub.close()
        await log.close()

    asyncio.run(main())
