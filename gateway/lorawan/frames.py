"""LoRaWAN frames of 1.0.x and 1.1: bytes to values and back, for both ends of the air.

`parse` reads what was received without any key. The builders sign and encrypt; a network uses
`build_downlink` and `build_join_accept`, a device `build_uplink`, `build_join_request`,
`build_rejoin_request`, `open_join_accept` and `open_downlink`. Whether a data frame goes the way of 1.0.x or
of 1.1 its `SessionCrypto` knows. Sections are those of LoRaWAN 1.1. Everything here raises `FrameError` only.
"""

from __future__ import annotations

import enum
import hmac
from dataclasses import dataclass
from struct import Struct

import msgspec

from gateway.lorawan.crypto import (
    DOWNLINK,
    MIC_SIZE,
    UPLINK,
    SessionCrypto,
    decrypt_join_accept,
    encrypt_join_accept,
    join_mic,
)
from gateway.lorawan.errors import FrameError, UnsupportedFrame
from gateway.lorawan.types import AES128Key, DevAddr, DevEUI, JoinEUI, NetID

MAX_FOPTS = 15  # bytes: four bits of FCtrl
MAX_FCNT = 0xFFFF_FFFF
MAX_PHY_PAYLOAD = 255  # bytes: the length field of the LoRa header
JOIN_REQUEST_SIZE = 23
JOIN_ACCEPT_SIZES = (17, 33)  # without and with CFList
REJOIN_REQUEST_SIZES = (19, 24, 19)  # by type
_MIN_DATA_SIZE = 12  # MHDR, FHDR without FOpts, MIC

_ADR = 0x80
_ADR_ACK_REQ = 0x40  # uplink; RFU in a downlink
_ACK = 0x20
_FPENDING = 0x10  # downlink
_CLASS_B = 0x10  # uplink
_FOPTS_LEN = 0x0F

_FHDR = Struct("<BIBH")  # MHDR, DevAddr, FCtrl, FCnt
_JOIN_REQUEST = Struct("<BQQH")  # MHDR, JoinEUI, DevEUI, DevNonce
_REJOIN_TAIL = Struct("<QH")  # DevEUI, RJcount
_OPT_NEG = 0x80  # of DLSettings


class MType(enum.IntEnum):
    """The three leading bits of MHDR (4.2.1)."""

    JOIN_REQUEST = 0
    JOIN_ACCEPT = 1
    UNCONFIRMED_UP = 2
    UNCONFIRMED_DOWN = 3
    CONFIRMED_UP = 4
    CONFIRMED_DOWN = 5
    REJOIN_REQUEST = 6  # RFU in 1.0.x
    PROPRIETARY = 7


class JoinReqType(enum.IntEnum):
    """What a join-accept answers (6.2.3); those of rejoin-requests are their own type byte (6.2.4)."""

    REJOIN_0 = 0  # resets all of the session, radio settings too
    REJOIN_1 = 1  # as a join-request, but sent on top of a session
    REJOIN_2 = 2  # new keys and address; radio settings stay
    JOIN = 0xFF


_MTYPES = tuple(MType)


class DataFrame(msgspec.Struct, frozen=True, gc=False):
    """A data frame as received (4.3): FRMPayload still encrypted, MIC not yet checked.

    A Struct, not a dataclass: one is made for every frame off the air, and this way it costs a quarter.
    """

    mtype: MType
    dev_addr: int  # DevAddr
    fctrl: int
    fcnt: int  # the 16 bits that the air carries
    fopts: bytes
    fport: int | None  # None: no FPort, and so no FRMPayload
    frm_payload: bytes
    message: bytes  # everything before the MIC: what the MIC protects
    mic: bytes

    @property
    def uplink(self) -> bool:
        return self.mtype is MType.UNCONFIRMED_UP or self.mtype is MType.CONFIRMED_UP

    @property
    def confirmed(self) -> bool:
        return self.mtype is MType.CONFIRMED_UP or self.mtype is MType.CONFIRMED_DOWN

    @property
    def adr(self) -> bool:
        return bool(self.fctrl & _ADR)

    @property
    def adr_ack_req(self) -> bool:
        """In an uplink: the device wonders whether anybody hears it and wants any downlink (4.3.1.1)."""
        return bool(self.fctrl & _ADR_ACK_REQ)

    @property
    def ack(self) -> bool:
        return bool(self.fctrl & _ACK)

    @property
    def wants_answer(self) -> bool:
        """An unconfirmed uplink to which a network reacts: it carries an ACK or asks for any downlink."""
        return bool(self.fctrl & (_ACK | _ADR_ACK_REQ))

    @property
    def fpending(self) -> bool:
        """In a downlink: more waits, send again soon (4.3.1.4). In an uplink the bit means class B."""
        return bool(self.fctrl & _FPENDING)

    @property
    def class_b(self) -> bool:
        """In an uplink: the device has found the beacon and listens in its ping slots (4.3.1.5)."""
        return bool(self.fctrl & _CLASS_B)


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """6.2.2; the MIC is not yet checked (`verify_join`)."""

    join_eui: JoinEUI
    dev_eui: DevEUI
    dev_nonce: int  # 16 bits
    message: bytes
    mic: bytes


@dataclass(frozen=True, slots=True)
class RejoinRequest:
    """6.2.4; the MIC is not yet checked: under the session's SNwkSIntKey for types 0 and 2, under the JSIntKey
    for type 1 (`verify_join`)."""

    kind: JoinReqType
    net_id: NetID | None  # types 0 and 2
    join_eui: JoinEUI | None  # type 1
    dev_eui: DevEUI
    rj_count: int  # 16 bits: RJcount0 of types 0 and 2, RJcount1 of type 1
    message: bytes
    mic: bytes


@dataclass(frozen=True, slots=True)
class SealedJoinAccept:
    """A join-accept as received: only the device's root key opens it."""

    sealed: bytes  # 16 or 32 bytes after MHDR


@dataclass(frozen=True, slots=True)
class JoinAccept:
    """6.2.3, in clear."""

    join_nonce: int  # 24 bits
    net_id: NetID
    dev_addr: DevAddr
    rx1_dr_offset: int  # 0..7
    rx2_dr: int  # 0..15
    rx_delay_s: int  # 1..15; 0 on the air means 1 as well
    cflist: bytes = b""  # empty or 16 bytes
    opt_neg: bool = False  # the network speaks 1.1 with this device


Frame = DataFrame | JoinRequest | RejoinRequest | SealedJoinAccept


def parse(phy: bytes) -> Frame:
    """Read a PHYPayload (4.1). No key is needed, so nothing in the result is authentic yet.

    Raises UnsupportedFrame for proprietary frames, FrameError for everything else that is none.
    """
    size = len(phy)
    if not size:
        raise FrameError("an empty frame")
    mhdr = phy[0]
    mtype = _MTYPES[mhdr >> 5]
    if mtype == 7:
        raise UnsupportedFrame("a proprietary frame")
    if mhdr & 0x03:
        raise FrameError(f"major version {mhdr & 3}: not LoRaWAN R1")
    if mtype == 6:
        return _parse_rejoin_request(phy, size)
    if mtype >= 2:
        return _parse_data(phy, size, mtype)
    if mtype is MType.JOIN_REQUEST:
        return _parse_join_request(phy, size)
    if size not in JOIN_ACCEPT_SIZES:
        raise FrameError(f"a join-accept has 17 or 33 bytes, not {size}")
    return SealedJoinAccept(phy[1:])


def _parse_data(phy: bytes, size: int, mtype: MType) -> DataFrame:
    if size < _MIN_DATA_SIZE:
        raise FrameError(f"a data frame has at least {_MIN_DATA_SIZE} bytes, not {size}")
    _, dev_addr, fctrl, fcnt = _FHDR.unpack_from(phy)
    end = size - MIC_SIZE
    after_fopts = 8 + (fctrl & _FOPTS_LEN)
    if after_fopts > end:
        raise FrameError(f"{fctrl & _FOPTS_LEN} bytes of FOpts do not fit into a frame of {size}")
    if after_fopts == end:
        return DataFrame(mtype, dev_addr, fctrl, fcnt, phy[8:end], None, b"", phy[:end], phy[end:])
    fport = phy[after_fopts]
    if fport == 0 and after_fopts > 8:
        raise FrameError("MAC commands both in FOpts and on port 0")  # 4.3.1.6: such a frame is to be ignored
    return DataFrame(
        mtype,
        dev_addr,
        fctrl,
        fcnt,
        phy[8:after_fopts],
        fport,
        phy[after_fopts + 1 : end],
        phy[:end],
        phy[end:],
    )


def _parse_join_request(phy: bytes, size: int) -> JoinRequest:
    if size != JOIN_REQUEST_SIZE:
        raise FrameError(f"a join-request has {JOIN_REQUEST_SIZE} bytes, not {size}")
    _, join_eui, dev_eui, dev_nonce = _JOIN_REQUEST.unpack_from(phy)
    return JoinRequest(JoinEUI(join_eui), DevEUI(dev_eui), dev_nonce, phy[:-MIC_SIZE], phy[-MIC_SIZE:])


def _parse_rejoin_request(phy: bytes, size: int) -> RejoinRequest:
    if size < 2 or phy[1] > JoinReqType.REJOIN_2:
        raise FrameError("a rejoin-request of no known type")
    kind = JoinReqType(phy[1])
    if size != REJOIN_REQUEST_SIZES[kind]:
        raise FrameError(
            f"a rejoin-request of type {kind} has {REJOIN_REQUEST_SIZES[kind]} bytes, not {size}"
        )
    dev_eui, rj_count = _REJOIN_TAIL.unpack_from(phy, size - MIC_SIZE - _REJOIN_TAIL.size)
    home = phy[2 : size - MIC_SIZE - _REJOIN_TAIL.size]
    return RejoinRequest(
        kind=kind,
        net_id=None if kind is JoinReqType.REJOIN_1 else NetID.from_wire(home),
        join_eui=JoinEUI.from_wire(home) if kind is JoinReqType.REJOIN_1 else None,
        dev_eui=DevEUI(dev_eui),
        rj_count=rj_count,
        message=phy[:-MIC_SIZE],
        mic=phy[-MIC_SIZE:],
    )


def verify_join(key: AES128Key, request: JoinRequest | RejoinRequest) -> bool:
    return hmac.compare_digest(join_mic(key, request.message), request.mic)


def build_join_request(key: AES128Key, join_eui: int, dev_eui: int, dev_nonce: int) -> bytes:
    """A signed join-request (6.2.2), 23 bytes; `key` is the AppKey, of a 1.1 device the NwkKey."""
    message = _JOIN_REQUEST.pack(MType.JOIN_REQUEST << 5, join_eui, dev_eui, dev_nonce)
    return message + join_mic(key, message)


def build_rejoin_request(
    key: AES128Key,
    kind: int,
    dev_eui: int,
    rj_count: int,
    *,
    net_id: int | None = None,
    join_eui: int | None = None,
) -> bytes:
    """A signed rejoin-request (6.2.4): types 0 and 2 with the NetID under the SNwkSIntKey, 19 bytes; type 1
    with the JoinEUI under the JSIntKey, 24 bytes."""
    if kind == JoinReqType.REJOIN_1:
        home = None if join_eui is None else join_eui.to_bytes(8, "little")
    else:
        home = None if net_id is None else net_id.to_bytes(3, "little")
    if home is None or kind > JoinReqType.REJOIN_2:
        raise FrameError("a rejoin-request of type 0 or 2 names the NetID, one of type 1 the JoinEUI")
    message = bytes((MType.REJOIN_REQUEST << 5, kind)) + home + _REJOIN_TAIL.pack(dev_eui, rj_count)
    return message + join_mic(key, message)


def _accept_mic(
    key: AES128Key,
    message: bytes,
    js_int_key: AES128Key | None,
    request_type: int,
    join_eui: int | None,
    dev_nonce: int | None,
) -> bytes:
    """With OptNeg set, which is when there is a JSIntKey, it covers also what the accept answers (6.2.3)."""
    if js_int_key is None:
        return join_mic(key, message)
    if join_eui is None or dev_nonce is None:
        raise FrameError("the code of a 1.1 join-accept covers JoinEUI and DevNonce")
    asked = bytes((request_type,)) + join_eui.to_bytes(8, "little") + dev_nonce.to_bytes(2, "little")
    return join_mic(js_int_key, asked + message)


def build_join_accept(
    key: AES128Key,
    accept: JoinAccept,
    *,
    js_int_key: AES128Key | None = None,
    request_type: int = JoinReqType.JOIN,
    join_eui: int | None = None,
    dev_nonce: int | None = None,
) -> bytes:
    """A signed and encrypted join-accept (6.2.3), 17 bytes or, with a CFList, 33.

    `key` encrypts: the AppKey, in 1.1 the NwkKey after a join-request and the JSEncKey after a rejoin-request.
    With `opt_neg` set all the others are needed; `dev_nonce` is the RJcount of a rejoin-request.
    """
    if accept.opt_neg == (js_int_key is None):
        raise FrameError("a join-accept with OptNeg set, and no other, is signed with the JSIntKey")
    if len(accept.cflist) not in (0, 16):
        raise FrameError(f"a CFList has 16 bytes, not {len(accept.cflist)}")
    mhdr = bytes((MType.JOIN_ACCEPT << 5,))
    clear = b"".join(
        (
            accept.join_nonce.to_bytes(3, "little"),
            accept.net_id.wire,
            accept.dev_addr.wire,
            bytes(
                (
                    accept.opt_neg * _OPT_NEG | (accept.rx1_dr_offset & 7) << 4 | accept.rx2_dr & 0x0F,
                    accept.rx_delay_s & 0x0F,
                )
            ),
            accept.cflist,
        )
    )
    mic = _accept_mic(key, mhdr + clear, js_int_key, request_type, join_eui, dev_nonce)
    return mhdr + encrypt_join_accept(key, clear + mic)


def open_join_accept(
    key: AES128Key,
    phy: bytes,
    *,
    js_int_key: AES128Key | None = None,
    request_type: int = JoinReqType.JOIN,
    join_eui: int | None = None,
    dev_nonce: int | None = None,
) -> JoinAccept:
    """Decrypt and verify a join-accept, as its device does; the arguments are those of `build_join_accept`.

    A device of 1.1 gives all of them and looks at `opt_neg`: unset, the network speaks 1.0.x and signs with
    `key`. Raises FrameError where the frame is none of this key's.
    """
    frame = parse(phy)
    if not isinstance(frame, SealedJoinAccept):
        raise FrameError("not a join-accept")
    opened = decrypt_join_accept(key, frame.sealed)
    clear, mic = opened[:-MIC_SIZE], opened[-MIC_SIZE:]
    signed_with = js_int_key if clear[10] & _OPT_NEG else None
    expected = _accept_mic(key, phy[:1] + clear, signed_with, request_type, join_eui, dev_nonce)
    if not hmac.compare_digest(expected, mic):
        raise FrameError("the join-accept does not verify with this root key")
    return JoinAccept(
        join_nonce=int.from_bytes(clear[0:3], "little"),
        net_id=NetID.from_wire(clear[3:6]),
        dev_addr=DevAddr.from_wire(clear[6:10]),
        rx1_dr_offset=clear[10] >> 4 & 7,
        rx2_dr=clear[10] & 0x0F,
        rx_delay_s=clear[11] & 0x0F or 1,
        cflist=clear[12:],
        opt_neg=bool(clear[10] & _OPT_NEG),
    )


def build_uplink(
    crypto: SessionCrypto,
    dev_addr: int,
    fcnt: int,
    *,
    fport: int | None = None,
    payload: bytes = b"",
    fopts: bytes = b"",
    confirmed: bool = False,
    adr: bool = False,
    adr_ack_req: bool = False,
    ack: bool = False,
    class_b: bool = False,
    conf_fcnt: int = 0,
    tx_dr: int = 0,
    tx_ch: int = 0,
) -> bytes:
    """A signed and encrypted data frame of a device; `fcnt` has all its 32 bits (4.3).

    What a session of 1.1 signs too: `conf_fcnt`, the FCntDown that an ACK is for; data rate and channel index.
    """
    mtype = MType.CONFIRMED_UP if confirmed else MType.UNCONFIRMED_UP
    fctrl = adr * _ADR | adr_ack_req * _ADR_ACK_REQ | ack * _ACK | class_b * _CLASS_B
    message = _data(crypto, UPLINK, mtype, dev_addr, fctrl, fcnt, fopts, fport, payload)
    return message + crypto.uplink_mic(fcnt, message, conf_fcnt if ack else 0, tx_dr, tx_ch)


def build_downlink(
    crypto: SessionCrypto,
    dev_addr: int,
    fcnt: int,
    *,
    fport: int | None = None,
    payload: bytes = b"",
    fopts: bytes = b"",
    confirmed: bool = False,
    adr: bool = False,
    ack: bool = False,
    fpending: bool = False,
    conf_fcnt: int = 0,
) -> bytes:
    """A signed and encrypted data frame of the network; `fcnt` has all its 32 bits (4.3).

    In a session of 1.1 it is the AFCntDown where `fport` is above 0, else the NFCntDown, and the FCntUp that
    an ACK is for, `conf_fcnt`, is signed too.
    """
    mtype = MType.CONFIRMED_DOWN if confirmed else MType.UNCONFIRMED_DOWN
    fctrl = adr * _ADR | ack * _ACK | fpending * _FPENDING
    message = _data(crypto, DOWNLINK, mtype, dev_addr, fctrl, fcnt, fopts, fport, payload)
    return message + crypto.downlink_mic(fcnt, message, conf_fcnt if ack else 0)


def _data(
    crypto: SessionCrypto,
    way: int,
    mtype: MType,
    dev_addr: int,
    fctrl: int,
    fcnt: int,
    fopts: bytes,
    fport: int | None,
    payload: bytes,
) -> bytes:
    if len(fopts) > MAX_FOPTS:
        raise FrameError(f"{len(fopts)} bytes of FOpts; {MAX_FOPTS} is the most")
    if fport is None and payload:
        raise FrameError("a payload needs an FPort")
    if fport == 0 and fopts:
        raise FrameError("MAC commands go into FOpts or to port 0, not to both")
    message = _FHDR.pack(mtype << 5, dev_addr, fctrl | len(fopts), fcnt & 0xFFFF)
    message += crypto.fopts(way, fcnt, fopts, way == DOWNLINK and bool(fport))
    if fport is not None:
        message += bytes((fport,)) + crypto.cipher(way, fcnt, fport, payload)
    if len(message) + MIC_SIZE > MAX_PHY_PAYLOAD:
        raise FrameError(f"a frame of {len(message) + MIC_SIZE} bytes; {MAX_PHY_PAYLOAD} is the most")
    return message


def next_fcnt(last: int | None, fcnt16: int) -> int:
    """The smallest 32-bit counter above `last` that ends in the 16 bits `fcnt16` (4.3.1.5); rolls over 65535
    to 0.

    `last` is the counter of the last accepted frame, None when there is none yet. The result may exceed
    MAX_FCNT: then the counter is used up and the session must end.
    """
    if last is None:
        return fcnt16
    return last + 1 + (fcnt16 - last - 1 & 0xFFFF)


def open_downlink(
    crypto: SessionCrypto,
    dev_addr: int,
    last_fcnt: int | None,
    phy: bytes,
    *,
    last_app_fcnt: int | None = None,
    conf_fcnt: int = 0,
) -> tuple[DataFrame, int, bytes]:
    """Verify and decrypt a downlink, as its device does: (frame with FOpts in clear, its 32-bit counter,
    FRMPayload in clear).

    `last_fcnt` is the last FCntDown; in a session of 1.1 the last NFCntDown, and the last AFCntDown, which
    frames on an FPort above 0 count, is `last_app_fcnt`. `conf_fcnt` is the FCntUp of the confirmed uplink that
    an ACK may be for. Raises FrameError for a frame of another address, a repeated counter or a wrong MIC.
    """
    frame = parse(phy)
    if not isinstance(frame, DataFrame) or frame.uplink or frame.dev_addr != dev_addr:
        raise FrameError("not a data frame for this device")
    app_counter = crypto.v1_1 and bool(frame.fport)
    fcnt = next_fcnt(last_app_fcnt if app_counter else last_fcnt, frame.fcnt)
    conf_fcnt = conf_fcnt if frame.ack else 0
    if fcnt > MAX_FCNT or not hmac.compare_digest(
        crypto.downlink_mic(fcnt, frame.message, conf_fcnt), frame.mic
    ):
        raise FrameError("the downlink does not verify: wrong session, or its counter was used before")
    clear = b"" if frame.fport is None else crypto.cipher(DOWNLINK, fcnt, frame.fport, frame.frm_payload)
    fopts = crypto.fopts(DOWNLINK, fcnt, frame.fopts, app_counter)
    return msgspec.structs.replace(frame, fopts=fopts), fcnt, clear
