"""What the parts of the `fluxgate` command share: finding the settings, and ending with a sentence."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from gateway import config as configuration
from gateway.settings import Config

DEFAULT_CONFIG = Path("/etc/fluxgate/fluxgate.toml")

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help=f"Configuration file; {DEFAULT_CONFIG} where it exists.", show_default=False
    ),
]


def fail(message: str) -> NoReturn:
    """End the command with exit status 1, saying what is wrong."""
    print(f"fluxgate: {message}", file=sys.stderr)  # noqa: T201
    raise SystemExit(1)


def load(path: Path | None) -> Config:
    """The settings of `path`, of DEFAULT_CONFIG where there is none, else the defaults. Raises ConfigError."""
    if path is not None:
        return configuration.load(path)
    try:
        return configuration.load(DEFAULT_CONFIG) if DEFAULT_CONFIG.exists() else Config()
    except PermissionError:  # its folder is closed to other users, as it may hold upstream passwords
        fail(f"{DEFAULT_CONFIG} may only be read by root: put `sudo` in front of the command")
