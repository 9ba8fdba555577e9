"""`fluxgate sim` and its commands: scenarios in virtual time, seen, judged, drawn and recorded.

The simulator is imported only by the command that needs it: a gateway in service never does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli_common import ConfigOption, fail, load

if TYPE_CHECKING:
    from hw_sim.trace_recorder import Recorder

app = typer.Typer(help="Simulated radio: scenarios in virtual time.", no_args_is_help=True)

ScenarioArgument = Annotated[str, typer.Argument(help="A shipped scenario's name, or a TOML file.")]
SecondsOption = Annotated[
    float | None,
    typer.Option(min=0.1, help="How long, instead of the scenario's duration_s.", show_default=False),
]
SeedOption = Annotated[int | None, typer.Option(min=0, help="Instead of the scenario's.", show_default=False)]


@app.command("list")
def list_scenarios() -> None:
    """The scenarios that come with Fluxgate."""
    from hw_sim import scenario

    for name in scenario.shipped():
        typer.echo(f"{name:10} {scenario.load(name).title}")


@app.command()
def run(
    scenario: ScenarioArgument,
    seconds: SecondsOption = None,
    seed: SeedOption = None,
    report: Annotated[Path | None, typer.Option(help="Write the counts to this file as JSON.")] = None,
    trace: Annotated[
        Path | None, typer.Option(help="Record each module's SPI and GPIO traffic into this folder.")
    ] = None,
) -> None:
    """Run a scenario as fast as the machine can and judge its expectations; exit status 1 where one fails."""
    from hw_sim.errors import SimError
    from hw_sim.expect import METRICS
    from hw_sim.scenario import load as load_scenario
    from hw_sim.simulation import Simulation

    try:
        plan = load_scenario(scenario)
        simulation = Simulation(plan, seed, record=trace is not None)
        simulation.start()
        try:
            simulation.run(plan.duration_s if seconds is None else seconds)
            counts, verdicts = simulation.counts(), simulation.verdicts()
        finally:
            simulation.close()
    except SimError as error:
        fail(str(error))
    for name, value in counts.items():
        if value:
            typer.echo(f"{value:>10g}  {name:18} {METRICS[name][1]}")
    for verdict in verdicts:
        typer.echo(str(verdict))
    if report is not None:
        report.write_text(json.dumps(counts, indent=2) + "\n")
    for recorder in simulation.recorders:
        _write_traces(recorder, trace)
    if not all(verdict.holds for verdict in verdicts):
        raise typer.Exit(1)


def _write_traces(recorder: Recorder, folder: Path | None) -> None:
    assert folder is not None
    for path in recorder.write(folder):
        typer.echo(f"recorded into {path}")
    for module in recorder.full:
        typer.echo(f"{module}: the recording is full and ends before the run")


@app.command()
def record(
    folder: Annotated[Path, typer.Argument(help="Where the traces go, one file a module.")],
    config: ConfigOption = None,
    seconds: Annotated[float, typer.Option(min=1, help="How long to listen and send.")] = 60.0,
) -> None:
    """Run the radio on the real modules and record their SPI and GPIO traffic. The radio service must be stopped."""
    import threading

    from gateway import radio_process
    from hw_sim.trace_recorder import Recorder
    from radio.errors import RadioError
    from radio.service import linux_platform, run_radio

    stop = threading.Event()
    timer = threading.Timer(seconds, stop.set)
    try:
        settings = radio_process.radio_config(load(config))
        recorder = Recorder(linux_platform(settings.gpio))
        timer.start()
        try:
            run_radio(settings, stop, recorder.platform)
        finally:
            timer.cancel()
            _write_traces(recorder, folder)
    except (radio_process.RadioFailed, RadioError, OSError) as error:
        fail(str(error))


@app.command()
def replay(trace: Annotated[Path, typer.Argument(help="A recording of one module.")]) -> None:
    """Compare the chip model with a recording, byte for byte; exit status 1 where they differ."""
    from hw_sim.trace import TraceError, parse
    from hw_sim.trace_replay import SHOWN, compare

    try:
        report = compare(parse(trace.read_bytes()))
    except (OSError, TraceError) as error:
        fail(f"{trace}: {error}")
    for difference in report.differences[:SHOWN]:
        typer.echo(str(difference))
    differences = report.registers.total()
    typer.echo(
        f"{report.transfers} transfers, {report.frames} frames heard, {report.compared} bytes compared, "
        f"{report.masked} masked, {differences} differ"
    )
    if differences:
        raise typer.Exit(1)


@app.command()
def theory(
    frames: Annotated[int, typer.Option(min=10, help="For each point of each curve.")] = 20_000,
    seed: Annotated[int, typer.Option(min=0)] = 1,
) -> None:
    """Compare the simulated air with closed forms; exit status 1 where one is more than 2 % off."""
    from hw_sim.closed_forms import CURVES, WITHIN

    worst = 0.0
    typer.echo("experiment              at   formula  measured     error   without collisions")
    for experiment, points, share in CURVES:
        for point in points:
            outcome = experiment(point, max(10, round(frames * share)), seed)
            control = experiment(point, max(10, round(frames * share * 0.05)), seed, collisions=False)
            worst = max(worst, outcome.error)
            typer.echo(
                f"{outcome.experiment:18} {point:7g}   {outcome.expected:7.4f}   {outcome.measured:7.4f}"
                f"   {100 * outcome.error:5.2f} %   {control.measured:.4f}"
            )
    if worst > WITHIN:
        raise typer.Exit(1)


@app.command()
def air(
    scenario: ScenarioArgument,
    seconds: SecondsOption = None,
    seed: SeedOption = None,
    speed: Annotated[
        float, typer.Option(min=0, max=1000, help="Virtual seconds a second; 0: as fast as possible.")
    ] = 1.0,
    picture: Annotated[Path | None, typer.Option(help="Draw what was on the air into this SVG file.")] = None,
    first: Annotated[float, typer.Option("--from", min=0, help="Where the picture begins, seconds.")] = 0.0,
) -> None:
    """Show the air as it happens: who sends where, and what each module makes of it."""
    from hw_sim.errors import SimError
    from hw_sim.watching import watch

    if picture is not None and not picture.parent.is_dir():
        fail(f"--picture {picture}: there is no folder {picture.parent}")
    try:
        drawn = watch(scenario, seconds, seed, speed, None if picture is None else first)
    except SimError as error:
        fail(str(error))
    if picture is not None and drawn:
        picture.write_text(drawn)
        typer.echo(f"drawn into {picture}")
