"""The commands that manage a running gateway over its REST API, as parts of `fluxgate`."""

from __future__ import annotations

import typer

from gateway.rest import (
    apps,
    certs,
    channels,
    factor,
    gateways,
    groups,
    keys,
    messages,
    people,
    policies,
    provision,
    things,
    watching,
)


def add_to(app: typer.Typer) -> None:
    """Hang them below the command."""
    people.add_to(app)
    people.users.add_typer(factor.totp, name="totp")
    app.add_typer(watching.sessions, name="sessions")
    app.add_typer(gateways.gateways, name="gateways")
    app.add_typer(things.things, name="things")
    app.add_typer(channels.channels, name="channels")
    app.add_typer(groups.groups, name="groups")
    app.add_typer(messages.messages, name="messages")
    app.add_typer(policies.policies, name="policies")
    app.add_typer(keys.keys, name="keys")
    app.add_typer(certs.certs, name="certs")
    app.add_typer(apps.apps, name="apps")
    app.add_typer(watching.audit, name="audit")
    app.add_typer(provision.provision, name="provision")
