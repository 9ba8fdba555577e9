"""`fluxgate keys`: API keys, of one's own and of things."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from gateway.rest.client import Api, given
from gateway.rest.common import (
    JsonOption,
    LimitOption,
    OffsetOption,
    SecretFileOption,
    api,
    command,
    seconds,
)
from gateway.rest.naming import NAMED, completion, only, part, person, resolved
from gateway.rest.output import Column, show, show_one, show_secret

keys = typer.Typer(
    help="API keys: for scripts and programs that act for a person or a thing.", no_args_is_help=True
)

COLUMNS = tuple(
    Column(heading, key)
    for heading, key in (
        ("ID", "id"),
        ("NAME", "name"),
        ("SCOPES", "scopes"),
        ("ISSUED", "issued_at"),
        ("EXPIRES", "expires_at"),
        ("USED", "used_at"),
    )
)
NOUNS = (
    "messages",
    "things",
    "channels",
    "groups",
    "users",
    "policies",
    "keys",
    "certs",
    "applications",
    "audit",
    "gateway",
)
SCOPES = tuple(f"{noun}:{verb}" for noun in NOUNS for verb in ("read", "write"))
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
KeyArgument = Annotated[
    str, typer.Argument(metavar="KEY", help=NAMED, autocompletion=completion("/keys", "keys"))
]
ThingOption = Annotated[
    str, typer.Option("--thing", metavar="THING", help=f"A thing's keys, not yours. {NAMED}")
]


@command(keys, "list")
def list_keys(
    thing: ThingOption = "",
    user: Annotated[str, typer.Option(metavar="USER", help="Somebody's keys, for administrators.")] = "",
    limit: LimitOption = 100,
    offset: OffsetOption = 0,
    as_json: JsonOption = False,
) -> None:
    """List API keys, your own if nobody is named; never with their values."""
    with api() as found:
        whose = {
            "thing_id": resolved(found, "thing", thing) if thing else "",
            "user_id": person(found, user) if user else "",
        }
        items, total = found.every("/keys", "keys", limit=limit, offset=offset, **whose)
        show(items, COLUMNS, as_json=as_json, total=total)


@command(keys, "create")
def create_key(
    name: str,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="What it is good for, such as things:read; repeat it.", autocompletion=lambda: SCOPES
        ),
    ] = None,
    expires: Annotated[
        str, typer.Option(metavar="SPAN", help="For how long, such as 90d; for ever if left out.")
    ] = "",
    thing: Annotated[str, typer.Option(metavar="THING", help=f"For a thing, not for you. {NAMED}")] = "",
    key_file: SecretFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an API key; its value is shown this once. Without --scope it may everything that its owner may."""
    body = given({"name": name, "scopes": list(scope) if scope else None})
    if expires:
        body["duration"] = seconds(expires, "--expires")
    with api() as found:
        if thing:
            body["thing_id"] = resolved(found, "thing", thing)
        show_secret(found.send("POST", "/keys", body), "value", key_file, as_json=as_json)


@command(keys, "show")
def show_key(key: KeyArgument, thing: ThingOption = "", as_json: JsonOption = False) -> None:
    """Show an API key, without its value."""
    with api() as found:
        show_one(found.get(f"/keys/{_key(found, key, thing)}"), as_json=as_json)


@command(keys, "rotate")
def rotate_key(
    key: KeyArgument,
    thing: ThingOption = "",
    overlap: Annotated[
        str, typer.Option(metavar="SPAN", help="For how long the old value works on, such as 1h.")
    ] = "",
    key_file: SecretFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give an API key a new value, shown this once."""
    body = {"overlap_s": seconds(overlap, "--overlap")} if overlap else {}
    with api() as found:
        answer = found.send("POST", f"/keys/{_key(found, key, thing)}/rotate", body)
        show_secret(answer, "value", key_file, as_json=as_json)


@command(keys, "delete")
def delete_key(key: KeyArgument, thing: ThingOption = "") -> None:
    """Remove an API key; what uses it is cut off at once."""
    with api() as found:
        found.send("DELETE", f"/keys/{_key(found, key, thing)}")


def _key(found: Api, text: str, thing: str) -> str:
    """The id of a key named by it or by its name among one's own, or the thing's. Raises ApiError."""
    if not thing and _ID.fullmatch(text):  # of whomever; the gateway says whether it is the caller's to see
        return text
    whose = resolved(found, "thing", thing) if thing else ""
    return part(only(found.every("/keys", "keys", thing_id=whose)[0], "key", text))
