"""docs/requests.md: every request of the REST API, written from the route table.

python tests/docs/api_table.py          writes the page anew
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from pathlib import Path
from typing import get_origin

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

import gateway  # noqa: E402
from hub.http.app import ENDPOINTS  # noqa: E402
from hub.http.openapi import _words  # noqa: E402
from hub.http.table import Endpoint, Media, Needs  # noqa: E402

PAGE = ROOT / "docs" / "requests.md"
WHO = {
    Needs.NOTHING: "anybody",
    Needs.ANY: "a thing or a person",
    Needs.THING: "a thing",
    Needs.USER: "a viewer",
    Needs.MANAGER: "a technician",
    Needs.ADMIN: "an administrator",
}
HEAD = """# All requests of the REST API

For integrators: what there is, who may ask, what it takes and answers. The gateway serves the same with every field as
an OpenAPI 3.1 document at `/openapi.json`; [http.md](http.md) and [api.md](api.md) explain, with examples. Who may
more may this too: an administrator what a technician may, a technician what a viewer may.

This page is written from the route table (`python tests/docs/api_table.py`).

"""


def gateway_rows() -> list[Endpoint]:
    """The rows of every class of the gateway that has `endpoints`, whatever it will be given when it is made."""
    rows: list[Endpoint] = []
    for module in pkgutil.walk_packages(gateway.__path__, "gateway."):
        if module.name.endswith("_api") or module.name.endswith(".api"):
            found = importlib.import_module(module.name)
            for _, kind in inspect.getmembers(found, inspect.isclass):
                if kind.__module__ == module.name and hasattr(kind, "endpoints"):
                    rows += kind.endpoints(kind.__new__(kind))
    return rows


def page() -> str:
    """The whole page."""
    rows = [*ENDPOINTS, *gateway_rows()]
    sections: dict[str, list[Endpoint]] = {}
    for row in rows:
        sections.setdefault(_section(row), []).append(row)
    parts = [HEAD]
    for name in sorted(sections):
        parts.append(f"## {name}\n\n| request | who | what | takes | answers |\n|---|---|---|---|---|\n")
        parts += [f"{_line(row)}\n" for row in sorted(sections[name], key=lambda row: (row.path, row.method))]
        parts.append("\n")
    return "".join(parts).rstrip() + "\n"


def _section(row: Endpoint) -> str:
    first, *rest = row.path.strip("/").split("/")
    if "messages" in rest or "msg" in rest:
        return "messages"
    return f"lorawan {rest[0]}" if first == "lorawan" and rest else first.removesuffix(".json")


def _line(row: Endpoint) -> str:
    takes = ", ".join(
        ([_type(row.body)] if row.body is not None else []) + [f"`{one.name}`" for one in row.parameters]
    )
    answers = ", ".join(
        str(status) if kind is None else f"{status} {_type(kind)}" for status, kind in row.answers.items()
    )
    refuses = ", ".join(map(str, row.refuses))
    answers += f"; {refuses}" if refuses else ""
    summary = _words(row)[0].replace("|", "\\|")
    return f"| `{row.method} {row.path}` | {WHO[row.needs]} | {summary} | {takes} | {answers} |"


def _type(kind: object) -> str:
    if isinstance(kind, Media):
        return ", ".join(kind.types)
    if get_origin(kind) is list:
        return "a list"
    if isinstance(kind, type) and get_origin(kind) is None and kind.__module__ != "builtins":
        return kind.__name__
    return "JSON"


if __name__ == "__main__":
    PAGE.write_text(page())
