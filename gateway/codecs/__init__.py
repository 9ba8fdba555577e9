"""Payload codecs: the bytes an application port carried in, SenML records out, and back again for downlinks.

In: FPort, decrypted payload, time of reception, the device's base name. Out: resolved `hub.senml.Record`s.
Not here: LoRaWAN (`gateway.lorawan`), publishing (`gateway.lorawan.publish`) and units of radio metadata.
"""

from gateway.codecs.base import Codec, CodecError, Decoded, LaterCodec
from gateway.codecs.catalog import CODECS, Codecs, get_codec

__all__ = ["CODECS", "Codec", "CodecError", "Codecs", "Decoded", "LaterCodec", "get_codec"]
