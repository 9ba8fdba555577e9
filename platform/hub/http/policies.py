"""`/policies`: documents that say who may do what, validated as a whole, and the reasons for a decision.

Documents are stored as they were written, so that the line in a message is the line in its author's editor.
Administrators only, and never asked of the policies themselves: a wrong document can always be taken out again.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from hub.access import Action, Circumstances, Principal
from hub.access import Resource as Place
from hub.http.auth import hub_of, now_s
from hub.http.body import decode_json, read_json
from hub.http.problem import Problem
from hub.http.service import json_response
from hub.http.table import Endpoint, Needs
from hub.policy.documents import read
from hub.policy.statement import Statement
from hub.registry import Policy

Document = dict[str, Any] | list[Any]


class PolicyView(Struct):
    """A document as a list shows it."""

    name: str
    updated: float  # UTC seconds
    statements: int


class PolicyList(Struct):
    total: int
    policies: list[PolicyView]


class StatementView(Struct):
    """What one statement says."""

    name: str
    effect: str
    line: int
    subjects: list[str]
    actions: list[str]
    resources: list[str]
    conditions: list[str]


class PolicyShown(Struct):
    """A document with its text."""

    name: str
    updated: float
    document: str
    statements: list[StatementView]


class Question(Struct, forbid_unknown_fields=True):
    """What to explain: may this thing or user do this? Exactly one of thing and user."""

    action: Action
    thing: str = ""
    user: str = ""  # id or e-mail address
    channel: str = ""
    subtopic: str = ""
    upstream: str = ""  # <host>/<path> of another service, for the action proxy
    protocol: str = ""
    source_ip: str = ""
    payload_size: Annotated[int, Meta(ge=0)] | None = None
    content_type: str = ""


class Other(Struct):
    """A statement that did not decide, and what of it does not fit."""

    name: str
    effect: str
    line: int
    reasons: list[str]


class Answer(Struct):
    """The decision, the reason of the gateway, and what the policies say to it."""

    allowed: bool
    reason: str
    decided_by: str | None  # the statement; None: no policy did
    policies: str
    others: list[Other]


async def list_policies(request: Request) -> Response:
    """`GET /policies`: all, by name."""
    registry = hub_of(request).registry
    found = [
        PolicyView(policy.name, policy.updated_s, len(registry.policy_statements(policy.name)))
        for policy in registry.policies()
    ]
    return json_response(PolicyList(len(found), found))


async def replace_policies(request: Request) -> Response:
    """`PUT /policies`: these documents and no others, or with the first error none of them."""
    given = await read_json(request, dict[str, msgspec.Raw])
    changes = {name: _text(bytes(document)) for name, document in given.items()}
    await asyncio.to_thread(hub_of(request).registry.change_policies, changes, now_s(request), whole=True)
    return await list_policies(request)


async def get_policy(request: Request) -> Response:
    """`GET /policies/<name>`: the text as it was given, and what its statements say."""
    return json_response(_shown(request, _policy(request)))


async def put_policy(request: Request) -> Response:
    """`PUT /policies/<name>`: the body is the document; it replaces the one of that name."""
    name = request.path_params["name"]
    registry = hub_of(request).registry
    existed = registry.policy(name) is not None
    body = await request.body()
    await asyncio.to_thread(registry.change_policies, {name: _text(body)}, now_s(request))
    status, headers = (200, {}) if existed else (201, {"location": f"/policies/{name}"})
    return json_response(_shown(request, _policy(request)), status, headers)


async def remove_policy(request: Request) -> Response:
    """`DELETE /policies/<name>`: remove a policy; what it said holds no longer."""
    name = _policy(request).name
    await asyncio.to_thread(hub_of(request).registry.change_policies, {name: None}, now_s(request))
    return Response(status_code=204)


async def check_policy(request: Request) -> Response:
    """`POST /policies/check`: what a document would say, without keeping it."""
    return json_response([_statement(each) for each in read("checked", _text(await request.body()))])


async def explain(request: Request) -> Response:
    """`POST /policies/explain`: may this thing or user do this, which statement decides, and what would change it."""
    asked = await read_json(request, Question)
    hub = hub_of(request)
    if bool(asked.thing) == bool(asked.user):
        raise Problem(400, "name either a thing or a user")
    if asked.thing:
        principal = Principal("thing", asked.thing)
    else:
        user = hub.registry.user(asked.user) or hub.registry.user_by_email(asked.user)
        principal = Principal("user", user.id if user else asked.user)
    context = Circumstances(asked.protocol, asked.source_ip, asked.payload_size, asked.content_type)
    decision, why = hub.access.explain(
        principal, asked.action, Place(asked.channel, asked.subtopic, asked.upstream), context
    )
    others = [
        Other(each.statement.name, each.statement.effect, each.statement.line, list(each.reasons))
        for each in why.others
    ]
    statement = None if decision.final else why.verdict.statement
    return json_response(
        Answer(decision.allowed, decision.reason, statement.name if statement else None, why.words, others)
    )


def _policy(request: Request) -> Policy:
    policy = hub_of(request).registry.policy(request.path_params["name"])
    if policy is None:
        raise Problem(404, "no such policy")
    return policy


def _text(body: bytes) -> str:
    """Raises Problem where a document is not JSON text at all; what is wrong inside, the policy's reader says."""
    decode_json(body, msgspec.Raw)
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise Problem(400, "a document is JSON in UTF-8") from None


def _shown(request: Request, policy: Policy) -> PolicyShown:
    statements = hub_of(request).registry.policy_statements(policy.name)
    return PolicyShown(
        policy.name, policy.updated_s, policy.document, [_statement(each) for each in statements]
    )


def _statement(statement: Statement) -> StatementView:
    subjects, actions, resources = (
        [("not " if part.negated else "") + pattern.text for pattern in part.patterns]
        for part in (statement.subjects, statement.actions, statement.resources)
    )
    words = [condition.words for condition in statement.conditions]
    return StatementView(
        statement.name, statement.effect, statement.line, subjects, actions, resources, words
    )


ENDPOINTS = [
    Endpoint("GET", "/policies", list_policies, Needs.ADMIN, answers={200: PolicyList}),
    Endpoint(
        *("PUT", "/policies", replace_policies, Needs.ADMIN),
        body=dict[str, Document],
        answers={200: PolicyList},
    ),
    Endpoint(
        *("POST", "/policies/check", check_policy, Needs.ADMIN),
        body=Document,
        answers={200: list[StatementView]},
    ),
    Endpoint("POST", "/policies/explain", explain, Needs.ADMIN, body=Question, answers={200: Answer}),
    Endpoint("GET", "/policies/{name}", get_policy, Needs.ADMIN, answers={200: PolicyShown}, refuses=(404,)),
    Endpoint(
        *("PUT", "/policies/{name}", put_policy, Needs.ADMIN),
        body=Document,
        answers={200: PolicyShown, 201: PolicyShown},
        headers={"location": "of a new policy"},
    ),
    Endpoint(
        *("DELETE", "/policies/{name}", remove_policy, Needs.ADMIN), answers={204: None}, refuses=(404,)
    ),
]
