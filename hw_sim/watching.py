"""Runs a scenario with somebody looking on: live on a terminal, line by line elsewhere, and drawn at the end."""

import contextlib
import time
from typing import Final

from rich.console import Console
from rich.live import Live

from hw_sim.errors import SimError
from hw_sim.picture import draw
from hw_sim.scenario import load
from hw_sim.simulation import Simulation
from hw_sim.timeline import Timeline
from hw_sim.watch import Watch, line

SECOND_NS: Final = 1_000_000_000
REFRESH_S: Final = 0.1  # of real time
FASTEST: Final = 100.0  # virtual seconds between two looks where nobody set a pace


def watch(
    scenario: str,
    seconds: float | None = None,
    seed: int | None = None,
    speed: float = 1.0,
    draw_from_s: float | None = None,
    console: Console | None = None,
) -> str:
    """Run to the end or to Ctrl-C; returns a picture of what happened from `draw_from_s` on, else "".

    Raises SimError.
    """
    plan = load(scenario)
    until_s = plan.duration_s if seconds is None else seconds
    if draw_from_s is not None and draw_from_s >= until_s:
        raise SimError(f"the picture would begin at {draw_from_s:g} s, and the run ends at {until_s:g} s")
    console = console or Console()
    simulation = Simulation(plan, seed)
    timeline = Timeline(simulation.world)
    simulation.start()
    try:
        with contextlib.suppress(KeyboardInterrupt):
            _run(simulation, timeline, until_s, speed, console)
        now_s = simulation.kernel.now_ns / SECOND_NS
        if draw_from_s is None or now_s <= draw_from_s:
            return ""
        return draw(timeline, draw_from_s, now_s)
    finally:
        simulation.close()


def _run(simulation: Simulation, timeline: Timeline, until_s: float, speed: float, console: Console) -> None:
    if not console.is_terminal:
        timeline.watch(lambda seen: console.print(line(seen, timeline), soft_wrap=True, highlight=False))
        simulation.run(until_s, pace=speed or None)
        return
    view = Watch(timeline)
    with Live(view.render(console.width), console=console, screen=True, auto_refresh=False) as live:
        left_s = until_s
        while left_s > 0:
            began = time.monotonic()
            step_s = min(left_s, REFRESH_S * speed if speed else _unpaced(simulation))
            simulation.run(step_s, pace=speed or None)
            left_s -= step_s
            live.update(view.render(console.width), refresh=True)
            if not speed:
                time.sleep(max(0.0, REFRESH_S - (time.monotonic() - began)))
    console.print(view.render(console.width))


def _unpaced(simulation: Simulation) -> float:
    """How much time passes between two looks, so that a scenario takes some ten seconds."""
    return min(FASTEST, simulation.scenario.duration_s / 100)
