"""What the parts of the diagnosis share: the registry they ask, a verdict, and what came before a refused frame."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from gateway.diagnosis.finding import Evidence
from gateway.diagnosis.reasons import Kind
from gateway.lorawan.device import Device, Session
from gateway.lorawan.settings import Settings
from gateway.lorawan.types import NetID
from radio.gwmp import RxPacket
from radio.lora import REQUIRED_SNR_DB
from radio.regions import Region

MAX_RUNS = 1024


class Registry(Protocol):
    """What is registered: the LoRaWAN server."""

    region: Region
    settings: Settings
    net_id: NetID

    def registered(self, dev_eui: int) -> Device | None: ...
    def every_device(self) -> Collection[Device]: ...
    def sessions_of(self, dev_addr: int) -> tuple[Session, ...]: ...


class Verdict(NamedTuple):
    """What is wrong with whom; `own` where the subject is a registered device or the gateway."""

    subject: str
    kind: Kind
    words: str
    evidence: Evidence
    own: bool


@dataclass(slots=True)
class Run:
    """Refused frames of one device in a row."""

    good: int  # uplinks of the device when the row began
    number: int  # FCnt or DevNonce of the last
    at_ns: int  # monotonic, of the last
    length: int = 1  # since the last good uplink
    rising: int = 1  # of them, the last ones that count up
    interrupted: int = 0  # how often a good uplink came in between
    gap_ns: int = 0  # between the last two


@dataclass(slots=True)
class Runs:
    """By device and what is counted; the ones not added to for longest are forgotten."""

    _runs: OrderedDict[str, Run] = field(default_factory=OrderedDict)

    def add(self, key: str, number: int, device: Device, now_ns: int) -> Run:
        run = self._runs.get(key)
        if run is None:
            run = self._runs[key] = Run(device.uplinks, number, now_ns)
            if len(self._runs) > MAX_RUNS:
                self._runs.popitem(last=False)
            return run
        self._runs.move_to_end(key)
        run.gap_ns = now_ns - run.at_ns
        if run.good != device.uplinks:
            run.good, run.length, run.rising = device.uplinks, 1, 1
            run.interrupted += 1
        else:
            run.length += 1
            run.rising = run.rising + 1 if number > run.number else 1
        run.number, run.at_ns = number, now_ns
        return run


def margin_db(rx: RxPacket) -> float:
    """How far above the demodulation floor of its spreading factor a frame was heard."""
    return rx.lsnr_db - REQUIRED_SNR_DB.get(rx.modulation.sf, -20.0)


def heard(rx: RxPacket, gateway: bytes) -> Evidence:
    """The radio's part of the evidence."""
    return {
        "freq_hz": rx.freq_hz,
        "datr": rx.modulation.datr,
        "rssi_dbm": rx.rssi_dbm,
        "snr_db": rx.lsnr_db,
        "margin_db": round(margin_db(rx), 1),
        "gateway": gateway.hex(),
    }


def called(device: Device) -> str:
    """The device by its name, where it has one."""
    return device.config.name or str(device.dev_eui)
