"""Class C and multicast groups through the API and GWMP; what is told of orders that come to nothing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.lorawan.crypto import SessionCrypto, SessionKeys
from gateway.lorawan.frames import open_downlink
from gateway.lorawan.profile import DeviceClass, Profile
from gateway.lorawan.types import AES128Key, DevAddr
from radio.gwmp import TxError

OpenSite = Any  # fixtures of conftest.py, which tests cannot import
Device = Any

# McAddr, McKey and what other implementations derive from it: tests/gateway/lorawan/test_multicast.py.
LAMPS = {"name": "lamps", "mc_addr": "01ffffff", "mc_key": bytes(range(1, 17)).hex()}
SIREN = Profile("siren", device_class=DeviceClass.C)
CRYPTO = SessionCrypto(
    0x01FFFFFF,
    SessionKeys.of_1_0(
        AES128Key.parse("bb75c362588f5d65fcc61c080b76dba3"),
        AES128Key.parse("c3f6c39b6b6496c29629f7e7e9b0cd29"),
    ),
)


def test_a_group_is_set_up_from_a_mc_key_and_its_frame_is_read_with_the_keys_of_other_implementations(
    site: OpenSite, device: Device
) -> None:
    async def main() -> None:
        async with site() as s:
            await s.add(device)
            await s.claim()
            await s.forwarder.pull()
            await s.forwarder.push(device.uplink())
            added = await s.api.post("/lorawan/groups", json=LAMPS | {"members": [str(device.dev_eui)]})
            assert added.status_code == 201, added.text
            assert LAMPS["mc_key"] not in (await s.api.get("/lorawan/groups/lamps")).text
            answer = await s.api.post(
                "/lorawan/groups/lamps/downlinks", json={"fport": 15, "payload": "0102"}
            )
            assert answer.status_code == 202, answer.text
            packet = await s.forwarder.downlink()
            while not packet.imme:  # MAC commands, after the uplink
                packet = await s.forwarder.downlink()
            assert (packet.imme, packet.freq_hz, packet.modulation.sf) == (True, 869_525_000, 12)
            frame, fcnt, clear = open_downlink(CRYPTO, DevAddr(0x01FFFFFF), None, packet.data)
            assert (frame.fport, fcnt, clear) == (15, 0, b"\x01\x02")
            await s.until(lambda: s.gateway.core.server.groups.get("lamps").sent == 1)
            await s.gateway.core.hub.log.flush()
            shown = (await s.api.get("/lorawan/groups/lamps")).json()
            assert [each["state"] for each in shown["receipts"]] == ["sent", "queued"]
            assert (shown["queue"], shown["fcnt_down"], shown["sent"]) == ([], 1, 1)
            channel = added.json()["channel_id"]
            messages = s.gateway.core.hub.log.read(0, lambda each: each.channel == channel, 9)
            assert [each.subtopic for each in messages] == ["groups.lamps.downlinks"] * 2
            assert json.loads(messages[1].payload)[0] | {"bt": 0} == {
                "bn": "lamps:",
                "bt": 0,
                "n": "downlink",
                "vs": "sent",
            }

    asyncio.run(main())


def test_groups_are_changed_left_and_removed_through_the_api(site: OpenSite, device: Device) -> None:
    async def main() -> None:
        async with site() as s:
            await s.add(device)
            await s.claim()
            assert (await s.api.post("/lorawan/groups", json=LAMPS)).status_code == 201
            assert (await s.api.post("/lorawan/groups", json=LAMPS)).status_code == 409
            member = f"/lorawan/groups/lamps/members/{device.dev_eui}"
            assert (await s.api.put(member)).status_code == 204
            (shown,) = (await s.api.get("/lorawan/groups")).json()
            assert (shown["members"], shown["sends_through"]) == ([str(device.dev_eui)], [])
            await s.api.post("/lorawan/groups/lamps/downlinks", json={"fport": 1, "payload": "00"})
            await s.until(lambda: bool(s.gateway.core.server.groups.get("lamps").orders[0].held))
            shown = (await s.api.get("/lorawan/groups/lamps")).json()
            assert "no gateway has heard a member" in shown["queue"][0]["why"]
            changed = await s.api.patch(
                "/lorawan/groups/lamps", json={"dr": 3, "gateways": ["02f10f6a7e00000a"]}
            )
            assert (changed.status_code, changed.json()["dr"]) == (200, 3)
            assert (await s.api.delete("/lorawan/groups/lamps/downlinks/nothing")).status_code == 404
            assert (await s.api.delete("/lorawan/groups/lamps/downlinks")).status_code == 204
            assert (await s.api.delete(member)).status_code == 204
            assert (await s.api.delete(member)).status_code == 404
            thing = shown["thing_id"]
            assert (await s.api.delete("/lorawan/groups/lamps")).status_code == 204
            assert (await s.api.get("/lorawan/groups/lamps")).status_code == 404
            assert s.gateway.core.hub.registry.thing(thing) is None

    asyncio.run(main())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"mc_key": ""}, "mc_key", id="no key"),
        pytest.param({"nwk_s_key": "00" * 16}, "mc_key", id="two kinds of keys"),
        pytest.param({"mc_key": "zz"}, "AES-128", id="no hex"),
        pytest.param({"mc_addr": "1"}, "DevAddr", id="address"),
        pytest.param({"device_class": "A"}, "B or C", id="class A"),
        pytest.param({"gateways": ["1"]}, "EUI of a gateway", id="gateway"),
        pytest.param({"members": ["70b3d57ed0000099"]}, "not registered", id="member"),
        pytest.param({"dr": 99}, "data rate", id="data rate"),
        pytest.param({"fcnt_down": -1}, "fcnt_down", id="counter"),
    ],
)
def test_a_group_that_cannot_be_is_refused_and_leaves_nothing(
    site: OpenSite, changes: dict[str, Any], words: str
) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            registry = s.gateway.core.hub.registry
            answer = await s.api.post("/lorawan/groups", json=LAMPS | changes)
            assert answer.status_code == 400
            assert words in answer.json()["detail"]
            assert str(LAMPS["mc_key"]) not in answer.text
            assert (await s.api.get("/lorawan/groups")).json() == []
            assert not [thing for thing in registry.things().items if thing.name.startswith("group")]

    asyncio.run(main())


def test_a_class_c_device_is_sent_to_without_an_uplink_and_a_busy_radio_is_asked_again(
    site: OpenSite, device: Device, opened: Any
) -> None:
    async def main() -> None:
        async with site() as s:
            await s.add(device)
            await s.claim()
            await s.forwarder.pull()
            core = s.gateway.core
            core.server.registered(device.dev_eui).profile = SIREN
            path = f"/lorawan/devices/{device.dev_eui}/downlinks"
            begun = core.clock.now().mono_ns
            answer = await s.api.post(path, json={"fport": 10, "payload": "01", "confirmed": True})
            assert answer.status_code == 202
            busy = await s.forwarder.downlink(TxError.COLLISION_PACKET)
            packet = await s.forwarder.downlink()
            assert core.clock.now().mono_ns - begun > 250_000_000
            frames = [opened(device, each, None) for each in (busy, packet)]
            assert [(frame.fport, clear, frame.confirmed) for frame, _, clear in frames] == [
                (10, b"\x01", True)
            ] * 2
            assert [fcnt for _, fcnt, _ in frames] == [0, 1], "each frame has a counter of its own"
            assert (packet.imme, packet.freq_hz, packet.ipol, packet.ncrc) == (True, 869_525_000, True, True)
            await s.until(lambda: core.server.counters.downlinks_sent == 1)
            await s.forwarder.push(device.uplink(ack=True))
            await s.until(lambda: core.server.device(device.dev_eui).queued == 0)
            await core.hub.log.flush()
            shown = (await s.api.get(path)).json()
            assert shown["device_class"] == "C"
            assert [(each["state"], each["window"]) for each in shown["receipts"]] == [
                ("acknowledged", ""),
                ("sent", "RXC"),
                ("queued", ""),
                ("queued", ""),
            ]
            assert "duty cycle" in shown["receipts"][2]["reason"]

    asyncio.run(main())


def test_a_device_that_nobody_has_heard_is_reached_through_any_gateway_there_is(
    site: OpenSite, device: Device
) -> None:
    """The control is a gateway without a forwarder: the order waits."""

    async def main() -> None:
        async with site() as s:
            await s.add(device)
            server = s.gateway.core.server
            server.registered(device.dev_eui).profile = SIREN
            queued = server.queue_downlink(device.dev_eui, 1, b"x", now=s.gateway.core.clock.now())
            s.gateway.uplinks.downlinks.take(queued)
            await s.until(lambda: server.counters.downlinks_failed > 0)
            assert server.device(device.dev_eui).queued == 1
            await s.forwarder.pull()
            assert (await s.forwarder.downlink()).imme
            await s.until(lambda: server.device(device.dev_eui).queued == 0)

    asyncio.run(main())


def test_orders_of_a_removed_device_fail_in_words(site: OpenSite, device: Device) -> None:
    async def main() -> None:
        async with site() as s:
            await s.add(device)
            await s.claim()
            path = f"/lorawan/devices/{device.dev_eui}"
            await s.api.post(f"{path}/downlinks", json={"fport": 1, "payload": "00", "id": "late"})
            assert (await s.api.delete(path)).status_code == 204
            await s.gateway.core.hub.log.flush()
            told = s.gateway.core.hub.log.read(0, lambda each: each.subtopic.endswith(".downlinks"), 9)
            values = {each["n"]: each.get("vs") for each in json.loads(told[-1].payload)}
            assert (values["downlink"], values["downlink_reason"]) == ("failed", "the device was removed")

    asyncio.run(main())


def test_a_refusal_by_the_radio_is_told_in_its_words(site: OpenSite, device: Device) -> None:
    """Eight uplinks, each refused in both windows."""

    async def main() -> None:
        async with site() as s:
            await s.add(device)
            await s.forwarder.pull()
            server = s.gateway.core.server
            server.queue_downlink(device.dev_eui, 1, b"x", now=s.gateway.core.clock.now())
            for refused in range(1, 9):
                await s.forwarder.push(device.uplink())
                for _ in range(2):
                    await s.forwarder.downlink(TxError.TX_FREQ)
                await s.until(lambda count=refused: server.counters.downlinks_failed == count)  # type: ignore[misc]
            await s.gateway.core.hub.log.flush()
            told = s.gateway.core.hub.log.read(0, lambda each: each.subtopic.endswith(".downlinks"), 99)
            values = {each["n"]: each.get("vs") for each in json.loads(told[-1].payload)}
            assert values["downlink"] == "failed"
            assert "refused by the radio 8 times" in values["downlink_reason"]
            assert "may not send on that frequency" in values["downlink_reason"]

    asyncio.run(main())
