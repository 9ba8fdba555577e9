"""The codecs by the name a device is registered with."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gateway.codecs.base import Codec, CodecError
from gateway.codecs.cayenne import Cayenne
from gateway.codecs.raw import Raw
from gateway.codecs.senml import Senml

_ALL: tuple[Codec, ...] = (Cayenne(), Senml(), Raw())
CODECS: Mapping[str, Codec] = MappingProxyType({codec.name: codec for codec in _ALL})


def get_codec(name: str) -> Codec:
    """Raises CodecError for a name that is not in CODECS."""
    codec = CODECS.get(name)
    if codec is None:
        raise CodecError(f"codec {name!r} is not one of {', '.join(CODECS)}")
    return codec
