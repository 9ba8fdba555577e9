"""Answers for people and for programs: tables, JSON, and secrets that are shown once."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from gateway.rest.common import note
from gateway.rest.kept import write_secret


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: its heading, where its value stands, and how it is written."""

    heading: str
    key: str
    write: Callable[[Any], str] | None = None


def show(
    value: Sequence[Mapping[str, Any]], columns: Sequence[Column], *, as_json: bool, total: int = 0
) -> None:
    """A list of objects as a table, or as JSON; says so where there are more."""
    if as_json:
        typer.echo(json.dumps(value, indent=2))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.heading, overflow="fold")
    for item in value:
        table.add_row(*((column.write or cell)(item.get(column.key)) for column in columns))
    # A pipe is no terminal of 80 columns: nothing is folded there.
    width = None if sys.stdout.isatty() else 10_000
    Console(highlight=False, width=width).print(table)
    if total > len(value):
        note(f"{len(value)} of {total}; --limit 0 shows all, --offset goes on")


def show_one(value: Mapping[str, Any], *, as_json: bool) -> None:
    """One object, a line for each of its values, or as JSON."""
    if as_json:
        typer.echo(json.dumps(value, indent=2))
        return
    widest = max((len(key) for key in value), default=0)
    for key, each in value.items():
        typer.echo(f"{key:<{widest}}  {cell(each)}")


def show_secret(value: Mapping[str, Any], field: str, file: Path | None, *, as_json: bool) -> None:
    """An answer with a secret that cannot be had again: shown this once, or kept in a file and not shown."""
    if file is None:
        show_one(value, as_json=as_json)
        if not as_json:
            note(f"the {field} is shown this once: keep it")
        return
    write_secret(file, f"{value[field]}\n")
    show_one({key: each for key, each in value.items() if key != field}, as_json=as_json)
    note(f"the {field} is in {file}")


def cell(value: Any) -> str:
    """A value as a table shows it."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False)


def when(value: Any) -> str:
    """Unix seconds, or nothing, as a time of day."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return cell(value)
    return datetime.datetime.fromtimestamp(value, datetime.UTC).isoformat(timespec="seconds")
