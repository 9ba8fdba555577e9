"""The JSON objects of the Basics Station LNS protocol as they stand on the wire, with the bounds of each field.

A field that has two spellings has two names here; which one counts is for `codec` to say. Fields that are not listed
are passed over.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from radio.station import frames
from radio.station.messages import MAX_DR

_S64 = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
_Eui = str | int
_Seconds = Annotated[float, Meta(ge=0, le=1e11)]
_Dr = Annotated[int, Meta(ge=0, le=MAX_DR)]
_Hz = Annotated[int, Meta(ge=1_000_000, le=3_000_000_000)]
_Db = Annotated[float, Meta(ge=-500, le=500)]
_Text = Annotated[str, Meta(max_length=256)]
_Hex = Annotated[str, Meta(max_length=2 * frames.MAX_PHY)]
_Time = _S64 | Annotated[float, Meta(ge=-1e18, le=1e18)]
_Uri = Annotated[str, Meta(max_length=1024)]


class Head(msgspec.Struct):
    msgtype: _Text = ""


class Discovery(msgspec.Struct):
    router: _Eui


class DiscoveryAnswer(msgspec.Struct):
    router: _Eui | None = None
    muxs: _Eui | None = None
    uri: _Uri | None = None
    error: _Uri | None = None


class Version(msgspec.Struct):
    station: _Text | None = None
    firmware: _Text | None = None
    package: _Text | None = None
    model: _Text | None = None
    protocol: Annotated[int, Meta(ge=0, le=1000)] = 0
    features: _Text | None = None


class UpInfo(msgspec.Struct, gc=False):
    xtime: _S64
    rssi: _Db
    snr: _Db
    rctx: _S64 = 0
    gpstime: _S64 = 0
    fts: _S64 = -1
    rxtime: _Seconds = 0.0


class Frame(
    msgspec.Struct,
    gc=False,
    rename={
        "mhdr": "MHdr", "join_eui": "JoinEui", "join_eui_too": "JoinEUI", "dev_eui": "DevEui",
        "dev_eui_too": "DevEUI", "dev_nonce": "DevNonce", "mic": "MIC", "dev_addr": "DevAddr", "fctrl": "FCtrl",
        "fcnt": "FCnt", "fcnt_too": "Fcnt", "fopts": "FOpts", "fport": "FPort", "payload": "FRMPayload",
        "dr": "DR", "freq": "Freq", "ref_time": "RefTime",
    },
):  # fmt: skip
    dr: _Dr
    freq: _Hz
    upinfo: UpInfo
    ref_time: _Seconds = 0.0
    mhdr: Annotated[int, frames.Byte] = 0
    join_eui: _Eui | None = None
    join_eui_too: _Eui | None = None  # how a station speaks whose server did so
    dev_eui: _Eui | None = None
    dev_eui_too: _Eui | None = None
    dev_nonce: Annotated[int, frames.Word] = 0
    mic: Annotated[int, frames.Signed32] = 0
    dev_addr: Annotated[int, frames.Signed32] = 0
    fctrl: Annotated[int, frames.Byte] = 0
    fcnt: Annotated[int, frames.Word] | None = None
    fcnt_too: Annotated[int, frames.Word] = 0  # The Things Stack's spelling
    fopts: _Hex = ""
    fport: Annotated[int, Meta(ge=-1, le=0xFF)] = frames.NO_PORT
    payload: _Hex = ""


class Sent(msgspec.Struct, rename={"dev_eui": "DevEui", "dev_eui_too": "DevEUI", "dr": "DR", "freq": "Freq"}):
    diid: _S64 | None = None
    seqno: _S64 | None = None  # the name it had before
    dev_eui: _Eui | None = None
    dev_eui_too: _Eui | None = None
    rctx: _S64 = 0
    xtime: _S64 = 0
    txtime: _Seconds = 0.0
    gpstime: _S64 = 0
    dr: _Dr | None = None
    freq: _Hz | None = None


class TimeSyncUp(msgspec.Struct):
    txtime: _Time


class TimeSyncDown(msgspec.Struct, rename={"mux_time": "MuxTime"}):
    txtime: _Time | None = None
    xtime: _S64 | None = None
    gpstime: _S64 | None = None
    mux_time: _Seconds | None = None


class RouterConfig(
    msgspec.Struct,
    rename={
        "net_ids": "NetID", "join_euis": "JoinEui", "join_euis_too": "JoinEUI", "data_rates": "DRs",
        "mux_time": "MuxTime",
    },
):  # fmt: skip
    region: _Text
    hwspec: _Text
    freq_range: tuple[_Hz, _Hz]
    data_rates: Annotated[list[tuple[int, int, int]], Meta(max_length=MAX_DR + 1)]
    upchannels: Annotated[list[tuple[_Hz, _Dr, _Dr]], Meta(max_length=128)] | None = None
    net_ids: Annotated[list[Annotated[int, Meta(ge=0, le=0xFFFFFF)]], Meta(max_length=128)] | None = None
    join_euis: Annotated[list[tuple[_Eui, _Eui]], Meta(max_length=128)] | None = None
    join_euis_too: Annotated[list[tuple[_Eui, _Eui]], Meta(max_length=128)] | None = None
    max_eirp: Annotated[float, Meta(ge=-30, le=60)] | None = None
    sx1301_conf: Annotated[list[dict[str, Any]], Meta(max_length=8)] | None = None
    mux_time: _Seconds | None = None


class Order(
    msgspec.Struct,
    rename={
        "dev_eui": "DevEui", "dev_eui_too": "DevEUI", "device_class": "dC", "rx_delay": "RxDelay",
        "rx1_dr": "RX1DR", "rx1_freq": "RX1Freq", "rx2_dr": "RX2DR", "rx2_freq": "RX2Freq", "dr": "DR",
        "freq": "Freq", "mux_time": "MuxTime",
    },
):  # fmt: skip
    device_class: Annotated[int, Meta(ge=0, le=2)]
    pdu: _Hex
    diid: _S64 | None = None
    seqno: _S64 | None = None
    dev_eui: _Eui | None = None
    dev_eui_too: _Eui | None = None
    rctx: _S64 | None = None
    xtime: _S64 | None = None
    rx_delay: Annotated[int, Meta(ge=0, le=15)] | None = None
    rx1_dr: _Dr | None = None
    rx1_freq: _Hz | None = None
    rx2_dr: _Dr | None = None
    rx2_freq: _Hz | None = None
    dr: _Dr | None = None
    freq: _Hz | None = None
    gpstime: _S64 | None = None
    priority: Annotated[int, Meta(ge=0, le=255)] = 0
    mux_time: _Seconds | None = None


class Scheduled(msgspec.Struct, rename={"dr": "DR", "freq": "Freq"}):
    pdu: _Hex
    dr: _Dr
    freq: _Hz
    rctx: _S64 = 0
    xtime: _S64 | None = None
    gpstime: _S64 | None = None
    ontime: Annotated[int, Meta(ge=0, lt=1 << 40)] | None = None  # GPS seconds
    priority: Annotated[int, Meta(ge=0, le=255)] = 0


class Schedule(msgspec.Struct, rename={"mux_time": "MuxTime"}):
    schedule: Annotated[list[Scheduled], Meta(max_length=128)]
    mux_time: _Seconds | None = None
