"""Completion as bash does it, with the script that the command prints, of commands, options and a gateway's names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

Shell = Any  # of conftest.py

TYPED = r"""
eval "$(_FLUXGATE_COMPLETE=source_bash fluxgate)"
complete -p fluxgate
completed() {
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
    $(complete -p fluxgate | sed 's/.*-F \([^ ]*\).*/\1/') "$PROGRAM"
    printf '%s|' "${COMPREPLY[@]}"
    echo
}
completed fluxgate things cre
completed fluxgate things show pu
"""


def test_bash_completes_commands_options_and_names_of_the_gateway(shell: Shell, tmp_path: Path) -> None:
    shell.sign_in()
    shell("things", "create", "pump")
    program = tmp_path / "fluxgate"
    program.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c \'from gateway.cli import app; app(prog_name="fluxgate")\' "$@"\n'
    )
    program.chmod(0o755)
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        ["bash", "--norc", "-c", TYPED],
        env={
            "PATH": f"{tmp_path}:/usr/bin:/bin",
            "PROGRAM": str(program),
            "PYTHONPATH": f"{root}:{root / 'platform'}",
            "FLUXGATE_URL": shell.hub.url,
            "XDG_CONFIG_HOME": str(shell.home),
            "HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert lines[1:] == ["create|", "pump|"], (done.stdout, done.stderr)
