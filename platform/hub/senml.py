"""SenML packs (RFC 8428), JSON and CBOR: bytes to records, records to bytes.

`decode_json` and `decode_cbor` read a pack as it was sent, `resolve` applies base fields and the time of
arrival, `decode` does both. Only SenmlError escapes. Version 5 of the early drafts is accepted beside 10.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import re
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import cbor2
import msgspec

from .errors import SenmlError
from .message import SENML_CBOR, SENML_JSON

VERSION = 10  # RFC 8428, 4.4
VERSION_DRAFT = 5  # draft-ietf-core-senml-05 and older; the same fields and meaning
RELATIVE_BELOW = 2.0**28  # smaller times count from now (RFC 8428, 4.5.3)

MAX_BYTES = 256 * 1024  # as the hub's payloads
MAX_RECORDS = 4096  # of one pack: a day of values every 21 s
MAX_NAME = 255  # characters; DevEUI URNs with a resource take about 50
MAX_UNIT = 64
MAX_TIME = 1e12  # seconds; the year 33,658
MAX_DEPTH = 8  # a pack itself needs 2; the rest is for extensions to be ignored
NAMES_REMEMBERED = 4096

_NAME = re.compile(r"[A-Za-z0-9][-A-Za-z0-9:./_]*", re.ASCII)
_names_seen: set[str] = set()  # a set look-up costs a fifth of the pattern

# RFC 8428, table 4. It is conclusive: extensions use text labels.
_CBOR_LABELS = {
    -6: "bs", -5: "bv", -4: "bu", -3: "bt", -2: "bn", -1: "bver", 0: "n", 1: "u", 2: "v", 3: "vs", 4: "vb",
    5: "s", 6: "t", 7: "ut", 8: "vd",
}  # fmt: skip


class PackRecord(msgspec.Struct, omit_defaults=True, gc=False):
    """One record as it stands in a pack, under its JSON labels (RFC 8428, table 1). None means absent.

    `vd` is base64url text without padding, also when the pack was CBOR.
    """

    bn: str | None = None
    bt: float | None = None
    bu: str | None = None
    bv: float | None = None
    bs: float | None = None
    bver: int | None = None
    n: str | None = None
    u: str | None = None
    v: float | None = None
    vs: str | None = None
    vb: bool | None = None
    vd: str | None = None
    s: float | None = None
    t: float | None = None
    ut: float | None = None


class Record(msgspec.Struct, frozen=True, gc=False):
    """One resolved record (RFC 8428, 4.6).

    Whole name, absolute time, at most one value, and a value or a sum.
    """

    name: str
    unit: str = ""
    time: float = 0.0  # UTC seconds since 1970
    value: float | None = None
    string_value: str | None = None
    bool_value: bool | None = None
    data_value: bytes | None = None
    sum: float | None = None
    update_time: float | None = None  # seconds within which the next value is due


def decode(content_type: str, payload: bytes, now_s: float) -> list[Record]:
    """The resolved records of `payload`, which arrived at `now_s` (UTC seconds). Raises SenmlError."""
    return decode_stamped(content_type, payload, now_s)[0]


# Which records took their time, or part of it, from the moment of arrival: all, none, or one answer each.
Stamped = bool | list[bool]


def arrival_s(created_ns: int) -> float:
    """The time of arrival as records carry it: whole microseconds, about what a double holds of such a time."""
    return created_ns // 1000 / 1e6


def decode_stamped(content_type: str, payload: bytes, now_s: float) -> tuple[list[Record], Stamped]:
    """As `decode`, with which of the records were stamped on arrival."""
    if content_type == SENML_JSON:
        return _resolve(decode_json(payload), now_s)
    if content_type == SENML_CBOR:
        return _resolve(decode_cbor(payload), now_s)
    raise SenmlError(f"{content_type!r} is not SenML")


# Packs

_UNDERSCORE, _BACKSLASH = b"_\\"
_decode_records = msgspec.json.Decoder(list[PackRecord]).decode
_decode_objects = msgspec.json.Decoder(list[dict[str, Any]]).decode
_encode = msgspec.json.Encoder().encode


def decode_json(payload: bytes) -> list[PackRecord]:
    """Read a JSON pack (RFC 8428, 5). Raises SenmlError."""
    if len(payload) > MAX_BYTES:
        raise SenmlError(f"a pack is at most {MAX_BYTES} bytes")
    try:
        if not payload.isascii():
            payload.decode()  # the typed decoder does not look into labels it does not know
        pack = _decode_records(payload)
        # The typed decoder drops labels it does not know; look for those that must be understood (4.4). An
        # escaped underscore hides from a search of the bytes, so any escape of that row counts as one. One byte is
        # found ten times as fast as two, and most packs have neither.
        if (_UNDERSCORE in payload and b'_"' in payload) or (_BACKSLASH in payload and b"\\u005" in payload):
            for index, fields in enumerate(_decode_objects(payload)):
                _check_understood(index, fields)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise SenmlError(f"no SenML JSON: {error}") from None
    return pack


def decode_cbor(payload: bytes) -> list[PackRecord]:
    """Read a CBOR pack (RFC 8428, 6). Raises SenmlError."""
    if len(payload) > MAX_BYTES:
        raise SenmlError(f"a pack is at most {MAX_BYTES} bytes")
    try:
        source = io.BytesIO(payload)
        pack = cbor2.CBORDecoder(
            source, semantic_decoders=_TAGS, max_depth=MAX_DEPTH, allow_duplicate_keys=False
        ).decode()
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, MemoryError, RecursionError) as error:
        raise SenmlError(f"no CBOR: {error.__cause__ or error}") from None
    if source.tell() != len(payload):
        raise SenmlError("bytes after the end of the pack")
    if not isinstance(pack, list):
        raise SenmlError("a pack is an array of records")
    return [_from_cbor(index, fields) for index, fields in enumerate(pack)]


def _check_understood(index: int, fields: dict[str, Any]) -> None:
    for label in fields:
        if label.endswith("_"):
            raise SenmlError(f"record {index}: label {label[:32]!r} must be understood and is not")


def _from_cbor(index: int, fields: object) -> PackRecord:
    if not isinstance(fields, dict):
        raise SenmlError(f"record {index}: not a map")
    record = PackRecord()
    for label, value in fields.items():
        if type(label) is str:
            if label.endswith("_"):
                raise SenmlError(f"record {index}: label {label[:32]!r} must be understood and is not")
            if label in _READERS:
                raise SenmlError(f"record {index}: CBOR labels are integers, not {label!r} (RFC 8428, 6)")
            continue
        name = _CBOR_LABELS.get(label) if type(label) is int else None
        if name is None:
            raise SenmlError(f"record {index}: unknown label")
        try:
            setattr(record, name, _READERS[name](value))
        except (TypeError, ValueError, OverflowError):
            raise SenmlError(f"record {index}: {name} has a wrong type") from None
    return record


def _number(value: object) -> float:
    if type(value) is not int and type(value) is not float:
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _unsigned(value: object) -> int:
    if type(value) is not int or value < 0:
        raise TypeError
    return value


def _text(value: object) -> str:
    if type(value) is not str:
        raise TypeError
    return value


def _boolean(value: object) -> bool:
    if type(value) is not bool:
        raise TypeError
    return value


def _octets(value: object) -> str:
    if type(value) is not bytes:
        raise TypeError
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


_READERS: dict[str, Callable[[object], Any]] = {
    **dict.fromkeys(("bt", "bv", "bs", "v", "s", "t", "ut"), _number),
    **dict.fromkeys(("bn", "bu", "n", "u", "vs"), _text),
    "bver": _unsigned,
    "vb": _boolean,
    "vd": _octets,
}


class _AllowedTags(dict[int, Callable[[Any, bool], Any]]):
    """What to do with a CBOR tag: tag 4 is read by `_decimal_fraction`, every other one is refused.

    The library's own decoders build big integers, regular expressions, shared references and more; none of
    them has a place in a pack, and some are expensive.
    """

    def __missing__(self, tag: int) -> Callable[[Any, bool], Any]:
        raise ValueError(f"tag {tag} has no place in SenML")


def _decimal_fraction(parts: Any, immutable: bool) -> float:
    """A decimal fraction (RFC 8949, 3.4.4), which RFC 8428, 6 allows for numbers: [exponent, mantissa]."""
    match parts:
        case [int(exponent), int(mantissa)] if abs(exponent) <= 400:
            return float(f"{mantissa}e{exponent}")
    raise ValueError("a decimal fraction is an array of two integers")


_TAGS = _AllowedTags({4: _decimal_fraction})


# Resolving


def resolve(pack: Sequence[PackRecord], now_s: float) -> list[Record]:
    """Apply base fields (RFC 8428, 4.1) and make times absolute; records come in the order of their times.

    A record of base fields alone only sets them. Raises SenmlError.
    """
    return _resolve(pack, now_s)[0]


def _resolve(pack: Sequence[PackRecord], now_s: float) -> tuple[list[Record], Stamped]:
    if len(pack) > MAX_RECORDS:
        raise SenmlError(f"a pack has at most {MAX_RECORDS} records")
    base_name = base_unit = ""
    base_time = 0.0
    base_value: float | None = None
    base_sum: float | None = None
    version: int | None = None
    records: list[Record] = []
    stamped: list[int] = []  # indexes of records whose time counts from now
    ordered = True
    latest = -math.inf
    # One loop over local names: this runs for every record that enters, a call a record would double its
    # cost.
    for index, raw in enumerate(pack):
        if raw.bn is not None:
            base_name = raw.bn
        if raw.bt is not None:
            base_time = raw.bt
        if raw.bu is not None:
            base_unit = raw.bu
        if raw.bv is not None:
            base_value = raw.bv
        if raw.bs is not None:
            base_sum = raw.bs
        if raw.bver is not None:
            version = _check_version(index, raw.bver, version)
        value, total, octets = raw.v, raw.s, None
        if value is None or raw.vs is not None or raw.vb is not None or raw.vd is not None:
            if not _has_value(index, raw, base_value):
                continue
            if raw.vd is not None:
                octets = _decode_data(index, raw.vd)
        if base_value is not None:
            value = _based_value(index, raw, base_value)
        if base_sum is not None:
            total = _finite(index, base_sum + (total or 0.0))
        name = base_name + raw.n if raw.n else base_name
        if name not in _names_seen:
            _check_name(index, name)
        unit = base_unit if raw.u is None else raw.u
        if len(unit) > MAX_UNIT:
            raise SenmlError(f"record {index}: unit longer than {MAX_UNIT} characters")
        time = base_time if raw.t is None else base_time + raw.t
        if time < RELATIVE_BELOW:
            time += now_s
            stamped.append(len(records))
        if not -MAX_TIME <= time <= MAX_TIME:
            raise SenmlError(f"record {index}: time out of range")
        if time < latest:
            ordered = False
        latest = time
        records.append(Record(name, unit, time, value, raw.vs, raw.vb, octets, total, raw.ut))
    if not records:
        raise SenmlError("the pack holds no measurement")
    if not stamped or len(stamped) == len(records):
        if not ordered:
            records.sort(key=attrgetter("time"))  # stable: equal times keep the order they were sent in
        return records, bool(stamped)
    pairs = list(zip(records, map(set(stamped).__contains__, range(len(records))), strict=True))
    if not ordered:
        pairs.sort(key=lambda pair: pair[0].time)
    return [record for record, _ in pairs], [from_now for _, from_now in pairs]


def _has_value(index: int, raw: PackRecord, base_value: float | None) -> bool:
    """Check a record that is not just a number: False where it holds base fields only."""
    kinds = (raw.v is not None) + (raw.vs is not None) + (raw.vb is not None) + (raw.vd is not None)
    if kinds > 1:
        raise SenmlError(f"record {index}: more than one value")
    if kinds or raw.s is not None:
        return True
    if raw.n is None and raw.u is None and raw.t is None and raw.ut is None:
        return False
    if base_value is None:
        raise SenmlError(f"record {index}: neither value nor sum")
    return True


def _based_value(index: int, raw: PackRecord, base_value: float) -> float | None:
    """A missing number is zero (RFC 8428, 4.5.4), unless the record has another kind of value, or a sum only."""
    if raw.v is not None:
        return _finite(index, base_value + raw.v)
    if raw.vs is None and raw.vb is None and raw.vd is None and raw.s is None:
        return base_value
    return None


def _finite(index: int, number: float) -> float:
    """Sums of finite numbers can leave the range of a double."""
    if not math.isfinite(number):
        raise SenmlError(f"record {index}: number out of range")
    return number


def _check_version(index: int, bver: int, version: int | None) -> int:
    if bver not in (VERSION, VERSION_DRAFT):
        raise SenmlError(f"record {index}: version {bver} is not understood")
    if version is not None and bver != version:
        raise SenmlError(f"record {index}: version changes within the pack")
    return bver


def _check_name(index: int, name: str) -> None:
    """RFC 8428, 4.5.1."""
    if not name:
        raise SenmlError(f"record {index}: no name")
    if len(name) > MAX_NAME:
        raise SenmlError(f"record {index}: name longer than {MAX_NAME} characters")
    if not _NAME.fullmatch(name):
        raise SenmlError(
            f"record {index}: a name has letters, digits and -:./_ and begins with a letter or digit"
        )
    if len(_names_seen) >= NAMES_REMEMBERED:
        _names_seen.clear()
    _names_seen.add(name)


def _decode_data(index: int, text: str) -> bytes:
    """base64url without padding (RFC 4648, 5); with padding is let pass."""
    try:
        octets = text.rstrip("=").encode("ascii")
        if b"+" in octets or b"/" in octets:
            raise ValueError
        return base64.b64decode(octets + b"=" * (-len(octets) % 4), b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise SenmlError(f"record {index}: data value is not base64url") from None


# Writing


def encode_json(records: Sequence[Record], *, base_name: str = "", arrival_s: float | None = None) -> bytes:
    """A JSON pack of `records`.

    With `base_name`, with which each name must begin, name and time are shared. Records of exactly `arrival_s` are
    written without a time, which means "now" (RFC 8428, 4.5.3): so their time is corrected together with the
    message's, where a clock that gave it turns out to have been wrong.
    """
    return _encode(_pack(records, base_name, arrival_s))


def encode_cbor(records: Sequence[Record], *, base_name: str = "") -> bytes:
    """A CBOR pack of `records`; numbers take the shortest form that keeps their value."""
    return encode_pack_cbor(_pack(records, base_name))


def encode_pack_json(pack: Sequence[PackRecord]) -> bytes:
    """The JSON form of a pack as it stands, base fields included."""
    return _encode(pack)


def encode_pack_cbor(pack: Sequence[PackRecord]) -> bytes:
    """The CBOR form of a pack as it stands. Raises SenmlError where a data value is not base64url."""
    maps = []
    for index, raw in enumerate(pack):
        fields: dict[int, Any] = {}
        for label, name in _CBOR_LABELS.items():
            value = getattr(raw, name)
            if value is None:
                continue
            if name == "vd":
                value = _decode_data(index, value)
            elif type(value) is float and value.is_integer() and abs(value) < 2**53:
                value = int(value)
            fields[label] = value
        maps.append(fields)
    return cbor2.dumps(maps, canonical=True)


def _pack(records: Sequence[Record], base_name: str, arrival_s: float | None = None) -> list[PackRecord]:
    shared_time = bool(base_name) and all(record.time == records[0].time for record in records)
    pack = []
    for record in records:
        if not record.name.startswith(base_name):
            raise SenmlError(f"name {record.name!r} does not begin with {base_name!r}")
        data = record.data_value
        pack.append(
            PackRecord(
                n=record.name[len(base_name) :] or None,
                u=record.unit or None,
                v=record.value,
                vs=record.string_value,
                vb=record.bool_value,
                vd=None if data is None else _octets(data),
                s=record.sum,
                t=None if shared_time or record.time == arrival_s else record.time,
                ut=record.update_time,
            )
        )
    if pack and base_name:
        pack[0].bn = base_name
        if shared_time and records[0].time != arrival_s:
            pack[0].bt = records[0].time
    return pack
