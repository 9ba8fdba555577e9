"""What happened on the air of a world, kept for a while: for those who draw it or print it as it happens."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from hw_sim.records import Fate, FrameRecord, ListeningSpan, NoiseBurst
from hw_sim.statistics import BEST_FIRST
from hw_sim.world import World
from radio.regions import get_region

KEPT: Final = 50_000  # of each kind; about 30 MB
JOIN_REQUEST: Final = 0  # message type in the first byte of a frame


class Kind(StrEnum):
    """Whose frame it is."""

    UPLINK = "uplink"
    JOIN = "join-request"
    DOWNLINK = "downlink"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Module:
    """A gateway's module as the air knows it."""

    name: str
    freq_hz: int
    sf: int
    role: str


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame, what it was, and what became of it: for uplinks at the best module, for downlinks at its device."""

    record: FrameRecord
    kind: Kind
    fate: Fate
    sf: int
    channel_hz: int  # as plans name it; chips tune in 61 Hz steps and drift


@dataclass(slots=True)
class Timeline:
    """Subscribes to a world's records; everything is bounded, the oldest is forgotten."""

    world: World
    frames: deque[Seen] = field(default_factory=lambda: deque(maxlen=KEPT))
    listening: deque[ListeningSpan] = field(default_factory=lambda: deque(maxlen=KEPT))
    noise: deque[NoiseBurst] = field(default_factory=lambda: deque(maxlen=KEPT))
    modules: tuple[Module, ...] = ()
    _channels: set[int] = field(default_factory=set)
    _devices: frozenset[str] = frozenset()
    _watchers: list[Callable[[Seen], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        records = self.world.air.records
        records.observe(self._frame)
        records.listening_observers.append(self.listening.append)
        records.noise_observers.append(self.noise.append)
        self._devices = frozenset(node.config.name for node in self.world.nodes)
        self.modules = tuple(
            Module(name, module.freq_hz, module.sf, module.role)
            for site in self.world.sites
            for name, module in zip(site.chips, site.plan.modules, strict=True)
        ) + tuple(
            Module(site.modems[modem.port].chip.name, modem.freq_hz, modem.sf, modem.role)
            for site in self.world.sites
            for modem in site.plan.rn2483
        )
        self._channels = {module.freq_hz for module in self.modules}
        self._channels.add(get_region(self.world.scenario.region).rx2[0])
        self._channels |= {hz for node in self.world.nodes for hz in node.config.channels_hz}

    def watch(self, fn: Callable[[Seen], None]) -> None:
        """Call `fn` with every frame from now on, once all its fates are known."""
        self._watchers.append(fn)

    def channel(self, freq_hz: int) -> int:
        """The channel a frequency belongs to: a known one within 20 kHz, else the nearest 100 kHz."""
        near = min(self._channels, key=lambda hz: abs(hz - freq_hz), default=0)
        return near if abs(near - freq_hz) <= 20_000 else round(freq_hz, -5)

    def spans(self, receivers: Iterable[str]) -> list[ListeningSpan]:
        """When these listened, receivers that still do included."""
        wanted = set(receivers)
        return [
            span for span in (*self.listening, *self.world.air.listening_spans()) if span.receiver in wanted
        ]

    @property
    def devices(self) -> frozenset[str]:
        return self._devices

    def _frame(self, record: FrameRecord) -> None:
        kind = self._kind(record)
        fates = self._fates(record, kind)
        fate = next((each for each in BEST_FIRST if each in fates), Fate.DEAF)
        seen = Seen(record, kind, fate, record.modulation.sf, self.channel(record.freq_hz))
        self.frames.append(seen)
        for watcher in self._watchers:
            watcher(seen)

    def _kind(self, record: FrameRecord) -> Kind:
        if record.sender in self._devices:
            return Kind.JOIN if record.payload[:1] and record.payload[0] >> 5 == JOIN_REQUEST else Kind.UPLINK
        return Kind.DOWNLINK if any(record.sender == m.name for m in self.modules) else Kind.FOREIGN

    def _fates(self, record: FrameRecord, kind: Kind) -> Sequence[Fate]:
        """At the modules or, of a downlink, at the devices whose window it fell into."""
        if kind is Kind.DOWNLINK:
            return [
                reception.fate
                for name, reception in record.receptions.items()
                if name in self._devices and reception.fate is not Fate.NOT_MATCHED
            ]
        return [record.fate(module.name) for module in self.modules if module.role != "tx"]
