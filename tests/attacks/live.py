"""Listeners on every door that stay open until the gateway ends them: for tests and measurements of revocation."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import httpx
import websockets

from hub.coap.packets import ACK, CON, RST, Code, Opt, decode, encode, encode_empty
from hub.tokens.bearer import AUDIENCE
from hub.tokens.grants import Grant
from hub.tokens.scopes import Scopes, parse
from hub.tokens.verifier import ACCESS_TOKEN
from tests.hub.mqtt.conftest import Client

PACK = b'[{"n":"t","v":1}]'
PATIENCE_S = 15.0
READING = parse("messages:read")


@dataclass
class Credential:
    """What a listener shows. `who` is the thing or user; `grant` where it is an API key or a token."""

    value: str = field(repr=False)
    username: str
    kind: str  # "thing" or "user"
    who: str
    grant: Grant | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {
            "authorization": f"Bearer {self.value}"
            if self.kind == "user" or self.grant
            else f"Thing {self.value}"
        }


class Listener(ABC):
    """One open subscription. `heard` counts messages, `over` is set when the door has ended it."""

    def __init__(self) -> None:
        self.heard = 0
        self.over = asyncio.Event()
        self.over_s = 0.0  # monotonic
        self._changed = asyncio.Event()

    @abstractmethod
    async def open(self, s: Any, credential: Credential, channel: str) -> None:
        """Return when it listens."""

    @abstractmethod
    async def close(self) -> None: ...

    def hear(self) -> None:
        self.heard += 1
        self._changed.set()

    def end(self) -> None:
        if not self.over.is_set():
            self.over_s = time.monotonic()
            self.over.set()

    async def hears(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.heard < count:
                self._changed.clear()
                await self._changed.wait()


class Mqtt(Listener):
    async def open(self, s: Any, credential: Credential, channel: str) -> None:
        reader, self._writer = await asyncio.open_connection("127.0.0.1", s.mqtt.port)
        client = Client(reader, self._writer)
        client.connect("listener", credential.username, credential.value)
        assert await client.read() == (0x20, b"\0\0"), credential
        assert await client.subscribe((f"channels/{channel}/messages/#", 1)) == b"\1"
        self._task = asyncio.create_task(self._run(client), name="mqtt listener")

    async def _run(self, client: Client) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                first = (await client.reader.readexactly(1))[0]
                size = (await client.reader.readexactly(1))[0]
                if size & 0x80:
                    size = (size & 0x7F) | (await client.reader.readexactly(1))[0] << 7
                await client.reader.readexactly(size)
                if first >> 4 == 3:
                    self.hear()
        self.end()

    async def close(self) -> None:
        self._writer.close()
        await self._task


class WebSocket(Listener):
    async def open(self, s: Any, credential: Credential, channel: str) -> None:
        url = f"{s.ws_url}/channels/{channel}/messages"
        self._socket = await websockets.connect(url, additional_headers=credential.headers)
        self._task = asyncio.create_task(self._run(), name="ws listener")

    async def _run(self) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                await self._socket.recv()
                self.hear()
        self.end()

    async def close(self) -> None:
        await self._socket.close()
        await self._task


class Events(Listener):
    async def open(self, s: Any, credential: Credential, channel: str) -> None:
        self._client = httpx.AsyncClient(base_url=s.url, trust_env=False, timeout=PATIENCE_S)
        headers = {**credential.headers, "accept": "text/event-stream"}
        request = self._client.build_request("GET", f"/channels/{channel}/messages", headers=headers)
        self._answer = await self._client.send(request, stream=True)
        assert self._answer.status_code == 200
        self._task = asyncio.create_task(self._run(), name="sse listener")

    async def _run(self) -> None:
        with contextlib.suppress(httpx.StreamError, httpx.RemoteProtocolError):
            async for line in self._answer.aiter_lines():
                if line.startswith("data:"):
                    self.hear()
        self.end()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._answer.aclose()
        await self._client.aclose()


class Observation(Listener, asyncio.DatagramProtocol):
    """CoAP (RFC 7641): acknowledges what is confirmable and answers pings."""

    async def open(self, s: Any, credential: Credential, channel: str) -> None:
        self._answered = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, remote_addr=("127.0.0.1", s.coap.port)
        )
        path = ("channels", channel, "messages", "#")
        options = [(int(Opt.OBSERVE), b""), *((int(Opt.URI_PATH), each.encode()) for each in path)]
        options.append((int(Opt.URI_QUERY), f"auth={credential.value}".encode()))
        self._transport.sendto(encode(CON, Code.GET, 1, b"tk", tuple(options), b""))
        async with asyncio.timeout(PATIENCE_S):
            await self._answered.wait()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        packet = decode(data)
        if packet.type == CON:
            self._transport.sendto(encode_empty(RST if packet.code == 0 else ACK, packet.mid))
            if packet.code == 0:
                self._answered.set()  # a ping: from now on this address is proven
        if packet.code == 0:
            return
        if packet.type == ACK and packet.first(Opt.OBSERVE) is not None:
            if packet.first(Opt.ECHO) is None and packet.code >> 5 == 2 and not self._answered.is_set():
                return  # the ping follows
        elif packet.code >> 5 == 2:
            self.hear()
        else:
            self.end()
            self._answered.set()

    async def close(self) -> None:
        self._transport.close()


DOORS: dict[str, type[Listener]] = {"mqtt": Mqtt, "ws": WebSocket, "sse": Events, "coap": Observation}


@dataclass
class Subject:
    """A thing that listens on a channel and another one that publishes there, and a person who looks on."""

    s: Any
    channel: str
    thing_id: str
    key: str = field(repr=False)
    writer: Any
    user_id: str
    email: str
    session: str = field(repr=False)

    @classmethod
    def new(cls, s: Any, name: str) -> Subject:
        registry = s.hub.registry
        channel = registry.create_channel(name)
        thing, key = registry.create_thing(f"{name} listener")
        writer, writer_key = registry.create_thing(f"{name} writer")
        registry.connect([channel.id], [thing.id, writer.id])
        person = s.person(f"{name}@example.org", "viewer")
        return cls(
            *(s, channel.id, thing.id, key, s.hub.authenticate_thing(writer_key)),
            *(person.user.id, person.user.email, person.token),
        )

    async def publish(self) -> None:
        await self.s.hub.publish(self.writer, "http", self.channel, "a", "application/senml+json", PACK)

    def credential(self, kind: str, *, expires_s: float | None = None) -> Credential:
        """One of "thing key", "thing API key", "user API key", "session", "token"."""
        registry, now_s = self.s.hub.registry, self.s.hub.now_s()
        if kind == "thing key":
            return Credential(self.key, self.thing_id, "thing", self.thing_id)
        if kind == "session":
            return Credential(self.session, self.email, "user", self.user_id)
        owner, who, username = ("thing", self.thing_id, self.thing_id)
        if kind != "thing API key":
            owner, who, username = ("user", self.user_id, self.email)
        scopes = Scopes(READING)
        sort = "oauth" if kind == "token" else "key"
        grant, value = registry.grants.add(
            owner, who, name=kind, scopes=scopes, now_s=now_s, expires_s=expires_s, kind=sort
        )
        if kind == "token":
            iat = int(now_s)
            claims = {
                "iss": self.s.hub.bearers.issuer,
                "aud": AUDIENCE,
                "sub": f"users/{who}",
                "jti": grant.id,
            }
            claims |= {
                "iat": iat,
                "exp": iat + 600,
                "grant": grant.id,
                "scope": str(scopes),
                "client_id": "x",
            }
            value = registry.signing.sign(claims, ACCESS_TOKEN)
        return Credential(value, username, owner, who, grant)

    def revoke(self, way: str, credential: Credential) -> None:
        """Take the right away; blocks."""
        registry, now_s = self.s.hub.registry, self.s.hub.now_s()
        grant_id = credential.grant.id if credential.grant else ""
        match way:
            case "grant removed":
                registry.grants.remove(grant_id)
            case "grant narrowed":
                registry.grants.narrow(grant_id, parse("messages:write"))
            case "grant rotated":
                registry.grants.rotate(grant_id, now_s)
            case "key rotated":
                registry.rotate_key(self.thing_id)
            case "thing removed":
                registry.remove_thing(self.thing_id)
            case "connection cut":
                registry.disconnect([self.channel], [self.thing_id])
            case "channel removed":
                registry.remove_channel(self.channel)
            case "policy changed":
                document = json.dumps(_denying(f"{credential.kind}s/{credential.who}"))
                registry.change_policies({"p": document}, now_s)
            case "user removed":
                registry.remove_user(self.user_id)
            case "role lowered":
                registry.set_role(self.user_id, "member")
            case "signed out":
                registry.revoke_token(self.session)
            case "signing key void":
                registry.signing.rotate(now_s, void=True)
            case _:
                raise AssertionError(way)


def _denying(subject: str) -> dict[str, Any]:
    return {
        "subjects": [subject],
        "actions": ["subscribe", "deliver"],
        "resources": ["channels/<.*>"],
        "effect": "deny",
    }


# Each way in which a right ends, with what the listener shows and the doors that take that.
EVERY = tuple(DOORS)
WAYS: list[tuple[str, str, tuple[str, ...]]] = [
    ("grant removed", "thing API key", EVERY),
    ("grant removed", "user API key", EVERY),
    ("grant removed", "token", ("mqtt", "ws", "sse")),
    ("grant narrowed", "thing API key", EVERY),
    ("grant rotated", "thing API key", EVERY),
    ("key rotated", "thing key", EVERY),
    ("thing removed", "thing key", EVERY),
    ("thing removed", "thing API key", EVERY),
    ("connection cut", "thing key", EVERY),
    ("connection cut", "thing API key", EVERY),
    ("channel removed", "thing key", EVERY),
    ("policy changed", "thing key", EVERY),
    ("policy changed", "user API key", EVERY),
    ("user removed", "user API key", EVERY),
    ("user removed", "session", ("mqtt", "ws", "sse")),
    ("user removed", "token", ("mqtt", "ws", "sse")),
    ("role lowered", "user API key", EVERY),
    ("signed out", "session", ("mqtt", "ws", "sse")),
    ("signing key void", "token", ("mqtt", "ws", "sse")),
]
