"""The OpenAPI document is what is served: all routes are in it and the reverse, and generated requests agree."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from starlette.requests import Request
from starlette.responses import Response

from hub.http.app import ENDPOINTS
from hub.http.openapi import document
from hub.http.service import json_response
from hub.http.table import Endpoint, Needs, routes

Run = Callable[..., None]

EXAMPLES = 6  # for each operation and kind of data; about 500 requests
CHECKED = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
)


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


class Client:
    """What generated requests need: things that are there again after one of them has removed them."""

    def __init__(self, site: Any) -> None:
        self.site = site
        self.url = f"http://127.0.0.1:{site.door.port}"
        self.ids = {"thing_id": "thing-1", "device_id": "thing-1", "channel_id": "channel-1"}
        self.user = site.hub.registry.users()[0].id

    def credential(self, row: Endpoint) -> dict[str, str]:
        """Make sure that all is there, and return what this endpoint wants to see."""
        registry = self.site.hub.registry
        if registry.thing("thing-1") is None:
            registry.create_thing("one", id="thing-1")
        if registry.channel("channel-1") is None:
            registry.create_channel("one", id="channel-1")
        registry.connect(["channel-1"], ["thing-1"])
        if row.needs is Needs.THING:
            return {"authorization": f"Thing {registry.rotate_key('thing-1')}"}
        return {"authorization": f"Bearer {registry.issue_token(self.user, self.site.hub.clock()[0] / 1e9)}"}


def attack(client: Client, rows: list[Endpoint]) -> dict[int, int]:
    """Send generated requests, right ones and wrong ones; returns how often each status was the answer."""
    load_all_checks()
    checks = [CHECKS.get_one(name) for name in CHECKED]
    made = copy.deepcopy(document(rows, "1.0"))
    for operations in made["paths"].values():
        for operation in operations.values():
            # schemathesis does not write CBOR, and would send a multitude of streams that do not end.
            operation.get("requestBody", {"content": {}})["content"].pop("application/senml+cbor", None)
    schema = schemathesis.openapi.from_dict(json.loads(json.dumps(made)))
    by_operation = {(row.method, plain(row.path)): row for row in rows}
    seen: dict[int, int] = {}
    for result in schema.get_all_operations():
        operation = result.ok()
        row = by_operation[operation.method.upper(), operation.path]
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            send_all(client, operation, row, mode, checks, seen)
    return seen


def send_all(
    client: Client, operation: Any, row: Endpoint, mode: Any, checks: list[Any], seen: dict[int, int]
) -> None:
    @seed(2026)
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(mode), known=st.booleans())
    def send(case: Any, known: bool) -> None:
        if known:
            case.path_parameters.update(
                {name: value for name, value in client.ids.items() if name in case.path_parameters}
            )
        answer = case.call(base_url=client.url, headers=client.credential(row))
        seen[answer.status_code] = seen.get(answer.status_code, 0) + 1
        case.validate_response(answer, checks=checks)

    with contextlib.suppress(Unsatisfiable):  # nothing in this request could be wrong
        send()


@pytest.mark.filterwarnings("ignore")  # of the generator, about what it cannot make
def test_generated_requests_agree_with_the_document(run: Run) -> None:
    async def scenario(site: Any) -> None:
        rows = [row for row in site.app.endpoints if row.path not in ("/claim", "/tokens", "/password")]
        seen = await asyncio.to_thread(attack, Client(site), rows)
        assert sum(seen.values()) > len(rows) * EXAMPLES
        assert seen.keys() >= {200, 201, 202, 204, 400, 404}
        assert not [status for status in seen if status >= 500]

    run(scenario)
