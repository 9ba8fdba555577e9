"""The OpenAPI document is what is served: all routes are in it and the reverse.

Requests generated from the document of a whole gateway, by each kind of caller: tests/gateway/test_schemathesis.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.requests import Request
from starlette.responses import Response

from hub.http.app import ENDPOINTS
from hub.http.openapi import document
from hub.http.service import json_response
from hub.http.table import Endpoint, Needs, routes

Run = Callable[..., None]


def plain(path: str) -> str:
    return re.sub(r"{(\w+):\w+}", r"{\1}", path)


async def own(request: Request) -> Response:
    """`GET /own/{number}`: what a route of the gateway says of itself."""
    return json_response({})


def test_every_route_is_in_the_document_and_the_reverse(run: Run) -> None:
    async def scenario(site: Any) -> None:
        answer = await site.client.get("/openapi.json")
        described = {
            (method.upper(), path)
            for path, operations in answer.json()["paths"].items()
            for method in operations
        }
        assert described == {(row.method, plain(row.path)) for row in site.app.endpoints}
        assert {(row.method, row.path) for row in ENDPOINTS} < {
            (row.method, row.path) for row in site.app.endpoints
        }
        operation = answer.json()["paths"]["/own/{number}"]["get"]
        assert operation["summary"] == "What a route of the gateway says of itself"
        assert operation["security"] == [
            {"token": ["viewer"]},
            {"api_key": []},
            {"oauth2": ["gateway:read"]},
        ]
        again = await site.client.get("/openapi.json", headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")

    run(scenario, routes=routes([Endpoint("GET", "/own/{number}", own, Needs.USER)]))


def test_the_document_is_valid_openapi_3_1() -> None:
    made = json.loads(json.dumps(document(ENDPOINTS, "1.0")))
    OpenAPIV31SpecValidator(made).validate()
    operations = [operation for path in made["paths"].values() for operation in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert all(operation["summary"] and operation["description"] for operation in operations)


def examples(made: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Where an example stands, the schema it is for, and the example."""
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            contents = {"body": operation.get("requestBody", {}), **operation["responses"]}
            for place, holder in contents.items():
                for media in holder.get("content", {}).values():
                    if "example" in media:
                        yield f"{method} {path} {place}", media["schema"], media["example"]


def test_each_json_body_and_answer_has_an_example_that_its_schema_allows() -> None:
    made = json.loads(json.dumps(document(ENDPOINTS, "1.0")))
    shown = list(examples(made))
    assert len(shown) > 70
    for where, schema, example in shown:
        whole = Draft202012Validator({**schema, "components": made["components"]})
        assert not [error.message for error in whole.iter_errors(example)], where
    assert next(example for where, _, example in shown if where == "post /policies/explain body")["thing"]


def test_each_row_says_which_credentials_roles_and_scopes_it_takes() -> None:
    made = document(ENDPOINTS, "1.0")
    schemes = made["components"]["securitySchemes"]
    assert {each["type"] for each in schemes.values()} == {"http", "apiKey", "oauth2", "mutualTLS"}
    known = set(schemes["oauth2"]["flows"]["clientCredentials"]["scopes"])
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            named = {name: needs for one in operation["security"] for name, needs in one.items()}
            assert named.keys() <= schemes.keys()
            assert set(named.get("oauth2", ())) <= known, (method, path)
            assert ("401" in operation["responses"]) >= bool(named), (method, path)
    security = made["paths"]["/channels/{channel_id}/messages"]
    assert {"certificate": []} in security["post"]["security"]
    assert {"token": []} not in security["post"]["security"], "a person does not publish"
    assert {"address": []} in security["get"]["security"]
    assert {"address": []} not in made["paths"]["/things/{thing_id}"]["get"]["security"]
    assert {"oauth2": ["things:write"]} in made["paths"]["/things"]["post"]["security"]
    password = [name for one in made["paths"]["/password"]["patch"]["security"] for name in one]
    assert "api_key" not in password, "no API key is for what is its owner's own"


BEYOND: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/things", {"name": "x" * 1025}),
    ("POST", "/things", {"id": "a b"}),
    ("POST", "/things", {"id": "x" * 65}),
    ("POST", "/things", {"key": "x" * 15}),
    ("POST", "/things", {"key": "x" * 257}),
    ("POST", "/channels", {"name": "x" * 1025}),
    ("PUT", "/channels/{channel_id}", {"name": "x" * 1025}),
    ("POST", "/groups", {"name": "x", "description": "x" * 1025}),
    ("POST", "/applications", {"name": "x" * 1025}),
    ("POST", "/keys", {"scopes": [f"things:read:{n}" for n in range(65)]}),
    ("POST", "/users", {"email": "no address", "password": "long enough"}),
    ("POST", "/users", {"email": "a@b", "password": "short"}),
    ("POST", "/users", {"email": "a@b", "password": "x" * 257}),
    ("POST", "/connect", {"channel_ids": [], "thing_ids": ["x"]}),
]


def test_the_bounds_that_the_document_tells_are_held(run: Run) -> None:
    made = json.loads(json.dumps(document(ENDPOINTS, "1.0")))

    async def scenario(site: Any) -> None:
        for method, path, body in BEYOND:
            schema = made["paths"][path][method.lower()]["requestBody"]["content"]["application/json"][
                "schema"
            ]
            judge = Draft202012Validator({**schema, "components": made["components"]})
            assert not judge.is_valid(body), f"the document allows {body} at {path}"
            where = path.format(channel_id=site.channel_id)
            answer = await site.client.request(method, where, json=body, headers=site.user)
            assert answer.status_code == 400, (path, body, answer.text)

    run(scenario)
