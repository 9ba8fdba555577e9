"""LoRaWAN regional parameters (RP002): channels, data rates, receive windows, power, sub-bands and their rules.

The values lie in `data/regions.json`, one object per region; `docs/regions.md` says where each comes from. A
channel block is [first_hz, step_hz, count, bandwidth_hz], a data rate [sf, bandwidth_hz], a sub-band [min_hz,
max_hz, duty, max_eirp_dbm]. `like` takes over what another region has; `profiles` holds what single sources
say differently. A region can be added there without touching this code.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final

from radio.lbt import Lbt
from radio.lora import LoRaModulation

DUTY_WINDOW_S: Final = 3600  # ETSI EN 300 220-1, 4.3.3: duty cycle is observed over one hour


@dataclass(frozen=True, slots=True)
class SubBand:
    """A stretch of spectrum with a limit of its own. Raises ValueError for one that cannot be."""

    min_hz: int
    max_hz: int
    duty: float  # share of DUTY_WINDOW_S; 1 is no limit
    max_eirp_dbm: float

    def __post_init__(self) -> None:
        if not 0 < self.min_hz < self.max_hz:
            raise ValueError(f"sub-band {self}: its lower end must lie below its upper end")
        if not 0 < self.duty <= 1:
            raise ValueError(f"sub-band {self}: the duty cycle is a share, above 0 and at most 1")

    def __str__(self) -> str:
        return f"{self.min_hz / 1e6:.10g}-{self.max_hz / 1e6:.10g} MHz"


class Dwell(StrEnum):
    """Whether the longest time of a frame on air is limited."""

    NEVER = "never"
    NETWORK = "network"  # where national rules ask for it: told to devices by TxParamSetupReq
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class ChannelMask:
    """Values of ChMaskCntl that stand for more than one group of 16 channels (LinkADRReq)."""

    all_on: int
    all_off: int | None  # None: each group must be named
    wide: int  # how many of the last channels are 500 kHz wide and ride along in the mask of `all_off`


@dataclass(frozen=True, slots=True)
class Beacon:
    """Where class B beacons and, unless a device is told otherwise, ping slots are."""

    channels_hz: tuple[int, ...]  # more than one: it hops over them, one beacon period each
    dr: int  # of both


@dataclass(frozen=True, slots=True)
class Region:
    """What RP002 fixes for one part of the world. Data rates are numbers 0..15."""

    name: str
    fixed_plan: bool  # all channels are in the plan (US915), nothing to add by CFList or NewChannelReq
    default_channels_hz: tuple[int, ...]
    downlink_channels_hz: tuple[int, ...]  # of a fixed plan; empty where RX1 uses the uplink's frequency
    band_hz: tuple[int, int]  # where uplink channels may lie
    uplink_data_rates: Mapping[int, LoRaModulation]
    downlink_data_rates: Mapping[int, LoRaModulation]
    data_rates: Mapping[int, LoRaModulation | None]  # either direction; None is FSK or LR-FHSS
    max_payload_by_dr: Mapping[int, int]
    max_payload_by_dr_dwell: Mapping[int, int]  # under the dwell limit; empty where the region has none
    rx1_dr_by_offset: Mapping[int, tuple[int, ...]]
    rx1_dr_by_offset_dwell: Mapping[int, tuple[int, ...]]  # with limited downlinks; empty: no difference
    rx2: tuple[int, int]  # (freq_hz, dr)
    tx_power_offset_db: tuple[float, ...]
    max_eirp_dbm: float
    adr_max_dr: int
    cflist_type: int  # 0: five frequencies, 1: channel masks
    tx_param_setup: bool  # devices know TxParamSetupReq
    dwell_limit_us: int
    uplink_dwell: Dwell
    downlink_dwell: Dwell
    lbt: Lbt | None  # before every downlink
    beacon: Beacon | None  # where two sources agree on it
    channel_mask: ChannelMask
    sub_bands: tuple[SubBand, ...]
    sub_bands_are_edges: bool  # False: they list channel centres
    unverified: tuple[str, ...]  # fields that rest on a single source: to be confirmed with national rules
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

    def uplink_index(self, freq_hz: int) -> int | None:
        """The channel's number among `uplink_channels`, or None."""
        return self._uplink_index.get(freq_hz)

    def rx1(
        self, uplink_freq_hz: int, uplink_dr: int, offset: int = 0, *, dwell: bool = False
    ) -> tuple[int, int]:
        """Frequency and data rate of the first receive window (RP002, "downlink frequencies").

        `dwell`: the device was told that downlinks are limited. Raises ValueError for a data rate or offset
        the region does not have, and in a fixed plan for a frequency that is no uplink channel.
        """
        table = (
            self.rx1_dr_by_offset_dwell if dwell and self.rx1_dr_by_offset_dwell else self.rx1_dr_by_offset
        )
        row = table.get(uplink_dr)
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

    def max_payload(self, dr: int, *, dwell: bool = False) -> int:
        """Longest FRMPayload without FOpts (N of RP002); 0 where the dwell limit leaves no room. Raises
        ValueError."""
        table = (
            self.max_payload_by_dr_dwell if dwell and self.max_payload_by_dr_dwell else self.max_payload_by_dr
        )
        size = table.get(dr)
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

    def with_sub_bands(self, sub_bands: tuple[SubBand, ...]) -> "Region":
        """The same region with the limits a person took from national rules, given as band edges."""
        return replace(
            self,
            sub_bands=sub_bands,
            sub_bands_are_edges=True,
            unverified=tuple(name for name in self.unverified if name != "sub_bands"),
        )


@cache
def get_region(name: str, profile: str = "") -> Region:
    """The region of that RP002 name, such as "EU868". Raises ValueError for an unknown one.

    `profile` names a source whose values to take where the sources disagree (`docs/regions.md`); "" is what
    most of them say, and so is a profile that says nothing of this region.
    """
    table = _load()
    if name not in table:
        raise ValueError(f"region {name!r} is not one of {', '.join(region_names())}")
    if profile and profile not in profile_names():
        raise ValueError(f"region profile {profile!r} is not one of {', '.join(profile_names())}")
    return _region(name, _resolved(table, name, profile))


def region_names() -> tuple[str, ...]:
    """Every region there is data for."""
    return tuple(_load())


@cache
def profile_names() -> tuple[str, ...]:
    """The sources that disagree with the others somewhere."""
    return tuple(sorted({name for raw in _load().values() for name in raw.get("profiles", ())}))


@cache
def _load() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(files("radio").joinpath("data/regions.json").read_text("utf-8"))
    return table


def _resolved(table: dict[str, Any], name: str, profile: str) -> dict[str, Any]:
    """The region's own values over those of the region it is like, and the profile's over both."""
    raw = table[name]
    whole = _resolved(table, raw["like"], profile) | raw if "like" in raw else dict(raw)
    for key, value in raw.get("profiles", {}).get(profile, {}).items():
        whole[key] = whole[key] | value if isinstance(value, dict) else value
    return whole


def _region(name: str, raw: dict[str, Any]) -> Region:
    uplink = _channels(raw["uplink_blocks"]) if raw["fixed_plan"] else tuple(raw["default_channels_hz"])
    up = _data_rates(raw["uplink_data_rates"])
    down = _data_rates(raw["downlink_data_rates"])
    every: dict[int, LoRaModulation | None] = dict.fromkeys(raw["other_data_rates"])
    dwell, lbt, beacon = raw["dwell"], raw["lbt"], raw["beacon"]
    return Region(
        name=name,
        fixed_plan=raw["fixed_plan"],
        default_channels_hz=uplink,
        downlink_channels_hz=_channels(raw["downlink_blocks"]) if raw["fixed_plan"] else (),
        band_hz=(raw["band_hz"][0], raw["band_hz"][1]),
        uplink_data_rates=up,
        downlink_data_rates=down,
        data_rates=MappingProxyType(dict(sorted((every | dict(up) | dict(down)).items()))),
        max_payload_by_dr=_int_keys(raw["max_payload"]),
        max_payload_by_dr_dwell=_int_keys(raw["max_payload_dwell"]),
        rx1_dr_by_offset=_rows(raw["rx1_dr"]),
        rx1_dr_by_offset_dwell=_rows(raw["rx1_dr_dwell"]),
        rx2=(raw["rx2"][0], raw["rx2"][1]),
        tx_power_offset_db=tuple(raw["tx_power_offset_db"]),
        max_eirp_dbm=raw["max_eirp_dbm"],
        adr_max_dr=raw["adr_max_dr"],
        cflist_type=raw["cflist_type"],
        tx_param_setup=raw["tx_param_setup"],
        dwell_limit_us=dwell["limit_us"],
        uplink_dwell=Dwell(dwell["uplink"]),
        downlink_dwell=Dwell(dwell["downlink"]),
        lbt=None if lbt is None else Lbt(lbt["threshold_dbm"], lbt["listen_us"] * 1000),
        beacon=None if beacon is None else Beacon(_channels([beacon["block"]]), beacon["dr"]),
        channel_mask=ChannelMask(**raw["channel_mask"]),
        sub_bands=tuple(SubBand(*row) for row in raw["sub_bands"]),
        sub_bands_are_edges=raw["sub_bands_are_edges"],
        unverified=tuple(raw["unverified"]),
        _uplink_dr=MappingProxyType({(m.sf, m.bw_hz): dr for dr, m in up.items()}),
        _uplink_index=MappingProxyType({freq: i for i, freq in enumerate(uplink)}),
    )


def _channels(blocks: list[list[int]]) -> tuple[int, ...]:
    return tuple(first + i * step for first, step, count, _bw_hz in blocks for i in range(count))


def _data_rates(rows: dict[str, list[int]]) -> Mapping[int, LoRaModulation]:
    return MappingProxyType({int(dr): LoRaModulation(sf, bw_hz) for dr, (sf, bw_hz) in rows.items()})


def _int_keys(rows: dict[str, int]) -> Mapping[int, int]:
    return MappingProxyType({int(dr): size for dr, size in rows.items()})


def _rows(rows: dict[str, list[int]]) -> Mapping[int, tuple[int, ...]]:
    return MappingProxyType({int(dr): tuple(row) for dr, row in rows.items()})
