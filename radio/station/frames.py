"""A PHYPayload taken apart into the fields of a `jreq`, `updf` or `propdf`, and put together again.

Basics Station sends frames as fields; a network server needs the bytes, because the MIC covers them. DevAddr and MIC
are written as signed 32-bit integers, EUIs in the order people write them, byte strings as hexadecimal.
"""

from struct import Struct
from typing import Any, Final

import msgspec

from radio.station.errors import StationError
from radio.station.eui import dashes, parse_eui

JOIN_SIZE: Final = 23
MIN_DATA_SIZE: Final = 12
MAX_PHY: Final = 255
NO_PORT: Final = -1

_DATA = Struct("<BIBH")  # MHDR, DevAddr, FCtrl, FCnt
_JOIN = Struct("<B8s8sH")  # MHDR, JoinEUI, DevEUI, DevNonce
_MIC = Struct("<I")
_FTYPE_KINDS: Final = ("jreq", "jacc", "updf", "dndf", "updf", "dndf", "rejoin", "propdf")
KINDS: Final = frozenset(_FTYPE_KINDS)

Byte = msgspec.Meta(ge=0, le=0xFF)
Word = msgspec.Meta(ge=0, le=0xFFFF)
Signed32 = msgspec.Meta(ge=-(1 << 31), lt=1 << 32)  # some clients forget that it is signed


class Fields(msgspec.Struct, gc=False, kw_only=True):
    """The fields of any frame message; `join` and `split` know which belong to which."""

    mhdr: int = 0
    join_eui: bytes = b""
    dev_eui: bytes = b""
    dev_nonce: int = 0
    dev_addr: int = 0
    fctrl: int = 0
    fcnt: int = 0
    fopts: bytes = b""
    fport: int = NO_PORT
    payload: bytes = b""
    mic: int = 0


def kind_of(phy: bytes) -> str:
    """The `msgtype` a frame travels as. Raises StationError for what the protocol does not carry."""
    if not 1 <= len(phy) <= MAX_PHY:
        raise StationError(f"a frame of {len(phy)} bytes")
    kind = _FTYPE_KINDS[phy[0] >> 5]
    if phy[0] & 0x1F:
        raise StationError(f"MHDR 0x{phy[0]:02x} is not of LoRaWAN R1")
    if kind in ("jreq", "rejoin") and len(phy) != JOIN_SIZE:
        raise StationError(f"a {kind} has {JOIN_SIZE} bytes, not {len(phy)}")
    if kind in ("updf", "dndf") and (len(phy) < MIN_DATA_SIZE or 8 + (phy[5] & 0x0F) > len(phy) - 4):
        raise StationError(f"{len(phy)} bytes are no whole data frame")
    return kind


def split(phy: bytes) -> tuple[str, dict[str, Any]]:
    """The `msgtype` of a frame and its fields by their names on the wire. Raises StationError."""
    kind = kind_of(phy)
    if kind in ("propdf", "jacc"):
        return kind, {"FRMPayload": _hex(phy)}
    mic = _signed(*_MIC.unpack(phy[-4:]))
    if kind in ("jreq", "rejoin"):
        mhdr, join_eui, dev_eui, dev_nonce = _JOIN.unpack_from(phy)
        return kind, {
            "MHdr": mhdr,
            "JoinEui": dashes(join_eui[::-1]),
            "DevEui": dashes(dev_eui[::-1]),
            "DevNonce": dev_nonce,
            "MIC": mic,
        }
    mhdr, dev_addr, fctrl, fcnt = _DATA.unpack_from(phy)
    port = 8 + (fctrl & 0x0F)
    has_port = port < len(phy) - 4
    return kind, {
        "MHdr": mhdr,
        "DevAddr": _signed(dev_addr),
        "FCtrl": fctrl,
        "FCnt": fcnt,
        "FOpts": _hex(phy[8:port]),
        "FPort": phy[port] if has_port else NO_PORT,
        "FRMPayload": _hex(phy[port + 1 : -4]) if has_port else "",
        "MIC": mic,
    }


def join(kind: str, fields: Fields) -> bytes:
    """The bytes of a frame message. Raises StationError where the fields do not make one."""
    if kind in ("propdf", "jacc"):
        phy = fields.payload
    elif kind in ("jreq", "rejoin"):
        head = _JOIN.pack(fields.mhdr, fields.join_eui[::-1], fields.dev_eui[::-1], fields.dev_nonce)
        phy = head + _MIC.pack(fields.mic & 0xFFFF_FFFF)
    elif kind in ("updf", "dndf"):
        if fields.fctrl & 0x0F != len(fields.fopts):
            raise StationError(
                f"FCtrl 0x{fields.fctrl:02x} does not speak of {len(fields.fopts)} bytes of FOpts"
            )
        if fields.fport == NO_PORT and fields.payload:
            raise StationError("FRMPayload without FPort")
        head = _DATA.pack(fields.mhdr, fields.dev_addr & 0xFFFF_FFFF, fields.fctrl, fields.fcnt)
        port = b"" if fields.fport == NO_PORT else bytes((fields.fport,)) + fields.payload
        phy = head + fields.fopts + port + _MIC.pack(fields.mic & 0xFFFF_FFFF)
    else:
        raise StationError(f"{kind!r} is no frame message")
    if kind_of(phy) != kind:
        raise StationError(f"MHDR 0x{phy[0]:02x} is not that of a {kind}")
    return phy


def unhex(text: str, what: str) -> bytes:
    """The bytes of a hexadecimal field. Raises StationError."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise StationError(f"{what} is not hexadecimal") from None


def eui_of(text: str | int | None, what: str) -> bytes:
    """An EUI that has to be there. Raises StationError."""
    if text is None:
        raise StationError(f"{what} is missing")
    return parse_eui(text)


def _hex(data: bytes) -> str:
    return data.hex().upper()


def _signed(value: int) -> int:
    return value - (1 << 32) if value >> 31 else value
