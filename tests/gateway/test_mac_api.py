"""MAC state, a technician's orders and steering over the API of a whole gateway."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.core import _listeners
from gateway.lorawan.settings import Listener
from gateway.mac_api import MacApi
from gateway.settings import Config, LorawanSection, ModuleSection, RadioSection, StationSection


def test_nobody_sees_or_orders_without_signing_in(site: Any, device: Any) -> None:
    async def main() -> None:
        async with site() as s:
            await s.add(device)
            await s.claim()
            s.api.headers.pop("authorization", None)
            for row in MacApi.endpoints(MacApi.__new__(MacApi)):
                path = row.path.replace("{dev_eui}", str(device.dev_eui))
                assert (await s.api.request(row.method, path)).status_code == 401, path

    asyncio.run(main())


def test_both_sides_of_a_device_its_orders_and_its_trace(site: Any, device: Any) -> None:
    async def main() -> None:
        async with site() as s:
            await s.add(device)
            await s.claim()
            path = f"/lorawan/devices/{device.dev_eui}/mac"
            before = (await s.api.get(path)).json()
            assert before["session"] is True
            rows = {row["name"]: row for row in before["settings"]}
            assert rows["rx_timing"]["wanted"] == rows["rx_timing"]["reported"] == "RX1 after 1 s"
            done = await s.api.post(path, json={"action": "set", "values": {"rx1_delay_s": 5}})
            assert done.status_code == 200, done.text
            rows = {row["name"]: row for row in (await s.api.get(path)).json()["settings"]}
            assert (rows["rx_timing"]["wanted"], rows["rx_timing"]["state"]) == ("RX1 after 5 s", "waiting")
            for action in ("refresh", "status", "reset"):
                assert (await s.api.post(path, json={"action": action})).status_code == 200
            for wrong, words in (
                ({"action": "explode"}, "action is one of"),
                ({"action": "set", "values": {"data_rate": 9}}, "no uplink data rate"),
                ({"action": "force_rejoin"}, "1.1 session"),
            ):
                refused = await s.api.post(path, json=wrong)
                assert refused.status_code == 400
                assert words in refused.json()["detail"]
            assert (await s.api.get("/lorawan/devices/0000000000000001/mac")).status_code == 404
            assert (await s.api.get("/lorawan/devices/x/mac")).status_code == 404
            assert not any("key" in name for name in before)

    asyncio.run(main())


def test_a_device_that_never_joined_has_no_state_and_takes_no_order(site: Any) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            body = {"dev_eui": "70b3d57ed0000009", "app_key": "00" * 15 + "01"}
            assert (await s.api.post("/lorawan/devices", json=body)).status_code == 201
            path = "/lorawan/devices/70b3d57ed0000009/mac"
            assert (await s.api.get(path)).json()["session"] is False
            assert (await s.api.post(path, json={"action": "refresh"})).status_code == 409

    asyncio.run(main())


def test_a_gateway_without_modules_counts_as_hearing_everything(site: Any) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            plain = (await s.api.get("/lorawan/steering")).json()
            assert (plain["mode"], plain["channels"], plain["sentences"]) == ("off", [], [])

    asyncio.run(main())


def test_what_cannot_work_is_said_by_steering_and_among_the_warnings(site: Any, config: Config) -> None:
    one = RadioSection(module=(ModuleSection(freq_hz=902_300_000),), control_socket="")
    american = msgspec.structs.replace(
        config, gateway=msgspec.structs.replace(config.gateway, region="US915"), radio=one
    )

    async def main() -> None:
        async with site(american) as s:
            await s.claim()
            said = (await s.api.get("/lorawan/steering")).json()
            assert (said["mode"], said["channels"][0]["freq_hz"]) == ("impossible", 902_300_000)
            serious = [each["words"] for each in said["sentences"] if each["serious"]]
            assert any("US915 does not work" in words for words in serious)
            warnings = (await s.api.get("/gateway/status")).json()["radio"]["warnings"]
            assert set(serious) <= set(warnings)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("lorawan", "station", "heard"),
    [
        pytest.param({}, 0, 2, id="a gateway of its own"),
        pytest.param({"host": "0.0.0.0"}, 0, 0, id="others may send frames"),
        pytest.param({}, 8887, 0, id="concentrators connect"),
        pytest.param({"gateways": ("0" * 16, "1" * 16)}, 0, 0, id="two forwarders are listened to"),
    ],
)
def test_only_a_gateway_that_nobody_helps_counts_on_its_modules_alone(
    tmp_path: Path, lorawan: dict[str, Any], station: int, heard: int
) -> None:
    config = Config(
        radio=RadioSection(
            module=(
                ModuleSection(freq_hz=868_100_000, sf=7, role="rx"),
                ModuleSection(index=1, freq_hz=868_300_000, sweep_sfs=(9, 10), role="rx"),
                ModuleSection(index=2, role="tx"),
            )
        ),
        lorawan=LorawanSection(**lorawan),
        station=StationSection(port=station),
    )
    listeners = (Listener(868_100_000, (7,)), Listener(868_300_000, (9, 10)))
    assert _listeners(config) == listeners[:heard]
