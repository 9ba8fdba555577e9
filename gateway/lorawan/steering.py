"""Which channels and data rates this gateway hears, and how devices are brought there. Pure.

A radio module hears one channel at one or a few spreading factors; a device hops over all its channels. `plan_of`
works out, from the configured modules or the setting `uplink_channels`, which channels a device is to have, which of
them to enable at which data rate, and what the join-accept can say of it. `advice` says in sentences what that
comes to, with the arithmetic, and where it cannot work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from gateway.lorawan import adr
from gateway.lorawan.channels import MAX_DYNAMIC, ChannelTable, in_ranges
from gateway.lorawan.profile import Profile, Version
from gateway.lorawan.settings import Settings
from radio.lora import LoRaModulation
from radio.regions import Region

MAX_CFLIST = 5  # frequencies of a CFList
MIN_FIXED = 2  # 125 kHz channels: LoRaMac-node takes no mask with fewer in a fixed plan
KEEP_ALIVE = 48  # uplinks: half of the 64 + 32 after which a device opens its default channels again
_WIDE_HZ = 500_000


@dataclass(frozen=True)
class Plan:
    """What devices are to be told of channels. `narrow`: they are to keep to fewer than they have."""

    region: Region
    narrow: bool
    mode: str  # off, auto, set, impossible
    heard: Mapping[int, frozenset[int]] | None  # data rates heard, by channel; None: everything is
    # Hz of channels beyond the region's own, by index
    wanted: Mapping[int, int] = field(default_factory=dict)
    unreachable_hz: tuple[int, ...] = ()  # listened to, but no channel that a device can have

    @cached_property
    def rates(self) -> frozenset[int] | None:
        """Data rates that are heard on some channel; None: all."""
        return None if self.heard is None else frozenset().union(*self.heard.values())

    def hears(self, index: int, rate: int) -> bool:
        return self.heard is None or rate in self.heard.get(index, ())

    def mask(self, table: ChannelTable, rate: int) -> int:
        """The channels a device with this table is to use at this data rate, as far as it has them.

        In a fixed plan channels of the other width ride along: at this data rate the device does not use them.
        """
        if not self.narrow or self.heard is None:
            return table.all_on
        wide = self._is_wide_rate(rate)
        mask = sum(
            1 << index
            for index in table
            if self.hears(index, rate) or (_wide(self.region, index) != wide and self.heard.get(index))
        )
        heard_now = sum(1 << index for index in table if self.hears(index, rate))
        if heard_now.bit_count() >= (MIN_FIXED if self.region.fixed_plan and not wide else 1):
            return mask
        # At a rate that too few listen for, any channel with a listener is better than one without.
        return self.mask_of_all(table) or table.enabled

    def expected_share(self, table: ChannelTable, rate: int | None) -> float:
        """The share of its uplinks that can be heard as the device is now: it takes its channels in turn."""
        if self.heard is None:
            return 1.0
        wide = rate is not None and self._is_wide_rate(rate)
        used = [i for i in table if table.is_enabled(i) and _wide(self.region, i) == wide]
        if not used:
            return 1.0
        heard = sum(bool(self.heard.get(i)) if rate is None else self.hears(i, rate) for i in used)
        return heard / len(used)

    def _is_wide_rate(self, rate: int) -> bool:
        modulation = self.region.uplink_data_rates.get(rate)
        return self.region.fixed_plan and modulation is not None and modulation.bw_hz == _WIDE_HZ

    def cflist(self) -> bytes:
        """Of a join-accept, or b"" (RP002, CFList)."""
        masks = self.channels if self.narrow and self.region.fixed_plan else None
        return adr.cflist(self.region, tuple(self.wanted.values())[:MAX_CFLIST], masks)

    @cached_property
    def channels(self) -> tuple[int, ...] | None:
        """Every channel that is listened to at some data rate; None: all."""
        return None if self.heard is None else tuple(sorted(i for i, rates in self.heard.items() if rates))

    def after_join(self, profile: Profile) -> ChannelTable:
        """What a device has after a join-accept with our CFList. Before 1.0.3 none takes one of type 1."""
        table = ChannelTable(self.region)
        if self.region.cflist_type == 0:
            for index, hz in tuple(self.wanted.items())[:MAX_CFLIST]:
                table.add(index, hz, *rates_of_new(self.region))
        elif self.narrow and self.region.fixed_plan and profile.version >= Version.V1_0_3:
            table.enable(self.mask_of_all(table))
        return table

    def mask_of_all(self, table: ChannelTable) -> int:
        return sum(1 << index for index in table if self.channels is None or index in self.channels)

    def built_in(self, profile: Profile) -> ChannelTable:
        """What an ABP device has before anybody has told it anything."""
        table = ChannelTable(self.region)
        if not self.region.fixed_plan:
            extra = (hz for hz in profile.abp_channels_hz if table.index(hz) is None)
            for index, hz in zip(range(table.defaults, MAX_DYNAMIC), extra, strict=False):
                table.add(index, hz, *rates_of_new(self.region))
        return table


def plan_of(region: Region, settings: Settings) -> Plan:
    """Raises ValueError for `uplink_channels` that the region or the settings do not have."""
    wanted = _wanted(region, settings)
    known = dict(enumerate(region.uplink_channels())) | wanted
    listened, unreachable = _listened(region, settings, known)
    if settings.uplink_channels is not None:
        for index in settings.uplink_channels:
            if index not in known:
                raise ValueError(
                    f"uplink_channels: there is no channel {index}; {region.name} has {len(region.uplink_channels())}"
                    f" and cflist_hz adds {len(settings.cflist_hz)}"
                )
        everything = frozenset(region.uplink_data_rates)
        chosen = {
            index: listened.get(index, frozenset())
            if listened.get(index)
            else _of_width(region, index, everything)
            for index in settings.uplink_channels
        }
        return Plan(region, True, "set", chosen, wanted, unreachable)
    if not listened:
        return Plan(region, False, "off", None, wanted, unreachable)
    if settings.steer == "off":
        return Plan(region, False, "off", listened, wanted, unreachable)
    narrow_ones = [index for index in listened if not _wide(region, index)]
    if region.fixed_plan and len(narrow_ones) < MIN_FIXED:
        return Plan(region, False, "impossible", listened, wanted, unreachable)
    whole = all(listened.get(index) for index in known) and len({*listened.values()}) == 1
    return Plan(region, not whole, "auto", listened, wanted, unreachable)


def _wanted(region: Region, settings: Settings) -> dict[int, int]:
    """Channels beyond the region's own: those of `cflist_hz`, then those that a module listens to."""
    if region.fixed_plan:
        return {}
    hertz = list(settings.cflist_hz)
    if settings.steer == "auto" and settings.uplink_channels is None:
        low, high = region.band_hz
        hertz += [
            each.freq_hz
            for each in settings.heard
            if low <= each.freq_hz <= high and region.uplink_index(each.freq_hz) is None
        ]
    first = len(region.uplink_channels())
    return dict(zip(range(first, MAX_DYNAMIC), dict.fromkeys(hertz), strict=False))


def _listened(
    region: Region, settings: Settings, known: Mapping[int, int]
) -> tuple[dict[int, frozenset[int]], tuple[int, ...]]:
    """By channel the data rates that a module hears there; and the frequencies that are no channel."""
    index_of = {hz: index for index, hz in known.items()}
    heard: dict[int, frozenset[int]] = {}
    unreachable = []
    for each in settings.heard:
        index = index_of.get(each.freq_hz)
        rates = {region.dr_of(LoRaModulation(sf, each.bw_hz)) for sf in each.sfs} - {None}
        if index is None or not rates:
            unreachable.append(each.freq_hz)
            continue
        limit = region.adr_max_dr if settings.adr_max_dr is None else settings.adr_max_dr
        usable = frozenset(rate for rate in rates if rate is not None)
        heard[index] = heard.get(index, frozenset()) | (frozenset(r for r in usable if r <= limit) or usable)
    return heard, tuple(dict.fromkeys(unreachable))


def _wide(region: Region, index: int) -> bool:
    """Is this one of the 500 kHz channels of a fixed plan?"""
    return region.fixed_plan and index >= len(region.uplink_channels()) - region.channel_mask.wide


def _of_width(region: Region, index: int, rates: frozenset[int]) -> frozenset[int]:
    wide = _wide(region, index)
    return frozenset(
        r for r in rates if (region.uplink_data_rates[r].bw_hz == _WIDE_HZ) == wide or not region.fixed_plan
    )


def rates_of_new(region: Region) -> tuple[int, int]:
    """Lowest and highest data rate of a channel that a CFList adds (RP002: DR0 to DR5)."""
    narrow = [rate for rate, each in region.uplink_data_rates.items() if each.bw_hz == 125_000]
    return min(narrow), max(narrow)


@dataclass(frozen=True, slots=True)
class Sentence:
    """One thing to know about steering. `serious`: devices are lost for it as things are."""

    words: str
    serious: bool = False


def advice(plan: Plan, settings: Settings) -> list[Sentence]:
    """What the listeners come to for ordinary devices, in sentences for the person who set them up."""
    if plan.heard is None:
        return []
    region, said = plan.region, []
    said += [
        Sentence(
            f"A module listens on {hz / 1e6:g} MHz, which is no uplink channel of {region.name} at its spreading"
            " factor: no device can be brought there. Give it the frequency of a channel.",
            serious=True,
        )
        for hz in plan.unreachable_hz
    ]
    if plan.channels:
        said.append(Sentence(_hears(plan)))
    if plan.mode == "impossible":
        said += _impossible(plan)
    elif plan.mode == "off" and _share(plan) < 1:
        said.append(
            Sentence(
                f"Steering is off: of a device on all {_defaults(plan)} default channels {_share(plan):.0%} of the"
                ' uplinks can be heard. Set [lorawan] steer to "auto" to bring devices to the channels that are heard.',
                serious=True,
            )
        )
    elif plan.narrow:
        said += _steered(plan)
    said += _joins(plan)
    if settings.heard and len(plan.rates or ()) == 1 and not plan.region.fixed_plan:
        said.append(
            Sentence(
                f"One spreading factor is heard (DR{min(plan.rates or (0,))}). A device with its ADR bit off keeps its"
                " own data rate whatever it is told: set it to that one on the device, or switch its ADR on."
            )
        )
    return said


def _hears(plan: Plan) -> str:
    assert plan.heard is not None
    by_rates: dict[frozenset[int], list[int]] = {}
    for index in plan.channels or ():
        by_rates.setdefault(plan.heard[index], []).append(index)
    parts = [
        f"channel{'s' if len(indices) > 1 else ''} {in_ranges(indices)} at {_rate_words(plan.region, rates)}"
        for rates, indices in by_rates.items()
    ]
    return f"This gateway hears {', and '.join(parts)}."


def _steered(plan: Plan) -> list[Sentence]:
    region, share = plan.region, _share(plan)
    said = []
    if 0 < share < 1:
        said.append(
            Sentence(
                f"Until a device is steered, {share:.0%} of its uplinks can be heard; its first answer brings it to the"
                " channels that are heard, and from then on all of them can be."
            )
        )
    said.append(
        Sentence(
            "A device with ADR opens its default channels again after 64 + 32 uplinks without a downlink: each is sent"
            f" one at least every {KEEP_ALIVE} uplinks, which takes {100 / KEEP_ALIVE:.1f} downlinks per 100 uplinks."
        )
    )
    if region.fixed_plan:
        said.append(
            Sentence(
                f"Devices on fewer than 50 channels of {region.name} may send with 21 dBm at most."
                if region.name == "US915"
                else f"A device of {region.name} takes no mask with fewer than {MIN_FIXED} channels."
            )
        )
    return said


def _impossible(plan: Plan) -> list[Sentence]:
    region = plan.region
    count, all_of = len(plan.channels or ()), _defaults(plan)
    return [
        Sentence(
            f"{region.name} does not work with this: devices hop over {all_of} channels of 125 kHz, {count} of which"
            f" {'is' if count == 1 else 'are'} heard, so about 1 uplink in {round(all_of / max(count, 1))} arrives, and"
            f" a device refuses to be brought to fewer than {MIN_FIXED} of them. Use a concentrator with 8 channels.",
            serious=True,
        )
    ]


def _joins(plan: Plan) -> list[Sentence]:
    """How many tries a join takes: requests hop over the default channels, whatever anybody has told the device."""
    assert plan.heard is not None
    region, defaults = plan.region, _defaults(plan)
    heard = [index for index in range(defaults) if plan.heard.get(index)]
    if not heard:
        return [
            Sentence(
                f"No default channel of {region.name} is heard, so no device can join: put a module on"
                f" {region.uplink_channels()[0] / 1e6:g} MHz, or register devices with ABP.",
                serious=True,
            )
        ]
    said = []
    if len(heard) < defaults:
        said.append(
            Sentence(
                f"A join-request goes out on one of {defaults} default channels at random; {len(heard)} of them"
                f" {'is' if len(heard) == 1 else 'are'} heard, so a join takes {defaults / len(heard):.3g} tries on"
                f" average, and 1 device in 20 needs more than {_tries(len(heard) / defaults)}. Let the devices retry.",
                serious=defaults / len(heard) > 8,
            )
        )
    narrow = [r for r, each in region.uplink_data_rates.items() if each.bw_hz == 125_000]
    rates = frozenset().union(*(plan.heard[index] for index in heard))
    if len(rates) < len(narrow):
        said.append(
            Sentence(
                f"A device that joins with another data rate than {_rate_words(region, rates)} is not heard; one"
                f" that goes through all {len(narrow)} of them is heard at {len(rates)}, so it takes"
                f" {len(narrow) / len(rates):.3g} times as many tries. Set the device's"
                " join data rate where it can be set."
            )
        )
    return said


def _tries(chance: float) -> int:
    """After so many tries 19 in 20 have been heard."""
    tries, missed = 0, 1.0
    while missed > 0.05:
        missed *= 1 - chance
        tries += 1
    return tries


def _defaults(plan: Plan) -> int:
    """How many 125 kHz channels every device of the region begins with."""
    return len(plan.region.uplink_channels()) - (
        plan.region.channel_mask.wide if plan.region.fixed_plan else 0
    )


def _share(plan: Plan) -> float:
    """Of a device on its default channels, at a data rate that is heard."""
    assert plan.heard is not None
    defaults = _defaults(plan)
    return sum(bool(plan.heard.get(index)) for index in range(defaults)) / defaults


def _rate_words(region: Region, rates: frozenset[int]) -> str:
    names = [f"SF{region.uplink_data_rates[rate].sf} (DR{rate})" for rate in sorted(rates, reverse=True)]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
