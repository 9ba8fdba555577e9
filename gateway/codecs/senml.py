"""Nodes that send SenML themselves, JSON or CBOR: validated, resolved, and named as this device's.

Whatever name a node gives, the record's name begins with the device's own base name, so no node can write
under another's. Relative times count from the reception.
"""

from __future__ import annotations

from gateway.codecs.base import CodecError
from hub.errors import SenmlError
from hub.message import SENML_CBOR, SENML_JSON
from hub.senml import MAX_NAME, Record, decode


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
