"""SenML that keeps its times when it arrives late.

A record without an absolute time means "now" (RFC 8428, 4.5.3), and a receiver takes that for the moment of
arrival: after an outage, hours off. Such a pack is resolved against the time at which this gateway took it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from hub import senml
from hub.errors import SenmlError
from hub.message import SENML_CBOR, SENML_JSON, Message, TimeQuality

_CODECS: dict[
    str, tuple[Callable[[bytes], Sequence[senml.PackRecord]], Callable[[Sequence[senml.Record]], bytes]]
] = {
    SENML_JSON: (senml.decode_json, senml.encode_json),
    SENML_CBOR: (senml.decode_cbor, senml.encode_cbor),
}


def with_absolute_times(message: Message) -> bytes:
    """The payload, with absolute times if it is SenML that has others.

    Unchanged where nothing is relative, where it is no SenML, and where this gateway's own clock had not been
    set when the message came: then the moment of arrival is the better guess.
    """
    codec = _CODECS.get(message.content_type)
    if codec is None or message.time is TimeQuality.UNSET:
        return message.payload
    decode, encode = codec
    try:
        pack = decode(message.payload)
        if not _has_relative_time(pack):
            return message.payload
        return encode(senml.resolve(pack, message.created_ns / 1e9))
    except SenmlError:
        return message.payload


def absolute(message: Message) -> Message:
    """The message with such a payload."""
    payload = with_absolute_times(message)
    return message if payload is message.payload else msgspec.structs.replace(message, payload=payload)


def _has_relative_time(pack: Sequence[senml.PackRecord]) -> bool:
    base = 0.0
    for record in pack:
        if record.bt is not None:
            base = record.bt
        if base + (record.t or 0.0) < senml.RELATIVE_BELOW:
            return True
    return False
