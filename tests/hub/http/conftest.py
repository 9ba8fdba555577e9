"""A real server on a real port for each test, with an owner, a thing and a channel it is connected to."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hub.http.app import HttpApp, create_app
from hub.http.door import HttpDoor
from hub.http.idempotency import MIGRATIONS
from hub.hub import Clock, Hub, HubSettings, system_clock
from hub.message import Message

EMAIL, PASSWORD = "owner@example.org", "correct horse"
SENML = b'[{"n":"temperature","u":"Cel","v":21.5}]'


@dataclass
class Site:
    """A running door and what a test needs to use it."""

    hub: Hub
    app: HttpApp
    door: HttpDoor
    client: httpx.AsyncClient
    token: str
    thing_id: str
    key: str
    channel_id: str

    @property
    def user(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}

    @property
    def thing(self) -> dict[str, str]:
        return {"authorization": f"Thing {self.key}"}

    @property
    def login(self) -> dict[str, str]:
        return {"email": EMAIL, "password": PASSWORD}

    @property
    def messages(self) -> str:
        return f"/channels/{self.channel_id}/messages"

    async def publish(
        self,
        payload: bytes = SENML,
        below: str = "",
        content_type: str = "application/senml+json",
        **headers: str,
    ) -> httpx.Response:
        """POST a message as the thing, to the channel or `below` it."""
        sent = {**self.thing, "content-type": content_type, **headers}
        return await self.client.post(self.messages + below, content=payload, headers=sent)

    def stored(self) -> list[Message]:
        """What the log holds, committed."""
        return self.hub.log.read(0)

    async def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        """POST JSON as the owner."""
        return await self.client.post(path, json=body, headers={**self.user, **headers})

    async def get(self, path: str) -> httpx.Response:
        """GET as the owner."""
        return await self.client.get(path, headers=self.user)

    async def raw(self, path: bytes, authorization: bytes) -> bytes:
        """GET `path` exactly as given, on a connection of its own; the whole answer as it came."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.door.port)
        writer.write(
            b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: %b\r\n\r\n"
            % (path, authorization)
        )
        try:
            return await reader.read()
        finally:
            writer.close()


Scenario = Callable[[Site], Awaitable[None]]


@asynccontextmanager
async def site(
    directory: Path,
    *,
    claimed: bool = True,
    routes: Any = (),
    max_messages: int = 10_000,
    events: bool = False,
    clock: Clock = system_clock,
    **door_settings: Any,
) -> AsyncIterator[Site]:
    settings = HubSettings(commit_interval_s=0.05, max_messages=max_messages, events=events)
    hub = Hub.open(directory, migrations=MIGRATIONS, settings=settings, clock=clock)
    app = create_app(
        hub, routes, limits=door_settings.get("limits"), proxies=door_settings.pop("proxies", None)
    )
    door = HttpDoor(hub, app, **door_settings)
    await door.start()
    token = ""
    if claimed:
        code = hub.registry.claim_code()
        assert code is not None
        user = await asyncio.to_thread(hub.registry.claim, code, EMAIL, PASSWORD)
        token = hub.registry.issue_token(user.id, hub.clock()[0] / 1e9)
    thing, key = hub.registry.create_thing("sensor")
    channel = hub.registry.create_channel("field")
    hub.registry.connect([channel.id], [thing.id])
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{door.port}", trust_env=False, verify=False, timeout=30
    ) as client:
        yield Site(hub, app, door, client, token, thing.id, key, channel.id)
    await door.close()
    await hub.close()


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., None]:
    """Run a scenario against a fresh site."""

    def run_scenario(scenario: Scenario, **settings: Any) -> None:
        async def main() -> None:
            async with site(tmp_path / "data", **settings) as here:
                await scenario(here)

        asyncio.run(main())

    return run_scenario


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed certificate for localhost and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certificate_file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate_file, key_file
