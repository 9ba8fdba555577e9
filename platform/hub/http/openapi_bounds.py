"""Bounds that the registry holds bodies to and that their structs do not say, for the OpenAPI document.

A struct that said them would refuse in a parser's words; the registry says what is wrong in people's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hub.groups import MAX_DESCRIPTION
from hub.http.connections import MAX_PAIRS
from hub.passwords import MAX_LENGTH, MIN_LENGTH
from hub.registry_items import MAX_KEY, MAX_NAME, MIN_KEY
from hub.tokens.scopes import MAX_SCOPES

Schema = dict[str, Any]

ID: Schema = {"minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9_-]+$"}
EMAIL: Schema = {"minLength": 3, "maxLength": 254, "pattern": "^[^@\\s]+@[^@\\s]+$"}
PASSWORD: Schema = {"minLength": MIN_LENGTH, "maxLength": MAX_LENGTH}
_NAME: Schema = {"maxLength": MAX_NAME}
_TEXT: Schema = {"maxLength": MAX_DESCRIPTION}
_IDS: Schema = {"minItems": 1, "maxItems": MAX_PAIRS}
_SCOPES: Schema = {"maxItems": MAX_SCOPES}

# By the title of a schema and the name of a field.
BOUNDS: Mapping[str, Mapping[str, Schema]] = {
    "NewThing": {"name": _NAME, "id": ID, "key": {"minLength": MIN_KEY, "maxLength": MAX_KEY}},
    "NewChannel": {"name": _NAME, "id": ID},
    "Edit": {"name": _NAME},
    "NewKey": {"key": {"minLength": MIN_KEY, "maxLength": MAX_KEY}, "scopes": _SCOPES},
    "NewGroup": {"name": _NAME, "description": _TEXT, "id": ID},
    "GroupEdit": {"name": _NAME, "description": _TEXT},
    "NewApplication": {"name": _NAME, "id": ID, "scopes": _SCOPES},
    "ApplicationEdit": {"name": _NAME, "scopes": _SCOPES},
    "NewUser": {"email": EMAIL, "password": PASSWORD},
    "Claim": {"email": EMAIL, "password": PASSWORD},
    "NewPassword": {"password": PASSWORD},
    "Pairs": {"channel_ids": _IDS, "thing_ids": _IDS, "types": {"minItems": 1}},
}


def bound(components: Mapping[str, Schema]) -> None:
    """Write the bounds into the schemas of a document."""
    for schema in components.values():
        for field, bounds in BOUNDS.get(schema.get("title", ""), {}).items():
            found = schema.get("properties", {}).get(field)
            if found is None or "$ref" in found:
                continue
            for kind in found.get("anyOf", [found]):
                if kind.get("type") in ("string", "array") and kind["type"] == _type_of(bounds):
                    kind.update(bounds)


def _type_of(bounds: Schema) -> str:
    return "array" if "maxItems" in bounds or "minItems" in bounds else "string"
