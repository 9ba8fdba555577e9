"""`/api-keys` and `/access-checks` as in 2017: keys whose scopes are `{actions, type, id}`, and a question about one's
own rights.

`actions` is R, CUD or CRUD: a scope of today reads or writes, and nothing is given that was not asked for. A key is
named in the path by its id; a client of 2017 may put the key itself there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Literal

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from hub.access import Principal
from hub.errors import HubError
from hub.http.auth import hub_of, now_s, require, require_user
from hub.http.body import read_json
from hub.http.enforce import BadPath, own_api, read_target
from hub.http.keys import MAX_PAGE, add, check_within, owner_and_most, visible
from hub.http.problem import Problem
from hub.http.reach import Reach
from hub.http.service import json_response
from hub.http.table import Endpoint, Needs, Parameter
from hub.tokens.grants import PREFIX, Grant
from hub.tokens.scopes import READ, WRITE, Scope, Scopes, checked, needed_by
from hub.users import MEMBER

Kind = Literal["devices", "channels", "users"]
# What a scope of 2017 is about today. Reading a channel was reading its messages, too.
_NOUNS: dict[str, tuple[str, ...]] = {
    "devices": ("things",),
    "channels": ("channels", "messages"),
    "users": ("users",),
}
_METHODS = {"C": "POST", "R": "GET", "U": "PUT", "D": "DELETE"}
_VERBS = {"R": (READ,), "CDU": (WRITE,), "CDRU": (READ, WRITE)}


class OldScope(Struct):
    """Letters of CRUD, on all of a type or on one."""

    actions: str
    type: Kind
    id: str = ""


class NewApiKey(Struct):
    """A key to be made; `owner` is the caller's id or address, or a device that he manages."""

    scopes: list[OldScope]
    owner: str = ""


class MadeApiKey(Struct):
    """The one time that the key is shown."""

    key: str
    id: str


class Checked(Struct):
    """The caller may; who he is."""

    response: str
    id: str


class ApiKey(Struct):
    id: str
    owner: str
    scopes: list[OldScope]


async def create_api_key(request: Request) -> Response:
    """`POST /api-keys`: a key for oneself or for a device."""
    wanted = await read_json(request, NewApiKey)
    principal = require(request)
    user = require_user(request, MEMBER)
    mine = wanted.owner.lower() in ("", user.id, user.email.lower())
    owner, most = owner_and_most(request, principal, "" if mine else wanted.owner)
    scopes = _scopes(wanted.scopes)
    grant, value = await add(request, principal, owner, scopes, most, "", 0)
    return json_response(MadeApiKey(value, grant.id), 201, {"location": f"/api-keys/{grant.id}"})


async def list_api_keys(request: Request) -> Response:
    """`GET /api-keys`: one's own, at most a hundred."""
    user = require_user(request, MEMBER)
    page = hub_of(request).registry.grants.of_owner("user", user.id, kind="key", limit=MAX_PAGE)
    return json_response([_shown(grant) for grant in page.grants])


async def get_api_key(request: Request) -> Response:
    """`GET /api-keys/<key>`: what it is for."""
    return json_response(_shown(_named(request)))


async def change_api_key(request: Request) -> Response:
    """`PUT /api-keys/<key>`: other scopes; what is open with it is asked again."""
    wanted = await read_json(request, NewApiKey)
    grant = _named(request)
    principal = require(request)
    thing_id = grant.owner_id if grant.owner_kind == "thing" else ""
    owner, most = owner_and_most(request, principal, thing_id)
    if owner != (grant.owner_kind, grant.owner_id):
        raise Problem(403, "only its owner changes what a key is for")
    scopes = _scopes(wanted.scopes)
    check_within(scopes, most)
    grant = await asyncio.to_thread(hub_of(request).registry.grants.narrow, grant.id, scopes)
    return json_response(_shown(grant))


async def remove_api_key(request: Request) -> Response:
    """`DELETE /api-keys/<key>`: end it and everything opened with it."""
    await asyncio.to_thread(hub_of(request).registry.grants.remove, _named(request).id)
    return Response(status_code=204)


async def check_access(request: Request) -> Response:
    """`POST /access-checks`: may the caller do X-Action (GET, POST, PUT, DELETE) to X-Resource, a path here?"""
    principal = require(request)
    uri, action = request.headers.get("x-resource", ""), request.headers.get("x-action", "").upper()
    method = _METHODS.get(action, action)
    if method not in _METHODS.values() or not uri:
        raise Problem(400, "send X-Resource, a path of this API, and X-Action: GET, POST, PUT or DELETE")
    try:
        target = read_target(uri)
        own_api(request, method, target)
        _place(request, principal, needed_by(method, target.path))
    except BadPath as error:
        raise Problem(400, f"X-Resource is no path of this API: {error}") from None
    except HubError as error:  # a topic that is none
        raise Problem(403, error.reason) from None
    except Problem as problem:
        if problem.status != 400:  # several groups to make it in: the body would say which
            raise Problem(403, problem.detail) from None
    return json_response(Checked("allowed", principal.id))


def _place(request: Request, principal: Principal, needed: Scope | None) -> None:
    """What the table leaves to the handler: whether there is a place where he may make something new.

    Raises Problem.
    """
    made = needed is not None and needed.verb == WRITE and not needed.id
    if made and needed is not None and needed.noun in ("things", "channels") and principal.kind == "user":
        Reach(request).place(None)


def _named(request: Request) -> Grant:
    """The key of the path, by its id or by itself. Raises Problem 404."""
    named = request.path_params["key"]
    if named.startswith(PREFIX):
        found = hub_of(request).registry.grants.by_secret(named, now_s(request))
        named = found.grant.id if found else ""
    return visible(request, named)


def _scopes(given: Iterable[OldScope]) -> Scopes:
    """Scopes of today. Raises Problem 400, ScopeError."""
    found: set[str] = set()
    for scope in given:
        verbs = _VERBS.get("".join(sorted(scope.actions.upper())))
        if verbs is None:
            raise Problem(400, "actions are R, CUD or CRUD: creating, updating and deleting go together here")
        found |= {str(Scope(noun, verb, scope.id)) for noun in _NOUNS[scope.type] for verb in verbs}
    return checked(found)


def _shown(grant: Grant) -> ApiKey:
    """Its scopes in the words of 2017, as far as that had words for them."""
    old: dict[tuple[Kind, str], str] = {}
    for text in sorted(grant.scopes):
        noun, verb, id_ = [*text.split(":"), "", ""][:3]
        kinds: dict[str, Kind] = {"things": "devices", "channels": "channels", "users": "users"}
        if noun in kinds:
            old[kinds[noun], id_] = old.get((kinds[noun], id_), "") + ("R" if verb == READ else "CUD")
    words = {"R": "R", "CUD": "CUD", "RCUD": "CRUD"}
    return ApiKey(grant.id, grant.owner_id, [OldScope(words[a], kind, id_) for (kind, id_), a in old.items()])


ENDPOINTS = [
    Endpoint(
        *("POST", "/api-keys", create_api_key, Needs.MEMBER),
        body=NewApiKey,
        answers={201: MadeApiKey},
        headers={"Location": "of what was made"},
        refuses=(403, 404),
    ),
    Endpoint(*("GET", "/api-keys", list_api_keys, Needs.MEMBER), answers={200: list[ApiKey]}),
    Endpoint(*("GET", "/api-keys/{key}", get_api_key, Needs.MEMBER), answers={200: ApiKey}, refuses=(404,)),
    Endpoint(
        *("PUT", "/api-keys/{key}", change_api_key, Needs.MEMBER),
        body=NewApiKey,
        answers={200: ApiKey},
        refuses=(403, 404),
    ),
    Endpoint(
        *("DELETE", "/api-keys/{key}", remove_api_key, Needs.MEMBER), answers={204: None}, refuses=(404,)
    ),
    Endpoint(
        *("POST", "/access-checks", check_access, Needs.ANY),
        answers={200: Checked},
        refuses=(400, 403),
        parameters=(
            Parameter("X-Resource", "a path of this API", place="header"),
            Parameter("X-Action", "GET, POST, PUT, DELETE, or one of CRUD", place="header"),
        ),
    ),
]
