"""`fluxgate sessions` and `fluxgate audit`: who is signed in where, and what was done and refused."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from gateway.rest.client import REFUSED, given
from gateway.rest.common import JsonOption, api, command
from gateway.rest.messages import FromOption, ToOption, time_of
from gateway.rest.naming import completion, part, person
from gateway.rest.output import Column, show, show_one, when

sessions = typer.Typer(help="Sign-ins: who is signed in where.", no_args_is_help=True)
audit = typer.Typer(help="The audit log: what was done and refused, and by whom.", no_args_is_help=True)

MAX_PAGE = 500  # lines that the gateway gives at once
UserOption = Annotated[str, typer.Option(metavar="USER", help="Somebody's, for administrators.")]


@command(sessions, "list")
def list_sessions(
    user: UserOption = "",
    everybody: Annotated[bool, typer.Option("--all", help="Everybody's, for administrators.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List your sign-ins, the one used last first."""
    with api() as found:
        asked = {"user_id": person(found, user) if user else "", "all": "true" if everybody else ""}
        items = found.get("/sessions", **asked)["sessions"]
        if not as_json:
            items = [{**each, "current": "*" if each["current"] else ""} for each in items]
        columns = (
            *(Column(key.upper(), key) for key in ("id", "email", "address", "agent")),
            *(Column(key.upper(), key, when) for key in ("opened", "used")),
            Column("CURRENT", "current"),
        )
        show(items, columns, as_json=as_json)


@command(sessions, "end")
def end_session(
    session: Annotated[
        str,
        typer.Argument(
            metavar="[SESSION]",
            help="Its id; all but the one that asks if left out.",
            autocompletion=completion("/sessions", "sessions", "id"),
        ),
    ] = "",
    user: UserOption = "",
) -> None:
    """End a sign-in, or all of yours but this one, or all of somebody's."""
    with api() as found:
        if session:
            found.send("DELETE", f"/sessions/{part(session)}")
            return
        whose = given({"user_id": person(found, user) if user else ""})
        ended = found.send("DELETE", "/sessions", params=whose)["ended"]
        typer.echo(f"{ended} ended")


@command(audit, "list")
def list_lines(
    kind: Annotated[
        str, typer.Option(help="One or several, with commas between, such as sign-in,token.")
    ] = "",
    outcome: Annotated[
        str,
        typer.Option(help="allowed, refused, done.", autocompletion=lambda: ("allowed", "refused", "done")),
    ] = "",
    who: Annotated[str, typer.Option(help="users/<id>, things/<id>, or an e-mail address.")] = "",
    source: Annotated[str, typer.Option("--address", help="Network address it came from.")] = "",
    text: Annotated[str, typer.Option(help="Anywhere in the line.")] = "",
    since: FromOption = "",
    until: ToOption = "",
    limit: Annotated[int, typer.Option(min=1, help="Lines at most.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show the audit log, the newest lines first."""
    now_s = time.time()
    asked = {
        "kind": kind,
        "outcome": outcome,
        "who": who,
        "address": source,
        "text": text,
        "from": time_of(since, now_s) if since else None,
        "to": time_of(until, now_s) if until else None,
    }
    lines: list[dict[str, Any]] = []
    with api() as found:
        before = None
        while len(lines) < limit and before != 0:
            page = found.get("/audit", limit=min(MAX_PAGE, limit - len(lines)), before=before, **asked)
            lines += page["lines"]
            before = page["before"]
    rows = lines if as_json else [{**each, "who": each["email"] or each["who"]} for each in lines]
    columns = (
        Column("N", "n"),
        Column("TIME", "time", when),
        *(
            Column(key.upper(), key)
            for key in ("kind", "outcome", "who", "address", "door", "resource", "detail", "count")
        ),
    )
    show(rows, columns, as_json=as_json)


@command(audit, "verify")
def verify(as_json: JsonOption = False) -> None:
    """Check that no line of the audit log was changed or taken out; exits with 1 where one was."""
    with api() as found:
        verdict = found.get("/audit/verify")
        show_one(verdict, as_json=as_json)
    if not verdict["intact"]:
        raise SystemExit(REFUSED)


@command(audit, "export")
def export(
    form: Annotated[str, typer.Option("--format", help="csv or jsonl.")] = "csv",
    since: FromOption = "",
    until: ToOption = "",
) -> None:
    """Print the whole audit log, the newest lines first."""
    now_s = time.time()
    with api() as found:
        asked = {
            "format": form,
            "from": time_of(since, now_s) if since else None,
            "to": time_of(until, now_s) if until else None,
        }
        with found.stream("/audit/export", params=given(asked), accept="*/*") as answer:
            for block in answer.iter_text():
                typer.echo(block, nl=False)
