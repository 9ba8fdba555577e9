"""`fluxgate login`, `logout`, `whoami` and `users`: who may do what."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.rest.client import Api, ApiError
from gateway.rest.common import JsonOption, StdinOption, api, command, note, passphrase, target, with_options
from gateway.rest.kept import Tokens
from gateway.rest.naming import PersonArgument, person
from gateway.rest.output import Column, show, show_one

users = typer.Typer(help="People and their roles.", no_args_is_help=True)

COLUMNS = (Column("ID", "id"), Column("E-MAIL", "email"), Column("ROLE", "role"))
ROLES = ("member", "viewer", "technician", "admin")
RoleOption = Annotated[
    str, typer.Option(help="member, viewer, technician or admin.", autocompletion=lambda: ROLES)
]


def add_to(app: typer.Typer) -> None:
    """Hang those that stand alone below the command."""
    for name, function in (("login", login), ("logout", logout), ("whoami", whoami)):
        app.command(name)(with_options(function))
    app.add_typer(users, name="users")


def login(
    email: Annotated[str, typer.Option(help="E-mail address of your account; asked for if left out.")] = "",
    passphrase_stdin: StdinOption = False,
    code: Annotated[str, typer.Option(help="Code of your second factor; asked for where it is needed.")] = "",
    api_key: Annotated[
        bool, typer.Option("--api-key", help="Keep an API key, asked for unseen, in place of a sign-in.")
    ] = False,
) -> None:
    """Sign in to a gateway; further commands are given in your name until `fluxgate logout`."""
    where = target()
    with api(signed_in=False) as found:
        if api_key:
            token = passphrase(passphrase_stdin, "API key")
            with Api(where.url, token, ca=where.ca) as asked:
                asked.get("/things", limit=1)
            Tokens().put(where.url, token)
            typer.echo(f"commands to {where.url} show this API key")
            return
        email = email or str(typer.prompt("E-mail address"))
        secret = passphrase(passphrase_stdin)
        Tokens().put(where.url, _token(found, {"email": email, "password": secret}, code))
    typer.echo(f"signed in to {where.url} as {email}")
    if where.url.startswith("http://") and not _is_near(where.url):
        note("note: what you send to this gateway is not encrypted; its https address is safer")


def _token(found: Api, body: dict[str, Any], code: str) -> str:
    """Sign in, with a code of the second factor where the gateway asks for one. Raises ApiError."""
    try:
        answer = found.send("POST", "/tokens", {**body, "code": code} if code else body)
    except ApiError as error:
        if error.problem.get("totp") and not code:
            return _token(found, body, str(typer.prompt("Code of your second factor")))
        if error.http_status == 401 and not error.problem.get("totp"):
            raise ApiError("e-mail address or passphrase is wrong", error.status) from None
        raise
    return str(answer["token"])


def _is_near(url: str) -> bool:
    return any(f"//{host}" in url for host in ("127.", "localhost", "[::1]"))


def logout() -> None:
    """End your sign-in to a gateway."""
    where = target()
    token = Tokens().get(where.url)
    if token:
        if not token.startswith("fgk_"):  # an API key is forgotten here, and lives on
            with Api(where.url, token, ca=where.ca) as found:
                try:
                    found.send("DELETE", "/tokens")
                except ApiError as error:
                    if error.http_status != 401:  # it had ended already
                        raise
        Tokens().put(where.url, "")
    typer.echo(f"signed out of {where.url}")


def whoami(as_json: JsonOption = False) -> None:
    """Show whose account the gateway takes you for."""
    with api() as found:
        show_one({**found.get("/users/profile"), "gateway": found.url}, as_json=as_json)


@command(users, "list")
def list_users(as_json: JsonOption = False) -> None:
    """List people."""
    with api() as found:
        show(found.get("/users")["users"], COLUMNS, as_json=as_json)


@command(users, "show")
def show_user(user: PersonArgument, as_json: JsonOption = False) -> None:
    """Show somebody."""
    with api() as found:
        show_one(found.get(f"/users/{person(found, user)}"), as_json=as_json)


@command(users, "create")
def create_user(
    email: str,
    role: RoleOption = "technician",
    passphrase_stdin: StdinOption = False,
    as_json: JsonOption = False,
) -> None:
    """Add somebody."""
    secret = passphrase(passphrase_stdin, new=True)
    with api() as found:
        made = found.send("POST", "/users", {"email": email, "password": secret, "role": role})
        show_one(made, as_json=as_json)


@command(users, "role")
def change_role(
    user: PersonArgument, role: Annotated[str, typer.Argument(autocompletion=lambda: ROLES)]
) -> None:
    """Give somebody another role: member, viewer, technician or admin."""
    with api() as found:
        found.send("PATCH", f"/users/{person(found, user)}", {"role": role})


@command(users, "passphrase")
def change_passphrase(
    user: Annotated[
        str, typer.Argument(metavar="[USER]", help="Somebody who has forgotten it; you if left out.")
    ] = "",
    passphrase_stdin: Annotated[
        bool,
        typer.Option(
            "--passphrase-stdin", help="Read standard input: your old one first, where it is yours."
        ),
    ] = False,
) -> None:
    """Set a new passphrase, your own or somebody's; every sign-in with the old one ends."""
    with api() as found:
        if user:
            secret = passphrase(passphrase_stdin, "New passphrase", new=True)
            found.send("PATCH", f"/users/{person(found, user)}", {"password": secret})
            return
        old = passphrase(passphrase_stdin, "Passphrase of now")
        new = passphrase(passphrase_stdin, "New passphrase", new=True)
        found.send("PATCH", "/password", {"old_password": old, "password": new})
        Tokens().put(target().url, "")
    typer.echo("sign in again with `fluxgate login`")


@command(users, "delete")
def delete_user(user: PersonArgument) -> None:
    """Remove somebody; they are signed out everywhere."""
    with api() as found:
        found.send("DELETE", f"/users/{person(found, user)}")
