"""Joins over the API of a whole gateway, and keys in none of its answers, files of state or log lines."""

from __future__ import annotations

import asyncio
import logging
import random
from pathlib import Path
from typing import Any

import pytest

from gateway.devices.registration import register
from gateway.joins_api import MAX_MINUTES, JoinsApi
from gateway.lorawan import frames
from gateway.lorawan.crypto import join_server_keys
from gateway.lorawan.device import DeviceConfig
from gateway.lorawan.types import AES128Key, DevEUI, JoinEUI
from gateway.settings import Config

DEV_EUI, JOIN_EUI = DevEUI(0x70B3D57ED0000042), JoinEUI(0x70B3D57ED00000DC)
APP_KEY, NWK_KEY = (AES128Key(random.Random(number).randbytes(16)) for number in (1, 2))
PATH = f"/lorawan/devices/{DEV_EUI}/joins"


def join(nonce: int) -> bytes:
    return frames.build_join_request(NWK_KEY, JOIN_EUI, DEV_EUI, nonce)


async def registered(s: Any) -> None:
    answer = await s.api.put("/lorawan/profiles/meter", json={"version": "1.1"})
    assert answer.status_code < 300, answer.text
    config = DeviceConfig(
        dev_eui=DEV_EUI, join_eui=JOIN_EUI, app_key=APP_KEY, nwk_key=NWK_KEY, profile="meter"
    )
    await register(s.gateway.core.hub, s.gateway.core.server, config)


def test_a_technician_lets_a_device_begin_its_nonces_anew(site: Any, device: Any) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            await registered(s)
            await s.add(device)
            await s.forwarder.push(join(7))
            shown = (await s.api.get(PATH)).json()
            assert (shown["rule"], shown["nonces_used"], shown["last_nonce"]) == ("rising", 1, 7)
            assert (shown["waiting"], shown["restart_until"], shown["version"]) == (1, None, "1.1")
            await s.forwarder.push(join(0))
            assert (await s.api.get(PATH)).json()["waiting"] == 1
            assert (await s.api.post(PATH, json={"restart_minutes": 5})).json()["restart_until"] > 0
            await s.forwarder.push(join(0))
            shown = (await s.api.get(PATH)).json()
            assert (shown["waiting"], shown["nonces_used"], shown["last_nonce"]) == (2, 1, 0)
            assert (await s.api.post(PATH, json={"restart_minutes": 0})).json()["restart_until"] is None
            for body, status in (
                ({"restart_minutes": MAX_MINUTES + 1}, 400),
                ({"restart_minutes": -1}, 400),
                ({}, 400),
            ):
                assert (await s.api.post(PATH, json=body)).status_code == status
            abp = f"/lorawan/devices/{device.dev_eui}/joins"
            refused = await s.api.post(abp, json={"restart_minutes": 5})
            assert (refused.status_code, "never joins" in refused.json()["detail"]) == (409, True)
            for stranger in ("0000000000000001", "x"):
                assert (await s.api.get(f"/lorawan/devices/{stranger}/joins")).status_code == 404
            s.api.headers.pop("authorization")
            for row in JoinsApi.endpoints(JoinsApi.__new__(JoinsApi)):
                assert (await s.api.request(row.method, PATH)).status_code == 401

    asyncio.run(main())


def test_no_key_is_in_any_answer_file_of_state_or_log_line(
    site: Any, config: Config, device: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Frames that are good, wrong and damaged, at the most talkative level; then everything that can be read."""
    caplog.set_level(logging.DEBUG)
    bodies: list[str] = []

    async def main() -> None:
        async with site() as s:
            await s.claim()
            await registered(s)
            await s.add(device)
            await s.forwarder.pull()
            wrong = frames.build_join_request(APP_KEY, JoinEUI(1), DEV_EUI, 1)
            await s.forwarder.push(
                join(1), wrong, join(1), device.uplink(), device.uplink()[:-1] + b"x", b"\xff"
            )
            session = s.gateway.core.server.registered(DEV_EUI).pending[0]
            keys.update((session.keys.f_nwk_s_int, session.keys.s_nwk_s_int, session.keys.nwk_s_enc))
            keys.add(session.keys.app_s)
            paths = ["/gateway/status", "/metrics", "/lorawan/groups", "/lorawan/heard", "/lorawan/diagnosis"]
            paths += ["/lorawan/devices", "/lorawan/devices/export", "/lorawan/frames", "/lorawan/profiles"]
            for eui in (DEV_EUI, device.dev_eui):
                one = f"/lorawan/devices/{eui}"
                paths += [one, *(f"{one}/{part}" for part in ("mac", "joins", "session", "downlinks"))]
            for path in paths:
                answer = await s.api.get(path)
                assert answer.status_code == 200, (path, answer.text)
                bodies.append(answer.text)
            bad = {"dev_eui": str(DEV_EUI), "app_key": APP_KEY.value.hex(), "nwk_key": NWK_KEY.value.hex()}
            for method, path in (("POST", "/lorawan/devices"), ("PUT", f"/lorawan/devices/{DEV_EUI}")):
                for body in (bad, {**bad, "app_key": APP_KEY.value.hex() + "0"}, {**bad, "else": 1}):
                    answer = await s.api.request(method, path, json=body)
                    bodies.append(answer.text)

    keys = {APP_KEY, NWK_KEY, device.nwk_s_key, device.app_s_key}
    asyncio.run(main())
    state = [path.read_text() for path in Path(config.gateway.runtime_dir).glob("*") if path.is_file()]
    assert len(keys) == 8
    # The frames are in what was read
    assert "heard twice" in "".join(bodies) or "used before" in "".join(bodies)
    for key in keys:
        for text in (*bodies, *state, caplog.text):
            assert key.value.hex() not in text.lower()
            assert repr(key.value)[2:-1] not in text


def test_a_rejoin_is_in_the_frame_list_with_its_type(site: Any) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            await registered(s)
            key = join_server_keys(NWK_KEY, DEV_EUI)[0]
            await s.forwarder.push(join(1))
            await s.forwarder.push(frames.build_rejoin_request(key, 1, DEV_EUI, 3, join_eui=JOIN_EUI))
            heard = (await s.api.get("/lorawan/frames")).json()["frames"]
            details = [frame["detail"] for frame in heard]
            assert {"joined with DevNonce 1", "rejoined (type 1) with RJcount 3"} <= set(details)

    asyncio.run(main())
