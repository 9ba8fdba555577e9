"""What the listener itself bounds, seen from a raw socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import ssl
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from hub.http.connection import BoundedProtocol
from hub.http.door import HttpDoor
from hub.http.limits import Limits
from hub.hub import Hub
from tests.hub.http.wire import read_answer

Run = Callable[..., None]


async def connect(site: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", site.door.port)


async def ask(site: Any, request: bytes) -> bytes:
    """Send `request` and return all that comes until the server closes."""
    reader, writer = await connect(site)
    writer.write(request)
    try:
        return await reader.read()
    finally:
        writer.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        for _ in iter(holds, True):
            await asyncio.sleep(0.005)


def problem_of(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    document: dict[str, Any] = json.loads(body)
    return document


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", id="TLS to the plain port"),
        pytest.param(b"BREW /pot HTCPCP/1.0\r\n\r\n", id="another protocol"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", id="length no number"),
        pytest.param(
            b"POST /things HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
            id="two lengths",
        ),
    ],
)
def test_what_is_not_http_is_answered_400_and_counted(run: Run, request_bytes: bytes) -> None:
    async def scenario(site: Any) -> None:
        assert problem_of(await ask(site, request_bytes))["status"] == 400
        assert site.door.wire.malformed == 1

    run(scenario)


def test_an_endless_head_is_cut_off(run: Run) -> None:
    async def scenario(site: Any) -> None:
        reader, writer = await connect(site)
        writer.write(b"GET /health HTTP/1.1\r\nHost: a\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(64):
                writer.write(b"X-Filler: " + b"x" * Limits().head_bytes + b"\r\n")
                await writer.drain()
            await reader.read()
        assert site.door.wire.malformed == 1
        writer.close()

    run(scenario)


def test_a_head_after_an_early_answer_is_bounded_too(run: Run) -> None:
    async def scenario(site: Any) -> None:
        request = (
            f"POST {site.messages} HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n".encode()
            + b"x" * 100_000
        )
        reader, writer = await connect(site)
        # The second comes on the connection that refused the first before its body was read
        for _ in range(2):
            writer.write(request)
            assert (await read_answer(reader)).status == 401
        writer.close()

    run(scenario)


@pytest.mark.parametrize(
    "start",
    [
        pytest.param([b""], id="silence"),
        pytest.param([b"GET /health HTTP/1.1\r\nHost"], id="half a head"),
        pytest.param(
            [
                b"POST /tokens HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                b"Content-Length: 9\r\n\r\n{"
            ],
            id="half a body",
        ),
        pytest.param([b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /he"], id="half a second head"),
    ],
)
def test_a_request_that_never_ends_is_dropped(run: Run, mocker: Any, start: list[bytes]) -> None:
    now_s = 0.0

    def at_each_look() -> float:  # and not while the machine is busy with something else
        nonlocal now_s
        now_s += 0.02
        return now_s

    mocker.patch("hub.http.door.time", SimpleNamespace(monotonic=at_each_look))
    mocker.patch("hub.http.connection.time", SimpleNamespace(monotonic=lambda: now_s))

    async def scenario(site: Any) -> None:
        reader, writer = await connect(site)
        with contextlib.suppress(ConnectionResetError):
            for part in start[:-1]:
                writer.write(part)
                await reader.readuntil(b'service"}')
            writer.write(start[-1])
            await reader.read()  # returns when the server has closed
        writer.close()
        assert site.door.wire.timeouts == 1
        assert (await site.get("/health")).status_code == 200

    run(scenario, limits=Limits(request_s=0.05))


def test_an_idle_connection_and_a_slow_answer_are_not_dropped(run: Run, mocker: Any) -> None:
    async def scenario(site: Any) -> None:
        real = site.door._server.server_state.connections
        submit = site.hub.log.submit
        sweeps = 0

        def slow(*arguments: Any) -> list[int]:
            nonlocal sweeps
            for _ in range(3):
                sweeps += 1
                (connection,) = real
                assert not connection.overdue(1e6 * sweeps)
            seqs: list[int] = submit(*arguments)
            return seqs

        mocker.patch.object(site.hub.log, "submit", side_effect=slow)
        for _ in range(2):  # the second time its head is known
            assert (await site.publish()).status_code == 202
        assert sweeps == 6
        (idle,) = real
        assert not idle.overdue(6e6 + Limits().idle_s)
        assert idle.overdue(6e6 + Limits().idle_s + 1)

    run(scenario)


def test_connections_above_the_limit_are_refused_and_counted(run: Run) -> None:
    async def scenario(site: Any) -> None:
        held = [await connect(site) for _ in range(2)]
        for _, writer in held:
            writer.write(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        for reader, _ in held:
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        with pytest.raises(httpx.TransportError):
            await site.get("/health")
        assert site.door.wire.refused == 1
        for _, writer in held:
            writer.close()

    run(scenario, limits=Limits(connections=2))


def test_a_client_that_waits_for_100_continue_gets_it(run: Run) -> None:
    async def scenario(site: Any) -> None:
        body = b'[{"n":"a","v":1}]'
        reader, writer = await connect(site)
        writer.write(
            f"POST {site.messages} HTTP/1.1\r\nHost: a\r\nAuthorization: Thing {site.key}\r\nExpect: 100-continue\r\n"
            f"Content-Type: application/senml+json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        )
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await reader.readline()).startswith(b"HTTP/1.1 202")
        writer.close()

    run(scenario)


def test_pipelined_requests_are_answered_in_order(run: Run) -> None:
    async def scenario(site: Any) -> None:
        answer = await ask(
            site,
            b"GET /version HTTP/1.1\r\nHost: a\r\n\r\nHEAD /health HTTP/1.1\r\nHost: a\r\n\r\n"
            b"GET /status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        )
        first, second, third = answer.split(b"HTTP/1.1 200 OK\r\n")[1:]
        assert b'"service"' in first
        assert second.endswith(b"\r\n\r\n")
        assert b'"running"' in third

    run(scenario)


def test_a_stream_ends_with_its_client_though_a_request_waits_behind_it(run: Run) -> None:
    async def scenario(site: Any) -> None:
        for behind in (b"", b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"):
            reader, writer = await connect(site)
            key = site.thing["authorization"]
            head = f"GET {site.messages} HTTP/1.1\r\nHost: a\r\nAuthorization: {key}\r\nAccept: text/event-stream"
            writer.write(f"{head}\r\n\r\n".encode() + behind)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            assert site.app.streams.open == 1
            writer.close()
            await until(lambda: not site.app.streams.open)

    run(scenario)


def test_an_upgrade_behind_a_request_that_is_not_answered_ends_the_connection(run: Run) -> None:
    async def scenario(site: Any) -> None:
        key = site.thing["authorization"]
        more = f"HTTP/1.1\r\nHost: a\r\nAuthorization: {key}\r\n"
        publish = (
            f"POST {site.messages} {more}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
        )
        upgrade = (
            f"GET {site.messages} {more}Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        with contextlib.suppress(ConnectionError):
            assert await ask(site, (publish + upgrade).encode()) == b""
        assert site.door.wire.malformed == 1
        reader, writer = await connect(site)
        writer.write(upgrade.encode())  # alone it is answered
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        writer.close()

    run(scenario)


def test_a_connection_that_broke_leaves_no_timer(run: Run, mocker: Any) -> None:
    made = mocker.spy(BoundedProtocol, "connection_made")

    async def scenario(site: Any) -> None:
        reader, writer = await connect(site)
        writer.write(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        protocol = made.call_args.args[0]
        assert protocol.timeout_keep_alive_task is not None
        linger = struct.pack("ii", 1, 0)  # a reset instead of a farewell
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
        await until(lambda: not site.door.wire.open)
        assert protocol.timeout_keep_alive_task is None

    run(scenario)


def test_the_door_leaves_signals_alone_and_gives_its_port_back(run: Run) -> None:
    host = "127.0.0.9"  # no outgoing connection of another test gets its port here once it is free

    async def scenario(site: Any) -> None:
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        door = HttpDoor(site.hub, site.app, host)
        await door.start()
        second = HttpDoor(site.hub, site.app, host, door.port)
        with pytest.raises(OSError, match="in use"):
            await second.start()
        assert {number: signal.getsignal(number) for number in before} == before
        await door.close()
        with socket.create_server((host, door.port)):
            pass

    run(scenario)


def test_two_doors_serve_one_app(run: Run) -> None:
    async def scenario(site: Any) -> None:
        second = HttpDoor(site.hub, site.app)
        await second.start()
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=30) as client:
            assert (await client.get(f"http://127.0.0.1:{second.port}/status")).json() == {"running": True}
        await second.close()
        await second.close()
        assert (await site.get("/status")).status_code == 200

    run(scenario)


def test_the_door_speaks_tls_when_given_a_context(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    async def main() -> None:
        hub = Hub.open(tmp_path / "data")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificate)
        door = HttpDoor(hub, ssl=context)
        await door.start()
        trust = ssl.create_default_context(cafile=certificate[0])
        async with httpx.AsyncClient(verify=trust, trust_env=False, timeout=30) as client:
            answer = await client.get(f"https://localhost:{door.port}/health")
        assert answer.json()["status"] == "pass"
        await door.close()
        await hub.close()

    asyncio.run(main())
