"""`fluxgate policies`: documents that say who may do what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.rest.common import JsonOption, api, command, read_file
from gateway.rest.naming import completion, part
from gateway.rest.output import Column, show, show_one, when

policies = typer.Typer(help="Policies: documents that say who may do what.", no_args_is_help=True)

FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="A JSON document; - reads standard input.")
]
PolicyArgument = Annotated[
    str, typer.Argument(metavar="NAME", autocompletion=completion("/policies", "policies"))
]


@command(policies, "list")
def list_policies(as_json: JsonOption = False) -> None:
    """List policies."""
    with api() as found:
        columns = (
            Column("NAME", "name"),
            Column("STATEMENTS", "statements"),
            Column("UPDATED", "updated", when),
        )
        show(found.get("/policies")["policies"], columns, as_json=as_json)


@command(policies, "show")
def show_policy(name: PolicyArgument) -> None:
    """Print a policy's document as it was written."""
    with api() as found:
        typer.echo(found.get(f"/policies/{part(name)}")["document"])


@command(policies, "check")
def check_policy(file: FileArgument, as_json: JsonOption = False) -> None:
    """Say what a document would mean, or on which line it is wrong; nothing is kept."""
    with api() as found:
        statements = found.send("POST", "/policies/check", content=read_file(file))
        columns = tuple(
            Column(key.upper(), key)
            for key in ("name", "effect", "subjects", "actions", "resources", "conditions")
        )
        show(statements, columns, as_json=as_json)


@command(policies, "put")
def put_policy(name: PolicyArgument, file: FileArgument) -> None:
    """Put a document in force, in place of the one of that name."""
    with api() as found:
        made = found.send("PUT", f"/policies/{part(name)}", content=read_file(file))
        typer.echo(f"{name}: {len(made['statements'])} statements in force")


@command(policies, "delete")
def delete_policy(name: PolicyArgument) -> None:
    """Remove a policy."""
    with api() as found:
        found.send("DELETE", f"/policies/{part(name)}")


@command(policies, "explain")
def explain(
    action: Annotated[
        str,
        typer.Argument(
            help="publish, subscribe, deliver, connect or manage.",
            autocompletion=lambda: ("publish", "subscribe", "deliver", "connect", "manage"),
        ),
    ],
    thing: Annotated[str, typer.Option(help="Id of the thing that asks.")] = "",
    user: Annotated[str, typer.Option(help="Id or e-mail address of the person who asks.")] = "",
    channel: Annotated[str, typer.Option(help="Id of the channel.")] = "",
    subtopic: str = "",
    source_ip: Annotated[str, typer.Option(help="From which address.")] = "",
    protocol: Annotated[str, typer.Option(help="By which door: mqtt, http, ws, coap, lora.")] = "",
    payload_size: Annotated[int | None, typer.Option(min=0, help="Bytes of the message.")] = None,
    as_json: JsonOption = False,
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
    with api() as found:
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
