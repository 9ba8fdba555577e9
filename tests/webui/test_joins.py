"""The page of a device's joins: what is used up, and a technician's leave to begin anew."""

from __future__ import annotations

import time

import pytest

from tests.webui.double import GatewayDouble, Visitor

EUI = "a84041ffff1c3d5e"
PAGE = f"/devices/{EUI}/joins"


@pytest.fixture
def known(visitor: Visitor, double: GatewayDouble) -> GatewayDouble:
    double.add_device(EUI, "Cold room 2", last_seen=time.time())
    double.joins[EUI] = {
        "dev_eui": EUI,
        "activation": "otaa",
        "version": "1.0.4",
        "rule": "rising",
        "nonces_used": 41,
        "last_nonce": 40,
        "waiting": 3,
    }
    visitor.sign_in()
    return double


def test_what_is_used_and_what_comes_next_is_said(visitor: Visitor, known: GatewayDouble) -> None:
    visitor.get(PAGE)
    for text in (
        "41 of 65,536",
        "must be greater",
        "LoRaWAN 1.0.4",
        "granted and not followed",
        "may not hear the answers",
    ):
        assert text in visitor.page, text
    known.joins[EUI] |= {"rule": "all", "waiting": 0, "nonces_used": 0, "last_nonce": None}
    visitor.get(PAGE)
    assert "must be new" in visitor.page
    assert "may not hear" not in visitor.page


def test_leave_is_given_for_a_time_and_taken_back(visitor: Visitor, known: GatewayDouble) -> None:
    visitor.get(PAGE)
    assert visitor.post(PAGE, {"minutes": "60"}).status_code == 303
    visitor.get(PAGE)
    assert "for 60 minutes" in visitor.page
    assert "Allowed until" in visitor.page
    assert 'value="60"' not in visitor.page
    visitor.post(PAGE, {"minutes": "0"})
    visitor.get(PAGE)
    assert known.joins[EUI]["restart_until"] is None
    assert 'value="60"' in visitor.page


def test_a_time_that_is_none_of_the_choices_gives_no_leave(visitor: Visitor, known: GatewayDouble) -> None:
    visitor.get(PAGE)
    visitor.post(PAGE, {"minutes": "99999999"})
    assert known.joins[EUI]["restart_until"] is None


def test_a_personalised_device_has_no_joins(visitor: Visitor, known: GatewayDouble) -> None:
    known.joins[EUI]["activation"] = "abp"
    visitor.get(PAGE)
    assert "It never joins" in visitor.page
    assert 'name="minutes"' not in visitor.page
