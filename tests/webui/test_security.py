"""What guards the pages: cookie, form token, origin, host, headers, sizes."""

from __future__ import annotations

import dataclasses

import pytest

from tests.webui.double import EMAIL, PASSPHRASE, GatewayDouble, Visitor
from webui.app import MAX_FORM_BYTES, close, create_app
from webui.config import WebuiConfig

SIGN_IN = {"email": EMAIL, "password": PASSPHRASE}


def cookie(answer: object) -> str:
    found: str = answer.headers.get("Set-Cookie", "")  # type: ignore[attr-defined]
    return found


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(visitor: Visitor) -> None:
    visitor.get("/login")
    found = cookie(visitor.post("/login", SIGN_IN))
    assert found.startswith("fluxgate=")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(found.split("; "))


def test_over_tls_the_cookie_belongs_to_this_host_only(config: WebuiConfig) -> None:
    app = create_app(dataclasses.replace(config, secure_cookies=True))
    found = cookie(app.test_client().get("/login"))
    close(app)
    assert found.startswith("__Host-fluxgate=")
    assert {"Secure", "HttpOnly", "SameSite=Strict", "Path=/"} <= set(found.split("; "))
    assert "Domain" not in found


def test_signing_in_changes_the_cookie(visitor: Visitor) -> None:
    before = cookie(visitor.get("/login"))
    after = cookie(visitor.post("/login", SIGN_IN))
    assert before
    assert after
    assert before != after


def test_a_planted_cookie_is_not_kept(visitor: Visitor) -> None:
    planted = "P" * 43
    visitor.client.set_cookie("fluxgate", planted)
    visitor.get("/login")
    visitor.post("/login", SIGN_IN)
    visitor.client.set_cookie("fluxgate", planted)
    assert visitor.get("/").status_code == 303


def test_a_stolen_cookie_is_worthless_after_signing_out(person: Visitor) -> None:
    stolen = person.client.get_cookie("fluxgate")
    assert stolen is not None
    person.get("/more")
    person.post("/logout")
    person.client.set_cookie("fluxgate", stolen.value)
    assert person.get("/").status_code == 303


@pytest.mark.parametrize("path", ["/login", "/claim", "/logout", "/devices/add"])
def test_a_form_without_its_token_is_refused(person: Visitor, double: GatewayDouble, path: str) -> None:
    assert person.client.post(path, data=SIGN_IN).status_code == 403
    wrong = {**SIGN_IN, "form_token": "0" * 32}
    assert person.client.post(path, data=wrong).status_code == 403
    assert double.devices == {}


def test_another_visitors_form_token_is_refused(config: WebuiConfig, person: Visitor) -> None:
    app = create_app(config)
    other = Visitor(app.test_client())
    other.get("/login")
    person.page = other.page
    close(app)
    assert person.post("/logout").status_code == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}, 303),
        ({"Origin": "http://localhost"}, 303),
    ],
)
def test_forms_come_from_our_own_pages(visitor: Visitor, headers: dict[str, str], status: int) -> None:
    visitor.get("/login")
    assert visitor.post("/login", SIGN_IN, headers=headers).status_code == status


def test_looking_changes_nothing(person: Visitor, site: GatewayDouble) -> None:
    before = str(site.devices), len(site.downlinks)
    for path in ("/logout", "/devices/a84041ffff1c3d5e/downlinks/cancel", "/people/x/remove"):
        assert person.get(path).status_code == 405
    for path in ("remove", "downlinks", "mac", "session"):
        person.get(f"/devices/a84041ffff1c3d5e/{path}")
    assert (str(site.devices), len(site.downlinks)) == before


@pytest.mark.parametrize("path", ["/", "/login", "/devices", "/nowhere", "/lamps"])
def test_every_answer_has_the_headers(person: Visitor, path: str) -> None:
    headers = person.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert "camera=()" in headers["Permissions-Policy"]
    assert headers["Cache-Control"] == "no-store"


def test_assets_are_kept_for_ever_under_the_name_of_their_content(visitor: Visitor) -> None:
    visitor.get("/login")
    url = visitor.page.split('<link rel="stylesheet" href="')[1].split('"')[0]
    answer = visitor.get(url, headers={"Accept-Encoding": "gzip"})
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"].endswith("immutable")
    assert answer.headers["Content-Encoding"] == "gzip"
    assert len(answer.get_data()) <= 8 * 1024
    assert visitor.get("/assets/app.css").status_code == 404
    assert visitor.get("/assets/..%2fapp.py").status_code == 404


def test_only_named_hosts_are_served_where_names_are_given(config: WebuiConfig) -> None:
    app = create_app(dataclasses.replace(config, trusted_hosts=("gateway.local",)))
    client = app.test_client()
    assert client.get("/login", headers={"Host": "gateway.local"}).status_code == 200
    assert client.get("/login", headers={"Host": "evil.example"}).status_code == 400
    close(app)


def test_a_huge_form_is_refused(visitor: Visitor) -> None:
    visitor.get("/login")
    assert visitor.post("/login", {**SIGN_IN, "x": "x" * MAX_FORM_BYTES}).status_code == 413


def test_a_fault_of_ours_tells_nothing(person: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("webui.words.lamps", broken)
    answer = person.get("/")
    assert answer.status_code == 500
    assert "secret detail" not in person.page
    assert "Traceback" not in person.page


def test_no_page_asks_for_anything_elsewhere(person: Visitor, site: GatewayDouble) -> None:
    for path in ("/", "/radio", "/devices", "/upstream", "/more"):
        person.get(path)
        assert "http://" not in person.page
        assert "https://" not in person.page
