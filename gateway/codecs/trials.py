"""Trying codecs: bytes or a value given by hand, and the samples that are stored with a source.

A trial runs as a call of a device does, in the same process and within the same limits, and shows what a device's live
view does not: the log, all that was returned, and how long it took.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from gateway.codecs.base import Codec, CodecError
from gateway.codecs.js.worker import CodecWorker, Script, Verdict
from gateway.codecs.library import Body, bytes_of, downlink_input, payload_of, uplink_input
from gateway.codecs.mapping import Fault, Units, answer_of, decoded, notes_of, original, result_of
from hub.senml import Record

BASE = "urn:dev:mac:0000000000000000:"  # of a device that there is none of
ASKS = ("decodeUplink", "encodeDownlink", "decodeDownlink")


class Report(msgspec.Struct, omit_defaults=True):
    """What a trial gave."""

    problem: str = ""  # why there is no result; "" where there is one
    line: int = 0  # of the source, where the problem lies; 0: not known
    data: Any = None  # as the codec returned it
    records: list[dict[str, Any]] = []  # SenML, names without that of the device
    names: dict[str, str] = {}  # names of records that differ from those of the codec
    fport: int | None = None  # of a downlink
    payload: str = ""  # of a downlink, hex
    warnings: list[str] = []
    log: list[str] = []
    ms: float = 0.0  # CPU time


class Difference(msgspec.Struct, omit_defaults=True):
    """A sample that does not give what it should."""

    sample: int  # counted from 0
    name: str
    problem: str
    expected: Any = None
    got: Any = None


@dataclass(frozen=True, slots=True)
class Trial:
    """What to ask. `value` for encodeDownlink, `payload` for the others."""

    ask: str
    fport: int | None
    payload: bytes
    time_s: float
    value: Any = None


def try_own(codec: Codec, trial: Trial) -> Report:
    """A trial of one of our own codecs."""
    try:
        if trial.ask == "encodeDownlink":
            fport, payload = codec.encode(trial.fport, _mapping(trial.value))
            return Report(fport=fport, payload=payload.hex())
        records = codec.decode(trial.fport or 1, trial.payload, trial.time_s, BASE)
    except CodecError as error:
        return Report(problem=str(error))
    return Report(records=_shown(records))


async def try_script(worker: CodecWorker, script: Script, units: Units, trial: Trial) -> Report:
    """A trial of a source, stored or not."""
    try:
        if trial.ask == "encodeDownlink":
            text = downlink_input(trial.fport, _mapping(trial.value))
        else:
            text = uplink_input(trial.fport or 1, trial.payload, trial.time_s)
    except CodecError as error:
        return Report(problem=str(error))
    result = await worker.ask(script, trial.ask, text, bench=True)
    report = Report(ms=round(result.seconds * 1000, 3))
    if result.verdict is not Verdict.DONE:
        report.problem = result.words
        return report
    try:
        answer = answer_of(result.text)
        report.log = [str(line) for line in answer.get("l", [])]
        report.warnings = list(notes_of(answer))
        returned = result_of(answer)
        if trial.ask == "encodeDownlink":
            report.fport, payload = bytes_of(answer, trial.fport)
            report.payload = payload.hex()
            return report
        report.data = returned.get("data")
        made = decoded(answer, trial.time_s, BASE, units)
        report.problem, report.warnings = made.problem, list(made.notes)
        report.records = _shown(made.records)
        names = (record.name.removeprefix(BASE) for record in made.records)
        report.names = {name: original(name) for name in names if original(name) != name}
    except Fault as fault:
        report.problem, report.line = str(fault), fault.line
    except CodecError as error:
        report.problem = str(error)
    return report


async def differences(worker: CodecWorker, script: Script, body: Body, now_s: float) -> list[Difference]:
    """The samples that a source does not decode as they say; first of all, that it can be evaluated."""
    loaded = await worker.loaded(script)
    if loaded.verdict is not Verdict.DONE:
        return [Difference(-1, "source", loaded.words)]
    about = msgspec.json.decode(loaded.text)
    stated = about.get("is", about.get("r", {}))
    if "fault" in stated:
        at = f" (line {stated['line']})" if stated.get("line") else ""
        return [Difference(-1, "source", f"{stated['fault']}{at}")]
    if not stated.get("functions"):
        return [
            Difference(
                -1, "source", "none of the functions decodeUplink, Decode, Decoder, encodeDownlink is in it"
            )
        ]
    found = []
    for index, sample in enumerate(body.samples):
        trial = Trial(
            "decodeUplink", sample.fport, payload_of(sample.payload), _time(sample.recv_time, now_s)
        )
        report = await try_script(worker, script, body.units, trial)
        name = sample.name or f"sample {index + 1}"
        if sample.expected is None:
            continue
        if report.data is None and report.problem:
            found.append(Difference(index, name, report.problem, sample.expected))
        elif not same(report.data, sample.expected):
            found.append(Difference(index, name, "it gives something else", sample.expected, report.data))
    return found


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are alike; numbers may differ by what arithmetic does to them."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return bool(one == other)


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CodecError('the value of a downlink is an object, such as {"led": true}')
    return value


def _time(text: str, now_s: float) -> float:
    """Raises CodecError."""
    if not text:
        return now_s
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise CodecError(f"{text[:40]!r} is no time, such as 2026-01-31T12:00:00Z") from None
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()


def _shown(records: list[Record]) -> list[dict[str, Any]]:
    """Records as SenML labels, with absolute times."""
    shown = []
    for record in records:
        one: dict[str, Any] = {"n": record.name.removeprefix(BASE), "t": record.time}
        if record.unit:
            one["u"] = record.unit
        values = {"v": record.value, "vs": record.string_value, "vb": record.bool_value}
        one |= {label: value for label, value in values.items() if value is not None}
        if record.data_value is not None:
            one["vd"] = record.data_value.hex()
        shown.append(one)
    return shown
