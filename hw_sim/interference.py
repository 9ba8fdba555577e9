"""When one LoRa signal drowns another: isolation matrices and where in a frame they apply."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

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


@dataclass(frozen=True, slots=True)
class Interference:
    """The rules of collision.

    A lock is lost where the ratio fails at any time in the last `critical_symbols` of the preamble or the
    header; a payload is damaged where it fails for more than `payload_symbols`.
    """

    matrix: Matrix = CROCE
    critical_symbols: int = 5
    payload_symbols: float = 1.0

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


@dataclass(frozen=True, slots=True)
class Disturber:
    """Another signal at the receiver: an interferer with its threshold, or (None) a blocker that acts as
    noise.
    """

    start_ns: int
    end_ns: int
    power_dbm: float
    kind: object  # interferers of one kind (spreading factor and bandwidth) add up before they are compared
    threshold_db: float | None


def disturbed_ns(
    disturbers: Iterable[Disturber],
    start_ns: int,
    end_ns: int,
    power_dbm: float,
    noise_mw: float,
    needed_snr_db: float,
) -> tuple[int, int]:
    """How long within [start, end) a signal is drowned by (interferers, blockers)."""
    present = [d for d in disturbers if d.start_ns < end_ns and d.end_ns > start_ns]
    if not present:
        return 0, 0
    bounds = {start_ns, end_ns}
    for d in present:
        bounds.update(t for t in (d.start_ns, d.end_ns) if start_ns < t < end_ns)
    times = sorted(bounds)
    collided = blocked = 0
    for begin, end in pairwise(times):
        sums: dict[tuple[object, float], float] = {}
        noise = noise_mw
        for d in present:
            if d.start_ns <= begin and d.end_ns >= end:
                if d.threshold_db is None:
                    noise += to_mw(d.power_dbm)
                else:
                    key = (d.kind, d.threshold_db)
                    sums[key] = sums.get(key, 0.0) + to_mw(d.power_dbm)
        if any(power_dbm - to_dbm(mw) < threshold for (_, threshold), mw in sums.items()):
            collided += end - begin
        elif power_dbm - to_dbm(noise) < needed_snr_db:
            blocked += end - begin
    return collided, blocked
