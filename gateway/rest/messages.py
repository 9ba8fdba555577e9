"""`fluxgate messages`: send one, read some."""

from __future__ import annotations

import datetime
import sys
from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.rest.client import USAGE
from gateway.rest.common import Column, JsonOption, UrlOption, api, end, resolved, show
from gateway.rest.things import ChannelArgument

messages = typer.Typer(help="Send and read messages.", no_args_is_help=True)

SubtopicOption = Annotated[str, typer.Option(help="Below the channel, with dots or slashes.")]


@messages.command("send")
def send(
    channel: Annotated[str, typer.Argument(metavar="CHANNEL", help="Its id.")],
    payload: Annotated[str, typer.Argument(help="The message; - reads standard input.")],
    key: Annotated[str, typer.Option(envvar="FLUXGATE_KEY", help="Key of the thing that sends it.")] = "",
    subtopic: SubtopicOption = "",
    content_type: Annotated[str, typer.Option("--type", help="Its content type.")] = "application/senml+json",
    url: UrlOption = "",
) -> None:
    """Publish a message as a thing; it is on the gateway's disk when the command ends."""
    if not key:
        end("messages are published by things: give --key, or set FLUXGATE_KEY", USAGE)
    body = sys.stdin.buffer.read() if payload == "-" else payload.encode()
    with api(url) as found:
        path = f"/channels/{quote(channel, safe='')}/messages"
        path += "/" + quote(subtopic.replace(".", "/")) if subtopic else ""
        found.send(
            "POST",
            path,
            content=body,
            headers={"authorization": f"Thing {key}", "content-type": content_type},
        )


@messages.command("read")
def read(
    channel: ChannelArgument,
    subtopic: SubtopicOption = "",
    name: Annotated[str, typer.Option(help="Of the record.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Records at most.")] = 20,
    offset: Annotated[int, typer.Option(min=0, help="Records to pass over.")] = 0,
    as_json: JsonOption = False,
    url: UrlOption = "",
) -> None:
    """Show the newest records of a channel."""
    with api(url) as found:
        channel_id = resolved(found, "channel", channel)
        page = found.get(
            f"/channels/{channel_id}/messages", subtopic=subtopic, name=name, limit=limit, offset=offset
        )
    if as_json:
        show(page["messages"], (), as_json=True)
        return
    columns = tuple(Column(key.upper(), key) for key in ("time", "name", "value", "unit", "publisher"))
    show([_row(each) for each in page["messages"]], columns, as_json=False)


def _row(record: dict[str, Any]) -> dict[str, Any]:
    value = next(
        (
            record[key]
            for key in ("value", "string_value", "bool_value", "data_value", "sum")
            if record.get(key) is not None
        ),
        record.get("payload"),
    )
    time_s = record.get("time", record.get("created", 0))
    when = datetime.datetime.fromtimestamp(float(time_s), datetime.UTC).isoformat(timespec="seconds")
    return {**record, "time": when, "value": value}
