"""`fluxgate radio` and its commands: the process itself, and what one asks of boards and modules by hand."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli_common import ConfigOption, fail, load

app = typer.Typer(help="The radio process, and what it knows about boards.", invoke_without_command=True)

BoardOption = Annotated[
    str | None, typer.Option("--board", help="This board, or a board file, instead of the settings' modules.")
]
IndexOption = Annotated[int | None, typer.Option("--index", min=0, help="Only the module with this index.")]


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


@app.command()
def probe(config: ConfigOption = None, board: BoardOption = None, index: IndexOption = None) -> None:
    """Look for wiring faults and the right SPI speed; never transmits. The radio process must be stopped."""
    from gateway import radio_tools

    faults = 0
    try:
        for line, is_fault in radio_tools.probe(load(config), board, index):
            typer.echo(line)
            faults += is_fault
    except radio_tools.ToolFailed as error:
        fail(str(error))
    if faults:
        raise typer.Exit(1)


@app.command()
def bench(
    config: ConfigOption = None,
    board: BoardOption = None,
    index: IndexOption = None,
    rounds: Annotated[int, typer.Option(min=10, max=1_000_000, help="Measurements of each kind.")] = 1000,
) -> None:
    """Measure how exactly this machine can start a downlink; never transmits. The radio process must be stopped."""
    from gateway import radio_tools

    try:
        for line in radio_tools.bench(load(config), board, index, rounds):
            typer.echo(line)
    except radio_tools.ToolFailed as error:
        fail(str(error))
