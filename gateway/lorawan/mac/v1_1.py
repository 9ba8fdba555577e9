"""MAC commands that only LoRaWAN 1.1 has (its section 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from gateway.lorawan.mac.base import Command

MINOR = 1  # of "LoRaWAN 1.1", in ResetInd and RekeyInd and their answers
CLASS_A, CLASS_C = 0x00, 0x02  # of DeviceModeInd; 1 is reserved


@dataclass(frozen=True, slots=True)
class _Minor(Command):
    SIZE = 1
    SINCE = "1.1"
    minor: int = MINOR  # 0..15

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(payload[0] & 0x0F)

    @property
    def payload(self) -> bytes:
        return bytes((self.minor,))


class ResetInd(_Minor):
    """Device with ABP: I have started anew and forgotten what MAC commands have agreed (5.1)."""

    CID = 0x01


class ResetConf(_Minor):
    CID = 0x01


class RekeyInd(_Minor):
    """Device: I have joined and use the new keys (5.10). Repeated until RekeyConf."""

    CID = 0x0B


class RekeyConf(_Minor):
    CID = 0x0B


@dataclass(frozen=True, slots=True)
class ADRParamSetupReq(Command):
    """Network: ask for an answer after 2**limit_exp uplinks, slow down 2**delay_exp later (5.11)."""

    CID = 0x0C
    SIZE = 1
    SINCE = "1.1"
    limit_exp: int  # 0..15; 6 where it was never told
    delay_exp: int  # 0..15; 5 where it was never told

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(payload[0] >> 4, payload[0] & 0x0F)

    @property
    def payload(self) -> bytes:
        return bytes((self.limit_exp << 4 | self.delay_exp,))


class ADRParamSetupAns(Command):
    CID = 0x0C
    SINCE = "1.1"


@dataclass(frozen=True, slots=True)
class ForceRejoinReq(Command):
    """Network: send a rejoin-request now (5.13). It has no answer but the rejoin-request."""

    CID = 0x0E
    SIZE = 2
    SINCE = "1.1"
    period: int  # 0..7: 32 s * 2**period, and up to 32 s more, between tries
    max_retries: int  # 0..7
    rejoin_type: int  # 0 or 1: rejoin-request type 0; 2: type 2
    data_rate: int  # 0..15

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        value = int.from_bytes(payload, "little")
        return cls(value >> 11 & 7, value >> 8 & 7, value >> 4 & 7, value & 0x0F)

    @property
    def payload(self) -> bytes:
        value = self.period << 11 | self.max_retries << 8 | self.rejoin_type << 4 | self.data_rate
        return value.to_bytes(2, "little")


@dataclass(frozen=True, slots=True)
class RejoinParamSetupReq(Command):
    """Network: send a rejoin-request type 0 each 2**(count + 4) uplinks or 2**(time + 10) seconds (5.14)."""

    CID = 0x0F
    SIZE = 1
    SINCE = "1.1"
    max_time: int  # 0..15
    max_count: int  # 0..15

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(payload[0] >> 4, payload[0] & 0x0F)

    @property
    def payload(self) -> bytes:
        return bytes((self.max_time << 4 | self.max_count,))


@dataclass(frozen=True, slots=True)
class RejoinParamSetupAns(Command):
    CID = 0x0F
    SIZE = 1
    SINCE = "1.1"
    time_ok: bool = True  # False: the device has no clock for it; the count holds all the same

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(bool(payload[0] & 1))

    @property
    def payload(self) -> bytes:
        return bytes((self.time_ok,))


@dataclass(frozen=True, slots=True)
class _Mode(Command):
    CID = 0x20
    SIZE = 1
    SINCE = "1.1"
    mode: int  # CLASS_A, CLASS_C

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(payload[0])

    @property
    def payload(self) -> bytes:
        return bytes((self.mode,))


class DeviceModeInd(_Mode):
    """Device: I am now of this class (18.1). Repeated until DeviceModeConf."""


class DeviceModeConf(_Mode):
    pass
