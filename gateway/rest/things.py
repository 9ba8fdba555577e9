"""`fluxgate things` and `fluxgate channels`: what publishes, where messages meet, and what is connected to what."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.rest.client import Api
from gateway.rest.common import (
    Column,
    JsonOption,
    LimitOption,
    NameOption,
    OffsetOption,
    UrlOption,
    api,
    metadata_of,
    resolved,
    show,
    show_one,
)

things = typer.Typer(help="Things: whatever publishes or listens.", no_args_is_help=True)
channels = typer.Typer(help="Channels, and what is connected to them.", no_args_is_help=True)

_COLUMNS = (Column("ID", "id"), Column("NAME", "name"), Column("METADATA", "metadata"))
ThingArgument = Annotated[
    str, typer.Argument(metavar="THING", help="Its id, or its name where no other has it.")
]
ChannelArgument = Annotated[
    str, typer.Argument(metavar="CHANNEL", help="Its id, or its name where no other has it.")
]
MetadataOption = Annotated[str, typer.Option(help="A JSON object.")]
IdOption = Annotated[str, typer.Option("--id", help="An id of your own; made by the gateway if left out.")]


@things.command("list")
def list_things(
    name: NameOption = "",
    limit: LimitOption = 100,
    offset: OffsetOption = 0,
    as_json: JsonOption = False,
    url: UrlOption = "",
) -> None:
    """List things."""
    with api(url) as found:
        show(_listed(found, "thing", name, limit, offset), _COLUMNS, as_json=as_json)


@things.command("create")
def create_thing(
    name: str,
    metadata: MetadataOption = "",
    thing_id: IdOption = "",
    as_json: JsonOption = False,
    url: UrlOption = "",
) -> None:
    """Add a thing; its key is shown this once."""
    _create("thing", name, metadata, thing_id, as_json, url)


@things.command("show")
def show_thing(thing: ThingArgument, as_json: JsonOption = False, url: UrlOption = "") -> None:
    """Show a thing and the channels it is connected to."""
    with api(url) as found:
        thing_id = resolved(found, "thing", thing)
        shown = found.get(f"/things/{thing_id}")
        related = found.get(f"/things/{thing_id}/channels", limit=100)["channels"]
        show_one({**shown, "channels": [channel["id"] for channel in related]}, as_json=as_json)


@things.command("rename")
def rename_thing(thing: ThingArgument, name: str, url: UrlOption = "") -> None:
    """Give a thing another name."""
    with api(url) as found:
        found.send("PUT", f"/things/{resolved(found, 'thing', thing)}", {"name": name})


@things.command("rekey")
def rekey_thing(thing: ThingArgument, as_json: JsonOption = False, url: UrlOption = "") -> None:
    """Give a thing a new key, shown this once; what uses the old one is cut off."""
    with api(url) as found:
        answer = found.send("PATCH", f"/things/{resolved(found, 'thing', thing)}/key", {})
        show_one(answer, as_json=as_json)


@things.command("delete")
def delete_things(
    thing: Annotated[list[str], typer.Argument(metavar="THING...")], url: UrlOption = ""
) -> None:
    """Remove things and their connections."""
    with api(url) as found:
        for each in thing:
            found.send("DELETE", f"/things/{resolved(found, 'thing', each)}")


@channels.command("list")
def list_channels(
    name: NameOption = "",
    limit: LimitOption = 100,
    offset: OffsetOption = 0,
    as_json: JsonOption = False,
    url: UrlOption = "",
) -> None:
    """List channels."""
    with api(url) as found:
        show(_listed(found, "channel", name, limit, offset), _COLUMNS, as_json=as_json)


@channels.command("create")
def create_channel(
    name: str,
    metadata: MetadataOption = "",
    channel_id: IdOption = "",
    as_json: JsonOption = False,
    url: UrlOption = "",
) -> None:
    """Add a channel."""
    _create("channel", name, metadata, channel_id, as_json, url)


@channels.command("show")
def show_channel(channel: ChannelArgument, as_json: JsonOption = False, url: UrlOption = "") -> None:
    """Show a channel and the things connected to it."""
    with api(url) as found:
        channel_id = resolved(found, "channel", channel)
        shown = found.get(f"/channels/{channel_id}")
        related = found.get(f"/channels/{channel_id}/things", limit=100)["things"]
        show_one({**shown, "things": [thing["id"] for thing in related]}, as_json=as_json)


@channels.command("connect")
def connect(
    channel: ChannelArgument,
    thing: ThingArgument,
    publish: Annotated[bool, typer.Option("--publish", help="For publishing only.")] = False,
    subscribe: Annotated[bool, typer.Option("--subscribe", help="For reading only.")] = False,
    url: UrlOption = "",
) -> None:
    """Let a thing use a channel: to publish, to read, or without an option both."""
    _join("POST", "/connect", channel, thing, (publish, subscribe), url)


@channels.command("disconnect")
def disconnect(
    channel: ChannelArgument,
    thing: ThingArgument,
    publish: Annotated[bool, typer.Option("--publish", help="From publishing only.")] = False,
    subscribe: Annotated[bool, typer.Option("--subscribe", help="From reading only.")] = False,
    url: UrlOption = "",
) -> None:
    """Keep a thing from a channel; its live sessions lose it at once."""
    _join("PUT", "/disconnect", channel, thing, (publish, subscribe), url)


@channels.command("delete")
def delete_channels(
    channel: Annotated[list[str], typer.Argument(metavar="CHANNEL...")], url: UrlOption = ""
) -> None:
    """Remove channels; their messages stay until retention takes them."""
    with api(url) as found:
        for each in channel:
            found.send("DELETE", f"/channels/{resolved(found, 'channel', each)}")


def _listed(found: Api, noun: str, name: str, limit: int, offset: int) -> Any:
    return found.get(f"/{noun}s", name=name, limit=limit, offset=offset)[f"{noun}s"]


def _create(noun: str, name: str, metadata: str, item_id: str, as_json: bool, url: str) -> None:
    body = {"name": name, "metadata": metadata_of(metadata), "id": item_id or None}
    with api(url) as found:
        made = found.send(
            "POST", f"/{noun}s", {key: value for key, value in body.items() if value is not None}
        )
        show_one(made, as_json=as_json)


def _join(method: str, path: str, channel: str, thing: str, only: tuple[bool, bool], url: str) -> None:
    types = [right for right, wanted in zip(("publish", "subscribe"), only, strict=True) if wanted]
    with api(url) as found:
        pair = {
            "channel_ids": [resolved(found, "channel", channel)],
            "thing_ids": [resolved(found, "thing", thing)],
            **({"types": types} if types else {}),
        }
        found.send(method, path, pair)
