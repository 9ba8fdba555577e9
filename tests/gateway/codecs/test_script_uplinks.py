"""Frames of devices with a JavaScript codec, through a running gateway: nothing lost, nothing out of order."""

import asyncio
import json
import os
import signal
from types import SimpleNamespace
from typing import Any

from gateway.turns import MAX_TURNS, Turns
from hub.message import OCTET_STREAM, SENML_JSON

OpenSite = Any  # fixtures of the conftest.py above, which tests cannot import
Device = Any

SOURCE = """
function decodeUplink(input) {
  if (input.bytes[0] === 255) for (;;);
  if (input.bytes[0] === 254) return {errors: ["the sensor is broken"]};
  return {data: {level_mm: input.bytes[0], port: input.fPort}, warnings: input.bytes[0] > 200 ? ["high"] : []};
}
function encodeDownlink(input) { return {bytes: [input.data.on ? 1 : 0], fPort: 7}; }
"""


async def store(site: Any, name: str, source: str = SOURCE, **more: Any) -> Any:
    return await site.api.post("/codecs", json={"name": name, "source": source, **more})


async def add(site: Any, device: Any, codec: str) -> None:
    """Register over the API, which knows the stored codecs."""
    body = {
        "dev_eui": str(device.dev_eui),
        "activation": "abp",
        "dev_addr": str(device.dev_addr),
        "nwk_s_key": (b"n" * 16).hex(),
        "app_s_key": (b"a" * 16).hex(),
        "codec": codec,
    }
    answer = await site.api.post("/lorawan/devices", json=body)
    assert answer.status_code == 201, answer.text
    device.registered = SimpleNamespace(**answer.json())


def values(messages: list[Any]) -> list[Any]:
    """What each frame said: its SenML values by name, or its bytes."""
    said: list[Any] = []
    for message in messages:
        if message.subtopic.endswith(".radio"):
            continue
        if message.content_type == SENML_JSON:
            said.append({record["n"]: record["v"] for record in json.loads(message.payload)})
        else:
            assert message.content_type == OCTET_STREAM
            said.append(message.payload)
    return said


def test_a_frame_is_decoded_by_the_devices_script(site: OpenSite, device: Device) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            library = s.gateway.uplinks.publisher.codecs.later
            assert library.worker.pid is None
            assert (await store(s, "tank", units={"port": "/"})).status_code == 201
            await add(s, device, "tank")
            await s.forwarder.push(device.uplink(b"\x64"))
            await s.until(lambda: s.gateway.core.hub.log.committed_seq == 2)
            frame, radio = s.gateway.core.hub.log.read(0)
            assert [(r["n"], r["v"], r.get("u")) for r in json.loads(frame.payload)] == [
                ("level_mm", 100, "mm"),
                ("port", 1, "/"),
            ]
            assert radio.subtopic.endswith(".radio")

    asyncio.run(main())


def test_frames_keep_the_order_of_their_device_whatever_becomes_of_each(
    site: OpenSite, device: Device, another_device: Device
) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            await store(s, "tank")
            await add(s, device, "tank")
            await s.add(another_device)
            log = s.gateway.core.hub.log
            first = [device.uplink(bytes([n])) for n in (1, 2, 255, 3, 254)]
            await s.forwarder.push(*first, another_device.uplink(), device.uplink(b"\x04"))
            await s.until(lambda: log.committed_seq == 2)
            assert log.read(0)[0].publisher == another_device.registered.thing_id  # it waited for nobody
            await s.until(lambda: log.committed_seq == 14)
            mine = [each for each in log.read(0) if each.publisher == device.registered.thing_id]
            assert values(mine) == [
                {"level_mm": 1, "port": 1},
                {"level_mm": 2, "port": 1},
                b"\xff",
                {"level_mm": 3, "port": 1},
                b"\xfe",
                {"level_mm": 4, "port": 1},
            ]
            shown = (await s.api.get("/lorawan/frames", params={"dev_eui": str(device.dev_eui)})).json()[
                "frames"
            ]
            details = [each.get("detail", "") for each in shown if each["kind"] == "uplink"]
            assert "codec tank: stopped: " in details[2]
            assert details[4] == "codec tank: the sensor is broken"

    asyncio.run(main())


def test_an_acknowledgement_waits_for_codec_and_commit(site: OpenSite, device: Device, opened: Any) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            await store(s, "tank")
            await add(s, device, "tank")
            await s.forwarder.pull()
            await s.forwarder.push(device.uplink(b"\xff", confirmed=True))
            packet = await s.forwarder.downlink()
            assert s.gateway.core.hub.log.committed_seq == 2
            assert values(s.gateway.core.hub.log.read(0)) == [b"\xff"]
            assert opened(device, packet, None)[0].ack

    asyncio.run(main())


def test_a_codec_process_killed_again_and_again_costs_no_frame(site: OpenSite, device: Device) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            await store(
                s, "tank", SOURCE.replace("return {data", "for (var i = 0; i < 20000; i++); return {data")
            )
            await add(s, device, "tank")
            worker = s.gateway.uplinks.publisher.codecs.later.worker
            for start in range(0, 200, 25):
                await s.forwarder.push(*(device.uplink(bytes([n])) for n in range(start, start + 25)))
                if worker.pid is not None:
                    os.kill(worker.pid, signal.SIGKILL)
            await s.until(lambda: s.gateway.core.hub.log.committed_seq == 400)
            assert [each["level_mm"] for each in values(s.gateway.core.hub.log.read(0, None, 400))] == list(
                range(200)
            )
            assert worker.counters.started > 2
            assert worker.counters.killed == 0

    asyncio.run(main())


def test_a_codec_on_hold_leaves_bytes_until_the_hold_is_lifted(site: OpenSite, device: Device) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            await store(s, "tank")
            await add(s, device, "tank")
            log = s.gateway.core.hub.log
            for n in range(5):
                await s.forwarder.push(device.uplink(b"\xff"))
                await s.until(lambda n=n: log.committed_seq == 2 * n + 2)
            await s.forwarder.push(device.uplink(b"\x01"))
            await s.until(lambda: log.committed_seq == 12)
            assert values(log.read(0))[-1] == b"\x01"
            held = (await s.api.get("/codecs/tank")).json()["held"]
            assert held.startswith("on hold, as it had to be stopped 5 times")
            assert (await s.api.post("/codecs/tank/lift")).json()["held"] == ""
            await s.forwarder.push(device.uplink(b"\x02"))
            await s.until(lambda: log.committed_seq == 14)
            assert values(log.read(0))[-1] == {"level_mm": 2, "port": 1}

    asyncio.run(main())


def test_frames_under_way_are_stored_when_the_gateway_ends(site: OpenSite, device: Device) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            await store(s, "tank")
            await add(s, device, "tank")
            await s.forwarder.push(*(device.uplink(bytes([n])) for n in range(20)))
        async with site() as s:  # codec and frames are there again
            assert [each["level_mm"] for each in values(s.gateway.core.hub.log.read(0))] == list(range(20))
            await s.forwarder.push(device.uplink(b"\x63"))
            await s.until(lambda: s.gateway.core.hub.log.committed_seq > 40)
            assert values(s.gateway.core.hub.log.read(0))[-1] == {"level_mm": 99, "port": 1}

    asyncio.run(main())


def test_a_value_becomes_a_downlink_by_the_script(site: OpenSite) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            await store(s, "tank")
            codecs = s.gateway.uplinks.publisher.codecs
            assert await codecs.encode("tank", None, {"on": True}) == (7, b"\x01")
            assert await codecs.encode("tank", 9, {"on": False}) == (9, b"\x00")

    asyncio.run(main())


# Turns


def test_what_is_ready_late_holds_back_only_its_own_device():
    turns, done = Turns(), []
    slow = turns.take(1, lambda: done.append("given up"))
    turns.run(1, lambda: done.append("behind"))
    turns.run(2, lambda: done.append("other"))
    second = turns.take(1, lambda: done.append("second given up"))
    turns.ready(second, lambda: done.append("second"))
    assert done == ["other"]
    turns.ready(slow, lambda: done.append("slow"))
    assert done == ["other", "slow", "behind", "second"]
    assert len(turns) == 0
    turns.ready(slow, lambda: done.append("again"))
    assert len(done) == 4


def test_too_many_turns_give_the_oldest_up():
    turns, done = Turns(), []
    held = [turns.take(n % 7, lambda n=n: done.append(n)) for n in range(MAX_TURNS + 10)]
    assert done == list(range(10))
    assert (turns.given_up, len(turns)) == (10, MAX_TURNS)
    turns.ready(held[0], lambda: done.append("too late"))
    turns.close()
    assert done == list(range(MAX_TURNS + 10))
