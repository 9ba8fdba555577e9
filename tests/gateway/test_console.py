"""Commands at the machine: they reach the running gateway by a socket of its own, and help whoever is locked out."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyotp.totp import TOTP

from gateway.console import MAX_LINE, SOCKET, Console, ConsoleError, Request, ask
from hub.errors import TooManyTries
from hub.hub import Hub

OWNER, PASSWORD = "owner@example.org", "four or five easy words"


def run(folder: Path, test: Callable[[Hub, Callable[..., Any]], Any]) -> None:
    async def main() -> None:
        hub = Hub.open(folder / "data")
        console = Console(folder / "run", hub)
        await console.start()

        async def command(**request: Any) -> dict[str, Any]:
            return await asyncio.to_thread(ask, folder / "run", Request(**request))

        try:
            await test(hub, command)
        finally:
            await console.close()
            await hub.close()
        assert not (folder / "run" / SOCKET).exists()

    asyncio.run(main())


def test_the_owner_gets_in_again_whatever_happened(tmp_path: Path) -> None:
    async def test(hub: Hub, command: Callable[..., Any]) -> None:
        owner = await asyncio.to_thread(hub.registry.create_user, OWNER, PASSWORD)
        now_s = hub.clock()[0] / 1e9
        session = hub.registry.issue_token(owner.id, now_s)
        app = TOTP(hub.registry.totp.begin(owner.id, OWNER).secret)
        hub.registry.totp.confirm(owner.id, app.at(int(now_s)), now_s, True)
        for _ in range(10):
            with pytest.raises(Exception, match=r"wrong"):
                hub.sign_in.sign_in(OWNER, "not the password", address="192.0.2.1")
        assert await command(do="list") == {"people": [{"email": OWNER, "role": "admin", "totp": True}]}
        await command(do="unlock", email=OWNER)
        await command(do="password", email=OWNER.upper(), password="five or six other words")
        assert await command(do="totp-off", email=OWNER) == {"was_on": True}
        assert await command(do="totp-off", email=OWNER) == {"was_on": False}
        assert hub.registry.user_by_token(session, now_s) is None
        assert hub.sign_in.sign_in(OWNER, "five or six other words", address="192.0.2.1").user == owner
        assert await command(do="sign-out", email=OWNER) == {"ended": 1}
        with pytest.raises(ConsoleError, match="8 to 256 characters"):
            await command(do="password", email=OWNER, password="short")
        with pytest.raises(ConsoleError, match="nobody has an account"):
            await command(do="password", email="x@example.org", password=PASSWORD)
        hub.audit.flush()
        with hub.audit.reader() as reader:
            lines = reader.lines("door = 'console'", (), 20)[::-1]
        assert {line.who for line in lines} == {"the machine itself"}
        assert [(line.kind, line.detail) for line in lines] == [
            ("account", "pauses ended"),
            ("account", "another password"),
            ("totp", "turned off"),
            ("sign-out", "1 sessions ended"),
        ]

    run(tmp_path, test)


def test_pauses_of_everybody_end_at_once(tmp_path: Path) -> None:
    async def test(hub: Hub, command: Callable[..., Any]) -> None:
        guard = hub.sign_in.lockout
        for n in range(30):
            try:
                guard.begin(0.0, "192.0.2.1", name=f"{n}@example.org")
            except TooManyTries:
                break
        with pytest.raises(TooManyTries):
            guard.begin(0.0, "192.0.2.1", name="me@example.org")
        await command(do="unlock")
        guard.begin(0.0, "192.0.2.1", name="me@example.org")

    run(tmp_path, test)


def test_the_claim_code_is_given_and_replaced(tmp_path: Path) -> None:
    async def test(hub: Hub, command: Callable[..., Any]) -> None:
        shown = (await command(do="claim-code"))["code"]
        assert shown == hub.registry.claim_code()
        new = (await command(do="claim-code", new=True))["code"]
        assert new != shown
        await asyncio.to_thread(hub.registry.claim, new, OWNER, PASSWORD)
        assert await command(do="claim-code", new=True) == {"claimed": True}

    run(tmp_path, test)


def test_only_the_gateways_own_user_can_open_the_socket(tmp_path: Path) -> None:
    async def test(hub: Hub, command: Callable[..., Any]) -> None:
        mode = (tmp_path / "run" / SOCKET).stat().st_mode
        assert stat.S_IMODE(mode) == 0o600

    run(tmp_path, test)


@pytest.mark.parametrize(
    "line",
    [b"", b"\n", b"{}\n", b"[]\n", b'{"do": "reboot"}\n', b"\xff\xfe\n", b"x" * (2 * MAX_LINE) + b"\n"],
)
def test_what_is_no_command_does_no_harm(tmp_path: Path, line: bytes) -> None:
    def send() -> bytes:
        folder = os.open(tmp_path / "run", os.O_PATH)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(10)
                # A socket's path has 108 bytes at most
                connection.connect(f"/proc/self/fd/{folder}/{SOCKET}")
                connection.sendall(line)
                connection.shutdown(socket.SHUT_WR)
                return connection.makefile("rb").readline()
        except ConnectionError:
            return b""
        finally:
            os.close(folder)

    async def test(hub: Hub, command: Callable[..., Any]) -> None:
        answer = await asyncio.to_thread(send)
        assert not answer or "error" in json.loads(answer)
        assert await command(do="list") == {"people": []}

    run(tmp_path, test)


def test_without_a_gateway_it_is_said_what_to_do(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ConsoleError, match="not running"):
            ask(folder, Request(do="list"))
