"""What is sent upstream when retention took messages that a destination had not been given yet.

JSON: `{"gateway", "first_seq", "last_seq", "messages"}`. It says: of this gateway's messages with a number from
`first_seq` to `last_seq` so many are gone and will not come. Told before what follows them, and again until it is
acknowledged. While a destination stays behind the hole grows: a later record with the same gateway and
`first_seq` replaces the earlier.
"""

from __future__ import annotations

import msgspec

from hub.log import Gap


class GapRecord(msgspec.Struct, frozen=True):
    """As above."""

    gateway: str
    first_seq: int
    last_seq: int
    messages: int


def encode(gap: Gap, gateway: str) -> bytes:
    return msgspec.json.encode(GapRecord(gateway, gap.first_seq, gap.last_seq, gap.messages))


def identity(gap: Gap, gateway: str) -> str:
    """The same for each copy of one record."""
    return f"{gateway}/gap/{gap.first_seq}/{gap.last_seq}"
