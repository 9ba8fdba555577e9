"""`fluxgate users totp`: a code of an authenticator app beside the passphrase."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.rest.common import JsonOption, StdinOption, api, command, note, passphrase
from gateway.rest.naming import person
from gateway.rest.output import show_one

totp = typer.Typer(help="Your second factor: a code of an authenticator app.", no_args_is_help=True)

CodeOption = Annotated[
    str, typer.Option(help="A code of the app, or a recovery code; asked for if left out.")
]


@command(totp, "status")
def status(as_json: JsonOption = False) -> None:
    """Say whether signing in takes a code, and how many recovery codes are left."""
    with api() as found:
        show_one(found.get("/users/totp"), as_json=as_json)


@command(totp, "on")
def turn_on(passphrase_stdin: StdinOption = False, code: CodeOption = "") -> None:
    """Turn it on: shows the secret for the app, asks for a code of it, and shows recovery codes once."""
    with api() as found:
        begun = found.send("POST", "/users/totp", {"password": passphrase(passphrase_stdin)})
        typer.echo(f"Add this to your app:\n{begun['uri']}\nor type its secret: {begun['secret']}")
        shown = code or str(typer.prompt("Code that the app shows"))
        _show_codes(found.send("POST", "/users/totp/confirm", {"code": shown}))


@command(totp, "off")
def turn_off(
    user: Annotated[
        str, typer.Option(metavar="USER", help="Of somebody who has lost the app; for administrators.")
    ] = "",
    passphrase_stdin: StdinOption = False,
    code: CodeOption = "",
) -> None:
    """Turn it off: signing in takes a passphrase alone."""
    with api() as found:
        if user:
            found.send("PATCH", f"/users/{person(found, user)}", {"totp": False})
            return
        found.send("DELETE", "/users/totp", _proof(passphrase_stdin, code))


@command(totp, "recovery")
def new_recovery_codes(passphrase_stdin: StdinOption = False, code: CodeOption = "") -> None:
    """Make new recovery codes, shown once, in place of all those before."""
    with api() as found:
        _show_codes(found.send("POST", "/users/totp/recovery", _proof(passphrase_stdin, code)))


def _proof(passphrase_stdin: bool, code: str) -> dict[str, Any]:
    secret = passphrase(passphrase_stdin)
    return {"password": secret, "code": code or str(typer.prompt("Code"))}


def _show_codes(answer: dict[str, Any]) -> None:
    for each in answer["recovery_codes"]:
        typer.echo(each)
    note("each of these is good once in place of a code; they are shown this once: keep them")
