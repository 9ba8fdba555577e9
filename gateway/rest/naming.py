"""Ids that may be names: found on the gateway, and completed in the shell."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.rest.client import Api, ApiError
from gateway.rest.common import CA, CALLER, TOKEN, URL, Caller, target
from gateway.rest.kept import Gateways, Tokens

COMPLETION_TIMEOUT_S = 1.0  # a person waits for a completion at a key press
MAX_COMPLETIONS = 50
_GROUPS_OF = {"application": "apps"}  # commands that are not called as what they list
_PLAIN = re.compile(r"[\w.@+-]+")  # a word that no shell takes apart


def resolved(found: Api, noun: str, text: str) -> str:
    """The id of a thing, channel, group or application named by it or, where only one has it, by its name.

    Raises ApiError.
    """
    try:
        return str(found.get(f"/{noun}s/{part(text)}")["id"])
    except ApiError as error:
        if error.http_status not in (400, 404):
            raise
    items, _ = found.every(f"/{noun}s", f"{noun}s", name=text)
    return only(items, noun, text)


def person(found: Api, text: str) -> str:
    """The id of a person named by it or by the e-mail address. Raises ApiError."""
    for each in found.get("/users")["users"]:
        if text == each["id"] or text.lower() == each["email"].lower():
            return str(each["id"])
    raise ApiError(f"there is nobody {text!r}; `fluxgate users list` shows everybody")


def only(items: list[Any], noun: str, text: str, key: str = "name") -> str:
    """The id of the one item of that id or name. Raises ApiError."""
    exact = [str(item["id"]) for item in items if text in (item["id"], item[key])]
    if len(exact) == 1:
        return exact[0]
    if exact:
        raise ApiError(f"{len(exact)} {noun}s have the name {text!r}: take an id")
    raise ApiError(
        f"there is no {noun} {text!r}; `fluxgate {_GROUPS_OF.get(noun, noun + 's')} list` shows them"
    )


def part(text: str) -> str:
    """A text as one part of a path."""
    return quote(text, safe="")


def completion(
    path: str, noun: str, label: str = "name", key: str = "id"
) -> Callable[[str], list[tuple[str, str]]]:
    """Completes what begins so with the items of a list of the gateway; with nothing where it does not answer."""

    def complete(incomplete: str) -> list[tuple[str, str]]:
        environment = Caller(*(os.environ.get(name, "") for name in (URL, TOKEN, CA)))
        CALLER.set(environment)
        where = target()
        token = environment.token or Tokens().get(where.url)
        if not token:
            return []
        try:
            with Api(where.url, token, ca=where.ca, timeout_s=COMPLETION_TIMEOUT_S) as found:
                page = found.get(path)
        except (ApiError, SystemExit):
            return []
        items = [{label: "", **item, "id": item.get(key, item.get(label))} for item in page[noun]]
        pairs = [
            (item[label], item["id"])
            if _PLAIN.fullmatch(item.get(label, ""))
            else (item["id"], item.get(label, ""))
            for item in items
        ]
        pairs += [(item["id"], item.get(label, "")) for item in items] if incomplete else []
        fitting = dict(pair for pair in pairs if pair[0].startswith(incomplete))
        return list(fitting.items())[:MAX_COMPLETIONS]

    return complete


def complete_gateways(incomplete: str) -> list[tuple[str, str]]:
    """Names of kept gateways."""
    return [(each.name, each.url) for each in Gateways().all() if each.name.startswith(incomplete)]


_THINGS = completion("/things?limit=100", "things")
_CHANNELS = completion("/channels?limit=100", "channels")
NAMED = "Its id, or its name where no other has it."
ThingArgument = Annotated[str, typer.Argument(metavar="THING", help=NAMED, autocompletion=_THINGS)]
ThingsArgument = Annotated[list[str], typer.Argument(metavar="THING...", help=NAMED, autocompletion=_THINGS)]
ThingOption = Annotated[str, typer.Option("--thing", metavar="THING", help=NAMED, autocompletion=_THINGS)]
ChannelArgument = Annotated[str, typer.Argument(metavar="CHANNEL", help=NAMED, autocompletion=_CHANNELS)]
ChannelsArgument = Annotated[
    list[str], typer.Argument(metavar="CHANNEL...", help=NAMED, autocompletion=_CHANNELS)
]
PersonArgument = Annotated[
    str,
    typer.Argument(
        metavar="USER", help="Id or e-mail address.", autocompletion=completion("/users", "users", "email")
    ),
]
