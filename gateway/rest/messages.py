"""`fluxgate messages`: send, read, follow and export."""

from __future__ import annotations

import datetime
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.rest.client import USAGE, ApiError, given
from gateway.rest.common import JsonOption, api, command, read_file, seconds
from gateway.rest.naming import NAMED, ChannelArgument, part, resolved
from gateway.rest.output import Column, cell, show, when

messages = typer.Typer(help="Send, read, follow and export messages.", no_args_is_help=True)

SubtopicOption = Annotated[str, typer.Option(help="Below the channel, with dots or slashes.")]
KeyOption = Annotated[str, typer.Option("--key", envvar="FLUXGATE_KEY", help="Key of the thing that asks.")]
RecordOption = Annotated[str, typer.Option("--name", help="Of the record.")]
ProtocolOption = Annotated[str, typer.Option(help="By which door it came: mqtt, http, ws, coap, lora.")]
PublisherOption = Annotated[str, typer.Option(metavar="THING", help=f"From whom. {NAMED}")]
FromOption = Annotated[
    str, typer.Option("--from", metavar="TIME", help="2026-10-16, 2026-10-16T08:00, or 2h ago as 2h.")
]
ToOption = Annotated[str, typer.Option("--to", metavar="TIME", help="As --from.")]


@command(messages, "send")
def send(
    channel: Annotated[str, typer.Argument(metavar="CHANNEL", help="Its id.")],
    payload: Annotated[str, typer.Argument(help="The message; - reads standard input, @FILE a file.")],
    key: KeyOption = "",
    subtopic: SubtopicOption = "",
    content_type: Annotated[str, typer.Option("--type", help="Its content type.")] = "application/senml+json",
) -> None:
    """Publish a message as a thing; it is on the gateway's disk when the command ends."""
    if not key:
        raise ApiError("messages are published by things: give --key, or set FLUXGATE_KEY", USAGE)
    body = payload.encode()
    if payload == "-" or payload.startswith("@"):
        body = read_file(Path(payload.removeprefix("@")))
    path = f"/channels/{part(channel)}/messages"
    path += "/" + "/".join(part(each) for each in subtopic.replace(".", "/").split("/")) if subtopic else ""
    with api() as found:
        headers = {"authorization": f"Thing {key}", "content-type": content_type}
        found.send("POST", path, content=body, headers=headers)


@command(messages, "read")
def read(
    channel: ChannelArgument,
    subtopic: SubtopicOption = "",
    name: RecordOption = "",
    publisher: PublisherOption = "",
    protocol: ProtocolOption = "",
    since: FromOption = "",
    until: ToOption = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Records at most.")] = 20,
    offset: Annotated[int, typer.Option(min=0, help="Records to pass over.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Show the newest records of a channel."""
    with api() as found:
        wanted = _wanted(found, subtopic, name, publisher, protocol, since, until)
        page = found.get(
            f"/channels/{resolved(found, 'channel', channel)}/messages", limit=limit, offset=offset, **wanted
        )
    if as_json:
        show(page["messages"], (), as_json=True)
        return
    columns = tuple(
        Column(key.upper(), key) for key in ("time", "name", "value", "unit", "subtopic", "publisher")
    )
    total = int(page.get("total", 0))
    show([_row(each) for each in page["messages"]], columns, as_json=False, total=total if not offset else 0)


@command(messages, "follow")
def follow(
    channel: ChannelArgument,
    subtopic: Annotated[
        str, typer.Option(help="Below the channel; + stands for one element, # for all.")
    ] = "",
    after: Annotated[
        int | None, typer.Option(min=0, help="Number of a message to go on after; 0: all kept.")
    ] = None,
    count: Annotated[int, typer.Option(min=0, help="End after so many messages; 0: on Ctrl-C.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Show messages as they come."""
    with api() as found:
        path = f"/channels/{resolved(found, 'channel', channel)}/messages"
        path += (
            "/" + "/".join(part(each) for each in subtopic.replace(".", "/").split("/")) if subtopic else ""
        )
        params = given({"envelope": "1", "after": after})
        with found.stream(path, params=params, accept="text/event-stream") as answer:
            for number, event in enumerate(_events(answer.iter_lines()), start=1):
                typer.echo(json.dumps(event) if as_json else _line(event))
                sys.stdout.flush()
                if number == count:
                    return
    raise ApiError("the gateway has ended the stream")


@command(messages, "export")
def export(
    channel: ChannelArgument,
    form: Annotated[str, typer.Option("--format", help="csv, jsonl or senml.")] = "csv",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="A file in place of standard output."),
    ] = None,
    subtopic: SubtopicOption = "",
    name: RecordOption = "",
    publisher: PublisherOption = "",
    protocol: ProtocolOption = "",
    since: FromOption = "",
    until: ToOption = "",
) -> None:
    """Write all records that fit to a file, oldest first. A file that ends early is an error and not kept."""
    if form not in ("csv", "jsonl", "senml"):
        raise ApiError("--format is csv, jsonl or senml", USAGE)
    with api() as found:
        wanted = _wanted(found, subtopic, name, publisher, protocol, since, until)
        path = f"/channels/{resolved(found, 'channel', channel)}/messages"
        with found.stream(path, params={**given(wanted), "export": form}, accept="*/*") as answer:
            if output is None:
                for block in answer.iter_bytes():
                    sys.stdout.buffer.write(block)
                sys.stdout.buffer.flush()
                return
            fresh = output.with_name(output.name + ".part")
            try:
                with fresh.open("wb") as file:
                    for block in answer.iter_bytes():
                        file.write(block)
                fresh.replace(output)
            except OSError as error:
                raise ApiError(f"{output}: {error.strerror or error}", USAGE) from None
            finally:
                fresh.unlink(missing_ok=True)


def time_of(text: str, now_s: float) -> float:
    """A time as people write it, in UTC where they do not say: ISO 8601, Unix seconds, or a span before now.

    Raises ApiError.
    """
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return float(text)
    if text[:-1].isdigit():
        return now_s - seconds(text, "a time")
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ApiError(
            f"{text!r} is no time: write 2026-10-16T08:00, or 2h for two hours ago", USAGE
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).timestamp()


def _wanted(
    found: Any, subtopic: str, name: str, publisher: str, protocol: str, since: str, until: str
) -> dict[str, Any]:
    now_s = time.time()
    return {
        "subtopic": subtopic,
        "name": name,
        "publisher": resolved(found, "thing", publisher) if publisher else "",
        "protocol": protocol,
        "from": time_of(since, now_s) if since else None,
        "to": time_of(until, now_s) if until else None,
    }


def _row(record: dict[str, Any]) -> dict[str, Any]:
    value = next(
        (
            record[key]
            for key in ("value", "string_value", "bool_value", "data_value", "sum")
            if record.get(key) is not None
        ),
        record.get("payload"),
    )
    return {**record, "time": when(float(record.get("time", record.get("created", 0)))), "value": value}


def _events(lines: Iterator[str]) -> Iterator[Mapping[str, Any]]:
    """The data of server-sent events (WHATWG HTML, 9.2.6)."""
    data: list[str] = []
    for line in lines:
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            yield json.loads("\n".join(data))
            data = []


def _line(event: Mapping[str, Any]) -> str:
    if event.get("type") == "gap":
        return f"messages {event['first']} to {event['last']} are no longer kept"
    payload = event.get("payload", event.get("payload_base64"))
    return f"{when(event['created_ns'] / 1e9)}  {event['subtopic'] or '-'}  {cell(payload)}"
