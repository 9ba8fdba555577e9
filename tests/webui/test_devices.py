"""Pages of devices against a small gateway: list, label, edit, import, heard, profiles."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest

from tests.webui.double import HOSTILE, PASSPHRASE, GatewayDouble, Visitor
from webui.pages import device_import

COLD_ROOM = "a84041ffff1c3d5e"
KEY = "2B7E1516 28AED2A6 ABF71588 09CF4F3C"
PLAN: dict[str, Any] = {
    "plan": "plan-1",
    "counts": {"new": 1, "wrong": 1, "twice": 0, "registered": 0},
    "whole": False,
    "columns": {"dev_eui": "DevEUI"},
    "ignored": ["colour <b>"],
    "lines": [
        {
            "line": 2,
            "state": "new",
            "dev_eui": "a84041ffff1c3d61",
            "name": "Loft",
            "activation": "otaa",
            "profile": "default",
            "codec": "cayenne",
            "warnings": ["DevEUI and JoinEUI are the same"],
        },
        {
            "line": 3,
            "state": "wrong",
            "dev_eui": "12",
            "name": HOSTILE,
            "problems": ["DevEUI needs 16 hex digits and has 2"],
        },
    ],
    "total": 2,
}


def fill(double: GatewayDouble, count: int) -> None:
    for number in range(count):
        double.add_device(f"a84041ff{number:08x}", f"Device {number:03}")


# -- the list


def test_a_long_list_has_pages_and_keeps_what_was_asked_for(person: Visitor, double: GatewayDouble) -> None:
    fill(double, 120)
    person.get("/devices?q=device&sort=name")
    assert "120\u00a0devices" in person.page
    assert "Page 1 of 3" in person.page
    assert 'href="/devices?q=device&amp;sort=name&amp;page=2"' in person.page
    assert person.page.count('class="names"') == 50
    person.get("/devices?q=device&sort=name&page=3")
    assert person.page.count('class="names"') == 20
    assert double.asked[-1] == {"q": "device", "sort": "name", "offset": "100", "limit": "50"}
    assert 'data-live="/devices/list?q=device&amp;sort=name&amp;page=3"' in person.page


def test_ten_thousand_devices_do_not_renew_themselves(person: Visitor, double: GatewayDouble) -> None:
    fill(double, 1001)
    person.get("/devices")
    assert "/devices/list" not in person.page


def test_nonsense_in_the_address_is_a_plain_list(person: Visitor, double: GatewayDouble) -> None:
    assert person.get("/devices?sort=colour&page=-1&attention=x&profile=" + "x" * 900).status_code == 200
    assert set(double.asked[-1]) == {"profile", "limit", "offset"}


def test_what_does_not_fit_is_said(person: Visitor, site: GatewayDouble) -> None:
    person.get("/devices?q=nowhere")
    assert "No device fits" in person.page
    for device in site.devices.values():
        device["state"] = "ok"
    person.get("/devices?attention=1")
    assert "Nobody needs attention" in person.page


def test_a_device_that_misses_reports_says_since_when(person: Visitor, site: GatewayDouble) -> None:
    now = time.time()
    site.devices[COLD_ROOM] |= {
        "state": "overdue",
        "missed": 3,
        "missed_since": now - 7200,
        "expected_interval_s": 1800,
        "heard_share": 0.34,
    }
    person.get("/devices")
    assert "reports missing (3)" in person.page
    person.get(f"/devices/{COLD_ROOM}")
    assert "3\u00a0reports are missing; one was expected every 30 min" in person.page
    assert "2 h ago" in person.page
    assert "<b>34</b> %" in person.page


def test_the_list_is_saved_as_a_file(person: Visitor) -> None:
    answer = person.get("/devices/export")
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert "attachment" in answer.headers["Content-Disposition"]


# -- adding


LABEL = {
    "form": "LoRaWAN label (TR005)",
    "dev_eui": "aabbccddeeff0011",
    "join_eui": "1122334455667788",
    "checked": True,
    "serial": "<b>77",
    "notes": ["the first EUI was taken"],
}


def test_a_label_fills_in_the_form(person: Visitor, double: GatewayDouble) -> None:
    double.labels["LW:D0:x"] = LABEL
    person.get("/devices/add")
    assert person.post("/devices/label", {"text": "LW:D0:x"}).status_code == 200
    assert 'value="aabbccddeeff0011"' in person.page
    assert "Its checksum is right. It carries no key" in person.page
    assert "&lt;b&gt;77" in person.page


def test_a_label_of_fixed_keys_chooses_abp(person: Visitor, double: GatewayDouble) -> None:
    double.labels["x"] = LABEL | {"nwk_s_key": "11" * 16, "dev_addr": "01020304"}
    person.get("/devices/add")
    person.post("/devices/label", {"text": "x"})
    assert 'id="abp" checked' in person.page


def test_a_label_that_cannot_be_read_is_kept_with_the_reason(person: Visitor) -> None:
    person.get("/devices/add")
    assert person.post("/devices/label", {"text": "hello"}).status_code == 422
    assert "There is no DevEUI in it" in person.page
    assert 'value="hello"' in person.page


def test_a_label_of_a_known_device_leads_to_it(person: Visitor, site: GatewayDouble) -> None:
    site.labels["x"] = LABEL | {"registered": True, "dev_eui": COLD_ROOM}
    person.get("/devices/add")
    person.post("/devices/label", {"text": "x"})
    assert f'<a href="/devices/{COLD_ROOM}">registered already</a>' in person.page


def test_only_pages_that_scan_may_ask_for_the_camera(person: Visitor) -> None:
    assert "camera=(self)" in person.get("/devices/add").headers["Permissions-Policy"]
    assert "camera=()" in person.get("/devices").headers["Permissions-Policy"]


def test_profile_interval_and_second_key_are_sent(person: Visitor, double: GatewayDouble) -> None:
    person.get("/devices/add")
    answer = person.post(
        "/devices/add",
        {
            "name": "Pump",
            "dev_eui": "A84041FFFF1C3D61",
            "app_key": KEY,
            "nwk_key": KEY,
            "profile": "LoRaWAN-1.1-C",
            "interval": "15",
            "interval_unit": "min",
            "description": "in the  well",
        },
    )
    assert answer.status_code == 201
    (sent,) = double.changes
    assert sent == {
        "name": "Pump",
        "dev_eui": "a84041ffff1c3d61",
        "activation": "otaa",
        "app_key": "2b7e151628aed2a6abf7158809cf4f3c",
        "nwk_key": "2b7e151628aed2a6abf7158809cf4f3c",
        "profile": "LoRaWAN-1.1-C",
        "description": "in the well",
        "expected_interval_s": 900,
    }


# -- editing


def test_a_device_is_changed_and_an_empty_key_stays(person: Visitor, site: GatewayDouble) -> None:
    site.devices[COLD_ROOM] |= {"expected_interval_s": 7200, "own_interval": True, "own_codec": True}
    person.get(f"/devices/{COLD_ROOM}/edit")
    assert 'value="2"' in person.page
    answer = person.post(
        f"/devices/{COLD_ROOM}/edit", {"name": "Freezer", "codec": "", "interval": "", "profile": "default"}
    )
    assert answer.location == f"/devices/{COLD_ROOM}"
    assert site.changes == [
        {"name": "Freezer", "codec": "", "description": "", "expected_interval_s": None, "profile": "default"}
    ]
    person.get(answer.location)
    assert "Changed." in person.page


def test_a_replaced_key_is_sent_and_a_refused_one_is_told_beside_its_field(
    person: Visitor, site: GatewayDouble
) -> None:
    path = f"/devices/{COLD_ROOM}/edit"
    person.get(path)
    assert person.post(path, {"name": "x", "app_key": KEY, "any_join_eui": "yes"}).status_code == 303
    assert site.changes[0]["app_key"] == "2b7e151628aed2a6abf7158809cf4f3c"
    assert site.changes[0]["join_eui"] == ""
    person.get(path)
    assert person.post(path, {"name": "x", "app_key": "00" * 16}).status_code == 422
    assert 'id="app_key-error">AppKey is one that is refused.' in person.page
    person.get(path)
    assert person.post(path, {"name": "x", "app_key": "12"}).status_code == 422
    assert "AppKey is 32 hex digits" in person.page


def test_a_device_that_is_not_there_cannot_be_changed(person: Visitor) -> None:
    assert person.get("/devices/a84041ffff1c3d99/edit").status_code == 404


# -- import


def upload(person: Visitor, data: bytes, **fields: Any) -> Any:
    person.get("/devices/import")
    return person.post(
        "/devices/import",
        {"file": (io.BytesIO(data), "list.csv"), **fields},
        content_type="multipart/form-data",
    )


def test_a_list_is_looked_at_line_by_line_and_then_added(person: Visitor, double: GatewayDouble) -> None:
    double.plans["plan-1"] = PLAN
    answer = upload(person, b"dev_eui\n1\n", profile="default", interval="1", interval_unit="h")
    assert answer.location == "/devices/import/plan-1"
    assert double.imported[0][1:] == (
        {"profile": "default", "expected_interval_s": "3600", "dry_run": "1", "limit": "0"},
        b"dev_eui\n1\n",
    )
    person.get(answer.location)
    assert "1\u00a0device can be added, 1\u00a0line cannot." in person.page
    assert "DevEUI needs 16 hex digits and has 2." in person.page
    assert "DevEUI and JoinEUI are the same." in person.page
    assert "colour &lt;b&gt;" in person.page
    assert "<script>alert" not in person.page
    answer = person.post("/devices/import/plan-1", {"do": "add", "mode": "good"})
    assert answer.location == "/devices"
    assert double.imported[1][:2] == ("plan-1", {"mode": "good"})
    person.get("/devices")
    assert "1\u00a0device added. 1\u00a0line passed over." in person.page


def test_lines_can_be_shown_by_what_is_wrong_with_them(person: Visitor, double: GatewayDouble) -> None:
    double.plans["plan-1"] = PLAN
    person.get("/devices/import/plan-1?state=wrong")
    assert "Loft" not in person.page


def test_a_plan_can_be_dropped(person: Visitor, double: GatewayDouble) -> None:
    double.plans["plan-1"] = PLAN
    person.get("/devices/import/plan-1")
    assert person.post("/devices/import/plan-1", {"do": "forget"}).location == "/devices/import"
    assert double.plans == {}
    assert double.imported == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "Choose a file"),
        (b"name\nx\n", "No column is called dev_eui"),
        (b"x" * 2000, "At most 4 MB"),
    ],
)
def test_a_file_that_is_none_is_told(
    person: Visitor, monkeypatch: pytest.MonkeyPatch, data: bytes, words: str
) -> None:
    monkeypatch.setattr(device_import, "MAX_FILE", 1000)
    assert upload(person, data).status_code == 422
    assert words in person.page


def test_lines_can_be_pasted(person: Visitor, double: GatewayDouble) -> None:
    double.plans["plan-1"] = PLAN
    person.get("/devices/import")
    assert person.post("/devices/import", {"text": "dev_eui\n1\n"}).status_code == 303
    assert double.imported[0][2] == b"dev_eui\n1\n"


def test_an_old_preview_says_what_to_do(person: Visitor) -> None:
    assert person.get("/devices/import/plan-9").status_code == 404
    assert "send the file again" in person.page
    assert person.get("/devices/import/..%2f").status_code == 404


def test_a_large_form_is_taken_by_that_page_only(person: Visitor) -> None:
    person.get("/devices/add")
    assert person.post("/devices/add", {"name": "x" * 100_000}).status_code == 413


def test_there_is_a_file_to_fill_in(person: Visitor) -> None:
    assert person.get("/devices/import/template.csv").get_data().startswith(b"dev_eui,join_eui,app_key")


# -- heard


HEARD = {
    "dev_eui": "70b3d57ed0001a2b",
    "join_eui": "70b3d57ed0000001",
    "dev_addr": None,
    "first": 0,
    "last": 0,
    "count": 3,
    "rssi_dbm": -90,
    "snr_db": 5.5,
    "sf": 7,
    "words": HOSTILE,
}


def test_senders_that_are_not_registered_can_be_adopted(person: Visitor, double: GatewayDouble) -> None:
    double.unknown = [HEARD, HEARD | {"dev_eui": None, "dev_addr": "01020304", "words": ""}]
    person.get("/devices/heard")
    assert "2\u00a0senders not registered" in person.page
    assert 'href="/devices/heard/70b3d57ed0001a2b"' in person.page
    assert "01020304" in person.page
    person.get("/devices/heard/list")
    person.get("/devices/heard/70b3d57ed0001a2b")
    fields = {"name": "Shed", "app_key": "00" * 16, "profile": "default"}
    assert person.post("/devices/heard/70b3d57ed0001a2b", fields).status_code == 422
    assert 'id="app_key-error">This AppKey does not fit the join-request heard 20 s ago' in person.page
    assert person.post("/devices/heard/70b3d57ed0001a2b", fields | {"app_key": KEY}).status_code == 201
    assert "70b3d57ed0001a2b" in double.devices


def test_nobody_calls(person: Visitor) -> None:
    person.get("/devices/heard")
    assert "Nobody unknown calls" in person.page
    assert person.get("/devices/heard/70b3d57ed0001a2b").status_code == 404


# -- profiles


def test_a_profile_is_copied_changed_and_removed(person: Visitor, double: GatewayDouble) -> None:
    person.get("/devices/profiles")
    assert "LoRaWAN-1.1-C" in person.page
    person.get("/devices/profiles/default")
    assert "Make a copy to change" in person.page
    person.get("/devices/profiles/add?copy=LoRaWAN-1.1-C")
    assert "<option selected>1.1</option>" in person.page
    fields = {
        "name": "meter",
        "version": "1.0.4",
        "device_class": "C",
        "codec": "raw",
        "adr": "yes",
        "interval": "1",
        "interval_unit": "h",
        "max_dr": "5",
        "adr_margin_db": "7,5",
        "abp_rx2_freq_hz": "869.525",
        "abp_channels": "867.1, 867.3",
    }
    assert person.post("/devices/profiles/add", fields).location == "/devices/profiles"
    assert double.profiles["meter"] == {
        "version": "1.0.4",
        "device_class": "C",
        "codec": "raw",
        "description": "",
        "expected_interval_s": 3600,
        "adr": True,
        "counter_reset": "refuse",
        "dev_nonces": None,
        "abp_channels_hz": [867_100_000, 867_300_000],
        "max_dr": 5,
        "adr_margin_db": 7.5,
        "abp_rx2_freq_hz": 869_525_000,
    }
    person.get("/devices/profiles/meter")
    assert 'value="869.525"' in person.page
    assert 'value="867.1 867.3"' in person.page
    assert person.post("/devices/profiles/meter", fields | {"max_dr": "15"}).status_code == 422
    assert "Max_dr 15 is not an uplink data rate" in person.page
    assert person.post("/devices/profiles/meter", fields | {"max_dr": ""}).status_code == 303
    assert "max_dr" not in double.profiles["meter"]
    double.add_device(COLD_ROOM, "x", profile="meter")
    person.get("/devices/profiles/meter")
    assert person.post("/devices/profiles/meter/remove").status_code == 422
    assert "1 device has the profile" in person.page
    del double.devices[COLD_ROOM]
    assert person.post("/devices/profiles/meter/remove").status_code == 303
    assert "meter" not in double.profiles


@pytest.mark.parametrize(
    ("field", "typed", "words"),
    [
        ("name", "a b", "no blanks"),
        ("name", "default", "one with this name"),
        ("max_dr", "99", "0 to 15"),
        ("max_dr", "1.5", "0 to 15"),
        ("abp_rx2_freq_hz", "nan", "100 to 3000"),
        ("abp_channels", "x", "in MHz"),
        ("interval", "soon", "whole number"),
    ],
)
def test_a_bad_field_of_a_profile_is_named(person: Visitor, field: str, typed: str, words: str) -> None:
    person.get("/devices/profiles/add")
    assert person.post("/devices/profiles/add", {"name": "meter", field: typed}).status_code == 422
    assert words in person.page


# -- sessions on the move


def test_a_device_is_moved_with_a_sealed_file_and_taken_back(person: Visitor, site: GatewayDouble) -> None:
    path = f"/devices/{COLD_ROOM}/session"
    person.get(path)
    assert "26011bda" in person.page
    fields = {"passphrase": PASSPHRASE, "again": PASSPHRASE, "do": "move"}
    answer = person.post(path, fields)
    assert answer.status_code == 200
    assert f'filename="device-{COLD_ROOM}.json"' in answer.headers["Content-Disposition"]
    assert answer.get_json()["head"]["moved"]
    person.get(path)
    assert "It is not answered here." in person.page
    assert person.post(f"{path}/take-back").status_code == 303
    assert site.session == {}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"passphrase": "short", "again": "short"}, "At least 12 characters"),
        ({"passphrase": PASSPHRASE, "again": "x"}, "not the same"),
    ],
)
def test_a_weak_or_mistyped_passphrase_is_told(
    person: Visitor, site: GatewayDouble, fields: dict[str, str], words: str
) -> None:
    for path in (f"/devices/{COLD_ROOM}/session", "/devices/transfer"):
        person.get(path)
        to = path if "transfer" not in path else "/devices/transfer/export"
        assert person.post(to, fields).status_code == 422
        assert words in person.page
        assert PASSPHRASE not in person.page


def test_a_copy_that_is_heard_here_too_is_warned_of(person: Visitor, site: GatewayDouble) -> None:
    site.session |= {"both": True, "exported": time.time()}
    person.get(f"/devices/{COLD_ROOM}/session")
    assert "both answer it" in person.page


def test_a_whole_site_goes_and_comes_in_one_file(person: Visitor, double: GatewayDouble) -> None:
    person.get("/devices/transfer")
    answer = person.post("/devices/transfer/export", {"passphrase": PASSPHRASE, "again": PASSPHRASE})
    assert 'filename="site.json"' in answer.headers["Content-Disposition"]
    file = answer.get_data()

    def receive(data: bytes, words: str) -> Any:
        person.get("/devices/transfer")
        return person.post(
            "/devices/transfer/import",
            {"file": (io.BytesIO(data), "site.json"), "opening": words},
            content_type="multipart/form-data",
        )

    assert receive(file, "wrong").status_code == 422
    assert 'id="opening-error">Wrong passphrase' in person.page
    assert receive(b"x", PASSPHRASE).status_code == 422
    assert "Choose the file" in person.page
    assert receive(file, "").status_code == 422
    assert receive(file, PASSPHRASE).status_code == 200
    assert "1\u00a0device received." in person.page
    assert "goes on without a join" in person.page
    assert "<script>alert" not in person.page


def test_the_gateways_own_codecs_can_be_chosen(person: Visitor, double: GatewayDouble) -> None:
    double.codecs["em300"] = {"name": "em300", "description": "room sensor", "samples": []}
    for path in ("/devices/add", "/devices/import", "/devices/profiles/add"):
        person.get(path)
        assert '<option value="em300">em300: room sensor</option>' in person.page


# -- states that every page has


PATHS = [
    *("/devices/add", "/devices/import", "/devices/heard", "/devices/profiles", "/devices/profiles/add"),
    *("/devices/profiles/default", "/devices/transfer", "/devices/export", "/devices"),
    *(f"/devices/{COLD_ROOM}", f"/devices/{COLD_ROOM}/edit", f"/devices/{COLD_ROOM}/session"),
]


def test_nobody_sees_a_page_without_signing_in(visitor: Visitor, site: GatewayDouble) -> None:
    for path in (*PATHS, "/devices/import/template.csv"):
        answer = visitor.get(path)
        assert (answer.status_code, answer.location.startswith("/login")) == (303, True), path


def test_a_gateway_that_does_not_answer_is_told(person: Visitor, site: GatewayDouble) -> None:
    site.broken = True
    for path in PATHS:
        assert person.get(path).status_code == 503, path
        assert "does not answer" in person.page


def test_names_from_outside_are_text_everywhere(person: Visitor, site: GatewayDouble) -> None:
    site.devices[COLD_ROOM] |= {
        "name": HOSTILE,
        "description": HOSTILE,
        "tags": {HOSTILE: HOSTILE},
        "profile": HOSTILE,
        "codec": HOSTILE,
        "problem": HOSTILE,
    }
    site.profiles["x"] = {
        "version": HOSTILE,
        "device_class": HOSTILE,
        "description": HOSTILE,
        "codec": HOSTILE,
    }
    for path in PATHS:
        assert person.get(path).status_code == 200, path
        assert "<script>alert" not in person.page, path
