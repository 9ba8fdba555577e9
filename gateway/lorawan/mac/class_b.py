"""MAC commands of class B (1.0.2 section 14, 1.0.3 section 13; the layouts are those of 1.0.3 and later)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from gateway.lorawan.mac.base import Command, freq_bytes, freq_of


@dataclass(frozen=True, slots=True)
class PingSlotInfoReq(Command):
    """Device: I open a ping slot each 2**periodicity seconds."""

    CID = 0x10
    SIZE = 1
    CLASS_B = True
    periodicity: int  # 0..7

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(payload[0] & 7)

    @property
    def payload(self) -> bytes:
        return bytes((self.periodicity,))


class PingSlotInfoAns(Command):
    CID = 0x10
    CLASS_B = True


@dataclass(frozen=True, slots=True)
class PingSlotChannelReq(Command):
    """Network: your ping slots are on this frequency and data rate."""

    CID = 0x11
    SIZE = 4
    CLASS_B = True
    freq_hz: int  # steps of 100 Hz; 0: the region's own
    data_rate: int  # 0..15

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(freq_of(payload[:3]), payload[3] & 0x0F)

    @property
    def payload(self) -> bytes:
        return freq_bytes(self.freq_hz) + bytes((self.data_rate,))


@dataclass(frozen=True, slots=True)
class PingSlotChannelAns(Command):
    CID = 0x11
    SIZE = 1
    CLASS_B = True
    freq_ok: bool = True
    data_rate_ok: bool = True

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(bool(payload[0] & 1), bool(payload[0] & 2))

    @property
    def payload(self) -> bytes:
        return bytes((self.freq_ok | self.data_rate_ok << 1,))

    @property
    def ok(self) -> bool:
        return self.freq_ok and self.data_rate_ok


class BeaconTimingReq(Command):
    """Device: when is the next beacon? Given up by 1.0.3 and 1.1 in favour of DeviceTimeReq."""

    CID = 0x12
    CLASS_B = True


@dataclass(frozen=True, slots=True)
class BeaconTimingAns(Command):
    CID = 0x12
    SIZE = 3
    CLASS_B = True
    delay: int  # 30 ms * (delay + 1) is not yet over when the beacon begins, 0..65535
    channel: int  # where the beacon hops

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(int.from_bytes(payload[:2], "little"), payload[2])

    @property
    def payload(self) -> bytes:
        return self.delay.to_bytes(2, "little") + bytes((self.channel,))


@dataclass(frozen=True, slots=True)
class BeaconFreqReq(Command):
    """Network: the beacon is on this frequency."""

    CID = 0x13
    SIZE = 3
    CLASS_B = True
    freq_hz: int  # steps of 100 Hz; 0: the region's own

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(freq_of(payload))

    @property
    def payload(self) -> bytes:
        return freq_bytes(self.freq_hz)


@dataclass(frozen=True, slots=True)
class BeaconFreqAns(Command):
    CID = 0x13
    SIZE = 1
    CLASS_B = True
    freq_ok: bool = True

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(bool(payload[0] & 1))

    @property
    def payload(self) -> bytes:
        return bytes((self.freq_ok,))

    @property
    def ok(self) -> bool:
        return self.freq_ok
