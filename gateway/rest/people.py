"""`fluxgate login`, `logout`, `users` and `policies`: who may do what."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from gateway.rest.client import USAGE, Api, ApiError, Tokens
from gateway.rest.common import Column, JsonOption, UrlOption, address, api, end, show, show_one

users = typer.Typer(help="People and their roles.", no_args_is_help=True)
policies = typer.Typer(help="Policies: documents that say who may do what.", no_args_is_help=True)

RoleOption = Annotated[str, typer.Option(help="viewer, technician or admin.")]
FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="A JSON document; - reads standard input.")
]


def login(
    email: Annotated[str, typer.Option(prompt="E-mail address")],
    passphrase_stdin: Annotated[
        bool, typer.Option("--passphrase-stdin", help="Read the passphrase from standard input.")
    ] = False,
    url: UrlOption = "",
) -> None:
    """Sign in to a gateway; further commands are given in your name until `fluxgate logout`."""
    passphrase = (
        sys.stdin.readline().rstrip("\n") if passphrase_stdin else typer.prompt("Passphrase", hide_input=True)
    )
    with api(url, signed_in=False) as found:
        try:
            answer = found.send("POST", "/tokens", {"email": email, "password": passphrase})
        except ApiError as error:
            if error.http_status == 401:
                raise ApiError("e-mail address or passphrase is wrong", error.status) from None
            raise
        Tokens().put(address(url), answer["token"])
    typer.echo(f"signed in to {address(url)} as {email}")


def logout(url: UrlOption = "") -> None:
    """End your sign-in to a gateway."""
    where = address(url)
    if Tokens().get(where):
        with api(url) as found:
            try:
                found.send("DELETE", "/tokens")
            except ApiError as error:
                if error.http_status != 401:  # it had ended already
                    raise
            Tokens().put(where, "")
    typer.echo(f"signed out of {where}")


@users.command("list")
def list_users(as_json: JsonOption = False, url: UrlOption = "") -> None:
    """List people."""
    with api(url) as found:
        columns = (Column("ID", "id"), Column("E-MAIL", "email"), Column("ROLE", "role"))
        show(found.get("/users")["users"], columns, as_json=as_json)


@users.command("create")
def create_user(
    email: str,
    role: RoleOption = "technician",
    passphrase_stdin: Annotated[
        bool, typer.Option("--passphrase-stdin", help="Read the passphrase from standard input.")
    ] = False,
    as_json: JsonOption = False,
    url: UrlOption = "",
) -> None:
    """Add somebody."""
    passphrase = (
        sys.stdin.readline().rstrip("\n")
        if passphrase_stdin
        else typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True)
    )
    with api(url) as found:
        made = found.send("POST", "/users", {"email": email, "password": passphrase, "role": role})
        show_one(made, as_json=as_json)


@users.command("role")
def change_role(user: Annotated[str, typer.Argument(metavar="USER")], role: str, url: UrlOption = "") -> None:
    """Give somebody another role: viewer, technician or admin."""
    with api(url) as found:
        found.send("PATCH", f"/users/{_user(found, user)}", {"role": role})


@users.command("delete")
def delete_user(user: Annotated[str, typer.Argument(metavar="USER")], url: UrlOption = "") -> None:
    """Remove somebody; they are signed out everywhere."""
    with api(url) as found:
        found.send("DELETE", f"/users/{_user(found, user)}")


@policies.command("list")
def list_policies(as_json: JsonOption = False, url: UrlOption = "") -> None:
    """List policies."""
    with api(url) as found:
        columns = (Column("NAME", "name"), Column("STATEMENTS", "statements"))
        show(found.get("/policies")["policies"], columns, as_json=as_json)


@policies.command("show")
def show_policy(name: str, url: UrlOption = "") -> None:
    """Print a policy's document as it was written."""
    with api(url) as found:
        typer.echo(found.get(f"/policies/{quote(name, safe='')}")["document"])


@policies.command("check")
def check_policy(file: FileArgument, as_json: JsonOption = False, url: UrlOption = "") -> None:
    """Say what a document would mean, or on which line it is wrong; nothing is kept."""
    with api(url) as found:
        statements = found.send("POST", "/policies/check", content=_document(file))
        columns = tuple(
            Column(key.upper(), key)
            for key in ("name", "effect", "subjects", "actions", "resources", "conditions")
        )
        show(statements, columns, as_json=as_json)


@policies.command("put")
def put_policy(name: str, file: FileArgument, url: UrlOption = "") -> None:
    """Put a document in force, in place of the one of that name."""
    with api(url) as found:
        made = found.send("PUT", f"/policies/{quote(name, safe='')}", content=_document(file))
        typer.echo(f"{name}: {len(made['statements'])} statements in force")


@policies.command("delete")
def delete_policy(name: str, url: UrlOption = "") -> None:
    """Remove a policy."""
    with api(url) as found:
        found.send("DELETE", f"/policies/{quote(name, safe='')}")


@policies.command("explain")
def explain(
    action: Annotated[str, typer.Argument(help="publish, subscribe, deliver, connect or manage.")],
    thing: Annotated[str, typer.Option(help="Id of the thing that asks.")] = "",
    user: Annotated[str, typer.Option(help="Id or e-mail address of the person who asks.")] = "",
    channel: Annotated[str, typer.Option(help="Id of the channel.")] = "",
    subtopic: str = "",
    source_ip: Annotated[str, typer.Option(help="From which address.")] = "",
    protocol: Annotated[str, typer.Option(help="By which door: mqtt, http, ws, coap, lora.")] = "",
    payload_size: Annotated[int | None, typer.Option(min=0, help="Bytes of the message.")] = None,
    as_json: JsonOption = False,
    url: UrlOption = "",
) -> None:
    """May they? Says so, which statement decides, and what would change it. Exits with 1 where they may not."""
    question = {
        "action": action,
        "thing": thing,
        "user": user,
        "channel": channel,
        "subtopic": subtopic,
        "source_ip": source_ip,
        "protocol": protocol,
        "payload_size": payload_size,
    }
    with api(url) as found:
        answer = found.send("POST", "/policies/explain", question)
        if as_json:
            show_one(answer, as_json=True)
        else:
            typer.echo(f"{'yes' if answer['allowed'] else 'no'}: {answer['reason']}")
            typer.echo(answer["policies"])
            for other in answer["others"]:
                typer.echo(
                    f"  {other['name']} (line {other['line']}, {other['effect']}): {'; '.join(other['reasons'])}"
                )
    if not answer["allowed"]:
        raise SystemExit(1)


def _user(found: Api, text: str) -> str:
    """The id of a person named by it or by the e-mail address."""
    for each in found.get("/users")["users"]:
        if text in (each["id"], each["email"]):
            return str(each["id"])
    raise ApiError(f"there is nobody {text!r}")


def _document(file: Path) -> bytes:
    if str(file) == "-":
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as error:
        end(f"{file}: {error.strerror}", USAGE)
