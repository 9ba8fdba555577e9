"""`/auth/check`: a trusted reverse proxy asks whether a request may pass before it passes it on (nginx: auth_request).

In: the method and URI of that request, the caller's credentials, and his address. Out: 200 with who he is, 401 or 403.
A request to this API is held against the route table, its scopes and `hub.access`, as if it had come here; one to
another service, which the proxy names, against the role that the proxy demands for it and the policies.

What decides is the path as the service will understand it. A path that two programs may understand differently is
refused, not put right: whoever writes one wants it to be read in two ways.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from starlette.requests import Request
from starlette.responses import Response

from hub.access import Action, Circumstances, Principal, Resource
from hub.audit import attempt
from hub.errors import HubError
from hub.http.auth import Credentials, address_of, authorization, hub_of, principal_of, require
from hub.http.problem import Problem
from hub.http.proxies import Vouched, below_prefix, vouched
from hub.http.reach import demand_channel
from hub.http.table import Endpoint, Needs, Parameter, Table, guard
from hub.tokens.scopes import READ, WRITE
from hub.topics import REST, parse_filter, parse_topic
from hub.users import ADMIN, ROLES

MAX_URI = 8192  # characters; nginx takes a request line of that length

_OF_MESSAGES = frozenset(
    f"/channels/{{channel_id}}/{rest}" for rest in ("messages", "messages/{subtopic:path}", "msg")
)
_METHOD = re.compile(r"[A-Z]{1,16}", re.ASCII)
_UPSTREAM = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,62}[a-z0-9])?", re.ASCII)
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_DOTS = re.compile(r"(?:^|/)\.{1,2}(?:/|$)")
# Of another service nobody here knows how it reads an encoded slash, a parameter of a segment, what was escaped twice,
# or, on some file systems, a dot or space at a segment's end.
_SIGNS = re.compile(r"[/\\.;%]")
_READ_IN_TWO_WAYS = re.compile(r"[;%]|[. ](?:/|$)")


class BadPath(Exception):
    """A path that is none, or that programs read in different ways. Its sentence says what about it."""


class Target(NamedTuple):
    """What a request asks for: a path as text, without escapes, and what stands behind its question mark."""

    path: str
    query: str


async def check(request: Request) -> Response:
    """`GET /auth/check`: may the request that the trusted proxy describes pass? 200 says yes and who asks."""
    asked = vouched(request.scope)
    if asked is None or not asked.uri or not _METHOD.fullmatch(asked.method):
        raise Problem(
            400,
            "this is for a trusted reverse proxy (http.trusted_proxies), which sends X-Original-Method and "
            "X-Original-URI of the request it was sent",
        )
    under_way = attempt()
    if under_way is not None:
        under_way.resource = f"{asked.method} {asked.upstream}{asked.uri}"
    try:
        target = read_target(asked.uri)
        principal = (
            _foreign(request, asked, target) if asked.upstream else own_api(request, asked.method, target)
        )
    except BadPath as error:
        _audit_path(request, str(error))
        raise Problem(403, f"the path is refused: {error}") from None
    except HubError as error:  # a topic that is none
        raise Problem(403, error.reason) from None
    except Problem as problem:
        if problem.status in (404, 405):  # auth_request knows no other way to say no
            raise Problem(403, problem.detail) from None
        raise
    # Kept for a second by a proxy, a yes could be two seconds old: its clock has whole seconds. Asking costs little.
    return Response(status_code=200, headers={"cache-control": "no-store", **_told(request, principal)})


def read_target(uri: str) -> Target:
    """The target of a request line (RFC 9112, 3.2.1), which nginx knows as $request_uri. Raises BadPath."""
    if not uri.startswith("/") or len(uri) > MAX_URI or not uri.isascii() or not uri.isprintable():
        raise BadPath("it does not begin with a slash, is too long, or holds what no address holds")
    raw, _, query = uri.partition("?")
    if "#" in uri or " " in raw or "\\" in raw or _BAD_ESCAPE.search(raw):
        raise BadPath("it holds a character that belongs into no path, or a damaged escape")
    try:
        path = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise BadPath("its escapes are not UTF-8") from None
    if not path.isprintable() or "\\" in path:
        raise BadPath("it hides a control character or a backslash")
    if "//" in path or _DOTS.search(path):
        raise BadPath("it holds // or a segment of dots, which some programs take away and others do not")
    return Target(path, query)


def read_foreign(uri: str) -> str:
    """The path of another service, as policies name it: without the first slash and without escapes.

    Raises BadPath.
    """
    path = read_target(uri).path
    if _SIGNS.findall(unicodedata.normalize("NFKC", path)) != _SIGNS.findall(path):
        raise BadPath("it holds a character that some programs take for a slash or a dot")
    if _READ_IN_TWO_WAYS.search(path) or "%2f" in uri.partition("?")[0].lower():
        raise BadPath(
            "it holds what services read in different ways: ; % an escaped slash, a segment that ends in a dot"
        )
    return path.removeprefix("/")


def _foreign(request: Request, asked: Vouched, target: Target) -> Principal:
    """Another service: the proxy names it, and the least role that it is for. Raises Problem, BadPath."""
    path = read_foreign(asked.uri)
    role = asked.role or ADMIN
    if not _UPSTREAM.fullmatch(asked.upstream) or role not in ROLES:
        raise Problem(400, "X-Fluxgate-Upstream is a host's name, X-Fluxgate-Role one of the roles")
    principal = principal_of(request)
    if principal is None:
        raise Credentials.refusal(authorization(request))
    context = Circumstances("http", address_of(request.scope))
    verb = READ if asked.method in _READS else WRITE
    decision = hub_of(request).access.decide_proxy(principal, f"{asked.upstream}/{path}", verb, role, context)
    if not decision.allowed:
        raise Problem(403, f"denied: {decision.reason}")
    return principal


def own_api(request: Request, method: str, target: Target) -> Principal | None:
    """This API: as if the request had come here, with the credentials of this one. None for what is open to everybody.

    Raises Problem, HubError.
    """
    path = below_prefix(target.path)
    described = _described(request, method, path, target.query)
    endpoint = _endpoint(described)
    if endpoint is None:  # OPTIONS, and MQTT over WebSocket, which asks for a credential by itself
        return None
    if endpoint.path in _OF_MESSAGES:
        _messages(described, path)
    guard(described, endpoint.needs)
    return principal_of(described)


def _messages(described: Request, path: str) -> None:
    """What the table leaves to the access seam: publishing to a channel, and reading it. Raises Problem, HubError."""
    principal = require(described)
    if described.method == "POST":
        where = parse_topic(path.removesuffix("/msg") + "/messages" if path.endswith("/msg") else path)
        demand_channel(described, principal, Action.PUBLISH, Resource(where.channel, where.subtopic))
        return
    named: Mapping[str, str] = described.path_params
    below = named.get("subtopic", "")
    wanted = parse_filter(f"channels/{named['channel_id']}/messages/{below or REST}")
    demand_channel(described, principal, Action.SUBSCRIBE, Resource(wanted.channel, wanted.subtopic))


def _described(request: Request, method: str, path: str, query: str) -> Request:
    """The request that the proxy describes, with the credentials of the one that asks about it."""
    scope = {
        **request.scope,
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "path_params": {},
    }
    scope["root_path"] = ""
    return Request(scope)


def _endpoint(described: Request) -> Endpoint | None:
    """The row of the route table that would answer; None where any caller gets an answer. Raises Problem 403."""
    scope, method = described.scope, described.method
    if scope["path"] == "/mqtt":
        return None
    table: Table = described.app.state.table
    found = table.find(scope)
    if found is not None:
        route, beside = found
        scope["path_params"] = beside["path_params"]
        wanted = "GET" if method == "HEAD" else method
        if method == "OPTIONS":
            return None
        for row in route.endpoints:
            if row.method == wanted:
                return row
    raise Problem(403, "nothing is served at this path by this method; GET /openapi.json lists what is")


def _told(request: Request, principal: Principal | None) -> dict[str, str]:
    """What the proxy may tell the service about the caller."""
    if principal is None:
        return {}
    registry = hub_of(request).registry
    told = {"x-fluxgate-subject": f"{principal.kind}s/{principal.id}"}
    if principal.kind == "thing":
        thing = registry.thing(principal.id)
        told["x-fluxgate-name"] = quote(thing.name if thing else "", safe=" @")
        if not principal.grant:  # whose scopes the id alone does not tell
            told["client-id"] = principal.id
    else:
        user = registry.user(principal.id)
        if user is not None:
            told |= {"x-fluxgate-role": user.role, "x-fluxgate-name": quote(user.email, safe="@+")}
    return told


def _audit_path(request: Request, why: str) -> None:
    """A path that wants to be read in two ways is an attempt on the proxy, and told as one."""
    hub_of(request).audit.record("proxy", "refused", door="http", detail=f"the path is refused: {why}")


_SAID = tuple(
    Parameter(name, description, place="header")
    for name, description in (
        ("X-Original-Method", "method of the request that is asked about"),
        ("X-Original-URI", "its path and query, as they stood in the request line"),
        ("X-Fluxgate-Upstream", "name of another service; absent: this API"),
        ("X-Fluxgate-Role", "the least role that such a service is for; absent: admin"),
    )
)

ENDPOINTS = [
    Endpoint(
        *(method, "/auth/check", check, Needs.NOTHING),
        answers={200: None},
        refuses=(400, 401, 403),
        parameters=_SAID,
        headers={
            "X-Fluxgate-Subject": "who asks, as users/<id> or things/<id>",
            "X-Fluxgate-Name": "e-mail address of a person, name of a thing; other characters than ASCII escaped",
            "X-Fluxgate-Role": "of a person",
            "Client-ID": "id of a thing",
        },
    )
    for method in ("GET", "POST")
]
