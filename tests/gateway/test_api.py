"""The gateway's REST API: devices, downlinks, live frames, status; each demands a signed-in user."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from gateway.api import Api
from gateway.settings import Config, ModuleSection, RadioSection

OTAA = {
    "dev_eui": "70b3d57ed0000009",
    "join_eui": "0000000000000000",
    "app_key": "00" * 15 + "01",
    "name": "door",
}
EUI = "70b3d57ed0000009"
ENDPOINTS = [
    ("GET", "/gateway/status"),
    ("GET", "/upstream"),
    ("GET", "/lorawan/devices"),
    ("POST", "/lorawan/devices"),
    ("POST", "/lorawan/devices/qr"),
    ("GET", "/lorawan/devices/export"),
    ("POST", "/lorawan/devices/import"),
    ("GET", "/lorawan/devices/import/x"),
    ("POST", "/lorawan/devices/import/x"),
    ("DELETE", "/lorawan/devices/import/x"),
    ("GET", f"/lorawan/devices/{EUI}"),
    ("PUT", f"/lorawan/devices/{EUI}"),
    ("DELETE", f"/lorawan/devices/{EUI}"),
    ("POST", f"/lorawan/devices/{EUI}/adopt"),
    ("GET", f"/lorawan/devices/{EUI}/session"),
    ("POST", f"/lorawan/devices/{EUI}/session"),
    ("PUT", f"/lorawan/devices/{EUI}/session"),
    ("DELETE", f"/lorawan/devices/{EUI}/session/move"),
    ("POST", "/lorawan/transfer/export"),
    ("POST", "/lorawan/transfer/import"),
    ("GET", "/lorawan/profiles"),
    ("GET", "/lorawan/profiles/x"),
    ("PUT", "/lorawan/profiles/x"),
    ("DELETE", "/lorawan/profiles/x"),
    ("GET", "/lorawan/frames"),
    ("GET", "/lorawan/frames/stream"),
]


def test_the_table_of_this_test_is_the_apis(site: Any) -> None:
    async def main() -> None:
        async with site() as s:
            rows = [*Api.endpoints(Api.__new__(Api)), *s.gateway.devices.endpoints()]
            paths = {
                (row.method, row.path.replace("{dev_eui}", EUI).replace("{plan}", "x").replace("{name}", "x"))
                for row in rows
            }
            assert paths == set(ENDPOINTS)

    asyncio.run(main())


def test_nobody_gets_in_without_a_users_token(site: Any, device: Any) -> None:
    async def main() -> None:
        async with site() as s:
            made = (await s.add(device)).registered
            await s.claim()
            for credential in (
                {},
                {"authorization": "Bearer nonsense"},
                {"authorization": f"Thing {made.thing_key}"},
            ):
                s.api.headers.pop("authorization", None)
                for method, path in ENDPOINTS:
                    answer = await s.api.request(method, path, headers=credential)
                    assert answer.status_code in (401, 403), (method, path, credential)
                    assert answer.headers["content-type"] == "application/problem+json"

    asyncio.run(main())


def test_a_device_is_registered_shown_without_keys_and_removed(site: Any) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            made = await s.api.post("/lorawan/devices", json=OTAA)
            assert made.status_code == 201, made.text
            assert made.headers["location"] == "/lorawan/devices/70b3d57ed0000009"
            assert (await s.api.post("/lorawan/devices", json=OTAA)).status_code == 409
            shown = (await s.api.get("/lorawan/devices/70b3d57ed0000009")).json()
            assert (shown["name"], shown["activation"], shown["thing_id"]) == (
                "door",
                "otaa",
                made.json()["thing_id"],
            )
            assert OTAA["app_key"] not in json.dumps((await s.api.get("/lorawan/devices")).json())
            thing = (await s.api.get(f"/things/{shown['thing_id']}")).json()
            assert thing["name"] == "door"
            assert (await s.api.delete("/lorawan/devices/70b3d57ed0000009")).status_code == 204
            assert (await s.api.get("/lorawan/devices/70b3d57ed0000009")).status_code == 404
            assert (await s.api.get(f"/things/{shown['thing_id']}")).status_code == 404

    asyncio.run(main())


def test_a_registered_device_is_there_after_a_restart(site: Any) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            token = s.api.headers["authorization"]
            await s.api.post("/lorawan/devices", json=OTAA)
        async with site() as s:
            s.api.headers["authorization"] = token
            assert [d["name"] for d in (await s.api.get("/lorawan/devices")).json()] == ["door"]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"dev_eui": "70b3"}, "16 hex digits", id="short EUI"),
        pytest.param({"app_key": ""}, "AppKey", id="no key"),
        pytest.param({"app_key": "zz" * 16}, "hex", id="not hex"),
        pytest.param({"activation": "magic"}, "otaa or abp", id="unknown activation"),
        pytest.param({"activation": "abp"}, "DevAddr", id="ABP without session"),
        pytest.param({"codec": "morse"}, "cayenne", id="unknown codec"),
        pytest.param({"colour": "red"}, "colour", id="unknown field"),
    ],
)
def test_what_does_not_fit_is_said(site: Any, change: dict[str, str], words: str) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            answer = await s.api.post("/lorawan/devices", json=OTAA | change)
            assert answer.status_code == 400
            assert words in answer.json()["detail"]
            assert s.gateway.core.hub.registry.things().total == 0

    asyncio.run(main())


def test_a_downlink_is_queued_and_stored(site: Any) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            await s.api.post("/lorawan/devices", json=OTAA)
            path = "/lorawan/devices/70b3d57ed0000009/downlinks"
            answer = await s.api.post(path, json={"fport": 2, "payload": "0102", "confirmed": True})
            assert answer.status_code == 202
            assert answer.json()["id"]
            for body, status in (({"fport": 0}, 400), ({"fport": 2, "payload": "xyz"}, 400), ({}, 400)):
                assert (await s.api.post(path, json=body)).status_code == status
            assert (await s.api.post(path.replace("09/", "08/"), json={"fport": 2})).status_code == 404
        async with site() as s:
            assert s.gateway.core.server.devices()[0].queued == 1

    asyncio.run(main())


def test_live_frames_can_be_read_and_followed(site: Any, device: Any) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            await s.add(device)
            await s.forwarder.push(device.uplink())
            frames = (await s.api.get("/lorawan/frames?limit=2")).json()["frames"]
            frame = next(frame for frame in frames if frame["kind"] == "uplink")
            assert (frame["name"], frame["datr"], frame["values"][0]) == (
                "device 1",
                "SF7BW125",
                {"n": "temperature_1", "v": 26.9, "u": "Cel"},
            )
            assert (await s.api.get("/lorawan/frames?limit=x")).status_code == 400
            async with s.api.stream("GET", f"/lorawan/frames/stream?after={frame['n'] - 1}") as stream:
                lines = stream.aiter_lines()
                events = [json.loads(line[6:]) async for line in _data(lines, 1)]
                await s.forwarder.push(device.uplink())
                events += [json.loads(line[6:]) async for line in _data(lines, 1)]
            assert [event["kind"] for event in events] == ["uplink", "uplink"]
            assert events[0]["n"] == frame["n"]

    asyncio.run(main())


def test_the_frames_of_one_device_can_be_asked_for(site: Any, device: Any, another_device: Any) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            for each in (device, another_device, device):
                if each.registered is None:
                    await s.add(each)
                await s.forwarder.push(each.uplink())

            async def frames(dev_eui: str, more: str = "") -> list[dict[str, Any]]:
                answer = await s.api.get(f"/lorawan/frames?dev_eui={dev_eui}{more}")
                return [frame for frame in answer.json()["frames"] if frame["kind"] == "uplink"]

            own = await frames(str(device.dev_eui).upper())
            assert [(frame["dev_eui"], frame["fcnt"]) for frame in own] == [
                (str(device.dev_eui), 0),
                (str(device.dev_eui), 1),
            ]
            assert await frames(str(device.dev_eui), "&limit=1") in (
                [],
                own[1:],
            )  # the newest may be a downlink
            assert await frames(str(device.dev_eui), f"&after={own[0]['n']}") == own[1:]
            assert await frames("70b3d57ed0000077") == []
            for unreadable in ("", "70b3", "x" * 16):
                assert (await s.api.get(f"/lorawan/frames?dev_eui={unreadable}")).status_code == 400

    asyncio.run(main())


async def _data(lines: Any, count: int) -> Any:
    async for line in lines:
        if line.startswith("data:") and '"uplink"' in line:
            yield line
            count -= 1
            if not count:
                return


def test_status_counts_what_happened(site: Any, device: Any) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            await s.add(device)
            await s.forwarder.push(device.uplink())
            await s.until(lambda: s.gateway.core.hub.log.committed_seq == 2)
            status = (await s.api.get("/gateway/status")).json()
            assert (status["counters"]["uplinks"], status["counters"]["senml_records"]) == (1, 7)
            assert (status["radio"]["connected"], status["store"]["messages"]) == (True, 2)
            assert status["radio"]["modules"] == []
            assert "fluxgate_uplinks_total 1" in (await s.api.get("/metrics")).text

    asyncio.run(main())


def test_status_tells_what_the_radio_is_set_to_hear(site: Any, config: Config) -> None:
    modules = (ModuleSection(sf=9, role="rx"), ModuleSection(index=1, freq_hz=868_300_000, role="tx"))

    async def main() -> None:
        async with site(msgspec.structs.replace(config, radio=RadioSection(module=modules))) as s:
            await s.claim()
            radio = (await s.api.get("/gateway/status")).json()["radio"]
            assert radio["modules"] == [
                {"freq_hz": 868_100_000, "sf": 9, "bw_hz": 125_000, "role": "rx"},
                {"freq_hz": 868_300_000, "sf": 7, "bw_hz": 125_000, "role": "tx"},
            ]

    asyncio.run(main())


def test_the_fields_documented_are_those_of_the_answers(site: Any, device: Any) -> None:
    text = (Path(__file__).parents[2] / "docs" / "api.md").read_text()

    def documented(section: str) -> set[str]:
        table = text.split(f"## {section}\n")[1].split("\n## ")[0]
        cells = re.findall(r"^\| (`[^|]*`) \|", table, re.MULTILINE)
        return {field for cell in cells for field in re.findall(r"`(\w+)`", cell)}

    async def main() -> None:
        async with site() as s:
            await s.claim()
            await s.forwarder.push(b"\x40")
            await s.add(device)
            await s.forwarder.push(device.uplink())
            assert documented("Status") == set((await s.api.get("/gateway/status")).json())
            frames = (await s.api.get("/lorawan/frames")).json()["frames"]
            assert {"rejected", "uplink"} <= {frame["kind"] for frame in frames}
            # `gateways` is of frames that several have heard: test_several_gateways.py.
            assert set().union(*frames) == documented("Frames") - {"gateways"}

    asyncio.run(main())


def test_answers_are_what_the_openapi_document_says(site: Any, device: Any) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            document = (await s.api.get("/openapi.json")).json()
            await s.add(device)
            eui = str(device.config().dev_eui)
            for path, shown in {
                "/gateway/status": "/gateway/status",
                "/upstream": "/upstream",
                "/lorawan/devices": "/lorawan/devices",
                "/lorawan/devices/{dev_eui}": f"/lorawan/devices/{eui}",
                "/lorawan/frames": "/lorawan/frames",
            }.items():
                answer = await s.api.get(shown)
                said = document["paths"][path]["get"]["responses"][str(answer.status_code)]
                schema = {
                    **said["content"]["application/json"]["schema"],
                    "components": document["components"],
                }
                jsonschema.validate(answer.json(), schema)

    asyncio.run(main())


def test_every_route_of_the_gateway_is_in_the_openapi_document(site: Any) -> None:
    async def main() -> None:
        async with site() as s:
            await s.claim()
            document = (await s.api.get("/openapi.json")).json()
            for method, path in (
                ("get", "/gateway/status"),
                ("post", "/lorawan/devices/{dev_eui}/downlinks"),
                ("post", "/things/{thing_id}/oscore"),
            ):
                assert method in document["paths"][path], path

    asyncio.run(main())
