"""Devices over HTTP, against a whole gateway."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.lorawan.frames import build_join_request
from gateway.lorawan.types import AES128Key

EUI, JOIN, KEY = "a84041035660e3aa", "a840410000000107", "a66a89b6606c1bd125b54e7ca4b10dd4"
OTAA = {"dev_eui": EUI, "join_eui": JOIN, "app_key": KEY, "name": "Shed"}
PATH = f"/lorawan/devices/{EUI}"


def eui(number: int) -> str:
    return f"a8404100{number:08x}"


@pytest.fixture
def claimed(site: Any) -> Callable[[Callable[[Any], Awaitable[None]]], None]:
    """Run a test in a gateway whose owner is signed in."""

    def run(test: Callable[[Any], Awaitable[None]]) -> None:
        async def main() -> None:
            async with site() as s:
                await s.claim()
                await test(s)

        asyncio.run(main())

    return run


def test_a_device_of_1_1_is_registered_with_both_keys(claimed: Any) -> None:
    async def test(s: Any) -> None:
        body = OTAA | {"profile": "LoRaWAN-1.1-C"}
        answer = await s.api.post("/lorawan/devices", json=body)
        assert (answer.status_code, "NwkKey is missing" in answer.json()["detail"]) == (400, True)
        assert (await s.api.post("/lorawan/devices", json=body | {"nwk_key": KEY[::-1]})).status_code == 201
        shown = (await s.api.get(PATH)).json()
        assert (shown["version"], shown["device_class"], shown["profile"]) == ("1.1", "C", "LoRaWAN-1.1-C")
        assert KEY not in json.dumps(shown)

    claimed(test)


def test_what_is_changed_holds_after_a_restart_and_keys_are_never_shown(site: Any) -> None:
    new_key = "00112233445566778899aabbccddeeff"

    async def main() -> None:
        async with site() as s:
            await s.claim()
            token = s.api.headers["authorization"]
            made = (await s.api.post("/lorawan/devices", json=OTAA)).json()
            channel = (
                (await s.api.post("/channels", json={"name": "barn"})).headers["location"].split("/")[-1]
            )
            answer = await s.api.put(
                PATH,
                json={
                    "name": "Barn",
                    "app_key": new_key,
                    "codec": "raw",
                    "expected_interval_s": 600,
                    "description": "north side",
                    "tags": {"floor": "2"},
                    "channel_id": channel,
                },
            )
            assert answer.status_code == 200, answer.text
            assert new_key not in answer.text
            registry = s.gateway.core.hub.registry
            assert registry.connected(channel, made["thing_id"])
            assert not registry.connected(made["channel_id"], made["thing_id"])
            assert registry.thing(made["thing_id"]).name == "Barn"
            for body, words in (
                ({"app_key": "12"}, "AppKey needs 32"),
                ({"name": ""}, "a name is needed"),
                ({"profile": "x"}, "no profile 'x'"),
                ({"colour": "red"}, "colour"),
            ):
                answer = await s.api.put(PATH, json=body)
                assert (answer.status_code, words in answer.json()["detail"]) == (400, True)
            assert (await s.api.put(PATH, json={"channel_id": "nowhere"})).status_code == 404
            assert (await s.api.put(f"/lorawan/devices/{eui(1)}", json={"name": "x"})).status_code == 404
        async with site() as s:
            s.api.headers["authorization"] = token
            shown = (await s.api.get(PATH)).json()
            assert (shown["name"], shown["codec"], shown["own_codec"]) == ("Barn", "raw", True)
            assert (shown["expected_interval_s"], shown["own_interval"]) == (600, True)
            assert (shown["description"], shown["tags"]) == ("north side", {"floor": "2"})
            assert shown["channel_id"] == channel
            assert s.gateway.core.server.registered(int(EUI, 16)).config.app_key == AES128Key.parse(new_key)

    asyncio.run(main())


def test_a_profile_is_made_changed_used_and_removed(claimed: Any) -> None:
    async def test(s: Any) -> None:
        path = "/lorawan/profiles/meter"
        made = await s.api.put(path, json={"device_class": "C", "codec": "raw", "expected_interval_s": 3600})
        assert (made.status_code, made.json()["body"]["device_class"]) == (201, "C")
        assert (await s.api.post("/lorawan/devices", json=OTAA | {"profile": "meter"})).status_code == 201
        shown = (await s.api.get(PATH)).json()
        assert (shown["codec"], shown["own_codec"], shown["expected_interval_s"]) == ("raw", False, 3600)
        assert (await s.api.put(path, json={"codec": "senml"})).status_code == 200
        shown = (await s.api.get(PATH)).json()
        assert (shown["codec"], shown["device_class"], shown["expected_interval_s"]) == ("senml", "A", 0)
        listed = (await s.api.get("/lorawan/profiles")).json()
        assert (listed["region"], {p["name"]: p["devices"] for p in listed["profiles"]}["meter"]) == (
            "EU868",
            1,
        )
        assert (await s.api.get(path)).json()["devices"] == 1
        refused = await s.api.delete(path)
        assert (refused.status_code, "1 device has the profile" in refused.json()["detail"]) == (409, True)
        await s.api.delete(PATH)
        assert (await s.api.delete(path)).status_code == 204
        assert (await s.api.delete(path)).status_code == 404
        assert (await s.api.get(path)).status_code == 404
        for name, body in (("default", {}), ("a b", {}), ("x", {"max_dr": 99}), ("x", {"codec": "morse"})):
            assert (await s.api.put(f"/lorawan/profiles/{name}", json=body)).status_code == 400, (name, body)

    claimed(test)


def test_devices_are_searched_sorted_and_paged(claimed: Any) -> None:
    async def test(s: Any) -> None:
        for number, name in enumerate(("Cellar", "attic", "Barn"), 1):
            body = OTAA | {"dev_eui": eui(number), "name": name, "tags": {"house": name[0]}}
            assert (await s.api.post("/lorawan/devices", json=body)).status_code == 201

        async def names(query: str) -> list[str]:
            answer = await s.api.get(f"/lorawan/devices?{query}")
            assert answer.status_code == 200, answer.text
            return [device["name"] for device in answer.json()]

        assert await names("sort=name") == ["attic", "Barn", "Cellar"]
        assert await names("sort=dev_eui&offset=1&limit=1") == ["attic"]
        assert await names("q=CELL") == ["Cellar"]
        assert await names(f"q={eui(3).upper()}") == ["Barn"]
        assert await names("q=a8-40-41-00-00-00-00-02") == ["attic"]
        assert await names("q=house=B") == ["Barn"]
        assert await names("attention=1&sort=attention") == ["attic", "Barn", "Cellar"]
        assert await names("state=ok") == []
        assert await names("profile=default&limit=0") == []
        for sort in ("signal", "battery", "last_seen"):
            assert len(await names(f"sort={sort}")) == 3
        assert (await s.api.get("/lorawan/devices?limit=1")).headers["x-total-count"] == "3"
        for query in ("sort=x", "state=x", "limit=x", "limit=20000", "q=" + "x" * 101):
            assert (await s.api.get(f"/lorawan/devices?{query}")).status_code == 400

    claimed(test)


def test_a_label_becomes_the_fields_of_a_form(claimed: Any) -> None:
    async def test(s: Any) -> None:
        text = "LW:D0:1122334455667788:AABBCCDDEEFF0011:AABB1122:OAABBCCDDEEFF:SYYWWNNNNNN:PFOOBAR:CAF2C"
        found = (await s.api.post("/lorawan/devices/qr", json={"text": text})).json()
        assert (found["dev_eui"], found["join_eui"]) == ("aabbccddeeff0011", "1122334455667788")
        assert (found["checked"], found["registered"], found["serial"]) == (True, False, "YYWWNNNNNN")
        await s.api.post("/lorawan/devices", json=OTAA)
        assert (await s.api.post("/lorawan/devices/qr", json={"text": EUI})).json()["registered"]
        refused = await s.api.post("/lorawan/devices/qr", json={"text": "hello"})
        assert (refused.status_code, "no DevEUI" in refused.json()["detail"]) == (400, True)

    claimed(test)


LIST = (
    "dev_eui;join_eui;app_key;name;profile\r\n"
    f"{eui(1)};{JOIN};{KEY};One;\r\n"
    f"{eui(2)};{JOIN};{KEY[:-1]};Two;\r\n"
    f"{eui(1)};{JOIN};{KEY};Again;\r\n"
    f"{EUI};{JOIN};{KEY};Shed;\r\n"
    f"{eui(3)};{JOIN};{KEY};Three;LoRaWAN-1.0.4-A\r\n"
)


def test_a_delivery_list_is_looked_at_and_then_confirmed(claimed: Any) -> None:
    async def test(s: Any) -> None:
        await s.api.post("/lorawan/devices", json=OTAA)
        headers = {"content-type": "text/csv"}
        looked = await s.api.post(
            "/lorawan/devices/import?dry_run=1&codec=raw", content=LIST, headers=headers
        )
        preview = looked.json()
        assert preview["counts"] == {"new": 2, "wrong": 1, "twice": 1, "registered": 1}
        assert not preview["whole"]
        assert KEY[:-1] not in looked.text
        lines = {line["line"]: line for line in preview["lines"]}
        assert lines[3]["problems"] == ["AppKey needs 32 hex digits and has 31"]
        assert lines[4]["problems"] == [f"{eui(1)} stands in line 2 already"]
        assert "registered already" in lines[5]["problems"][0]
        assert (lines[6]["profile"], lines[6]["codec"]) == ("LoRaWAN-1.0.4-A", "raw")
        assert s.gateway.core.server.device_count == 1
        plan = f"/lorawan/devices/import/{preview['plan']}"
        assert [line["line"] for line in (await s.api.get(f"{plan}?state=wrong")).json()["lines"]] == [3]
        refused = await s.api.post(plan)
        assert (refused.status_code, "3 lines cannot be registered" in refused.json()["detail"]) == (
            400,
            True,
        )
        done = await s.api.post(f"{plan}?mode=good")
        assert (done.status_code, done.json()["devices"]) == (201, [eui(1), eui(3)])
        assert (await s.api.post(f"{plan}?mode=good")).status_code == 404
        things = s.gateway.core.hub.registry.things(limit=10).items
        assert sorted(thing.name for thing in things) == ["One", "Shed", "Three"]

    claimed(test)


def test_a_good_list_is_registered_at_once_or_not_at_all(claimed: Any) -> None:
    async def test(s: Any) -> None:
        good = f"dev_eui,app_key\n{eui(1)},{KEY}\n{eui(2)},{KEY}\n"
        answer = await s.api.post("/lorawan/devices/import", content=LIST)
        assert answer.status_code == 400
        assert s.gateway.core.server.device_count == 0
        answer = await s.api.post("/lorawan/devices/import", content=good)
        assert (answer.status_code, answer.json()["registered"]) == (201, 2)
        channel = s.gateway.core.server.device(int(eui(1), 16)).channel_id
        more = good.replace(eui(1), eui(3)).replace(eui(2), eui(4))
        answer = await s.api.post(f"/lorawan/devices/import?channel_id={channel}", content=more)
        assert answer.status_code == 201
        assert len(s.gateway.core.hub.registry.things_of(channel)) == 3
        more = more.replace(eui(3), eui(5)).replace(eui(4), eui(6))
        answer = await s.api.post("/lorawan/devices/import?channel_id=nowhere", content=more)
        assert answer.status_code == 404
        assert s.gateway.core.server.device_count == 4
        assert s.gateway.core.hub.registry.things().total == 4
        for query in ("mode=some", "expected_interval_s=x"):
            assert (await s.api.post(f"/lorawan/devices/import?{query}", content=more)).status_code == 400

    claimed(test)


def test_a_list_longer_than_other_requests_is_taken_and_one_beyond_all_bounds_is_not(claimed: Any) -> None:
    async def test(s: Any) -> None:
        lines = "".join(f"{eui(number)},{KEY},{'x' * 60}\n" for number in range(3000))
        assert len(lines) > 256 * 1024
        answer = await s.api.post(
            "/lorawan/devices/import?dry_run=1&limit=0", content="dev_eui,app_key,name\n" + lines
        )
        assert answer.json()["counts"]["new"] == 3000
        assert answer.json()["lines"] == []
        assert (await s.api.post("/lorawan/devices/import", content=b"x" * (5 << 20))).status_code == 413

    claimed(test)


def test_the_list_for_spreadsheets_has_no_keys_and_no_formulas(claimed: Any) -> None:
    async def test(s: Any) -> None:
        await s.api.post("/lorawan/devices", json=OTAA | {"name": "=1+1"})
        answer = await s.api.get("/lorawan/devices/export")
        assert answer.headers["content-type"].startswith("text/csv")
        (row,) = csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff")))
        assert (row["dev_eui"], row["name"], row["state"]) == (EUI, "'=1+1", "never_heard")
        assert KEY not in answer.text

    claimed(test)


def test_a_device_that_is_heard_is_adopted_with_a_key_that_fits(claimed: Any) -> None:
    key = AES128Key.parse(KEY)

    async def test(s: Any) -> None:
        assert (await s.api.post(f"{PATH}/adopt", json={"app_key": KEY})).status_code == 404
        await s.forwarder.push(build_join_request(key, int(JOIN, 16), int(EUI, 16), 7))
        wrong = await s.api.post(f"{PATH}/adopt", json={"app_key": "11" * 15 + "22"})
        assert wrong.status_code == 400
        assert "does not fit the join-request heard 0 s ago" in wrong.json()["detail"]
        turned = bytes.fromhex(KEY)[::-1].hex()
        answer = await s.api.post(f"{PATH}/adopt", json={"app_key": turned})
        assert (answer.status_code, "bytes reversed" in answer.json()["detail"]) == (400, True)
        assert s.gateway.core.server.device_count == 0
        made = await s.api.post(f"{PATH}/adopt", json={"app_key": KEY, "name": "Shed"})
        assert made.status_code == 201, made.text
        assert (await s.api.get(PATH)).json()["join_eui"] == JOIN
        assert (await s.api.post(f"{PATH}/adopt", json={"app_key": KEY})).status_code == 409
        assert (await s.api.get("/lorawan/heard")).json()["heard"] == []

    claimed(test)


def test_a_device_of_1_1_is_adopted_by_its_nwk_key(claimed: Any) -> None:
    nwk_key = KEY[::-1]

    async def test(s: Any) -> None:
        await s.forwarder.push(build_join_request(AES128Key.parse(nwk_key), int(JOIN, 16), int(EUI, 16), 7))
        body = {"app_key": nwk_key, "nwk_key": KEY, "profile": "LoRaWAN-1.1-A"}
        answer = await s.api.post(f"{PATH}/adopt", json=body)
        assert (answer.status_code, "exchanged" in answer.json()["detail"]) == (400, True)
        body = {"app_key": KEY, "nwk_key": nwk_key, "profile": "LoRaWAN-1.1-A"}
        assert (await s.api.post(f"{PATH}/adopt", json=body)).status_code == 201

    claimed(test)


def test_missed_reports_reach_status_and_metrics(claimed: Any, device: Any) -> None:
    async def test(s: Any) -> None:
        await s.add(device)
        await s.forwarder.push(device.uplink())
        path = f"/lorawan/devices/{device.dev_eui}"
        await s.api.put(path, json={"expected_interval_s": 60})
        fleet = s.gateway.devices.fleet
        fleet._began_ns -= 7200 * 10**9
        s.gateway.core.server.registered(device.dev_eui).last_seen_ns -= 3600 * 10**9
        await fleet.sum_up()
        shown = (await s.api.get(path)).json()
        assert (shown["state"], shown["missed"], shown["attention"]) == ("overdue", 59, True)
        status = (await s.api.get("/gateway/status")).json()
        assert (status["devices"]["attention"], status["devices"]["states"]) == (1, {"overdue": 1})
        assert "1 device has missed reports: device 1." in status["radio"]["warnings"][0]
        metrics = (await s.api.get("/metrics")).text
        assert 'fluxgate_devices{state="overdue"} 1' in metrics
        assert "fluxgate_device_reports_missed 59" in metrics

    claimed(test)


def test_answers_are_what_the_openapi_document_says(claimed: Any) -> None:
    import jsonschema

    async def test(s: Any) -> None:
        document = (await s.api.get("/openapi.json")).json()
        await s.api.post("/lorawan/devices", json=OTAA)
        for path, shown in {
            "/lorawan/devices": "/lorawan/devices",
            "/lorawan/devices/{dev_eui}": PATH,
            "/lorawan/profiles": "/lorawan/profiles",
            "/lorawan/profiles/{name}": "/lorawan/profiles/default",
        }.items():
            answer = await s.api.get(shown)
            said = document["paths"][path]["get"]["responses"]["200"]
            schema = {
                **said["content"]["application/json"]["schema"],
                "components": document["components"],
            }
            jsonschema.validate(answer.json(), schema)

    claimed(test)
