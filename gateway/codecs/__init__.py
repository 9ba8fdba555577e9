"""Payload codecs: the bytes an application port carried in, SenML records out, and back again for downlinks.

In: FPort, decrypted payload, time of reception, the device's base name. Out: resolved `hub.senml.Record`s.
Not here: LoRaWAN (`gateway.lorawan`), publishing (`gateway.lorawan.publish`) and units of radio metadata.

Names are loaded when they are asked for: the process that runs JavaScript lives in this package and needs none.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.codecs.base import Codec, CodecError, Decoded, LaterCodec
    from gateway.codecs.catalog import CODECS, Codecs, get_codec

__all__ = ["CODECS", "Codec", "CodecError", "Codecs", "Decoded", "LaterCodec", "get_codec"]

_IN_CATALOG = frozenset({"CODECS", "Codecs", "get_codec"})


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{'catalog' if name in _IN_CATALOG else 'base'}")
    return getattr(module, name)
