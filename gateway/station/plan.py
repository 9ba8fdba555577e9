"""What a concentrator is told to listen to: the `router_config` of a region and of this network's settings.

A concentrator (SX1301 and later) hears eight channels of 125 kHz with all spreading factors at once, and one more,
wider, with one. Its two radios each span 925 kHz: channel centres lie within 400 kHz of a radio's frequency.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from radio.filters import net_id_block
from radio.regions import Region
from radio.station.messages import MAX_DR, Channel, DataRate, RouterConfig

MAX_CHANNELS = 8
RADIOS = 2
MAX_OFFSET_HZ = 400_000
HWSPEC = "sx1301/1"
USUAL_GROUP = {
    "US915": 1,
    "AU915": 1,
    "CN470": 10,
}  # of eight channels, counted from 0: what most networks use

# Names that Basics Station gives regions; it has rules of its own for some of them.
STATION_REGIONS = {
    "EU868": "EU863",
    "US915": "US902",
    "AU915": "AU915",
    "AS923-1": "AS923",
    "AS923-1-JP": "AS923JP",
    "AS923-2": "AS923",
    "AS923-3": "AS923",
    "AS923-4": "AS923",
    "IN865": "IN865",
    "KR920": "KR920",
    "EU433": "EU433",
    "CN470": "CN470",
    "CN470-20A": "CN470",
    "CN470-20B": "CN470",
    "CN470-26A": "CN470",
    "CN470-26B": "CN470",
}

# Channels that devices are often given by hand beside the region's default channels: (first, step, count) in Hz
_OFTEN_ADDED = {
    "EU868": (867_100_000, 200_000, 5),
    "AS923-1": (923_600_000, 200_000, 6),
    "AS923-2": (921_800_000, 200_000, 6),
    "AS923-3": (917_000_000, 200_000, 6),
    "AS923-4": (917_700_000, 200_000, 6),
    "KR920": (922_700_000, 200_000, 4),
    "EU433": (433_775_000, 200_000, 5),
}


def router_config(
    region: Region,
    *,
    channels_hz: Sequence[int] = (),
    uplink_channels: Sequence[int] = (),
    cflist_hz: Sequence[int] = (),
    max_eirp_dbm: float | None = None,
    net_ids: Sequence[int] = (),
    join_euis: Sequence[tuple[int, int]] = (),
) -> RouterConfig:
    """The configuration for every concentrator of this network.

    `channels_hz` are the 125 kHz channels to hear; where empty they follow from `uplink_channels` (indices of the
    region's plan) and `cflist_hz`. Empty filters let everything pass. Raises ValueError where a concentrator cannot
    hear all the channels.
    """
    narrow = sorted(channels_hz or _channels(region, uplink_channels, cflist_hz))
    wide = _wide(region, narrow)
    radios = _radios(narrow, wide)
    rates = _rates_of(region, 125_000)
    channels = [Channel(freq_hz, min(rates), max(rates)) for freq_hz in narrow]
    if wide is not None:
        channels.append(Channel(wide, *[_wide_rate(region)] * 2))
    bands = region.sub_bands
    every = [*region.default_channels_hz, *region.downlink_channels_hz, *narrow]
    return RouterConfig(
        region=STATION_REGIONS.get(region.name, region.name),
        hwspec=HWSPEC,
        freq_range_hz=(
            min(*every, *(band.min_hz for band in bands)),
            max(*every, *(band.max_hz for band in bands)),
        ),
        data_rates=tuple(_data_rate(region, dr) for dr in range(MAX_DR + 1)),
        channels=tuple(channels),
        # An empty list would let nothing pass, so no filter is no list.
        net_ids=_prefixes(net_ids) or None,
        join_euis=tuple(join_euis) or None,
        max_eirp_dbm=region.max_eirp_dbm if max_eirp_dbm is None else max_eirp_dbm,
        sx1301_conf=(_sx1301(region, narrow, wide, radios),),
    )


def _channels(region: Region, indices: Sequence[int], cflist_hz: Sequence[int]) -> list[int]:
    plan = region.uplink_channels()
    if region.fixed_plan:
        narrow = _narrow(region)
        first = USUAL_GROUP.get(region.name, 0) * MAX_CHANNELS
        return [plan[i] for i in indices if i < len(narrow)] or list(narrow[first : first + MAX_CHANNELS])
    wanted = [plan[i] for i in indices if i < len(plan)] or list(plan)
    wanted += [freq_hz for freq_hz in cflist_hz if freq_hz not in wanted]
    if not indices and not cflist_hz:
        first, step, count = _OFTEN_ADDED.get(region.name, (0, 0, 0))
        wanted += [first + i * step for i in range(count)]
    return wanted


def _narrow(region: Region) -> tuple[int, ...]:
    """The 125 kHz uplink channels of a fixed plan: its last channels are the wide ones."""
    plan = region.uplink_channels()
    return plan[: len(plan) - region.channel_mask.wide]


def _wide(region: Region, narrow: Sequence[int]) -> int | None:
    """The 500 kHz channel of a fixed plan that belongs to the group of `narrow`; None where there is none."""
    groups = {
        index // MAX_CHANNELS for freq_hz in narrow if (index := region.uplink_index(freq_hz)) is not None
    }
    if not region.fixed_plan or not region.channel_mask.wide or len(groups) != 1:
        return None
    return region.uplink_channels()[len(_narrow(region)) + groups.pop()]


def _wide_rate(region: Region) -> int:
    return next(dr for dr, rate in region.uplink_data_rates.items() if rate.bw_hz == 500_000)


def _prefixes(net_ids: Sequence[int]) -> tuple[int, ...]:
    """What Basics Station compares with the leading seven bits of a DevAddr. Raises ValueError."""
    blocks = [net_id_block(net_id) for net_id in net_ids]
    return tuple(
        sorted({prefix for block in blocks for prefix in range(block.low >> 25, (block.high >> 25) + 1)})
    )


def _rates_of(region: Region, bw_hz: int) -> list[int]:
    """Uplink data rates of a bandwidth that every concentrator demodulates."""
    return [dr for dr, rate in region.uplink_data_rates.items() if rate.bw_hz == bw_hz and 7 <= rate.sf <= 12]


def _data_rate(region: Region, dr: int) -> DataRate | None:
    """One row of DRs; None is one that this network never uses (FSK, LR-FHSS)."""
    up, down = region.uplink_data_rates.get(dr), region.downlink_data_rates.get(dr)
    rate = up or down
    return None if rate is None else DataRate(rate.sf, rate.bw_hz // 1000, up is None)


def _radios(narrow: Sequence[int], wide: int | None) -> list[int]:
    """Centre frequencies of the radios that hear all channels. Raises ValueError where there are none."""
    if not narrow:
        raise ValueError("a concentrator needs a channel to listen to")
    if len(narrow) > MAX_CHANNELS:
        raise ValueError(f"a concentrator hears {MAX_CHANNELS} channels, not {len(narrow)}")
    spans: list[list[int]] = []
    for freq_hz in narrow:
        if spans and freq_hz - spans[-1][0] <= 2 * MAX_OFFSET_HZ:
            spans[-1].append(freq_hz)
        else:
            spans.append([freq_hz])
    if len(spans) > RADIOS:
        apart = ", ".join(f"{freq_hz / 1e6:g}" for freq_hz in narrow)
        raise ValueError(f"two radios of 800 kHz each cannot hear {apart} MHz at once")
    return [(span[0] + span[-1]) // 2 for span in spans]


def _sx1301(region: Region, narrow: Sequence[int], wide: int | None, radios: Sequence[int]) -> dict[str, Any]:
    """The channels as the concentrator's own settings; what depends on the board is in its station.conf."""
    conf: dict[str, Any] = {
        f"radio_{i}": {"enable": i < len(radios), "freq": radios[i] if i < len(radios) else 0}
        for i in range(RADIOS)
    }
    for i in range(MAX_CHANNELS):
        conf[f"chan_multiSF_{i}"] = _if_chain(narrow[i], radios) if i < len(narrow) else {"enable": False}
    conf["chan_Lora_std"] = {"enable": False}
    if wide is not None:
        rate = region.uplink_data_rates[_wide_rate(region)]
        conf["chan_Lora_std"] = _if_chain(wide, radios) | {"bandwidth": rate.bw_hz, "spread_factor": rate.sf}
    conf["chan_FSK"] = {"enable": False}
    return conf


def _if_chain(freq_hz: int, radios: Sequence[int]) -> dict[str, Any]:
    radio = min(range(len(radios)), key=lambda i: abs(freq_hz - radios[i]))
    return {"enable": True, "radio": radio, "if": freq_hz - radios[radio]}
