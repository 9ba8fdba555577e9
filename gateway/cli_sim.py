"""`fluxgate sim` and its commands: scenarios in virtual time, seen, judged, drawn and recorded.

The simulator is imported only by the command that needs it: a gateway in service never does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli_common import fail

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
    from hw_sim.scenario import load, shipped

    for name in shipped():
        typer.echo(f"{name:10} {load(name).title}")


@app.command()
def run(
    scenario: ScenarioArgument,
    seconds: SecondsOption = None,
    seed: SeedOption = None,
    report: Annotated[Path | None, typer.Option(help="Write the counts to this file as JSON.")] = None,
) -> None:
    """Run a scenario as fast as the machine can and judge its expectations; exit status 1 where one fails."""
    from hw_sim.errors import SimError
    from hw_sim.expect import METRICS
    from hw_sim.scenario import load
    from hw_sim.simulation import Simulation

    try:
        plan = load(scenario)
        simulation = Simulation(plan, seed)
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
    if not all(verdict.holds for verdict in verdicts):
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
