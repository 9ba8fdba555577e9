"""How well each receiver hears each frame: places, power, luck, and what drowns it."""

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import NormalDist
from typing import Final, Protocol

from hw_sim.interference import (
    MIN_SELECTIVITY_DB,
    Disturber,
    Drowned,
    Interference,
    PayloadRule,
    channels_overlap,
    drowned,
    outweighed,
    selectivity_db,
    spectral_share,
)
from hw_sim.kernel import Event, Kernel
from hw_sim.mobility import Way
from hw_sim.modem import Listening, Packet
from hw_sim.phy import Waveform
from hw_sim.propagation import OULU, PathLoss, Place, ShadowField, noise_floor_dbm, to_dbm, to_mw
from hw_sim.records import Fate, FrameRecord
from radio.lora import REQUIRED_SNR_DB

FELT_FROM_DB: Final = -15.0  # what stays so far below the noise is left out: it adds 0.14 dB to it
_NORMAL: Final = NormalDist()
_UNIT: Final = 1 / (1 << 64)


class Fading(StrEnum):
    """How the power of one frame differs from the next one's."""

    LOGNORMAL = "lognormal"  # `fading_db` is its deviation
    RAYLEIGH = "rayleigh"  # many reflections and no line of sight: exponential power


@dataclass(frozen=True, slots=True)
class AirSettings:
    """What the air does to signals. Every draw comes from the kernel's seed."""

    path_loss: PathLoss = OULU
    interference: Interference = field(default_factory=Interference)
    fading: Fading = Fading.LOGNORMAL
    fading_db: float = 1.0  # standard deviation, anew for every frame and receiver
    shadowing_m: float = 50.0  # how far apart two places are whose shadows differ (correlation 1/e)
    shadowing_s: float = 0.0  # how long a shadow lasts (correlation 1/e); 0: for ever
    decode_width_db: float = 0.5  # scale of the logistic step around the required SNR
    lock_margin_db: float = 1.5  # a preamble is found so much below what its payload needs
    snr_ceiling_db: float = 12.0  # what the demodulator reports at most
    isolation_db: float = 35.0  # between the antennas of one group
    selectivity_db: float = 73.0  # what a signal 1 MHz beside the channel loses
    # Above this a signal on any channel compresses the amplifier (IIP3 less 10 dB)
    blocking_dbm: float = -21.0
    # Noise taken for a header, per receiver that listens at SF7 and 125 kHz
    false_headers_per_hour: float = 0.0
    loss: float = 0.0  # share of frames that arrive damaged, at every receiver alike
    keep_frames: int = 10_000


class Receiver(Protocol):
    """What the air asks and tells whatever listens: a chip, or one demodulator of many."""

    listening: Listening | None

    def preamble_locked(self) -> None: ...
    def lock_lost(self) -> None: ...
    def header_received(self, length: int, coding_rate: int) -> bool: ...
    def rx_done_latency_ns(self) -> int: ...
    def packet_received(self, packet: Packet) -> None: ...


class Bank(Protocol):
    """Many receivers behind one antenna, as a concentrator has them; any frame concerns one of them at most."""

    station: "Station"  # its antenna, which sends; it listens for nothing that exists

    def stations(self) -> "Iterable[Station]":
        """Those of its receivers that have been needed so far."""
        ...

    def station_for(self, wave: Waveform) -> "Station":
        """The one that waits for such a frame, or `station`."""
        ...

    def has_room(self, station: "Station") -> bool:
        """Whether that one may take up a frame: demodulators are fewer than channels and spreading factors."""
        ...


@dataclass(eq=False, slots=True)
class Antenna:
    """What sends from a place: a chip, or a source of noise."""

    name: str
    x_m: float = 0.0
    y_m: float = 0.0
    antenna_gain_dbi: float = 0.0
    group: str | None = None
    way: Way | None = None

    def place(self, t_s: float) -> Place:
        """Where it is."""
        return (self.x_m, self.y_m) if self.way is None else self.way.at(t_s)

    @property
    def site(self) -> str:
        """What it shares its place with."""
        return self.group or self.name


@dataclass(eq=False, slots=True)
class Station(Antenna):
    """An antenna with a chip behind it, which may listen."""

    chip: Receiver = field(kw_only=True)
    lock: "Lock | None" = None
    since_ns: int = 0  # when its receiver went on
    bank: Bank | None = None  # what it is one of


@dataclass(eq=False, slots=True)
class Link:
    """One frame at one receiver."""

    power_dbm: float
    threshold_db: float  # this draw's distance from the required SNR
    damage_seed: float


@dataclass(eq=False, slots=True)
class Burst:
    """Noise under way, flat over its bandwidth."""

    number: int
    sender: Antenna
    start_ns: int
    end_ns: int
    freq_hz: float
    bw_hz: int
    power_dbm: float
    links: dict[str, float] = field(default_factory=dict)  # what arrives, by receiver


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
    bursts: list[Burst] = field(default_factory=list)  # all noise that does
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
        shadows = settings.path_loss.shadowing_db > 0
        rng = kernel.rng("air/shadows")
        self._shadows = ShadowField(rng, settings.shadowing_m, settings.shadowing_s) if shadows else None

    def link(self, flight: Flight, station: Station) -> Link:
        """Power and luck of this frame at this receiver; drawn once, from a source of its own."""
        name = station.name
        link = flight.links.get(name)
        if link is None:
            fade, luck, damage = self._draws(f"{flight.record.number}/{name}")
            power_dbm = flight.record.power_dbm
            if self.share_a_mast(flight.sender, station):
                power_dbm -= self.settings.isolation_db
            else:
                power_dbm -= self._loss_db(flight.sender, station, flight.record.start_ns)
                power_dbm += self._fade_db(fade)
            threshold_db = self.settings.decode_width_db * math.log(luck / (1 - luck))
            link = flight.links[name] = Link(power_dbm, threshold_db, damage)
        return link

    def destroyed(self, flight: Flight) -> bool:
        """Is this one of the frames that nobody is to get?"""
        if not self.settings.loss:
            return False
        draw, _, _ = self._draws(f"loss/{flight.record.number}")
        return draw < self.settings.loss

    def _draws(self, what: str) -> tuple[float, float, float]:
        """Three numbers between 0 and 1, both excluded, that belong to `what` in this run."""
        digest = hashlib.blake2b(f"{self.kernel.seed}/air/{what}".encode(), digest_size=24).digest()
        first, second, third = (int.from_bytes(digest[i : i + 8]) for i in (0, 8, 16))
        floor, scale = 1e-9, (1 - 2e-9) * _UNIT
        return floor + first * scale, floor + second * scale, floor + third * scale

    def _fade_db(self, draw: float) -> float:
        if self.settings.fading is Fading.RAYLEIGH:
            return to_dbm(-math.log(draw))
        return _NORMAL.inv_cdf(draw) * self.settings.fading_db

    def _loss_db(self, a: Antenna, b: Antenna, t_ns: int) -> float:
        """Path loss less antenna gains; the same both ways."""
        still = a.way is None and b.way is None and not self.settings.shadowing_s
        key = (a.name, b.name)
        if still and key in self._losses:
            return self._losses[key]
        path, t_s = self.settings.path_loss, t_ns / 1e9
        first, second = (a, b) if a.site < b.site else (b, a)
        places = first.place(t_s), second.place(t_s)
        loss_db = path.loss_db(math.dist(*places)) - a.antenna_gain_dbi - b.antenna_gain_dbi
        if self._shadows is not None:
            loss_db += path.shadowing_db * self._shadows.at(*places, t_s)
        if still:
            self._losses[key] = loss_db
        return loss_db

    @staticmethod
    def share_a_mast(a: Antenna, b: Antenna) -> bool:
        return a.group is not None and a.group == b.group

    @staticmethod
    def snr_db(link: Link, wave: Waveform) -> float:
        return link.power_dbm - noise_floor_dbm(wave.modulation.bw_hz)

    @staticmethod
    def needed_db(link: Link, wave: Waveform) -> float:
        return REQUIRED_SNR_DB[wave.modulation.sf] + link.threshold_db

    # -- what drowns it ------------------------------------------------------------------------------

    def disturbance(
        self, flight: Flight, station: Station, start_ns: int, end_ns: int, needed_db: float
    ) -> tuple[Fate, int] | None:
        """What drowned this frame in [start, end), and for how many ns; None where nothing did."""
        disturbers = self._disturbers(flight, station)
        if not disturbers:
            return None
        link = self.link(flight, station)
        noise_mw = to_mw(noise_floor_dbm(flight.wave.modulation.bw_hz))
        lost = drowned(disturbers, start_ns, end_ns, link.power_dbm, noise_mw, needed_db)
        return None if lost.total_ns == 0 else (_fate(lost), lost.total_ns)

    def payload_survives(self, flight: Flight, station: Station, start_ns: int, needed_db: float) -> bool:
        """Whether others leave the payload, which begins at `start_ns`, intact."""
        disturbers = self._disturbers(flight, station)
        if not disturbers:
            return True
        rules, end_ns = self.settings.interference, flight.end_ns
        power_dbm = self.link(flight, station).power_dbm
        noise_mw = to_mw(noise_floor_dbm(flight.wave.modulation.bw_hz))
        lost = drowned(disturbers, start_ns, end_ns, power_dbm, noise_mw, needed_db)
        tolerated_ns = rules.payload_symbols * flight.wave.symbol_ns
        if rules.payload_rule is PayloadRule.ENERGY:
            from_ns = flight.record.start_ns
            return lost.jammed_ns + lost.blocked_ns <= tolerated_ns and not outweighed(
                disturbers, from_ns, end_ns, power_dbm
            )
        return lost.total_ns <= tolerated_ns

    def strangers_mw(
        self, flights: list[Flight], bursts: list[Burst], station: Station, freq_hz: float, bw_hz: int
    ) -> float:
        """The power of everything on the air that a receiver finds in a channel."""
        level = 0.0
        for flight in flights:
            if flight.sender is station:
                continue
            power_dbm = self.link(flight, station).power_dbm
            other = flight.wave
            if channels_overlap(other.freq_hz, other.modulation.bw_hz, freq_hz, bw_hz):
                level += to_mw(power_dbm)
            elif (leak := self._leak_dbm(power_dbm, other.freq_hz - freq_hz, bw_hz)) is not None:
                level += to_mw(leak)
        for burst in bursts:
            if (noise := self._noise_dbm(burst, station, freq_hz, bw_hz)) is not None:
                level += to_mw(noise)
        return level

    def _disturbers(self, flight: Flight, station: Station) -> list[Disturber]:
        return list(self._each_disturber(flight, station)) if flight.others or flight.bursts else []

    def _each_disturber(self, flight: Flight, station: Station) -> Iterator[Disturber]:
        """Other frames and noise as this receiver meets them, without what its selectivity keeps out."""
        freq_hz, wanted = flight.wave.freq_hz, flight.wave.modulation
        for other in flight.others:
            unwanted = other.wave.modulation
            power_dbm = self.link(other, station).power_dbm
            start_ns, end_ns = other.record.start_ns, other.end_ns
            if channels_overlap(freq_hz, wanted.bw_hz, other.wave.freq_hz, unwanted.bw_hz):
                threshold_db = self.settings.interference.threshold_db(
                    wanted.sf, unwanted.sf, wanted.bw_hz == unwanted.bw_hz
                )
                kind = (unwanted.sf, unwanted.bw_hz)
                yield Disturber(start_ns, end_ns, power_dbm, kind, threshold_db)
            elif (leak := self._leak_dbm(power_dbm, other.wave.freq_hz - freq_hz, wanted.bw_hz)) is not None:
                yield Disturber(start_ns, end_ns, leak, None, None)
        for burst in flight.bursts:
            if (noise := self._noise_dbm(burst, station, freq_hz, wanted.bw_hz)) is not None:
                yield Disturber(burst.start_ns, burst.end_ns, noise, None, None, jams=True)

    def _leak_dbm(self, power_dbm: float, offset_hz: float, bw_hz: int) -> float | None:
        """What a signal beside the channel does to it, as noise; None where that is nothing.

        Its phase noise and the receiver's own reach into the channel, and a very strong one compresses the
        amplifier: each decibel above the blocking level costs one of sensitivity.
        """
        floor_dbm = noise_floor_dbm(bw_hz)
        if power_dbm - MIN_SELECTIVITY_DB < floor_dbm + FELT_FROM_DB:
            return None
        leak_dbm = power_dbm - selectivity_db(offset_hz, self.settings.selectivity_db)
        if power_dbm > self.settings.blocking_dbm:
            rise = to_mw(power_dbm - self.settings.blocking_dbm) - 1
            return to_dbm(to_mw(leak_dbm) + to_mw(floor_dbm) * rise)
        return leak_dbm if leak_dbm >= floor_dbm + FELT_FROM_DB else None

    def _noise_dbm(self, burst: Burst, station: Station, freq_hz: float, bw_hz: int) -> float | None:
        """What a burst of noise puts into a channel; None where that is nothing."""
        power_dbm = burst.links.get(station.name)
        if power_dbm is None:
            power_dbm = burst.power_dbm - self._loss_db(burst.sender, station, burst.start_ns)
            fade, _, _ = self._draws(f"{burst.sender.name}/{burst.number}/{station.name}")
            power_dbm = burst.links[station.name] = power_dbm + self._fade_db(fade)
        share = spectral_share(freq_hz, bw_hz, burst.freq_hz, burst.bw_hz)
        if share:
            return power_dbm + to_dbm(share)
        return self._leak_dbm(power_dbm, burst.freq_hz - freq_hz, bw_hz)


def _fate(lost: Drowned) -> Fate:
    """What to call it: frames first, then noise, then the own mast."""
    if lost.collided_ns:
        return Fate.COLLIDED
    return Fate.JAMMED if lost.jammed_ns >= lost.blocked_ns else Fate.DEAF
