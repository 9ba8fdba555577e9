"""The codecs by the name a device is registered with."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gateway.codecs.base import Codec, CodecError, LaterCodec, Value
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


class Codecs:
    """Every codec that a device can name: our own, and those of the library, which answer later."""

    def __init__(self, later: Mapping[str, LaterCodec] = MappingProxyType({})) -> None:
        """`later` may change; a name of CODECS in it is never reached."""
        self.later = later

    def get(self, name: str) -> Codec | LaterCodec | None:
        """None where there is no such codec."""
        return CODECS.get(name) or self.later.get(name)

    def names(self) -> list[str]:
        """Our own first."""
        return [*CODECS, *sorted(self.later)]

    async def encode(self, name: str, fport: int | None, value: Value) -> tuple[int, bytes]:
        """The port and payload of a downlink that says `value`. Raises CodecError."""
        if (codec := CODECS.get(name)) is not None:
            return codec.encode(fport, value)
        if (later := self.later.get(name)) is not None:
            return await later.encode(fport, value)
        raise CodecError(f"there is no codec {name!r}; there are {', '.join(self.names())}")
