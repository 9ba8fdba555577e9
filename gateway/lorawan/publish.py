"""An uplink becomes messages: its values as SenML, and how it was heard.

Values go to the subtopic `<DevEUI>` of the device's channel, radio metadata to `<DevEUI>.radio`, named
`urn:dev:mac:<DevEUI>:<value>` (RFC 9039). A payload that its codec cannot read, and every payload of the
codec `raw`, is published as it came, as an octet stream: nothing a device said is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.codecs import CODECS, CodecError, Codecs, Decoded, LaterCodec
from gateway.lorawan.outcome import Uplink
from gateway.lorawan.packs import MAX_GATEWAYS, RADIO_RECORDS, HeardBy, radio_pack, values_pack
from hub.message import OCTET_STREAM, SENML_JSON, Message
from hub.senml import Record, arrival_s
from hub.timekeeping import TRUSTED

PROTOCOL = "lora"
RAW_CODEC = "raw"


class Published(msgspec.Struct):
    """What is to be appended to the log with the uplink's writes."""

    messages: list[Message]
    decoded: list[Record] = []  # a Struct copies an empty default; the payload's SenML records
    problem: str = ""  # why the payload stayed bytes; "" where it was decoded, or was to stay so
    notes: tuple[str, ...] = ()  # what the codec warned of
    base_size: int = 0  # characters of the base name that the records share
    radio_records: int = RADIO_RECORDS  # of how the frame was heard

    @property
    def records(self) -> int:
        """SenML records of the payload."""
        return len(self.decoded)

    @property
    def values(self) -> list[dict[str, Any]]:
        """The records for a page: n, u and v, vs or vb. Made when asked for, which is seldom."""
        return [_value(record, self.base_size) for record in self.decoded]


@dataclass(frozen=True, slots=True)
class Publisher:
    """Makes the messages of uplinks. `boot` is the boot id that goes into each."""

    boot: str = ""
    codecs: Codecs = field(default_factory=Codecs)

    def later(self, uplink: Uplink) -> LaterCodec | None:
        """The codec that has to be asked first, as it answers later; None where `messages` can be called at once."""
        if not uplink.fport:
            return None
        name = uplink.device.config.codec
        return None if name in CODECS else self.codecs.later.get(name)

    def messages(
        self, uplink: Uplink, gateways: Sequence[HeardBy] = (), decoded: Decoded | None = None
    ) -> Published:
        """What an uplink has to say; one without an application payload has radio metadata only.

        `gateways`: all that heard it, the best first, where there were several. `decoded` is the answer of the codec
        that had to be asked first.
        """
        device = uplink.device
        time_s, trusted = arrival_s(uplink.at.wall_ns), uplink.at.quality in TRUSTED
        made = Published([])
        if uplink.fport:
            content_type, body = OCTET_STREAM, uplink.payload
            name = device.config.codec
            try:
                records = self._records(uplink, uplink.fport, time_s, decoded)
                if records:
                    content_type = SENML_JSON
                    body = values_pack(records, device.base_name, time_s, trusted=trusted)
                    made.decoded, made.base_size = records, len(device.base_name)
            except CodecError as error:
                made.problem = f"codec {name}: {error}"
            if decoded is not None:
                made.notes = decoded.notes
            made.messages.append(self._message(uplink, device.topic, content_type, body))
        radio = radio_pack(uplink, time_s, trusted=trusted, gateways=gateways)
        if gateways:
            made.radio_records += 1 + 2 * min(len(gateways), MAX_GATEWAYS)
        made.messages.append(self._message(uplink, device.radio_topic, SENML_JSON, radio))
        return made

    def _records(self, uplink: Uplink, fport: int, time_s: float, decoded: Decoded | None) -> list[Record]:
        """Nothing where the payload is to stay bytes. Raises CodecError."""
        name = uplink.device.config.codec
        codec = CODECS.get(name)
        if codec is None:
            if decoded is None:
                raise CodecError(
                    f"there is no codec of this name; there are {', '.join(self.codecs.names())}"
                )
            if decoded.problem:
                raise CodecError(decoded.problem)
            return decoded.records
        if name == RAW_CODEC:
            return []
        return codec.decode(fport, uplink.payload, time_s, uplink.device.base_name)

    def _message(self, uplink: Uplink, subtopic: str, content_type: str, payload: bytes) -> Message:
        config, at = uplink.device.config, uplink.at
        return Message(
            config.channel_id,
            subtopic,
            config.thing_id,
            PROTOCOL,
            content_type,
            payload,
            at.wall_ns,
            time=at.quality,
            boot=self.boot,
        )


def _value(record: Record, base_size: int) -> dict[str, Any]:
    """A record as pages show it: short name, unit, value; bytes as hex."""
    value: dict[str, Any] = {"n": record.name[base_size:], "u": record.unit}
    if record.value is not None:
        value["v"] = record.value
    elif record.string_value is not None:
        value["vs"] = record.string_value
    elif record.bool_value is not None:
        value["vb"] = record.bool_value
    elif record.data_value is not None:
        value["vs"] = record.data_value.hex()
    elif record.sum is not None:
        value["v"] = record.sum
    return value
