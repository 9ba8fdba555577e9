"""A receipt becomes a message on the device's channel, and words for people.

Subtopic `<DevEUI>.downlinks`, SenML JSON: `downlink` is the state, `downlink_id` the order, and where there is
something to tell `downlink_reason`, `downlink_window`, `downlink_fcnt` and `downlink_gateway`.
"""

from __future__ import annotations

import json

from gateway.lorawan.outcome import Receipt
from hub.message import SENML_JSON, Message
from hub.timekeeping import TRUSTED
from radio.gwmp import TxError

PROTOCOL = "lora"
SUBTOPIC = ".downlinks"

TX_ERROR_WORDS = {
    TxError.TOO_LATE: "the order came too late for the receive window, or the forwarder is gone",
    TxError.TOO_EARLY: "the order was too far ahead, or late for a forwarder that restarted",
    TxError.COLLISION_PACKET: "another downlink had that time already, or the duty cycle of the band is used up",
    TxError.COLLISION_BEACON: "a beacon had that time already",
    TxError.TX_FREQ: "the forwarder may not send on that frequency, or not for so long",
    TxError.TX_POWER: "the forwarder cannot send with that power",
    TxError.GPS_UNLOCKED: "the forwarder has no GPS time",
}


def message(
    receipt: Receipt, *, topic: str, base_name: str, thing_id: str, channel_id: str, boot: str
) -> Message:
    """The receipt as the log takes it. `topic` and `base_name` are those of the device's or group's values."""
    return Message(
        channel_id,
        topic + SUBTOPIC,
        thing_id,
        PROTOCOL,
        SENML_JSON,
        pack(receipt, base_name),
        receipt.at.wall_ns,
        time=receipt.at.quality,
        boot=boot,
    )


def pack(receipt: Receipt, base_name: str) -> bytes:
    """The SenML records; a clock that is not set leaves the time out, which means "now"."""
    first: dict[str, object] = {"bn": base_name} if base_name else {}
    if receipt.at.quality in TRUSTED:
        first["bt"] = receipt.at.wall_ns / 1e9
    records = [
        first | {"n": "downlink", "vs": receipt.state.value},
        {"n": "downlink_id", "vs": receipt.order_id},
    ]
    for name, words in (
        ("downlink_reason", receipt.reason),
        ("downlink_window", receipt.window),
        ("downlink_gateway", "" if receipt.gateway is None else receipt.gateway.hex()),
    ):
        if words:
            records.append({"n": name, "vs": words})
    if receipt.fcnt is not None:
        records.append({"n": "downlink_fcnt", "u": "count", "v": receipt.fcnt})
    return json.dumps(records, separators=(",", ":")).encode()
