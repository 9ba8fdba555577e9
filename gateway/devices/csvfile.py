"""Delivery lists: a CSV file as makers, spreadsheets and other servers write them, to rows of our field names.

UTF-8, UTF-16 or Latin-1, with or without a byte order mark; comma, semicolon, tab or bar between columns; column
names as in `names`. A file without a header is taken where its first line is a device.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from dataclasses import dataclass

from gateway.devices import names

MAX_LINES = 10_000  # devices at most a gateway has
MAX_BYTES = 4 << 20  # of text: a line with every key has about 300
MAX_CELL = 1024
MAX_COLUMNS = 64

_DELIMITERS = ",;\t|"
_HEX = re.compile(r"[0-9A-Fa-f]+")


class FileError(Exception):
    """The file as a whole cannot be read; the words say why and what to do."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line by our field names. Keys are among the values, so its repr shows none."""

    line: int  # as an editor counts, from 1
    values: dict[str, str]

    def __repr__(self) -> str:
        return f"Row({self.line})"


@dataclass(frozen=True, slots=True)
class Table:
    rows: list[Row]
    columns: dict[str, str]  # our field -> the file's name of it
    ignored: list[str]  # columns that are not known here
    delimiter: str


def read(data: bytes) -> Table:
    """Raises FileError and nothing else."""
    if len(data) > MAX_BYTES:
        raise FileError(f"the file has more than {MAX_BYTES >> 20} MB: split it")
    text = _decoded(data)
    if "\0" in text:
        raise FileError("this is no text file: save the sheet as CSV (comma or semicolon separated)")
    delimiter = _delimiter(text)
    rows: list[tuple[int, list[str]]] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells) or cells[0].lstrip().startswith("#"):
                continue
            if len(rows) > MAX_LINES:
                raise FileError(f"the file has more than {MAX_LINES} devices: split it")
            if len(cells) > MAX_COLUMNS or any(len(cell) > MAX_CELL for cell in cells):
                raise FileError(
                    f"line {reader.line_num} is far too long: a quotation mark is missing, or this is no device list"
                )
            rows.append((reader.line_num, [cell.strip() for cell in cells]))
    except csv.Error as error:
        raise FileError(f"line {reader.line_num} is not CSV: {error}") from None
    if not rows:
        raise FileError("the file is empty")
    return _table(rows, delimiter)


def _decoded(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encodings: tuple[str, ...] = ("utf-16",)
    else:
        encodings = ("utf-8-sig", "cp1252", "latin-1")
    for encoding in encodings:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise FileError("the text cannot be read: save the file as CSV in UTF-8")


def _delimiter(text: str) -> str:
    """The one that parts the first line into most columns; a first line `sep=;` says it itself."""
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    return max(_DELIMITERS, key=lambda char: (first.count(char), -_DELIMITERS.index(char)))


def _table(rows: list[tuple[int, list[str]]], delimiter: str) -> Table:
    if rows[0][1][0].lower().startswith("sep="):
        rows = rows[1:]
        if not rows:
            raise FileError("the file has no devices")
    header = rows[0][1]
    fields = [names.field_of(cell) for cell in header]
    if "dev_eui" not in fields:
        guessed = _without_header(header)
        if guessed is None:
            raise FileError(
                "no column is called dev_eui, DevEUI or the like: the first line must name the columns, for example"
                " dev_eui,join_eui,app_key,name"
            )
        fields, columns = guessed, {field: "(no header)" for field in guessed if field}
        ignored: list[str] = []
        body = rows
    else:
        columns = {}
        for at, field in enumerate(fields):
            if field is None:
                continue
            if field in columns:
                raise FileError(
                    f"the columns {columns[field]!r} and {header[at]!r} both are {field}: remove one"
                )
            columns[field] = header[at]
        ignored = [
            cell[:40]
            for cell, field in zip(header, fields, strict=True)
            if cell and field is None and names.plain(cell) not in names.HARMLESS
        ]
        body = rows[1:]
    if not body:
        raise FileError("the file has a header and no devices")
    found = [
        Row(line, {field: cell for field, cell in zip(fields, cells, strict=False) if field and cell})
        for line, cells in body
    ]
    return Table(found, columns, ignored, delimiter)


def _without_header(cells: list[str]) -> list[str | None] | None:
    """Columns of a list that begins with a device: EUIs in the order DevEUI, JoinEUI, then the AppKey."""
    found: list[str | None] = []
    for cell in cells:
        digits = re.sub(r"[\s:.-]", "", cell)
        is_hex = _HEX.fullmatch(digits) is not None
        if is_hex and len(digits) == 16:
            field = "dev_eui" if "dev_eui" not in found else "join_eui"
        elif is_hex and len(digits) == 32:
            field = "app_key"
        else:
            field = "name"
        found.append(field if field not in found else None)
    return found if "dev_eui" in found and "app_key" in found else None
