"""Writing an export: parts of records, as `History.export` gives them, to SenML, CSV or JSON Lines.

Pure. `encoder(media_type)` makes one for an export; `begin()`, `part(records)` for each part, and `end()` give the
bytes to send, in that order.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec

from .errors import UnsupportedType
from .history_model import HistoryMessage, HistoryRecord
from .message import SENML_JSON
from .senml import RELATIVE_BELOW

CSV: Final = "text/csv"
JSON_LINES: Final = "application/x-ndjson"

Records = Sequence[HistoryRecord] | Sequence[HistoryMessage]

_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines

_RECORD_COLUMNS: Final = (
    "time",
    "publisher",
    "protocol",
    "subtopic",
    "name",
    "unit",
    "value",
    "string_value",
    "bool_value",
    "data_value",
    "sum",
    "update_time",
)
_MESSAGE_COLUMNS: Final = ("created", "publisher", "protocol", "subtopic", "content_type", "payload")
# What spreadsheets take for the beginning of a formula (OWASP, CSV injection).
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


class Encoder(Protocol):
    """Turns one export into bytes."""

    media_type: str

    def begin(self) -> bytes: ...
    def part(self, records: Records) -> bytes: ...
    def end(self) -> bytes: ...


def encoder(media_type: str) -> Encoder:
    """A fresh encoder. Raises UnsupportedType."""
    make = _ENCODERS.get(media_type)
    if make is None:
        raise UnsupportedType(f"an export is one of {', '.join(MEDIA_TYPES)}")
    return make()


class JsonLinesEncoder:
    """One JSON object a line, as a page shows it."""

    media_type = JSON_LINES

    def begin(self) -> bytes:
        return b""

    def part(self, records: Records) -> bytes:
        return _encode_lines(records)

    def end(self) -> bytes:
        return b""


class SenmlEncoder:
    """One SenML JSON pack (RFC 8428, 5) of resolved records: whole names, absolute times.

    A time before 4 July 1978, which only a clock that was never set gives, is left out with its record: SenML has no
    such absolute time, it would be read as one relative to now (4.5.3).
    Publisher, protocol and subtopic have no label in SenML and are left out. Messages that are not SenML cannot
    be shown: raises UnsupportedType.
    """

    media_type = SENML_JSON

    def __init__(self) -> None:
        self._some = False

    def begin(self) -> bytes:
        return b"["

    def part(self, records: Records) -> bytes:
        if not records:
            return b""
        pack = _encode(senml_records(records))[1:-1]
        if not pack:
            return b""
        before = b"," if self._some else b""
        self._some = True
        return before + pack

    def end(self) -> bytes:
        return b"]"


class CsvEncoder:
    """CSV (RFC 4180) with a header line; times as UTC seconds, booleans as true and false."""

    media_type = CSV

    def __init__(self) -> None:
        self._columns: tuple[str, ...] = ()

    def begin(self) -> bytes:
        return b""

    def part(self, records: Records) -> bytes:
        if not records:
            return b""
        text = io.StringIO()
        writer = csv.writer(text)
        columns = _MESSAGE_COLUMNS if isinstance(records[0], HistoryMessage) else _RECORD_COLUMNS
        if not self._columns:
            writer.writerow(columns)
            self._columns = columns
        for record in records:
            writer.writerow([_cell(getattr(record, column)) for column in columns])
        return text.getvalue().encode()

    def end(self) -> bytes:
        """The header alone, where there was no record."""
        return b"" if self._columns else (",".join(_RECORD_COLUMNS) + "\r\n").encode()


_ENCODERS: Final[dict[str, type[JsonLinesEncoder] | type[SenmlEncoder] | type[CsvEncoder]]] = {
    SENML_JSON: SenmlEncoder,
    CSV: CsvEncoder,
    JSON_LINES: JsonLinesEncoder,
}
MEDIA_TYPES: Final = tuple(_ENCODERS)


def senml_records(records: Records) -> list[dict[str, Any]]:
    """Those records that SenML has a form for, by its labels. Raises UnsupportedType for what are none."""
    found = [senml_fields(record) for record in records]
    return [fields for fields in found if fields["t"] >= RELATIVE_BELOW]


def senml_fields(record: HistoryRecord | HistoryMessage) -> dict[str, Any]:
    """A resolved record by the labels of RFC 8428. Raises UnsupportedType where it is none."""
    if isinstance(record, HistoryMessage):
        raise UnsupportedType(f"messages of other formats are exported as {CSV} or {JSON_LINES}")
    fields = {
        "n": record.name,
        "u": record.unit or None,
        "t": record.time,
        "v": record.value,
        "vs": record.string_value,
        "vb": record.bool_value,
        "vd": record.data_value,
        "s": record.sum,
        "ut": record.update_time,
    }
    return {label: value for label, value in fields.items() if value is not None}


def _cell(value: Any) -> str:
    """A cell as text. What a spreadsheet would run begins with an apostrophe; numbers are written as they are."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, int):
        return str(value)
    text = value if isinstance(value, str) else _encode(value).decode()
    return "'" + text if text.lstrip(" ").startswith(_FORMULA) else text
