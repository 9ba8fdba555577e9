"""What a payload is: the content type as the hub keeps it, and whether the bytes keep to it.

In: the content type a sender named (a header, a topic's last word, or nothing) and the bytes. Out: one of the
four types of `hub.message`, or BadMessage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from . import senml_kept
from .errors import BadMessage, SenmlError, UnsupportedType
from .message import JSON, OCTET_STREAM, SENML_CBOR, SENML_JSON

KNOWN = frozenset({SENML_JSON, SENML_CBOR, JSON, OCTET_STREAM})
VALUE_LABELS = frozenset({"v", "vs", "vb", "vd", "s"})

_decode_any: Callable[[bytes], Any] = msgspec.json.Decoder().decode


def normalise(content_type: str) -> str:
    """The media type without parameters, in lower case.

    Raises UnsupportedType where the hub does not keep it.
    """
    name = content_type.partition(";")[0].strip().lower()
    if name not in KNOWN:
        raise UnsupportedType(f"content type is one of {', '.join(sorted(KNOWN))}")
    return name


def check(content_type: str, payload: bytes, now_s: float) -> str:
    """The type under which `payload` is kept. Raises BadMessage, UnsupportedType.

    `application/json` that is an array of SenML records is SenML.
    """
    name = content_type if content_type in KNOWN else normalise(content_type)
    if name == OCTET_STREAM:
        return name
    if name == JSON:
        if not _is_senml(payload):
            return name
        name = SENML_JSON
    try:
        senml_kept.check(name, payload, now_s)
    except SenmlError as error:
        raise BadMessage(error.reason) from None
    return name


def _is_senml(payload: bytes) -> bool:
    """True for an array whose every element has a name and a value. Raises BadMessage where it is no JSON."""
    try:
        parsed = _decode_any(payload)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise BadMessage(f"no JSON: {error}") from None
    if not isinstance(parsed, list) or not parsed:
        return False
    return all(
        isinstance(item, dict) and ("n" in item or "bn" in item) and not VALUE_LABELS.isdisjoint(item)
        for item in parsed
    )
