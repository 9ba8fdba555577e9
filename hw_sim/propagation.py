"""What a signal loses between two antennas, and the noise it must rise above."""

import math
from dataclasses import dataclass
from typing import Final

NOISE_FIGURE_DB: Final = 6.0
_MIN_DISTANCE_M: Final = 1.0


@dataclass(frozen=True, slots=True)
class PathLoss:
    """Log-distance path loss: `reference_db` at `reference_m`, `slope_db` more each tenfold distance.

    `shadowing_db` is the standard deviation of what each pair of places adds, once and for all.
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
BOR: Final = PathLoss(
    127.41, 40.0, 20.8, shadowing_db=3.57
)  # built-up, near the ground (Bor 2016; LoRaSim, FLoRa)
NS3: Final = PathLoss(7.7, 1.0, 37.6)  # the default of the ns-3 lorawan module


def noise_floor_dbm(bw_hz: int) -> float:
    """Thermal noise and the receiver's own: -117 dBm at 125 kHz."""
    return -174.0 + 10 * math.log10(bw_hz) + NOISE_FIGURE_DB


def to_mw(dbm: float) -> float:
    """Decibel milliwatts to milliwatts."""
    return float(10 ** (dbm / 10))


def to_dbm(mw: float) -> float:
    """Milliwatts to decibel milliwatts; nothing at all is -300 dBm."""
    return 10 * math.log10(mw) if mw > 0 else -300.0
