"""The pages where people agree, and the pages as an OAuth client themselves."""

from __future__ import annotations

import html
import re
import threading
import time
from collections.abc import Iterator
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest

from tests.webui.double import EMAIL, HOSTILE, PASSPHRASE, GatewayDouble, Visitor, api_server, served
from webui import renewal
from webui.app import close, create_app
from webui.config import WebuiConfig
from webui.renewal import Renewal
from webui.sessions import Sessions, Tokens

QUERY = urlencode(
    {
        "response_type": "code",
        "client_id": "app-1",
        "redirect_uri": "https://app.example.org/cb",
        "state": "s" * 1500,
        "code_challenge": "c" * 43,
        "code_challenge_method": "S256",
    }
)
SIGN_IN = {"email": EMAIL, "password": PASSPHRASE}


@pytest.fixture
def asking(double: GatewayDouble) -> GatewayDouble:
    """An application that asks for something."""
    double.authorization = {
        "application": {"id": "app-1", "name": HOSTILE, "public": False},
        "redirect_uri": "https://app.example.org/cb",
        "scopes": [
            {"scope": "messages:read", "words": "read messages of the channels you can see", "risky": False},
            {"scope": "users:write", "words": "add, change and remove people", "risky": True},
        ],
        "account": EMAIL,
        "redirect": "",
    }
    return double


def hidden(page: str, name: str) -> str:
    found = re.search(f'name="{name}" value="([^"]*)"', page)
    assert found is not None, page
    return html.unescape(found[1])


def test_who_comes_from_another_site_is_led_to_the_question_by_way_of_the_sign_in(
    asking: GatewayDouble, visitor: Visitor
) -> None:
    answer = visitor.get(f"/oauth/authorize?{QUERY}", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 200
    found = re.search(r'content="0;url=([^"]*)"', visitor.page)
    assert found is not None
    here = html.unescape(found[1])
    assert here == f"/oauth/arrived?{QUERY}"
    answer = visitor.get(here)
    assert answer.status_code == 303
    login = answer.headers["Location"]
    assert urlsplit(login).path == "/login"
    visitor.get(login)
    assert hidden(visitor.page, "next") == here
    answer = visitor.post("/login", {**SIGN_IN, "next": hidden(visitor.page, "next")})
    assert (answer.status_code, answer.headers["Location"]) == (303, here)
    assert visitor.get(here).status_code == 200
    assert "Allow" in visitor.page


def test_the_question_names_who_asks_for_what_and_where_it_leads(
    asking: GatewayDouble, person: Visitor
) -> None:
    answer = person.get(f"/oauth/authorize?{QUERY}", headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 200
    for told in (
        "app.example.org",
        "read messages of the channels you can see",
        "add, change and remove people",
        EMAIL,
    ):
        assert told in person.page
    assert "<script>alert" not in person.page
    assert "could get more rights" in person.page
    policy = answer.headers["Content-Security-Policy"]
    assert "form-action 'self' https://app.example.org;" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(("decision", "outcome"), [("allow", "code=c-1"), ("deny", "error=access_denied")])
def test_the_decision_goes_back_with_the_browser(
    asking: GatewayDouble, person: Visitor, decision: str, outcome: str
) -> None:
    person.get(f"/oauth/arrived?{QUERY}")
    query = hidden(person.page, "query")
    assert query == QUERY
    answer = person.post("/oauth/authorize", {"query": query, "decision": decision})
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith(f"https://app.example.org/cb?{outcome}")
    assert asking.decisions == [{"query": QUERY, "allow": decision == "allow"}]


def test_nobody_decides_for_somebody_else(asking: GatewayDouble, person: Visitor, visitor: Visitor) -> None:
    decision = {"query": QUERY, "decision": "allow"}
    assert person.client.post("/oauth/authorize", data=decision).status_code == 403
    wrong = {**decision, "form_token": "0" * 32}
    assert person.client.post("/oauth/authorize", data=wrong).status_code == 403
    person.get("/more")
    cross = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
    assert person.post("/oauth/authorize", decision, headers=cross).status_code == 403
    assert person.get(f"/oauth/authorize?{QUERY}&decision=allow").status_code == 200
    assert asking.decisions == []


def test_a_damaged_address_leads_nowhere(asking: GatewayDouble, person: Visitor) -> None:
    evil = quote("https://evil.example/cb")
    answer = person.get(f"/oauth/arrived?client_id=unknown&redirect_uri={evil}")
    assert answer.status_code == 400
    assert "evil.example" not in person.page
    assert "Nothing was allowed" in person.page


def test_who_agreed_before_goes_straight_on(asking: GatewayDouble, person: Visitor) -> None:
    asking.authorization["needs"] = "nothing"
    answer = person.get(f"/oauth/arrived?{QUERY}")
    assert answer.headers["Location"].startswith("https://app.example.org/cb?code=c-1")


def test_an_application_may_ask_for_a_fresh_sign_in(asking: GatewayDouble, person: Visitor) -> None:
    asking.authorization["needs"] = "sign-in"
    answer = person.get(f"/oauth/arrived?{QUERY}&prompt=login+consent&max_age=0")
    login = urlsplit(answer.headers["Location"])
    asked = parse_qs(login.query)
    assert (login.path, asked["again"]) == ("/login", ["1"])
    onward = parse_qs(urlsplit(asked["next"][0]).query)
    assert onward["prompt"] == ["consent"]
    assert "max_age" not in onward
    assert person.get(answer.headers["Location"]).status_code == 200
    assert "Passphrase" in person.page


def test_silence_is_answered_without_a_page(asking: GatewayDouble, visitor: Visitor) -> None:
    answer = visitor.get(f"/oauth/arrived?{QUERY}&prompt=none")
    assert answer.headers["Location"] == "https://app.example.org/cb?error=login_required"


SOURCES = {
    "https://app.example.org:8443/cb?x=1": "https://app.example.org:8443",
    "http://127.0.0.1:5000/cb": "http://127.0.0.1:5000",
    "http://[::1]:5000/cb": "http:",
    "com.example.app:/cb": "com.example.app:",
    "https://a.example/;script-src *": "https://a.example",
    "; script-src *": "",
}


def test_the_policy_opens_for_that_address_alone(asking: GatewayDouble, person: Visitor) -> None:
    for uri, source in SOURCES.items():
        asking.authorization["redirect_uri"] = uri
        policy = person.get(f"/oauth/arrived?{QUERY}").headers["Content-Security-Policy"]
        part = next(each.strip() for each in policy.split(";") if "form-action" in each)
        assert part == f"form-action 'self' {source}".strip()
        assert policy.count("script-src") == 1


def test_consents_are_listed_and_taken_back(double: GatewayDouble, person: Visitor) -> None:
    scopes = [{"scope": "messages:read", "words": "read messages", "risky": False}]
    application = {"id": "app-1", "name": HOSTILE}
    double.consents = [
        {"id": each, "application": application, "scopes": scopes, "granted_at": time.time(), "used_at": None}
        for each in ("g-1", "g-2")
    ]
    person.get("/oauth/consents")
    assert person.page.count("Take it back") == 2
    assert "<script>alert" not in person.page
    assert person.post("/oauth/consents/g-1/end").status_code == 303
    assert [each["id"] for each in double.consents] == ["g-2"]
    person.get("/oauth/consents")
    assert "It holds from now on" in person.page
    assert person.post("/oauth/consents/..%2f..%2fusers/end").status_code == 404


# The pages as a client


def test_a_sign_in_becomes_tokens_that_no_browser_sees(double: GatewayDouble, person: Visitor) -> None:
    call = double.oauth_calls[0]
    assert (call["grant_type"], call["client_id"]) == ("authorization_code", "fluxgate-webui")
    assert len(call["code_verifier"]) == 43
    answer = person.get("/more")
    for secret in (*double.access, *double.refresh.values()):
        assert secret not in person.page
        assert secret not in str(answer.headers)
    person.post("/logout")
    assert not double.knows_token("access-1")


def test_without_room_for_tokens_the_sign_in_itself_does(double: GatewayDouble, visitor: Visitor) -> None:
    double.no_tokens = True
    visitor.sign_in()
    assert visitor.get("/more").status_code == 200
    visitor.get("/more")
    visitor.post("/logout")
    assert visitor.get("/more").status_code == 303


@pytest.fixture
def kept(double: GatewayDouble, config: WebuiConfig) -> Iterator[tuple[Sessions, Renewal, str]]:
    """A session whose tokens are due."""
    app = create_app(config)
    sessions, renewer = app.extensions["sessions"], app.extensions["renewal"]
    double.tokens.add("sign-in")
    now_s = time.monotonic()
    tokens = renewal.fetch(app.extensions["gateway"], "sign-in", now_s)
    due = Tokens(tokens.token, "sign-in", tokens.refresh, now_s - 1.0, now_s + 300.0)
    yield sessions, renewer, sessions.open(EMAIL, due, now_s)
    close(app)


Kept = tuple[Sessions, Renewal, str]


def test_tokens_are_renewed_once_however_many_pages_ask(double: GatewayDouble, kept: Kept) -> None:
    _, renewer, session_id = kept
    asking = [threading.Thread(target=renewer.session, args=(session_id,)) for _ in range(8)]
    for each in asking:
        each.start()
    for each in asking:
        each.join(20)
    assert [call["grant_type"] for call in double.oauth_calls] == ["authorization_code", "refresh_token"]
    found = renewer.session(session_id)
    assert found is not None
    assert (found.token, found.tokens.refresh) == ("access-2", "refresh-2")


def test_a_refresh_token_that_was_lost_on_its_way_costs_nothing(double: GatewayDouble, kept: Kept) -> None:
    _, renewer, session_id = kept
    double.refresh["sign-in"] = "one-that-never-arrived"
    found = renewer.session(session_id)
    assert found is not None
    assert found.token == "access-3"


def test_a_gateway_that_is_away_leaves_the_session_as_it_is(kept: Kept, double: GatewayDouble) -> None:
    sessions, _, session_id = kept
    with served(api_server(GatewayDouble())) as url:
        away = create_app(WebuiConfig(api_url=url))
    gone = Renewal(away.extensions["gateway"], sessions)
    found = gone.session(session_id)
    assert found is not None
    assert found.token == "access-1"
    close(away)


def test_a_token_refused_before_its_time_is_replaced_within_the_request(
    double: GatewayDouble, person: Visitor
) -> None:
    double.access.clear()  # as when the clock was set, or the signing keys are new
    assert person.get("/more").status_code == 200
    assert [call["grant_type"] for call in double.oauth_calls] == ["authorization_code", "refresh_token"]


def test_a_sign_in_that_was_ended_elsewhere_is_over(double: GatewayDouble, person: Visitor) -> None:
    double.tokens.clear()
    answer = person.get("/more")
    assert answer.status_code == 303
    assert "ended=1" in answer.headers["Location"]
