"""`fluxgate run`, `gateway`, `radio` and `webui`: the processes of the appliance, as systemd starts them.

They stay as long as the machine runs, so this module imports none of the commands that people type: those would add
4 to 8 MB to each process.
"""

from __future__ import annotations

import asyncio
import os
import sys

import typer

from gateway import cli_radio
from gateway.cli_common import ConfigOption, fail, load
from gateway.errors import StartFailed

NAMES = frozenset({"run", "gateway", "radio", "webui"})


def run(config: ConfigOption = None) -> None:
    """Run all processes on this machine under one supervisor (on a Raspberry Pi systemd does it)."""
    from gateway import run as everything

    try:
        asyncio.run(everything.run(load(config), config))
    except everything.RunFailed as error:
        fail(str(error))


def gateway(config: ConfigOption = None) -> None:
    """Run the gateway process: LoRaWAN server, hub with its doors, upstream relays."""
    from gateway import app as process

    try:
        process.run(load(config))
    except StartFailed as error:
        fail(str(error))


def webui(config: ConfigOption = None) -> None:
    """Run the admin pages, a process of its own that talks to the gateway over HTTP."""
    from gateway.pages_key import ENVIRONMENT, pages_key

    settings = load(config)
    page = settings.webui
    api_url = page.api_url or f"http://{settings.http.host}:{settings.http.port}"
    command = [sys.executable, "-m", "webui", "--host", page.host, "--port", str(page.port), "--api", api_url]
    command += [part for host in page.trusted_hosts for part in ("--trusted-host", host)]
    if settings.http.forwarded_header == "x-forwarded-for":  # the pages read no other
        command += [part for proxy in settings.http.trusted_proxies for part in ("--trusted-proxy", proxy)]
    command += ["--secure-cookies"] if page.secure_cookies else []
    os.execve(sys.executable, command, {**os.environ, ENVIRONMENT: pages_key(settings)})


def add_to(app: typer.Typer) -> None:
    """Hang them below the command."""
    app.add_typer(cli_radio.app, name="radio")
    for command in (run, gateway, webui):
        app.command()(command)
