"""When one signal drowns another: isolation matrices, where in a frame they apply, and what leaks past a filter."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Final, NamedTuple

from hw_sim.propagation import to_dbm, to_mw

# Lowest signal-to-interference ratio in dB; rows the wanted SF7 to SF12, columns the interferer's.
Matrix = tuple[tuple[float, ...], ...]

# Measured on SX1276 (Croce 2018).
CROCE: Final[Matrix] = (
    (1, -8, -9, -9, -9, -9),
    (-11, 1, -11, -12, -13, -13),
    (-15, -13, 1, -13, -14, -15),
    (-19, -18, -17, 1, -17, -18),
    (-22, -22, -21, -20, 1, -20),
    (-25, -25, -25, -24, -23, 1),
)
# Theory (Goursaud 2015), the default of the ns-3 lorawan module.
GOURSAUD: Final[Matrix] = (
    (6, -16, -18, -19, -19, -20),
    (-24, 6, -20, -22, -22, -22),
    (-27, -27, 6, -23, -25, -25),
    (-30, -30, -30, 6, -26, -28),
    (-33, -33, -33, -33, 6, -29),
    (-36, -36, -36, -36, -36, 6),
)
_NEVER: Final = 1000.0
# LoRaSim's simple rule: spreading factors do not touch each other, 6 dB capture within one.
LORASIM: Final[Matrix] = tuple(tuple(6 if i == j else -_NEVER for j in range(6)) for i in range(6))
# Pure ALOHA within a spreading factor: any overlap destroys both.
ALOHA: Final[Matrix] = tuple(tuple(_NEVER if i == j else -_NEVER for j in range(6)) for i in range(6))


# Every spreading factor lives in a world of its own, itself included: nothing ever collides.
NONE: Final[Matrix] = tuple((-_NEVER,) * 6 for _ in range(6))
MATRICES: Final = {"croce": CROCE, "goursaud": GOURSAUD, "lorasim": LORASIM, "aloha": ALOHA, "none": NONE}

MIN_SELECTIVITY_DB: Final = 50.0  # beside the channel ...
MAX_SELECTIVITY_DB: Final = 95.0  # ... and far away from it


class PayloadRule(StrEnum):
    """How an overlap with the payload is judged."""

    OVERLAP = "overlap"  # the ratio fails for more than `payload_symbols`
    # The frame's energy against the interferers' within it, as the ns-3 lorawan module does
    ENERGY = "energy"


@dataclass(frozen=True, slots=True)
class Interference:
    """The rules of collision.

    A lock is lost where the ratio fails at any time in the last `critical_symbols` of the preamble (with its
    sync word) or the header; a payload is damaged where it fails by its rule.
    """

    matrix: Matrix = CROCE
    critical_symbols: float = 5.0
    payload_symbols: float = 1.0
    payload_rule: PayloadRule = PayloadRule.OVERLAP

    def threshold_db(self, wanted_sf: int, other_sf: int, same_bandwidth: bool) -> float:
        """Lowest ratio at which `wanted_sf` survives.

        SF6 counts as SF7, for which there are measurements. Another bandwidth is another chirp slope: it
        counts as the worst other spreading factor.
        """
        row = self.matrix[max(wanted_sf, 7) - 7]
        if same_bandwidth:
            return row[max(other_sf, 7) - 7]
        return max(value for i, value in enumerate(row) if i != max(wanted_sf, 7) - 7)


def channels_overlap(freq_a_hz: float, bw_a_hz: int, freq_b_hz: float, bw_b_hz: int) -> bool:
    """LoRaSim's rule: centres within 30, 60, 120 kHz for the wider one of 125, 250, 500 kHz."""
    return abs(freq_a_hz - freq_b_hz) <= max(bw_a_hz, bw_b_hz) * 0.24


def spectral_share(channel_hz: float, bw_hz: int, noise_hz: float, noise_bw_hz: int) -> float:
    """Which part of a flat spectrum around `noise_hz` falls into a channel, 0 to 1."""
    low = max(channel_hz - bw_hz / 2, noise_hz - noise_bw_hz / 2)
    high = min(channel_hz + bw_hz / 2, noise_hz + noise_bw_hz / 2)
    return max(0.0, high - low) / noise_bw_hz


def selectivity_db(offset_hz: float, at_1_mhz_db: float) -> float:
    """What is left out of a channel of a signal so far beside it, both oscillators' phase noise considered.

    Phase noise, not the filter, sets the limit (SX1276 datasheet 5.5.6); it falls by 20 dB a decade.
    """
    selectivity = at_1_mhz_db + 20 * math.log10(max(abs(offset_hz), 1.0) / 1e6)
    return min(max(selectivity, MIN_SELECTIVITY_DB), MAX_SELECTIVITY_DB)


@dataclass(frozen=True, slots=True)
class Disturber:
    """Another signal at the receiver: an interferer with its threshold, or (None) something that acts as noise."""

    start_ns: int
    end_ns: int
    power_dbm: float
    kind: object  # interferers of one kind (spreading factor and bandwidth) add up before they are compared
    threshold_db: float | None
    jams: bool = False  # noise of a source that is no radio of ours


class Drowned(NamedTuple):
    """For how many ns a signal was drowned, by what drowned it."""

    collided_ns: int = 0  # other LoRa frames
    jammed_ns: int = 0  # sources of noise
    blocked_ns: int = 0  # a strong transmitter beside the channel

    @property
    def total_ns(self) -> int:
        return sum(self)


def drowned(
    disturbers: Iterable[Disturber],
    start_ns: int,
    end_ns: int,
    power_dbm: float,
    noise_mw: float,
    needed_snr_db: float,
) -> Drowned:
    """How long within [start, end) the ratio to interferers or to noise fails."""
    present = [d for d in disturbers if d.start_ns < end_ns and d.end_ns > start_ns]
    if not present:
        return Drowned()
    bounds = {start_ns, end_ns}
    for d in present:
        bounds.update(t for t in (d.start_ns, d.end_ns) if start_ns < t < end_ns)
    times = sorted(bounds)
    collided = jammed = blocked = 0
    for begin, end in pairwise(times):
        sums: dict[tuple[object, float], float] = {}
        jam = leak = 0.0
        for d in present:
            if d.start_ns <= begin and d.end_ns >= end:
                mw = to_mw(d.power_dbm)
                if d.threshold_db is not None:
                    key = (d.kind, d.threshold_db)
                    sums[key] = sums.get(key, 0.0) + mw
                elif d.jams:
                    jam += mw
                else:
                    leak += mw
        if any(power_dbm - to_dbm(mw) < threshold for (_, threshold), mw in sums.items()):
            collided += end - begin
        elif power_dbm - to_dbm(noise_mw + jam + leak) < needed_snr_db:
            if jam > leak:
                jammed += end - begin
            else:
                blocked += end - begin
    return Drowned(collided, jammed, blocked)


def outweighed(disturbers: Iterable[Disturber], start_ns: int, end_ns: int, power_dbm: float) -> bool:
    """The energy rule: do the interferers of one kind bring too much energy into [start, end)?"""
    energies: dict[tuple[object, float], float] = {}
    for d in disturbers:
        overlap_ns = min(d.end_ns, end_ns) - max(d.start_ns, start_ns)
        if d.threshold_db is not None and overlap_ns > 0:
            key = (d.kind, d.threshold_db)
            energies[key] = energies.get(key, 0.0) + to_mw(d.power_dbm) * overlap_ns
    duration_ns = end_ns - start_ns
    return any(
        power_dbm - to_dbm(energy / duration_ns) < threshold for (_, threshold), energy in energies.items()
    )
