"""A whole gateway on a file system of its own that fills up, turns read-only, and gets well again.

Run over the disk shim, inside a mount namespace; the argument is the folder where the small disk is mounted. Prints
one line a step and ends with "ok". While nothing can be stored: new messages are refused on every door with the right
word, the confirmed uplink gets no ACK, and what only reads goes on, logging in included. Afterwards the
doors take messages again by themselves, and everything acknowledged is in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from torture import mqtt_client as wire
from torture.loads import GATEWAY_EUI, Device, Site, coap_post, gateway_config
from torture.mqtt_client import Link
from torture.shim import Call, Shim

from gateway import app
from gateway import core as core_parts
from gateway.config import parse
from gateway.devices.registration import register
from gateway.lorawan.device import DeviceConfig
from radio import gwmp
from radio.lora import LoRaModulation

BACK_S = 10.0  # a disk that is well again is used within this time
DEADLINE_S = 20.0
FILLING = 600  # messages of 60 KB: more than the log has room for in the files it holds
PASSWORD = "correct horse battery"


class Scenario:
    """One gateway, and what its clients were told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.acknowledged: set[str] = set()
        self.sent = 0
        self.device = Device()
        self.shim = Shim()
        self.shim.start(folder, Path(os.devnull))

    async def run(self) -> None:
        config = parse(gateway_config(self.folder, Site()))
        async with app.running(config) as gateway:
            self.gateway = gateway
            await self._prepare()
            base = f"http://127.0.0.1:{gateway.http.port}"
            async with httpx.AsyncClient(base_url=base, timeout=DEADLINE_S) as self.http:
                await self._well("at first")
                with self._full():
                    await self._ill("full", {507})
                await self._well("with room again")
                with self._read_only():
                    await self._ill("read-only", {503, 507})
                await self._well("writable again")
        async with core_parts.opened_core(config) as core:
            stored = {m.payload.decode() for m in core.hub.log.read(0, None, 1 << 40) if m.protocol != "lora"}
        assert self.acknowledged <= stored, f"lost: {sorted(self.acknowledged - stored)[:5]}"
        print(f"{len(self.acknowledged)} acknowledged, all stored", flush=True)

    async def _prepare(self) -> None:
        core = self.gateway.core
        registry = core.hub.registry
        thing, self.key = registry.create_thing("sender")
        self.thing = thing.id
        config: DeviceConfig = self.device.config()
        self.channel = (await register(core.hub, core.server, config)).channel_id
        registry.connect([self.channel], [thing.id])
        user = registry.create_user("owner@example.org", PASSWORD)
        self.token = registry.issue_token(user.id, time.time())

    # The disk

    @contextlib.contextmanager
    def _full(self) -> Any:
        """Somebody else's file takes all the room, and what comes free as well."""
        filler = self.folder / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        try:
            yield
        finally:
            filler.unlink()

    @contextlib.contextmanager
    def _read_only(self) -> Any:
        """As a file system that has met an error: nobody else sees it, but every write is refused."""
        self.shim.fail(Call.ANY, 1, errno.EROFS, forever=True)
        try:
            yield
        finally:
            self.shim.fail(Call.ANY, 0, errno.EROFS, forever=False)

    # What clients see

    async def _well(self, moment: str) -> None:
        """Within BACK_S every door takes a message."""
        began = time.monotonic()
        while True:
            answers = {name: await door() for name, door in self._doors().items()}
            if all(answer in GOOD[name] for name, answer in answers.items()):
                break
            if time.monotonic() - began > BACK_S:
                raise AssertionError(f"{moment}: {answers}")
            await asyncio.sleep(0.2)
        print(f"{moment}: {answers} after {time.monotonic() - began:.1f} s", flush=True)

    async def _ill(self, state: str, statuses: set[int]) -> None:
        """Fill what is left, then look at every door."""
        for _ in range(FILLING):
            if await self._post(60_000) in statuses:
                break
        answers = {name: await door() for name, door in self._doors().items()}
        print(f"{state}: {answers}", flush=True)
        assert answers["http"] in statuses, answers
        assert answers["mqtt 3.1.1"] == "closed", answers
        assert answers["mqtt 5"] == "0x97", answers
        assert answers["coap"] == "5.03", answers
        assert answers["lorawan"] == "no ack", answers
        assert answers["login"] == 201, answers
        assert answers["read"] == 200, answers
        assert answers["status"] == 200, answers

    def _doors(self) -> dict[str, Any]:
        return {
            "http": self._post,
            "mqtt 3.1.1": lambda: self._mqtt(4),
            "mqtt 5": lambda: self._mqtt(5),
            "coap": self._coap,
            "lorawan": self._lora,
            "login": self._login,
            "read": lambda: self._get(f"/channels/{self.channel}/messages?limit=1"),
            "status": lambda: self._get("/gateway/status"),
        }

    def _body(self, size: int = 500) -> str:
        self.sent += 1
        return f"body-{self.sent}-{'x' * size}"

    async def _post(self, size: int = 500) -> int:
        body = self._body(size)
        answer = await self.http.post(
            f"/channels/{self.channel}/messages",
            content=body,
            headers={"authorization": f"Thing {self.key}", "content-type": "application/octet-stream"},
        )
        if answer.status_code == 202:
            self.acknowledged.add(body)
        return answer.status_code

    async def _get(self, path: str) -> int:
        return (await self.http.get(path, headers={"authorization": f"Bearer {self.token}"})).status_code

    async def _login(self) -> int:
        body = {"email": "owner@example.org", "password": PASSWORD}
        return (await self.http.post("/tokens", json=body)).status_code

    async def _mqtt(self, version: int) -> str:
        """What becomes of a QoS 1 PUBLISH: "ack", the reason of a refusal, or "closed"."""
        said: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
        link = await Link.open(self.gateway.mqtt.port, lambda first, body: said.put_nowait((first, body)))
        try:
            link.send(wire.connect("", self.thing, self.key, version=version))
            async with asyncio.timeout(DEADLINE_S):
                first, answer = await said.get()
            assert (first, answer[1]) == (wire.CONNACK, 0), (first, answer)
            body = self._body()
            link.send(wire.publish(f"channels/{self.channel}/messages", body.encode(), 1, 1, version=version))
            async with asyncio.timeout(DEADLINE_S):
                waiting = asyncio.ensure_future(said.get())
                ends: list[asyncio.Future[Any]] = [waiting, link.lost]
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                waiting.cancel()
                return "closed"
            first, answer = waiting.result()
            assert first == wire.PUBACK, (first, answer)
            if wire.reason_of(answer) >= wire.REFUSED:
                return f"{wire.reason_of(answer):#x}"
            self.acknowledged.add(body)
            return "ack"
        finally:
            link.close()

    async def _coap(self) -> str:
        body = self._body()
        port = self.gateway.doors.coap.port if self.gateway.doors.coap else 0
        answer = await coap_post(port, Site(channel=self.channel, thing=(self.thing, self.key)), body)
        if answer == "2.04":
            self.acknowledged.add(body)
        return answer

    async def _lora(self) -> str:
        """Whether a confirmed uplink is answered with its ACK; the forwarder is heard in any case."""
        loop = asyncio.get_running_loop()
        frame = self.device.uplink()
        packet = gwmp.RxPacket(1_000_000, 868_100_000, 0, 0, 1, LoRaModulation(7, 125_000), -80, 7.5, frame)
        transport, protocol = await loop.create_datagram_endpoint(
            _Datagrams, remote_addr=("127.0.0.1", self.gateway.gwmp_port)
        )
        try:
            transport.sendto(gwmp.encode(gwmp.PullData(1, GATEWAY_EUI)))
            transport.sendto(gwmp.encode(gwmp.PushData(2, GATEWAY_EUI, (packet,))))
            heard = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    while True:
                        answer = gwmp.decode(await protocol.received.get())
                        heard |= isinstance(answer, gwmp.PushAck)
                        if isinstance(answer, gwmp.PullResp):
                            transport.sendto(gwmp.encode(gwmp.TxAck(answer.token, GATEWAY_EUI)))
                            return "ack"
            return "no ack" if heard else "deaf"
        finally:
            transport.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.received: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self.received.put_nowait(data)


GOOD: dict[str, tuple[object, ...]] = {
    "http": (202,),
    "mqtt 3.1.1": ("ack",),
    "mqtt 5": ("ack",),
    "coap": ("2.04",),
    "lorawan": ("ack",),
    "login": (201,),
    "read": (200,),
    "status": (200,),
}


def main(folder: str) -> None:
    work = Path(folder)
    asyncio.run(Scenario(work).run())
    print("ok")


if __name__ == "__main__":
    main(sys.argv[1])
