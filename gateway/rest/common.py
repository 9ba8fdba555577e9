"""What the commands share: the options of each, the gateway they speak to, and how they end."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar, get_type_hints

import typer

from gateway.cli_common import DEFAULT_CONFIG, load
from gateway.rest.client import USAGE, Api, ApiError
from gateway.rest.kept import Gateways, Known, Tokens
from gateway.settings import HttpSection

URL, TOKEN, CA = "FLUXGATE_URL", "FLUXGATE_TOKEN", "FLUXGATE_CA"

F = TypeVar("F", bound=Callable[..., None])

UrlOption = Annotated[
    str,
    typer.Option(
        "--url",
        envvar=URL,
        help="The gateway: an address, or the name of a kept one; this machine's by default.",
        show_default=False,
        rich_help_panel="Which gateway",
    ),
]
CredentialOption = Annotated[
    str,
    typer.Option(
        "--token",
        envvar=TOKEN,
        help="An API key or token in place of signing in.",
        show_default=False,
        rich_help_panel="Which gateway",
    ),
]
CaOption = Annotated[
    str,
    typer.Option(
        "--ca",
        envvar=CA,
        help="File with the authority of the gateway's certificate.",
        show_default=False,
        rich_help_panel="Which gateway",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON in place of a table.")]
LimitOption = Annotated[int, typer.Option(min=0, help="Items at most; 0: all.")]
OffsetOption = Annotated[int, typer.Option(min=0, help="Items to pass over.")]
NameOption = Annotated[str, typer.Option(help="A part of the name.")]
MetadataOption = Annotated[str, typer.Option(help="A JSON object, or @FILE with one.")]
SecretFileOption = Annotated[
    Path | None,
    typer.Option(
        help="Write the secret to this file, for you alone to read, and do not show it.", metavar="FILE"
    ),
]
StdinOption = Annotated[
    bool, typer.Option("--passphrase-stdin", help="Read the passphrase from standard input.")
]


@dataclass(frozen=True, slots=True)
class Caller:
    """Which gateway a command goes to, and with what, as its options say."""

    url: str = ""
    token: str = ""
    ca: str = ""


CALLER: ContextVar[Caller] = ContextVar("caller")

_OPTIONS = [
    inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default="", annotation=annotation)
    for name, annotation in (("url", UrlOption), ("token", CredentialOption), ("ca", CaOption))
]


def command(app: typer.Typer, name: str) -> Callable[[F], F]:
    """Hang a function below `app` as a command that takes --url, --token and --ca as well, and ends with a sentence."""

    def register(function: F) -> F:
        app.command(name)(with_options(function))
        return function

    return register


def with_options(function: Callable[..., None]) -> Callable[..., None]:
    """The function with the options of every command; what it raises ends the command."""

    @functools.wraps(function)
    def run(*, url: str = "", token: str = "", ca: str = "", **given: Any) -> None:
        set_to = CALLER.set(Caller(url, token, ca))
        try:
            with sentences():
                function(**given)
        finally:
            CALLER.reset(set_to)

    hints = get_type_hints(function, include_extras=True)
    own = [
        each.replace(annotation=hints[each.name]) for each in inspect.signature(function).parameters.values()
    ]
    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own] + _OPTIONS
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    del run.__wrapped__  # its annotations are of before
    return run


@contextlib.contextmanager
def sentences() -> Iterator[None]:
    """What goes wrong ends the command with a sentence and a status of its own."""
    try:
        yield
    except ApiError as error:
        end(str(error), error.status)


def target() -> Known:
    """The gateway that this command goes to: as its options say, else the default one, else this machine's."""
    caller = CALLER.get(Caller())
    known = Gateways().find(caller.url)
    if known is None:
        known = Known("", address(caller.url))
        known = Gateways().find(known.url) or known
    return Known(known.name, known.url.rstrip("/"), caller.ca or known.ca)


def address(url: str) -> str:
    """Where the API is: as given, or as this machine's settings say."""
    if url:
        return url.rstrip("/") if "://" in url else f"http://{url}".rstrip("/")
    # A technician's own account need not read the settings, which hold upstream passwords.
    http = load(None).http if os.access(DEFAULT_CONFIG, os.R_OK) else HttpSection()
    host = "127.0.0.1" if http.host in ("", "0.0.0.0", "::") else http.host
    return f"http://{host}:{http.port}"


@contextlib.contextmanager
def api(*, signed_in: bool = True) -> Iterator[Api]:
    """The API as the person who has signed in. Raises ApiError."""
    where = target()
    token = (CALLER.get(Caller()).token or Tokens().get(where.url)) if signed_in else ""
    with Api(where.url, token, ca=where.ca) as found:
        yield found


def end(message: str, status: int) -> NoReturn:
    """End the command, saying why."""
    print(f"fluxgate: {message}", file=sys.stderr)  # noqa: T201
    raise SystemExit(status)


def note(message: str) -> None:
    """Something beside the answer, where it does not end up in a pipe."""
    print(message, file=sys.stderr)  # noqa: T201


def metadata_of(text: str, option: str = "--metadata") -> dict[str, Any] | None:
    """JSON that was typed as metadata; None for nothing. Raises ApiError."""
    if not text:
        return None
    if text.startswith("@"):
        text = read_file(Path(text[1:])).decode("utf-8", "replace")
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ApiError(f"{option} is no JSON: {error}", USAGE) from None
    if not isinstance(found, dict):
        raise ApiError(f"{option} is a JSON object, such as '{{\"floor\": 2}}'", USAGE)
    return found


def read_file(path: Path) -> bytes:
    """A file, or with - standard input. Raises ApiError."""
    if str(path) == "-":
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except OSError as error:
        raise ApiError(f"{path}: {error.strerror}", USAGE) from None


def passphrase(from_stdin: bool, prompt: str = "Passphrase", *, new: bool = False) -> str:
    """What somebody types unseen, a new one twice; or a line of standard input."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    return str(typer.prompt(prompt, hide_input=True, confirmation_prompt=new))


_SPAN = re.compile(r"([0-9]{1,9})([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def seconds(text: str, option: str) -> int:
    """A span such as 90s, 12h or 30d. Raises ApiError."""
    found = _SPAN.fullmatch(text)
    if found is None:
        raise ApiError(f"{option} is a span such as 90s, 15m, 12h, 30d or 8w, not {text!r}", USAGE)
    return int(found[1]) * _UNITS[found[2]]
