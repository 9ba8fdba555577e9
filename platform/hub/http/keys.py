"""`/keys`: API keys, for one's own account and for things (Mainflux 0.13, auth service, with scopes and rotation).

A key's value is shown when it is made or replaced and never again. Nobody makes a key for more than he may himself,
and through a key nobody makes or replaces one that is for more, or lives longer, than the key he uses.
"""

from __future__ import annotations

import asyncio
import datetime
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType, ValidationError, convert
from starlette.requests import Request
from starlette.responses import Response

from hub.access import Principal
from hub.http.auth import hub_of, now_s, require, require_user
from hub.http.body import decode_json, read_json
from hub.http.problem import Problem
from hub.http.reach import Reach
from hub.http.service import json_response
from hub.http.table import Endpoint, Needs, Parameter
from hub.registry import User
from hub.tokens.grants import MAX_DURATION_S, MAX_OVERLAP_S, Grant, OwnerKind
from hub.tokens.owners import most_of
from hub.tokens.scopes import MESSAGES, Scopes, checked, common
from hub.users import ADMIN, MEMBER, ROLES, TECHNICIAN, has_role

MAX_PAGE = 100
MAX_OFFSET = 1 << 31
API_KEY = 2  # Mainflux's `type`: 0 is a sign-in (POST /tokens), 1 a forgotten password

Duration = Annotated[int, Meta(ge=0, le=int(MAX_DURATION_S))]


class NewKey(Struct):
    """A key to be made; without `scopes` for everything its owner may, without `duration` (s) for ever."""

    name: str = ""
    scopes: list[str] | None = None
    duration: Duration = 0
    thing_id: str = ""  # whose key it is; left out, the caller's
    type: int = API_KEY


class Asked(Struct):
    """Which keys a list is of."""

    offset: Annotated[int, Meta(ge=0, le=MAX_OFFSET)] = 0
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = MAX_PAGE
    thing_id: str = ""
    user_id: str = ""


class Rotation(Struct):
    """`overlap_s`: for how long the value before works on."""

    overlap_s: Annotated[float, Meta(ge=0, le=MAX_OVERLAP_S)] = 0.0


class KeyView(Struct, omit_defaults=True):
    """A key as it is listed; times as RFC 3339 in UTC."""

    id: str
    name: str
    scopes: list[str]
    issued_at: str
    type: int | UnsetType = UNSET
    user_id: str | UnsetType = UNSET
    thing_id: str | UnsetType = UNSET
    expires_at: str | UnsetType = UNSET  # never, where it is left out
    used_at: str | UnsetType = UNSET  # it was not yet
    old_value_until: str | UnsetType = UNSET


class KeyWithValue(KeyView, omit_defaults=True):
    """A key that was just made or replaced: the one time its value is shown."""

    value: str = ""


class Keys(Struct):
    """A page of keys."""

    total: int
    offset: int
    limit: int
    keys: list[KeyView]


class SigningKey(Struct):
    """The key that tokens are signed with from now on."""

    kid: str


class SigningRotation(Struct):
    """`void`: tokens of the keys before are refused at once, because a key may have become known."""

    void: bool = False


async def create_key(request: Request) -> Response:
    """`POST /keys`: a key for oneself or for a thing one manages; its value is shown this once."""
    wanted = await read_json(request, NewKey)
    if wanted.type != API_KEY:
        raise Problem(400, "only API keys (type 2) are made here; sign in with POST /tokens")
    principal = require(request)
    owner, most = owner_and_most(request, principal, wanted.thing_id)
    scopes = most if wanted.scopes is None else checked(wanted.scopes)
    grant, value = await add(request, principal, owner, scopes, most, wanted.name, wanted.duration)
    return json_response(shown(request, grant, value), 201, {"location": f"/keys/{grant.id}"})


async def list_keys(request: Request) -> Response:
    """`GET /keys`: one's own keys, or those of a thing, in the order they were made."""
    try:
        asked = convert(dict(request.query_params), Asked, strict=False)
    except ValidationError as error:
        raise Problem(400, f"the query does not fit: {error}") from None
    page = hub_of(request).registry.grants.of_owner(
        *_listed(request, asked), kind="key", offset=asked.offset, limit=asked.limit
    )
    keys = [shown(request, grant) for grant in page.grants]
    return json_response(Keys(page.total, asked.offset, asked.limit, keys))


async def get_key(request: Request) -> Response:
    """`GET /keys/<id>`: one key, without its value."""
    return json_response(shown(request, visible(request, request.path_params["key_id"])))


async def remove_key(request: Request) -> Response:
    """`DELETE /keys/<id>`: end a key, keys made through it, and everything opened with them, at once."""
    grant = visible(request, request.path_params["key_id"])
    await asyncio.to_thread(hub_of(request).registry.grants.remove, grant.id)
    return Response(status_code=204)


async def rotate_key(request: Request) -> Response:
    """`POST /keys/<id>/rotate`: another value for a key, which is shown this once."""
    body = await request.body()
    wanted = decode_json(body, Rotation) if body else Rotation()
    principal = require(request)
    grant = visible(request, request.path_params["key_id"])
    if grant.owner_kind == "user" and grant.owner_id != principal.id:
        raise Problem(403, "only its owner is shown the value of a key; remove it instead")
    through = through_key(request, principal)
    if through is not None and through.id not in (grant.id, grant.parent):
        raise Problem(403, "through a key only that key itself, and keys made through it, are replaced")
    grants = hub_of(request).registry.grants
    grant, value = await asyncio.to_thread(grants.rotate, grant.id, now_s(request), wanted.overlap_s)
    return json_response(shown(request, grant, value))


async def rotate_signing_key(request: Request) -> Response:
    """`POST /signing-keys/rotate`: sign tokens with another key from now on."""
    body = await request.body()
    wanted = decode_json(body, SigningRotation) if body else SigningRotation()
    signing = hub_of(request).registry.signing
    kid = await asyncio.to_thread(signing.rotate, now_s(request), void=wanted.void)
    return json_response(SigningKey(kid))


def owner_and_most(
    request: Request, principal: Principal, thing_id: str
) -> tuple[tuple[OwnerKind, str], Scopes]:
    """Whose a new key is, and the most it can be for. Raises Problem where he may not make one."""
    hub = hub_of(request)
    user = require_user(request, MEMBER)
    own = hub.access.scopes(principal)
    through_key(request, principal)
    if thing_id:
        Reach(request).demand(TECHNICIAN, thing_id=thing_id)
        return ("thing", thing_id), _within(own, MESSAGES)
    return ("user", user.id), _within(own, _most_of(request, user))


async def add(
    request: Request,
    principal: Principal,
    owner: tuple[OwnerKind, str],
    scopes: Scopes,
    most: Scopes,
    name: str,
    duration_s: int,
) -> tuple[Grant, str]:
    """Make a key within `most`. Raises Problem 400 or 403, Invalid."""
    check_within(scopes, most)
    grants = hub_of(request).registry.grants
    at_s = now_s(request)
    expires_s = at_s + duration_s if duration_s else None
    through = through_key(request, principal)
    if through is not None and through.expires_s is not None:
        if expires_s is not None and expires_s > through.expires_s:
            raise Problem(400, "a key made through a key ends no later than that one")
        expires_s = expires_s or through.expires_s
    return await asyncio.to_thread(
        grants.add,
        *owner,
        name=name,
        scopes=scopes,
        now_s=at_s,
        expires_s=expires_s,
        parent=through.id if through else "",
    )


def _within(own: Scopes | None, most: Scopes) -> Scopes:
    return most if own is None else common(own, most)


def through_key(request: Request, principal: Principal) -> Grant | None:
    """The API key by which the caller asks; None where he is here himself, over the gateway's own pages or without.

    Raises Problem 403 where an application asks for him.
    """
    grant = hub_of(request).registry.grants.get(principal.grant)
    if grant is None or grant.kind == "key":
        return grant
    if grant.application_id:
        raise Problem(403, "an application gets no keys: sign in yourself")
    return None


def check_within(scopes: Scopes, most: Scopes) -> None:
    """Raises Problem 403 with the scopes that are beyond `most`."""
    beyond = most.missing(scopes)
    if beyond:
        raise Problem(403, f"a key is never for more than its maker may: leave out {', '.join(beyond)}")


def visible(request: Request, key_id: str) -> Grant:
    """A key that is the caller's, of a thing he manages, or anybody's for an administrator. Raises Problem 404."""
    user = require_user(request, MEMBER)
    grant = hub_of(request).registry.grants.get(key_id)
    if grant is None or grant.kind != "key" or not _sees(request, user, grant):
        raise Problem(404, "no such key")
    return grant


def _sees(request: Request, user: User, grant: Grant) -> bool:
    if has_role(user, ADMIN):
        return True
    if grant.owner_kind == "user":
        return grant.owner_id == user.id
    role = Reach(request).role(thing_id=grant.owner_id)
    return role is not None and ROLES.index(role) >= ROLES.index(TECHNICIAN)


def _listed(request: Request, asked: Asked) -> tuple[OwnerKind, str]:
    """Whose keys a list is of. Raises Problem."""
    user = require_user(request, MEMBER)
    if asked.thing_id:
        Reach(request).demand(TECHNICIAN, thing_id=asked.thing_id)
        return "thing", asked.thing_id
    if asked.user_id not in ("", user.id) and not has_role(user, ADMIN):
        raise Problem(403, "the keys of another account are shown to administrators only")
    return "user", asked.user_id or user.id


def _most_of(request: Request, user: User) -> Scopes:
    groups = hub_of(request).registry.groups
    return most_of(user, in_groups=bool(groups.groups_of_user(user.id)))


def shown(request: Request, grant: Grant, value: str = "") -> KeyView:
    """A key as it is shown, with its value where it has just got one."""
    used_s = hub_of(request).registry.grants.last_used_s(grant)
    view = KeyWithValue if value else KeyView
    found = view(
        id=grant.id,
        name=grant.name,
        scopes=sorted(grant.scopes),
        issued_at=_moment(grant.issued_s),
        type=API_KEY,
        expires_at=UNSET if grant.expires_s is None else _moment(grant.expires_s),
        used_at=UNSET if used_s is None else _moment(used_s),
        old_value_until=_moment(grant.overlap_s) if grant.overlap_s else UNSET,
    )
    if grant.owner_kind == "thing":
        found.thing_id = grant.owner_id
    else:
        found.user_id = grant.owner_id
    if isinstance(found, KeyWithValue):
        found.value = value
    return found


def _moment(at_s: float) -> str:
    at = datetime.datetime.fromtimestamp(at_s, datetime.UTC)
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


_LIST = (
    Parameter("offset", "keys to pass over", {"type": "integer", "minimum": 0, "maximum": MAX_OFFSET}),
    Parameter("limit", "keys at most", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE}),
    Parameter("thing_id", "the thing whose keys to show; left out, one's own"),
    Parameter("user_id", "the account whose keys to show, for administrators"),
)

ENDPOINTS = [
    Endpoint(
        *("POST", "/keys", create_key, Needs.MEMBER),
        body=NewKey,
        answers={201: KeyWithValue},
        headers={"Location": "of what was made"},
        refuses=(403, 404),
    ),
    Endpoint(
        *("GET", "/keys", list_keys, Needs.MEMBER),
        answers={200: Keys},
        parameters=_LIST,
        refuses=(400, 403, 404),
    ),
    Endpoint(*("GET", "/keys/{key_id}", get_key, Needs.MEMBER), answers={200: KeyView}, refuses=(404,)),
    Endpoint(*("DELETE", "/keys/{key_id}", remove_key, Needs.MEMBER), answers={204: None}, refuses=(404,)),
    Endpoint(
        *("POST", "/keys/{key_id}/rotate", rotate_key, Needs.MEMBER),
        body=Rotation,
        body_required=False,
        answers={200: KeyWithValue},
        refuses=(403, 404),
    ),
    Endpoint(
        *("POST", "/signing-keys/rotate", rotate_signing_key, Needs.ADMIN),
        body=SigningRotation,
        body_required=False,
        answers={200: SigningKey},
    ),
]
