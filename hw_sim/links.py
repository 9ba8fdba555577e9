"""How well each receiver hears each frame: places, power, luck, and what drowns it."""

import math
from dataclasses import dataclass, field

from hw_sim.interference import Disturber, Interference, channels_overlap, disturbed_ns
from hw_sim.kernel import Event, Kernel
from hw_sim.modem import Listening, Modem
from hw_sim.phy import Waveform
from hw_sim.propagation import OULU, PathLoss, noise_floor_dbm, to_mw
from hw_sim.records import Fate, FrameRecord
from radio.lora import REQUIRED_SNR_DB


@dataclass(frozen=True, slots=True)
class AirSettings:
    """What the air does to signals. Every draw comes from the kernel's seed."""

    path_loss: PathLoss = OULU
    interference: Interference = field(default_factory=Interference)
    fading_db: float = 1.0  # standard deviation, anew for every frame and receiver
    decode_width_db: float = 0.5  # scale of the logistic step around the required SNR
    lock_margin_db: float = 1.5  # a preamble is found so much below what its payload needs
    snr_ceiling_db: float = 12.0  # what the demodulator reports at most
    isolation_db: float = 35.0  # between the antennas of one group
    blocking_db: float = (
        75.0  # what a receiver's selectivity takes off a group's transmission off its channel
    )
    false_headers_per_hour: float = 0.0  # noise taken for a header, per receiver that is on
    keep_frames: int = 10_000


@dataclass(eq=False, slots=True)
class Station:
    """A chip with its antenna."""

    chip: Modem
    x_m: float
    y_m: float
    antenna_gain_dbi: float
    group: str | None
    lock: "Lock | None" = None


@dataclass(eq=False, slots=True)
class Link:
    """One frame at one receiver."""

    power_dbm: float
    threshold_db: float  # this draw's distance from the required SNR
    damage_seed: float


@dataclass(eq=False, slots=True)
class Flight:
    """A frame under way. `open` counts who may still change its record."""

    record: FrameRecord
    wave: Waveform
    sender: Station
    end_ns: int
    ending: Event | None = None
    open: int = 1
    others: list["Flight"] = field(default_factory=list)  # every frame that overlaps in time
    links: dict[str, Link] = field(default_factory=dict)

    @property
    def header_start_ns(self) -> int:
        return self.record.start_ns + self.wave.preamble_ns


@dataclass(eq=False, slots=True)
class Lock:
    """A receiver at work on a frame (None: on noise)."""

    flight: Flight | None
    listening: Listening
    event: Event | None = None


class Links:
    """Every pair of a frame and a receiver; what is drawn for it is drawn once, from a source of its own."""

    def __init__(self, kernel: Kernel, settings: AirSettings) -> None:
        self.kernel = kernel
        self.settings = settings
        self._losses: dict[tuple[str, str], float] = {}

    def link(self, flight: Flight, station: Station) -> Link:
        """Power and luck of this frame at this receiver; drawn once, from a source of its own."""
        name = station.chip.name
        link = flight.links.get(name)
        if link is None:
            rng = self.kernel.rng(f"air/{flight.record.number}/{name}")
            power_dbm = flight.record.power_dbm
            if self.share_a_mast(flight.sender, station):
                power_dbm -= self.settings.isolation_db
            else:
                power_dbm -= self._loss_db(flight.sender, station) + rng.gauss(0, self.settings.fading_db)
            luck = min(max(rng.random(), 1e-9), 1 - 1e-9)
            threshold_db = self.settings.decode_width_db * math.log(luck / (1 - luck))
            link = flight.links[name] = Link(power_dbm, threshold_db, rng.random())
        return link

    def _loss_db(self, a: Station, b: Station) -> float:
        """Path loss less antenna gains; the same both ways."""
        first, second = sorted((a, b), key=lambda station: station.chip.name)
        key = (first.chip.name, second.chip.name)
        loss_db = self._losses.get(key)
        if loss_db is None:
            path = self.settings.path_loss
            shadow = self.kernel.rng(f"shadow/{key[0]}/{key[1]}").gauss(0, path.shadowing_db)
            distance_m = math.hypot(a.x_m - b.x_m, a.y_m - b.y_m)
            loss_db = path.loss_db(distance_m) + shadow - a.antenna_gain_dbi - b.antenna_gain_dbi
            self._losses[key] = loss_db
        return loss_db

    @staticmethod
    def share_a_mast(a: Station, b: Station) -> bool:
        return a.group is not None and a.group == b.group

    @staticmethod
    def snr_db(link: Link, wave: Waveform) -> float:
        return link.power_dbm - noise_floor_dbm(wave.modulation.bw_hz)

    @staticmethod
    def needed_db(link: Link, wave: Waveform) -> float:
        return REQUIRED_SNR_DB[wave.modulation.sf] + link.threshold_db

    def disturbance(
        self, flight: Flight, station: Station, start_ns: int, end_ns: int, needed_db: float
    ) -> tuple[Fate, int] | None:
        """What drowned this frame in [start, end), and for how many ns; None where nothing did."""
        if not flight.others:
            return None
        disturbers = [
            d for other in flight.others if (d := self._disturber(flight, other, station)) is not None
        ]
        if not disturbers:
            return None
        link = self.link(flight, station)
        noise_mw = to_mw(noise_floor_dbm(flight.wave.modulation.bw_hz))
        collided, blocked = disturbed_ns(disturbers, start_ns, end_ns, link.power_dbm, noise_mw, needed_db)
        if collided + blocked == 0:
            return None
        return (Fate.COLLIDED if collided else Fate.DEAF), collided + blocked

    def _disturber(self, flight: Flight, other: Flight, station: Station) -> Disturber | None:
        """The other frame as this receiver meets it; None where its selectivity keeps it out."""
        wanted, unwanted = flight.wave.modulation, other.wave.modulation
        power_dbm = self.link(other, station).power_dbm
        if channels_overlap(flight.wave.freq_hz, wanted.bw_hz, other.wave.freq_hz, unwanted.bw_hz):
            threshold_db = self.settings.interference.threshold_db(
                wanted.sf, unwanted.sf, wanted.bw_hz == unwanted.bw_hz
            )
            kind = (unwanted.sf, unwanted.bw_hz)
            return Disturber(other.record.start_ns, other.end_ns, power_dbm, kind, threshold_db)
        if self.share_a_mast(other.sender, station):
            power_dbm -= self.settings.blocking_db
            return Disturber(other.record.start_ns, other.end_ns, power_dbm, None, None)
        return None
