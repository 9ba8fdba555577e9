"""The diagnosis of a running gateway: over the API, kept over a restart, in accord with the device's problem."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from gateway.diagnosis_clock import DiagnosisClock
from gateway.lorawan.frames import build_join_request
from gateway.lorawan.types import AES128Key
from hub.errors import LogFull

OpenSite = Any  # fixtures of the folder above, which tests cannot import

RNG = random.Random(1)
DEV_EUI, JOIN_EUI = 0x70B3D57ED0001234, 0x70B3D57ED0000001
KEY = AES128Key(RNG.randbytes(16))
BODY = {
    "dev_eui": f"{DEV_EUI:016x}",
    "name": "cold room",
    "join_eui": f"{JOIN_EUI:016x}",
    "app_key": KEY.value[::-1].hex(),
}


def join_request(nonce: int, key: AES128Key = KEY) -> bytes:
    return build_join_request(key, JOIN_EUI, DEV_EUI, nonce)


async def looked(s: Any) -> None:
    """The regular look, and its writes on the disk."""
    core = s.gateway.core
    DiagnosisClock(s.gateway.uplinks.diagnoser, core.hub.log, core.clock.now).look()
    await core.hub.log.write([("DELETE FROM lorawan_finding WHERE subject = 'nobody'", ())])


def test_a_device_is_heard_then_registered_then_diagnosed(site: OpenSite) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            await s.forwarder.push(join_request(1))
            (heard,) = (await s.api.get("/lorawan/heard")).json()["heard"]
            assert (heard["dev_eui"], heard["join_eui"]) == (BODY["dev_eui"], BODY["join_eui"])
            assert (heard["count"], heard["sf"], heard["freq_hz"]) == (1, 7, 868_100_000)
            found = (await s.api.get("/lorawan/diagnosis")).json()["findings"]
            assert [each["reason"] for each in found] == ["dev_eui_unknown"]
            assert "fluxgate_diagnosis_found_total 1" in (await s.api.get("/metrics")).text
            assert (await s.api.post("/lorawan/devices", json=BODY)).status_code == 201
            await s.forwarder.push(join_request(2), join_request(3))
            where = f"/lorawan/diagnosis?dev_eui={BODY['dev_eui']}"
            worst = (await s.api.get(where)).json()["findings"][0]
            assert (worst["reason"], worst["count"], worst["weight"]) == ("app_key_reversed", 2, "stops")
            assert (worst["name"], worst["evidence"]["certainty"]) == ("cold room", "proved")
            assert KEY.value.hex() not in str(worst)
            device = (await s.api.get(f"/lorawan/devices/{BODY['dev_eui']}")).json()
            assert "reversed" in device["problem"]
            await looked(s)
            token = s.api.headers["authorization"]
        async with site() as s:
            s.api.headers["authorization"] = token
            found = (await s.api.get(where)).json()["findings"]
            assert [(each["reason"], each["count"]) for each in found][:1] == [("app_key_reversed", 2)]

    asyncio.run(main())


def test_findings_are_searched_over_the_api(site: OpenSite) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            assert (await s.api.post("/lorawan/devices", json=BODY)).status_code == 201
            await s.forwarder.push(join_request(1), b"\x01\x02")

            async def reasons(query: str) -> list[str]:
                answer = await s.api.get(f"/lorawan/diagnosis?{query}")
                assert answer.status_code == 200, answer.text
                return [each["reason"] for each in answer.json()["findings"]]

            assert await reasons("") == ["not_lorawan", "app_key_reversed"]
            assert await reasons("reason=app_key_reversed") == ["app_key_reversed"]
            assert await reasons("q=COLD%20room&open=1") == []
            assert await reasons("q=appkey&open=1") == ["app_key_reversed"]
            assert await reasons("limit=1") == ["not_lorawan"]
            assert await reasons("since=9e9") == []
            assert await reasons("until=5") == []
            assert await reasons("dev_addr=01020304") == []
            for wrong in (
                "dev_eui=zz",
                "reason=because",
                "limit=x",
                "limit=501",
                "since=soon",
                "q=" + "x" * 101,
            ):
                assert (await s.api.get(f"/lorawan/diagnosis?{wrong}")).status_code == 400, wrong
            assert (await s.api.get("/lorawan/heard?limit=513")).status_code == 400
            del s.api.headers["authorization"]
            assert (await s.api.get("/lorawan/diagnosis")).status_code == 401
            assert (await s.api.get("/lorawan/heard")).status_code == 401

    asyncio.run(main())


def test_what_the_hub_refuses_is_a_finding_too(site: OpenSite, device: Any, another_device: Any) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            await s.add(device)
            await s.add(another_device)
            registry = s.gateway.core.hub.registry
            made = device.registered
            await asyncio.to_thread(registry.disconnect, [made.channel_id], [made.thing_id])
            await s.forwarder.pull()
            await s.forwarder.push(device.uplink(), another_device.uplink(b"\xff\xff\xff"))
            diagnoser = s.gateway.uplinks.diagnoser
            assert diagnoser.verdict(str(device.dev_eui)).kind == "not_published"
            assert diagnoser.verdict(str(another_device.dev_eui)).kind == "codec_failed"

    asyncio.run(main())


@pytest.mark.parametrize("state", ["refused", "taken"])
def test_findings_that_the_log_refuses_are_written_later(site: OpenSite, mocker: Any, state: str) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            await s.api.post("/lorawan/devices", json=BODY)
            await s.forwarder.push(join_request(1))
            core, diagnoser = s.gateway.core, s.gateway.uplinks.diagnoser
            clock = DiagnosisClock(diagnoser, core.hub.log, core.clock.now)
            if state == "refused":
                mocker.patch.object(core.hub.log, "post", side_effect=LogFull("the disk is full"))
            clock.look()
            assert bool(diagnoser.book.unwritten) == (state == "refused")

    asyncio.run(main())
