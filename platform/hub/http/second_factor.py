"""`/users/totp`: the second factor of the caller's own account (RFC 6238), begun, confirmed and turned off.

The password is asked for each time: who has found a page open must not be able to shut its owner out.
"""

from __future__ import annotations

import asyncio

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hub.http.auth import hub_of, require_user
from hub.http.body import read_json
from hub.http.problem import Problem
from hub.http.proving import proved_again
from hub.http.service import json_response
from hub.http.table import Endpoint, Needs
from hub.users import MEMBER


class Password(msgspec.Struct):
    password: str


class Code(msgspec.Struct):
    code: str


class PasswordAndCode(msgspec.Struct):
    """The code is one of the app's, or a recovery code."""

    password: str
    code: str


class TotpState(msgspec.Struct):
    """`recovery_codes`: those not used yet. `time_trusted`: codes are held against a clock that is right."""

    on: bool
    recovery_codes: int
    time_trusted: bool


class TotpBegun(msgspec.Struct):
    """What the authenticator app needs: the secret in base 32, and the same as a URI, for a QR code. Shown once."""

    secret: str
    uri: str


class RecoveryCodes(msgspec.Struct):
    """Each is good once in place of a code. Shown once."""

    recovery_codes: list[str]


async def state(request: Request) -> Response:
    """`GET /users/totp`: whether signing in takes a code."""
    user = require_user(request, MEMBER)
    hub = hub_of(request)
    totp = hub.registry.totp
    return json_response(
        TotpState(totp.on(user.id), totp.recovery_left(user.id), hub.sign_in.time_is_trusted)
    )


async def begin(request: Request) -> Response:
    """`POST /users/totp`: a secret for the app; it counts once a code of it is shown at /users/totp/confirm."""
    user = require_user(request, MEMBER)
    wanted = await read_json(request, Password)
    await proved_again(request, user, wanted.password, None)
    hub = hub_of(request)
    begun = await asyncio.to_thread(hub.registry.totp.begin, user.id, user.email)
    hub.audit.record("totp", "done", resource=f"users/{user.id}", detail="begun")
    return json_response(TotpBegun(begun.secret, begun.uri), 201)


async def confirm(request: Request) -> Response:
    """`POST /users/totp/confirm`: a code of the app turns it on; the answer holds the recovery codes."""
    user = require_user(request, MEMBER)
    wanted = await read_json(request, Code)
    hub = hub_of(request)
    codes = await asyncio.to_thread(
        hub.registry.totp.confirm,
        *(user.id, wanted.code, hub.clock()[0] / 1e9, hub.sign_in.time_is_trusted),
    )
    hub.audit.record("totp", "done", resource=f"users/{user.id}", detail="turned on")
    return json_response(RecoveryCodes(codes), 201)


async def turn_off(request: Request) -> Response:
    """`DELETE /users/totp`: no code is asked for any more."""
    user = require_user(request, MEMBER)
    wanted = await read_json(request, PasswordAndCode)
    hub = hub_of(request)
    if user.role in hub.registry.second_factor_for:
        raise Problem(403, f"every account with the role {user.role} must have it here")
    await proved_again(request, user, wanted.password, wanted.code)
    if await asyncio.to_thread(hub.registry.totp.turn_off, user.id):
        hub.audit.record("totp", "done", resource=f"users/{user.id}", detail="turned off")
    return Response(status_code=204)


async def renew(request: Request) -> Response:
    """`POST /users/totp/recovery`: new recovery codes in place of all those before."""
    user = require_user(request, MEMBER)
    wanted = await read_json(request, PasswordAndCode)
    hub = hub_of(request)
    if not hub.registry.totp.on(user.id):
        raise Problem(404, "signing in takes no code: there is nothing to recover from")
    await proved_again(request, user, wanted.password, wanted.code)
    codes = await asyncio.to_thread(hub.registry.totp.renew, user.id)
    hub.audit.record("totp", "done", resource=f"users/{user.id}", detail="new recovery codes")
    return json_response(RecoveryCodes(codes), 201)


ENDPOINTS = [
    Endpoint("GET", "/users/totp", state, Needs.MEMBER, answers={200: TotpState}),
    Endpoint(
        *("POST", "/users/totp", begin, Needs.MEMBER),
        body=Password,
        answers={201: TotpBegun},
        refuses=(409, 429),
    ),
    Endpoint(
        *("DELETE", "/users/totp", turn_off, Needs.MEMBER),
        body=PasswordAndCode,
        answers={204: None},
        refuses=(429,),
    ),
    Endpoint(
        *("POST", "/users/totp/confirm", confirm, Needs.MEMBER),
        body=Code,
        answers={201: RecoveryCodes},
        refuses=(404, 409),
    ),
    Endpoint(
        *("POST", "/users/totp/recovery", renew, Needs.MEMBER),
        body=PasswordAndCode,
        answers={201: RecoveryCodes},
        refuses=(404, 429),
    ),
]
