"""LoRaWAN regional parameters (RP002): channels, data rates, receive windows, power and sub-bands.

The values lie in `data/regions.json`, one object per region, and hold only what at least two independent
implementations agree on; the sub-bands outside EU868 come from one source. In the file, a channel block is
[first_hz, step_hz, count, bandwidth_hz], a data rate [sf, bandwidth_hz], a sub-band [min_hz, max_hz, duty,
max_eirp_dbm]. A region can be added there without touching this code.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final

from radio.lora import LoRaModulation

DUTY_WINDOW_S: Final = 3600  # ETSI EN 300 220-1, 4.3.3: duty cycle is observed over one hour


@dataclass(frozen=True, slots=True)
class SubBand:
    """A stretch of spectrum with a limit of its own."""

    min_hz: int
    max_hz: int
    duty: float  # share of DUTY_WINDOW_S; 1 is no limit
    max_eirp_dbm: float


@dataclass(frozen=True, slots=True)
class Region:
    """What RP002 fixes for one part of the world. Data rates are numbers 0..15."""

    name: str
    fixed_plan: bool  # all channels are in the plan (US915), nothing to add by CFList or NewChannelReq
    default_channels_hz: tuple[int, ...]
    downlink_channels_hz: tuple[int, ...]  # of a fixed plan; empty where RX1 uses the uplink's frequency
    uplink_data_rates: Mapping[int, LoRaModulation]
    downlink_data_rates: Mapping[int, LoRaModulation]
    data_rates: Mapping[int, LoRaModulation | None]  # either direction; None is FSK or LR-FHSS
    max_payload_by_dr: Mapping[int, int]
    rx1_dr_by_offset: Mapping[int, tuple[int, ...]]
    rx2: tuple[int, int]  # (freq_hz, dr)
    tx_power_offset_db: tuple[float, ...]
    max_eirp_dbm: float
    adr_max_dr: int
    cflist_type: int  # 0: five frequencies, 1: channel masks
    sub_bands: tuple[SubBand, ...]
    sub_bands_are_edges: bool  # False: they list channel centres
    _uplink_dr: Mapping[tuple[int, int], int] = field(repr=False)
    _uplink_index: Mapping[int, int] = field(repr=False)

    @property
    def max_tx_power_index(self) -> int:
        """The weakest TXPower a LinkADRReq may ask for."""
        return len(self.tx_power_offset_db) - 1

    def dr_of(self, modulation: LoRaModulation) -> int | None:
        """The uplink data rate with this spreading factor and bandwidth, or None."""
        return self._uplink_dr.get((modulation.sf, modulation.bw_hz))

    def uplink_channels(self) -> tuple[int, ...]:
        """Centre frequencies by channel index: the default channels, or all of a fixed plan."""
        return self.default_channels_hz

    def rx1(self, uplink_freq_hz: int, uplink_dr: int, offset: int = 0) -> tuple[int, int]:
        """Frequency and data rate of the first receive window (RP002, "downlink frequencies").

        Raises ValueError for a data rate or offset the region does not have, and in a fixed plan for a
        frequency that is no uplink channel.
        """
        row = self.rx1_dr_by_offset.get(uplink_dr)
        if row is None:
            raise ValueError(f"{self.name} has no RX1 data rate for uplink DR{uplink_dr}")
        if not 0 <= offset < len(row):
            raise ValueError(f"RX1DROffset {offset} is not one of 0 to {len(row) - 1} in {self.name}")
        if not self.fixed_plan:
            return uplink_freq_hz, row[offset]
        index = self._uplink_index.get(uplink_freq_hz)
        if index is None:
            raise ValueError(f"{uplink_freq_hz} Hz is no uplink channel of {self.name}")
        return self.downlink_channels_hz[index % len(self.downlink_channels_hz)], row[offset]

    def max_payload(self, dr: int) -> int:
        """Longest FRMPayload without FOpts (N of RP002, no dwell-time limit). Raises ValueError."""
        size = self.max_payload_by_dr.get(dr)
        if size is None:
            raise ValueError(f"{self.name} has no payload size for DR{dr}")
        return size

    def tx_power_dbm(self, index: int) -> float:
        """EIRP of a TXPower index. Raises ValueError beyond `max_tx_power_index`."""
        if not 0 <= index <= self.max_tx_power_index:
            raise ValueError(f"TXPower {index} is not one of 0 to {self.max_tx_power_index} in {self.name}")
        return self.max_eirp_dbm + self.tx_power_offset_db[index]

    def sub_band_for(self, freq_hz: int, bw_hz: int) -> SubBand | None:
        """The sub-band a gateway may send this channel in; None where the region forbids it.

        In a fixed plan only the plan's downlink channels are open. Where the limits are band edges, the
        whole bandwidth must lie inside.
        """
        if self.fixed_plan and freq_hz not in self.downlink_channels_hz:
            return None
        half = bw_hz // 2 if self.sub_bands_are_edges else 0
        for band in self.sub_bands:
            if band.min_hz <= freq_hz - half and freq_hz + half <= band.max_hz:
                return band
        return None


@cache
def get_region(name: str) -> Region:
    """The region of that RP002 name, such as "EU868". Raises ValueError for an unknown one."""
    table = _load()
    if name not in table:
        raise ValueError(f"region {name!r} is not one of {', '.join(region_names())}")
    return _region(name, table[name])


def region_names() -> tuple[str, ...]:
    """Every region there is data for."""
    return tuple(_load())


@cache
def _load() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(files("radio").joinpath("data/regions.json").read_text("utf-8"))
    return table


def _region(name: str, raw: dict[str, Any]) -> Region:
    uplink = _channels(raw["uplink_blocks"]) if raw["fixed_plan"] else tuple(raw["default_channels_hz"])
    up = _data_rates(raw["uplink_data_rates"])
    down = _data_rates(raw["downlink_data_rates"])
    every: dict[int, LoRaModulation | None] = dict.fromkeys(raw["other_data_rates"])
    return Region(
        name=name,
        fixed_plan=raw["fixed_plan"],
        default_channels_hz=uplink,
        downlink_channels_hz=_channels(raw["downlink_blocks"]) if raw["fixed_plan"] else (),
        uplink_data_rates=up,
        downlink_data_rates=down,
        data_rates=MappingProxyType(dict(sorted((every | dict(up) | dict(down)).items()))),
        max_payload_by_dr=_int_keys(raw["max_payload"]),
        rx1_dr_by_offset=MappingProxyType({int(k): tuple(v) for k, v in raw["rx1_dr"].items()}),
        rx2=(raw["rx2"][0], raw["rx2"][1]),
        tx_power_offset_db=tuple(raw["tx_power_offset_db"]),
        max_eirp_dbm=raw["max_eirp_dbm"],
        adr_max_dr=raw["adr_max_dr"],
        cflist_type=raw["cflist_type"],
        sub_bands=tuple(SubBand(*row) for row in raw["sub_bands"]),
        sub_bands_are_edges=raw["sub_bands_are_edges"],
        _uplink_dr=MappingProxyType({(m.sf, m.bw_hz): dr for dr, m in up.items()}),
        _uplink_index=MappingProxyType({freq: i for i, freq in enumerate(uplink)}),
    )


def _channels(blocks: list[list[int]]) -> tuple[int, ...]:
    return tuple(first + i * step for first, step, count, _bw_hz in blocks for i in range(count))


def _data_rates(rows: dict[str, list[int]]) -> Mapping[int, LoRaModulation]:
    return MappingProxyType({int(dr): LoRaModulation(sf, bw_hz) for dr, (sf, bw_hz) in rows.items()})


def _int_keys(rows: dict[str, int]) -> Mapping[int, int]:
    return MappingProxyType({int(dr): size for dr, size in rows.items()})
