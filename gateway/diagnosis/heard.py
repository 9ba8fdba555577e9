"""Devices that are heard and not registered: who they are, how well they are heard, how often.

Bounded, in memory only, and made so that a flood of invented names does not push out a device that is there: a
sender is on probation until it is heard a second time, and only then takes one of the lasting places.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import msgspec

from radio.gwmp import RxPacket

MAX_ON_PROBATION = 256
MAX_LASTING = 256


class Heard(msgspec.Struct):
    """A sender that is not registered: by its DevEUI where it asked to join, by its DevAddr where it sent data."""

    dev_eui: str | None
    join_eui: str | None
    dev_addr: str | None
    gateway: str  # EUI of the one that heard it last
    first_ns: int  # UTC, as the next one
    last_ns: int
    rssi_dbm: int  # of the last frame, as the next four
    snr_db: float
    sf: int
    freq_hz: int
    fcnt: int | None = None
    count: int = 1
    best_snr_db: float = -200.0
    words: str = ""  # what is known about it, for a technician
    frame: bytes = b""  # the last one: a key that is given later is checked against it


@dataclass(slots=True)
class Strangers:
    """By DevEUI or DevAddr in hex."""

    pushed_out: int = 0
    _probation: OrderedDict[str, Heard] = field(default_factory=OrderedDict)
    _lasting: OrderedDict[str, Heard] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._probation) + len(self._lasting)

    def hear(
        self,
        rx: RxPacket,
        gateway: bytes,
        wall_ns: int,
        words: str,
        *,
        dev_eui: str | None = None,
        join_eui: str | None = None,
        dev_addr: str | None = None,
        fcnt: int | None = None,
    ) -> Heard:
        """Note a frame of a sender that is not registered."""
        key = dev_eui or dev_addr or ""
        heard = self._lasting.get(key)
        if heard is not None:
            self._lasting.move_to_end(key)
        elif (heard := self._probation.pop(key, None)) is not None:
            self._lasting[key] = heard
            self._bound(self._lasting, MAX_LASTING)
        else:
            heard = Heard(
                dev_eui,
                join_eui,
                dev_addr,
                "",
                wall_ns,
                wall_ns,
                rx.rssi_dbm,
                rx.lsnr_db,
                rx.modulation.sf,
                rx.freq_hz,
                count=0,
            )
            self._probation[key] = heard
            self._bound(self._probation, MAX_ON_PROBATION)
        heard.count += 1
        heard.last_ns, heard.gateway = wall_ns, gateway.hex()
        heard.rssi_dbm, heard.snr_db = rx.rssi_dbm, rx.lsnr_db
        heard.sf, heard.freq_hz = rx.modulation.sf, rx.freq_hz
        heard.best_snr_db = max(heard.best_snr_db, rx.lsnr_db)
        heard.join_eui, heard.fcnt, heard.words = join_eui, fcnt, words
        heard.frame = rx.data
        return heard

    def known(self, key: str) -> bool:
        """Whether this sender has been heard before."""
        return key in self._lasting or key in self._probation

    def forget(self, key: str) -> None:
        """It is registered now."""
        self._lasting.pop(key, None)
        self._probation.pop(key, None)

    def newest(self, limit: int) -> list[Heard]:
        """Those heard last first; those heard more than once before those heard once."""
        lasting = sorted(self._lasting.values(), key=lambda each: each.last_ns, reverse=True)
        once = sorted(self._probation.values(), key=lambda each: each.last_ns, reverse=True)
        return (lasting + once)[:limit]

    def _bound(self, heard: OrderedDict[str, Heard], limit: int) -> None:
        if len(heard) > limit:
            heard.popitem(last=False)
            self.pushed_out += 1
