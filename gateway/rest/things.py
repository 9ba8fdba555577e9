"""`fluxgate things`: what publishes and listens."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.rest import entities
from gateway.rest.common import (
    JsonOption,
    LimitOption,
    MetadataOption,
    NameOption,
    OffsetOption,
    SecretFileOption,
    api,
    command,
)
from gateway.rest.entities import (
    BulkFile,
    DescendingOption,
    IdOption,
    OrderOption,
    PublishOption,
    SubscribeOption,
)
from gateway.rest.naming import ChannelsArgument, ThingArgument, ThingsArgument, resolved
from gateway.rest.output import show_one, show_secret

things = typer.Typer(help="Things: whatever publishes or listens.", no_args_is_help=True)

KeyStdinOption = Annotated[
    bool, typer.Option("--key-stdin", help="Read a key of your own from standard input.")
]


@command(things, "list")
def list_things(
    name: NameOption = "",
    metadata: Annotated[str, typer.Option(help="A JSON object that theirs contains.")] = "",
    order: OrderOption = "",
    descending: DescendingOption = False,
    limit: LimitOption = 100,
    offset: OffsetOption = 0,
    as_json: JsonOption = False,
) -> None:
    """List things, or search for them."""
    entities.list_items("thing", name, metadata, order, descending, limit, offset, as_json)


@command(things, "create")
def create_thing(
    name: str,
    metadata: MetadataOption = "",
    thing_id: IdOption = "",
    key_stdin: KeyStdinOption = False,
    key_file: SecretFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a thing; its key is shown this once."""
    body = entities.new_item(name, metadata, thing_id)
    if key_stdin:
        body["key"] = entities.secret_line()
    with api() as found:
        show_secret(found.send("POST", "/things", body), "key", key_file, as_json=as_json)


@command(things, "bulk")
def create_things(file: BulkFile, keys_file: SecretFileOption = None, as_json: JsonOption = False) -> None:
    """Add many things at once, all or none: a JSON array, or CSV with the columns name, id, key, metadata."""
    entities.bulk("thing", file, keys_file, as_json)


@command(things, "show")
def show_thing(thing: ThingArgument, as_json: JsonOption = False) -> None:
    """Show a thing and the channels it is connected to."""
    with api() as found:
        thing_id = resolved(found, "thing", thing)
        shown = found.get(f"/things/{thing_id}")
        related, _ = found.every(f"/things/{thing_id}/channels", "channels")
        show_one({**shown, "channels": [channel["id"] for channel in related]}, as_json=as_json)


@command(things, "update")
def update_thing(
    thing: ThingArgument,
    name: Annotated[str, typer.Option(help="Another name.")] = "",
    metadata: MetadataOption = "",
    as_json: JsonOption = False,
) -> None:
    """Give a thing another name or metadata; what is left out stays."""
    entities.update("thing", thing, name, metadata, as_json)


@command(things, "rename")
def rename_thing(thing: ThingArgument, name: str) -> None:
    """Give a thing another name."""
    with api() as found:
        found.send("PUT", f"/things/{resolved(found, 'thing', thing)}", {"name": name})


@command(things, "rekey")
def rekey_thing(
    thing: ThingArgument,
    key_stdin: KeyStdinOption = False,
    key_file: SecretFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a thing a new key, shown this once; what uses the old one is cut off."""
    body = {"key": entities.secret_line()} if key_stdin else {}
    with api() as found:
        answer = found.send("PATCH", f"/things/{resolved(found, 'thing', thing)}/key", body)
        show_secret(answer, "key", key_file, as_json=as_json)


@command(things, "connect")
def connect(
    thing: ThingArgument,
    channel: ChannelsArgument,
    publish: PublishOption = False,
    subscribe: SubscribeOption = False,
) -> None:
    """Let a thing use channels: to publish, to read, or without an option both."""
    entities.join("POST", "/connect", channel, [thing], publish, subscribe)


@command(things, "disconnect")
def disconnect(
    thing: ThingArgument,
    channel: ChannelsArgument,
    publish: PublishOption = False,
    subscribe: SubscribeOption = False,
) -> None:
    """Keep a thing from channels; its live sessions lose them at once."""
    entities.join("PUT", "/disconnect", channel, [thing], publish, subscribe)


@command(things, "delete")
def delete_things(thing: ThingsArgument) -> None:
    """Remove things and their connections."""
    entities.delete("thing", thing)
