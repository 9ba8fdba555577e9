"""`/sessions`: where people are signed in, and ending it."""

from __future__ import annotations

import asyncio

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hub.http.auth import hub_of, now_s, require_user, session_of
from hub.http.problem import Problem
from hub.http.query import boolean, optional
from hub.http.service import json_response
from hub.http.table import Endpoint, Needs, Parameter
from hub.sessions import Session
from hub.users import ADMIN, MEMBER, has_role


class SessionShown(msgspec.Struct):
    """A sign-in: times are UTC seconds, `agent` the device in words, `current` the one that asks."""

    id: str
    user_id: str
    email: str
    address: str
    agent: str
    opened: float
    used: float
    current: bool


class SessionsShown(msgspec.Struct):
    total: int
    sessions: list[SessionShown]


class Ended(msgspec.Struct):
    ended: int


async def list_sessions(request: Request) -> Response:
    """`GET /sessions`: the caller's own, the one used last first; an administrator may ask for others'."""
    user = require_user(request, MEMBER)
    registry, now = hub_of(request).registry, now_s(request)
    wanted = request.query_params.get("user_id", "")
    everybody = bool(optional(request, "all", boolean))
    if (everybody or wanted not in ("", user.id)) and not has_role(user, ADMIN):
        raise Problem(403, "whose sessions are not one's own, an administrator sees")
    current = session_of(request)
    found = registry.sessions.all(now) if everybody else registry.sessions.of_user(wanted or user.id, now)
    shown = [_shown(request, each, current) for each in found]
    return json_response(SessionsShown(len(shown), shown))


async def end_session(request: Request) -> Response:
    """`DELETE /sessions/<id>`: one of the caller's; of anybody's for an administrator."""
    user = require_user(request, MEMBER)
    hub = hub_of(request)
    session_id = request.path_params["session_id"]
    found = next((each for each in hub.registry.sessions.all(now_s(request)) if each.id == session_id), None)
    if found is None or (found.user_id != user.id and not has_role(user, ADMIN)):
        raise Problem(404, "no such session")
    await asyncio.to_thread(hub.registry.sessions.end, lambda each: each.id == session_id)
    hub.audit.record(
        "sign-out", "done", resource=f"users/{found.user_id}", detail=f"session {session_id} ended"
    )
    return Response(status_code=204)


async def end_sessions(request: Request) -> Response:
    """`DELETE /sessions`: all of the caller's but the one that asks; for an administrator, all of a user's."""
    user = require_user(request, MEMBER)
    hub = hub_of(request)
    whose = request.query_params.get("user_id", "") or user.id
    if whose != user.id and not has_role(user, ADMIN):
        raise Problem(403, "whose sessions are not one's own, an administrator ends")
    current = session_of(request)
    ended = await asyncio.to_thread(
        hub.registry.sessions.end, lambda each: each.user_id == whose and each is not current
    )
    if ended:
        hub.audit.record("sign-out", "done", resource=f"users/{whose}", detail=f"{ended} sessions ended")
    return json_response(Ended(ended))


def _shown(request: Request, session: Session, current: Session | None) -> SessionShown:
    user = hub_of(request).registry.assigned(session.user_id)
    return SessionShown(
        *(session.id, session.user_id, user.email if user else "", session.address, session.agent),
        *(session.opened_s, session.used_s, session is current),
    )


_USER = Parameter("user_id", "whose, for an administrator; without it the caller's own")

ENDPOINTS = [
    Endpoint(
        *("GET", "/sessions", list_sessions, Needs.MEMBER),
        answers={200: SessionsShown},
        parameters=(_USER, Parameter("all", "true: everybody's", {"type": "boolean"})),
    ),
    Endpoint(*("DELETE", "/sessions", end_sessions, Needs.MEMBER), answers={200: Ended}, parameters=(_USER,)),
    Endpoint(
        *("DELETE", "/sessions/{session_id}", end_session, Needs.MEMBER), answers={204: None}, refuses=(404,)
    ),
]
