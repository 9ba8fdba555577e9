"""The `fluxgate` command: what an installer and a technician on SSH type."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Annotated

import typer

from gateway import __version__, cli_account, cli_processes, cli_rest, cli_sim
from gateway import config as configuration
from gateway.cli_common import ConfigOption, fail, load
from gateway.errors import StartFailed

app = typer.Typer(
    name="fluxgate",
    help="LoRa end-to-end gateway: radio, LoRaWAN server, broker and store, relay, admin pages.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Show and check the configuration file.", no_args_is_help=True)
cli_processes.add_to(app)
app.add_typer(cli_sim.app, name="sim")
app.add_typer(config_app, name="config")
app.add_typer(cli_account.app, name="account")
app.command("claim-code")(cli_account.claim_code)
cli_rest.add_to(app)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"fluxgate {__version__}")


@app.command()
def demo(
    speed: Annotated[float, typer.Option(min=0.1, max=50, help="How much faster than life.")] = 1.0,
    headless: Annotated[bool, typer.Option(help="No table; for scripts.")] = False,
    seconds: Annotated[float, typer.Option(min=0, help="End after this long; 0: on Ctrl-C.")] = 0.0,
    report: Annotated[
        Path | None, typer.Option(help="Write the counts to this file as JSON at the end.")
    ] = None,
    scenario: Annotated[str, typer.Option(help="A shipped scenario's name, or a TOML file.")] = "demo",
    keep: Annotated[Path | None, typer.Option(help="Keep data and logs in this folder.")] = None,
    any_ports: Annotated[
        bool,
        typer.Option("--any-ports", help="Take free ports, not the usual ones: several may run at once."),
    ] = False,
) -> None:
    """Run the whole gateway on simulated hardware: nodes join, send, and are heard upstream."""
    from gateway.demo import demo as demonstration

    options = demonstration.Options(
        speed=speed,
        headless=headless,
        seconds=seconds,
        report=report,
        scenario=scenario,
        keep=keep,
        any_ports=any_ports,
    )
    try:
        asyncio.run(demonstration.run(options))
    except demonstration.DemoFailed as error:
        fail(str(error))


@app.command("new-host-key")
def new_host_key(config: ConfigOption = None) -> None:
    """Replace the key that guards the stored keys of devices on this machine. Stop the gateway first."""
    from gateway import keyring
    from gateway.core import opened_core

    settings = load(config)
    folder = Path(settings.gateway.data_dir)

    async def replace() -> None:
        async with opened_core(settings) as core:
            await keyring.replace_host_key(folder, core.hub, await keyring.opened_sealer(folder, core.hub))

    try:
        asyncio.run(replace())
    except StartFailed as error:
        fail(str(error))
    typer.echo(f"the host key {folder / keyring.HOST_KEY_FILE} is new; keep no copy of the old one")


@app.command()
def status(config: ConfigOption = None) -> None:
    """Print the state of the running gateway as JSON."""
    from gateway.status import STALE_S, STATUS_FILE

    path = Path(load(config).gateway.runtime_dir) / STATUS_FILE
    try:
        typer.echo(json.dumps(json.loads(path.read_text()), indent=2))
        age_s = time.time() - path.stat().st_mtime
        if age_s > STALE_S:
            fail(f"this status is {age_s:.0f} s old: the gateway process is not running")
    except FileNotFoundError:
        fail(f"no status in {path}: is the gateway process running?")
    except PermissionError:
        fail(f"{path} may only be read by root: try `sudo fluxgate status`")


@config_app.command("show")
def config_show(
    config: ConfigOption = None,
    defaults: Annotated[
        bool, typer.Option("--defaults", help="Every setting with its default and meaning.")
    ] = False,
) -> None:
    """Print the configuration in force, or the documented defaults."""
    if defaults:
        typer.echo(configuration.document(), nl=False)
    else:
        typer.echo(configuration.show(load(config)), nl=False)


@config_app.command("check")
def config_check(config: ConfigOption = None) -> None:
    """Check the configuration file and whether the radio fits the region; names the first error."""
    from gateway.radio_process import RadioFailed, radio_config
    from gateway.region import region_of

    settings = load(config)
    try:
        region_of(settings)
        doubts = radio_config(settings).doubts if settings.radio.module else ()
    except (ValueError, RadioFailed) as error:
        fail(str(error))
    for doubt in doubts:
        typer.echo(f"note: {doubt}")
    typer.echo("the configuration is valid")
