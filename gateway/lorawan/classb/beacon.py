"""The beacon frame: what it is made of, by spreading factor (LoRaWAN 1.0.3, 15; 1.0.4, 13; sizes from RP002).

    RFU | Param | Time | CRC | InfoDesc | Info | RFU | CRC        all little-endian
         1        4      2     1          6             2

`Param` was one more RFU byte before 1.0.4. It is sent without header and CRC of the radio's own, not inverted.
"""

from __future__ import annotations

from binascii import crc_hqx
from dataclasses import dataclass
from typing import Final

from gateway.lorawan.errors import FrameError

PREAMBLE: Final = 10  # symbols
RFU_BY_SF: Final = {
    8: (1, 3),
    9: (2, 0),
    10: (3, 1),
    11: (4, 2),
    12: (5, 3),
}  # with Param, and behind the Info
INFO_SIZE: Final = 6
FIRST_ANTENNA: Final = 0  # InfoDesc: latitude and longitude of the gateway's first antenna
NETWORK_AND_GATEWAY: Final = 3  # InfoDesc since 1.0.4: NetID and a number of the gateway; RFU before
_FULL_SCALE: Final = 1 << 23
_PREC_US: Final = (1, 10, 100, 1000)  # of Param


@dataclass(frozen=True, slots=True)
class BeaconFrame:
    """What a beacon says."""

    time_s: int  # GPS seconds modulo 2**32
    precision: int = 0  # the sender is right to 10**precision us; 0..3
    info_desc: int = NETWORK_AND_GATEWAY
    info: bytes = bytes(INFO_SIZE)  # 6 bytes
    info_ok: bool = True  # read: the CRC of the gateway's part; the first part stands alone without it

    @property
    def place(self) -> tuple[float, float] | None:
        """Latitude and longitude in degrees, where it tells an antenna's."""
        if not self.info_ok or self.info_desc > 2:
            return None
        latitude, longitude = (
            int.from_bytes(self.info[at : at + 3], "little", signed=True) / _FULL_SCALE for at in (0, 3)
        )
        return latitude * 90, longitude * 180

    def encode(self, sf: int) -> bytes:
        """The bytes on the air. Raises ValueError for a spreading factor without beacons."""
        if sf not in RFU_BY_SF:
            raise ValueError(f"no beacon has SF{sf}: 8 to 12 are possible")
        before, behind = RFU_BY_SF[sf]
        common = bytes(before - 1) + bytes((self.precision & 3,)) + self.time_s.to_bytes(4, "little")
        own = bytes((self.info_desc,)) + self.info + bytes(behind)
        return common + _crc(common) + own + _crc(own)


def decode(data: bytes, sf: int) -> BeaconFrame:
    """Read a beacon. Raises FrameError where its size or the CRC of its first part is wrong."""
    if sf not in RFU_BY_SF:
        raise FrameError(f"no beacon has SF{sf}")
    before, behind = RFU_BY_SF[sf]
    split = before + 4
    size = split + 2 + 1 + INFO_SIZE + behind + 2
    if len(data) != size:
        raise FrameError(f"a beacon of SF{sf} has {size} bytes, not {len(data)}")
    common, own = data[:split], data[split + 2 : -2]
    if _crc(common) != data[split : split + 2]:
        raise FrameError("the CRC of a beacon's time is wrong")
    return BeaconFrame(
        time_s=int.from_bytes(common[before:], "little"),
        precision=common[before - 1] & 3,
        info_desc=own[0],
        info=own[1 : 1 + INFO_SIZE],
        info_ok=_crc(own) == data[-2:],
    )


def place_info(latitude: float, longitude: float) -> bytes:
    """`info` of an antenna's place, degrees; what lies at the edge stays inside the 24 bits."""
    return b"".join(
        max(-_FULL_SCALE, min(_FULL_SCALE - 1, round(part * _FULL_SCALE))).to_bytes(3, "little", signed=True)
        for part in (latitude / 90, longitude / 180)
    )


def gateway_info(net_id: int, gateway_eui: bytes) -> bytes:
    """`info` of a gateway that does not know or tell its place: NetID, and the last three bytes of its EUI."""
    return net_id.to_bytes(3, "little") + bytes(reversed(gateway_eui[-3:]))


def precision_of(error_us: float | None) -> int | None:
    """Param's Prec for an error bound: 10**n us hold it. None where it is more than a millisecond, or unknown."""
    if error_us is None:
        return None
    return next((n for n, limit_us in enumerate(_PREC_US) if error_us <= limit_us), None)


def _crc(data: bytes) -> bytes:
    """x^16 + x^12 + x^5 + 1 from 0, most significant bit first."""
    return crc_hqx(data, 0).to_bytes(2, "little")
