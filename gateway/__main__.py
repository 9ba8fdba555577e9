"""`python -m gateway` is the `fluxgate` command."""

from gateway.cli import main

main()
