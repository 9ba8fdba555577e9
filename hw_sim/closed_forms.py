"""The air against theory: population runs whose outcome has a closed form, through the whole of `hw_sim.air`.

Each experiment sends real frames in virtual time from `Kernel` events to a receiving chip and returns what came of it
beside the formula's value. With `collisions=False` nothing ever collides: the control that a check must fail.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Final

from hw_sim.air import Air
from hw_sim.interference import ALOHA, CROCE, NONE, Interference
from hw_sim.kernel import Kernel
from hw_sim.links import AirSettings, Fading
from hw_sim.phy import Waveform
from hw_sim.propagation import PathLoss, noise_floor_dbm
from hw_sim.records import Fate
from hw_sim.sx1276 import SX1276
from radio.lora import REQUIRED_SNR_DB, LoRaModulation

SF: Final = 7
BYTES: Final = 20
FREQ_HZ: Final = 434_000_000  # where a chip is after a reset
WAVE: Final = Waveform(FREQ_HZ, LoRaModulation(SF, 125_000), False, False, True, False, 0x12, 8, BYTES, 0)
LEVEL_LOSS: Final = PathLoss(0.0, 1.0, 0.0)  # what leaves arrives: senders choose what a receiver gets
STRONG_DBM: Final = -90.0
NODES: Final = 500
WITHIN: Final = 0.02  # how far off a point may be; see `Outcome.error`


@dataclass(frozen=True, slots=True)
class Outcome:
    """One point of a curve."""

    experiment: str
    at: float  # the curve's argument: offered load, or a ratio in dB
    expected: float
    measured: float

    @property
    def error(self) -> float:
        """Relative for a throughput, absolute for a probability."""
        difference = abs(self.measured - self.expected)
        return difference / self.expected if self.experiment == "aloha" else difference


class _Field:
    """A receiver that is always on, and senders without software."""

    def __init__(self, seed: int, settings: AirSettings, senders: int) -> None:
        self.kernel = Kernel(seed)
        self.air = Air(self.kernel, replace(settings, keep_frames=1, path_loss=LEVEL_LOSS))
        receiver = SX1276(self.kernel, "receiver")
        self.air.add(receiver)
        receiver.spi(bytes((0x81, 0x80)))
        receiver.spi(bytes((0x81, 0x85)))
        self.senders = [SX1276(self.kernel, f"sender{i}") for i in range(senders)]
        for sender in self.senders:
            self.air.add(sender)
        self.kernel.run_until(1_000_000)

    def send(self, sender: int, power_dbm: float) -> None:
        self.air.transmit(self.senders[sender], WAVE, bytes(BYTES), power_dbm)

    def fates(self) -> dict[Fate, int]:
        """Of all frames so far, at the receiver."""
        return self.air.records.fates_of("receiver")


def aloha(load: float, frames: int, seed: int = 1, *, collisions: bool = True) -> Outcome:
    """Throughput of a population that sends at random: S = G exp(-2 G), in frames per frame time.

    Every overlap destroys both frames, from the first symbol of the preamble to the last of the payload. The
    gaps between frames are exponential, one draw from each of as many equal parts of the distribution, in random
    order: the same distribution with less scatter.
    """
    rules = Interference(ALOHA if collisions else NONE, critical_symbols=12.25, payload_symbols=0.0)
    field = _Field(seed, AirSettings(interference=rules, fading_db=0.0), NODES)
    rng, airtime_ns = random.Random(seed), WAVE.airtime_ns()
    gaps_ns = [-math.log((i + rng.random()) / frames) * airtime_ns / load for i in range(frames)]
    rng.shuffle(gaps_ns)
    free_ns = [0] * NODES

    def send() -> None:
        node, now = rng.randrange(NODES), field.kernel.now_ns
        while free_ns[node] > now:
            node = rng.randrange(NODES)
        free_ns[node] = now + airtime_ns + 1
        field.send(node, STRONG_DBM)
        if gaps_ns:
            field.kernel.after(round(gaps_ns.pop()), send)

    duration_ns = sum(gaps_ns)
    field.kernel.after(round(gaps_ns.pop()), send)
    field.kernel.run_until(round(duration_ns) + 1_000_000_000)
    received = field.fates().get(Fate.RECEIVED, 0)
    return Outcome("aloha", load, load * math.exp(-2 * load), received * airtime_ns / duration_ns)


def capture(ratio_db: float, frames: int, seed: int = 1, *, collisions: bool = True) -> Outcome:
    """A frame meets another one of its own kind in its payload, both fading by 3 dB: Phi((ratio - 1 dB) / 3 sqrt 2).

    1 dB is the measured threshold of `CROCE` within a spreading factor.
    """
    spread_db = 3.0
    expected = NormalDist().cdf((ratio_db - CROCE[0][0]) / (spread_db * math.sqrt(2)))
    return _meet("capture", ratio_db, frames, seed, collisions, AirSettings(fading_db=spread_db), expected)


def rayleigh_capture(ratio_db: float, frames: int, seed: int = 1, *, collisions: bool = True) -> Outcome:
    """The same where both fade by Rayleigh's law: 1 / (1 + threshold / ratio), as powers."""
    expected = 1 / (1 + 10 ** ((CROCE[0][0] - ratio_db) / 10))
    settings = AirSettings(fading=Fading.RAYLEIGH)
    return _meet("rayleigh capture", ratio_db, frames, seed, collisions, settings, expected)


def _meet(
    name: str,
    ratio_db: float,
    frames: int,
    seed: int,
    collisions: bool,
    settings: AirSettings,
    expected: float,
) -> Outcome:
    """Frame after frame, each with a second one that begins in its payload and ends with it."""
    rules = Interference(CROCE if collisions else NONE)
    field = _Field(seed, replace(settings, interference=rules), 2)
    kernel, airtime_ns = field.kernel, WAVE.airtime_ns()
    for _ in range(frames):
        field.send(0, STRONG_DBM)
        kernel.run_until(kernel.now_ns + WAVE.header_ns() + WAVE.symbol_ns)
        field.send(1, STRONG_DBM - ratio_db)
        kernel.run_until(kernel.now_ns + 2 * airtime_ns)
    return Outcome(name, ratio_db, expected, field.fates().get(Fate.RECEIVED, 0) / frames)


def threshold(ratio_db: float, frames: int, seed: int = 1, *, collisions: bool = True) -> Outcome:
    """The same without fading: a step at 1 dB."""
    expected = float(ratio_db >= CROCE[0][0])
    return _meet("threshold", ratio_db, frames, seed, collisions, AirSettings(fading_db=0.0), expected)


def sensitivity(margin_db: float, frames: int, seed: int = 1, *, collisions: bool = True) -> Outcome:
    """Frames `margin_db` above the demodulator's floor: 1 / (1 + exp(-margin / width)).

    The control takes the noise away instead of the collisions.
    """
    width_db = 0.5
    field = _Field(seed, AirSettings(fading_db=0.0, decode_width_db=width_db), 1)
    power_dbm = noise_floor_dbm(125_000) + REQUIRED_SNR_DB[SF] + (margin_db if collisions else 20.0)
    for _ in range(frames):
        field.send(0, power_dbm)
        field.kernel.run_until(field.kernel.now_ns + 2 * WAVE.airtime_ns())
    expected = 1 / (1 + math.exp(-margin_db / width_db))
    return Outcome("sensitivity", margin_db, expected, field.fates().get(Fate.RECEIVED, 0) / frames)


Experiment = Callable[..., Outcome]
# Each with the points of its curve, and how many frames a run of 1 takes beside the others for the same certainty.
CURVES: Final[tuple[tuple[Experiment, tuple[float, ...], float], ...]] = (
    (aloha, (0.1, 0.25, 0.5, 1.0), 1.0),
    (capture, (-6.0, -2.0, 1.0, 4.0, 8.0), 1.0),
    (rayleigh_capture, (-6.0, -2.0, 1.0, 4.0, 8.0), 1.0),
    (threshold, (-1.0, 0.9, 1.1, 3.0), 0.01),
    (sensitivity, (-1.0, -0.5, 0.0, 0.5, 1.0), 1.0),
)
