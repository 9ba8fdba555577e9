"""Requests that a foreign page makes a browser send: the pages refuse each form, the REST API takes no cookie."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from hub.http.app import ENDPOINTS
from hub.http.table import Needs
from tests.real_hub import RealHub
from tests.webui.double import EMAIL, PASSPHRASE, Visitor
from webui import security
from webui.app import close, create_app
from webui.config import WebuiConfig

RunSite = Callable[..., None]

KEY = "k" * 43
CHANGES = {"POST", "PUT", "PATCH", "DELETE"}


@dataclass
class Pages:
    """The pages before a real hub, and somebody who is signed in there."""

    hub: RealHub
    app: Flask
    config: WebuiConfig
    person: Visitor

    def routes(self) -> list[tuple[str, str]]:
        """Method and path of each request that changes something, from the URL map."""
        found = []
        for rule in self.app.url_map.iter_rules():
            path = re.sub(r"<(?:[^:<>]+:)?[^<>]+>", "1", rule.rule)
            found += [(method, path) for method in sorted((rule.methods or set()) & CHANGES)]
        return found

    def form_token(self) -> str:
        self.person.get("/account")
        found = re.search(r'name="form_token" value="([0-9a-f]+)"', self.person.page)
        assert found
        return found[1]

    def refusals(self) -> list[Any]:
        audit = self.hub.hub.audit
        assert audit.flush(gathered=True)
        with audit.reader() as reader:
            return reader.lines("outcome = 'refused'", (), 10_000)


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[Pages]:
    hub = RealHub(tmp_path, EMAIL, PASSPHRASE, pages_key=KEY)
    config = WebuiConfig(api_url=hub.url, pages_key=KEY)
    app = create_app(config)
    person = Visitor(app.test_client())
    person.sign_in()
    yield Pages(hub, app, config, person)
    close(app)
    hub.close()


def forgeries(token: str) -> list[tuple[dict[str, str], dict[str, str], str]]:
    """Form, headers and the words of the refusal, for each way to send somebody's browser here."""
    lacking, foreign = "a form without the token of its page", "a form from another site"
    right = {"form_token": token}
    return [
        ({}, {}, lacking),
        ({"form_token": "0" * 32}, {}, lacking),
        ({"form_token": token[:-1]}, {}, lacking),
        (right, {"Sec-Fetch-Site": "cross-site"}, foreign),
        (right, {"Sec-Fetch-Site": "same-site"}, foreign),
        (right, {"Sec-Fetch-Site": "none"}, foreign),
        (right, {"Origin": "https://evil.example"}, foreign),
        (right, {"Origin": "null"}, foreign),
    ]


def test_every_form_of_the_pages_is_refused_from_elsewhere_and_noted(pages: Pages) -> None:
    token, routes = pages.form_token(), pages.routes()
    assert len(routes) > 50
    sent: Counter[tuple[str, str]] = Counter()
    for method, path in routes:
        for form, headers, words in forgeries(token):
            answer = pages.person.client.open(path, method=method, data=form, headers=headers)
            assert answer.status_code == 403, (method, path, form, headers)
            sent[(f"{method} {path}", words)] += 1
    noted: Counter[tuple[str, str]] = Counter()
    (me,) = pages.hub.hub.registry.users()
    for line in pages.refusals():
        assert (line.kind, line.who, line.door, line.address) == (
            "access",
            f"users/{me.id}",
            "pages",
            "127.0.0.1",
        )
        noted[(line.resource, line.detail)] += line.count
    assert noted == sent
    pages.person.get("/account")
    assert "(here)" in pages.person.page, "not even signed out"


def test_a_form_with_its_token_from_our_own_page_is_taken(pages: Pages) -> None:
    """What the test above sends gets through once it is the page's own."""
    own = {"form_token": pages.form_token()}
    headers = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    assert pages.person.client.post("/account/sessions/end", data=own, headers=headers).status_code == 303
    assert pages.refusals() == []


def test_without_the_check_a_foreign_form_would_do_it(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security, "_refuse_forged", lambda: None)
    answer = pages.person.client.post("/account/sessions/end", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 303


def test_a_visitor_is_not_signed_in_by_a_foreign_page(pages: Pages) -> None:
    stranger = Visitor(pages.app.test_client())
    login = {"email": EMAIL, "password": PASSPHRASE}
    assert stranger.client.post("/login", data=login).status_code == 403
    (line,) = pages.refusals()
    assert (line.kind, line.who, line.resource) == ("access", "", "POST /login")


def test_only_the_pages_may_speak_for_their_visitors(pages: Pages) -> None:
    api = pages.app.extensions["gateway"].http
    body = {"resource": "POST /x", "detail": "made up"}
    for headers in ({}, {"X-Fluxgate-Pages": "wrong 192.0.2.1"}, {"X-Fluxgate-Pages": f"{KEY}x 192.0.2.1"}):
        assert api.post("/audit/pages", json=body, headers=headers).status_code in (400, 403)
    spoofed = {"X-Forwarded-For": "192.0.2.1", "Forwarded": "for=192.0.2.1"}
    wrong = {"email": EMAIL, "password": "this is not the password"}
    assert api.post("/tokens", json=wrong, headers=spoofed).status_code == 401
    assert {line.address for line in pages.refusals() if line.kind == "sign-in"} == {"127.0.0.1"}
    believed = {"X-Fluxgate-Pages": f"{KEY} 192.0.2.77"}
    assert api.post("/tokens", json=wrong, headers=believed).status_code == 401
    addresses = [line.address for line in pages.refusals() if line.kind == "sign-in"]
    assert sorted(addresses) == ["127.0.0.1", "192.0.2.77"]


# The session cookie


def test_the_pages_never_take_a_session_id_that_they_did_not_just_make(pages: Pages) -> None:
    visitor = Visitor(pages.app.test_client())
    planted = "p" * 43
    visitor.client.set_cookie("fluxgate", planted)
    visitor.get("/login")
    visitor.sign_in()
    cookie = visitor.client.get_cookie("fluxgate")
    assert cookie is not None
    assert cookie.value != planted
    victim = Visitor(pages.app.test_client())
    victim.client.set_cookie("fluxgate", planted)
    assert victim.get("/account").status_code == 303
    again = Visitor(pages.app.test_client())
    again.client.set_cookie("fluxgate", cookie.value)
    assert again.get("/account").status_code == 200  # the probe would have worked
    again.post("/logout")
    assert visitor.get("/account").status_code == 303, "signing out ends the session, wherever its cookie is"


@pytest.mark.parametrize("secure", [False, True])
def test_cookies_are_out_of_reach_of_scripts_and_other_sites(pages: Pages, secure: bool) -> None:
    app = create_app(WebuiConfig(api_url=pages.hub.url, secure_cookies=secure))
    visitor = Visitor(app.test_client())
    scheme = "https" if secure else "http"
    visitor.get("/login", base_url=f"{scheme}://localhost")
    answer = visitor.post(
        "/login", {"email": EMAIL, "password": PASSPHRASE}, base_url=f"{scheme}://localhost"
    )
    cookies = answer.headers.getlist("Set-Cookie")
    close(app)
    assert len(cookies) == 2  # the session, and what makes the browser known
    for cookie in cookies:
        parts = [part.strip().lower() for part in cookie.split(";")]
        assert {"httponly", "samesite=strict", "path=/"} <= set(parts)
        assert not any(part.startswith("domain") for part in parts)
        assert ("secure" in parts, cookie.startswith("__Host-")) == (secure, secure)


# REST


def test_cookies_do_nothing_at_the_rest_api(site: RunSite, cheap: list[str]) -> None:
    async def scenario(s: Any) -> None:
        token = s.owner.token
        cookies = f"fluxgate={token}; token={token}; session={token}; Authorization=Bearer {token}"
        walked = 0
        for row in ENDPOINTS:
            if row.needs is Needs.NOTHING or row.method not in CHANGES:
                continue
            path = re.sub(r"{\w+(:path)?}", "1", row.path)
            answer = await s.client.request(
                row.method,
                path,
                content=b"{}",
                headers={"cookie": cookies, "content-type": "application/json"},
            )
            assert answer.status_code == 401, (row.method, path)
            walked += 1
        assert walked > 40
        answer = await s.client.delete("/sessions", headers={"authorization": f"Bearer {token}"})
        assert answer.status_code == 200  # the same in its place is good

    site(scenario)
