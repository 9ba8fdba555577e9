"""What a JavaScript codec answers becomes SenML records. Pure.

Nested fields and indexes are joined by "/", so `{"air": {"temperature": 21.5}}` is `air/temperature`. Characters that a
SenML name cannot have become `:` and their code point in hexadecimal and `:` (`Température` is `Temp:e9:rature`), and
`original` takes that back. A time that stands beside values is theirs. Nothing is left out without a note.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from gateway.codecs import units
from gateway.codecs.base import CodecError, Decoded
from hub.senml import MAX_NAME, Record

MAX_RECORDS = 256  # of one payload; 242 bytes hold about as many values
MAX_DEPTH = 8
MAX_TEXT = 1024  # characters of a string value
MAX_NOTES = 16
MAX_WORDS = 400  # characters of an error or warning
OLDEST_S = 10 * 365 * 86_400  # before the reception: data loggers keep years
AHEAD_S = 86_400  # after it: clocks of devices are wrong, not a day wrong
MILLISECONDS_FROM = 1e11  # a number as large is no time in seconds (the year 5138)

# Names of the time of measurement, in lower case without "_" and "-"
TIMES = frozenset(
    ("time", "timestamp", "ts", "datetime", "date", "measuredat", "measurementtime", "sampletime", "sampledat", "utc",
     "unixtime", "epoch", "observedat", "recordedat", "devicetime", "timestamputc", "timeutc")
)  # fmt: skip

_SAFE = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]", re.ASCII)
_ESCAPED = re.compile(r":([0-9a-f]+):")

Units = Mapping[str, str]  # by path without indexes, or by its last name
Names = dict[tuple[str, ...], tuple[str, str]]  # by path: the name without that of the device, the unit
MAX_KNOWN = 1_000


class Fault(CodecError):
    """The codec threw or refused. `line` is where; 0 where that is not known."""

    def __init__(self, words: str, line: int = 0) -> None:
        super().__init__(words)
        self.line = line


def answer_of(text: str) -> dict[str, Any]:
    """What prelude.js wrote. Raises CodecError where it is no such JSON."""
    try:
        answer = msgspec.json.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise CodecError(f"its answer cannot be read: {error}") from None
    if not isinstance(answer, dict):
        raise CodecError("its answer cannot be read")
    return answer


def result_of(answer: dict[str, Any]) -> dict[str, Any]:
    """What the codec returned. Raises Fault where it threw, or named errors."""
    result = answer.get("r")
    if not isinstance(result, dict):
        raise CodecError("it returned nothing")
    if "fault" in result:
        line = result.get("line")
        raise Fault(str(result["fault"])[:MAX_WORDS], line if type(line) is int else 0)
    if errors := _sentences(result.get("errors")):
        raise Fault("; ".join(errors)[:MAX_WORDS])
    return result


def notes_of(answer: dict[str, Any]) -> tuple[str, ...]:
    """Warnings of the codec, and values that JSON could not carry."""
    result = answer.get("r")
    warnings = _sentences(result.get("warnings")) if isinstance(result, dict) else []
    return tuple((warnings + _sentences(answer.get("n")))[:MAX_NOTES])


def decoded(
    answer: dict[str, Any], time_s: float, base_name: str, unit_map: Units, known: Names | None = None
) -> Decoded:
    """The records of an answer to `decodeUplink`; a problem where there are none. Never raises.

    `known` keeps what names have become, for the next answer of the same codec and units.
    """
    try:
        result = result_of(answer)
        walk = _Walk(time_s, base_name, unit_map, {} if known is None else known)
        walk.value(result.get("data"), (), time_s, 0)
        normal = result.get("normalized")
        if normal is not None:
            walk.normalized = True
            walk.value(normal, ("normalized",), time_s, 0)
        notes = [*notes_of(answer), *_sentences(result.get("normalErrors")), *walk.notes]
        if not walk.records:
            raise CodecError(
                "its answer has no value" + (f" ({'; '.join(walk.notes)})" if walk.notes else "")
            )
    except Fault as fault:
        at = f" (line {fault.line})" if fault.line else ""
        return Decoded(problem=f"{fault}{at}", notes=notes_of(answer))
    except CodecError as error:
        return Decoded(problem=str(error))
    return Decoded(walk.records, notes=tuple(notes[:MAX_NOTES]))


@dataclass(slots=True)
class _Walk:
    """Goes through an answer once."""

    received_s: float
    base_name: str
    unit_map: Units
    known: Names
    records: list[Record] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    normalized: bool = False
    _names: set[tuple[str, float]] = field(default_factory=set)

    def value(self, value: object, path: tuple[str, ...], time_s: float, depth: int, unit: str = "") -> None:
        if depth > MAX_DEPTH:
            self.note(f"{'/'.join(path)} lies deeper than {MAX_DEPTH} levels and is left out")
        elif isinstance(value, dict):
            self._fields(value, path, time_s, depth)
        elif isinstance(value, list):
            self._items(value, path, time_s, depth)
        else:
            self._leaf(value, path, time_s, unit)

    def note(self, words: str) -> None:
        if len(self.notes) < MAX_NOTES and words[:MAX_WORDS] not in self.notes:
            self.notes.append(words[:MAX_WORDS])

    def _fields(self, fields: dict[str, Any], path: tuple[str, ...], time_s: float, depth: int) -> None:
        timed = [key for key in fields if _is_time(key)]
        taken: str | None = None
        if len(timed) < len(fields):  # a time alone is a value
            for key in timed:
                at_s = time_of(fields[key], self.received_s)
                if at_s is not None:
                    time_s, taken = at_s, key
                    break
        rest = [key for key in fields if key != taken]
        if "value" in fields and set(rest) <= {"value", "unit", "units"} and path:
            given = fields.get("unit", fields.get("units"))
            self.value(
                fields["value"],
                path,
                time_s,
                depth + 1,
                units.of_text(given) if isinstance(given, str) else "",
            )
            return
        for key in rest:
            self.value(fields[key], (*path, key), time_s, depth + 1)

    def _items(self, items: list[Any], path: tuple[str, ...], time_s: float, depth: int) -> None:
        """Measurements of different times share a name; other items are told apart by their index."""
        times = [_own_time(item, self.received_s) for item in items]
        distinct = None not in times and len(set(times)) == len(items)
        for index, item in enumerate(items):
            self.value(item, path if distinct else (*path, str(index)), time_s, depth + 1)

    def _leaf(self, value: object, path: tuple[str, ...], time_s: float, unit: str) -> None:
        if value is None:
            self.note(f"{_shown(path)} is null and is left out")
            return
        if len(self.records) >= MAX_RECORDS:
            if len(self.records) == MAX_RECORDS:
                self.note(f"more than {MAX_RECORDS} values: the rest is left out")
            return
        suffix, known_unit = self.known.get(path) or self._named(path)
        name = self.base_name + suffix
        if len(name) > MAX_NAME:
            self.note(f"{_shown(path)}... has too long a name and is left out")
            return
        if (name, time_s) in self._names:
            self.note(f"{_shown(path)} comes twice with one time and is left out")
            return
        self._names.add((name, time_s))
        if value is True or value is False:
            self.records.append(Record(name, "", time_s, bool_value=value))
        elif isinstance(value, int | float):
            number = _double(value)
            if not math.isfinite(number):
                self.note(f"{_shown(path)} is {number} and is left out")
                return
            self.records.append(Record(name, unit or known_unit, time_s, number))
        elif isinstance(value, str) and len(value) <= MAX_TEXT:
            self.records.append(Record(name, "", time_s, string_value=_encodable(value)))
        else:
            self.note(f"{_shown(path)} is longer than {MAX_TEXT} characters and is left out")

    def _named(self, path: tuple[str, ...]) -> tuple[str, str]:
        found = "/".join(map(escaped, path or ("value",))), self._unit(path)
        if len(self.known) < MAX_KNOWN:
            self.known[path] = found
        return found

    def _unit(self, path: tuple[str, ...]) -> str:
        named = "/".join(part for part in path if not part.isdecimal())
        if (unit := self.unit_map.get(named, self.unit_map.get(path[-1] if path else ""))) is not None:
            return unit
        if path[:1] == ("normalized",) and self.normalized:
            return units.NORMALIZED.get(named.removeprefix("normalized/"), "")
        return units.of_name(named)


def _double(value: float) -> float:
    """Whole numbers have no bound in JSON."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _shown(path: tuple[str, ...]) -> str:
    return "/".join(path)[:64] or "the answer"


def _own_time(item: object, received_s: float) -> float | None:
    if not isinstance(item, dict):
        return None
    for key, value in item.items():
        if _is_time(key) and (at_s := time_of(value, received_s)) is not None:
            return at_s
    return None


@lru_cache(maxsize=1024)
def _is_time(key: str) -> bool:
    return key.lower().replace("_", "").replace("-", "") in TIMES


def time_of(value: object, received_s: float) -> float | None:
    """UTC seconds of a time of measurement: ISO 8601, or a number of seconds or milliseconds since 1970.

    None where it is no time, or no plausible one for what was received at `received_s`.
    """
    at_s: float
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        at_s = _double(value)
    elif isinstance(value, str) and 10 <= len(value) <= 40:
        try:
            read = datetime.fromisoformat(value)
            at_s = (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            try:
                at_s = float(value)
            except ValueError:
                return None
    else:
        return None
    if at_s >= MILLISECONDS_FROM:
        at_s /= 1000
    return at_s if received_s - OLDEST_S <= at_s <= received_s + AHEAD_S else None


def escaped(key: str) -> str:
    """A key within the SenML alphabet; `original` takes it back."""
    if _SAFE.fullmatch(key):
        return key
    return _UNSAFE.sub(lambda found: f":{ord(found[0]):x}:", key) or "::"


def original(name: str) -> str:
    """The key that `escaped` was given; "" for the empty one."""
    return "" if name == "::" else _ESCAPED.sub(_character, name)


def _character(found: re.Match[str]) -> str:
    code = int(found[1], 16)
    return chr(code) if code <= 0x10FFFF else found[0]


def _encodable(text: str) -> str:
    """Without lone surrogates, which JSON can carry and UTF-8 cannot."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _sentences(value: object) -> list[str]:
    """Errors and warnings, as codecs give them: a list of texts, or one text."""
    if isinstance(value, str):
        value = [value] if value else []
    if not isinstance(value, list):
        return [] if value is None or value == {} else [str(value)[:MAX_WORDS]]
    return [
        _encodable(each if isinstance(each, str) else str(each))[:MAX_WORDS] for each in value[:MAX_NOTES]
    ]
