"""MAC commands of every class A device: LoRaWAN 1.0.0 to 1.0.4 (TS001 section 5), and 1.1 with them.

Layouts and section numbers are those of 1.0.2; DeviceTime is 1.0.3's. Multi-byte fields are little endian.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from gateway.lorawan.mac.base import Command, freq_bytes, freq_of

KEEP = 0xF  # data rate or power of a LinkADRReq: leave it as it is (1.0.4)
BATTERY_EXTERNAL = 0  # DevStatusAns: on mains power
BATTERY_UNKNOWN = 255
# TxParamSetupReq: dBm by code (1.0.2, 5.8)
MAX_EIRP_DBM = (8, 10, 12, 13, 14, 16, 18, 20, 21, 24, 26, 27, 29, 30, 33, 36)


class LinkCheckReq(Command):
    """Device: how well does the network hear me? (5.1)"""

    CID = 0x02


@dataclass(frozen=True, slots=True)
class LinkCheckAns(Command):
    CID = 0x02
    SIZE = 2
    margin_db: int  # 0..254 above the demodulation floor
    gateways: int  # how many heard the request

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(payload[0], payload[1])

    @property
    def payload(self) -> bytes:
        return bytes((self.margin_db, self.gateways))


@dataclass(frozen=True, slots=True)
class LinkADRReq(Command):
    """Network: use this data rate, power, channels and repetitions (5.2). A run of them is one block."""

    CID = 0x03
    SIZE = 4
    data_rate: int  # 0..15; KEEP
    tx_power: int  # index 0..15; KEEP
    ch_mask: int  # 16 bits
    ch_mask_cntl: int = 0  # 0..7: which channels the mask is about, by region
    nb_trans: int = 1  # 1..15; 0 keeps

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(
            payload[0] >> 4,
            payload[0] & 0x0F,
            payload[1] | payload[2] << 8,
            payload[3] >> 4 & 7,
            payload[3] & 0x0F,
        )

    @property
    def payload(self) -> bytes:
        return bytes(
            (
                self.data_rate << 4 | self.tx_power,
                self.ch_mask & 0xFF,
                self.ch_mask >> 8,
                self.ch_mask_cntl << 4 | self.nb_trans,
            )
        )


@dataclass(frozen=True, slots=True)
class LinkADRAns(Command):
    CID = 0x03
    SIZE = 1
    ch_mask_ok: bool = True
    data_rate_ok: bool = True
    power_ok: bool = True

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(bool(payload[0] & 1), bool(payload[0] & 2), bool(payload[0] & 4))

    @property
    def payload(self) -> bytes:
        return bytes((self.ch_mask_ok | self.data_rate_ok << 1 | self.power_ok << 2,))

    @property
    def ok(self) -> bool:
        return self.ch_mask_ok and self.data_rate_ok and self.power_ok


@dataclass(frozen=True, slots=True)
class DutyCycleReq(Command):
    """Network: at most 1 / 2**max_dc_exponent of the time, over all bands (5.3)."""

    CID = 0x04
    SIZE = 1
    max_dc_exponent: int  # 0..15

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(payload[0] & 0x0F)

    @property
    def payload(self) -> bytes:
        return bytes((self.max_dc_exponent,))


class DutyCycleAns(Command):
    CID = 0x04


@dataclass(frozen=True, slots=True)
class RXParamSetupReq(Command):
    """Network: new RX1 offset, RX2 data rate and RX2 frequency (5.4)."""

    CID = 0x05
    SIZE = 4
    rx1_dr_offset: int  # 0..7
    rx2_dr: int  # 0..15
    freq_hz: int  # steps of 100 Hz

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(payload[0] >> 4 & 7, payload[0] & 0x0F, freq_of(payload[1:4]))

    @property
    def payload(self) -> bytes:
        return bytes((self.rx1_dr_offset << 4 | self.rx2_dr,)) + freq_bytes(self.freq_hz)


@dataclass(frozen=True, slots=True)
class RXParamSetupAns(Command):
    """Repeated in every uplink until the device has heard a downlink."""

    CID = 0x05
    SIZE = 1
    channel_ok: bool = True
    rx2_dr_ok: bool = True
    rx1_dr_offset_ok: bool = True

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(bool(payload[0] & 1), bool(payload[0] & 2), bool(payload[0] & 4))

    @property
    def payload(self) -> bytes:
        return bytes((self.channel_ok | self.rx2_dr_ok << 1 | self.rx1_dr_offset_ok << 2,))


class DevStatusReq(Command):
    """Network: how are your battery and your reception? (5.5)"""

    CID = 0x06


@dataclass(frozen=True, slots=True)
class DevStatusAns(Command):
    CID = 0x06
    SIZE = 2
    battery: int  # 0 external power, 1..254 empty to full, 255 unknown
    margin_db: int  # -32..31: SNR of the last DevStatusReq at the device

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        margin = payload[1] & 0x3F
        return cls(payload[0], margin - 64 if margin & 0x20 else margin)

    @property
    def payload(self) -> bytes:
        return bytes((self.battery, self.margin_db & 0x3F))


@dataclass(frozen=True, slots=True)
class NewChannelReq(Command):
    """Network: define an uplink channel, or with frequency 0 remove it (5.6)."""

    CID = 0x07
    SIZE = 5
    ch_index: int
    freq_hz: int  # steps of 100 Hz
    max_dr: int
    min_dr: int

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(payload[0], freq_of(payload[1:4]), payload[4] >> 4, payload[4] & 0x0F)

    @property
    def payload(self) -> bytes:
        return bytes((self.ch_index,)) + freq_bytes(self.freq_hz) + bytes((self.max_dr << 4 | self.min_dr,))


@dataclass(frozen=True, slots=True)
class NewChannelAns(Command):
    CID = 0x07
    SIZE = 1
    freq_ok: bool = True
    data_rate_ok: bool = True

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(bool(payload[0] & 1), bool(payload[0] & 2))

    @property
    def payload(self) -> bytes:
        return bytes((self.freq_ok | self.data_rate_ok << 1,))


@dataclass(frozen=True, slots=True)
class RXTimingSetupReq(Command):
    """Network: from now on RX1 opens after `delay_s` (5.7)."""

    CID = 0x08
    SIZE = 1
    delay_s: int  # 1..15; 0 on the air means 1 as well

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(payload[0] & 0x0F or 1)

    @property
    def payload(self) -> bytes:
        return bytes((self.delay_s & 0x0F,))


class RXTimingSetupAns(Command):
    CID = 0x08


@dataclass(frozen=True, slots=True)
class TxParamSetupReq(Command):
    """Network: dwell time limits and the greatest EIRP (5.8; AS923 and AU915)."""

    CID = 0x09
    SINCE = "1.0.2"
    SIZE = 1
    downlink_dwell: bool
    uplink_dwell: bool
    max_eirp: int  # code, see MAX_EIRP_DBM

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(bool(payload[0] & 0x20), bool(payload[0] & 0x10), payload[0] & 0x0F)

    @property
    def payload(self) -> bytes:
        return bytes((self.downlink_dwell << 5 | self.uplink_dwell << 4 | self.max_eirp,))


class TxParamSetupAns(Command):
    CID = 0x09
    SINCE = "1.0.2"


@dataclass(frozen=True, slots=True)
class DlChannelReq(Command):
    """Network: RX1 of this uplink channel is on another frequency (5.9; not in fixed-plan regions)."""

    CID = 0x0A
    SINCE = "1.0.2"
    SIZE = 4
    ch_index: int
    freq_hz: int  # steps of 100 Hz

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(payload[0], freq_of(payload[1:4]))

    @property
    def payload(self) -> bytes:
        return bytes((self.ch_index,)) + freq_bytes(self.freq_hz)


@dataclass(frozen=True, slots=True)
class DlChannelAns(Command):
    CID = 0x0A
    SINCE = "1.0.2"
    SIZE = 1
    freq_ok: bool = True
    uplink_exists: bool = True

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(bool(payload[0] & 1), bool(payload[0] & 2))

    @property
    def payload(self) -> bytes:
        return bytes((self.freq_ok | self.uplink_exists << 1,))


class DeviceTimeReq(Command):
    """Device: what time was it at the end of this uplink? (1.0.3, 5.10)"""

    CID = 0x0D
    SINCE = "1.0.3"


@dataclass(frozen=True, slots=True)
class DeviceTimeAns(Command):
    CID = 0x0D
    SINCE = "1.0.3"
    SIZE = 5
    gps_s: int  # seconds since 1980-01-06, leap seconds not counted out
    fraction: int  # 1/256 s

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(int.from_bytes(payload[:4], "little"), payload[4])

    @property
    def payload(self) -> bytes:
        return self.gps_s.to_bytes(4, "little") + bytes((self.fraction,))
