"""People: claiming the gateway, signing in and out, accounts and passwords (Mainflux 0.13, users service).

Password hashing takes tens of milliseconds, so it runs in a thread; `hub.sign_in` decides how often one may try.
"""

from __future__ import annotations

import asyncio
import enum
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hub.http import second_factor
from hub.http.auth import address_of, hub_of, require_user, token_of
from hub.http.body import read_json
from hub.http.problem import Problem
from hub.http.proving import proved, proved_again
from hub.http.service import json_response
from hub.http.table import Endpoint, Needs
from hub.registry import User
from hub.sessions import agent_words
from hub.sign_in import SignedIn
from hub.users import MEMBER


class Role(enum.StrEnum):
    """Each may what those before it may; a member, what his groups give him."""

    MEMBER = "member"
    VIEWER = "viewer"
    TECHNICIAN = "technician"
    ADMIN = "admin"


class Claim(msgspec.Struct):
    code: str
    email: str
    password: str


class Login(msgspec.Struct):
    """`code` is of the authenticator app, where the account asks for one; `device` what an earlier sign-in returned."""

    email: str
    password: str
    code: str = ""
    device: str = ""


class NewUser(msgspec.Struct):
    email: str
    password: str
    role: Role = Role.ADMIN


class Change(msgspec.Struct):
    """Another role, or for somebody who has forgotten it another password; what is left out stays.

    `totp` false turns codes off for somebody who has lost the app.
    """

    role: Role | None = None
    password: str | None = None
    totp: bool | None = None


class NewPassword(msgspec.Struct):
    old_password: str
    password: str


class Claimed(msgspec.Struct):
    claimed: bool


class IssuedToken(msgspec.Struct):
    """A token to send as `Authorization: Bearer <token>`.

    `device`, where it is not empty, is to be kept on the device and sent with its next sign-in: wrong passwords of
    others then do not make it wait.
    """

    token: str
    device: str = ""


class Account(msgspec.Struct):
    """`totp`: signing in takes a code. `totp_needed`: the role counts only once it does."""

    id: str
    email: str
    role: str
    totp: bool = False
    totp_needed: bool = False


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
    wanted = await read_json(request, Claim)
    hub = hub_of(request)
    if hub.registry.claimed:
        hub.audit.record("claim", "refused", detail="this gateway is claimed")
        raise Problem(409, "this gateway is claimed; log in with POST /tokens")
    return _issued(
        await hub.sign_in.in_thread(
            lambda: hub.sign_in.claim(
                *(wanted.code, wanted.email, wanted.password),
                address=address_of(request.scope),
                agent=_agent(request),
            )
        )
    )


async def create_token(request: Request) -> Response:
    """`POST /tokens`: log in. 401 with `"totp": true` asks for the same again with a code."""
    login = await read_json(request, Login)
    return _issued(
        await proved(
            request,
            lambda: hub_of(request).sign_in.sign_in(
                *(login.email, login.password),
                code=login.code,
                device=login.device,
                address=address_of(request.scope),
                agent=_agent(request),
            ),
        )
    )


async def revoke_token(request: Request) -> Response:
    """`DELETE /tokens`: end the token this request carries."""
    hub = hub_of(request)
    if await asyncio.to_thread(hub.registry.revoke_token, token_of(request)):
        hub.audit.record("sign-out", "done")
    return Response(status_code=204)


async def create_user(request: Request) -> Response:
    """`POST /users`: add an account."""
    wanted = await read_json(request, NewUser)
    hub = hub_of(request)
    user = await hub.sign_in.in_thread(
        lambda: hub.registry.create_user(wanted.email, wanted.password, wanted.role)
    )
    hub.audit.record(
        "account", "done", resource=f"users/{user.id}", detail=f"made: {user.email}, {user.role}"
    )
    return json_response(shown(request, user), 201, {"location": f"/users/{user.id}"})


async def list_users(request: Request) -> Response:
    """`GET /users`: all accounts, in the order they were made."""
    users = [shown(request, user) for user in hub_of(request).registry.users()]
    return json_response(Accounts(len(users), users))


async def get_user(request: Request) -> Response:
    """`GET /users/<id>`: one account."""
    return json_response(shown(request, _user(request)))


async def change_user(request: Request) -> Response:
    """`PATCH /users/<id>`: another role or password, either of which ends the account's sessions; codes off."""
    user = _user(request)
    change = await read_json(request, Change)
    hub = hub_of(request)
    about = f"users/{user.id}"
    if change.totp:
        raise Problem(400, "codes are turned on by who has the authenticator app: POST /users/totp")
    if change.password is not None:
        await hub.sign_in.in_thread(partial(hub.registry.change_password, user.id, change.password))
        hub.audit.record(
            "account", "done", resource=about, detail="another password, set by an administrator"
        )
    if change.role is not None and change.role != user.role:
        await asyncio.to_thread(hub.registry.set_role, user.id, change.role)
        hub.audit.record("role", "done", resource=about, detail=f"{change.role}, was {user.role}")
    if change.totp is False and await asyncio.to_thread(hub.registry.totp.turn_off, user.id):
        hub.audit.record("totp", "done", resource=about, detail="turned off by an administrator")
    return json_response(shown(request, _user(request)))


async def remove_user(request: Request) -> Response:
    """`DELETE /users/<id>`: the account and its sessions."""
    user = _user(request)
    hub = hub_of(request)
    await asyncio.to_thread(hub.registry.remove_user, user.id)
    hub.audit.record("account", "done", resource=f"users/{user.id}", detail=f"removed: {user.email}")
    return Response(status_code=204)


async def profile(request: Request) -> Response:
    """`GET /users/profile`: the account of this token."""
    user = hub_of(request).registry.assigned(require_user(request, MEMBER).id)
    if user is None:
        raise Problem(404, "no such user")
    return json_response(shown(request, user))


async def change_password(request: Request) -> Response:
    """`PATCH /password`: ends all sessions of the account, this one too."""
    user = require_user(request, MEMBER)
    change = await read_json(request, NewPassword)
    hub = hub_of(request)
    await proved_again(request, user, change.old_password, None, "the old password is wrong")
    await hub.sign_in.in_thread(lambda: hub.registry.change_password(user.id, change.password))
    hub.audit.record("account", "done", resource=f"users/{user.id}", detail="another password")
    return json_response({"response": "password changed; log in again"}, 201)


def shown(request: Request, user: User) -> Account:
    """An account as it is given out."""
    registry = hub_of(request).registry
    totp = registry.totp.on(user.id)
    needed = user.role in registry.second_factor_for and not totp
    return Account(user.id, user.email, user.role, totp, needed)


def _issued(made: SignedIn) -> Response:
    return json_response(IssuedToken(made.token, made.device), 201)


def _agent(request: Request) -> str:
    return agent_words(request.headers.get("user-agent", ""))


def _user(request: Request) -> User:
    user = hub_of(request).registry.assigned(request.path_params["user_id"])
    if user is None:
        raise Problem(404, "no such user")
    return user


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
    *second_factor.ENDPOINTS,
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
