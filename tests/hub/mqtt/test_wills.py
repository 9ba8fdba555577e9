"""A will outlives the gateway: durable before CONNACK, published once after a kill or a power cut, bounded."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hub.disk import DiskState
from hub.hub import Hub
from hub.mqtt import MIGRATIONS
from tests.hub.mqtt.alone import Server
from tests.hub.mqtt.conformance import wire
from tests.hub.mqtt.conformance.conftest import Client
from tests.hub.mqtt.test_door_full_disk import Disk, recovered

Open = Callable[..., Any]

KEPT = [("session_expiry_interval", 3600)]


def will_of(topic: str) -> wire.Will:
    return wire.Will(topic + "/will", b"gone", qos=1)


async def dial(server: Server, version: int, thing: str, client_id: str, **how: Any) -> Client:
    """A connected client of a server in another process."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.facts["port"])
    client = Client(version, reader, writer, lambda: asyncio.sleep(0))
    user, password = server.facts[thing]
    client.send(wire.connect(version, client_id, user=user, password=password, **how))
    client.connack = await client.expect(wire.CONNACK)
    assert client.connack.code == 0
    return client


async def mark(server: Server, version: int, payload: bytes) -> None:
    """Publish, and wait until everything up to this message is durable."""
    sender = await dial(server, version, "b", "sender")
    await sender.published(server.topic, payload)
    await sender.leave()
    await sender.hang_up()


async def stored(folder: Path) -> list[bytes]:
    """The payloads of all messages."""
    hub = Hub.open(folder, migrations=MIGRATIONS)
    try:
        return [message.payload for message in hub.log.read(0)]
    finally:
        await hub.close()


@pytest.mark.parametrize(
    ("version", "ending", "expected"),
    [
        pytest.param(4, "none", [b"gone", b"second", b"third"], id="3.1.1"),
        pytest.param(5, "none", [b"gone", b"second", b"third"], id="5.0"),
        pytest.param(5, "kept", [b"gone", b"second", b"third"], id="of a kept session that is back at once"),
        pytest.param(5, "goodbye", [b"behind the goodbye", b"second"], id="not behind a goodbye"),
        pytest.param(4, "row lost", [b"second"], id="control: without its row it is lost"),
    ],
)
def test_will_is_published_once_after_kill_9(
    tmp_path: Path, version: int, ending: str, expected: list[bytes]
) -> None:
    server = Server(tmp_path / "data")

    async def main() -> None:
        server.start()
        how: dict[str, Any] = {"clean": False, "props": KEPT} if ending == "kept" else {}
        dying = await dial(server, version, "a", "dying", will=will_of(server.topic), **how)
        if ending == "goodbye":
            await dying.leave()
            await mark(server, version, b"behind the goodbye")
        server.kill()
        await dying.hang_up()
        if ending == "row lost":
            with sqlite3.connect(tmp_path / "data" / "log.db") as log:
                assert log.execute("DELETE FROM mqtt_will").rowcount == 1
            log.close()
        for run in expected[expected.index(b"second") :]:
            server.start()
            if ending == "kept":
                back = await dial(server, version, "a", "dying", **how)
                assert back.connack.session_present
                await back.leave()
                await back.hang_up()
            await mark(server, version, run)
            server.kill()
        assert await stored(tmp_path / "data") == expected

    try:
        asyncio.run(main())
    finally:
        server.kill()


class Slow(sqlite3.Connection):
    """A database whose commits wait while `gate` is closed."""

    gate = threading.Event()

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if sql == "COMMIT":
            assert Slow.gate.wait(20)
        return super().execute(sql, *args)


@pytest.mark.parametrize("kept", [False, True])
def test_connack_of_a_client_with_a_will_waits_for_the_commit(
    open_site: Open, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    gate = threading.Event()
    gate.set()
    monkeypatch.setattr(Slow, "gate", gate)

    async def main() -> None:
        async with open_site(database=Slow) as site:
            await site.world.hub.log.write(())
            gate.clear()
            how = {"clean": not kept, "props": KEPT if kept else []}
            dying = await site.dial()
            dying.send(
                site.connect_wire("a", "dying", will=will_of(site.topic), **how),
                wire.subscribe(5, 7, [(site.topic, 0)], ()) + wire.PING,
            )
            other = await site.client("b")  # answered, though no commit is possible
            assert site.world.door.counters["connections_now"] == 2
            assert other.connack.code == 0
            gate.set()
            order = [(await dying.read()).kind for _ in range(3)]
            assert order[0] == wire.CONNACK
            assert set(order) == {wire.CONNACK, wire.SUBACK, wire.PINGRESP}

    asyncio.run(main())


def test_client_that_is_taken_over_before_its_connack_hears_nothing(
    open_site: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    gate.set()
    monkeypatch.setattr(Slow, "gate", gate)

    async def main() -> None:
        async with open_site(database=Slow) as site:
            listener = await site.client("b")
            await listener.subscribe((site.topic + "/will", 1))
            gate.clear()
            first = await site.dial()
            first.send(site.connect_wire("a", "same", will=will_of(site.topic)))
            while site.world.door.counters["connections_now"] < 2:  # noqa: ASYNC110 (a gauge)
                await asyncio.sleep(0)
            second = await site.client("a", "same")
            gate.set()
            assert await first.end() == []
            assert (await listener.message()).payload == b"gone"
            assert await second.fence() == []

    asyncio.run(main())


def test_will_of_a_thing_that_lost_its_right_is_gone_after_a_restart(open_site: Open) -> None:
    async def main() -> None:
        async with open_site() as site:
            dying = await site.client("a", "dying", will=will_of(site.topic))
            (row,) = site.world.hub.log.query("SELECT id, will FROM mqtt_will")
            assert await dying.fence() == []
        async with open_site() as site:  # as a kill leaves it, with the right gone before the next start
            await site.world.hub.log.write([("INSERT INTO mqtt_will(id, will) VALUES (?, ?)", row)])
            site.world.hub.registry.disconnect([site.world.channel], [site.world.ids["a"]])
        async with open_site() as site:
            await site.world.door.intake.drain()
            assert site.world.hub.log.query("SELECT id FROM mqtt_will") == []
            assert [message.payload for message in site.world.hub.log.read(0)] == [
                b"gone"
            ]  # of the first end

    asyncio.run(main())


def test_damaged_row_of_a_will_is_said_and_forgotten(
    open_site: Open, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with open_site() as site:
            await site.world.hub.log.write([("INSERT INTO mqtt_will(id, will) VALUES (5, x'93')", ())])
        async with open_site() as site:
            assert "a will of the last run is damaged" in caplog.text
            await site.world.door.intake.drain()
            assert site.world.hub.log.query("SELECT id FROM mqtt_will") == []
            await site.client("a", "dying", will=will_of(site.topic))
            assert site.world.hub.log.query("SELECT id FROM mqtt_will") == [(6,)]

    asyncio.run(main())


def test_full_disk_keeps_nobody_out_and_wills_wait_for_room_within_their_bound(
    open_site: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with open_site(database=Disk) as site:
            hub, counters = site.world.hub, site.world.door.counters
            monkeypatch.setattr("hub.mqtt.wills.MAX_DUE", 2)
            monkeypatch.setattr("hub.log_writer.PROBE_S", 0.01)
            kept = await site.client("a", "before", will=will_of(site.topic))
            monkeypatch.setattr(Disk, "full", True)
            others = [await site.client("a", f"c{n}", will=will_of(site.topic)) for n in range(2)]
            assert hub.log.state is DiskState.FULL
            for client in (kept, *others):
                client.cut()
            await site.gone(0)
            await site.world.door.intake.drain()
            assert counters["wills_lost"] == 1
            site.pass_time(1)
            assert hub.log.read(0) == []
            monkeypatch.setattr(Disk, "full", False)
            await recovered(site.world)
            site.pass_time(1)
            await site.world.door.intake.drain()
            assert [message.payload for message in hub.log.read(0)] == [b"gone", b"gone"]

    asyncio.run(main())
