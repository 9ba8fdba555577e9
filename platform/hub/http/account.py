"""People: claiming the gateway, logging in and out, accounts and passwords (Mainflux 0.13, users service).

Password hashing takes tens of milliseconds, so it runs in a thread; the registry bounds how many at a time and how
often one may guess.
"""

from __future__ import annotations

import asyncio
import enum

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hub.http.auth import hub_of, now_s, require_user, token_of
from hub.http.body import read_json
from hub.http.problem import Problem
from hub.http.service import json_response
from hub.http.table import Endpoint, Needs
from hub.registry import User
from hub.users import MEMBER


class Role(enum.StrEnum):
    """Each may what those before it may; a member, what the groups he is in give him."""

    MEMBER = "member"
    VIEWER = "viewer"
    TECHNICIAN = "technician"
    ADMIN = "admin"


class Claim(msgspec.Struct):
    code: str
    email: str
    password: str


class Login(msgspec.Struct):
    email: str
    password: str


class NewUser(msgspec.Struct):
    email: str
    password: str
    role: Role = Role.ADMIN


class Change(msgspec.Struct):
    """Another role, or for somebody who has forgotten it another password; what is left out stays."""

    role: Role | None = None
    password: str | None = None


class NewPassword(msgspec.Struct):
    old_password: str
    password: str


class Claimed(msgspec.Struct):
    claimed: bool


class IssuedToken(msgspec.Struct):
    """A token to send as `Authorization: Bearer <token>`."""

    token: str


class Account(msgspec.Struct):
    id: str
    email: str
    role: str


class Accounts(msgspec.Struct):
    total: int
    users: list[Account]


class Said(msgspec.Struct):
    response: str


async def claim_state(request: Request) -> Response:
    """`GET /claim`: whether the gateway has an owner; the one thing an unclaimed gateway tells."""
    return json_response({"claimed": hub_of(request).registry.claimed})


async def claim(request: Request) -> Response:
    """`POST /claim`: the holder of the code shown by the gateway becomes its owner and is logged in."""
    registry = hub_of(request).registry
    if registry.claimed:
        raise Problem(409, "this gateway is claimed; log in with POST /tokens")
    wanted = await read_json(request, Claim)
    user = await asyncio.to_thread(registry.claim, wanted.code, wanted.email, wanted.password)
    return await _token(request, user)


async def create_token(request: Request) -> Response:
    """`POST /tokens`: log in."""
    login = await read_json(request, Login)
    registry = hub_of(request).registry
    user = await asyncio.to_thread(registry.verify_password, login.email, login.password, now_s(request))
    if user is None:
        raise Problem(401, "e-mail address or password is wrong")
    return await _token(request, user)


async def revoke_token(request: Request) -> Response:
    """`DELETE /tokens`: end the token this request carries."""
    await asyncio.to_thread(hub_of(request).registry.revoke_token, token_of(request))
    return Response(status_code=204)


async def create_user(request: Request) -> Response:
    """`POST /users`: add an account."""
    wanted = await read_json(request, NewUser)
    user = await asyncio.to_thread(
        hub_of(request).registry.create_user, wanted.email, wanted.password, wanted.role
    )
    return json_response(_shown(user), 201, {"location": f"/users/{user.id}"})


async def list_users(request: Request) -> Response:
    """`GET /users`: all accounts, in the order they were made."""
    users = [_shown(user) for user in hub_of(request).registry.users()]
    return json_response({"total": len(users), "users": users})


async def get_user(request: Request) -> Response:
    """`GET /users/<id>`: one account."""
    return json_response(_shown(_user(request)))


async def change_user(request: Request) -> Response:
    """`PATCH /users/<id>`: another role or password; a new password ends the account's tokens."""
    user = _user(request)
    change = await read_json(request, Change)
    registry = hub_of(request).registry
    if change.password is not None:
        await asyncio.to_thread(registry.change_password, user.id, change.password)
    if change.role is not None:
        await asyncio.to_thread(registry.set_role, user.id, change.role)
    return json_response(_shown(_user(request)))


async def remove_user(request: Request) -> Response:
    """`DELETE /users/<id>`: the account and its tokens."""
    await asyncio.to_thread(hub_of(request).registry.remove_user, _user(request).id)
    return Response(status_code=204)


async def profile(request: Request) -> Response:
    """`GET /users/profile`: the account of this token."""
    return json_response(_shown(require_user(request, MEMBER)))


async def change_password(request: Request) -> Response:
    """`PATCH /password`: ends all tokens of the account, this one too."""
    user = require_user(request, MEMBER)
    change = await read_json(request, NewPassword)
    registry = hub_of(request).registry
    if not await asyncio.to_thread(registry.verify_password, user.email, change.old_password, now_s(request)):
        raise Problem(401, "the old password is wrong")
    await asyncio.to_thread(registry.change_password, user.id, change.password)
    return json_response({"response": "password changed; log in again"}, 201)


async def _token(request: Request, user: User) -> Response:
    token = await asyncio.to_thread(hub_of(request).registry.issue_token, user.id, now_s(request))
    return json_response({"token": token}, 201)


def _user(request: Request) -> User:
    user = hub_of(request).registry.user(request.path_params["user_id"])
    if user is None:
        raise Problem(404, "no such user")
    return user


def _shown(user: User) -> dict[str, str]:
    return {"id": user.id, "email": user.email, "role": user.role}


ENDPOINTS = [
    Endpoint("GET", "/claim", claim_state, Needs.NOTHING, answers={200: Claimed}),
    # The code is the credential.
    Endpoint(
        "POST", "/claim", claim, Needs.NOTHING, body=Claim, answers={201: IssuedToken}, refuses=(409, 429)
    ),
    # The password is.
    Endpoint(
        "POST",
        "/tokens",
        create_token,
        Needs.NOTHING,
        body=Login,
        answers={201: IssuedToken},
        refuses=(401, 429),
    ),
    Endpoint("DELETE", "/tokens", revoke_token, Needs.MEMBER, answers={204: None}),
    Endpoint(
        "POST",
        "/users",
        create_user,
        Needs.ADMIN,
        body=NewUser,
        answers={201: Account},
        headers={"Location": "of what was made"},
        refuses=(409,),
    ),
    Endpoint("GET", "/users/profile", profile, Needs.MEMBER, answers={200: Account}),
    Endpoint("GET", "/users", list_users, Needs.ADMIN, answers={200: Accounts}),
    Endpoint("GET", "/users/{user_id}", get_user, Needs.ADMIN, answers={200: Account}, refuses=(404,)),
    Endpoint(
        *("PATCH", "/users/{user_id}", change_user, Needs.ADMIN),
        body=Change,
        answers={200: Account},
        refuses=(404,),
    ),
    Endpoint(*("DELETE", "/users/{user_id}", remove_user, Needs.ADMIN), answers={204: None}, refuses=(404,)),
    Endpoint(
        "PATCH",
        "/password",
        change_password,
        Needs.MEMBER,
        body=NewPassword,
        answers={201: Said},
        refuses=(429,),
    ),
]
