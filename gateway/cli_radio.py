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


@app.command()
def calibrate(config: ConfigOption = None) -> None:
    """Have two modules measure each other's delays, and keep the result; a running radio process does it. TRANSMITS."""
    from gateway import radio_calibration

    try:
        for line in radio_calibration.calibrate(load(config)):
            typer.echo(line)
    except radio_calibration.CalibrateFailed as error:
        fail(str(error))


@app.command()
def airtime(config: ConfigOption = None) -> None:
    """Show how much a running radio process has sent in each sub-band, how much it may, and what it refused."""
    from gateway import radio_airtime

    try:
        for line in radio_airtime.airtime(load(config)):
            typer.echo(line)
    except radio_airtime.AirtimeFailed as error:
        fail(str(error))


@app.command()
def scan(
    start: Annotated[
        float | None, typer.Argument(help="First frequency, MHz; without: the region's.")
    ] = None,
    stop: Annotated[float | None, typer.Argument(help="Last frequency, MHz.")] = None,
    config: ConfigOption = None,
    step_khz: Annotated[
        int, typer.Option("--step", min=1, max=10_000, help="Between two points, kHz.")
    ] = 200,
    dwell_ms: Annotated[
        int, typer.Option("--dwell", min=1, max=1000, help="Measured at each point, ms.")
    ] = 10,
    module: Annotated[
        int | None,
        typer.Option(min=0, help="Which module of the settings; without: one that only sends, if any."),
    ] = None,
) -> None:
    """Show how strong signals are across the band. A running radio process goes on receiving meanwhile."""
    from gateway import radio_scan

    wanted = {
        "start_hz": None if start is None else round(start * 1e6),
        "stop_hz": None if stop is None else round(stop * 1e6),
        "step_hz": step_khz * 1000,
        "dwell_ms": dwell_ms,
        "module": module,
    }
    try:
        for line in radio_scan.scan(load(config), wanted):
            typer.echo(line)
    except radio_scan.ScanFailed as error:
        fail(str(error))
