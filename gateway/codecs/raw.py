"""Payloads that stay bytes: one record with a data value, named after its port."""

from __future__ import annotations

from gateway.codecs.base import CodecError
from hub.senml import Record


class Raw:
    name = "raw"

    def decode(self, fport: int, payload: bytes, time_s: float, base_name: str) -> list[Record]:
        if not payload:
            raise CodecError("an empty payload")
        return [Record(f"{base_name}port_{fport}", time=time_s, data_value=payload)]
