"""What things and channels have in common on a command line."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.rest.client import USAGE, ApiError, given
from gateway.rest.common import api, metadata_of, note, read_file
from gateway.rest.kept import write_secret
from gateway.rest.naming import resolved
from gateway.rest.output import Column, show, show_one

COLUMNS = (Column("ID", "id"), Column("NAME", "name"), Column("METADATA", "metadata"))
BULK = 1000  # items of one request: the gateway takes no more
_FIELDS = {"thing": {"name", "id", "key", "metadata"}, "channel": {"name", "id", "metadata"}}

IdOption = Annotated[str, typer.Option("--id", help="An id of your own; made by the gateway if left out.")]
OrderOption = Annotated[str, typer.Option(help="Sorted by name or id; as they were made if left out.")]
DescendingOption = Annotated[bool, typer.Option("--descending", help="The other way round.")]
PublishOption = Annotated[bool, typer.Option("--publish", help="For publishing only.")]
SubscribeOption = Annotated[bool, typer.Option("--subscribe", help="For reading only.")]
BulkFile = Annotated[Path, typer.Argument(metavar="FILE", help="JSON or CSV; - reads standard input.")]


def list_items(
    noun: str,
    name: str,
    metadata: str,
    order: str,
    descending: bool,
    limit: int,
    offset: int,
    as_json: bool,
) -> None:
    """Show a page, or all, of what fits."""
    contained = metadata_of(metadata)
    wanted = {
        "name": name,
        "metadata": json.dumps(contained) if contained is not None else "",
        "order": order,
        "dir": "desc" if descending else "",
    }
    with api() as found:
        items, total = found.every(f"/{noun}s", f"{noun}s", limit=limit, offset=offset, **wanted)
        show(items, COLUMNS, as_json=as_json, total=total)


def new_item(name: str, metadata: str, item_id: str) -> dict[str, Any]:
    """What is asked for when one is made. Raises ApiError."""
    return given({"name": name, "metadata": metadata_of(metadata), "id": item_id})


def update(noun: str, text: str, name: str, metadata: str, as_json: bool) -> None:
    """Change what is named. Raises ApiError."""
    body = given({"name": name, "metadata": metadata_of(metadata)})
    if not body:
        raise ApiError("nothing to change: give --name or --metadata", USAGE)
    with api() as found:
        show_one(found.send("PUT", f"/{noun}s/{resolved(found, noun, text)}", body), as_json=as_json)


def delete(noun: str, texts: Sequence[str]) -> None:
    """Remove each; where one is not there, none is removed. Raises ApiError."""
    with api() as found:
        for item_id in [resolved(found, noun, each) for each in texts]:
            found.send("DELETE", f"/{noun}s/{item_id}")


def join(
    method: str, path: str, channels: Sequence[str], things: Sequence[str], publish: bool, subscribe: bool
) -> None:
    """Connect or disconnect each thing and each channel, all or none. Raises ApiError."""
    types = [right for right, wanted in (("publish", publish), ("subscribe", subscribe)) if wanted]
    with api() as found:
        pair = {
            "channel_ids": [resolved(found, "channel", each) for each in channels],
            "thing_ids": [resolved(found, "thing", each) for each in things],
            **({"types": types} if types else {}),
        }
        found.send(method, path, pair)


def bulk(noun: str, file: Path, keys_file: Path | None, as_json: bool) -> None:
    """Make all of a file, or none. Raises ApiError."""
    items = bulk_items(noun, read_file(file).decode("utf-8-sig", "replace"), str(file))
    with api() as found:
        made = found.send("POST", f"/{noun}s/bulk", items)[f"{noun}s"]
    if keys_file is not None:
        rows = io.StringIO()
        writer = csv.writer(rows)
        writer.writerow(("id", "name", "key"))
        writer.writerows((each["id"], each["name"], each["key"]) for each in made)
        write_secret(keys_file, rows.getvalue())
        made = [{key: value for key, value in each.items() if key != "key"} for each in made]
        note(f"the keys are in {keys_file}")
    columns = (*COLUMNS, Column("KEY", "key")) if made and "key" in made[0] else COLUMNS
    show(made, columns, as_json=as_json)


def bulk_items(noun: str, text: str, name: str) -> list[dict[str, Any]]:
    """What a file of many says, JSON or CSV. Raises ApiError naming the line."""
    try:
        items = json.loads(text) if text.lstrip().startswith("[") else list(_rows(noun, text, name))
    except ValueError as error:
        raise ApiError(f"{name}: {error}", USAGE) from None
    if not isinstance(items, list) or not items or not all(isinstance(each, dict) for each in items):
        raise ApiError(f"{name} holds no {noun}s: a JSON array of objects, or CSV with a column name", USAGE)
    if len(items) > BULK:
        raise ApiError(f"{name} holds {len(items)} {noun}s; at most {BULK} are made in one go", USAGE)
    return items


def _rows(noun: str, text: str, name: str) -> list[dict[str, Any]]:
    table = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    items = []
    try:
        if "name" not in (table.fieldnames or ()) or set(table.fieldnames or ()) - _FIELDS[noun]:
            known = ", ".join(sorted(_FIELDS[noun]))
            raise ApiError(f"{name}, line 1: the columns are of {known}, and name is one of them", USAGE)
        for row in table:
            filled = {key: value for key, value in row.items() if value and isinstance(key, str)}
            item: dict[str, Any] = {**filled}
            if "metadata" in filled:
                item["metadata"] = metadata_of(filled["metadata"], f"{name}, line {table.line_num}: metadata")
            items.append(item)
    except csv.Error as error:
        raise ApiError(f"{name}, line {table.line_num}: {error}", USAGE) from None
    return items


def secret_line() -> str:
    """A secret from standard input. Raises ApiError where there is none."""
    line = sys.stdin.readline().strip()
    if not line:
        raise ApiError("standard input is empty, where the secret should come from", USAGE)
    return line
