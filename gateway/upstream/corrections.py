"""What is sent upstream when the gateway's clock was set: which times sent before were wrong, and by how much.

JSON: `{"gateway", "boot", "up_to_seq", "offset_ns", "quality"}`. It says: of the messages of this gateway and boot with
a number up to `up_to_seq` whose `time` is `unset` or `restored`, add `offset_ns` to `created_ns`; they then have
`quality`. Records of one boot apply in the order they were sent; a later one with the same gateway, boot and
`up_to_seq` replaces the earlier. All of them are sent again after a start.
"""

from __future__ import annotations

import msgspec

from hub.timekeeping import Correction


class CorrectionRecord(msgspec.Struct, frozen=True):
    """As above."""

    gateway: str
    boot: str
    up_to_seq: int
    offset_ns: int
    quality: str


def encode(correction: Correction, gateway: str) -> bytes:
    return msgspec.json.encode(
        CorrectionRecord(
            gateway, correction.boot, correction.up_to_seq, correction.offset_ns, correction.quality.value
        )
    )


def identity(correction: Correction, gateway: str) -> str:
    """The same for each copy of one record."""
    return (
        f"{gateway}/correction/{correction.boot}/{correction.up_to_seq}/"
        f"{correction.offset_ns}/{correction.quality.value}"
    )
