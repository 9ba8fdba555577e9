"""Pages of one's own account and of the audit log, against the hub's own API."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyotp
import pytest
from pyotp.totp import TOTP

from tests.real_hub import RealHub
from tests.webui.double import EMAIL, PASSPHRASE, Visitor
from webui.app import create_app
from webui.config import WebuiConfig


@pytest.fixture
def real(tmp_path: Path) -> Iterator[RealHub]:
    hub = RealHub(tmp_path, EMAIL, PASSPHRASE)
    yield hub
    hub.close()


@pytest.fixture
def gateway_url(real: RealHub) -> str:
    return real.url


@pytest.fixture
def other(config: WebuiConfig) -> Iterator[Visitor]:
    """The same person on another machine."""
    app = create_app(config)
    visitor = Visitor(app.test_client())
    visitor.sign_in()
    yield visitor
    app.extensions["sessions"].close()
    app.extensions["gateway"].http.close()


ANDROID = "Mozilla/5.0 (Android 14; Mobile; rv:130.0) Gecko/130.0 Firefox/130.0"


def test_the_page_shows_where_one_is_signed_in_and_ends_the_others(
    person: Visitor, other: Visitor, real: RealHub
) -> None:
    other.get("/account", headers={"User-Agent": ANDROID})
    person.get("/account")
    assert "(here)" in person.page
    assert person.page.count("Sign out here") == 1
    (there,) = re.findall(r"/account/sessions/([0-9a-f]+)/end", person.page)
    assert person.post(f"/account/sessions/{there}/end").status_code == 303
    assert other.get("/account").status_code == 303, "signed out there"
    person.get("/account")
    assert "Signed out there" in person.page
    assert len(real.hub.registry.sessions.all(real.hub.clock()[0] / 1e9)) == 1
    assert person.post("/account/sessions/no-such/end").status_code == 404


def test_all_others_are_ended_at_once(person: Visitor, other: Visitor) -> None:
    person.get("/account")
    assert person.post("/account/sessions/end").status_code == 303
    person.get("/account")
    assert "Signed out in 1\u00a0place" in person.page
    assert other.get("/account").status_code == 303


def test_another_passphrase_needs_the_old_one_and_gives_this_browser_a_fresh_session(
    person: Visitor, other: Visitor
) -> None:
    person.get("/account")
    before = person.client.get_cookie("fluxgate")
    new = {"old": "not the one I have", "password": "a new long passphrase", "again": "a new long passphrase"}
    assert person.post("/account/passphrase", new).status_code == 422
    assert "The old password is wrong" in person.page
    assert person.post("/account/passphrase", {**new, "again": "another"}).status_code == 422
    assert person.post("/account/passphrase", {**new, "password": "short"}).status_code == 422
    assert person.post("/account/passphrase", {**new, "old": PASSPHRASE}).status_code == 303
    after = person.client.get_cookie("fluxgate")
    assert before is not None
    assert after is not None
    assert before.value != after.value
    assert person.get("/account").status_code == 200
    assert other.get("/account").status_code == 303


def test_codes_are_set_up_asked_for_and_turned_off(person: Visitor, real: RealHub) -> None:
    person.get("/account")
    assert person.post("/account/totp", {"password": "wrong wrong wrong"}).status_code == 422
    assert person.post("/account/totp", {"password": PASSPHRASE}).status_code == 200
    assert "<svg" in person.page
    assert "style=" not in person.page
    secret = re.search(r"<code>([A-Z2-7 ]+)</code>", person.page)
    uri = re.search(r'name="uri" value="([^"]+)"', person.page)
    assert secret
    assert uri
    link = uri[1].replace("&amp;", "&")
    totp = pyotp.parse_uri(link)
    assert isinstance(totp, TOTP)
    assert (totp.secret, totp.issuer, totp.name) == (secret[1].replace(" ", ""), "Fluxgate", EMAIL)
    now = real.hub.clock()[0] // 1_000_000_000
    assert person.post("/account/totp/confirm", {"uri": link, "code": "12345"}).status_code == 422
    assert "<svg" in person.page, "the code can be scanned again"
    # The hub's clock says itself that nobody vouches for it: two codes in a row.
    pair = f"{totp.at(now - 60)} {totp.at(now - 30)}"
    assert person.post("/account/totp/confirm", {"uri": link, "code": pair}).status_code == 200
    codes = re.findall(r"<li><code>([0-9A-Z]{5}-[0-9A-Z]{5})</code>", person.page)
    assert len(set(codes)) == 10
    person.get("/account")
    assert "10\u00a0recovery codes left" in person.page

    person.post("/logout")
    person.get("/login")
    answer = person.post("/login", {"email": EMAIL, "password": PASSPHRASE})
    assert (answer.status_code, 'name="code"' in person.page) == (200, True)
    assert PASSPHRASE not in person.page

    def proof_shown() -> dict[str, str]:
        found = re.search(r'name="proof" value="([^"]+)"', person.page)
        assert found
        return {"email": EMAIL, "proof": found[1]}

    assert person.post("/login", {**proof_shown(), "code": "00000-00000"}).status_code == 403
    own = proof_shown()
    stranger = Visitor(person.client.application.test_client())
    stranger.get("/login")
    assert stranger.post("/login", {**own, "code": codes[0]}).status_code == 422, "only for who proved it"
    assert person.post("/login", {**own, "code": codes[0]}).status_code == 303
    person.get("/account")
    assert "9\u00a0recovery codes left" in person.page
    proof = {"password": PASSPHRASE, "code": codes[0]}
    assert person.post("/account/totp/off", proof).status_code == 422, "a recovery code is good once"
    assert person.post("/account/totp/recovery", {**proof, "code": codes[1]}).status_code == 200
    fresh = re.findall(r"<li><code>([0-9A-Z]{5}-[0-9A-Z]{5})</code>", person.page)
    assert not set(fresh) & set(codes)
    person.get("/account")
    assert person.post("/account/totp/off", {**proof, "code": fresh[0]}).status_code == 303
    assert not real.hub.registry.totp.on(real.hub.registry.users()[0].id)


def test_a_foreign_link_is_not_drawn(person: Visitor) -> None:
    for uri in ("javascript:alert(1)", "https://evil.example/otpauth://totp/", ""):
        person.get("/account")
        assert person.post("/account/totp/confirm", {"uri": uri, "code": "1"}).status_code == 400


def test_the_log_is_searched_paged_checked_and_saved(person: Visitor, real: RealHub) -> None:
    for n in range(60):
        real.hub.audit.record("thing", "done", who="things/x", resource=f"things/{n}")
    real.hub.audit.record("access", "refused", who="<b>mallory", address="192.0.2.7", detail="no right")
    person.get("/audit")
    assert "&lt;b&gt;mallory" in person.page
    assert "<b>mallory" not in person.page
    later = re.search(r'href="(/audit\?before=\d+[^"]*)"', person.page)
    assert later
    assert person.get(later[1].replace("&amp;", "&")).status_code == 200
    assert "mallory" not in person.page
    person.get("/audit?kind=access&outcome=refused&text=MALLORY&since=hour")
    assert "mallory" in person.page
    assert "things/5" not in person.page
    person.get("/audit?verify=1")
    assert "are as they were written" in person.page
    answer: Any = person.get("/audit/export?format=csv&kind=access")
    assert answer.mimetype == "text/csv"
    assert answer.text.splitlines()[0].startswith("n,time,quality")
    assert "mallory" in answer.text
    person.get("/audit?text=/audit/export")
    assert person.get("/audit?kind=%00&before=x&since=never").status_code == 200


def test_who_is_no_administrator_is_told_so(person: Visitor, real: RealHub) -> None:
    real.hub.registry.create_user("second@example.org", "a long passphrase")
    real.hub.registry.set_role(real.hub.registry.users()[0].id, "viewer")
    assert person.get("/account").status_code == 303, "another role ends the session"
    person.sign_in()
    assert person.get("/audit").status_code == 403
    assert "administrator" in person.page
    assert person.get("/account").status_code == 200


def test_an_administrator_signs_others_out_and_helps_who_lost_the_app(
    person: Visitor, config: WebuiConfig, real: RealHub
) -> None:
    hub = real.hub
    helper = hub.registry.create_user("helper@example.org", PASSPHRASE, "technician")
    hub.registry.issue_token(helper.id, hub.clock()[0] / 1e9)
    begun = hub.registry.totp.begin(helper.id, helper.email)
    now = hub.clock()[0] // 1_000_000_000
    hub.registry.totp.confirm(helper.id, TOTP(begun.secret).at(now), now, True)
    person.get("/people")
    assert "helper@example.org</bdi>, technician, with a code" in person.page
    assert person.post(f"/people/{helper.id}/sessions/end").status_code == 303
    person.get("/people")
    assert "Signed out in 1\u00a0place" in person.page
    assert hub.registry.sessions.of_user(helper.id, now) == []
    assert person.post(f"/people/{helper.id}/totp/end").status_code == 303
    assert not hub.registry.totp.on(helper.id)
