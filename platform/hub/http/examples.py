"""Examples for the OpenAPI document: each is made from the schema it shows, so it cannot tell anything else.

A property's value comes from the table `VALUES` by its name where that fits the schema, else from what the schema
allows. Pure: schemas in, JSON values out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

MAX_DEPTH = 8  # schemas may name themselves; below this an example is empty

THING, CHANNEL, PERSON, GROUP = (
    "6f2a1d52-6f2c-4b6a-a5a1-0a3d4be1c001",
    "2c8a5f0e-91b4-4a2d-8f3e-5b1c7d9e0a42",
    "9d3b7c1a-0f5e-4c68-b2a7-e41f60d85c33",
    "b7e0c4d2-35a9-4f1b-9c86-1d2e3f4a5b6c",
)
SECRET = "shown-once-2qWmT8rXv5yLk0pZ"
VALUES: Mapping[str, Any] = {
    "id": THING,
    "thing_id": THING,
    "device_id": THING,
    "channel_id": CHANNEL,
    "user_id": PERSON,
    "group_id": GROUP,
    "thing_ids": [THING],
    "channel_ids": [CHANNEL],
    "user_ids": [PERSON],
    "thing": THING,
    "channel": CHANNEL,
    "name": "weather station",
    "description": "on the roof of the north barn",
    "metadata": {"floor": 2},
    "email": "owner@example.org",
    "password": "a long passphrase",
    "old_password": "the passphrase before",
    "role": "technician",
    "key": SECRET,
    "token": SECRET,
    "value": SECRET,
    "secret": SECRET,
    "code": "7K3M-Q9TX",
    "response": "created",
    "types": ["publish", "subscribe"],
    "scopes": ["messages:read", "things:read"],
    "scope": "messages:read",
    "subtopic": "roof.east",
    "publisher": THING,
    "protocol": "http",
    "source_ip": "192.168.1.20",
    "content_type": "application/senml+json",
    "unit": "Cel",
    "dev_eui": "70b3d57ed00000ee",
    "join_eui": "70b3d57ed0000000",
    "dev_addr": "260b1a2c",
    "eui": "02f10f6a7e0000aa",
    "codec": "cayenne",
    "region": "EU868",
    "limit": 10,
    "offset": 0,
    "total": 1,
    "order": "name",
    "dir": "asc",
    "direction": "asc",
    "updated": 1_792_000_000.0,
    "time": 1_792_000_000.5,
    "redirect_uris": ["https://app.example.org/callback"],
    "grant_types": ["authorization_code", "refresh_token"],
    "serial": "5a1f0c77e2",
    "statements": 2,
    "freq_hz": 868_100_000,
}


# Bodies whose fields exclude each other, or mean something only together; by the schema's title.
BODIES: Mapping[str, Any] = {
    "Question": {
        "action": "publish",
        "thing": THING,
        "channel": CHANNEL,
        "subtopic": "roof.east",
        "source_ip": "192.168.1.20",
    },
    "NewThing": {"name": "weather station", "metadata": {"floor": 2}},
    "NewChannel": {"name": "field"},
    "NewKey": {},
    "Search": {"name": "station", "limit": 10},
    "Edit": {"name": "weather station", "metadata": {"floor": 3}},
    "Device": {"name": "weio", "description": "on the roof"},
    "Change": {"role": "viewer"},
}


def body_example(schema: Schema, components: Mapping[str, Schema]) -> Any:
    """What somebody might send: what is required, and where nothing is, what the table has values for."""
    while "$ref" in schema:
        schema = components[schema["$ref"].rpartition("/")[2]]
    if schema.get("type") == "array" and isinstance(schema.get("items"), Mapping):
        return [body_example(schema["items"], components)]
    properties, required = schema.get("properties"), schema.get("required", ())
    if not properties:
        return example(schema, components)
    if schema.get("title") in BODIES:
        return {name: value for name, value in BODIES[schema["title"]].items() if name in properties}
    told = {
        name: each
        for name, each in properties.items()
        if name in required or (not required and name in VALUES)
    }
    return {name: example(each, components, name, 1) for name, each in told.items()}


def example(schema: Schema, components: Mapping[str, Schema], name: str = "", depth: int = 0) -> Any:
    """A value that the schema allows, as somebody might send it or be answered; `name` is the property's.

    `components` are the schemas that `$ref` leads to, by name.
    """
    while "$ref" in schema:
        schema = components[schema["$ref"].rpartition("/")[2]]
    if "examples" in schema:
        return schema["examples"][0]
    if "const" in schema:
        return schema["const"]
    known = VALUES.get(name)
    if "enum" in schema:
        return known if known in schema["enum"] else schema["enum"][-1 if "" in schema["enum"][:1] else 0]
    for key in ("anyOf", "oneOf"):
        if key in schema:
            kinds = [each for each in schema[key] if each.get("type") != "null"]
            return example(kinds[0], components, name, depth) if kinds else None
    kind = schema.get("type", "object")
    if isinstance(kind, list):
        kind = next(each for each in kind if each != "null")
    if known is not None and _fits(known, kind, schema):
        return known
    return _made(kind, schema, components, depth)


def _fits(value: Any, kind: str, schema: Schema) -> bool:
    """Whether a value of the table is one of the schema's; without looking at what is inside an object or list."""
    match kind:
        case "string":
            return (
                isinstance(value, str)
                and re.search(schema.get("pattern", ""), value) is not None
                and "format" not in schema
                and schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
            )
        case "integer" | "number":
            fits = type(value) is int or (kind == "number" and type(value) is float)
            return fits and schema.get("minimum", value) <= value <= schema.get("maximum", value)
        case "array":
            items = schema.get("items", {})
            return isinstance(value, list) and isinstance(items, dict) and items.get("type") == "string"
        case "object":
            return (
                isinstance(value, dict)
                and "properties" not in schema
                and not isinstance(schema.get("additionalProperties"), dict)
            )
    return False


def _made(kind: str, schema: Schema, components: Mapping[str, Schema], depth: int) -> Any:
    match kind:
        case "boolean":
            return True
        case "integer" | "number":
            least = schema.get("minimum", schema.get("exclusiveMinimum", 0) + ("exclusiveMinimum" in schema))
            return max(least, min(1, schema.get("maximum", 1)))
        case "array":
            return _array(schema, components, depth)
        case "object":
            return _object(schema, components, depth)
        case "null":
            return None
    return _text(schema)


def _array(schema: Schema, components: Mapping[str, Schema], depth: int) -> list[Any]:
    if "prefixItems" in schema:
        return [example(each, components, "", depth + 1) for each in schema["prefixItems"]]
    items = schema.get("items", {})
    if depth >= MAX_DEPTH or not isinstance(items, Mapping) or not items:
        return []
    return [example(items, components, "", depth + 1)] * max(1, schema.get("minItems", 1))


def _object(schema: Schema, components: Mapping[str, Schema], depth: int) -> dict[str, Any]:
    required = schema.get("required", ())
    return {
        name: example(each, components, name, depth + 1)
        for name, each in schema.get("properties", {}).items()
        if name in required or depth < MAX_DEPTH
    }


def _text(schema: Schema) -> str:
    text = "..."
    if schema.get("format") == "date-time":
        return "2026-10-16T08:00:00Z"
    return text.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength", 1 << 20)]
