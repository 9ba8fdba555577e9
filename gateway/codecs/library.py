"""The JavaScript codecs that people have stored, each with samples that it must decode as they say.

Kept in the table `lorawan_codec`, beside the devices that name them; in memory all of them. A codec that is on hold, or
cannot be run, leaves payloads as bytes, with the problem said.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any

import msgspec

from gateway.codecs.base import FIRST_PORT, LAST_PORT, CodecError, Decoded, Value, port_of
from gateway.codecs.catalog import CODECS
from gateway.codecs.js.worker import CodecWorker, Result, Script, Verdict
from gateway.codecs.mapping import Fault, Names, answer_of, decoded, result_of
from hub.database import Migration
from hub.log import Write
from hub.senml import MAX_UNIT

MAX_CODECS = 200
MAX_SOURCE = 200_000  # characters; the longest of the well-known ones has 150,000
MAX_SAMPLES = 64
MAX_UNITS = 200
VERSIONS_KEPT = 5  # earlier ones of each codec
MAX_PAYLOAD = 242  # bytes
DEFAULT_PORT = 1

MIGRATIONS = (
    Migration(
        "codecs: JavaScript codecs with their samples, and earlier versions of them",
        (
            "CREATE TABLE lorawan_codec("
            "name TEXT PRIMARY KEY, body BLOB NOT NULL, updated_ns INTEGER NOT NULL) WITHOUT ROWID",
            "CREATE TABLE lorawan_codec_before("
            "name TEXT NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL, "
            "PRIMARY KEY(name, version)) WITHOUT ROWID",
        ),
        copied={"lorawan_codec": 60.0},
    ),
)

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)


class Sample(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A payload and what comes of it; `expected` None: whatever it decodes to is right."""

    payload: str  # hex
    fport: int = 1
    name: str = ""
    recv_time: str = ""  # ISO 8601, for codecs that look at it
    expected: Any = None  # `data` of the answer


class Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A codec as it is stored, exported and imported."""

    source: str
    description: str = ""
    samples: list[Sample] = []
    units: dict[str, str] = {}  # by path ("air/temperature") or last name
    version: int = 1
    created_ns: int = 0
    updated_ns: int = 0


def check(name: str, body: Body) -> None:
    """Raises CodecError where a codec cannot be stored."""
    if not _NAME.fullmatch(name):
        raise CodecError(
            "a name has 1 to 64 small letters, digits and . _ -, and begins with a letter or digit"
        )
    if name in CODECS:
        raise CodecError(f"{name} is a codec of the gateway itself: take another name")
    if not body.source.strip():
        raise CodecError("there is no source")
    if len(body.source) > MAX_SOURCE:
        raise CodecError(f"a source has at most {MAX_SOURCE} characters")
    if len(body.samples) > MAX_SAMPLES:
        raise CodecError(f"a codec has at most {MAX_SAMPLES} samples")
    if len(body.units) > MAX_UNITS or any(len(unit) > MAX_UNIT for unit in body.units.values()):
        raise CodecError(f"at most {MAX_UNITS} units of {MAX_UNIT} characters")
    for sample in body.samples:
        payload_of(sample.payload)
        if not FIRST_PORT <= sample.fport <= LAST_PORT:
            raise CodecError(f"port {sample.fport} of a sample is not one of {FIRST_PORT} to {LAST_PORT}")


def payload_of(text: str) -> bytes:
    """Bytes of a sample, from hex with or without spaces. Raises CodecError."""
    try:
        payload = bytes.fromhex(text)
    except ValueError:
        raise CodecError(f"{text[:32]!r} is not hex: two digits a byte") from None
    if len(payload) > MAX_PAYLOAD:
        raise CodecError(f"{len(payload)} bytes are more than any frame carries ({MAX_PAYLOAD})")
    return payload


def uplink_input(fport: int, payload: bytes, time_s: float) -> str:
    """What `decodeUplink` is given, as JSON."""
    return f'{{"bytes":{list(payload)},"fPort":{fport},"recvTime":{time_s * 1000:.0f},"variables":{{}}}}'


def downlink_input(fport: int | None, value: Value) -> str:
    """What `encodeDownlink` is given, as JSON. Raises CodecError."""
    if isinstance(value, Mapping):
        data: Any = value
    else:
        data = {}
        for record in value:
            name = record.name.rpartition(":")[2]
            number = record.bool_value if record.value is None else record.value
            data[name] = record.string_value if number is None else number
    try:
        return msgspec.json.encode({"data": data, "fPort": fport, "variables": {}}).decode()
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise CodecError(f"the value cannot be written as JSON: {error}") from None


def bytes_of(answer: dict[str, Any], fport: int | None) -> tuple[int, bytes]:
    """Port and payload of an answer to `encodeDownlink`. Raises CodecError."""
    result = result_of(answer)
    given, port = result.get("bytes"), result.get("fPort")
    if not isinstance(given, list):
        raise CodecError("it returned no bytes")
    if len(given) > MAX_PAYLOAD:
        raise CodecError(f"it returned {len(given)} bytes, more than any frame carries ({MAX_PAYLOAD})")
    for each in given:
        if type(each) not in (int, float) or each != int(each) or not -128 <= each <= 255:
            raise CodecError(f"it returned {str(each)[:32]}, which is no byte")
    chosen = fport if fport is not None else port
    if chosen is not None and type(chosen) is not int:
        raise CodecError(f"it returned port {str(chosen)[:32]}, which is none")
    return port_of(chosen, DEFAULT_PORT), bytes(int(each) & 255 for each in given)


class ScriptCodec:
    """A stored codec, as devices use it: `gateway.codecs.base.LaterCodec`."""

    def __init__(self, name: str, body: Body, script: Script, worker: CodecWorker) -> None:
        self.name, self.body, self.script = name, body, script
        self._worker = worker
        self._known: Names = {}

    def decode_later(
        self, fport: int, payload: bytes, time_s: float, base_name: str, done: Callable[[Decoded], None]
    ) -> None:
        held = self.script.strikes.held
        if held:
            done(Decoded(problem=held))
            return

        def answered(result: Result) -> None:
            if result.verdict is not Verdict.DONE:
                done(Decoded(problem=result.words))
                return
            try:
                answer = answer_of(result.text)
            except CodecError as error:
                done(Decoded(problem=str(error)))
                return
            done(decoded(answer, time_s, base_name, self.body.units, self._known))

        self._worker.call(self.script, "decodeUplink", uplink_input(fport, payload, time_s), answered)

    async def encode(self, fport: int | None, value: Value) -> tuple[int, bytes]:
        if held := self.script.strikes.held:
            raise CodecError(held)
        result = await self._worker.ask(self.script, "encodeDownlink", downlink_input(fport, value))
        if result.verdict is not Verdict.DONE:
            raise CodecError(result.words)
        try:
            return bytes_of(answer_of(result.text), fport)
        except Fault as fault:
            raise CodecError(f"{fault} (line {fault.line})" if fault.line else str(fault)) from None


class Library(Mapping[str, ScriptCodec]):
    """The stored codecs by name."""

    def __init__(self, worker: CodecWorker | None = None) -> None:
        self.worker = worker or CodecWorker()
        self._codecs: dict[str, ScriptCodec] = {}
        self._numbers = count(1)

    def __getitem__(self, name: str) -> ScriptCodec:
        return self._codecs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._codecs)

    def __len__(self) -> int:
        return len(self._codecs)

    def load(self, connection: sqlite3.Connection) -> list[str]:
        """Take what is stored; returns words on rows that cannot be read."""
        problems = []
        for name, row in connection.execute(
            "SELECT name, body FROM lorawan_codec ORDER BY name LIMIT ?", (MAX_CODECS,)
        ):
            try:
                body = _read(row)
                self.take(ScriptCodec(name, body, self.script(body.source), self.worker))
            except msgspec.MsgspecError as error:
                problems.append(f"codec {name} cannot be read and is left out: {error}")
        return problems

    def script(self, source: str) -> Script:
        """A script that is not stored: for a test."""
        return Script(next(self._numbers), source)

    def prepare(self, name: str, body: Body, now_ns: int) -> tuple[ScriptCodec, list[Write]]:
        """A codec as it is to be stored, and how; the one before is kept as an earlier version. Raises CodecError.

        Devices use it once it is given to `take`, when the writes are durable.
        """
        check(name, body)
        before = self._codecs.get(name)
        if before is None and len(self._codecs) >= MAX_CODECS:
            raise CodecError(f"there are {MAX_CODECS} codecs, and no more fit")
        created_ns, version = now_ns, 1
        writes: list[Write] = []
        if before is not None:
            created_ns, version = before.body.created_ns, before.body.version + 1
            writes = [
                (
                    "INSERT OR REPLACE INTO lorawan_codec_before(name, version, body) VALUES (?, ?, ?)",
                    (name, before.body.version, _written(before.body)),
                ),
                (
                    "DELETE FROM lorawan_codec_before WHERE name = ? AND version < ?",
                    (name, version - VERSIONS_KEPT),
                ),
            ]
        body = msgspec.structs.replace(body, version=version, created_ns=created_ns, updated_ns=now_ns)
        writes.append(
            (
                "INSERT INTO lorawan_codec(name, body, updated_ns) VALUES (?, ?, ?) "
                "ON CONFLICT(name) DO UPDATE SET body = excluded.body, updated_ns = excluded.updated_ns",
                (name, _written(body), now_ns),
            )
        )
        return ScriptCodec(name, body, self.script(body.source), self.worker), writes

    def take(self, codec: ScriptCodec) -> None:
        """Devices use it from now on."""
        self._codecs[codec.name] = codec

    def forget(self, name: str) -> None:
        """No device uses it any more. Raises KeyError."""
        del self._codecs[name]


def removal(name: str) -> list[Write]:
    """A codec goes, with its earlier versions."""
    return [
        ("DELETE FROM lorawan_codec WHERE name = ?", (name,)),
        ("DELETE FROM lorawan_codec_before WHERE name = ?", (name,)),
    ]


def earlier(connection: sqlite3.Connection, name: str) -> list[Body]:
    """Earlier versions of a codec, the newest first."""
    rows = connection.execute(
        "SELECT body FROM lorawan_codec_before WHERE name = ? ORDER BY version DESC", (name,)
    )
    return [_read(row) for (row,) in rows]


_read = msgspec.json.Decoder(Body).decode
_written = msgspec.json.Encoder().encode
