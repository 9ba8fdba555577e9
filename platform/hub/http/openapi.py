"""The OpenAPI 3.1 document, made from the route table: what is served is what is described.

In: the rows of `hub.http.table`, those of the gateway's own routes included. Out: one JSON document, made when it is
first asked for. Names of schemas are those of the structs that read the bodies.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hub.http import openapi_bounds, openapi_security
from hub.http.examples import VALUES, body_example, example
from hub.http.problem import PROBLEM_JSON, phrase
from hub.http.table import Endpoint, Media, Needs, Parameter

REF = "#/components/schemas/{name}"
JSON_TYPE = "application/json"

Schema = dict[str, Any]


class Problem(msgspec.Struct):
    """A refusal (RFC 9457); `detail` says what to do, `error` repeats it for clients written for Mainflux."""

    type: str
    title: str
    status: int
    detail: str
    error: str


# What each first word of the paths is about: the tags, in this order; others follow.
TAGS: Mapping[str, str] = {
    "claim": "The first start: who holds the code of a new gateway becomes its owner.",
    "tokens": "Signing in and out.",
    "sessions": "Who is signed in where.",
    "password": "One's own passphrase.",
    "users": "People and their roles.",
    "keys": "API keys: for scripts and programs that act for a person or a thing.",
    "oauth": "OAuth 2.0 and OpenID Connect: applications, consent and tokens.",
    "applications": "Programs of others that may ask for access.",
    "groups": "Organisations: who works together on which things and channels.",
    "members": "The organisations of one member.",
    "things": "Whatever publishes or listens.",
    "channels": "Where messages meet.",
    "connect": "Which thing may use which channel.",
    "disconnect": "Keeping things from channels.",
    "messages": "Publishing, reading and following.",
    "policies": "Documents that say who may do what.",
    "certs": "Certificates of things, by the gateway's own authority.",
    "identify": "What a key stands for, as Mainflux has it.",
    "auth": "For a reverse proxy: may this request pass?",
    "audit": "What was done and refused, and by whom.",
    "devices": "Things in the forms of the 2017 workshop.",
    "lorawan": "LoRaWAN devices, profiles, frames and downlinks.",
    "codecs": "What turns payloads into values.",
    "rawlora": "Simple nodes that are not LoRaWAN.",
    "gateway": "This gateway: state, radio.",
    "upstream": "What carries messages to other machines.",
}
_STATUS_WORDS = {
    304: "not changed since the ETag in If-None-Match",
    400: "malformed: the body, the query, the path or what is in them",
    401: "no credential, or one that is wrong, was replaced or has expired",
    403: "the credential is good and this is not allowed to it",
    404: "no such item",
    409: "the id, key, name or address is taken, or the gateway is claimed already",
    412: "changed since it was read (If-Match)",
    413: "the body is too long",
    415: "a content type that is not taken here, or a compressed body",
    422: "the Idempotency-Key came with another message before",
    429: "too many tries, or messages faster than allowed",
    503: "the store cannot take it now, or a bound is reached; nothing was done",
    507: "no room on the disk; nothing was done",
}
_HEADERS_OF: Mapping[int, tuple[str, ...]] = {
    401: ("WWW-Authenticate",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}
_HEADERS: Schema = {
    "WWW-Authenticate": {
        "description": "the scheme to authenticate with (RFC 6750)",
        "schema": {"type": "string"},
        "example": 'Bearer realm="fluxgate"',
    },
    "Retry-After": {"description": "seconds to wait", "schema": {"type": "string"}, "example": "30"},
    "ETag": {"description": "for If-None-Match and If-Match", "schema": {"type": "string"}},
}
_CONDITIONS: Schema = {
    "If-Match": {
        "name": "If-Match",
        "in": "header",
        "description": "the ETag of what is to be changed; where it has changed since, nothing is done (412)",
        "schema": {"type": "string", "maxLength": 1024},
    },
    "If-None-Match": {
        "name": "If-None-Match",
        "in": "header",
        "description": "the ETag of what is known; where it is still so, the answer is 304 without a body",
        "schema": {"type": "string", "maxLength": 1024},
    },
}
_IN_PATHS: Mapping[str, Schema] = {
    "subtopic": {"maxLength": 1024, "example": "roof/east"},
    "dev_eui": {"maxLength": 64, "example": "70b3d57ed00000ee"},
    "name": {"maxLength": 64, "example": "night"},
    "plan": {"maxLength": 64, "example": "1"},
}


def document(endpoints: Iterable[Endpoint], version: str) -> Schema:
    """The document of all `endpoints`."""
    rows = list(endpoints)
    schemas, components = _schemas(rows)
    paths: dict[str, Schema] = {}
    for row in rows:
        path = re.sub(r"{(\w+):\w+}", r"{\1}", row.path)
        paths.setdefault(path, {})[row.method.lower()] = _operation(row, schemas, components)
    tags = dict.fromkeys([*TAGS, *sorted(tag(row.path) for row in rows)])
    used = {tag(row.path) for row in rows}
    refusals = sorted({status for row in rows for status in _refusals(row)})
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://spec.openapis.org/oas/3.1/dialect/base",
        "info": {
            "title": "Fluxgate",
            "version": version,
            "summary": "A LoRa gateway: messages, things, channels, people, and the radio",
            "description": "Messages in and out, and the management of a gateway. The paths of Mainflux 0.13 and of "
            "the 2017 workshop. Every refusal is a problem document (RFC 9457). HEAD is served wherever GET is, and "
            "OPTIONS tells the methods of a path.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "the gateway that serves this document"}],
        "tags": [{"name": name, "description": TAGS.get(name, f"/{name}")} for name in tags if name in used],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": openapi_security.schemes(),
            "responses": {_response_name(status): _shared_refusal(status) for status in refusals},
            "headers": _HEADERS,
            "parameters": _CONDITIONS,
        },
    }


async def serve(request: Request) -> Response:
    """`GET /openapi.json`: this document."""
    return Response(request.app.state.openapi(), media_type=JSON_TYPE)


def _schemas(rows: list[Endpoint]) -> tuple[dict[int, Schema], Schema]:
    """A schema for each type that a row names, by the type's id, and the components they refer to."""
    types: list[Any] = [Problem]
    for row in rows:
        types += [
            one for one in (row.body, *row.answers.values()) if one is not None and not isinstance(one, Media)
        ]
    made, components = msgspec.json.schema_components(types, ref_template=REF)
    openapi_bounds.bound(components)
    return {id(one): schema for one, schema in zip(types, made, strict=True)}, components


def _operation(row: Endpoint, schemas: dict[int, Schema], components: Schema) -> Schema:
    summary, description = words(row)
    operation: Schema = {
        "operationId": _operation_id(row),
        "tags": [tag(row.path)],
        "summary": summary,
        "description": f"{description} {openapi_security.words(row)}".strip(),
        "security": openapi_security.requirements(row),
        "responses": {
            **{
                str(status): _answer(row, status, answer, schemas, components)
                for status, answer in row.answers.items()
            },
            **{str(status): _refusal(status) for status in _refusals(row)},
        },
    }
    if not row.answers:
        operation["responses"]["2XX"] = {"description": "done"}
    parameters = [_path_parameter(name) for name in re.findall(r"{(\w+)(?::\w+)?}", row.path)]
    parameters += [_parameter(one) for one in row.parameters]
    parameters += [{"$ref": f"#/components/parameters/{name}"} for name in _conditions(row)]
    if parameters:
        operation["parameters"] = parameters
    if row.body is not None:
        content = _content(row.body, schemas, components, body_example)
        operation["requestBody"] = {"required": row.body_required, "content": content}
    return operation


def words(row: Endpoint) -> tuple[str, str]:
    """Summary and description from the handler's docstring, without the request that it begins with."""
    text = inspect.getdoc(row.handler) or ""
    first, _, rest = text.partition("\n")
    first = re.sub(r"^`[^`]*`(?: and `[^`]*`)*:?\s*", "", first).strip()
    summary = first.rstrip(".") or f"{row.method} {row.path}"
    return summary[:1].upper() + summary[1:], " ".join(rest.split())


def _operation_id(row: Endpoint) -> str:
    """Unique, and the same in every version: method and path."""
    return row.method.lower() + re.sub(r"\W+", "_", re.sub(r":\w+}", "}", row.path)).rstrip("_")


def tag(path: str) -> str:
    """Under which heading a path stands."""
    head = path.strip("/").split("/")[0].removesuffix(".json")
    if "/messages" in path or path.endswith("/msg"):
        return "messages"
    return "oauth" if head == ".well-known" else head


def _answer(
    row: Endpoint, status: int, answer: Any, schemas: dict[int, Schema], components: Schema
) -> Schema:
    made: Schema = {"description": phrase(status)}
    if answer is not None:
        made["content"] = _content(answer, schemas, components, example)
    headers = {
        name: {"description": said, "schema": {"type": "string"}} for name, said in row.headers.items()
    }
    if "If-None-Match" in _conditions(row) and status == 200:
        headers["ETag"] = {"$ref": "#/components/headers/ETag"}
    if headers:
        made["headers"] = headers
    return made


def _content(
    answer: Any, schemas: dict[int, Schema], components: Schema, shown: Callable[[Schema, Schema], Any]
) -> Schema:
    if isinstance(answer, Media):
        return {name: {"schema": dict(schema)} for name, schema in answer.types.items()}
    schema = schemas[id(answer)]
    return {JSON_TYPE: {"schema": schema, "example": shown(schema, components)}}


def _refusal(status: int) -> Schema:
    return {"$ref": f"#/components/responses/{_response_name(status)}"}


def _response_name(status: int) -> str:
    return f"Refused{status}" if status >= 400 else f"Status{status}"


def _shared_refusal(status: int) -> Schema:
    words_of = _STATUS_WORDS.get(status, phrase(status).lower())
    made: Schema = {"description": words_of}
    if headers := _HEADERS_OF.get(status):
        made["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
    if status != 304:
        shown = Problem("about:blank", phrase(status), status, words_of, words_of)
        made["content"] = {
            PROBLEM_JSON: {
                "schema": {"$ref": REF.format(name="Problem")},
                "example": msgspec.to_builtins(shown),
            }
        }
    return made


def _conditions(row: Endpoint) -> tuple[str, ...]:
    """The headers of conditional requests that the row honours."""
    if row.needs is Needs.NOTHING or row.method not in ("GET", "PUT", "PATCH", "DELETE"):
        return ()
    return ("If-None-Match",) if row.method == "GET" else ("If-Match",)


def _refusals(row: Endpoint) -> list[int]:
    """What may be answered beside success, from what the row says."""
    statuses = {503, *row.refuses}
    if row.needs is not Needs.NOTHING:
        statuses |= {401, 403}
    if row.method in ("GET", "PUT", "PATCH", "DELETE") and row.needs is not Needs.NOTHING:
        statuses.add(304 if row.method == "GET" else 412)
    if "{" in row.path:
        statuses |= {400, 404}
    if row.parameters:
        statuses.add(400)
    if row.body is not None:
        statuses |= {400, 413, 415}
    if row.method != "GET":
        statuses.add(400)
    return sorted(statuses - set(row.answers))


def _path_parameter(name: str) -> Schema:
    bounds = dict(_IN_PATHS.get(name, {"maxLength": 64}))
    made: Schema = {
        "name": name,
        "in": "path",
        "required": True,
        "description": _path_words(name),
        "schema": {"type": "string", "minLength": 1, "maxLength": bounds["maxLength"]},
    }
    shown = bounds.get("example", VALUES.get(name))
    return {**made, "example": shown} if shown is not None else made


def _path_words(name: str) -> str:
    if name == "subtopic":
        return "elements between slashes or dots"
    return f"the {name.removesuffix('_id')}'s id" if name.endswith("_id") else f"the {name.replace('_', ' ')}"


def _parameter(one: Parameter) -> Schema:
    return {
        "name": one.name,
        "in": one.place,
        "required": False,
        "description": one.description,
        "schema": dict(one.schema),
    }


ENDPOINTS = [
    Endpoint(
        "GET",
        "/openapi.json",
        serve,
        Needs.NOTHING,
        answers={200: Media({JSON_TYPE: {"type": "object", "required": ["openapi", "paths"]}})},
        refuses=(304,),
    )
]
