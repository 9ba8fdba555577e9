"""Interference: noise that comes and goes, and frames of a foreign network."""

from dataclasses import dataclass
from random import Random
from typing import Final

from hw_sim.air import Air
from hw_sim.kernel import Kernel
from hw_sim.links import Antenna
from hw_sim.phy import Waveform
from hw_sim.sx1276 import SX1276
from radio.lora import LoRaModulation

SECOND_NS: Final = 1_000_000_000
FOREIGN_SYNC_WORD: Final = 0x12  # private networks; a LoRaWAN receiver does not report their frames
_PREAMBLE: Final = 8


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """One source. Raises ValueError for what cannot be."""

    name: str
    x_m: float
    y_m: float
    power_dbm: float
    freq_hz: int
    bw_hz: int
    from_s: float
    until_s: float | None
    on_s: tuple[float, float]
    off_s: tuple[float, float]
    frames: tuple[int, int] | None = None  # spreading factor and size, instead of noise

    def __post_init__(self) -> None:
        if self.frames is not None:
            _ = LoRaModulation(self.frames[0], self.bw_hz)
        elif self.on_s[0] <= 0:
            raise ValueError("on_s is more than 0")
        if self.until_s is not None and self.until_s <= self.from_s:
            raise ValueError("until_s comes after from_s")


class Source:
    """On the air between `from_s` and `until_s`."""

    def __init__(self, kernel: Kernel, air: Air, config: SourceConfig) -> None:
        self.config = config
        self._kernel = kernel
        self._air = air
        self._rng: Random = kernel.rng(f"source/{config.name}")
        self._until_ns = None if config.until_s is None else round(config.until_s * SECOND_NS)
        self._antenna = Antenna(config.name, config.x_m, config.y_m)
        self._chip = SX1276(kernel, config.name)
        if config.frames is not None:
            air.add(self._chip, config.x_m, config.y_m)

    def start(self) -> None:
        """Queue everything."""
        self._kernel.at(round(self.config.from_s * SECOND_NS), self._sound)

    def _sound(self) -> None:
        now, config = self._kernel.now_ns, self.config
        if self._until_ns is not None and now >= self._until_ns:
            return
        off_ns = round(self._rng.uniform(*config.off_s) * SECOND_NS)
        if config.frames is None:
            on_ns = round(self._rng.uniform(*config.on_s) * SECOND_NS)
            if self._until_ns is not None:
                on_ns = min(on_ns, self._until_ns - now)
            self._air.make_noise(self._antenna, on_ns, config.freq_hz, config.bw_hz, config.power_dbm)
        else:
            on_ns = self._send(*config.frames)
        self._kernel.after(on_ns + off_ns, self._sound)

    def _send(self, sf: int, size: int) -> int:
        config = self.config
        modulation = LoRaModulation(sf, config.bw_hz)
        ldro = modulation.symbol_ns >= 16_000_000
        wave = Waveform(
            config.freq_hz, modulation, ldro, False, True, False, FOREIGN_SYNC_WORD, _PREAMBLE, size, 0
        )
        self._air.transmit(self._chip, wave, self._rng.randbytes(size), config.power_dbm)
        return wave.airtime_ns()
