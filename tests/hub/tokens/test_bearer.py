"""From a text to a principal: keys, access tokens and sessions, and a token that is only as good as its grant."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from hub.access import Access, Action, Principal, Resource
from hub.errors import Invalid
from hub.registry import ChangeKind
from hub.tokens.bearer import AUDIENCE, Bearers
from hub.tokens.expiry import Expiry
from hub.tokens.grants import Grant
from hub.tokens.scopes import parse
from hub.tokens.verifier import ACCESS_TOKEN, MAX_LIFE_S
from tests.hub.tokens.known import NOW, Known


def token(known: Known, grant: Grant, /, **claims: Any) -> str:
    said = {
        "iss": "urn:fluxgate",
        "aud": AUDIENCE,
        "sub": f"{grant.owner_kind}s/{grant.owner_id}",
        "jti": "1",
        "iat": int(NOW),
        "exp": int(NOW) + 600,
        "grant": grant.id,
        "scope": str(grant.scopes),
        "client_id": "app",
    }
    return known.registry.signing.sign(said | claims, ACCESS_TOKEN)


def test_each_kind_of_value_finds_who_it_stands_for(known: Known) -> None:
    bearers = Bearers(known.registry)
    grant, value = known.key()
    session = known.registry.issue_token(known.user_id, NOW)
    assert bearers.principal(value, NOW) == Principal("user", known.user_id, 1, grant.id)
    assert bearers.principal(token(known, grant), NOW) == Principal("user", known.user_id, None, grant.id)
    assert bearers.principal(session, NOW) == Principal("user", known.user_id)
    for nobody in ("", "x", "fgk_x", "a.b.c", "..", value[:-1], token(known, grant)[:-1]):
        assert bearers.principal(nobody, NOW) is None


def test_a_token_for_less_than_its_grant_is_for_less(known: Known) -> None:
    bearers, access = Bearers(known.registry), Access(known.registry, lambda: NOW)
    grant, _ = known.key()
    narrow = bearers.principal(token(known, grant, scope="things:read"), NOW)
    wide = bearers.principal(token(known, grant, scope="things:read things:write policies:write"), NOW)
    assert narrow is not None
    assert wide is not None
    assert access.scopes(narrow) == parse("things:read")
    assert access.scopes(wide) == parse("things:read")


def test_a_token_without_scopes_is_good_for_nothing(known: Known) -> None:
    bearers = Bearers(known.registry)
    grant, _ = known.key()
    assert bearers.principal(token(known, grant, scope=""), NOW) is None
    assert bearers.principal(token(known, grant, scope="no scope"), NOW) is None
    assert bearers.principal(token(known, grant, scope=["things:read"]), NOW) is None


def test_a_token_ends_with_its_grant(known: Known) -> None:
    bearers = Bearers(known.registry)
    grant, _ = known.key()
    signed = token(known, grant)
    assert bearers.principal(signed, NOW) is not None
    known.registry.grants.remove(grant.id)
    assert bearers.principal(signed, NOW) is None


def test_a_token_for_the_grant_of_somebody_else_is_refused(known: Known) -> None:
    bearers = Bearers(known.registry)
    other = known.registry.create_user("other@example.org", "correct horse")
    grant, _ = known.key()
    assert bearers.principal(token(known, grant, sub=f"users/{other.id}"), NOW) is None
    assert bearers.principal(token(known, grant, grant="another"), NOW) is None
    assert bearers.refused == 2


def test_a_remembered_token_still_ends_at_its_time(known: Known) -> None:
    bearers = Bearers(known.registry)
    grant, _ = known.key()
    signed = token(known, grant)
    found = [bearers.principal(signed, NOW + after) is not None for after in (0, 600, 659, 660, -59, -61)]
    assert found == [True, True, True, False, True, False]


def test_keys_that_are_made_void_take_their_tokens_with_them(known: Known) -> None:
    bearers = Bearers(known.registry)
    grant, _ = known.key()
    first = token(known, grant)
    known.registry.signing.rotate(NOW)
    second = token(known, grant)
    assert bearers.principal(first, NOW) is not None
    known.registry.signing.rotate(NOW, void=True)
    assert bearers.principal(first, NOW) is None
    assert bearers.principal(second, NOW) is None
    assert len(known.registry.signing.jwks()["keys"]) == 1


def test_tokens_verify_after_the_next_start_and_keys_lie_sealed(known: Known) -> None:
    grant, _ = known.key()
    signed = token(known, grant)
    jwks = known.registry.signing.jwks()
    known.again()
    assert known.registry.signing.jwks() == jwks
    assert Bearers(known.registry).principal(signed, NOW) is not None
    assert b"PRIVATE" not in known.path.read_bytes()


def test_no_token_is_signed_that_would_outlive_what_is_believed(known: Known) -> None:
    with pytest.raises(Invalid):
        known.registry.signing.sign({"iat": NOW, "exp": NOW + MAX_LIFE_S + 1}, ACCESS_TOKEN)


@pytest.mark.parametrize(
    ("scopes", "action", "channel", "allowed"),
    [
        ("messages:read", Action.SUBSCRIBE, "field", True),
        ("messages:read", Action.PUBLISH, "field", False),
        ("messages:write", Action.PUBLISH, "field", True),
        ("messages:write:field", Action.PUBLISH, "field", True),
        ("messages:write:field", Action.PUBLISH, "yard", False),
        ("messages:write:field", Action.DELIVER, "field", False),
        ("messages:read:field", Action.CONNECT, "", True),
        ("messages:read messages:write", Action.PUBLISH, "attic", False),
    ],
)
def test_a_key_of_a_thing_is_the_lesser_of_its_scopes_and_the_things_rights(
    known: Known, scopes: str, action: Action, channel: str, allowed: bool
) -> None:
    registry = known.registry
    for name in ("field", "yard", "attic"):
        registry.create_channel(name, id=name)
    registry.connect(["field", "yard"], [known.thing_id])
    grant, value = registry.grants.add("thing", known.thing_id, name="", scopes=parse(scopes), now_s=NOW)
    access = Access(registry, lambda: NOW)
    principal = Bearers(registry).principal(value, NOW)
    assert principal is not None
    assert access.decide(principal, action, Resource(channel)).allowed is allowed
    assert access.explain(principal, action, Resource(channel))[0].allowed is allowed
    registry.grants.remove(grant.id)
    assert not access.decide(principal, action, Resource(channel)).allowed


def test_access_refuses_a_grant_from_the_second_it_is_over(known: Known) -> None:
    now = NOW
    access = Access(known.registry, lambda: now)
    known.registry.create_channel(id="field")
    _, value = known.key(expires_s=NOW + 5)
    principal = Bearers(known.registry).principal(value, NOW)
    assert principal is not None
    assert access.decide(principal, Action.SUBSCRIBE, Resource("field")).allowed
    now = NOW + 5
    assert not access.decide(principal, Action.SUBSCRIBE, Resource("field")).allowed


def test_a_policy_gives_no_key_more_than_its_scopes(known: Known) -> None:
    known.registry.create_channel(id="field")
    everything = {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [everything]})
    known.registry.change_policies({"all": document}, NOW)
    access = Access(known.registry, lambda: NOW)
    grant, _ = known.registry.grants.add(
        "thing", known.thing_id, name="", scopes=parse("messages:read:yard"), now_s=NOW
    )
    themselves, through = (
        Principal("thing", known.thing_id),
        Principal("thing", known.thing_id, None, grant.id),
    )
    assert access.decide(themselves, Action.SUBSCRIBE, Resource("field")).allowed
    assert not access.decide(through, Action.SUBSCRIBE, Resource("field")).allowed


def test_what_is_over_is_ended_and_said_so(known: Known) -> None:
    heard: list[ChangeKind] = []
    ended: list[Grant] = []
    grant, _ = known.key(expires_s=NOW + 5)
    known.registry.on_change(lambda change: heard.append(change.kind))

    async def main() -> None:
        expiry = Expiry(known.registry.grants, lambda: NOW + 5, ended.append)
        await expiry.end_over()
        await expiry.close()

    asyncio.run(main())
    assert ended == [grant]
    assert heard == [ChangeKind.REVOKED]
