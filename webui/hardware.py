"""The radio process of this machine as the pages see it: modules, time on air, servers, and a scanned band.

As everything from the API: unknown fields are ignored, missing ones have defaults.
"""

from __future__ import annotations

import msgspec


class Histogram(msgspec.Struct, frozen=True):
    """How many values were at most each bound; the last count is of those above them all."""

    unit: str = ""
    bounds: list[int] = []
    counts: list[int] = []
    count: int = 0
    min: int | None = None
    max: int | None = None

    def within(self, share: float) -> int | None:
        """The smallest bound that holds this share of the values; the largest value where none does."""
        needed, so_far = share * self.count, 0
        for bound, here in zip(self.bounds, self.counts, strict=False):
            so_far += here
            if self.count and so_far >= needed:
                return bound
        return self.max


class RadioModule(msgspec.Struct, frozen=True):
    name: str
    kind: str = "sx127x"
    role: str = "rxtx"
    freq_hz: int = 0
    datr: str = ""
    state: str = ""
    fault: str = ""  # why it is down; empty while it works
    backend: str = ""  # what carries its edges
    queued: int = 0
    received: int = 0
    crc_bad: int = 0
    sent: int = 0
    late: int = 0
    not_sent: int = 0
    faults: int = 0
    faults_by_kind: dict[str, int] = {}
    start_error_us: Histogram = Histogram()
    slack_us: Histogram = Histogram()


class SubBand(msgspec.Struct, frozen=True):
    """A part of the band with its time on air in an hour."""

    min_hz: int
    max_hz: int
    used_us: int = 0
    budget_us: int | None = None  # None: no limit


class Server(msgspec.Struct, frozen=True):
    """A network server that frames go to."""

    name: str
    kind: str = "gwmp"
    connected: bool = False
    forwarded: int = 0
    filtered: int = 0


class Hardware(msgspec.Struct, frozen=True):
    reachable: bool = False
    problem: str = ""
    modules: list[RadioModule] = []
    duty_cycle: list[SubBand] = []
    servers: list[Server] = []


class ScanPoint(msgspec.Struct, frozen=True):
    freq_hz: int
    rssi_dbm: float
    peak_dbm: float


class Scan(msgspec.Struct, frozen=True):
    module: str = ""
    points: list[ScanPoint] = []
    waited_ms: float = 0.0
    frames_spared: int = 0
