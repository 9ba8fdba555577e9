"""Semtech GWMP version 2, the UDP protocol between packet forwarder and network server. Sans-I/O.

Bytes in, values out, and back; both ends of the link use it. A datagram is version (2), a token of two
bytes, a type, for some types the gateway's EUI, and JSON (packet_forwarder PROTOCOL.TXT, sections 3 to 6).
Whatever the bytes, `decode` raises only `GwmpError`; of its kind is `UnsupportedOrder`, for which there is an
answer.
"""

from datetime import UTC, datetime
from enum import StrEnum
from math import isfinite
from typing import Final

import msgspec

from radio import gwmp_wire as wire
from radio.errors import GwmpError
from radio.lora import SYNC_WORD_LORAWAN, LoRaModulation

VERSION: Final = 2
PUSH_DATA: Final = 0x00
PUSH_ACK: Final = 0x01
PULL_DATA: Final = 0x02
PULL_RESP: Final = 0x03
PULL_ACK: Final = 0x04
TX_ACK: Final = 0x05

DEFAULT_TX_POWER_DBM: Final = wire.DEFAULT_TX_POWER_DBM
MAX_PHY_LEN: Final = wire.MAX_PHY_LEN
MAX_REASON: Final = 200  # characters
U32: Final = wire.U32


class TxError(StrEnum):
    """Answer to a downlink order (PROTOCOL.TXT, section 5.5)."""

    NONE = "NONE"
    TOO_LATE = "TOO_LATE"
    TOO_EARLY = "TOO_EARLY"
    COLLISION_PACKET = "COLLISION_PACKET"
    COLLISION_BEACON = "COLLISION_BEACON"
    TX_FREQ = "TX_FREQ"
    TX_POWER = "TX_POWER"
    GPS_UNLOCKED = "GPS_UNLOCKED"


class UnsupportedOrder(GwmpError):
    """A whole txpk of a kind that no SX127x gateway sends (FSK, LR-FHSS): to be refused by TX_ACK."""

    def __init__(self, token: int, problem: str) -> None:
        super().__init__(problem)
        self.token = token


class RxPacket(msgspec.Struct, frozen=True, gc=False):
    """A frame heard by the gateway (`rxpk`)."""

    tmst: int  # end of the packet, u32 us of the gateway's counter
    freq_hz: int
    chan: int
    rfch: int
    stat: int  # 1 CRC good, -1 CRC bad, 0 frame without CRC
    modulation: LoRaModulation
    rssi_dbm: int
    lsnr_db: float
    data: bytes
    time_ns: int | None = None  # UTC
    foff_hz: int | None = None  # measured frequency minus nominal
    tmms: int | None = None  # GPS milliseconds (since 6 January 1980), where the gateway has GNSS time
    sync_word: int = SYNC_WORD_LORAWAN  # another one: a frame that is not LoRaWAN's, whatever it looks like


class TxPacket(msgspec.Struct, frozen=True, gc=False):
    """A frame the gateway is to send (`txpk`), at `tmst`, at once (`imme`), or at a GPS time (`tmms`)."""

    tmst: int | None
    imme: bool
    freq_hz: int
    rfch: int
    powe_dbm: int  # EIRP
    modulation: LoRaModulation
    ipol: bool  # inverted IQ, as every LoRaWAN downlink but a beacon
    data: bytes
    ncrc: bool = False  # no CRC, as every LoRaWAN downlink
    preamble: int | None = None  # symbols; None is the usual 8
    tmms: int | None = None  # GPS milliseconds
    nhdr: bool = False  # implicit header: a class B beacon
    sync_word: int = SYNC_WORD_LORAWAN


class Stat(msgspec.Struct, frozen=True, omit_defaults=True):
    """The gateway's regular report (`stat`), with the protocol's own field names."""

    time_ns: int | None = None  # UTC
    lati: float | None = None
    long: float | None = None
    alti: int | None = None
    rxnb: int = 0  # frames received
    rxok: int = 0  # with a good CRC
    rxfw: int = 0  # forwarded
    ackr: float = 0.0  # per cent of PUSH_DATA acknowledged
    dwnb: int = 0  # downlink orders received
    txnb: int = 0  # frames sent
    temp: float | None = None


class PushData(msgspec.Struct, frozen=True):
    token: int
    eui: bytes
    rxpk: tuple[RxPacket, ...] = ()
    stat: Stat | None = None
    skipped: int = 0  # rxpk of a modulation that is not ours (FSK, LR-FHSS)
    damaged: int = 0  # rxpk that cannot be used, beside others that can


class PushAck(msgspec.Struct, frozen=True):
    token: int


class PullData(msgspec.Struct, frozen=True):
    token: int
    eui: bytes


class PullAck(msgspec.Struct, frozen=True):
    token: int


class PullResp(msgspec.Struct, frozen=True):
    token: int
    txpk: TxPacket


class TxAck(msgspec.Struct, frozen=True):
    token: int
    eui: bytes
    error: TxError = TxError.NONE
    warn: TxError | None = None  # sent, but with `value` instead of what was asked (protocol 1.5)
    value: int | None = None
    reason: str = ""  # why it was refused, in the forwarder's words; ours says it


Datagram = PushData | PushAck | PullData | PullAck | PullResp | TxAck

_json: Final = msgspec.json.Encoder()

# --- decoding ----------------------------------------------------------------------------------------


def decode(datagram: bytes) -> Datagram:
    """Read one datagram. JSON may end in spaces or zero bytes, as some C senders leave it.

    Raises GwmpError, and nothing else, for anything that is not a whole GWMP version 2 datagram.
    """
    if len(datagram) < 4:
        raise GwmpError(f"{len(datagram)} bytes are too short for a GWMP header")
    if datagram[0] != VERSION:
        raise GwmpError(f"protocol version {datagram[0]}, not {VERSION}")
    token = datagram[1] << 8 | datagram[2]
    kind = datagram[3]
    try:
        if kind == PUSH_DATA:  # by far the most frequent
            return _push_data(token, _eui(datagram), datagram[12:])
        match kind:
            case 0x01:
                return PushAck(token)
            case 0x02:
                return PullData(token, _eui(datagram))
            case 0x03:
                return _pull_resp(token, datagram[4:])
            case 0x04:
                return PullAck(token)
            case 0x05:
                return _tx_ack(token, _eui(datagram), datagram[12:])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as e:
        raise GwmpError(f"type {kind}: {e}") from None
    raise GwmpError(f"unknown datagram type 0x{kind:02x}")


def _eui(datagram: bytes) -> bytes:
    if len(datagram) < 12:
        raise GwmpError("datagram ends inside the gateway EUI")
    return datagram[4:12]


def _push_data(token: int, eui: bytes, body: bytes) -> PushData:
    damaged = 0
    try:
        push = wire.push_decoder.decode(body)
    except msgspec.MsgspecError:
        push, damaged = wire.mended_push(body)
    packets: list[RxPacket] = []
    skipped = 0
    for rx in push.rxpk or ():
        datr = rx.datr
        if rx.modu != "LORA" or datr.__class__ is not str:
            skipped += 1
            continue
        try:
            modulation = LoRaModulation.parse(datr, rx.codr)
        except ValueError:
            skipped += 1  # a concentrator of another generation (SF5, LR-FHSS): not ours to read
            continue
        data = rx.data
        if (rx.size is not None and rx.size != len(data)) or len(data) > MAX_PHY_LEN:
            damaged += 1
            continue
        packets.append(
            RxPacket(
                rx.tmst,
                round(rx.freq * 1_000_000),
                rx.chan,
                rx.rfch,
                rx.stat,
                modulation,
                round(rx.rssi),
                rx.lsnr,
                data,
                None if rx.time is None else _iso_ns(rx.time),
                rx.foff,
                rx.tmms,
                SYNC_WORD_LORAWAN if rx.sync is None else rx.sync,
            )
        )
    if damaged and not packets and not skipped and push.stat is None:
        raise GwmpError(
            f"none of {damaged} rxpk can be used: a field is missing, out of range, or not of its size"
        )
    return PushData(token, eui, tuple(packets), _stat(push.stat) if push.stat else None, skipped, damaged)


def _pull_resp(token: int, body: bytes) -> PullResp:
    try:
        tx = wire.resp_decoder.decode(body).txpk
    except msgspec.MsgspecError:
        tx = wire.mended_resp(body).txpk
    if tx.modu != "LORA" or not isinstance(tx.datr, str):
        raise UnsupportedOrder(
            token, f"a downlink of modulation {tx.modu[:16]!r}: this radio sends LoRa only"
        )
    try:
        modulation = LoRaModulation.parse(tx.datr, tx.codr)
    except ValueError as error:
        raise UnsupportedOrder(token, str(error)) from None
    if (tx.size is not None and tx.size != len(tx.data)) or len(tx.data) > MAX_PHY_LEN:
        raise GwmpError(f"txpk of size {tx.size} carries {len(tx.data)} bytes")
    return PullResp(
        token,
        TxPacket(
            tmst=tx.tmst,
            imme=tx.imme,
            freq_hz=round(tx.freq * 1_000_000),
            rfch=tx.rfch,
            powe_dbm=round(tx.powe),
            modulation=modulation,
            ipol=tx.ipol,
            data=tx.data,
            ncrc=tx.ncrc,
            preamble=tx.prea,
            tmms=tx.tmms,
            nhdr=tx.nhdr,
            sync_word=SYNC_WORD_LORAWAN if tx.sync is None else tx.sync,
        ),
    )


def _tx_ack(token: int, eui: bytes, body: bytes) -> TxAck:
    body = body.rstrip(b"\0 \r\n")
    if not body:  # an empty body is the original forwarder's "sent"
        return TxAck(token, eui)
    ack = wire.ack_decoder.decode(body).txpk_ack
    warn = TxError.TX_POWER if ack.warn == TxError.TX_POWER else None  # the only one there is
    reason = "".join(each for each in ack.reason[:MAX_REASON] if each.isprintable())
    return TxAck(token, eui, _error(ack.error), warn, _warned_value(ack.value) if warn else None, reason)


_ERRORS: Final[dict[str, TxError]] = {each.value: each for each in TxError} | {
    "": TxError.NONE,
    # What ChirpStack's forwarders answer beyond the protocol's text.
    "QUEUE_FULL": TxError.COLLISION_PACKET,
    "DUTY_CYCLE_OVERFLOW": TxError.TX_FREQ,
}


def _error(word: str) -> TxError:
    """What a forwarder answered; a word of its own is a refusal all the same."""
    return _ERRORS.get(word, TxError.COLLISION_PACKET)


def _warned_value(value: float | str | None) -> int | None:
    """The power really used, dBm; the protocol allows a string. None where it is no number."""
    try:
        return None if value is None else round(float(value))
    except (ValueError, OverflowError):
        return None


def _iso_ns(text: str) -> int | None:
    """ISO 8601 UTC to ns since 1970; None where a forwarder wrote something else (a display value only)."""
    try:
        return _utc_ns(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return None


def _utc_ns(at: datetime) -> int:
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return round(at.timestamp() * 1_000_000) * 1000  # a double holds microseconds until the year 2255


def _stat(read: wire.StatWire) -> Stat:
    time_ns = None
    if read.time is not None:
        try:
            time_ns = _utc_ns(datetime.strptime(read.time, _STAT_TIME))
        except (ValueError, OverflowError):
            time_ns = None
    return Stat(
        time_ns,
        read.lati,
        read.long,
        None if read.alti is None or not isfinite(read.alti) else round(read.alti),
        read.rxnb,
        read.rxok,
        read.rxfw,
        read.ackr,
        read.dwnb,
        read.txnb,
        read.temp,
    )


_STAT_TIME: Final = "%Y-%m-%d %H:%M:%S GMT"

# --- encoding ----------------------------------------------------------------------------------------


def encode(datagram: Datagram) -> bytes:
    """The bytes of one datagram. Raises GwmpError for a token or EUI that does not fit its field."""
    match datagram:
        case PushData(token, eui, rxpk, stat):
            body: dict[str, object] = {}
            if rxpk:
                body["rxpk"] = [_rx_json(rx) for rx in rxpk]
            if stat is not None:
                body["stat"] = _stat_json(stat)
            return _head(token, PUSH_DATA, eui) + _json.encode(body)
        case PushAck(token):
            return _head(token, PUSH_ACK)
        case PullData(token, eui):
            return _head(token, PULL_DATA, eui)
        case PullAck(token):
            return _head(token, PULL_ACK)
        case PullResp(token, txpk):
            return _head(token, PULL_RESP) + _json.encode({"txpk": _tx_json(txpk)})
        case TxAck(token, eui):
            return _head(token, TX_ACK, eui) + _ack_json(datagram)


def encode_push_ack(token: int) -> bytes:
    """As `encode(PushAck(token))`, which a server does for every datagram with frames."""
    return _head(token, PUSH_ACK)


def _head(token: int, kind: int, eui: bytes | None = None) -> bytes:
    if not 0 <= token <= 0xFFFF:
        raise GwmpError(f"token {token} does not fit two bytes")
    if eui is not None and len(eui) != 8:
        raise GwmpError(f"a gateway EUI has 8 bytes, not {len(eui)}")
    return bytes((VERSION, token >> 8, token & 0xFF, kind)) + (eui or b"")


def _rx_json(rx: RxPacket) -> dict[str, object]:
    out: dict[str, object] = {
        "tmst": rx.tmst,
        "freq": rx.freq_hz / 1_000_000,
        "chan": rx.chan,
        "rfch": rx.rfch,
        "stat": rx.stat,
        "modu": "LORA",
        "datr": rx.modulation.datr,
        "codr": rx.modulation.codr,
        "rssi": rx.rssi_dbm,
        "lsnr": round(rx.lsnr_db, 1),
        "size": len(rx.data),
        "data": rx.data,  # msgspec writes bytes as base64
    }
    if rx.time_ns is not None:
        seconds, ns = divmod(rx.time_ns, 1_000_000_000)
        out["time"] = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ns // 1000:06d}Z"
    if rx.foff_hz is not None:
        out["foff"] = rx.foff_hz
    if rx.tmms is not None:
        out["tmms"] = rx.tmms
    if rx.sync_word != SYNC_WORD_LORAWAN:
        out["sync"] = rx.sync_word
    return out


def _tx_json(tx: TxPacket) -> dict[str, object]:
    out: dict[str, object] = {
        "imme": tx.imme,
        "freq": tx.freq_hz / 1_000_000,
        "rfch": tx.rfch,
        "powe": tx.powe_dbm,
        "modu": "LORA",
        "datr": tx.modulation.datr,
        "codr": tx.modulation.codr,
        "ipol": tx.ipol,
        "size": len(tx.data),
        "data": tx.data,
        "ncrc": tx.ncrc,
    }
    optional = {"tmst": tx.tmst, "tmms": tx.tmms, "prea": tx.preamble, "nhdr": tx.nhdr or None}
    if tx.sync_word != SYNC_WORD_LORAWAN:
        optional["sync"] = tx.sync_word
    return out | {name: value for name, value in optional.items() if value is not None}


def _stat_json(stat: Stat) -> dict[str, object]:
    out: dict[str, object] = {}
    if stat.time_ns is not None:
        out["time"] = datetime.fromtimestamp(stat.time_ns // 1_000_000_000, UTC).strftime(_STAT_TIME)
    for name in ("lati", "long", "alti", "rxnb", "rxok", "rxfw", "ackr", "dwnb", "txnb", "temp"):
        value = getattr(stat, name)
        if value is not None:
            out[name] = value
    return out


def _ack_json(ack: TxAck) -> bytes:
    if ack.error is not TxError.NONE:
        reason = {"reason": ack.reason[:MAX_REASON]} if ack.reason else {}
        return _json.encode({"txpk_ack": {"error": ack.error, **reason}})
    if ack.warn is not None:
        return _json.encode({"txpk_ack": {"error": ack.error, "warn": ack.warn, "value": ack.value}})
    return _json.encode({"txpk_ack": {"error": TxError.NONE}})
