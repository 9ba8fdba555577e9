"""What a server's router_config asks of a radio, against what the radio's modules hear. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from radio.gwmp import RxPacket
from radio.lora import LoRaModulation
from radio.station.errors import StationError
from radio.station.messages import Channel, DataRate, RouterConfig

MAX_CHAINS: Final = 16  # IF chains of a concentrator that are looked for
DATA_FRAMES: Final = (0b010, 0b011, 0b100, 0b101)
JOINS: Final = (0b000, 0b110)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A router_config, ready to be asked about frames and orders."""

    config: RouterConfig
    channels: tuple[Channel, ...]  # empty: the server does not say

    @classmethod
    def of(cls, config: RouterConfig) -> "Wanted":
        """Servers that do not list their channels have them in the concentrator's settings."""
        return cls(config, config.channels or tuple(_channels(config)))

    def uplink_dr(self, modulation: LoRaModulation) -> int | None:
        """The number under which the server knows what a frame was sent with."""
        for dr, rate in enumerate(self.config.data_rates):
            if rate is not None and not rate.down_only and _is(rate, modulation):
                return dr
        return None

    def modulation(self, dr: int) -> LoRaModulation:
        """What to send with. Raises StationError where the number is no LoRa data rate of this server."""
        rates = self.config.data_rates
        rate = rates[dr] if dr < len(rates) else None
        if rate is None or not rate.sf:
            raise StationError(f"DR{dr} is no LoRa data rate in the server's configuration")
        try:
            return LoRaModulation(rate.sf, rate.bw_khz * 1000)
        except ValueError as error:
            raise StationError(f"DR{dr}: {error}") from None

    def why_not(self, rx: RxPacket) -> str:
        """Why the server does not want a frame, or "" where it does."""
        if self.channels and all(channel.freq_hz != rx.freq_hz for channel in self.channels):
            return "channel"
        if self.uplink_dr(rx.modulation) is None:
            return "data_rate"
        kind = rx.data[0] >> 5
        if (
            self.config.net_ids is not None
            and kind in DATA_FRAMES
            and rx.data[4] >> 1 not in self.config.net_ids
        ):
            return "net_id"
        if self.config.join_euis is not None and kind in JOINS:
            join_eui = int.from_bytes(rx.data[1:9], "little")
            if not any(low <= join_eui <= high for low, high in self.config.join_euis):
                return "join_eui"
        return ""

    def missing(self, heard_hz: Iterable[int]) -> list[int]:
        """Channels that the server's devices use and no module of this radio hears, Hz."""
        heard = set(heard_hz)
        return [channel.freq_hz for channel in self.channels if channel.freq_hz not in heard]


def _is(rate: DataRate, modulation: LoRaModulation) -> bool:
    return (rate.sf, rate.bw_khz * 1000) == (modulation.sf, modulation.bw_hz)


def _channels(config: RouterConfig) -> list[Channel]:
    """Uplink channels from sx1301_conf: an IF chain is an offset from its radio's frequency."""
    narrow = _rates(config.data_rates, 125)
    found: dict[int, Channel] = {}
    for chip in config.sx1301_conf:
        for index in range(MAX_CHAINS):
            freq_hz = _freq_of(chip, chip.get(f"chan_multiSF_{index}"))
            if freq_hz and narrow:
                found[freq_hz] = Channel(freq_hz, narrow[0], narrow[-1])
        wide = chip.get("chan_Lora_std")
        freq_hz = _freq_of(chip, wide)
        if freq_hz and isinstance(wide, dict):
            for dr, rate in enumerate(config.data_rates):
                if rate is not None and (rate.sf, rate.bw_khz * 1000) == (
                    wide.get("spread_factor"),
                    wide.get("bandwidth"),
                ):
                    found.setdefault(freq_hz, Channel(freq_hz, dr, dr))
                    break
    return sorted(found.values(), key=lambda channel: channel.freq_hz)


def _freq_of(chip: dict[str, Any], chain: object) -> int:
    """The frequency of an IF chain; 0 for one that is off, or makes no sense."""
    if not isinstance(chain, dict) or chain.get("enable") is not True:
        return 0
    radio = chip.get(f"radio_{chain.get('radio', 0)}")
    freq_hz, offset_hz = (radio.get("freq") if isinstance(radio, dict) else None), chain.get("if", 0)
    return freq_hz + offset_hz if isinstance(freq_hz, int) and isinstance(offset_hz, int) else 0


def _rates(rates: Sequence[DataRate | None], bw_khz: int) -> list[int]:
    return [
        dr
        for dr, rate in enumerate(rates)
        if rate is not None and rate.sf and rate.bw_khz == bw_khz and not rate.down_only
    ]
