"""Clocks and crystals that are off: by a constant, with the temperature, and more each day."""

import math
from dataclasses import dataclass
from typing import Final

CUT_FOR_C: Final = 25.0  # the temperature crystals are specified at
DAY_S: Final = 86_400.0
WARMEST_S: Final = 15 * 3600.0  # of a day that begins at midnight with the run


@dataclass(frozen=True, slots=True)
class Climate:
    """The temperature around a device: a mean, and how far the day swings to either side of it."""

    mean_c: float = CUT_FOR_C
    swing_c: float = 0.0

    def at(self, t_s: float) -> float:
        """Degrees Celsius."""
        return self.mean_c + self.swing_c * math.cos(2 * math.pi * (t_s - WARMEST_S) / DAY_S)


@dataclass(frozen=True, slots=True)
class Oscillator:
    """How far off a frequency is, in parts per million; positive is fast."""

    ppm: float = 0.0  # as delivered, at 25 degrees
    ppm_per_c: float = 0.0  # a slope
    ppm_per_c2: float = 0.0  # a parabola; a 32 kHz tuning fork has about -0.034
    ppm_per_day: float = 0.0  # ageing

    def ppm_at(self, t_s: float, temperature_c: float) -> float:
        """The error at this time and temperature."""
        off_c = temperature_c - CUT_FOR_C
        return self.ppm + off_c * (self.ppm_per_c + off_c * self.ppm_per_c2) + self.ppm_per_day * t_s / DAY_S


MILD: Final = Climate()
EXACT: Final = Oscillator()
