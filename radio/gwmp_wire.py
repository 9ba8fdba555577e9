"""The JSON inside GWMP datagrams, as it is on the wire: field by field, and what senders in the field get wrong.

`radio.gwmp` makes values of it. What does not fit raises msgspec's errors or GwmpError, which `radio.gwmp.decode`
turns into its own.
"""

from typing import Annotated, Final, Literal

import msgspec

from radio.errors import GwmpError

DEFAULT_TX_POWER_DBM: Final = 14  # where a txpk carries no `powe`
MAX_PHY_LEN: Final = 255
U32: Final = 1 << 32

_U32 = Annotated[int, msgspec.Meta(ge=0, lt=U32)]
_MHz = Annotated[float, msgspec.Meta(gt=0, lt=10_000)]
_Db = Annotated[float, msgspec.Meta(ge=-500, le=500)]
_Small = Annotated[int, msgspec.Meta(ge=0, le=255)]
_GpsMs = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
_Size = Annotated[int, msgspec.Meta(ge=0, le=MAX_PHY_LEN)]


class Rx(msgspec.Struct, gc=False):
    tmst: _U32
    freq: _MHz
    datr: str | int
    rssi: _Db
    data: bytes
    modu: str = "LORA"
    codr: str = "4/5"
    lsnr: _Db = 0.0
    chan: _Small = 0
    rfch: _Small = 0
    stat: Literal[-1, 0, 1] = 1
    size: _Size | None = None
    time: str | None = None
    foff: Annotated[int, msgspec.Meta(ge=-10_000_000, le=10_000_000)] | None = None
    tmms: _GpsMs | None = None
    sync: _Small | None = None  # ours: the sync word, where it is not LoRaWAN's


class StatWire(msgspec.Struct, gc=False):
    time: str | None = None
    lati: float | None = None
    long: float | None = None
    alti: float | None = None
    rxnb: int = 0
    rxok: int = 0
    rxfw: int = 0
    ackr: float = 0.0
    dwnb: int = 0
    txnb: int = 0
    temp: float | None = None


class Push(msgspec.Struct, gc=False):
    rxpk: list[Rx] | None = None
    stat: StatWire | None = None


class Tx(msgspec.Struct, gc=False):
    freq: _MHz
    datr: str | int
    data: bytes
    imme: bool = False
    tmst: _U32 | None = None
    tmms: _GpsMs | None = None
    rfch: _Small = 0
    powe: Annotated[float, msgspec.Meta(ge=-100, le=100)] = DEFAULT_TX_POWER_DBM
    modu: str = "LORA"
    codr: str = "4/5"
    ipol: bool = False
    ncrc: bool = False
    prea: Annotated[int, msgspec.Meta(ge=0, le=65_535)] | None = None
    nhdr: bool = False
    size: _Size | None = None
    sync: _Small | None = None  # ours, as in rxpk


class Resp(msgspec.Struct, gc=False):
    txpk: Tx


class AckBody(msgspec.Struct, gc=False):
    error: str = ""
    warn: str = ""
    value: float | str | None = None
    reason: str = ""  # ours: why, for a technician


class Ack(msgspec.Struct, gc=False):
    txpk_ack: AckBody = msgspec.field(default_factory=AckBody)


push_decoder: Final = msgspec.json.Decoder(Push)
resp_decoder: Final = msgspec.json.Decoder(Resp)
ack_decoder: Final = msgspec.json.Decoder(Ack)
_tree_decoder: Final = msgspec.json.Decoder()

# --- what senders in the field get wrong ---------------------------------------------------------------

_URL_SAFE: Final = str.maketrans("-_", "+/")


def _tree(body: bytes) -> dict[str, object]:
    """The JSON as a tree, trailing zero bytes dropped (slow path)."""
    tree = _tree_decoder.decode(body.rstrip(b"\0"))
    if not isinstance(tree, dict):
        raise GwmpError("JSON that is no object")
    return tree


def mended_push(body: bytes) -> tuple[Push, int]:
    """What can be read of a PUSH_DATA body, and how many of its rxpk cannot."""
    tree = _tree(body)
    items = tree.get("rxpk")
    if items is not None and not isinstance(items, list):
        raise GwmpError("rxpk is no array")
    good: list[Rx] = []
    for item in items or ():
        _mend_data(item)
        _mend_antennas(item)
        try:
            good.append(msgspec.convert(item, Rx))
        except msgspec.ValidationError:
            continue
    stat = tree.get("stat")
    try:
        read = None if stat is None else msgspec.convert(stat, StatWire)
    except msgspec.ValidationError:
        if not good:
            raise
        read = None  # frames matter more than the report beside them
    return Push(good, read), len(items or ()) - len(good)


def mended_resp(body: bytes) -> Resp:
    """What can be read of a PULL_RESP body. Raises as `msgspec.convert` does, or GwmpError."""
    tree = _tree(body)
    _mend_data(tree.get("txpk"))
    return msgspec.convert(tree, Resp)


def _mend_data(item: object) -> None:
    """Base64 as msgspec wants it: forwarders leave out the padding, the protocol's examples are URL-safe."""
    if isinstance(item, dict) and isinstance(item.get("data"), str):
        text = item["data"].rstrip("=").translate(_URL_SAFE)
        item["data"] = text + "=" * (-len(text) % 4)


def _mend_antennas(item: object) -> None:
    """A concentrator of several antennas lists its RSSI and SNR in `rsig`: take those of the best."""
    if not isinstance(item, dict) or "rssi" in item or not isinstance(item.get("rsig"), list):
        return
    antennas = [
        each for each in item["rsig"] if isinstance(each, dict) and isinstance(each.get("lsnr"), int | float)
    ]
    if antennas:
        best = max(antennas, key=lambda each: each["lsnr"])
        item |= {"lsnr": best["lsnr"], "rssi": best.get("rssic"), "chan": best.get("chan", 0)}
