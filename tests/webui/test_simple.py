"""The page of simple nodes, against a small gateway: registering, sending, removing, and what was heard."""

from __future__ import annotations

import time

import pytest

from tests.webui.double import HOSTILE, GatewayDouble, Visitor
from webui import simple_words as sw

FORM = {"name": "Tank", "header": "radiohead", "address": "0x05", "own_address": "1", "codec": "cayenne"}


@pytest.fixture
def gateway(visitor: Visitor, double: GatewayDouble) -> GatewayDouble:
    visitor.sign_in()
    visitor.get("/devices/simple")
    return double


def test_a_node_is_registered_shown_sent_to_and_removed(visitor: Visitor, gateway: GatewayDouble) -> None:
    assert "No simple node yet" in visitor.page
    assert "Anyone near can send as any of them." in visitor.page
    assert visitor.post("/devices/simple", {**FORM, "acknowledge": "yes"}).status_code == 303
    node = gateway.simple["raw-radiohead-5"]
    assert (node["address"], node["own_address"], node["acknowledge"]) == (5, 1, True)
    visitor.get("/devices/simple")
    for text in ("Tank", "Radiohead address 5", "raw-radiohead-5", "never heard yet"):
        assert text in visitor.page
    assert visitor.post("/devices/simple/raw-radiohead-5/send", {"payload": "01 FF"}).status_code == 303
    assert gateway.simple_sent == [("raw-radiohead-5", "01ff")]
    visitor.get("/devices/simple")
    assert visitor.post("/devices/simple/raw-radiohead-5/remove").status_code == 303
    assert gateway.simple == {}


@pytest.mark.parametrize(
    ("field", "text", "sentence"),
    [
        ("address", "256", "is a number from 0 to 255"),
        ("address", "0xgg", "is a number from 0 to 255"),
        ("address", "", "is a number from 0 to 255"),
        ("header", "morse", "Choose how"),
        ("freq_mhz", "fast", "A frequency in MHz"),
    ],
)
def test_what_does_not_fit_is_said_beside_its_field(
    visitor: Visitor, gateway: GatewayDouble, field: str, text: str, sentence: str
) -> None:
    assert visitor.post("/devices/simple", {**FORM, field: text}).status_code == 422
    assert sentence in visitor.page
    assert 'value="Tank"' in visitor.page
    assert gateway.simple == {}


def test_a_node_that_is_there_already_is_told(visitor: Visitor, gateway: GatewayDouble) -> None:
    visitor.post("/devices/simple", FORM)
    visitor.get("/devices/simple")
    assert visitor.post("/devices/simple", FORM).status_code == 422
    assert "It is registered already." in visitor.page


def test_bytes_that_are_none_are_not_sent(visitor: Visitor, gateway: GatewayDouble) -> None:
    visitor.post("/devices/simple", FORM)
    for payload in ("", "0", "xyz", "00" * 252):
        visitor.get("/devices/simple")
        answer = visitor.post("/devices/simple/raw-radiohead-5/send", {"payload": payload})
        assert answer.status_code == 422, payload
        assert "Bytes in hex" in visitor.page
    assert visitor.post("/devices/simple/..%2Fclaim/send", {"payload": "00"}).status_code == 404
    assert gateway.simple_sent == []


def test_who_is_heard_fills_in_the_form(visitor: Visitor, gateway: GatewayDouble) -> None:
    stranger = {"freq_hz": 868_450_000, "first_bytes": "010c0700", "last": time.time(), "rssi_dbm": -90}
    gateway.simple_heard.append({**stranger, "snr_db": 5.0, "sf": 7, "size": 12, "count": 3})
    gateway.simple["x"] = {"id": "raw-x", "header": "byte", "name": HOSTILE}
    visitor.get("/devices/simple")
    assert "/devices/simple?address=12&amp;own_address=1#add" in visitor.page
    assert "<script>alert" not in visitor.page
    visitor.get("/devices/simple?address=12&own_address=1")
    assert 'value="12"' in visitor.page


def test_frequencies_are_read_as_people_write_them() -> None:
    form, body = sw.read_node({"header": "single", "freq_mhz": "868,45", "codec": "raw"})
    assert (form.errors, body["freq_hz"]) == ({}, 868_450_000)
    form, _ = sw.read_node({"header": "single", "codec": "raw"})
    assert "frequency" in form.errors["freq_mhz"]
