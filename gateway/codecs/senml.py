"""Nodes that send SenML themselves, JSON or CBOR: validated, resolved, and named as this device's.

Whatever name a node gives, the record's name begins with the device's own base name, so no node can write
under another's. Relative times count from the reception.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.codecs.base import CodecError, Value, port_of
from hub.errors import SenmlError
from hub.message import SENML_CBOR, SENML_JSON
from hub.senml import MAX_NAME, PackRecord, Record, decode, encode_cbor, encode_pack_cbor

DEFAULT_PORT = 1


class Senml:
    name = "senml"

    def decode(self, fport: int, payload: bytes, time_s: float, base_name: str) -> list[Record]:
        if not payload:
            raise CodecError("an empty payload")
        content_type = SENML_JSON if payload.lstrip()[:1] == b"[" else SENML_CBOR
        try:
            records = decode(content_type, payload, time_s)
        except SenmlError as error:
            raise CodecError(str(error)) from None
        return [
            record if record.name.startswith(base_name) else _own(record, base_name) for record in records
        ]

    def encode(self, fport: int | None, value: Value) -> tuple[int, bytes]:
        """A CBOR pack, the smallest form: of records as they stand, or of `{"name": number, text or boolean}`."""
        port = port_of(fport, DEFAULT_PORT)
        if not value:
            raise CodecError("there is no value to send")
        try:
            if isinstance(value, Mapping):
                payload = encode_pack_cbor([_named(name, each) for name, each in value.items()])
            else:
                payload = encode_cbor(value)
            decode(SENML_CBOR, payload, 0.0)
        except SenmlError as error:
            raise CodecError(str(error)) from None
        return port, payload


def _named(name: str, value: object) -> PackRecord:
    match value:
        case bool():
            return PackRecord(n=name, vb=value)
        case int() | float():
            return PackRecord(n=name, v=value)
        case str():
            return PackRecord(n=name, vs=value)
    raise CodecError(f"{name} is neither a number, nor a text, nor true or false")


def _own(record: Record, base_name: str) -> Record:
    name = base_name + record.name
    if len(name) > MAX_NAME:
        raise CodecError(f"name {record.name[:32]!r}... is longer than the {MAX_NAME - len(base_name)} left")
    return Record(
        name,
        record.unit,
        record.time,
        record.value,
        record.string_value,
        record.bool_value,
        record.data_value,
        record.sum,
        record.update_time,
    )
