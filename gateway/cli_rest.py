"""The commands that manage a running gateway over its REST API, as parts of `fluxgate`."""

from __future__ import annotations

import typer

from gateway.rest import channels, gateways, messages, people, policies, provision, things


def add_to(app: typer.Typer) -> None:
    """Hang them below the command."""
    people.add_to(app)
    app.add_typer(gateways.gateways, name="gateways")
    app.add_typer(things.things, name="things")
    app.add_typer(channels.channels, name="channels")
    app.add_typer(messages.messages, name="messages")
    app.add_typer(policies.policies, name="policies")
    app.add_typer(provision.provision, name="provision")
