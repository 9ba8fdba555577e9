"""A device as the REST API shows it: no keys. None stands for what is not known yet."""

from __future__ import annotations

import msgspec

from gateway.devices.records import Record
from gateway.devices.reports import Missed, State, missed, state
from gateway.lorawan.device import Device

_SECOND_NS = 10**9


class DeviceView(msgspec.Struct):
    """Times are Unix seconds."""

    dev_eui: str
    name: str
    activation: str  # otaa, abp
    join_eui: str | None
    dev_addr: str | None
    codec: str
    thing_id: str
    channel_id: str
    last_seen: float | None
    rssi_dbm: float | None
    snr_db: float | None
    sf: int | None
    fcnt_up: int | None
    fcnt_down: int | None
    uplinks: int
    battery: int | None  # DevStatusAns: 0 external power, 1..254, 255 unknown
    margin_db: int | None
    queued: int
    problem: str  # why its frames were refused last; "" once one was accepted
    profile: str
    device_class: str  # A, B, C
    version: str  # of LoRaWAN
    own_codec: bool  # false: the codec is its profile's
    expected_interval_s: int  # between reports; 0: not known
    own_interval: bool  # false: the interval is its profile's
    missed: int  # reports that should have come since
    missed_since: float | None
    heard_share: float | None  # 0..1 of its last frames that were heard
    state: State
    attention: bool  # somebody should look at it
    description: str
    tags: dict[str, str]
    registered: float | None
    exported: float | None  # its session was copied for another gateway
    moved: float | None  # another gateway serves it since


def missing(device: Device, record: Record, listening_since_ns: int, now_ns: int) -> Missed:
    """The reports of a device that are missing at `now_ns` (UTC)."""
    return missed(device.last_seen_ns, record.expected_s(device.profile), listening_since_ns, now_ns)


def standing(device: Device, missing_now: Missed) -> State:
    return state(
        moved=device.moved,
        problem=device.problem,
        last_seen_ns=device.last_seen_ns,
        missing=missing_now,
        battery=device.battery,
    )


def view(device: Device, record: Record, listening_since_ns: int, now_ns: int) -> DeviceView:
    config, session, rx, profile = device.config, device.session, device.last_rx, device.profile
    missing_now = missing(device, record, listening_since_ns, now_ns)
    stands = standing(device, missing_now)
    return DeviceView(
        dev_eui=device.topic,
        name=config.name,
        activation=config.activation.value,
        join_eui=None if config.join_eui is None else str(config.join_eui),
        dev_addr=str(session.dev_addr) if session else None,
        codec=config.codec,
        thing_id=config.thing_id,
        channel_id=config.channel_id,
        last_seen=_seconds(device.last_seen_ns),
        rssi_dbm=rx.rssi_dbm if rx else None,
        snr_db=rx.lsnr_db if rx else None,
        sf=rx.modulation.sf if rx else None,
        fcnt_up=session.fcnt_up if session else None,
        fcnt_down=session.fcnt_down.next if session else None,
        uplinks=device.uplinks,
        battery=device.battery,
        margin_db=device.margin_db,
        queued=len(device.orders),
        problem=device.problem,
        profile=config.profile,
        device_class=profile.device_class.value,
        version=profile.version.value,
        own_codec=record.own_codec,
        expected_interval_s=record.expected_s(profile),
        own_interval=record.interval_s is not None,
        missed=missing_now.count,
        missed_since=_seconds(missing_now.since_ns),
        heard_share=device.heard.share,
        state=stands,
        attention=stands.needs_attention,
        description=record.description,
        tags=dict(record.tags),
        registered=_seconds(record.registered_ns or None),
        exported=_seconds(record.exported_ns),
        moved=_seconds(record.moved_ns) if device.moved else None,
    )


def _seconds(time_ns: int | None) -> float | None:
    return None if time_ns is None else time_ns / _SECOND_NS
