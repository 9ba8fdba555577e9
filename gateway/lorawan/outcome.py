"""What came of a frame: joined, uplink, or refused with a reason and words for the technician.

`writes` of an outcome go into the hub's log in the same transaction as the outcome's messages.
"""

from __future__ import annotations

import enum

import msgspec

from gateway.lorawan.clock import Instant
from gateway.lorawan.device import Device
from gateway.lorawan.types import DevAddr, DevEUI
from hub.log import Write
from radio.gwmp import RxPacket, TxPacket

Writes = list[Write]


class Reason(enum.StrEnum):
    """Why a frame was refused; docs/lorawan.md has the remedy for each."""

    UNKNOWN_DEV_ADDR = "unknown_dev_addr"
    UNKNOWN_DEV_EUI = "unknown_dev_eui"
    JOIN_EUI_MISMATCH = "join_eui_mismatch"
    NOT_OTAA = "not_otaa"
    BAD_MIC = "bad_mic"
    REPLAY = "replay"
    DUPLICATE = "duplicate"
    DEV_NONCE_USED = "dev_nonce_used"
    JOIN_NONCES_USED_UP = "join_nonces_used_up"
    MALFORMED = "malformed"
    UNSUPPORTED = "unsupported"
    NOT_AN_UPLINK = "not_an_uplink"
    CRC_ERROR = "crc_error"


class Downlink(msgspec.Struct, frozen=True, gc=False):
    """One frame for both receive windows of a class A device, identical in each.

    Where only one window can carry it, `rx1` and `rx2` are the same packet.
    """

    id: str  # of the order it carries, or its own
    dev_eui: DevEUI
    rx1: TxPacket
    rx2: TxPacket
    confirmed: bool
    fcnt: int | None  # FCntDown; None in a join-accept
    after_commit: bool  # it acknowledges, or uses a counter not yet reserved: leaves only after the commit


class Rejected(msgspec.Struct, frozen=True, gc=False):
    reason: Reason
    detail: str  # one sentence for a technician; holds no key
    rx: RxPacket
    dev_eui: DevEUI | None = None
    dev_addr: DevAddr | None = None
    fcnt: int | None = None  # the 16 bits on the air, where there are any
    downlink: Downlink | None = None  # the repeated ACK for a repeated confirmed uplink
    writes: Writes = []  # a Struct copies an empty default


class Joined(msgspec.Struct, frozen=True, gc=False):
    """A join-request was granted. The join-accept leaves once `writes` are durable."""

    device: Device
    dev_addr: DevAddr
    dev_nonce: int
    rx: RxPacket
    at: Instant
    writes: Writes
    downlink: Downlink | None  # None: neither window is usable, see `notes`
    notes: tuple[str, ...] = ()


class Uplink(msgspec.Struct, frozen=True, gc=False):
    """A verified and decrypted data frame."""

    device: Device
    dev_addr: DevAddr
    fcnt: int  # 32 bits
    fport: int | None  # None or 0: no application payload
    payload: bytes  # decrypted; empty on port 0
    confirmed: bool
    adr: bool
    rx: RxPacket
    gateway_eui: bytes
    at: Instant
    writes: Writes
    durable: bool  # the writes hold a reservation or an answer waits for them: append, do not post
    downlink: Downlink | None = None
    acked: str | None = None  # id of the confirmed downlink that this uplink acknowledges
    notes: tuple[str, ...] = ()  # MAC commands and what was concluded, for the live view
    before: int | None = None  # FCntUp of the session until this frame


Outcome = Rejected | Joined | Uplink
