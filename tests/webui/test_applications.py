"""The page of applications."""

from __future__ import annotations

import pytest

from tests.webui.double import HOSTILE, GatewayDouble, Visitor

URI = "https://app.example.org/cb"
FORM = {
    "name": "Dashboard",
    "kind": "people",
    "redirect_uris": f"{URI}\r\n",
    "scope": ["openid", "messages:read"],
}


def test_a_secret_is_shown_once(double: GatewayDouble, person: Visitor) -> None:
    person.get("/applications")
    answer = person.post("/applications", {**FORM, "more_scopes": "messages:write:field"})
    assert answer.status_code == 200
    assert "a-secret-shown-once" in person.page
    made = double.applications["app-0"]
    assert made["redirect_uris"] == [URI]
    assert set(made["scopes"]) == {"openid", "messages:read", "messages:write:field"}
    assert (made["public"], "role" in made) == (False, False)
    person.get("/applications/app-0")
    assert "a-secret-shown-once" not in person.page
    assert "messages:write:field" in person.page
    person.post("/applications/app-0/secret")
    assert "another-secret-shown-once" in person.page
    person.get("/applications")
    assert "secret-shown-once" not in person.page


def test_an_app_on_a_device_is_public_and_one_for_itself_has_a_role(
    double: GatewayDouble, person: Visitor
) -> None:
    person.get("/applications")
    person.post("/applications", {**FORM, "kind": "device"})
    person.get("/applications")
    person.post("/applications", {**FORM, "kind": "itself", "role": "viewer"})
    phone, robot = double.applications["app-0"], double.applications["app-1"]
    assert phone["public"] is True
    assert (robot["public"], robot["role"], robot["redirect_uris"]) == (False, "viewer", [])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": ""}, "Type a name"),
        ({"redirect_uris": ""}, "type it"),
        ({"redirect_uris": "http://evil.example/"}, "redirect URI"),
    ],
)
def test_what_is_wrong_is_said_and_what_was_typed_stays(
    double: GatewayDouble, person: Visitor, change: dict[str, str], told: str
) -> None:
    person.get("/applications")
    answer = person.post("/applications", {**FORM, "more_scopes": "things:read:a", **change})
    assert answer.status_code == 422
    assert told in person.page
    assert "things:read:a" in person.page
    assert double.applications == {}


def test_changing_and_removing(double: GatewayDouble, person: Visitor) -> None:
    double.applications["app-0"] = {
        "id": "app-0",
        "name": HOSTILE,
        "redirect_uris": [URI],
        "scopes": ["openid"],
    }
    person.get("/applications")
    assert "<script>alert" not in person.page
    person.get("/applications/app-0")
    assert "<script>alert" not in person.page
    answer = person.post(
        "/applications/app-0", {"name": "Board", "redirect_uris": URI, "scope": ["email"], "role": ""}
    )
    assert answer.status_code == 303
    assert double.applications["app-0"]["name"] == "Board"
    assert double.applications["app-0"]["scopes"] == ["email"]
    person.get("/applications/app-0")
    assert person.post("/applications/app-0/remove").status_code == 303
    assert double.applications == {}
    assert person.get("/applications/app-0").status_code == 404


@pytest.mark.parametrize("path", ["/applications/..%2fusers", "/applications/a%3fb"])
def test_only_an_id_goes_into_an_address_of_the_api(person: Visitor, path: str) -> None:
    assert person.get(path).status_code == 404
