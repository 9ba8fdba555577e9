"""`fluxgate channels`: where messages meet, and what is connected to them."""

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
from gateway.rest.naming import ChannelArgument, ChannelsArgument, ThingsArgument, resolved
from gateway.rest.output import show_one

channels = typer.Typer(help="Channels, and what is connected to them.", no_args_is_help=True)


@command(channels, "list")
def list_channels(
    name: NameOption = "",
    metadata: Annotated[str, typer.Option(help="A JSON object that theirs contains.")] = "",
    order: OrderOption = "",
    descending: DescendingOption = False,
    limit: LimitOption = 100,
    offset: OffsetOption = 0,
    as_json: JsonOption = False,
) -> None:
    """List channels, or search for them."""
    entities.list_items("channel", name, metadata, order, descending, limit, offset, as_json)


@command(channels, "create")
def create_channel(
    name: str, metadata: MetadataOption = "", channel_id: IdOption = "", as_json: JsonOption = False
) -> None:
    """Add a channel."""
    with api() as found:
        made = found.send("POST", "/channels", entities.new_item(name, metadata, channel_id))
        show_one(made, as_json=as_json)


@command(channels, "bulk")
def create_channels(file: BulkFile, as_json: JsonOption = False) -> None:
    """Add many channels at once, all or none: a JSON array, or CSV with the columns name, id, metadata."""
    entities.bulk("channel", file, None, as_json)


@command(channels, "show")
def show_channel(channel: ChannelArgument, as_json: JsonOption = False) -> None:
    """Show a channel and the things connected to it."""
    with api() as found:
        channel_id = resolved(found, "channel", channel)
        shown = found.get(f"/channels/{channel_id}")
        related, _ = found.every(f"/channels/{channel_id}/things", "things")
        show_one({**shown, "things": [thing["id"] for thing in related]}, as_json=as_json)


@command(channels, "update")
def update_channel(
    channel: ChannelArgument,
    name: Annotated[str, typer.Option(help="Another name.")] = "",
    metadata: MetadataOption = "",
    as_json: JsonOption = False,
) -> None:
    """Give a channel another name or metadata; what is left out stays."""
    entities.update("channel", channel, name, metadata, as_json)


@command(channels, "connect")
def connect(
    channel: ChannelArgument,
    thing: ThingsArgument,
    publish: PublishOption = False,
    subscribe: SubscribeOption = False,
) -> None:
    """Let things use a channel: to publish, to read, or without an option both."""
    entities.join("POST", "/connect", [channel], thing, publish, subscribe)


@command(channels, "disconnect")
def disconnect(
    channel: ChannelArgument,
    thing: ThingsArgument,
    publish: PublishOption = False,
    subscribe: SubscribeOption = False,
) -> None:
    """Keep things from a channel; their live sessions lose it at once."""
    entities.join("PUT", "/disconnect", [channel], thing, publish, subscribe)


@command(channels, "delete")
def delete_channels(channel: ChannelsArgument) -> None:
    """Remove channels; their messages stay until retention takes them."""
    entities.delete("channel", channel)
