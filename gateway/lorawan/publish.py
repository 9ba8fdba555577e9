"""An uplink becomes messages: its values as SenML, and how it was heard.

Values go to the subtopic `<DevEUI>` of the device's channel, radio metadata to `<DevEUI>.radio`, named
`urn:dev:mac:<DevEUI>:<value>` (RFC 9039). A payload that its codec cannot read, and every payload of the
codec `raw`, is published as it came, as an octet stream: nothing a device said is lost.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from gateway.codecs import Codec, CodecError
from gateway.lorawan.outcome import Uplink
from hub.message import OCTET_STREAM, SENML_JSON, Message
from hub.senml import PackRecord, Record, encode_json

PROTOCOL = "lora"
RAW_CODEC = "raw"
_NS = 1e9
_encode_pack = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Published:
    """What is to be appended to the log with the uplink's writes."""

    messages: list[Message]
    records: list[Record]  # the decoded values, for the live view; empty where there are none
    problem: str = ""  # why the payload stayed bytes; "" where it was decoded, or was to stay so


def publish(uplink: Uplink, codec: Codec, boot: str = "") -> Published:
    """The messages of an uplink. One without an application payload has radio metadata only."""
    device = uplink.device
    time_s = uplink.at.wall_ns / _NS
    records: list[Record] = []
    problem = ""
    messages: list[Message] = []
    if uplink.fport:
        content_type, body = OCTET_STREAM, uplink.payload
        if codec.name != RAW_CODEC:
            try:
                records = codec.decode(uplink.fport, uplink.payload, time_s, device.base_name)
                content_type, body = SENML_JSON, encode_json(records, base_name=device.base_name)
            except CodecError as error:
                problem = f"codec {codec.name}: {error}"
        messages.append(_message(uplink, device.topic, content_type, body, boot))
    radio = _encode_pack(radio_pack(uplink, time_s))
    messages.append(_message(uplink, device.topic + ".radio", SENML_JSON, radio, boot))
    return Published(messages, records, problem)


def radio_pack(uplink: Uplink, time_s: float) -> list[PackRecord]:
    """How the frame was heard, as a pack that shares base name and time.

    Built as it is sent, without resolved records between: this is done for every frame.
    """
    rx = uplink.rx
    return [
        PackRecord(bn=uplink.device.base_name, bt=time_s, n="rssi", u="dBm", v=rx.rssi_dbm),
        PackRecord(n="snr", u="dB", v=rx.lsnr_db),
        PackRecord(n="sf", v=rx.modulation.sf),
        PackRecord(n="frequency", u="Hz", v=rx.freq_hz),
        PackRecord(n="fcnt", u="count", v=uplink.fcnt),
    ]


def _message(uplink: Uplink, subtopic: str, content_type: str, payload: bytes, boot: str) -> Message:
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
        boot=boot,
    )
