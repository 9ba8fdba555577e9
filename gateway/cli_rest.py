"""The commands that manage a running gateway over its REST API, as parts of `fluxgate`."""

from __future__ import annotations

import typer

from gateway.rest import messages, people, things


def add_to(app: typer.Typer) -> None:
    """Hang them below the command."""
    app.command("login")(people.login)
    app.command("logout")(people.logout)
    app.add_typer(things.things, name="things")
    app.add_typer(things.channels, name="channels")
    app.add_typer(people.users, name="users")
    app.add_typer(people.policies, name="policies")
    app.add_typer(messages.messages, name="messages")
