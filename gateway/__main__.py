"""The `fluxgate` command, which `python -m gateway` is too."""

from __future__ import annotations

import sys

import typer

from gateway import cli_processes
from gateway.cli_common import fail
from gateway.config import ConfigError


def main() -> None:
    """Entry point. A process of the appliance loads no command but its own, see `cli_processes`."""
    try:
        _app(sys.argv[1:])()
    except ConfigError as error:
        fail(str(error))


def _app(arguments: list[str]) -> typer.Typer:
    if arguments and arguments[0] in cli_processes.NAMES:
        app = typer.Typer(name="fluxgate", pretty_exceptions_enable=False)
        cli_processes.add_to(app)
        return app
    from gateway.cli import app as every_command

    return every_command


if __name__ == "__main__":
    main()
