"""What a signal loses between two antennas, and the noise it must rise above."""

import math
from dataclasses import dataclass
from random import Random
from typing import Final

NOISE_FIGURE_DB: Final = 6.0
_MIN_DISTANCE_M: Final = 1.0
_WAVES: Final = 64  # of a shadow field; its values are close to Gaussian from about 30 on

Place = tuple[float, float]  # metres east and north


@dataclass(frozen=True, slots=True)
class PathLoss:
    """Log-distance path loss: `reference_db` at `reference_m`, `slope_db` more each tenfold distance.

    `shadowing_db` is the standard deviation of what houses and hills between two places add (`ShadowField`).
    """

    reference_db: float
    reference_m: float
    slope_db: float
    shadowing_db: float = 0.0

    def loss_db(self, distance_m: float) -> float:
        """Median loss at this distance; below a metre as at one metre."""
        distance = max(distance_m, _MIN_DISTANCE_M)
        return self.reference_db + self.slope_db * math.log10(distance / self.reference_m)


OULU: Final = PathLoss(128.95, 1_000.0, 23.2)  # measured in town, antenna at 24 m (Petäjäjärvi 2015)
# Built-up, near the ground (Bor 2016; LoRaSim, FLoRa)
BOR: Final = PathLoss(127.41, 40.0, 20.8, shadowing_db=3.57)
NS3: Final = PathLoss(7.7, 1.0, 37.6)  # the default of the ns-3 lorawan module


class ShadowField:
    """What stands between two places, in decibels, as a smooth function of both and of time.

    Gaussian with mean 0 and deviation 1. Its correlation falls exponentially with the distance that either end
    has moved (Gudmundson 1991) and, where `lasting_s` is not 0, with time: neighbours share their shadow, a device
    on the move drives in and out of it, and all antennas of one mast stand in the same one. A sum of cosines whose
    wave vectors are drawn from the spectrum of that correlation.
    """

    def __init__(self, rng: Random, distance_m: float, lasting_s: float = 0.0) -> None:
        """`distance_m`, `lasting_s`: where the correlation has fallen to 1/e."""
        self._waves = [
            (
                *_wave_vector(rng, distance_m),
                *_wave_vector(rng, distance_m),
                math.tan(math.pi * (rng.random() - 0.5)) / lasting_s if lasting_s else 0.0,
                rng.uniform(0, 2 * math.pi),
            )
            for _ in range(_WAVES)
        ]

    def at(self, a: Place, b: Place, t_s: float) -> float:
        """Its value; callers always name the two ends in the same order."""
        (ax, ay), (bx, by) = a, b
        total = sum(
            math.cos(kax * ax + kay * ay + kbx * bx + kby * by + w * t_s + phase)
            for kax, kay, kbx, kby, w, phase in self._waves
        )
        return total * math.sqrt(2 / _WAVES)


def _wave_vector(rng: Random, distance_m: float) -> Place:
    """A wave vector from the plane's spectrum of exp(-d / distance), by inverting its distribution."""
    length = math.sqrt(1 / (1 - rng.random()) ** 2 - 1) / distance_m
    angle = rng.uniform(0, 2 * math.pi)
    return length * math.cos(angle), length * math.sin(angle)


def noise_floor_dbm(bw_hz: int) -> float:
    """Thermal noise and the receiver's own: -117 dBm at 125 kHz."""
    return -174.0 + 10 * math.log10(bw_hz) + NOISE_FIGURE_DB


def to_mw(dbm: float) -> float:
    """Decibel milliwatts to milliwatts."""
    return float(10 ** (dbm / 10))


def to_dbm(mw: float) -> float:
    """Milliwatts to decibel milliwatts; nothing at all is -300 dBm."""
    return 10 * math.log10(mw) if mw > 0 else -300.0
