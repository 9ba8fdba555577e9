"""`python -m hw_sim`: tell a scenario's devices and radio, or run it in real time against a gateway."""

import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hw_sim import station
from hw_sim.errors import SimError
from hw_sim.node_config import NodeConfig
from hw_sim.scenario import load

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
ScenarioOption = Annotated[str, typer.Option(help="A shipped scenario's name, or a TOML file.")]


@app.command()
def devices(scenario: ScenarioOption = "demo") -> None:
    """Print a scenario's devices with their keys as JSON, for registering them."""
    typer.echo(json.dumps([_device(node) for node in load(scenario).nodes]))


@app.command()
def radio(scenario: ScenarioOption = "demo") -> None:
    """Print a scenario's region and modules as JSON, spelled as in a gateway's configuration."""
    world = load(scenario)
    typer.echo(json.dumps({"region": world.region, "modules": [asdict(module) for module in world.modules]}))


@app.command()
def run(
    server: Annotated[str, typer.Option(help="host:port of the GWMP server.")],
    eui: Annotated[str, typer.Option(help="Gateway EUI-64, 16 hex digits.")],
    scenario: ScenarioOption = "demo",
    speed: Annotated[float, typer.Option(min=0.1, max=100, help="Virtual seconds a second.")] = 1.0,
    statistics: Annotated[Path | None, typer.Option(help="File to keep counts in, as JSON.")] = None,
    control: Annotated[Path | None, typer.Option(help="Socket on which the radio can be asked.")] = None,
) -> None:
    """Run a scenario until SIGTERM: devices, air and the radio on simulated modules."""
    logging.basicConfig(level="INFO", format="%(levelname)s %(name)s: %(message)s")
    host, _, port = server.rpartition(":")
    station.run(load(scenario), (host, int(port)), bytes.fromhex(eui), speed, statistics, control)


def _device(node: NodeConfig) -> dict[str, str]:
    entry = {"name": node.name, "dev_eui": str(node.dev_eui)}
    if node.app_key is not None:
        return entry | {
            "activation": "otaa",
            "join_eui": str(node.join_eui),
            "app_key": node.app_key.value.hex(),
        }
    assert node.nwk_s_key is not None
    assert node.app_s_key is not None
    return entry | {
        "activation": "abp",
        "dev_addr": str(node.dev_addr),
        "nwk_s_key": node.nwk_s_key.value.hex(),
        "app_s_key": node.app_s_key.value.hex(),
    }


def main() -> None:
    """Entry point; an error of a scenario is one line."""
    try:
        app()
    except SimError as error:
        sys.exit(f"hw_sim: {error}")


if __name__ == "__main__":
    main()
