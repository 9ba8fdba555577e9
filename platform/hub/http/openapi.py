"""The OpenAPI 3.1 document, made from the route table: what is served is what is described.

In: the rows of `hub.http.table`, those of the gateway's own routes included. Out: one JSON document, made when it is
first asked for. Names of schemas are those of the structs that read the bodies.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

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


_SECURITY_SCHEMES: Schema = {
    "token": {"type": "http", "scheme": "bearer", "description": "a person's token, from POST /tokens"},
    "key": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "a thing's key: `Thing <key>`, or the key alone",
    },
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "a thing's key as the password, any user name",
    },
    "address": {
        "type": "apiKey",
        "in": "query",
        "name": "authorization",
        "description": "a key or token for clients that cannot send headers; only where messages are read",
    },
}
_KEY: list[Schema] = [{"key": []}, {"basic": []}]
_TOKEN: list[Schema] = [{"token": []}]
_SECURITY: Mapping[Needs, list[Schema]] = {
    Needs.NOTHING: [],
    Needs.ANY: [*_KEY, *_TOKEN, {"address": []}],
    Needs.THING: _KEY,
    Needs.MEMBER: _TOKEN,
    Needs.USER: _TOKEN,
    Needs.MANAGER: _TOKEN,
    Needs.ADMIN: _TOKEN,
}
_WORDS: Mapping[Needs, str] = {
    Needs.NOTHING: "No credential.",
    Needs.ANY: "A thing's key or a person's token.",
    Needs.THING: "A thing's key.",
    Needs.MEMBER: "A token of any person.",
    Needs.USER: "A person's token.",
    Needs.MANAGER: "A token of a person who may manage.",
    Needs.ADMIN: "A token of an administrator.",
}


def document(endpoints: Iterable[Endpoint], version: str) -> Schema:
    """The document of all `endpoints`."""
    rows = list(endpoints)
    schemas, components = _schemas(rows)
    paths: dict[str, Schema] = {}
    for row in rows:
        path = re.sub(r"{(\w+):\w+}", r"{\1}", row.path)
        paths.setdefault(path, {})[row.method.lower()] = _operation(row, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fluxgate",
            "version": version,
            "description": "Messages in and out, and the management of a gateway. The paths of Mainflux 0.13 and of "
            "the 2017 workshop. Every refusal is a problem document.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SECURITY_SCHEMES},
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
    return {id(one): schema for one, schema in zip(types, made, strict=True)}, components


def _operation(row: Endpoint, schemas: dict[int, Schema]) -> Schema:
    summary, description = _words(row)
    operation: Schema = {
        "operationId": _operation_id(row),
        "tags": [_tag(row.path)],
        "summary": summary,
        "description": f"{description} {_WORDS[row.needs]}".strip(),
        "security": _SECURITY[row.needs],
        "responses": {
            **{str(status): _answer(row, status, answer, schemas) for status, answer in row.answers.items()},
            **{str(status): _refusal(status) for status in _refusals(row)},
        },
    }
    if not row.answers:
        operation["responses"]["2XX"] = {"description": "done"}
    parameters = [_path_parameter(name) for name in re.findall(r"{(\w+)(?::\w+)?}", row.path)]
    parameters += [_parameter(one) for one in row.parameters]
    if parameters:
        operation["parameters"] = parameters
    if row.body is not None:
        operation["requestBody"] = {"required": row.body_required, "content": _content(row.body, schemas)}
    return operation


def _words(row: Endpoint) -> tuple[str, str]:
    """Summary and description from the handler's docstring, without the request that it begins with."""
    text = inspect.getdoc(row.handler) or ""
    first, _, rest = text.partition("\n")
    first = re.sub(r"^`[^`]*`(?: and `[^`]*`)*:?\s*", "", first).strip()
    summary = first.rstrip(".") or f"{row.method} {row.path}"
    return summary[:1].upper() + summary[1:], " ".join(rest.split())


def _operation_id(row: Endpoint) -> str:
    """Unique, and the same in every version: method and path."""
    return row.method.lower() + re.sub(r"\W+", "_", re.sub(r":\w+}", "}", row.path)).rstrip("_")


def _tag(path: str) -> str:
    head = path.strip("/").split("/")[0].removesuffix(".json")
    if "/messages" in path or path.endswith("/msg"):
        return "messages"
    return head


def _answer(row: Endpoint, status: int, answer: Any, schemas: dict[int, Schema]) -> Schema:
    made: Schema = {"description": phrase(status)}
    if answer is not None:
        made["content"] = _content(answer, schemas)
    if row.headers:
        made["headers"] = {
            name: {"description": words, "schema": {"type": "string"}} for name, words in row.headers.items()
        }
    return made


def _content(answer: Any, schemas: dict[int, Schema]) -> Schema:
    if isinstance(answer, Media):
        return {name: {"schema": dict(schema)} for name, schema in answer.types.items()}
    return {JSON_TYPE: {"schema": schemas[id(answer)]}}


def _refusal(status: int) -> Schema:
    if status == 304:
        return {"description": "not changed since the ETag in If-None-Match"}
    return {
        "description": phrase(status),
        "content": {PROBLEM_JSON: {"schema": {"$ref": REF.format(name="Problem")}}},
    }


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
    description = (
        f"the {name.removesuffix('_id')}'s id" if name.endswith("_id") else "elements between slashes or dots"
    )
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": {"type": "string", "minLength": 1},
    }


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
