"""`fluxgate provision`: a whole site from one file, and back into one."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from gateway.provisioning.errors import CannotApply, LayoutError
from gateway.provisioning.export import export as exported
from gateway.provisioning.keyfile import KeyFile
from gateway.provisioning.layout import Layout, parse, secrets_of
from gateway.provisioning.look import look
from gateway.provisioning.planner import plan as planned
from gateway.provisioning.steps import Plan
from gateway.rest.client import REFUSED, USAGE, ApiError
from gateway.rest.common import api, command, note, read_file
from gateway.rest.kept import write_secret

provision = typer.Typer(help="Bring a whole site onto a gateway from one file.", no_args_is_help=True)

LayoutArgument = Annotated[
    Path, typer.Argument(metavar="SITE.toml", help="The layout; docs/provision.md tells it.")
]


@command(provision, "apply")
def apply(
    layout: LayoutArgument,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only say what would be done; exits with 1 where that is something."),
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove what bears the site's mark and is not in the layout.")
    ] = False,
    rekey: Annotated[
        bool, typer.Option("--rekey", help="Give things whose key is not in the key file a new one.")
    ] = False,
    keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Where new secrets go; SITE.keys.json beside the layout if left out."
        ),
    ] = None,
) -> None:
    """Bring a gateway to a layout: what fits is left alone, so it may be repeated as often as you like."""
    from gateway.provisioning.carry import Interrupted, carry_out, check  # half of the time of a start

    try:
        site = parse(read_file(layout).decode("utf-8"), str(layout))
        files = _files(site, layout.parent)
        found, missing = secrets_of(site, os.environ)
        kept = KeyFile(keys or layout.with_suffix(".keys.json"))
        with api() as gateway:
            state = look(gateway, site, prune=prune)
            plan = planned(site, state, files, now_s=time.time(), prune=prune, kept=kept.kept, rekey=rekey)
            plan = Plan(plan.steps, (*plan.problems, *_needed(missing, plan)), plan.notes)
            check(gateway, site, state, plan, found)
            if dry_run:
                _say(plan)
                raise SystemExit(REFUSED if plan.steps else 0)
            carry_out(gateway, plan, state, found, kept, lambda step: typer.echo(str(step)))
    except UnicodeDecodeError:
        raise ApiError(f"{layout} is not UTF-8 text", USAGE) from None
    except LayoutError as error:
        raise ApiError(str(error), USAGE) from None
    except CannotApply as error:
        raise ApiError("nothing was changed:\n  " + "\n  ".join(error.problems), REFUSED) from None
    except Interrupted as error:
        words = f"{error}\n{error.done} of {error.of} steps are done; the same command goes on from here"
        raise ApiError(words, error.error.status) from None
    for words in plan.notes:
        note(f"note: {words}")
    typer.echo(_sum(plan))
    if any(step.keeps or "thing" in {ref.kind for ref in step.makes} for step in plan.steps):
        note(f"new secrets are in {kept.path}")


@command(provision, "export")
def export(
    site: Annotated[str, typer.Option(help="Only what bears the mark of this site.")] = "",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="A file in place of standard output."),
    ] = None,
) -> None:
    """Write what a gateway has as a layout, without secrets."""
    with api() as gateway:
        text = exported(gateway, site)
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_secret(output, text)


def _files(site: Layout, folder: Path) -> dict[str, str]:
    """The texts of the files that the layout names, beside it. Raises ApiError."""
    names = {item.file for item in site.policy} | {item.file for item in site.codec}
    return {name: read_file(folder / name).decode("utf-8", "replace") for name in sorted(names - {""})}


def _needed(missing: list[str], plan: Plan) -> list[str]:
    """Of the secrets that are missing, those of what is to be made: the others are on the gateway already."""
    made = {f"{ref.kind} {ref.name}" for step in plan.steps for ref in step.makes}
    return [words for words in missing if words.partition(":")[0] in made]


def _say(plan: Plan) -> None:
    for step in plan.steps:
        typer.echo(str(step))
    for words in plan.notes:
        note(f"note: {words}")
    typer.echo(_sum(plan))


def _sum(plan: Plan) -> str:
    if not plan.steps:
        return "nothing to do: the gateway is as the layout says"
    counts = {sign: sum(step.sign == sign for step in plan.steps) for sign in "+~-"}
    return f"{counts['+']} made, {counts['~']} changed, {counts['-']} removed"
