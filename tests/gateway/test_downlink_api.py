"""A device's queue in the API, and downlinks that a second gateway sends because the first refuses."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.copies import Heard
from radio.gwmp import RxPacket, TxError
from radio.lora import LoRaModulation

OpenSite = Any  # fixtures of conftest.py, which tests cannot import
Device = Any


def test_the_api_shows_orders_and_takes_them_back(site: OpenSite, device: Device) -> None:
    async def main() -> None:
        async with site() as s:
            await s.add(device)
            await s.claim()
            path = f"/lorawan/devices/{device.dev_eui}/downlinks"
            ids = []
            for body in (
                {"fport": 1, "payload": "01"},
                {"fport": 2, "payload": "02", "priority": 9, "confirmed": True, "ttl_s": 60},
                {"data": {"digital_output_3": 1}, "id": "mine"},
            ):
                answer = await s.api.post(path, json=body)
                assert answer.status_code == 202, answer.text
                ids.append(answer.json()["id"])
            shown = (await s.api.get(path)).json()
            assert [order["id"] for order in shown["queue"]] == [ids[1], ids[0], "mine"]
            assert (shown["device_class"], shown["limit"]) == ("A", 16)
            first = shown["queue"][0]
            assert (first["state"], first["payload"], first["confirmed"], first["priority"]) == (
                *("queued", "02"),
                *(True, 9),
            )
            assert first["expires"] - first["queued"] == pytest.approx(60, abs=0.01)
            assert [receipt["state"] for receipt in shown["receipts"]] == ["queued"] * 3
            assert (await s.api.delete(f"{path}/mine")).status_code == 204
            assert (await s.api.delete(f"{path}/mine")).status_code == 404
            assert (await s.api.delete(path)).status_code == 204
            await s.gateway.core.hub.log.flush()
            shown = (await s.api.get(path)).json()
            assert shown["queue"] == []
            assert [(receipt["state"], receipt["reason"]) for receipt in shown["receipts"][:3]] == [
                ("failed", "cancelled")
            ] * 3
            again = await s.api.post(path, json={"data": {"nonsense": 1}})
            assert (again.status_code, "nonsense" in again.json()["detail"]) == (400, True)
            for _ in range(16):
                await s.api.post(path, json={"fport": 1})
            assert (await s.api.post(path, json={"fport": 1})).status_code == 409

    asyncio.run(main())


def test_a_second_gateway_that_heard_the_uplink_sends_what_the_first_refuses(
    site: OpenSite, device: Device
) -> None:
    async def main() -> None:
        async with site() as s:
            await s.add(device)
            uplinks, server = s.gateway.uplinks, s.gateway.core.server
            sent: list[tuple[bytes, tuple[int, ...]]] = []

            class Far:
                def only(self) -> bytes:
                    raise AssertionError

                def transmit(self, downlink: Any, eui: bytes) -> None:
                    sent.append((eui, tuple(packet.tmst for packet in downlink.windows)))
                    if len(sent) < 3:
                        uplinks.failed(downlink, TxError.COLLISION_PACKET)
                    else:
                        uplinks.sent(downlink, 1)

            uplinks.downlinks.transmitter = Far()
            now = s.gateway.core.clock.now()
            server.queue_downlink(device.dev_eui, 1, b"x", now=now)
            frame = device.uplink()

            def rx(tmst: int) -> RxPacket:
                return RxPacket(tmst, 868_100_000, 0, 0, 1, LoRaModulation(7, 125_000), -80, 7.5, frame)

            others = [Heard(rx(2_000_000), b"second.."), Heard(rx(2**32 - 1), b"third...")]
            uplinks.take(rx(1_000_000), b"first...", now, others)
            await s.until(lambda: len(sent) == 3)
            assert sent == [
                (b"first...", (2_000_000, 3_000_000)),
                (b"second..", (3_000_000, 4_000_000)),
                (b"third...", (999_999, 1_999_999)),
            ]
            assert uplinks.downlinks.elsewhere == 2
            assert server.device(device.dev_eui).queued == 0

    asyncio.run(main())
