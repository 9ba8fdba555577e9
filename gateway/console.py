"""What the owner can do at the machine itself, whatever happens on the network: claim code, passwords, pauses, codes.

A socket in the runtime directory, which only root and the gateway's own user can open; that right is the credential.
One line of JSON asks, one answers. Both ends are here: `Console` in the gateway's process, `ask` in the command's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from hub.audit import Attempt, attempting
from hub.errors import HubError, NotFound
from hub.hub import Hub
from hub.registry import User

log = logging.getLogger("gateway.console")

SOCKET = "console.sock"
MAX_LINE = 4096  # bytes of a request
MAX_ASKING = 4  # connections at a time
PATIENCE_S = 30.0  # for a request, and for its answer: a password is hashed meanwhile
WHO = "the machine itself"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """`do` is a key of `_ACTIONS`; the rest is what it needs."""

    do: str
    email: str = ""
    password: str = ""
    new: bool = False

    def __repr__(self) -> str:
        return f"Request({self.do})"


class ConsoleError(Exception):
    """The gateway could not be asked, or said no; a sentence for the person at the keyboard."""


class Console:
    """The gateway's end. Belongs to the event loop."""

    def __init__(self, folder: Path, hub: Hub) -> None:
        self._folder, self._hub = folder, hub
        self._slots = asyncio.Semaphore(MAX_ASKING)
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; without a socket the gateway runs all the same, and says so."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with _reachable(self._folder) as path:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                listener.bind(path)
                os.chmod(path, 0o600)
        except OSError as error:
            log.warning("commands at the machine find nobody: %s", error)
            return
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MAX_LINE)

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            (self._folder / SOCKET).unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with self._slots, asyncio.timeout(PATIENCE_S):
                writer.write(await self._answer(await reader.readline()) + b"\n")
                await writer.drain()
        except (OSError, TimeoutError, ValueError):  # ValueError: a line that is too long
            log.info("a command at the machine broke off")
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> bytes:
        try:
            request = msgspec.json.decode(line, type=Request)
            action = _ACTIONS[request.do]
        except (msgspec.MsgspecError, UnicodeDecodeError, KeyError):
            return msgspec.json.encode({"error": "the gateway does not know this command"})
        with attempting(Attempt(WHO, "", "console", f"console {request.do}")):
            try:
                return msgspec.json.encode(await asyncio.to_thread(action, self._hub, request))
            except HubError as error:
                return msgspec.json.encode({"error": error.reason})


def _claim_code(hub: Hub, request: Request) -> dict[str, Any]:
    registry = hub.registry
    if registry.claimed:
        return {"claimed": True}
    code = registry.new_claim_code() if request.new else registry.claim_code()
    if request.new:
        hub.audit.record("claim", "done", detail="a new claim code")
    return {"code": code}


def _password(hub: Hub, request: Request) -> dict[str, Any]:
    user = _user(hub, request.email)
    hub.registry.change_password(user.id, request.password)
    hub.sign_in.lift(user.id)
    hub.audit.record("account", "done", resource=f"users/{user.id}", detail="another password")
    return {"email": user.email}


def _unlock(hub: Hub, request: Request) -> dict[str, Any]:
    user_id = _user(hub, request.email).id if request.email else ""
    hub.sign_in.lift(user_id)
    about = f"users/{user_id}" if user_id else "everybody"
    hub.audit.record("account", "done", resource=about, detail="pauses ended")
    return {}


def _totp_off(hub: Hub, request: Request) -> dict[str, Any]:
    user = _user(hub, request.email)
    was_on = hub.registry.totp.turn_off(user.id)
    if was_on:
        hub.audit.record("totp", "done", resource=f"users/{user.id}", detail="turned off")
    return {"was_on": was_on}


def _list(hub: Hub, request: Request) -> dict[str, Any]:
    totp = hub.registry.totp
    people = [
        {"email": each.email, "role": each.role, "totp": totp.on(each.id)} for each in hub.registry.users()
    ]
    return {"people": people}


def _sign_out(hub: Hub, request: Request) -> dict[str, Any]:
    user = _user(hub, request.email)
    ended = hub.registry.sessions.end(lambda each: each.user_id == user.id)
    hub.audit.record("sign-out", "done", resource=f"users/{user.id}", detail=f"{ended} sessions ended")
    return {"ended": ended}


_ACTIONS: dict[str, Callable[[Hub, Request], dict[str, Any]]] = {
    "claim-code": _claim_code,
    "list": _list,
    "password": _password,
    "unlock": _unlock,
    "totp-off": _totp_off,
    "sign-out": _sign_out,
}


def _user(hub: Hub, email: str) -> User:
    user = hub.registry.user_by_email(email)
    if user is None:
        raise NotFound(f"nobody has an account as {email}: `fluxgate account list` shows who has")
    return user


def ask(folder: Path, request: Request) -> dict[str, Any]:
    """What the running gateway answers. Raises ConsoleError."""
    try:
        with _reachable(folder) as path, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(PATIENCE_S)
            connection.connect(path)
            connection.sendall(msgspec.json.encode(request) + b"\n")
            with connection.makefile("rb") as lines:
                answer: dict[str, Any] = json.loads(lines.readline())
    except PermissionError:
        raise ConsoleError("only root may do this: put `sudo` in front of the command") from None
    except (FileNotFoundError, ConnectionRefusedError):
        raise ConsoleError("the gateway is not running: start it first") from None
    except (OSError, ValueError) as error:
        raise ConsoleError(f"the gateway did not answer: {error}") from None
    if "error" in answer:
        raise ConsoleError(str(answer["error"]))
    return answer


@contextlib.contextmanager
def _reachable(folder: Path) -> Iterator[str]:
    """A name of the socket that is short enough for the kernel (107 bytes), however long the folder's is."""
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}/{SOCKET}"
    finally:
        os.close(handle)
