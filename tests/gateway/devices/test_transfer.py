"""Devices that go from one gateway to another and go on without a join."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.devices import sealed
from gateway.lorawan.crypto import SessionCrypto, derive_session_keys
from gateway.lorawan.frames import build_join_request, build_uplink, open_join_accept
from gateway.lorawan.types import AES128Key
from gateway.settings import Config
from radio.gwmp import RxPacket
from radio.lora import LoRaModulation

WORDS = "four or five easy words"
KEY = AES128Key.parse("a66a89b6606c1bd125b54e7ca4b10dd4")
EUI, JOIN = 0xA84041035660E3AA, 0xA840410000000107
PATH = f"/lorawan/devices/{EUI:016x}"


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "_MEMORY_KIB", 64)
    monkeypatch.setattr(sealed, "_PASSES", 1)


@pytest.fixture
def other(config: Config, tmp_path: Path) -> Config:
    """A second gateway's configuration."""
    section = msgspec.structs.replace(
        config.gateway,
        data_dir=str(tmp_path / "other"),
        runtime_dir=str(tmp_path / "other-run"),
        eui="02f10f6a7e0000bb",
    )
    return msgspec.structs.replace(config, gateway=section)


async def joined(s: Any, nonce: int = 1) -> tuple[SessionCrypto, int]:
    """The device joins at gateway `s`; what it then signs with, and its DevAddr."""
    await s.forwarder.pull()
    await s.forwarder.push(build_join_request(KEY, JOIN, EUI, nonce))
    accept = open_join_accept(KEY, (await s.forwarder.downlink()).data)
    keys = derive_session_keys(KEY, accept.join_nonce, accept.net_id, nonce)
    return SessionCrypto(accept.dev_addr, keys), accept.dev_addr


def uplink(crypto: SessionCrypto, addr: int, fcnt: int) -> bytes:
    return build_uplink(crypto, addr, fcnt, fport=1, payload=b"\x01\x67\x01\x10")


async def heard(s: Any, frame: bytes) -> int:
    """Uplinks taken after one more frame."""
    packet = RxPacket(1_000_000, 868_100_000, 0, 0, 1, LoRaModulation(7, 125_000), -80, 7.5, frame)
    s.gateway.uplinks.receive((packet,), bytes.fromhex("02f10f6a7e0000aa"))
    await asyncio.sleep(0)
    return int(s.gateway.core.server.registered(EUI).uplinks)


OTAA = {"dev_eui": f"{EUI:016x}", "join_eui": f"{JOIN:016x}", "app_key": KEY.value.hex(), "name": "Shed"}


def test_a_moved_device_goes_on_elsewhere_without_a_join(site: Any, other: Config) -> None:
    async def main() -> None:
        async with site() as here, site(other) as there:
            await here.claim()
            await there.claim()
            await here.api.put("/lorawan/profiles/meter", json={"expected_interval_s": 900})
            body = OTAA | {"profile": "meter", "tags": {"floor": "2"}, "description": "by the door"}
            assert (await here.api.post("/lorawan/devices", json=body)).status_code == 201
            crypto, addr = await joined(here)
            assert await heard(here, uplink(crypto, addr, 0)) == 1

            answer = await here.api.post(f"{PATH}/session", json={"passphrase": WORDS, "move": True})
            assert answer.status_code == 200, answer.text
            assert KEY.value.hex() not in answer.text
            assert await heard(here, uplink(crypto, addr, 1)) == 1  # not taken here any more
            shown = (await here.api.get(PATH)).json()
            assert (shown["state"], shown["moved"] is not None) == ("moved", True)

            file = answer.json()
            answer = await there.api.put(f"{PATH}/session", json={"passphrase": WORDS, "file": file})
            assert answer.status_code == 200, answer.text
            arrival = answer.json()["arrivals"][0]
            assert (arrival["joined"], arrival["warnings"]) == (True, [])
            assert KEY.value.hex() not in answer.text
            assert await heard(there, uplink(crypto, addr, 2)) == 2
            assert await heard(there, uplink(crypto, addr, 0)) == 2  # a replay is one here too
            shown = (await there.api.get(PATH)).json()
            assert (shown["profile"], shown["expected_interval_s"], shown["tags"]) == (
                "meter",
                900,
                {"floor": "2"},
            )
            assert shown["thing_id"]
            session = (await there.api.get(f"{PATH}/session")).json()
            assert (session["active"], session["fcnt_up"]) == (True, 2)
            assert (
                await there.api.put(f"{PATH}/session", json={"passphrase": WORDS, "file": file})
            ).status_code == 409

    asyncio.run(main())


def test_it_comes_back_with_what_it_did_elsewhere(site: Any, other: Config) -> None:
    async def main() -> None:
        async with site() as here, site(other) as there:
            await here.claim()
            await there.claim()
            await here.api.post("/lorawan/devices", json=OTAA)
            crypto, addr = await joined(here)
            await heard(here, uplink(crypto, addr, 0))
            move = {"passphrase": WORDS, "move": True}
            file = (await here.api.post(f"{PATH}/session", json=move)).json()
            await there.api.put(f"{PATH}/session", json={"passphrase": WORDS, "file": file})
            await heard(there, uplink(crypto, addr, 7))
            back = (await there.api.post(f"{PATH}/session", json=move)).json()
            answer = await here.api.put(f"{PATH}/session", json={"passphrase": WORDS, "file": back})
            assert (answer.status_code, answer.json()["arrivals"][0]["state"]) == (200, "back")
            assert await heard(here, uplink(crypto, addr, 7)) == 2
            assert await heard(here, uplink(crypto, addr, 8)) == 3
            assert here.gateway.core.hub.registry.things().total == 1

    asyncio.run(main())


def test_a_move_that_went_nowhere_is_taken_back_and_holds_after_a_restart(site: Any) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            token = s.api.headers["authorization"]
            await s.api.post("/lorawan/devices", json=OTAA)
            crypto, addr = await joined(s)
            await heard(s, uplink(crypto, addr, 0))
            await s.api.post(f"{PATH}/session", json={"passphrase": WORDS, "move": True})
        async with site() as s:
            s.api.headers["authorization"] = token
            assert await heard(s, uplink(crypto, addr, 1)) == 1
            assert (await s.api.get(PATH)).json()["moved"] is not None
            assert (await s.api.delete(f"{PATH}/session/move")).status_code == 204
            assert await heard(s, uplink(crypto, addr, 2)) == 2
            shown = (await s.api.get(PATH)).json()
            assert (shown["moved"], shown["exported"]) == (None, None)

    asyncio.run(main())


def test_a_copy_that_both_gateways_serve_is_warned_of(site: Any, other: Config) -> None:
    async def main() -> None:
        async with site() as here, site(other) as there:
            await here.claim()
            await there.claim()
            await here.api.post("/lorawan/devices", json=OTAA)
            crypto, addr = await joined(here)
            await heard(here, uplink(crypto, addr, 0))
            file = (await here.api.post(f"{PATH}/session", json={"passphrase": WORDS})).json()
            answer = await there.api.put(f"{PATH}/session", json={"passphrase": WORDS, "file": file})
            assert "both answer it" in answer.json()["arrivals"][0]["warnings"][0]
            await heard(here, uplink(crypto, addr, 1))
            assert (await here.api.get(f"{PATH}/session")).json()["both"]
            await here.gateway.devices.fleet.sum_up()
            (warning,) = (await here.api.get("/gateway/status")).json()["radio"]["warnings"]
            assert "device 'Shed' was copied to another gateway" in warning

    asyncio.run(main())


def test_a_whole_site_goes_in_one_file(site: Any, other: Config) -> None:
    async def main() -> None:
        async with site() as here, site(other) as there:
            await here.claim()
            await there.claim()
            for number in range(20):
                body = OTAA | {"dev_eui": f"{number + 1:016x}", "name": f"Device {number}"}
                assert (await here.api.post("/lorawan/devices", json=body)).status_code == 201
            exported = await here.api.post("/lorawan/transfer/export", json={"passphrase": WORDS})
            order = {"passphrase": WORDS, "file": exported.json()}
            looked = (await there.api.post("/lorawan/transfer/import?dry_run=1", json=order)).json()
            assert (looked["devices"], looked["good"], looked["received"]) == (20, 20, 0)
            assert there.gateway.core.server.device_count == 0
            done = await there.api.post("/lorawan/transfer/import", json=order)
            assert (done.status_code, done.json()["received"]) == (200, 20)
            assert there.gateway.core.server.device_count == 20
            again = await there.api.post("/lorawan/transfer/import", json=order)
            assert (again.status_code, "20 devices of the file" in again.json()["detail"]) == (409, True)
            wrong = await there.api.put(f"{PATH}/session", json=order)
            assert (wrong.status_code, "alone" in wrong.json()["detail"]) == (400, True)

    asyncio.run(main())


def test_what_cannot_be_moved_is_told(site: Any) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            await s.api.post("/lorawan/devices", json=OTAA)
            short = await s.api.post(f"{PATH}/session", json={"passphrase": "short", "move": True})
            assert (short.status_code, "12 to 256" in short.json()["detail"]) == (400, True)
            assert (await s.api.get(PATH)).json()["moved"] is None
            nobody = f"/lorawan/devices/{1:016x}/session"
            assert (await s.api.get(nobody)).status_code == 404
            assert (await s.api.post(nobody, json={"passphrase": WORDS})).status_code == 404
            assert (await s.api.delete(f"{nobody}/move")).status_code == 404
            unknown = {"passphrase": WORDS, "dev_euis": ["12"]}
            assert (await s.api.post("/lorawan/transfer/export", json=unknown)).status_code == 400
            file = (await s.api.post(f"{PATH}/session", json={"passphrase": WORDS})).json()
            wrong = {"passphrase": "another passphrase", "file": file}
            answer = await s.api.post("/lorawan/transfer/import", json=wrong)
            assert (answer.status_code, "wrong passphrase" in answer.json()["detail"]) == (400, True)
            answer = await s.api.post("/lorawan/transfer/import", json={"passphrase": WORDS, "file": {}})
            assert answer.status_code == 400
            assert json.dumps(file["head"]["devices"]) == "1"
            await s.api.delete(PATH)
            none = await s.api.post("/lorawan/transfer/export", json={"passphrase": WORDS})
            assert (none.status_code, "no device" in none.json()["detail"]) == (400, True)

    asyncio.run(main())
