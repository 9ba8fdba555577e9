"""Payloads that stay bytes: one record with a data value, named after its port."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.codecs.base import CodecError, Value, port_of
from hub.senml import Record

DEFAULT_PORT = 1


class Raw:
    name = "raw"

    def decode(self, fport: int, payload: bytes, time_s: float, base_name: str) -> list[Record]:
        if not payload:
            raise CodecError("an empty payload")
        return [Record(f"{base_name}port_{fport}", time=time_s, data_value=payload)]

    def encode(self, fport: int | None, value: Value) -> tuple[int, bytes]:
        """`{"hex": "0a1f"}`, or one record with a data value."""
        return port_of(fport, DEFAULT_PORT), _octets(value)


def _octets(value: Value) -> bytes:
    if isinstance(value, Mapping):
        text = value.get("hex")
        if set(value) == {"hex"} and isinstance(text, str):
            try:
                return bytes.fromhex(text)
            except ValueError:
                pass
        raise CodecError('the codec raw takes {"hex": "0a1f"}, two digits a byte')
    if len(value) != 1 or value[0].data_value is None:
        raise CodecError("the codec raw takes one record, with a data value (vd)")
    return value[0].data_value
