"""`fluxgate apps`: applications, and what people have let them do."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.rest.client import USAGE, ApiError, given
from gateway.rest.common import (
    JsonOption,
    LimitOption,
    MetadataOption,
    NameOption,
    OffsetOption,
    SecretFileOption,
    api,
    command,
    metadata_of,
)
from gateway.rest.keys import SCOPES
from gateway.rest.naming import NAMED, completion, part, resolved
from gateway.rest.output import Column, show, show_one, show_secret, when

apps = typer.Typer(help="Applications: programs that act for people or for themselves.", no_args_is_help=True)

AppArgument = Annotated[
    str,
    typer.Argument(
        metavar="APP", help=NAMED, autocompletion=completion("/applications?limit=100", "applications")
    ),
]
ScopeOption = Annotated[
    list[str] | None,
    typer.Option(help="What it may, such as messages:read; repeat it.", autocompletion=lambda: SCOPES),
]
RedirectOption = Annotated[
    list[str] | None, typer.Option("--redirect-uri", help="Where people come back to; repeat it.")
]
GrantOption = Annotated[
    list[str] | None, typer.Option("--grant-type", help="Such as authorization_code; repeat it.")
]
RoleOption = Annotated[
    str,
    typer.Option(
        help="What it may manage acting for itself: viewer, technician or admin; nothing if left out."
    ),
]


@command(apps, "list")
def list_apps(
    name: NameOption = "", limit: LimitOption = 100, offset: OffsetOption = 0, as_json: JsonOption = False
) -> None:
    """List applications."""
    with api() as found:
        items, total = found.every("/applications", "applications", limit=limit, offset=offset, name=name)
        columns = [
            Column(key.upper(), key) for key in ("id", "name", "role", "scopes", "grant_types", "public")
        ]
        show(items, columns, as_json=as_json, total=total)


@command(apps, "create")
def create_app(
    name: str,
    scope: ScopeOption = None,
    redirect: RedirectOption = None,
    grant: GrantOption = None,
    role: RoleOption = "",
    public: Annotated[
        bool, typer.Option("--public", help="It runs on people's devices and has no secret.")
    ] = False,
    metadata: MetadataOption = "",
    key_file: SecretFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add an application; its secret is shown this once."""
    body = {**_body(name, scope, redirect, grant, role, metadata), "public": public}
    with api() as found:
        made = found.send("POST", "/applications", body)
        if public:
            show_one({key: each for key, each in made.items() if key != "secret"}, as_json=as_json)
        else:
            show_secret(made, "secret", key_file, as_json=as_json)


@command(apps, "show")
def show_app(app: AppArgument, as_json: JsonOption = False) -> None:
    """Show an application."""
    with api() as found:
        show_one(found.get(f"/applications/{resolved(found, 'application', app)}"), as_json=as_json)


@command(apps, "update")
def update_app(
    app: AppArgument,
    name: Annotated[str, typer.Option(help="Another name.")] = "",
    scope: ScopeOption = None,
    redirect: RedirectOption = None,
    grant: GrantOption = None,
    role: RoleOption = "",
    metadata: MetadataOption = "",
    as_json: JsonOption = False,
) -> None:
    """Change an application; what is left out stays. What is taken away ends what was granted with it."""
    body = _body(name, scope, redirect, grant, role, metadata)
    if not body:
        raise ApiError(
            "nothing to change: give --name, --scope, --redirect-uri, --grant-type, --role or --metadata",
            USAGE,
        )
    with api() as found:
        path = f"/applications/{resolved(found, 'application', app)}"
        show_one(found.send("PUT", path, body), as_json=as_json)


@command(apps, "secret")
def new_secret(app: AppArgument, key_file: SecretFileOption = None, as_json: JsonOption = False) -> None:
    """Give an application a new secret, shown this once; the old one is void."""
    with api() as found:
        answer = found.send("POST", f"/applications/{resolved(found, 'application', app)}/secret")
        show_secret(answer, "secret", key_file, as_json=as_json)


@command(apps, "delete")
def delete_app(app: AppArgument) -> None:
    """Remove an application and all that was granted to it."""
    with api() as found:
        found.send("DELETE", f"/applications/{resolved(found, 'application', app)}")


@command(apps, "consents")
def consents(as_json: JsonOption = False) -> None:
    """List what you have let applications do."""
    with api() as found:
        items = found.get("/oauth/consents")["consents"]
        if as_json:
            show(items, (), as_json=True)
            return
        rows = [
            {
                **each,
                "application": each["application"]["name"],
                "scopes": [one["scope"] for one in each["scopes"]],
            }
            for each in items
        ]
        columns = (
            *(Column(key.upper(), key) for key in ("id", "application", "scopes")),
            *(Column(key.upper(), f"{key}_at", when) for key in ("granted", "used", "expires")),
        )
        show(rows, columns, as_json=False)


@command(apps, "forbid")
def forbid(
    consent: Annotated[
        str,
        typer.Argument(
            metavar="CONSENT", help="Its id.", autocompletion=completion("/oauth/consents", "consents", "id")
        ),
    ],
) -> None:
    """Take back what you have let an application do; its tokens end at once."""
    with api() as found:
        found.send("DELETE", f"/oauth/consents/{part(consent)}")


def _body(
    name: str,
    scope: list[str] | None,
    redirect: list[str] | None,
    grant: list[str] | None,
    role: str,
    metadata: str,
) -> dict[str, Any]:
    return given(
        {
            "name": name,
            "scopes": scope or None,
            "redirect_uris": redirect or None,
            "grant_types": grant or None,
            "role": role,
            "metadata": metadata_of(metadata),
        }
    )
