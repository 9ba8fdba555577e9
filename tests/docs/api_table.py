"""docs/requests.md: every request of the REST API, written from the route table and its OpenAPI document.

python tests/docs/api_table.py          writes the page anew
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

import gateway  # noqa: E402
from hub.http.app import ENDPOINTS  # noqa: E402
from hub.http.openapi import TAGS, document, tag, words  # noqa: E402
from hub.http.openapi_security import scope_of  # noqa: E402
from hub.http.table import Endpoint, Needs  # noqa: E402

PAGE = ROOT / "docs" / "requests.md"
WHO = {
    Needs.NOTHING: "anybody",
    Needs.ANY: "a thing or a person",
    Needs.THING: "a thing",
    Needs.MEMBER: "a member",
    Needs.SEE: "a viewer there",
    Needs.KEEP: "a technician there",
    Needs.LEAD: "an administrator there",
    Needs.USER: "a viewer",
    Needs.MANAGER: "a technician",
    Needs.ADMIN: "an administrator",
}
MAX_EXAMPLE = 160  # characters; a longer one is left to the document
MAX_ENUM = 8  # values named in a row
HEAD = """# All requests of the REST API

For integrators: what there is, who may ask, what it takes and answers. The gateway serves the same, with all of this
and for machines, as an OpenAPI 3.1 document at `/openapi.json`; [http.md](http.md) and [api.md](api.md) explain, with
examples. Who may more may this too: an administrator what a technician may, a technician what a viewer may. A member
sees and changes what the organisations he is in hold; *there* is with that role on the gateway, or in the group that
holds what the request names ([groups.md](groups.md)).

*Scope* is what an API key or an application's token needs besides. Every request that shows no credential or a wrong
one is answered 401, one that is not allowed 403, a malformed one 400, and any of them 503 where a bound is reached; the
other refusals stand with each request. All refusals are [problem documents](http.md#errors). `GET` answers carry an
`ETag` for `If-None-Match` (304), and `PUT`, `PATCH` and `DELETE` take `If-Match` (412). Bodies are JSON where nothing
else is said; fields with a * must be there.

This page is written from the route table (`python tests/docs/api_table.py`).

"""
EVERYWHERE = {"304", "400", "401", "403", "412", "413", "415", "503"}

Schema = Mapping[str, Any]


def gateway_rows() -> list[Endpoint]:
    """The rows of every class of the gateway that has `endpoints`, whatever it will be given when it is made."""
    rows: list[Endpoint] = []
    for module in pkgutil.walk_packages(gateway.__path__, "gateway."):
        if module.name.endswith("_api") or module.name.endswith(".api"):
            found = importlib.import_module(module.name)
            kinds: list[Any] = [kind for _, kind in inspect.getmembers(found, inspect.isclass)]
            for kind in kinds:
                if kind.__module__ == module.name and hasattr(kind, "endpoints"):
                    rows += kind.endpoints(kind.__new__(kind))
    return rows


def page() -> str:
    """The whole page."""
    rows = [*ENDPOINTS, *gateway_rows()]
    made = json.loads(json.dumps(document(rows, "")))
    sections: dict[str, list[Endpoint]] = {}
    for row in rows:
        sections.setdefault(_section(row), []).append(row)
    parts = [HEAD]
    for name in sorted(sections, key=_order):
        told = TAGS.get(name, "")
        parts.append(f"## {name}\n\n" + (f"{told}\n\n" if told else ""))
        parts.append("| request | who | scope | what |\n|---|---|---|---|\n")
        listed = sorted(sections[name], key=lambda row: (row.path, row.method))
        parts += [_line(row) for row in listed]
        parts += ["\n", *(_details(row, made) for row in listed)]
    parts.append("## Shapes\n\nOf bodies and answers, by name.\n\n")
    shapes = made["components"]["schemas"]
    parts += [_shape(name, shapes[name]) for name in sorted(shapes)]
    return "".join(parts).rstrip() + "\n"


def _order(name: str) -> tuple[int, str]:
    known = list(TAGS)
    first = name.split()[0]
    return (known.index(first) if first in known else len(known), name)


def _section(row: Endpoint) -> str:
    first, *rest = row.path.strip("/").split("/")
    return f"lorawan {rest[0]}" if first == "lorawan" and rest else tag(row.path)


def _line(row: Endpoint) -> str:
    scope = "" if row.needs is Needs.NOTHING else scope_of(row)
    return f"| `{row.method} {row.path}` | {WHO[row.needs]} | {scope} | {_cell(words(row)[0])} |\n"


def _details(row: Endpoint, made: Schema) -> str:
    """What a request takes and answers, as a list."""
    path = re.sub(r"{(\w+):\w+}", r"{\1}", row.path)
    operation = made["paths"][path][row.method.lower()]
    lines = [f"**{row.method} {row.path.replace(':path', '')}**\n\n"]
    told = words(row)[1]
    if told:
        lines.append(f"{told}\n\n")
    for each in operation.get("parameters", ()):
        if each.get("in") in ("query", "header"):
            kind = _kind(each["schema"])
            lines.append(f"* {each['in']} `{each['name']}`, {kind}: {each['description']}\n")
    if "requestBody" in operation:
        lines += _contents("takes", operation["requestBody"])
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            lines += _contents(f"answers {status}", answer)
    others = [
        status for status in operation["responses"] if not status.startswith("2") and status not in EVERYWHERE
    ]
    if others:
        lines.append(f"* refuses with {', '.join(others)}\n")
    return "".join([*lines, "\n"])


def _contents(verb: str, holder: Schema) -> Iterator[str]:
    """A body or an answer: its shape or type, with an example where a short one says enough."""
    headers = [f"`{name}`" for name in holder.get("headers", {}) if name != "ETag"]
    after = f" with {', '.join(headers)}" if headers else ""
    content = holder.get("content", {})
    if not content:
        yield f"* {verb}{after}\n"
    for kind, media in content.items():
        what = _kind(media["schema"]) if kind == "application/json" else f"`{kind}`"
        shown = json.dumps(media["example"], ensure_ascii=False) if "example" in media else ""
        short = (
            f", as `{shown}`" if shown and len(shown) <= MAX_EXAMPLE and shown not in ("{}", "true") else ""
        )
        yield f"* {verb}{after} {what}{short}\n"


def _shape(name: str, schema: Schema) -> str:
    parts = [f"### {name}\n\n"]
    told = schema.get("description", "")
    if told:
        parts.append(" ".join(told.split()) + "\n\n")
    if "properties" not in schema:
        return "".join([*parts, f"{_kind(schema)}\n\n"])
    if not schema["properties"]:
        return "".join([*parts, "No fields.\n\n"])
    parts.append("| field | |\n|---|---|\n")
    required = schema.get("required", ())
    for field, each in schema["properties"].items():
        star = " *" if field in required else ""
        meaning = _cell(each.get("description", ""))
        default = each.get("default")
        left_out = f"; {json.dumps(default)} if left out" if default not in (None, "", [], {}) else ""
        parts.append(
            f"| {field}{star} | {_cell(_kind(each))}{left_out}{': ' + meaning if meaning else ''} |\n"
        )
    return "".join([*parts, "\n"])


def _kind(schema: Schema) -> str:
    """A schema in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{re.sub(r'[^a-z0-9_-]', '', name.lower())})"
    if "enum" in schema:
        values = [json.dumps(each, ensure_ascii=False) for each in schema["enum"]]
        more = ", ..." if len(values) > MAX_ENUM else ""
        return f"one of {', '.join(values[:MAX_ENUM])}{more}"
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(_kind(each) for each in schema[key])
    match schema.get("type"):
        case "array":
            items = schema.get("items")
            of = f" of {_kind(items)}" if isinstance(items, dict) and items else ""
            return f"list{of}{_bounds(schema, 'minItems', 'maxItems', ' items')}"
        case "string":
            pattern = (
                f" like `{schema['pattern']}`" if "pattern" in schema and "|" not in schema["pattern"] else ""
            )
            return f"text{_bounds(schema, 'minLength', 'maxLength', ' characters')}{pattern}"
        case "integer" | "number":
            word = "whole number" if schema["type"] == "integer" else "number"
            return f"{word}{_bounds(schema, 'minimum', 'maximum', '')}"
        case "boolean":
            return "true or false"
        case "null":
            return "null"
        case "object":
            inner = schema.get("additionalProperties")
            return f"object of {_kind(inner)}" if isinstance(inner, dict) and inner else "object"
    return "any JSON"


def _bounds(schema: Schema, least: str, most: str, unit: str) -> str:
    low, high = schema.get(least), schema.get(most)
    if low is None and high is None:
        return ""
    if low is None:
        return f", at most {high}{unit}"
    return f", at least {low}{unit}" if high is None else f", {low} to {high}{unit}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
