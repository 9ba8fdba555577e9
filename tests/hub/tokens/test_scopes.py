"""Scopes: what they allow, which texts are none, and that every row of the route table needs a sensible one."""

from __future__ import annotations

import random

import pytest

from hub.http.app import ENDPOINTS
from hub.http.table import Needs
from hub.tokens.scopes import (
    EVERYTHING,
    MAX_SCOPES,
    MAX_TEXT,
    NOUNS,
    WORDS,
    Scope,
    ScopeError,
    checked,
    common,
    needed_by,
    parse,
)


@pytest.mark.parametrize(
    ("given", "asked", "allowed"),
    [
        pytest.param("things:read", ("things", "read"), True, id="the same"),
        pytest.param("things:write", ("things", "read"), False, id="write does not include read"),
        pytest.param("things:read", ("things", "write"), False, id="read does not include write"),
        pytest.param("things:read", ("channels", "read"), False, id="another noun"),
        pytest.param("things:read", ("things", "read", "t1"), True, id="all include one"),
        pytest.param("things:read:t1", ("things", "read", "t1"), True, id="one"),
        pytest.param("things:read:t1", ("things", "read", "t2"), False, id="another one"),
        pytest.param("things:read:t1", ("things", "read"), False, id="one is not all"),
        pytest.param(
            "messages:read:c1", ("messages", "read", "+"), False, id="one channel is not every channel"
        ),
        pytest.param("openid email", ("users", "read"), False, id="what OpenID Connect asks gives nothing"),
        pytest.param("", ("things", "read"), False, id="none"),
    ],
)
def test_scopes_allow_what_they_say_and_no_more(given: str, asked: tuple[str, ...], allowed: bool) -> None:
    assert parse(given).allows(*asked) is allowed


@pytest.mark.parametrize(
    "text",
    [
        *(
            "things",
            "things:",
            ":read",
            "things:read:",
            "things:delete",
            "thing:read",
            "Things:read",
            "things:read:a:b",
        ),
        *(
            "*",
            "*:*",
            "things:*",
            "things:read:*",
            "things:read:+",
            "things:read:a b",
            " things:read",
            "things:read ",
        ),
        *(
            "things:read  channels:read",
            "things:read\n",
            "things:read\tx",
            "things:read:é",
            "things:read:" + "a" * 65,
        ),
        " ".join(f"things:read:{number}" for number in range(MAX_SCOPES + 1)),
        "things:read " * MAX_TEXT,
    ],
)
def test_any_other_text_is_no_scope(text: str) -> None:
    with pytest.raises(ScopeError):
        parse(text)


def test_a_damaged_text_gives_scopes_or_a_scope_error() -> None:
    chance = random.Random(6)
    good = "messages:read:5f1a things:write openid gateway:read"
    for _ in range(3000):
        text = list(good)
        for _ in range(chance.randint(1, 4)):
            text[chance.randrange(len(text))] = chance.choice(":  *+#/.\0\n\u00e9azAZ09-_")
        try:
            found = parse("".join(text))
        except ScopeError:
            continue
        assert parse(str(found)) == found


def test_what_two_sets_have_in_common_is_what_both_allow() -> None:
    one, other = (
        parse("things:read channels:read:c1 messages:read"),
        parse("things:read:t1 channels:read messages:write"),
    )
    assert common(one, other) == checked({"things:read:t1", "channels:read:c1"})


def test_a_set_covers_its_parts_and_names_what_it_lacks() -> None:
    scopes = parse("things:read channels:write:c1")
    assert scopes.cover(parse("things:read:t9 channels:write:c1"))
    assert scopes.missing(parse("things:write channels:write:c2 things:read:t1")) == [
        "channels:write:c2",
        "things:write",
    ]


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/things", Scope("things", "read")),
        ("HEAD", "/things", Scope("things", "read")),
        ("GET", "/things/t1", Scope("things", "read", "t1")),
        ("PATCH", "/things/t1/key", Scope("things", "write", "t1")),
        ("POST", "/things/search", Scope("things", "read")),
        ("POST", "/things/bulk", Scope("things", "write")),
        ("POST", "/devices/t1/plug", Scope("things", "write", "t1")),
        ("GET", "/channels/c1/messages", Scope("messages", "read", "c1")),
        ("POST", "/channels/c1/messages/a/b", Scope("messages", "write", "c1")),
        ("PUT", "/channels/c1/things/t1", Scope("channels", "write", "c1")),
        ("POST", "/connect", Scope("channels", "write")),
        ("PATCH", "/password", Scope("account", "write")),
        ("POST", "/users/totp", Scope("account", "write")),
        ("DELETE", "/oauth/consents/x", Scope("account", "write")),
        ("GET", "/users/u1", Scope("users", "read", "u1")),
        ("POST", "/policies/explain", Scope("policies", "read")),
        ("GET", "/lorawan/devices/0011", Scope("gateway", "read")),
        ("POST", "/no/such/path", Scope("gateway", "write")),
        ("GET", "/", Scope("gateway", "read")),
        ("GET", "/users/profile", None),
        ("GET", "/health", None),
        ("POST", "/access-checks", None),
    ],
)
def test_a_request_needs_the_scope_of_its_first_element(method: str, path: str, scope: Scope | None) -> None:
    assert needed_by(method, path) == scope


def test_second_elements_of_our_own_are_never_taken_for_ids() -> None:
    literal = {
        (parts[1], parts[2])
        for endpoint in ENDPOINTS
        if len(parts := endpoint.path.split("/")) > 2 and not parts[2].startswith("{") and parts[1] in NOUNS
    }
    assert {second for _, second in literal} <= WORDS


def test_no_row_that_changes_something_is_reached_without_a_scope() -> None:
    free = {
        f"{endpoint.method} {endpoint.path}"
        for endpoint in ENDPOINTS
        if endpoint.needs is not Needs.NOTHING and needed_by(endpoint.method, endpoint.path) is None
    }
    assert {row for row in free if not row.startswith("GET ")} <= {"POST /access-checks", "POST /auth/check"}


def test_everything_is_all_but_ones_own_account() -> None:
    assert not EVERYTHING.reaches("account")
    assert {text.partition(":")[0] for text in EVERYTHING} == set(NOUNS) - {"account"}
