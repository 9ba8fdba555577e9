"""Applications over REST: what may ask for tokens, and its secret. Tokens themselves: `hub.http.oauth`."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from hub.applications import GRANT_TYPES, ROLES, Application, Applications, Wanted
from hub.errors import NotFound
from hub.http.auth import hub_of, now_s
from hub.http.body import decode_json, read_json
from hub.http.problem import Problem
from hub.http.service import json_response
from hub.http.shapes import Metadata
from hub.http.table import Endpoint, Needs, Parameter

MAX_PAGE = 100
MAX_OFFSET = 1 << 31

_Role = Annotated[str, Meta(pattern=f"^({'|'.join(ROLES)})$")]
_GrantType = Annotated[str, Meta(pattern=f"^({'|'.join(GRANT_TYPES)})$")]


class NewApplication(Struct):
    """An application to be made. `public`: it runs on people's devices and has no secret.

    `role` says what it may manage when it acts for itself; `scopes` bound everything it does. What is left out is
    taken from the rest: with a redirect URI people sign in to it, without one it acts for itself.
    """

    name: str = ""
    metadata: Metadata | None = None
    role: _Role = ""
    scopes: list[str] | None = None
    redirect_uris: list[str] = []
    grant_types: list[_GrantType] | None = None
    public: bool = False
    id: str | None = None


class ApplicationEdit(Struct):
    """What PUT changes; what is left out stays. Scopes or grant types taken away end what was granted with them."""

    name: str | None = None
    metadata: Metadata | None = None
    role: _Role | None = None
    scopes: list[str] | None = None
    redirect_uris: list[str] | None = None
    grant_types: list[_GrantType] | None = None


class ShownApplication(Struct):
    """An application; never with its secret. Its id is its `client_id`, and that of its thing."""

    id: str
    name: str
    metadata: Metadata
    role: str
    scopes: list[str]
    redirect_uris: list[str]
    grant_types: list[str]
    public: bool
    made_at: float  # unix seconds


class MadeApplication(ShownApplication):
    """An application that was just made: the one time its secret is shown; none for a public one."""

    secret: str | None


class ApplicationList(Struct):
    """A page of applications."""

    total: int
    offset: int
    limit: int
    order: str
    direction: str
    applications: list[ShownApplication]


class Secret(Struct):
    """A new secret, shown this one time; the old one is void."""

    id: str
    secret: str


class _Search(Struct):
    offset: Annotated[int, Meta(ge=0, le=MAX_OFFSET)] = 0
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 10
    name: str = ""
    order: Annotated[str, Meta(pattern="^(name|id)?$")] = ""
    dir: Annotated[str, Meta(pattern="^(asc|desc)$")] = "asc"
    metadata: Metadata | None = None


async def create_application(request: Request) -> Response:
    """`POST /applications`: 201 with Location and, this one time, the secret."""
    new = await read_json(request, NewApplication)
    wanted = Wanted(
        new.name,
        new.metadata,
        new.role,
        None if new.scopes is None else tuple(new.scopes),
        tuple(new.redirect_uris),
        None if new.grant_types is None else tuple(new.grant_types),
    )
    made, secret = await asyncio.to_thread(
        applications_of(request).create, wanted, now_s(request), public=new.public, id=new.id
    )
    body = {**shown(made), "secret": secret or None}
    return json_response(body, 201, {"location": f"/applications/{made.id}"})


async def list_applications(request: Request) -> Response:
    """`GET /applications`: a page of applications; the gateway's own pages are none of them."""
    given: dict[str, Any] = dict(request.query_params)
    if "metadata" in given:
        given["metadata"] = decode_json(given["metadata"].encode("utf-8", "replace"), Metadata)
    try:
        search = msgspec.convert(given, _Search, strict=False)
    except msgspec.ValidationError as error:
        raise Problem(400, f"the query does not fit: {error}") from None
    total, found = applications_of(request).page(
        offset=search.offset,
        limit=search.limit,
        name=search.name,
        metadata=search.metadata,
        order=search.order,
        descending=search.dir == "desc",
    )
    return json_response(
        {
            "total": total,
            "offset": search.offset,
            "limit": search.limit,
            "order": search.order,
            "direction": search.dir,
            "applications": [shown(each) for each in found],
        }
    )


async def get_application(request: Request) -> Response:
    """`GET /applications/<id>`: without the secret, which nobody can read again."""
    return json_response(shown(_application(request)))


async def edit_application(request: Request) -> Response:
    """`PUT /applications/<id>`: other properties; what is left out stays."""
    edit = await read_json(request, ApplicationEdit)
    wanted = Wanted(
        edit.name,
        edit.metadata,
        edit.role,
        None if edit.scopes is None else tuple(edit.scopes),
        None if edit.redirect_uris is None else tuple(edit.redirect_uris),
        None if edit.grant_types is None else tuple(edit.grant_types),
    )
    changed = await asyncio.to_thread(
        applications_of(request).change, request.path_params["application_id"], wanted
    )
    return json_response(shown(changed))


async def remove_application(request: Request) -> Response:
    """`DELETE /applications/<id>`: with its thing and all that was granted to it; 204 also where there was none."""
    with contextlib.suppress(NotFound):
        await asyncio.to_thread(applications_of(request).remove, request.path_params["application_id"])
    return Response(status_code=204)


async def rotate_secret(request: Request) -> Response:
    """`POST /applications/<id>/secret`: a new secret; the old one and tokens it got by itself end at once."""
    app_id = request.path_params["application_id"]
    secret = await asyncio.to_thread(applications_of(request).new_secret, app_id)
    return json_response({"id": app_id, "secret": secret}, headers={"cache-control": "no-store"})


def applications_of(request: Request) -> Applications:
    return hub_of(request).registry.applications


def shown(application: Application) -> dict[str, Any]:
    return {
        "id": application.id,
        "name": application.name,
        "metadata": application.metadata,
        "role": application.role,
        "scopes": sorted(application.scopes),
        "redirect_uris": list(application.redirect_uris),
        "grant_types": list(application.grant_types),
        "public": application.public,
        "made_at": application.made_s,
    }


def _application(request: Request) -> Application:
    found = applications_of(request).get(request.path_params["application_id"])
    if found is None or found.first_party:
        raise Problem(404, "no such application")
    return found


_LIST = (
    Parameter("offset", "items to pass over", {"type": "integer", "minimum": 0, "maximum": MAX_OFFSET}),
    Parameter("limit", "items at most", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE}),
    Parameter("name", "a part of the name, in any case"),
    Parameter(
        "order", "sorted by; as they were made if left out", {"type": "string", "enum": ["", "name", "id"]}
    ),
    Parameter("dir", "direction", {"type": "string", "enum": ["asc", "desc"]}),
    Parameter("metadata", "a JSON object that the application's metadata contains"),
)

ENDPOINTS = [
    Endpoint(
        *("POST", "/applications", create_application, Needs.ADMIN),
        body=NewApplication,
        answers={201: MadeApplication},
        headers={"Location": "of what was made"},
        refuses=(409,),
    ),
    Endpoint(
        *("GET", "/applications", list_applications, Needs.USER),
        answers={200: ApplicationList},
        parameters=_LIST,
    ),
    Endpoint(
        *("GET", "/applications/{application_id}", get_application, Needs.USER),
        answers={200: ShownApplication},
        refuses=(404,),
    ),
    Endpoint(
        *("PUT", "/applications/{application_id}", edit_application, Needs.ADMIN),
        body=ApplicationEdit,
        answers={200: ShownApplication},
        refuses=(404,),
    ),
    Endpoint(
        *("DELETE", "/applications/{application_id}", remove_application, Needs.ADMIN), answers={204: None}
    ),
    Endpoint(
        *("POST", "/applications/{application_id}/secret", rotate_secret, Needs.ADMIN),
        answers={200: Secret},
        refuses=(400, 404),
    ),
]
