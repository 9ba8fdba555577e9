"""The way in over TLS, on both event loops: bytes that come early, peers that never finish, too many at once."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop

from hub.authority import entrance as module
from hub.authority.entrance import Entrance, listening_socket, why_refused
from hub.authority.judge import Shown
from hub.tls import door_context, load_pair, server_context
from tests.hub.pki import Authority

LOOPS: list[Any] = [
    pytest.param(asyncio.new_event_loop, id="asyncio"),
    pytest.param(uvloop.new_event_loop, id="uvloop"),
]
Loop = Callable[[], asyncio.AbstractEventLoop]


class Echo(asyncio.Protocol):
    """Says who came, then sends back what it hears."""

    def __init__(self, shown: Shown | None) -> None:
        self.shown = shown

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(f"{self.shown.thing if self.shown else '-'} ".encode())

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Place:
    """A listener with an entrance, and what it has told."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        gateway = self.authority.server()
        self.context = door_context([], client_ca_file=self.authority.cert)
        load_pair(self.context, gateway.cert, gateway.key)
        self.failed: list[tuple[str, str]] = []
        self.told = asyncio.Event()
        self.entrance = Entrance(
            self.context,
            lambda chain, address: Shown(f"{len(chain)}@{address}"),
            self._hear,
            handshake_s=5,
        )

    def _hear(self, address: str, why: str) -> None:
        self.failed.append((address, why))
        self.told.set()

    async def failures(self, number: int) -> None:
        """Wait until so many handshakes have failed."""
        async with asyncio.timeout(10):
            while self.entrance.failures < number:  # noqa: ASYNC110, the entrance counts and does not tell
                await asyncio.sleep(0)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        listener = listening_socket("127.0.0.1", 0, 16)
        self.entrance.listen(listener, Echo)
        try:
            yield listener.getsockname()[1]
        finally:
            await self.entrance.close()

    def client(self, *, certificate: bool = True) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.authority.cert))
        if certificate:
            pair = self.authority.issue("t")
            context.load_cert_chain(pair.cert, pair.key)
        return context


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("loop", LOOPS)
def test_bytes_that_come_with_the_end_of_the_handshake_are_not_lost(place: Place, loop: Loop) -> None:
    async def main() -> None:
        async with place.open() as port:
            for certificate, who in ((True, b"2@127.0.0.1 "), (False, b"- ")):
                context = place.client(certificate=certificate)
                for size in (1, 5000, 200_000):
                    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
                    writer.write(b"x" * size)  # behind the client's last flight
                    assert await reader.readexactly(len(who) + size) == who + b"x" * size
                    writer.close()
        assert place.failed == []

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_who_is_no_client_of_tls_is_counted_and_not_told_of_as_a_certificate(
    place: Place, loop: Loop
) -> None:
    async def main() -> None:
        async with place.open() as port:
            for words in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"", b"\0" * 3000):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(words)
                writer.write_eof()
                with contextlib.suppress(ConnectionError):
                    await reader.read()
                writer.close()
            stranger = ssl.create_default_context()  # trusts somebody else, and says so by an alert
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.open_connection("127.0.0.1", port, ssl=stranger, server_hostname="localhost")
            await place.failures(5)
        assert place.failed == []

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_refused_chain_is_told_with_address_and_reason(place: Place, tmp_path: Path, loop: Loop) -> None:
    (tmp_path / "else").mkdir()
    stranger = Authority(tmp_path / "else", "stranger").issue("t")

    async def main() -> None:
        async with place.open() as port:
            context = place.client(certificate=False)
            context.load_cert_chain(stranger.cert, stranger.key)
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
                await reader.read()
                writer.close()
            await asyncio.wait_for(place.told.wait(), 10)
        ((address, why),) = place.failed
        assert address == "127.0.0.1"
        assert "not among those this gateway trusts" in why

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_handshakes_have_a_bound_and_an_end(
    place: Place, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_HANDSHAKES", 2)

    async def main() -> None:
        async with place.open() as port:
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
            with contextlib.suppress(ConnectionError):
                await silent[2][0].read()
            assert place.entrance.refused == 1
            for _, writer in silent:
                writer.close()
            await place.failures(2)
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=place.client())
            assert await reader.readexactly(12) == b"2@127.0.0.1 "
            writer.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


def test_a_client_that_says_nothing_is_sent_away(place: Place, tmp_path: Path) -> None:
    async def main() -> None:
        place.entrance = Entrance(
            place.context, lambda chain, address: Shown(), lambda *_: None, handshake_s=0.01
        )
        async with place.open() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            async with asyncio.timeout(10):
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
            writer.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "this door wants one"),
        ("EXCESSIVE_MESSAGE_SIZE", "too long"),
        ("BAD_SIGNATURE", "private key"),
        ("NESTED_ASN1_ERROR", "cannot be read"),
        ("TLSV1_ALERT_UNKNOWN_CA", ""),
        ("SSLV3_ALERT_BAD_CERTIFICATE", ""),
        ("HTTP_REQUEST", ""),
        ("NO_SHARED_CIPHER", ""),
    ],
)
def test_only_what_is_the_certificates_fault_is_called_so(reason: str, told: str) -> None:
    error = ssl.SSLError(1, "failed")
    error.reason = reason
    why = why_refused(error)
    assert told in why if told else why == ""
    assert why_refused(ConnectionResetError()) == ""


def test_dates_are_not_openssls_affair_at_a_door_and_are_elsewhere(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    gateway, over = authority.server(), authority.issue("t", from_days=-9, to_days=-1)
    contexts = [
        door_context([], client_ca_file=authority.cert),
        server_context(gateway.cert, gateway.key, client_ca_file=authority.cert),
    ]
    load_pair(contexts[0], gateway.cert, gateway.key)
    assert [_let_in(context, authority, over) for context in contexts] == [True, False]


def _let_in(context: ssl.SSLContext, authority: Authority, pair: Any) -> bool:
    """A handshake in memory."""
    client = ssl.create_default_context(cafile=str(authority.cert))
    client.load_cert_chain(pair.cert, pair.key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    far = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(6):
        for side in (near, far):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                return False
    return True
