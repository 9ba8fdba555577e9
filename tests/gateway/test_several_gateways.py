"""A running gateway fed by several packet forwarders over loopback, with real forwarders and sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from gateway.demo.broker import free_port
from gateway.devices.registration import register
from gateway.lorawan.device import Activation, DeviceConfig
from gateway.lorawan.frames import build_join_request
from gateway.lorawan.types import AES128Key, DevEUI, JoinEUI
from gateway.settings import Config, LorawanSection, RadioSection, ServerSection
from radio.concentrator import TxResult
from radio.forwarder import Forwarder
from radio.gwmp import RxPacket, TxError, TxPacket
from radio.hardware.clock import MonotonicClock
from radio.lora import LoRaModulation
from radio.udp import UdpForwarder

OpenSite = Any  # fixtures of conftest.py, which tests cannot import
Device = Any
SF7 = LoRaModulation(7, 125_000)
NEAR, FAR = bytes.fromhex("02f10f6a7e00000a"), bytes.fromhex("02f10f6a7e00000b")


@dataclass
class Concentrator:
    """A gateway elsewhere: a real forwarder, and in the radio's place a list of its orders."""

    eui: bytes
    port: int
    orders: list[TxPacket] = field(default_factory=list)

    def __post_init__(self) -> None:
        core = Forwarder(self.eui, self.transmit, name=self.eui.hex(), keepalive_ns=10**9)
        self.udp = UdpForwarder(core, "127.0.0.1", self.port, MonotonicClock())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.udp.run, args=(self._stop,))

    def transmit(self, order: TxPacket, _now_ns: int) -> TxResult:
        self.orders.append(order)
        return TxResult(TxError.NONE, id=len(self.orders))

    def hears(self, frame: bytes, snr_db: float, tmst: int = 1_000_000) -> None:
        self.udp.frame(RxPacket(tmst, 868_100_000, 0, 0, 1, SF7, round(-100 + snr_db), snr_db, frame))

    @property
    def counters(self) -> dict[str, int]:
        return self.udp.core.counters

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Concentrator]:
        self._thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            self.udp.wake()
            await asyncio.to_thread(self._thread.join)
            self.udp.close()


@contextlib.asynccontextmanager
async def two_at(s: Any) -> AsyncIterator[tuple[Concentrator, Concentrator]]:
    """Two concentrators that the gateway knows."""
    port = s.gateway.gwmp_port
    async with Concentrator(NEAR, port).running() as near, Concentrator(FAR, port).running() as far:
        await s.until(lambda: near.udp.core.connected and far.udp.core.connected)
        for each in (near, far):  # both have heard something, so that copies are waited for
            each.hears(b"\xe0" + each.eui, 1)
        await s.until(lambda: s.gateway.uplinks.counters.frames == 2)
        yield near, far


def test_an_uplink_heard_by_two_gateways_is_taken_once_and_answered_by_the_better(
    site: OpenSite, config: Config, device: Device
) -> None:
    patient = replace(config, lorawan=LorawanSection(port=0, merge_window_ms=500))

    async def main() -> None:
        async with site(patient) as s, two_at(s) as (near, far):
            await s.add(device)
            frame = device.uplink(confirmed=True)
            far.hears(frame, -12.0, tmst=77_000_000)
            near.hears(frame, 8.5)
            await s.until(lambda: len(near.orders) == 1)
            assert near.orders[0].tmst == 2_000_000
            assert far.orders == []
            log = s.gateway.core.hub.log
            assert len(log.read(0)) == 2
            heard = {record["n"]: record["v"] for record in json.loads(log.read(0)[1].payload)}
            assert (heard["snr"], heard["gateways"]) == (8.5, 2)
            assert heard[f"snr:{NEAR.hex()}"] == 8.5
            assert (heard[f"rssi:{FAR.hex()}"], heard[f"snr:{FAR.hex()}"]) == (-112, -12.0)
            (shown,) = [each for each in s.gateway.uplinks.live.after(0, 10) if each["kind"] == "uplink"]
            assert [(each["eui"], each["snr_db"]) for each in shown["gateways"]] == [
                (NEAR.hex(), 8.5),
                (FAR.hex(), -12.0),
            ]
            counters = s.gateway.source.counters()
            assert counters["copies"] == {"merged": 1, "copies": 1, "early": 1, "overflow": 0}
            assert counters["rejected"].get("duplicate", 0) == 0

    asyncio.run(main())


def test_a_frame_that_only_one_of_two_gateways_hears_waits_for_no_more_than_the_window(
    site: OpenSite, device: Device
) -> None:
    async def main() -> None:
        async with site() as s, two_at(s) as (near, far):
            await s.add(device)
            far.hears(device.uplink(confirmed=True), -12.0, tmst=2**32 - 500_000)
            await s.until(lambda: len(far.orders) == 1)
            assert far.orders[0].tmst == 500_000  # past the counter's wrap
            assert near.orders == []

    asyncio.run(main())


def test_forwarders_find_a_gateway_that_was_restarted(site: OpenSite, config: Config, device: Device) -> None:
    port = free_port(kind=socket.SOCK_DGRAM)
    fixed = replace(config, lorawan=LorawanSection(port=port))

    async def main() -> None:
        async with Concentrator(NEAR, port).running() as near:
            async with site(fixed) as s:
                await s.add(device)
                await s.until(lambda: near.udp.core.connected)
                near.hears(device.uplink(), 8.5)
                await s.until(lambda: s.gateway.core.server.counters.uplinks == 1)
            near.hears(device.uplink(), 8.5)  # into the void
            await s.until(lambda: near.counters["server_unreachable"] > 0)
            async with site(fixed) as s:
                before = near.counters["pull_ack"]
                await s.until(lambda: near.counters["pull_ack"] > before)
                near.hears(device.uplink(confirmed=True), 8.5)
                await s.until(lambda: len(near.orders) == 1)

    asyncio.run(main())


def test_gateways_that_are_not_listed_are_not_listened_to_and_told_of(
    site: OpenSite, config: Config, device: Device
) -> None:
    listed = replace(config, lorawan=LorawanSection(port=0, gateways=(NEAR.hex().upper(),)))

    async def main() -> None:
        async with site(listed) as s:
            port = s.gateway.gwmp_port
            await s.add(device)
            async with Concentrator(NEAR, port).running() as near, Concentrator(FAR, port).running() as far:
                await s.until(lambda: near.udp.core.connected)
                far.hears(device.uplink(), 9.0)
                near.hears(device.uplink(), 1.0)
                await s.until(lambda: s.gateway.source.counters()["gwmp"]["not_allowed"] > 1)
                await s.until(lambda: s.gateway.core.server.counters.uplinks == 1)
                assert not far.udp.core.connected
            radio = s.gateway.source.status()["radio"]
            assert [each["eui"] for each in radio["gateways"]] == [NEAR.hex()]
            assert [FAR.hex() in words and "`gateways`" in words for words in radio["warnings"]] == [True]

    asyncio.run(main())


def test_a_join_that_another_server_may_answer_as_well_is_warned_of(site: OpenSite, config: Config) -> None:
    key = AES128Key(b"k" * 16)
    ttn = ServerSection(name="ttn", host="ttn.example", downlinks=True, net_ids=("000013",), join_euis=("*",))
    copy = ServerSection(name="copy", host="copy.example")
    both = replace(config, radio=RadioSection(server=(ttn, copy)))

    async def main() -> None:
        async with site(both) as s:
            otaa = DeviceConfig(
                dev_eui=DevEUI(7), activation=Activation.OTAA, join_eui=JoinEUI(1), app_key=key
            )
            await register(s.gateway.core.hub, s.gateway.core.server, otaa)
            await s.forwarder.push(build_join_request(key, JoinEUI(1), DevEUI(7), 1))
            await s.until(lambda: s.gateway.core.server.counters.joins == 1)
            (words,) = s.gateway.source.status()["radio"]["warnings"]
            assert (
                "device 0000000000000007 is registered here, and its joins are sent to ttn as well" in words
            )
            assert words in [entry["detail"] for entry in s.gateway.uplinks.live.after(0, 10)]

    asyncio.run(main())
