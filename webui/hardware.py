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

    @property
    def worst(self) -> int | None:
        """The value that lies furthest from 0, without its sign."""
        found = [abs(value) for value in (self.min, self.max) if value is not None]
        return max(found, default=None)

    def within(self, share: float) -> int | None:
        """A distance from 0, either way, that holds this share of the values; the worst where no bound does."""
        lows = [self.min or 0, *self.bounds]
        highs = [*self.bounds, self.max or 0]
        apart = sorted(
            (max(abs(low), abs(high)) if low < 0 else abs(high), here)
            for low, high, here in zip(lows, highs, self.counts, strict=False)
            if here
        )
        so_far = 0
        for distance, here in apart:
            so_far += here
            if so_far >= share * self.count:
                return distance
        return self.worst


class Span(msgspec.Struct, frozen=True):
    """Milliseconds."""

    worst: float = 0.0


class SweepCounts(msgspec.Struct, frozen=True):
    """What came of the looks for one spreading factor."""

    detections: int = 0
    frames: int = 0
    hit_rate: float | None = None  # frames of detections; None while there was no detection


class Sweep(msgspec.Struct, frozen=True):
    """Listening for several spreading factors in turn."""

    sfs: list[int] = []
    per_sf: dict[str, SweepCounts] = {}


class Capabilities(msgspec.Struct, frozen=True):
    """What a serial module can do, where that differs from a chip's."""

    timestamps: str = ""
    frequency_error: bool = True
    crc_told: bool = True
    min_lead_us: int | None = None  # the shortest notice of a downlink
    deaf: str = ""  # when, in words


class RadioModule(msgspec.Struct, frozen=True):
    name: str = ""
    kind: str = "sx127x"
    role: str = "rxtx"
    freq_hz: int = 0
    datr: str = ""
    state: str = ""
    fault: str = ""  # why it is down; empty while it works
    degraded: str = ""  # what does not work as it should while the module works
    scanning: bool = False
    realtime: bool = True
    model: str = ""  # as a serial module tells it
    backend: str = ""  # what carries its edges
    queued: int = 0
    received: int = 0
    crc_bad: int = 0
    sent: int = 0
    late: int = 0
    not_sent: int = 0
    faults: int = 0
    faults_by_kind: dict[str, int] = {}
    recovered: int | None = None  # of all faults
    recovery_ms: Span = Span()
    sweep: Sweep | None = None
    capabilities: Capabilities | None = None
    start_error_us: Histogram = Histogram()
    slack_us: Histogram = Histogram()


class SubBand(msgspec.Struct, frozen=True):
    """A part of the band with its time on air in an hour."""

    min_hz: int = 0
    max_hz: int = 0
    used_us: int = 0
    budget_us: int | None = None  # None: no limit
    allowed_in_ms: dict[str, int | None] = {}  # by time on air in ms; None: never


class ListenFirst(msgspec.Struct, frozen=True):
    """Listen before talk, where the law asks for it."""

    threshold_dbm: float = 0.0
    listen_us: int = 0
    busy: int = 0
    deferred: int = 0


class LastRefusal(msgspec.Struct, frozen=True):
    """A downlink that the radio did not take."""

    at_ns: int = 0  # of the radio's monotonic clock
    kind: str = ""
    reason: str = ""


class Ledger(msgspec.Struct, frozen=True):
    """Where the time on air is written down."""

    survives_restart: bool = True
    fault: str = ""


class Regulation(msgspec.Struct, frozen=True):
    region: str = ""
    dwell_us: int | None = None  # the longest transmission; None: no limit
    lbt: ListenFirst | None = None
    refused: dict[str, int] = {}
    last_refusals: list[LastRefusal] = []  # oldest first
    ledger: Ledger = Ledger()


class Server(msgspec.Struct, frozen=True):
    """A network server that frames go to."""

    name: str = ""
    kind: str = "gwmp"
    host: str = ""
    connected: bool = False
    since_s: float | None = None  # how long it has been so
    trouble: str = ""  # of the last attempt, in words
    acked_percent: float | None = None
    forwarded: int = 0
    filtered: int = 0
    not_wanted: int = 0  # frames outside the channels it asked for
    waiting: int = 0
    dropped: int = 0
    downlinks_refused: int = 0
    join_conflicts: int = 0
    channels_not_heard: int = 0


class Realtime(msgspec.Struct, frozen=True):
    """What the operating system gave of what precise downlinks need."""

    priority: bool = True
    advice: list[str] = []


class LatencyRow(msgspec.Struct, frozen=True):
    datr: str = ""


class Calibration(msgspec.Struct, frozen=True):
    """Where the delays of the modules are known from."""

    source: str = ""  # measured table
    modules: list[str] = []
    utc_s: int | None = None
    table: list[LatencyRow] = []
    rejected: list[str] = []


class Receiver(msgspec.Struct, frozen=True):
    """A GNSS receiver."""

    state: str = ""  # silent cold fix lost suspect
    reason: str = ""  # why it is not believed
    fault: str = ""  # why its port is not open
    satellites: int | None = None
    hdop: float | None = None
    dimensions: int | None = None
    pps: str | None = None  # what carries the edges of its pulse; None: no pulse is watched
    pps_age_s: float | None = None


class Position(msgspec.Struct, frozen=True):
    latitude: float = 0.0
    longitude: float = 0.0
    altitude_m: float | None = None


class Time(msgspec.Struct, frozen=True):
    quality: str = ""  # gnss ntp unset
    error_us: float | None = None
    ppm: float | None = None  # by how much the machine's crystal runs fast


class Hardware(msgspec.Struct, frozen=True):
    reachable: bool = False
    problem: str = ""
    mono_ns: int = 0  # of the radio's clock, when all this was so
    realtime: Realtime = Realtime()
    modules: list[RadioModule] = []
    duty_cycle: list[SubBand] = []
    regulation: Regulation = Regulation()
    servers: list[Server] = []
    calibration: Calibration = Calibration()
    gnss: Receiver | None = None
    position: Position | None = None
    time: Time = Time()


class ScanPoint(msgspec.Struct, frozen=True):
    freq_hz: int
    rssi_dbm: float
    peak_dbm: float


class Scan(msgspec.Struct, frozen=True):
    module: str = ""
    points: list[ScanPoint] = []
    waited_ms: float = 0.0
    frames_spared: int = 0
