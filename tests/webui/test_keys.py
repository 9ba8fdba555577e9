"""The page of one's own API keys."""

from __future__ import annotations

import pytest

from tests.webui.double import HOSTILE, GatewayDouble, Visitor

FORM = {"name": "Grafana", "scope": ["messages:read", "things:read"], "duration": "31536000"}


def test_a_key_is_shown_once(double: GatewayDouble, person: Visitor) -> None:
    person.get("/more")
    assert 'href="/keys"' in person.page
    person.get("/keys")
    answer = person.post("/keys", {**FORM, "more_scopes": "messages:write:field"})
    assert answer.status_code == 200
    assert "fgk_shown-once" in person.page
    assert set(double.keys["key-0"]["scopes"]) == {"messages:read", "things:read", "messages:write:field"}
    person.get("/keys")
    assert "fgk_" not in person.page
    assert "Grafana" in person.page
    assert "until 2027-11-20" in person.page


def test_a_key_without_an_end_says_so(double: GatewayDouble, person: Visitor) -> None:
    person.get("/keys")
    person.post("/keys", {**FORM, "duration": ""})
    assert "expires_at" not in double.keys["key-0"]
    assert "without an end" in person.page
    assert "not used yet" in person.page


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": ""}, "Type a name"),
        ({"scope": []}, "Choose at least one"),
        ({"more_scopes": "users:write"}, "never for more than its maker may"),
    ],
)
def test_what_is_wrong_is_said_and_what_was_typed_stays(
    double: GatewayDouble, person: Visitor, change: dict[str, object], told: str
) -> None:
    person.get("/keys")
    answer = person.post("/keys", {**FORM, **change})
    assert answer.status_code == 422
    assert told in person.page
    assert double.keys == {}
    assert ('value="Grafana"' in person.page) is ("name" not in change)


def test_a_key_is_replaced_with_time_for_the_one_before_and_removed(
    double: GatewayDouble, person: Visitor
) -> None:
    person.get("/keys")
    person.post("/keys", FORM)
    person.get("/keys")
    person.post("/keys/key-0/replace", {"overlap": "86400"})
    assert "fgk_replaced-and-shown-once" in person.page
    assert "ends after a day" in person.page
    assert "works until 2026-11-21 10:00:00 UTC" in person.page
    assert person.post("/keys/key-0/replace", {"overlap": "7"}).status_code == 400
    person.get("/keys")
    assert person.post("/keys/key-0/remove").status_code == 303
    assert double.keys == {}
    person.get("/keys")
    assert "What was connected with it has ended." in person.page


def test_a_key_that_is_gone_is_said_so(double: GatewayDouble, person: Visitor) -> None:
    person.get("/keys")
    assert person.post("/keys/gone/replace", {"overlap": "0"}).status_code in (303, 404)
    person.get("/keys")
    assert person.post("/keys/a b/remove").status_code == 404


def test_names_are_shown_as_text(double: GatewayDouble, person: Visitor) -> None:
    person.get("/keys")
    person.post("/keys", {**FORM, "name": HOSTILE[:100]})
    person.get("/keys")
    assert HOSTILE[:100] not in person.page
