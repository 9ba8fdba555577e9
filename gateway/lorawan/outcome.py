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
    """Why a frame was refused; docs/diagnosis.md has the remedy for each."""

    UNKNOWN_DEV_ADDR = "unknown_dev_addr"
    UNKNOWN_DEV_EUI = "unknown_dev_eui"
    JOIN_EUI_MISMATCH = "join_eui_mismatch"
    NOT_OTAA = "not_otaa"
    BAD_MIC = "bad_mic"
    REPLAY = "replay"
    DUPLICATE = "duplicate"
    COUNTER_RESET = "counter_reset"
    UNKNOWN_CHANNEL = "unknown_channel"
    MOVED_AWAY = "moved_away"
    MULTICAST_ADDRESS = "multicast_address"
    DEV_NONCE_USED = "dev_nonce_used"
    REJOIN_COUNT_USED = "rejoin_count_used"
    NOT_JOINED = "not_joined"
    JOIN_NONCES_USED_UP = "join_nonces_used_up"
    MALFORMED = "malformed"
    UNSUPPORTED = "unsupported"
    NOT_AN_UPLINK = "not_an_uplink"
    CRC_ERROR = "crc_error"


class Elsewhere(msgspec.Struct, frozen=True, gc=False):
    """The windows of a downlink by the counter of another gateway that heard the uplink."""

    gateway: bytes  # EUI
    windows: tuple[TxPacket, ...]
    opens_ns: tuple[int, ...]  # when each is, in monotonic time


class Downlink(msgspec.Struct, frozen=True, gc=False):
    """One frame for one device or group, identical in each of its windows."""

    id: str  # of the order it carries, or its own
    dev_eui: DevEUI | None  # None: for a multicast group
    windows: tuple[TxPacket, ...]  # in the order to try them; at least one
    confirmed: bool
    fcnt: int | None  # FCntDown; None in a join-accept
    after_commit: bool  # it acknowledges, or uses a counter not yet reserved: leaves only after the commit
    klass: str = "A"  # A, B, C: what kind of window
    gateway: bytes | None = None  # EUI; None: the one that heard the uplink
    group: str = ""  # name of the multicast group
    names: tuple[str, ...] = ("RX1", "RX2")  # of the windows, for people
    elsewhere: tuple[Elsewhere, ...] = ()  # where to try next, the best first
    refusal: str = ""  # why a gateway would not send it, in its words, where it says so

    def window_name(self, window: int) -> str:
        """What people call the window of that number, which counts from 1."""
        return self.names[window - 1] if 0 < window <= len(self.names) else f"window {window}"


class OrderFate(enum.StrEnum):
    """What a receipt says of a downlink order."""

    QUEUED = "queued"
    SENT = "sent"  # a gateway has taken it for sending; once for each repetition of a confirmed one
    ACKNOWLEDGED = "acknowledged"
    FAILED = "failed"


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """What has become of a downlink order; published with the writes that make it true."""

    order_id: str
    dev_eui: DevEUI | None  # None: an order to a multicast group
    state: OrderFate
    reason: str  # why it failed and what to do; "" otherwise
    at: Instant
    window: str = ""  # of `sent`: RX1, RX2, RXC, ping slot
    fcnt: int | None = None  # FCntDown it went out with
    gateway: bytes | None = None  # EUI, of `sent`
    attempt: int = 0  # how often it has been sent by now
    group: str = ""


class Due(msgspec.Struct, gc=False):
    """What follows for downlinks: to be committed, published and sent, in this order where `after_commit` asks."""

    # Whose state is written: in the order of what concerns this device; 0: of none or a group
    dev_eui: int = 0
    downlinks: list[Downlink] = []  # a Struct copies an empty default
    writes: Writes = []
    receipts: list[Receipt] = []

    def __bool__(self) -> bool:
        return bool(self.downlinks or self.writes or self.receipts)


class Rejected(msgspec.Struct, frozen=True, gc=False):
    reason: Reason
    detail: str  # one sentence for a technician; holds no key
    rx: RxPacket
    dev_eui: DevEUI | None = None
    dev_addr: DevAddr | None = None
    fcnt: int | None = None  # the 16 bits on the air, where there are any
    downlink: Downlink | None = None  # the repeated ACK for a repeated confirmed uplink
    writes: Writes = []  # a Struct copies an empty default
    receipts: list[Receipt] = []


class Joined(msgspec.Struct, frozen=True, gc=False):
    """A join- or rejoin-request was granted. The join-accept leaves once `writes` are durable."""

    device: Device
    dev_addr: DevAddr
    dev_nonce: int
    rx: RxPacket
    at: Instant
    writes: Writes
    downlink: Downlink | None  # None: neither window is usable, see `notes`
    notes: tuple[str, ...] = ()
    # Type of the rejoin-request; `dev_nonce` is then its RJcount; None: a join-request
    rejoin: int | None = None


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
    receipts: tuple[Receipt, ...] = ()  # of orders that this uplink settles


Outcome = Rejected | Joined | Uplink
