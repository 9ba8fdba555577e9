"""The codecs by the name a device is registered with."""

from __future__ import annotations

from gateway.codecs.base import Codec, CodecError
from gateway.codecs.cayenne import Cayenne
from gateway.codecs.raw import Raw
from gateway.codecs.senml import Senml

_CODECS: dict[str, Codec] = {codec.name: codec for codec in (Cayenne(), Senml(), Raw())}
CODEC_NAMES = tuple(_CODECS)


def get_codec(name: str) -> Codec:
    """Raises CodecError for a name that is not in CODEC_NAMES."""
    codec = _CODECS.get(name)
    if codec is None:
        raise CodecError(f"codec {name!r} is not one of {', '.join(CODEC_NAMES)}")
    return codec
