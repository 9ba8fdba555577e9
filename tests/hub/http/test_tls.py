"""The door over TLS, and things that show a certificate instead of a key."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from hub.tls import server_context
from tests.hub.pki import Authority, Pair

Run = Callable[..., None]
PACK = b'[{"n":"level","v":1}]'


def client_context(authority: Authority, pair: Pair | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.cert))
    if pair is not None:
        context.load_cert_chain(pair.cert, pair.key)
    return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_a_certificate_publishes_and_reads_as_the_thing_it_names(run: Run, authority: Authority) -> None:
    gateway = authority.server()

    async def scenario(site: Any) -> None:
        url = f"https://127.0.0.1:{site.door.port}{site.messages}"
        headers = {"content-type": "application/senml+json"}
        mine = client_context(authority, authority.issue(site.thing_id))
        async with httpx.AsyncClient(verify=mine, trust_env=False, timeout=30) as client:
            for _ in range(3):
                assert (await client.post(url, content=PACK, headers=headers)).status_code == 202
            assert (await client.get(url)).json()["total"] == 3
            wrong = await client.post(url, content=PACK, headers={**headers, "authorization": "Thing wrong"})
            assert wrong.status_code == 401, "a credential that is shown is the one that counts"
            own = {"origin": f"https://127.0.0.1:{site.door.port}"}
            assert (await client.get(url, headers=own)).status_code == 200
            foreign = await client.get(url, headers={"origin": "https://elsewhere.example"})
            assert foreign.status_code == 401, "a browser shows the certificate for any page"
            socket_url = url.replace("https", "wss") + "?envelope=1"
            async with connect(socket_url, ssl=mine, proxy=None) as socket:
                await socket.send(json.dumps({"id": 1, "payload": 1}))
                assert json.loads(await socket.recv())["type"] == "ack"
            site.hub.registry.remove_thing(site.thing_id)
            assert (await client.post(url, content=PACK, headers=headers)).status_code == 401
        assert {message.publisher for message in site.stored()} == {site.thing_id}
        for name in ("nobody", ""):
            other = client_context(authority, authority.issue(name) if name else None)
            async with httpx.AsyncClient(verify=other, trust_env=False, timeout=30) as client:
                assert (await client.post(url, content=PACK, headers=headers)).status_code == 401

    run(scenario, ssl=server_context(gateway.cert, gateway.key, client_ca_file=authority.cert))


def test_known_heads_and_streams_work_over_tls(run: Run, authority: Authority) -> None:
    gateway = authority.server()

    async def scenario(site: Any) -> None:
        url = f"https://127.0.0.1:{site.door.port}{site.messages}"
        context = client_context(authority, None)
        headers = {**site.thing, "content-type": "application/senml+json"}
        async with httpx.AsyncClient(verify=context, trust_env=False, timeout=30) as client:
            for _ in range(4):
                assert (await client.post(url, content=PACK, headers=headers)).status_code == 202
            stream = {**site.user, "accept": "text/event-stream"}
            async with client.stream("GET", f"{url}?after=0", headers=stream) as response:
                lines = response.aiter_lines()
                ids: list[str] = []
                while len(ids) < 4:
                    line = await anext(lines)
                    ids += [line[4:]] if line.startswith("id: ") else []
        assert ids == ["1", "2", "3", "4"]

    run(scenario, ssl=server_context(gateway.cert, gateway.key))


def test_curl_publishes_over_tls(run: Run, authority: Authority) -> None:
    gateway = authority.server()

    async def scenario(site: Any) -> None:
        process = await asyncio.create_subprocess_exec(
            "curl", "-s", "--noproxy", "*", "--cacert", str(authority.cert), "-H", f"Authorization: {site.key}",
            "-H", "Content-Type: application/senml+json", "-H", "Idempotency-Key: c1", "-d", PACK.decode(),
            f"https://127.0.0.1:{site.door.port}{site.messages}", stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, _ = await process.communicate()
        assert json.loads(output) == {"response": "message sent"}

    run(scenario, ssl=server_context(gateway.cert, gateway.key))
