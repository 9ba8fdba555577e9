"""The JSON of the Basics Station LNS protocol: text to the values of `messages` and back, for both ends.

Whatever the text, the `decode_...` functions raise only `StationError`. A message of a kind that is not served comes
out as `Other`: the protocol grows, and an unknown message is no error. Fields that are not known are passed over.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from radio.station import frames, wire
from radio.station.errors import StationError
from radio.station.eui import dashes, id6, parse_eui
from radio.station.messages import (
    CLASS_B,
    MAX_DR,
    Channel,
    DataRate,
    Discovery,
    DiscoveryAnswer,
    DownMessage,
    Order,
    Other,
    RouterConfig,
    Schedule,
    Scheduled,
    Sent,
    TimeSync,
    TimeSyncRequest,
    Uplink,
    UpMessage,
    Version,
)

T = TypeVar("T")

_json: Final = msgspec.json.Encoder()
_head: Final = msgspec.json.Decoder(wire.Head)
_discovery: Final = msgspec.json.Decoder(wire.Discovery)
_discovery_answer: Final = msgspec.json.Decoder(wire.DiscoveryAnswer)
_version: Final = msgspec.json.Decoder(wire.Version)
_frame: Final = msgspec.json.Decoder(wire.Frame)
_sent: Final = msgspec.json.Decoder(wire.Sent)
_time_sync_up: Final = msgspec.json.Decoder(wire.TimeSyncUp)
_time_sync_down: Final = msgspec.json.Decoder(wire.TimeSyncDown)
_router_config: Final = msgspec.json.Decoder(wire.RouterConfig)
_order: Final = msgspec.json.Decoder(wire.Order)
_schedule: Final = msgspec.json.Decoder(wire.Schedule)

# --- decoding ----------------------------------------------------------------------------------------


def decode_discovery(text: str | bytes) -> Discovery:
    """Read what a concentrator asks at /router-info. Raises StationError."""
    return _read(text, _discovery, lambda said: Discovery(parse_eui(said.router)))


def decode_discovery_answer(text: str | bytes) -> DiscoveryAnswer:
    """Read a server's answer to it. Raises StationError."""

    def value(said: wire.DiscoveryAnswer) -> DiscoveryAnswer:
        if not said.uri and not said.error:
            raise StationError("neither an address nor an error")
        router, muxs = (b"" if eui is None else parse_eui(eui) for eui in (said.router, said.muxs))
        return DiscoveryAnswer(router, muxs, said.uri or "", said.error or "")

    return _read(text, _discovery_answer, value)


def decode_up(text: str | bytes) -> UpMessage:
    """Read a concentrator's message. Raises StationError."""
    kind = _kind(text)
    if kind in frames.KINDS:
        return _read(text, _frame, lambda said: _uplink(kind, said))
    match kind:
        case "dntxed":
            return _read(text, _sent, _sent_value)
        case "timesync":
            return _read(text, _time_sync_up, lambda said: TimeSyncRequest(said.txtime))
        case "version":
            return _read(text, _version, _version_value)
    return Other(kind)


def decode_down(text: str | bytes) -> DownMessage:
    """Read a server's message. Raises StationError."""
    kind = _kind(text)
    match kind:
        case "dnmsg":
            return _read(text, _order, _order_value)
        case "dnsched":
            return _read(text, _schedule, _schedule_value)
        case "timesync":
            return _read(text, _time_sync_down, _time_sync_value)
        case "router_config":
            return _read(text, _router_config, _router_config_value)
    return Other(kind)


def _kind(text: str | bytes) -> str:
    msgtype: str = _read(text, _head, lambda said: said.msgtype)
    return msgtype


def _read(text: str | bytes, decoder: "msgspec.json.Decoder[Any]", value: Callable[[Any], T]) -> T:
    try:
        return value(decoder.decode(text))
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise StationError(str(error)) from None


def _uplink(kind: str, said: wire.Frame) -> Uplink:
    joining = kind in ("jreq", "rejoin")
    fcnt = said.fcnt_too if said.fcnt is None else said.fcnt
    phy = frames.join(
        kind,
        frames.Fields(
            mhdr=said.mhdr,
            join_eui=frames.eui_of(_either(said.join_eui, said.join_eui_too), "JoinEui") if joining else b"",
            dev_eui=frames.eui_of(_either(said.dev_eui, said.dev_eui_too), "DevEui") if joining else b"",
            dev_nonce=said.dev_nonce,
            dev_addr=said.dev_addr,
            fctrl=said.fctrl,
            fcnt=fcnt,
            fopts=frames.unhex(said.fopts, "FOpts"),
            fport=said.fport,
            payload=frames.unhex(said.payload, "FRMPayload"),
            mic=said.mic,
        ),
    )
    info = said.upinfo
    return Uplink(
        phy,
        said.dr,
        said.freq,
        info.rctx,
        info.xtime,
        info.rssi,
        info.snr,
        info.gpstime,
        info.rxtime,
        said.ref_time,
        info.fts,
    )


def _either(first: str | int | None, second: str | int | None) -> str | int | None:
    return second if first is None else first


def _diid(diid: int | None, seqno: int | None) -> int:
    number = seqno if diid is None else diid
    if number is None:
        raise StationError("diid is missing")
    return number


def _sent_value(said: wire.Sent) -> Sent:
    return Sent(
        _diid(said.diid, said.seqno),
        frames.eui_of(_either(said.dev_eui, said.dev_eui_too), "DevEui"),
        said.rctx,
        said.xtime,
        said.txtime,
        said.gpstime,
        said.dr,
        said.freq,
    )


def _version_value(said: wire.Version) -> Version:
    return Version(
        station=said.station or "",
        firmware=said.firmware or "",
        package=said.package or "",
        model=said.model or "",
        protocol=said.protocol,
        features=said.features or "",
    )


def _pair(dr: int | None, freq_hz: int | None, what: str) -> tuple[int, int] | None:
    if dr is None and freq_hz is None:
        return None
    if dr is None or freq_hz is None:
        raise StationError(f"{what} has a data rate or a frequency, and not both")
    return dr, freq_hz


def _order_value(said: wire.Order) -> Order:
    order = Order(
        dev_eui=frames.eui_of(_either(said.dev_eui, said.dev_eui_too), "DevEui"),
        device_class=said.device_class,
        diid=_diid(said.diid, said.seqno),
        pdu=_pdu(said.pdu),
        rctx=said.rctx or 0,
        xtime=said.xtime or 0,
        rx_delay_s=said.rx_delay or 1,  # 0 means 1, as in LoRaWAN
        rx1=_pair(said.rx1_dr, said.rx1_freq, "RX1"),
        rx2=_pair(said.rx2_dr, said.rx2_freq, "RX2"),
        ping=_pair(said.dr, said.freq, "the ping slot"),
        gpstime_us=said.gpstime or 0,
        priority=said.priority,
        mux_time_s=said.mux_time,
    )
    if order.device_class == CLASS_B:
        if order.ping is None or not order.gpstime_us:
            raise StationError("a class B downlink needs DR, Freq and gpstime")
    elif order.rx1 is None and order.rx2 is None:
        raise StationError("neither RX1 nor RX2 is given")
    return order


def _schedule_value(said: wire.Schedule) -> Schedule:
    return Schedule(tuple(_scheduled_value(frame) for frame in said.schedule), said.mux_time)


def _scheduled_value(said: wire.Scheduled) -> Scheduled:
    gpstime_us = said.gpstime or (said.ontime or 0) * 1_000_000
    if not gpstime_us and not said.xtime:
        raise StationError("a scheduled frame has no time")
    return Scheduled(
        _pdu(said.pdu), said.dr, said.freq, said.rctx, said.xtime or 0, gpstime_us, said.priority
    )


def _pdu(text: str) -> bytes:
    pdu = frames.unhex(text, "pdu")
    if not pdu:
        raise StationError("pdu is empty")
    return pdu


def _time_sync_value(said: wire.TimeSyncDown) -> TimeSync:
    return TimeSync(said.txtime, said.xtime or None, said.gpstime or None, said.mux_time)


def _router_config_value(said: wire.RouterConfig) -> RouterConfig:
    euis = said.join_euis if said.join_euis_too is None else said.join_euis_too
    rates = [
        None if sf < 0 else DataRate(sf, bandwidth, bool(down_only))
        for sf, bandwidth, down_only in said.data_rates
    ]
    return RouterConfig(
        said.region,
        said.hwspec,
        said.freq_range,
        tuple(rates),
        tuple(Channel(*row) for row in said.upchannels or ()),
        None if said.net_ids is None else tuple(net_id & 0x7F for net_id in said.net_ids),
        # A range that begins with 0 ends the list, and an empty list lets all pass.
        _ranges([(_number(low), _number(high)) for low, high in euis or ()]),
        said.max_eirp,
        tuple(said.sx1301_conf or ()),
        said.mux_time,
    )


def _number(eui: str | int) -> int:
    return int.from_bytes(parse_eui(eui), "big")


def _ranges(ranges: list[tuple[int, int]]) -> tuple[tuple[int, int], ...] | None:
    end = next((i for i, (low, _) in enumerate(ranges) if not low), len(ranges))
    return tuple(ranges[:end]) or None


# --- encoding ----------------------------------------------------------------------------------------


def encode_discovery(discovery: Discovery) -> str:
    """The question of a concentrator."""
    return _text({"router": id6(discovery.router)})


def encode_discovery_answer(answer: DiscoveryAnswer) -> str:
    """The answer of a server."""
    router = id6(answer.router)
    if answer.error:
        return _text({"router": router, "error": answer.error})
    return _text({"router": router, "muxs": id6(answer.muxs), "uri": answer.uri})


def encode_up(message: UpMessage) -> str:
    """A concentrator's message. Raises StationError for a frame that the protocol does not carry."""
    match message:
        case Uplink():
            return _text(_uplink_json(message))
        case Sent():
            out = {
                "msgtype": "dntxed",
                "diid": message.diid,
                "seqno": message.diid,
                "DR": message.dr,
                "Freq": message.freq_hz,
                "DevEui": dashes(message.dev_eui),
                "rctx": message.rctx,
                "xtime": message.xtime,
                "txtime": message.txtime_s,
                "gpstime": message.gpstime_us,
            }
            return _text(_known(out))
        case TimeSyncRequest(txtime):
            return _text({"msgtype": "timesync", "txtime": txtime})
        case Version():
            return _text({"msgtype": "version"} | msgspec.structs.asdict(message))
        case Other(msgtype):
            return _text({"msgtype": msgtype})


def encode_down(message: DownMessage) -> str:
    """A server's message."""
    match message:
        case Order():
            return _text(_order_json(message))
        case Schedule():
            schedule = [_scheduled_json(frame) for frame in message.frames]
            out = {"msgtype": "dnsched", "schedule": schedule, "MuxTime": message.mux_time_s}
            return _text(_known(out))
        case TimeSync():
            out = {
                "msgtype": "timesync",
                "txtime": message.txtime,
                "xtime": message.xtime,
                "gpstime": message.gpstime_us,
                "MuxTime": message.mux_time_s,
            }
            return _text(_known(out))
        case RouterConfig():
            return _text(_router_config_json(message))
        case Other(msgtype):
            return _text({"msgtype": msgtype})


def _uplink_json(uplink: Uplink) -> dict[str, Any]:
    kind, fields = frames.split(uplink.phy)
    upinfo = {
        "rctx": uplink.rctx,
        "xtime": uplink.xtime,
        "gpstime": uplink.gpstime_us,
        "fts": uplink.fts,
        "rssi": uplink.rssi_dbm,
        "snr": uplink.snr_db,
        "rxtime": uplink.rxtime_s,
    }
    radio = {"RefTime": uplink.ref_time_s, "DR": uplink.dr, "Freq": uplink.freq_hz, "upinfo": upinfo}
    return {"msgtype": kind} | fields | radio


def _order_json(order: Order) -> dict[str, Any]:
    out: dict[str, Any] = {
        "msgtype": "dnmsg",
        "DevEui": dashes(order.dev_eui),
        "dC": order.device_class,
        "diid": order.diid,
        "pdu": order.pdu.hex(),
        "priority": order.priority,
        "rctx": order.rctx,
        "MuxTime": order.mux_time_s,
    }
    if order.device_class == CLASS_B:
        out["gpstime"] = order.gpstime_us
    else:
        out |= {"RxDelay": order.rx_delay_s, "xtime": order.xtime or None}
    for pair, names in (
        (order.rx1, ("RX1DR", "RX1Freq")),
        (order.rx2, ("RX2DR", "RX2Freq")),
        (order.ping, ("DR", "Freq")),
    ):
        if pair is not None:
            out |= dict(zip(names, pair, strict=True))
    return _known(out)


def _scheduled_json(frame: Scheduled) -> dict[str, Any]:
    out = {
        "pdu": frame.pdu.hex(),
        "DR": frame.dr,
        "Freq": frame.freq_hz,
        "rctx": frame.rctx,
        "xtime": frame.xtime or None,
        "gpstime": frame.gpstime_us or None,
        "priority": frame.priority,
    }
    return _known(out)


def _router_config_json(config: RouterConfig) -> dict[str, Any]:
    unused = (-1, 0, 0)
    rates = [
        unused if rate is None else (rate.sf, rate.bw_khz, int(rate.down_only)) for rate in config.data_rates
    ]
    out = {
        "msgtype": "router_config",
        "NetID": config.net_ids,
        "JoinEui": config.join_euis,
        "region": config.region,
        "hwspec": config.hwspec,
        "freq_range": config.freq_range_hz,
        "DRs": rates + [unused] * (MAX_DR + 1 - len(rates)),
        "upchannels": [(channel.freq_hz, channel.min_dr, channel.max_dr) for channel in config.channels],
        "sx1301_conf": config.sx1301_conf,
    }
    return out | _known({"max_eirp": config.max_eirp_dbm, "MuxTime": config.mux_time_s})


def _known(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _text(tree: dict[str, Any]) -> str:
    return _json.encode(tree).decode()
