"""Two gateways behind one nginx, one of them killed; nginx told to read its files anew while requests are under way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hub.http.proxies import Proxies
from tests.attacks.conftest import Site, open_site
from tests.hub.mqtt.conftest import Client
from tests.proxy.conftest import DEADLINE_S, Front, Nginx

OCTETS = {"content-type": "application/octet-stream"}
THING, KEY, CHANNEL = "station-1", "a-key-that-both-gateways-know", "field-1"


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    opened = Front(tmp_path_factory.mktemp("balance"))
    try:
        opened.start()
        yield opened
    finally:
        opened.stop()


def test_no_request_fails_while_nginx_reads_its_files_anew(front: Front) -> None:
    """nginx closes connections between two requests; who keeps one open sends again, by the same Idempotency-Key."""

    async def scenario() -> None:
        device, log = front.site.device, front.site.hub.log
        before = log.committed_seq
        codes: list[int] = []
        done = asyncio.Event()

        async def answers(count: int) -> None:
            while len(codes) < count:  # noqa: ASYNC110 (a number, not an event)
                await asyncio.sleep(0.001)

        async def load(number: int, kept_open: bool) -> None:
            sent = {**OCTETS, **device.headers, **({} if kept_open else {"connection": "close"})}
            async with front.client() as client:
                while not done.is_set():
                    sent["idempotency-key"] = f"{number}-{len(codes)}"
                    try:
                        answer = await client.post(device.messages, content=b"1", headers=sent)
                    except httpx.TransportError:
                        assert kept_open
                        answer = await client.post(device.messages, content=b"1", headers=sent)
                    codes.append(answer.status_code)

        tasks = [asyncio.create_task(load(number, number % 2 == 0)) for number in range(4)]
        for _ in range(2):
            await answers(len(codes) + 10)
            front.nginx.reload()
            await answers(len(codes) + 40)
        done.set()
        await asyncio.gather(*tasks)
        assert set(codes) == {202}
        assert log.committed_seq - before == len(codes), "none is lost, none is stored twice"

    front.run(scenario())


def both_know(site: Site) -> None:
    """The same thing and channel on each gateway, as one layout gives them."""
    registry = site.hub.registry
    registry.create_thing("station", id=THING, key=KEY)
    registry.create_channel("field", id=CHANNEL)
    registry.connect([CHANNEL], [THING])


def test_requests_and_sessions_go_on_at_the_other_gateway_when_one_is_killed(
    front: Front, tmp_path: Path
) -> None:
    nginx = Nginx(tmp_path, front.authority)

    async def scenario() -> None:
        proxies = Proxies(["127.0.0.1"])
        async with open_site(tmp_path / "other", proxies) as other:
            sites = [front.site, other]
            for site in sites:
                both_know(site)
            ports = [other.mqtt.listen_behind_proxy("127.0.0.1", 0, proxies.trusts)]
            nginx.write(
                {
                    "fluxgate_api": [site.http.port for site in sites],
                    "fluxgate_pages": [front.site.http.port],
                    "fluxgate_mqtt": [front.mqtt_port, *ports],
                    "fluxgate_mqtt_tls": [front.mqtt_tls_port],
                }
            )
            for file, upstream in (
                ("site/gateways.conf", "fluxgate_api"),
                ("site/mqtt.conf", "fluxgate_mqtt"),
            ):
                nginx.change(
                    file, (f"upstream {upstream} {{", f"upstream {upstream} {{ hash $remote_addr consistent;")
                )
            await asyncio.to_thread(nginx.start)
            try:
                await _kill_one(nginx, front, other)
            finally:
                await asyncio.to_thread(nginx.stop)

    front.run(scenario())


async def _kill_one(nginx: Nginx, front: Front, other: Site) -> None:
    """Clients of many addresses publish; the other gateway goes, and they go on at the first."""
    origin = f"https://127.0.0.1:{nginx.ports['https']}"
    path, headers = f"/channels/{CHANNEL}/messages", {**OCTETS, "authorization": f"Thing {KEY}"}

    async def publish() -> list[int]:
        return [(await each.post(path, content=b"1", headers=headers)).status_code for each in clients]

    def counts() -> list[int]:
        return [site.hub.log.committed_seq for site in (front.site, other)]

    async with contextlib.AsyncExitStack() as stack:
        clients = []
        for number in range(1, 17):
            transport = httpx.AsyncHTTPTransport(verify=front.trust, local_address=f"127.0.1.{number}")
            client = httpx.AsyncClient(base_url=origin, transport=transport, timeout=DEADLINE_S)
            clients.append(await stack.enter_async_context(client))
        all_taken = [202] * len(clients)
        before = counts()
        assert await publish() == all_taken
        share = [now - then for now, then in zip(counts(), before, strict=True)]
        assert min(share) > 0, "both gateways have their share"
        assert await publish() == all_taken
        found = [now - then for now, then in zip(counts(), before, strict=True)]
        assert found == [2 * each for each in share], "an address stays with its gateway"
        await other.http.close()
        await other.mqtt.stop_listening()
        assert await publish() == all_taken
    for number in range(1, 9):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", nginx.ports["mqtt"], local_addr=(f"127.0.2.{number}", 0)
        )
        over_mqtt = Client(reader, writer)
        over_mqtt.connect(f"c{number}", THING, KEY)
        assert await over_mqtt.read() == (0x20, b"\x00\x00"), "MQTT finds the gateway that is left"
        writer.close()
        await writer.wait_closed()
