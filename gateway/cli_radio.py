"""`fluxgate radio` and its commands: the process itself, and what one asks of boards and modules by hand."""

from __future__ import annotations

import typer

from gateway.cli_common import ConfigOption, fail, load

app = typer.Typer(help="The radio process, and what it knows about boards.", invoke_without_command=True)


@app.callback()
def radio(context: typer.Context, config: ConfigOption = None) -> None:
    """Run the radio process, unless a command follows."""
    if context.invoked_subcommand is not None:
        return
    from gateway import radio_process

    try:
        radio_process.run(load(config))
    except radio_process.RadioFailed as error:
        fail(str(error))


@app.command()
def boards() -> None:
    """List the boards this version knows, with their wiring."""
    from gateway import radio_process

    for line in radio_process.describe_boards():
        typer.echo(line)
