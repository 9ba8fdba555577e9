"""`fluxgate groups`: organisations, the groups below them, and who and what is in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from gateway.rest.client import USAGE, Api, ApiError, given
from gateway.rest.common import (
    JsonOption,
    LimitOption,
    MetadataOption,
    NameOption,
    OffsetOption,
    api,
    command,
    metadata_of,
)
from gateway.rest.naming import NAMED, completion, person, resolved
from gateway.rest.output import Column, show, show_one

groups = typer.Typer(
    help="Organisations: who works together on which things and channels.", no_args_is_help=True
)

_GROUPS = completion("/groups?limit=100", "groups")
ROLES = ("viewer", "technician", "admin")
GroupArgument = Annotated[str, typer.Argument(metavar="GROUP", help=NAMED, autocompletion=_GROUPS)]
ParentOption = Annotated[
    str,
    typer.Option(
        metavar="GROUP", help="The group above it; none for an organisation.", autocompletion=_GROUPS
    ),
]
DescriptionOption = Annotated[str, typer.Option(help="What it is, in words.")]
UserOption = Annotated[list[str] | None, typer.Option("--user", help="Id or e-mail address; repeat it.")]
ThingsOption = Annotated[list[str] | None, typer.Option("--thing", help=f"{NAMED} Repeat it.")]
ChannelsOption = Annotated[list[str] | None, typer.Option("--channel", help=f"{NAMED} Repeat it.")]


@command(groups, "list")
def list_groups(
    name: NameOption = "", limit: LimitOption = 100, offset: OffsetOption = 0, as_json: JsonOption = False
) -> None:
    """List the groups that you reach, each after the one above it."""
    with api() as found:
        items, total = found.every("/groups", "groups", limit=limit, offset=offset, name=name)
        if as_json:
            show(items, (), as_json=True)
            return
        known = {each["id"]: each["name"] for each in items}
        rows = [{**each, "parent": known.get(each["parent_id"], each["parent_id"])} for each in items]
        columns = [
            Column(key.upper(), key) for key in ("id", "name", "parent", "role", "members", "description")
        ]
        show(rows, columns, as_json=False, total=total)


@command(groups, "create")
def create_group(
    name: str,
    parent: ParentOption = "",
    description: DescriptionOption = "",
    metadata: MetadataOption = "",
    as_json: JsonOption = False,
) -> None:
    """Add an organisation, or a group below another."""
    with api() as found:
        body = given({"name": name, "description": description, "metadata": metadata_of(metadata)})
        if parent:
            body["parent_id"] = resolved(found, "group", parent)
        show_one(found.send("POST", "/groups", body), as_json=as_json)


@command(groups, "show")
def show_group(group: GroupArgument, as_json: JsonOption = False) -> None:
    """Show a group."""
    with api() as found:
        show_one(found.get(f"/groups/{resolved(found, 'group', group)}"), as_json=as_json)


@command(groups, "update")
def update_group(
    group: GroupArgument,
    name: Annotated[str, typer.Option(help="Another name.")] = "",
    parent: ParentOption = "",
    description: DescriptionOption = "",
    metadata: MetadataOption = "",
    as_json: JsonOption = False,
) -> None:
    """Give a group another name, place, description or metadata; what is left out stays."""
    body = given({"name": name, "description": description, "metadata": metadata_of(metadata)})
    with api() as found:
        if parent:
            body["parent_id"] = resolved(found, "group", parent)
        if not body:
            raise ApiError("nothing to change: give --name, --parent, --description or --metadata", USAGE)
        show_one(found.send("PUT", f"/groups/{resolved(found, 'group', group)}", body), as_json=as_json)


@command(groups, "delete")
def delete_group(group: GroupArgument) -> None:
    """Remove a group; who and what was in it stays."""
    with api() as found:
        found.send("DELETE", f"/groups/{resolved(found, 'group', group)}")


@command(groups, "members")
def members(
    group: GroupArgument, limit: LimitOption = 100, offset: OffsetOption = 0, as_json: JsonOption = False
) -> None:
    """List the people, things and channels of a group."""
    with api() as found:
        path = f"/groups/{resolved(found, 'group', group)}/members"
        items, total = found.every(path, "items", limit=limit, offset=offset)
        columns = [Column(key.upper(), key) for key in ("type", "id", "name", "role")]
        show(items, columns, as_json=as_json, total=total)


@command(groups, "add")
def add(
    group: GroupArgument,
    user: UserOption = None,
    thing: ThingsOption = None,
    channel: ChannelsOption = None,
    role: Annotated[
        str,
        typer.Option(help="Of the people, there: viewer, technician or admin.", autocompletion=lambda: ROLES),
    ] = "viewer",
) -> None:
    """Put people, things and channels into a group; a person who is there gets the role."""
    with api() as found:
        path = f"/groups/{resolved(found, 'group', group)}/members"
        for kind, ids in _named(found, user, thing, channel):
            found.send("POST", path, {"type": kind, "members": ids, "role": role})


@command(groups, "remove")
def remove(
    group: GroupArgument, user: UserOption = None, thing: ThingsOption = None, channel: ChannelsOption = None
) -> None:
    """Take people, things and channels out of a group."""
    with api() as found:
        path = f"/groups/{resolved(found, 'group', group)}/members"
        for kind, ids in _named(found, user, thing, channel):
            found.send("DELETE", path, {"type": kind, "members": ids})


def _named(
    found: Api, users: Sequence[str] | None, things: Sequence[str] | None, channels: Sequence[str] | None
) -> list[tuple[str, list[str]]]:
    """Who and what is named, as ids by kind. Raises ApiError before anything is changed."""
    named: list[tuple[str, list[Any]]] = [
        # A group's technician cannot list all people; the gateway takes e-mail addresses as they stand.
        ("users", [each if "@" in each else person(found, each) for each in users or ()]),
        ("things", [resolved(found, "thing", each) for each in things or ()]),
        ("channels", [resolved(found, "channel", each) for each in channels or ()]),
    ]
    given_ones = [(kind, ids) for kind, ids in named if ids]
    if not given_ones:
        raise ApiError("name whom or what: --user, --thing or --channel", USAGE)
    return given_ones
