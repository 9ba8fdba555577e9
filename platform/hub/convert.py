"""Showing a message in another content type than it was published in: SenML JSON as CBOR and back.

Doors ask here when a receiver names what it accepts (HTTP Accept, WebSocket `?accept=`, the CoAP option, an
MQTT 5 user property). Nothing else is converted: JSON and bytes are shown as they are, or not at all.
"""

from __future__ import annotations

from . import senml
from .errors import SenmlError
from .message import SENML_CBOR, SENML_JSON

MAX_RANGES = 32  # media ranges of one Accept; browsers send about eight

_ENCODERS = {SENML_JSON: senml.encode_pack_json, SENML_CBOR: senml.encode_pack_cbor}
_DECODERS = {SENML_JSON: senml.decode_json, SENML_CBOR: senml.decode_cbor}


def transcode(content_type: str, payload: bytes, wanted: str) -> bytes:
    """`payload` of `content_type` as `wanted`; the same bytes where the two agree.

    The pack is kept as it stands: base fields, relative times, the order of records. Labels that nobody has
    to understand (RFC 8428, 4.4) are left out. Raises SenmlError, also where there is no way between the two.
    """
    if content_type == wanted:
        return payload
    decode, encode = _DECODERS.get(content_type), _ENCODERS.get(wanted)
    if decode is None or encode is None:
        raise SenmlError(f"{content_type!r} cannot be shown as {wanted!r}")
    return encode(decode(payload))


def negotiate(accept: str, content_type: str) -> str | None:
    """The type in which a receiver that sent `accept` (RFC 9110, 12.5.1) is shown a message; None: in no type.

    At equal weight the type it was published in wins, because that costs nothing.
    """
    if not accept:
        return content_type
    shown = (
        content_type,
        *(other for other in _ENCODERS if content_type in _DECODERS and other != content_type),
    )
    ranges = [_media_range(part) for part in accept.split(",")[:MAX_RANGES]]
    weights = {name: _weight(name, ranges) for name in shown}
    best = max(shown, key=weights.__getitem__)  # max takes the first of equals
    return best if weights[best] > 0 else None


def _media_range(part: str) -> tuple[str, float]:
    name, _, parameters = part.partition(";")
    weight = 1.0
    for parameter in parameters.split(";"):
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "q":
            try:
                weight = min(1.0, max(0.0, float(value)))
            except ValueError:
                weight = 0.0
    return name.strip().lower(), weight


def _weight(name: str, ranges: list[tuple[str, float]]) -> float:
    """The weight of the most specific range that covers `name`."""
    for wanted in (name, name.partition("/")[0] + "/*", "*/*"):
        for text, weight in ranges:
            if text == wanted:
                return weight
    return 0.0
