"""The pages that say what is wrong and what to do, against a small gateway."""

from __future__ import annotations

import time

import pytest

from tests.webui.double import HOSTILE, GatewayDouble, Visitor
from webui import diagnosis_words as dw
from webui.findings import Finding

COLD_ROOM = "a84041ffff1c3d5e"


@pytest.fixture
def found(visitor: Visitor, double: GatewayDouble) -> GatewayDouble:
    double.add_device(COLD_ROOM, "Cold room 2", last_seen=time.time())
    visitor.sign_in()
    return double


def test_what_to_do_first_stands_on_top(visitor: Visitor, found: GatewayDouble) -> None:
    evidence = {"freq_hz": 868_100_000, "snr_db": 7.2, "certainty": "proved"}
    found.found(
        "app_key_digits",
        "the AppKeys differ in digit 3",
        dev_eui=COLD_ROOM,
        name="Cold room 2",
        evidence=evidence,
    )
    found.found(
        "weak_signal", "it is heard weakly", dev_eui=COLD_ROOM, weight="hurts", remedy="move the antenna"
    )
    visitor.get(f"/devices/{COLD_ROOM}/diagnosis")
    order = [
        visitor.page.index(words)
        for words in (
            "Compare the AppKey with the label.",
            "The AppKeys differ in digit 3.",
            "It is heard weakly.",
        )
    ]
    assert order == sorted(order)
    for text in ("868.1 MHz", "7.2 dB", "certain: the frame fits exactly", 'aria-current="page">Diagnosis'):
        assert text in visitor.page


def test_what_is_over_is_told_apart(visitor: Visitor, found: GatewayDouble) -> None:
    found.found("counter_reset", "it has started over", dev_eui=COLD_ROOM, resolved=time.time())
    visitor.get(f"/devices/{COLD_ROOM}/diagnosis")
    assert "Nothing is wrong that this gateway could tell." in visitor.page
    assert "What was, and is over" in visitor.page


def test_findings_of_all_devices_are_searched(visitor: Visitor, found: GatewayDouble) -> None:
    found.found("app_key_wrong", "wrong AppKey", dev_eui=COLD_ROOM, name="Cold room 2")
    found.found("dev_addr_unknown", "an unknown DevAddr", dev_addr="01020304")
    found.found("crc_errors", "damaged frames", resolved=1.0, last=2.0)
    visitor.get("/devices/diagnosis")
    for text in ("3\u00a0findings", "Cold room 2", "DevAddr 01020304", "This gateway"):
        assert text in visitor.page
    visitor.get("/devices/diagnosis?q=AppKey")
    assert "1\u00a0finding<" in visitor.page
    visitor.get("/devices/diagnosis?open=1&span=3600")
    assert "2\u00a0findings" in visitor.page
    visitor.get("/devices/diagnosis?q=nothing+of+the+kind")
    assert "No finding fits." in visitor.page


def test_names_from_the_air_stay_text(visitor: Visitor, found: GatewayDouble) -> None:
    found.found(
        "app_key_wrong", HOSTILE, dev_eui=COLD_ROOM, name=HOSTILE, remedy=HOSTILE, evidence={HOSTILE: HOSTILE}
    )
    for path in (
        "/devices/diagnosis",
        f"/devices/{COLD_ROOM}/diagnosis",
        f"/devices/{COLD_ROOM}/diagnosis/state",
    ):
        assert visitor.get(path).status_code == 200
        assert "<script>" not in visitor.page.replace('<script src="', "")


def test_a_page_of_no_device_is_not_found(visitor: Visitor, found: GatewayDouble) -> None:
    assert visitor.get("/devices/nonsense/diagnosis").status_code == 404
    assert visitor.get("/devices/0000000000000000/diagnosis").status_code == 404


def test_evidence_is_told_with_units() -> None:
    finding = Finding(
        evidence={"late_ms": 350.0, "margin_db": 7.0, "gateway": "aa", "regions": ["EU868", "IN865"]}
    )
    assert dw.evidence(finding) == [
        ("Above the floor", "7.0 dB"),
        ("Heard by", "aa"),
        ("Late by", "350 ms"),
        ("Regions", "EU868, IN865"),
    ]


def test_a_refused_frame_of_a_device_leads_to_what_to_do(visitor: Visitor, found: GatewayDouble) -> None:
    found.heard("rejected", dev_eui=COLD_ROOM, reason="bad_mic", datr="SF7BW125", snr_db=8.0, rssi_dbm=-80)
    visitor.get("/radio")
    assert f'href="/devices/{COLD_ROOM}/diagnosis">What to do' in visitor.page
