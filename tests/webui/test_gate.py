"""/gate: the cookie of the pages becomes the gateway's answer about another service, of no use to other sites."""

from __future__ import annotations

import pytest

from tests.webui.double import GatewayDouble, Visitor

ASKED = {"X-Original-Method": "GET", "X-Original-URI": "/maps/x", "X-Fluxgate-Upstream": "maps.example"}


def test_who_is_signed_in_is_asked_about_by_his_session(person: Visitor, double: GatewayDouble) -> None:
    answer = person.client.get("/gate", headers={**ASKED, "X-Fluxgate-Role": "viewer", "X-Evil": "1"})
    assert answer.status_code == 200
    assert answer.headers["X-Fluxgate-Subject"] == "users/u-1"
    assert "X-Other" not in answer.headers
    asked = double.checked[-1]
    assert asked["authorization"].startswith("Bearer ")
    assert (asked["x-original-uri"], asked["x-fluxgate-upstream"]) == ("/maps/x", "maps.example")
    assert asked["x-fluxgate-role"] == "viewer"
    assert "x-evil" not in asked
    assert person.client.get("/gate", headers={**ASKED, "X-Original-URI": "/closed"}).status_code == 403


def test_who_is_not_signed_in_is_told_so_without_a_question(visitor: Visitor, double: GatewayDouble) -> None:
    assert visitor.client.get("/gate", headers=ASKED).status_code == 401
    assert double.checked == []


def test_a_program_is_asked_about_by_its_own_credential(visitor: Visitor, double: GatewayDouble) -> None:
    (token,) = double.tokens
    answer = visitor.client.get("/gate", headers={**ASKED, "Authorization": f"Bearer {token}"})
    assert answer.status_code == 200
    assert double.checked[-1]["authorization"] == f"Bearer {token}"
    refused = visitor.client.get("/gate", headers={**ASKED, "Authorization": "Bearer wrong"})
    assert refused.status_code == 401


@pytest.mark.parametrize(
    ("header", "value", "code"),
    [
        ("Origin", "http://evil.example", 403),
        ("Origin", "null", 403),
        ("Origin", "http://localhost", 200),
        ("Sec-Fetch-Site", "cross-site", 403),
        ("Sec-Fetch-Site", "same-site", 403),
        ("Sec-Fetch-Site", "same-origin", 200),
        ("Sec-Fetch-Site", "none", 200),
    ],
)
def test_another_sites_page_gets_nothing_from_the_cookie(
    person: Visitor, header: str, value: str, code: int
) -> None:
    assert person.client.get("/gate", headers={**ASKED, header: value}).status_code == code


def test_a_session_that_has_ended_opens_nothing(person: Visitor, double: GatewayDouble) -> None:
    double.tokens.clear()
    double.access.clear()
    double.refresh.clear()
    assert person.client.get("/gate", headers=ASKED).status_code == 401


def test_a_gateway_that_does_not_answer_lets_nobody_pass(person: Visitor, double: GatewayDouble) -> None:
    double.broken = True
    assert person.client.get("/gate", headers=ASKED).status_code == 503
