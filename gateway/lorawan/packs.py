"""An uplink's SenML packs, written out: its values, and how it was heard.

Both are made for every uplink, and both hold nothing but numbers under names of one device. So they are put together
from pieces, and the records they stand for are kept for the history (`hub.senml_kept`), which need not read them again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import msgspec

from gateway.lorawan.device import Device
from gateway.lorawan.outcome import Uplink
from hub import senml
from hub.message import SENML_JSON
from hub.senml import Record
from hub.senml_kept import Numbers, Said, keep
from radio.gwmp import RxPacket

RADIO_RECORDS = 5  # of how a frame was heard
MAX_GATEWAYS = 8  # whose signal is published; the best ones
MAX_PIECES = 1024  # names and units whose JSON is remembered; then the memory starts afresh
MAX_KEPT = 64  # records of a pack that are kept for the history

# A name that SenML allows behind a base name, whatever it is
_PLAIN = re.compile(r"[A-Za-z0-9:./_-]{1,64}", re.ASCII)
_RADIO_NAMES = ("rssi", "snr", "sf", "frequency", "fcnt")
_RADIO_UNITS = ("dBm", "dB", "", "Hz", "count")
_text = msgspec.json.encode
_pieces: dict[tuple[str, str], str] = {}


class HeardBy(Protocol):
    """A frame as one of several gateways heard it: `gateway.copies.Heard`."""

    @property
    def rx(self) -> RxPacket: ...
    @property
    def eui(self) -> bytes: ...


def values_pack(records: Sequence[Record], base_name: str, arrival_s: float, *, trusted: bool) -> bytes:
    """The pack (JSON) of a payload's records, which share the base name.

    A record of just `arrival_s` has no time of its own where the clock is not trusted: it means "now", and is
    corrected together with the message's time.
    """
    return _numbers_pack(records, base_name, arrival_s, trusted=trusted) or senml.encode_json(
        records, base_name=base_name, arrival_s=None if trusted else arrival_s
    )


def _numbers_pack(records: Sequence[Record], base_name: str, arrival_s: float, *, trusted: bool) -> bytes:
    """Where all are finite numbers of the moment of arrival; else empty."""
    if len(records) > MAX_KEPT:
        return b""
    size = len(base_name)
    parts, values, names, units = [], [], [], []
    for record in records:
        value, name = record.value, record.name
        if (
            type(value) is not float
            or value - value != 0.0  # an infinity, or no number
            or record.time != arrival_s
            or record.sum is not None
            or record.update_time is not None
            or not name.startswith(base_name)
        ):
            return b""
        unit = record.unit
        key = name[size:], unit
        piece = _pieces.get(key) or _piece(key)
        if not piece:
            return b""
        parts.append(f"{piece}{value!r}")
        values.append(value)
        names.append(name)
        units.append(unit)
    begin = f'[{{"bn":"{base_name}",{_time(arrival_s if trusted else None)}'
    payload = f"{begin}{'},{'.join(parts)}}}]".encode()
    _keep(payload, arrival_s, Numbers(tuple(names), tuple(units), tuple(values)), trusted=trusted)
    return payload


def _keep(payload: bytes, arrival_s: float, said: Said, *, trusted: bool) -> None:
    if arrival_s >= senml.RELATIVE_BELOW or not trusted:  # an earlier base time would count from now
        keep(SENML_JSON, payload, arrival_s, said, not trusted)


def _piece(key: tuple[str, str]) -> str:
    """The JSON of name and unit, up to the value; "" where the name is not a plain one."""
    name, unit = key
    if not _PLAIN.fullmatch(name) or len(unit) > senml.MAX_UNIT:
        return ""
    piece = f'"n":"{name}",' + (f'"u":{_text(unit).decode()},' if unit else "") + '"v":'
    if len(_pieces) >= MAX_PIECES:
        _pieces.clear()
    _pieces[key] = piece
    return piece


def radio_pack(uplink: Uplink, arrival_s: float, *, trusted: bool, gateways: Sequence[HeardBy] = ()) -> bytes:
    """How the frame was heard, as a pack (JSON). Where the clock is not trusted it has no time, which means "now".

    `gateways`: all that heard it, the best first, where there are several.
    """
    rx, device = uplink.rx, uplink.device
    rssi, snr, sf, freq_hz = rx.rssi_dbm, rx.lsnr_db, rx.modulation.sf, rx.freq_hz
    text = (
        f'[{{"bn":"{device.base_name}",{_time(arrival_s if trusted else None)}"n":"rssi","u":"dBm","v":{rssi}}},'
        f'{{"n":"snr","u":"dB","v":{snr!r}}},{{"n":"sf","v":{sf}}},'
        f'{{"n":"frequency","u":"Hz","v":{freq_hz}}},{{"n":"fcnt","u":"count","v":{uplink.fcnt}}}'
    )
    if gateways:
        return f"{text}{_heard_by(gateways[:MAX_GATEWAYS], len(gateways))}]".encode()
    payload = f"{text}]".encode()
    names = device.radio_names or _name(device)
    values = float(rssi), float(snr), float(sf), float(freq_hz), float(uplink.fcnt)
    _keep(payload, arrival_s, Numbers(names, _RADIO_UNITS, values), trusted=trusted)
    return payload


def _name(device: Device) -> tuple[str, ...]:
    device.radio_names = tuple(device.base_name + name for name in _RADIO_NAMES)
    return device.radio_names


@lru_cache(maxsize=4)  # of one moment are both packs of all frames that came at once
def _time(base_time_s: float | None) -> str:
    return "" if base_time_s is None else f'"bt":{base_time_s!r},'


def _heard_by(gateways: Sequence[HeardBy], count: int) -> str:
    """Further records where several gateways heard the frame: their number, RSSI and SNR of each."""
    records = [f',{{"n":"gateways","u":"count","v":{count}}}']
    for each in gateways:
        eui = each.eui.hex()
        records.append(f',{{"n":"rssi:{eui}","u":"dBm","v":{each.rx.rssi_dbm}}}')
        records.append(f',{{"n":"snr:{eui}","u":"dB","v":{each.rx.lsnr_db!r}}}')
    return "".join(records)
