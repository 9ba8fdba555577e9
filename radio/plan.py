"""Whether the configured modules can work in the configured region: what is wrong, and what is merely doubtful.

Pure. `problems` stop the radio where its configuration is made, with the remedy in the text; `doubts` are legal,
and said by `fluxgate config check` and in the log. The rules at run time are `radio.regulation`'s.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from radio.lora import LoRaModulation
from radio.regions import Dwell, Region, SubBand, get_region, region_names
from radio.sx127x.registers import FREQUENCY_RANGE_HZ, Power

# Channels that devices of a fixed plan are usually told to use together, one of 500 kHz with them
GROUP: Final = 8


@dataclass(frozen=True, slots=True)
class PlannedModule:
    """What one module is to do, and what it is able to."""

    name: str
    receives: bool
    transmits: bool
    freq_hz: int
    modulations: tuple[LoRaModulation, ...]  # several where it sweeps
    weakest_dbm: int
    bands_hz: tuple[tuple[int, int], ...] = (FREQUENCY_RANGE_HZ,)
    senses: bool = True
    private: bool = False  # it hears nodes that are not LoRaWAN's: the region has no say in their channels

    def tunes_to(self, freq_hz: int) -> bool:
        """Whether its hardware reaches this frequency."""
        return any(low <= freq_hz <= high for low, high in self.bands_hz)


def weakest_dbm(pa_boost: bool) -> int:
    """The least power of an SX127x at its connector."""
    return Power.limits(pa_boost)[0]


def problems(
    region: Region,
    modules: Sequence[PlannedModule],
    antenna_gain_dbi: float,
    cable_loss_db: float,
    *,
    any_channel: bool = False,
) -> Iterator[str]:
    """What keeps this configuration from working lawfully, each with its remedy.

    `any_channel`: reception is nobody's business, as for a measurement.
    """
    for module in modules:
        if module.receives and not any_channel:
            yield from _deaf(region, module)
        if module.transmits:
            yield from _mute(region, module)
            yield from _loud(region, module, antenna_gain_dbi, cable_loss_db)


def doubts(region: Region, modules: Sequence[PlannedModule], *, limit_dwell: bool) -> Iterator[str]:
    """What may well be meant, and often is not."""
    if not any(module.transmits for module in modules):
        yield "no module has the role tx or rxtx: this gateway will never answer a device, and none can join"
    yield from _twice([module for module in modules if not module.private])
    receiving = [module for module in modules if module.receives and not module.private]
    if region.fixed_plan:
        yield from _groups(region, receiving)
    else:
        yield from _dynamic(region, receiving)
    if region.lbt is not None:
        yield (
            f"{region.name} asks to listen before each downlink: a busy channel refuses answers in RX1 and RX2, "
            "and a module is deaf to its own channel for that much longer"
        )
    if region.downlink_dwell is Dwell.NETWORK and not limit_dwell:
        yield (
            f"some countries of {region.name} limit a frame to {region.dwell_limit_us // 1000} ms on air: where "
            "yours does, set [radio] limit_dwell = true"
        )
    if "sub_bands" in region.unverified:
        bands = "; ".join(
            f"{band}, {'no duty cycle' if band.duty == 1 else f'duty cycle {band.duty:.1%}'}, "
            f"{band.max_eirp_dbm:g} dBm EIRP"
            for band in region.sub_bands
        )
        yield (
            f"the limits for gateways in {region.name} come from one source ({bands}): compare them with your "
            "country's rules and set [[radio.sub_band]] where they differ (docs/regions.md)"
        )


# --- what is wrong ----------------------------------------------------------------------------------


def _deaf(region: Region, module: PlannedModule) -> Iterator[str]:
    mhz = f"{module.freq_hz / 1e6:.10g} MHz"
    if not module.tunes_to(module.freq_hz):
        yield f"module {module.name} cannot be tuned to {mhz}: set freq_hz to a frequency its hardware reaches"
    elif module.private:
        return
    elif not _is_uplink_channel(region, module.freq_hz):
        yield (
            f"module {module.name} listens at {mhz}, where no device of {region.name} sends: set its freq_hz to "
            f"{_nearest(region, module.freq_hz)}{_elsewhere(module.freq_hz)}"
        )
    else:
        for modulation in module.modulations:
            wanted = _data_rates_at(region, module.freq_hz)
            if modulation not in wanted:
                names = ", ".join(known.datr for known in wanted)
                yield (
                    f"module {module.name} listens for {modulation.datr}, which is no uplink data rate of "
                    f"{region.name} at {mhz}: set sf and bw_hz to one of {names}"
                )


def _mute(region: Region, module: PlannedModule) -> Iterator[str]:
    rx2_hz, rx2_dr = region.rx2
    if not module.tunes_to(rx2_hz):
        yield (
            f"module {module.name} cannot send at {rx2_hz / 1e6:.10g} MHz, the second receive window of "
            f"{region.name}: give it the role rx and another module tx, or choose the region of its hardware"
        )
    if region.lbt is not None and not module.senses:
        yield (
            f"module {module.name} cannot listen before it talks, as {region.name} asks: give it the role rx"
        )
    if region.sub_band_for(rx2_hz, region.downlink_data_rates[rx2_dr].bw_hz) is None:
        yield (
            f"no sub-band is open to gateways at {rx2_hz / 1e6:.10g} MHz, the second receive window of "
            f"{region.name}: add one to [[radio.sub_band]]"
        )


def _loud(region: Region, module: PlannedModule, gain_dbi: float, loss_db: float) -> Iterator[str]:
    """The weakest the module can do must be lawful in every sub-band it will answer in."""
    weakest_eirp_dbm = module.weakest_dbm + gain_dbi - loss_db
    for band in _answered_in(region, module):
        if weakest_eirp_dbm > band.max_eirp_dbm:
            yield (
                f"module {module.name} cannot go below {module.weakest_dbm} dBm; with antenna_gain_dbi = {gain_dbi:g}"
                f" and cable_loss_db = {loss_db:g} that is {weakest_eirp_dbm:g} dBm EIRP, and {band} allows "
                f"{band.max_eirp_dbm:g} dBm: use an antenna with less gain, or set cable_loss_db to what cable and"
                " attenuator really take"
            )


# --- what is doubtful -------------------------------------------------------------------------------


def _twice(modules: Sequence[PlannedModule]) -> Iterator[str]:
    heard: dict[tuple[int, LoRaModulation], str] = {}
    for module in modules:
        for modulation in module.modulations if module.receives else ():
            other = heard.setdefault((module.freq_hz, modulation), module.name)
            if other != module.name:
                yield (
                    f"modules {other} and {module.name} both listen for {modulation.datr} at "
                    f"{module.freq_hz / 1e6:.10g} MHz: one of them could hear another channel or spreading factor"
                )


def _groups(region: Region, receiving: Sequence[PlannedModule]) -> Iterator[str]:
    """Which eighth of a fixed plan the modules hear."""
    channels = sorted(
        {index for module in receiving if (index := region.uplink_index(module.freq_hz)) is not None}
    )
    narrow = len(region.uplink_channels()) - region.channel_mask.wide
    groups = sorted({index // GROUP if index < narrow else index - narrow for index in channels})
    if len(groups) > 1:
        yield (
            f"the modules hear channels {_list(channels)} of {region.name}, in sub-bands "
            f"{_list(group + 1 for group in groups)}: devices are told one sub-band of eight channels as a rule"
        )
    if channels:
        yield (
            f"the modules hear {len(channels)} of {len(region.uplink_channels())} channels of {region.name} "
            f"(sub-band {_list(group + 1 for group in groups)}): set devices to that sub-band, and [lorawan] "
            f"uplink_channels = {channels}; about one join in {_tries(region, channels)} will be heard"
        )


def _tries(region: Region, channels: Sequence[int]) -> int:
    """A device that knows nothing joins over all narrow channels, one that knows its sub-band over eight."""
    narrow = len(region.uplink_channels()) - region.channel_mask.wide
    return max(1, narrow // max(1, sum(index < narrow for index in channels)))


def _dynamic(region: Region, receiving: Sequence[PlannedModule]) -> Iterator[str]:
    defaults = set(region.uplink_channels())
    if receiving and not any(module.freq_hz in defaults for module in receiving):
        yield (
            f"no module listens on a channel that devices of {region.name} join on "
            f"({_mhz(sorted(defaults))}): none can join by radio"
        )
    for module in receiving:
        if module.freq_hz not in defaults:
            yield (
                f"devices use {module.freq_hz / 1e6:.10g} MHz (module {module.name}) only once they are told: add it "
                "to [lorawan] cflist_hz"
            )
        if region.sub_band_for(module.freq_hz, module.modulations[0].bw_hz) is None:
            yield (
                f"no gateway may send at {module.freq_hz / 1e6:.10g} MHz (module {module.name}): its devices are "
                "answered in RX2 only"
            )


# --- small ------------------------------------------------------------------------------------------


def _is_uplink_channel(region: Region, freq_hz: int) -> bool:
    if region.fixed_plan:
        return region.uplink_index(freq_hz) is not None
    return region.band_hz[0] <= freq_hz <= region.band_hz[1]


def _data_rates_at(region: Region, freq_hz: int) -> tuple[LoRaModulation, ...]:
    """Uplink data rates of a channel: in a fixed plan the last ones are wide and the others are not."""
    every = tuple(region.uplink_data_rates.values())
    if not region.channel_mask.wide:
        return every
    index = region.uplink_index(freq_hz)
    wide = index is not None and index >= len(region.uplink_channels()) - region.channel_mask.wide
    return tuple(known for known in every if (known.bw_hz == 500_000) == wide)


def _nearest(region: Region, freq_hz: int) -> str:
    if not region.fixed_plan:
        low, high = region.band_hz
        return (
            f"one of its channels ({_mhz(region.uplink_channels())}) or another between {low / 1e6:.10g} and "
            f"{high / 1e6:.10g} MHz"
        )
    near = min(region.uplink_channels(), key=lambda hz: abs(hz - freq_hz))
    return (
        f"one of its {len(region.uplink_channels())} channels, of which {near / 1e6:.10g} MHz is the nearest"
    )


def _elsewhere(freq_hz: int) -> str:
    """Regions in which the frequency would be right; a wrong [gateway] region is the more likely mistake."""
    names = [
        name
        for name in region_names()
        if freq_hz in get_region(name).uplink_channels() or _is_uplink_channel(get_region(name), freq_hz)
    ]
    exact = [name for name in names if freq_hz in get_region(name).uplink_channels()]
    fitting = exact or names
    return f", or [gateway] region to {' or '.join(fitting)}" if fitting else ""


def _answered_in(region: Region, module: PlannedModule) -> list[SubBand]:
    rx2_hz, rx2_dr = region.rx2
    found = [region.sub_band_for(rx2_hz, region.downlink_data_rates[rx2_dr].bw_hz)]
    if module.receives and not region.fixed_plan:
        found.append(region.sub_band_for(module.freq_hz, module.modulations[0].bw_hz))
    return list(dict.fromkeys(band for band in found if band is not None))


def _mhz(frequencies: Sequence[int]) -> str:
    return ", ".join(f"{hz / 1e6:.10g}" for hz in frequencies) + " MHz"


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(str(number) for number in numbers)
