"""What the commands share: options, tables, ids that may be names, and how they end."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table

from gateway.cli_common import DEFAULT_CONFIG, load
from gateway.rest.client import USAGE, Api, ApiError, Tokens
from gateway.settings import HttpSection

URL, TOKEN = "FLUXGATE_URL", "FLUXGATE_TOKEN"

UrlOption = Annotated[
    str,
    typer.Option(
        "--url",
        envvar=URL,
        help="Address of the gateway's API; this machine's by default.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON in place of a table.")]
LimitOption = Annotated[int, typer.Option(min=1, max=100, help="Items at most.")]
OffsetOption = Annotated[int, typer.Option(min=0, help="Items to pass over.")]
NameOption = Annotated[str, typer.Option(help="A part of the name.")]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: its heading, and where its value stands."""

    heading: str
    key: str


def address(url: str) -> str:
    """Where the API is: as given, or as this machine's settings say."""
    if url:
        return url.rstrip("/") if "://" in url else f"http://{url}".rstrip("/")
    # A technician's own account need not read the settings, which hold upstream passwords.
    http = load(None).http if os.access(DEFAULT_CONFIG, os.R_OK) else HttpSection()
    host = "127.0.0.1" if http.host in ("", "0.0.0.0", "::") else http.host
    return f"http://{host}:{http.port}"


@contextlib.contextmanager
def api(url: str, *, signed_in: bool = True) -> Iterator[Api]:
    """The API as the person who has signed in; what it raises ends the command with a sentence."""
    where = address(url)
    token = (os.environ.get(TOKEN) or Tokens().get(where)) if signed_in else ""
    try:
        with Api(where, token) as found:
            yield found
    except ApiError as error:
        end(str(error), error.status)


def end(message: str, status: int) -> NoReturn:
    """End the command, saying why."""
    print(f"fluxgate: {message}", file=sys.stderr)  # noqa: T201
    raise SystemExit(status)


def show(value: Any, columns: Sequence[Column], *, as_json: bool) -> None:
    """A list of objects as a table, or as JSON."""
    if as_json:
        typer.echo(json.dumps(value, indent=2))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.heading, overflow="fold")
    for item in value:
        table.add_row(*(_cell(item.get(column.key)) for column in columns))
    # A pipe is no terminal of 80 columns: nothing is folded there.
    width = None if sys.stdout.isatty() else 10_000
    Console(highlight=False, width=width).print(table)


def show_one(value: Mapping[str, Any], *, as_json: bool) -> None:
    """One object, a line for each of its values, or as JSON."""
    if as_json:
        typer.echo(json.dumps(value, indent=2))
        return
    widest = max((len(key) for key in value), default=0)
    for key, each in value.items():
        typer.echo(f"{key:<{widest}}  {_cell(each)}")


def resolved(found: Api, noun: str, text: str) -> str:
    """The id of a thing or channel named by its id or, where only one has it, by its name. Raises ApiError."""
    try:
        return str(found.get(f"/{noun}s/{quote(text, safe='')}")["id"])
    except ApiError as error:
        if error.http_status not in (400, 404):
            raise
    page = found.get(f"/{noun}s", name=text, limit=100)
    exact = [item["id"] for item in page[f"{noun}s"] if item["name"] == text]
    if len(exact) == 1:
        return str(exact[0])
    many = (
        f"{len(exact)} {noun}s have the name {text!r}: take an id"
        if exact
        else f"there is no {noun} {text!r}"
    )
    raise ApiError(many)


def metadata_of(text: str) -> dict[str, Any] | None:
    """JSON that was typed as metadata; None for nothing."""
    if not text:
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        end(f"--metadata is no JSON: {error}", USAGE)
    if not isinstance(found, dict):
        end("--metadata is a JSON object, such as '{\"floor\": 2}'", USAGE)
    return found


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
