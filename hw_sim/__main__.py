"""`python -m hw_sim`: tell a scenario's devices and radio, or run it in real time against a gateway."""

import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway.lorawan.types import AES128Key
from hw_sim import station
from hw_sim.errors import SimError
from hw_sim.node_config import NodeConfig
from hw_sim.registering import registration
from hw_sim.scenario import load

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
KEYS: Final = ("app_key", "nwk_key", "nwk_s_key", "app_s_key", "s_nwk_s_int_key", "nwk_s_enc_key")
ScenarioOption = Annotated[str, typer.Option(help="A shipped scenario's name, or a TOML file.")]


@app.command()
def devices(scenario: ScenarioOption = "demo") -> None:
    """Print a scenario's devices with their keys as JSON, for registering them."""
    typer.echo(json.dumps([_device(node) for node in load(scenario).nodes]))


@app.command()
def radio(scenario: ScenarioOption = "demo") -> None:
    """Print a scenario's region and modules as JSON, spelled as in a gateway's configuration."""
    world = load(scenario)
    if world.gateways[0].concentrator is not None:
        raise SimError("this scenario has a concentrator, and a gateway's configuration names modules only")
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
    """What a person would type in, keys in hex."""
    device = registration(node)
    told = {
        "name": device.name,
        "dev_eui": str(device.dev_eui),
        "profile": device.profile,
        "activation": str(device.activation),
    }
    if node.otaa:
        told["join_eui"] = str(device.join_eui)
    else:
        told["dev_addr"] = str(device.dev_addr)
    for name in KEYS:
        key: AES128Key | None = getattr(device, name)
        if key is not None:
            told[name] = key.value.hex()
    return told


def main() -> None:
    """Entry point; an error of a scenario is one line."""
    try:
        app()
    except SimError as error:
        sys.exit(f"hw_sim: {error}")


if __name__ == "__main__":
    main()
