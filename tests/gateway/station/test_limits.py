"""The bounds of the listener, each filled once; and requests byte by byte as Basics Station writes them."""

import asyncio
import contextlib
import json
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from gateway.station import door, wire
from tests.gateway.station.judge import EUI, TOKEN, Field

Site = Any

# LoRa Basics Station 2.0.6 writes the length with leading zeros, and its key file as a header line
UPDATE_INFO = (
    b"POST /update-info HTTP/1.1\r\n"
    b"Host: 127.0.0.1:8887\r\n"
    b"Content-Type: application/json\r\n"
    b"Content-Length: %05d\r\n"
    b"Authorization: Bearer " + TOKEN.encode() + b"\r\n\r\n%s"
)
ROUTER_INFO = (
    b"GET /router-info HTTP/1.1\r\n"
    b"Host: 127.0.0.1:8887\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"Authorization: Bearer " + TOKEN.encode() + b"\r\n\r\n"
)


@contextlib.asynccontextmanager
async def raw(s: Field) -> Any:
    reader, writer = await asyncio.open_connection("127.0.0.1", s.door.port, ssl=s.trusting())
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def test_basics_stations_own_bytes_are_understood(station_site: Site) -> None:
    body = json.dumps(
        {
            "router": "b827:ebff:fe12:3456",
            "cupsUri": "https://127.0.0.1:8887",
            "tcUri": None,
            "cupsCredCrc": 3740591286,
            "tcCredCrc": 2221810226,
            "station": "2.0.6(rpi/std) 2022-01-17 10:41:07",
            "model": "rpi",
            "package": None,
            "keys": [],
        }
    ).encode()

    async def main() -> None:
        async with station_site() as s:
            async with raw(s) as (reader, writer):
                writer.write(UPDATE_INFO % (len(body), body))
                answer = await asyncio.wait_for(reader.read(), 10)
                head, _, content = answer.partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 ")
                assert content == bytes(14)
            async with raw(s) as (reader, writer):
                writer.write(ROUTER_INFO)
                assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 101 ")

    asyncio.run(main())


def test_a_request_may_come_byte_by_byte(station_site: Site) -> None:
    async def main() -> None:
        async with station_site() as s, raw(s) as (reader, writer):
            for i in range(len(ROUTER_INFO)):
                writer.write(ROUTER_INFO[i : i + 1])
                await writer.drain()
            assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 101 ")

    asyncio.run(main())


def test_connections_beyond_the_limit_are_refused(
    station_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_CONNECTIONS", 2)

    async def main() -> None:
        async with station_site() as s:
            async with s.concentrator(), raw(s):
                await s.until(lambda: s.door._wire.open == 2)
                async with raw(s) as (reader, _):
                    with contextlib.suppress(ConnectionError):
                        assert await asyncio.wait_for(reader.read(), 10) == b""
                assert s.door.metrics()["fluxgate_station_refused_connections_total"] == 1
            await s.until(lambda: s.door._wire.open == 0)
            async with s.concentrator():
                pass

    asyncio.run(main())


def test_who_asks_nothing_is_let_go(station_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "REQUEST_S", 0.05)
    monkeypatch.setattr(door, "DISCOVERY_S", 0.05)

    async def main() -> None:
        async with station_site() as s:
            async with raw(s) as (reader, writer):
                writer.write(ROUTER_INFO[:30])
                with contextlib.suppress(ConnectionError):
                    assert await asyncio.wait_for(reader.read(), 10) == b""
            assert s.door._wire.timeouts == 1
            async with s.socket("/router-info", f"Bearer {TOKEN}") as socket:
                with pytest.raises(ConnectionClosed):
                    await asyncio.wait_for(socket.recv(), 10)

    asyncio.run(main())


def test_a_gateway_that_does_not_read_is_let_go(station_site: Site) -> None:
    async def main() -> None:
        async with station_site() as s, s.concentrator() as c:
            session = s.door.lns.sessions[bytes.fromhex(EUI)]
            for _ in range(door.MAX_OUTBOX + 1):
                session.send("{}")
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await c.hear()
            assert c.socket.close_code == 1008
            assert s.door.counters["too_slow"] == 1

    asyncio.run(main())
