"""Content formats (RFC 7252, 12.3; RFC 8428, 12.3) and the content types of the hub."""

from __future__ import annotations

from hub.coap.blocks import Shown
from hub.coap.packets import uint
from hub.convert import transcode
from hub.errors import SenmlError
from hub.message import JSON, OCTET_STREAM, SENML_CBOR, SENML_JSON, Message

TEXT_FORMAT = 0
LINK_FORMAT = 40
FORMATS = {SENML_JSON: 110, SENML_CBOR: 112, JSON: 50, OCTET_STREAM: 42}
# Text is kept as bytes: the hub has no type for it.
CONTENT_TYPES = {number: name for name, number in FORMATS.items()} | {TEXT_FORMAT: OCTET_STREAM}


def show(message: Message, content_format: int | None) -> Shown | None:
    """`message` in a format, None for its own; None where it cannot be shown so.

    The ETag (RFC 7252, 5.10.6) is the message's number and the format.
    """
    number = FORMATS[message.content_type] if content_format is None else content_format
    payload = message.payload
    if number != FORMATS[message.content_type] and not (
        number == TEXT_FORMAT and message.content_type == OCTET_STREAM
    ):
        wanted = CONTENT_TYPES.get(number)
        if wanted is None:
            return None
        try:
            payload = transcode(message.content_type, payload, wanted)
        except SenmlError:
            return None
    return Shown(payload, number, uint(message.seq) + bytes((number,)))
