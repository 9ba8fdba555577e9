"""The tables of a scenario file, as TOML spells them: types, ranges and defaults, one class a section."""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from hw_sim.gnss import GnssTable
from hw_sim.rn2483 import Rn2483Table

MAX_NODES: Final = 10_000
MAX_GATEWAYS: Final = 16

Seconds = Annotated[float, Meta(ge=0, le=31_536_000)]
Span = Annotated[list[Annotated[float, Meta(ge=0, le=86_400)]], Meta(min_length=2, max_length=2)]
Ppm = Annotated[float, Meta(ge=-1000, le=1000)]
PpmOrSpan = Ppm | Annotated[list[Ppm], Meta(min_length=2, max_length=2)]
Metres = Annotated[float, Meta(ge=-1e6, le=1e6)]
Point = Annotated[list[Metres], Meta(min_length=2, max_length=2)]
Name = Annotated[str, Meta(pattern=r"^[\w.-]{1,48}$")]


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class AirTable(_Table, frozen=True, kw_only=True):
    """Between the antennas."""

    path_loss: Literal["oulu", "bor", "ns3"] = "oulu"
    shadowing_db: Annotated[float, Meta(ge=0, le=30)] | None = None  # in place of the path loss's own
    shadowing_m: Annotated[float, Meta(ge=1, le=10_000)] = 50.0
    shadowing_s: Seconds = 0.0
    fading: Literal["lognormal", "rayleigh"] = "lognormal"
    fading_db: Annotated[float, Meta(ge=0, le=20)] = 1.0  # standard deviation, per frame and receiver
    interference: Literal["croce", "goursaud", "lorasim", "aloha", "none"] = "croce"
    isolation_db: Annotated[float, Meta(ge=0, le=120)] = 35.0  # between a gateway's antennas
    selectivity_db: Annotated[float, Meta(ge=0, le=150)] = 73.0
    blocking_dbm: Annotated[float, Meta(ge=-120, le=30)] = -21.0
    false_headers_per_hour: Annotated[float, Meta(ge=0, le=1000)] = 0.0
    loss: Annotated[float, Meta(ge=0, le=1)] = 0.0  # share of all frames that arrive damaged


class ConcentratorTable(_Table, frozen=True, kw_only=True):
    """In place of modules: eight channels at once (`hw_sim.concentrator`)."""

    channels_hz: Annotated[list[int], Meta(max_length=8)] = []  # none: those usual in the region
    sub_band: Annotated[int, Meta(ge=1, le=12)] = 2  # of a fixed plan, as networks count them
    demodulators: Annotated[int, Meta(ge=1, le=64)] = 16
    full_duplex: bool = False
    gnss: bool = False  # its frames carry GPS time, and it sends by it
    counter_ppm: Ppm = 0.0


class ModuleTable(_Table, frozen=True, kw_only=True):
    """One module of a gateway, named as in its configuration."""

    board: str = "fluxgate-sim-4"
    index: Annotated[int, Meta(ge=0, le=7)] = 0
    freq_hz: int = 868_100_000
    sf: Annotated[int, Meta(ge=6, le=12)] = 7
    bw_hz: Literal[125000, 250000, 500000] = 125000
    role: Literal["rx", "tx", "rxtx"] = "rxtx"
    crystal_ppm: Ppm = 0.0


class GatewayTable(_Table, frozen=True, kw_only=True):
    """Where a gateway stands and what it hears with."""

    name: Name = "gateway"
    x_m: Metres = 0.0
    y_m: Metres = 0.0
    antenna_gain_dbi: Annotated[float, Meta(ge=-10, le=20)] = 0.0
    module: Annotated[list[ModuleTable], Meta(max_length=8)] = []
    rn2483: Annotated[list[Rn2483Table], Meta(max_length=4)] = []
    concentrator: ConcentratorTable | None = None
    gnss: GnssTable | None = None


class NodeTable(_Table, frozen=True, kw_only=True):
    """One device, or `count` of a kind."""

    count: Annotated[int, Meta(ge=1, le=MAX_NODES)] = 1
    name: Name = "node"  # with a number where there are several
    version: Literal["1.0.0", "1.0.1", "1.0.2", "1.0.3", "1.0.4", "1.1"] = "1.0.3"
    device_class: Literal["A", "B", "C"] = msgspec.field(default="A", name="class")
    region: str = ""  # another than the scenario's: a device that was sent to the wrong country
    multicast: list[str] = []  # groups it belongs to
    activation: Literal["otaa", "abp"] = "otaa"
    dev_eui: str = ""
    join_eui: str = "0000000000000000"
    app_key: str = ""
    nwk_key: str = ""  # of 1.1
    dev_addr: str = ""
    nwk_s_key: str = ""  # of 1.1: FNwkSIntKey
    s_nwk_s_int_key: str = ""  # of 1.1, as the next one
    nwk_s_enc_key: str = ""
    app_s_key: str = ""
    dev_nonce: Literal["random", "counter"] | None = None  # as the version has it
    x_m: Metres | None = None  # of one device; several are placed at random
    y_m: Metres | None = None
    radius_m: Annotated[float, Meta(gt=0, le=50_000)] = 500.0
    way_m: list[Point] = []  # or on its way through these points
    speed_m_s: Annotated[float, Meta(gt=0, le=1000)] = 1.4
    at_end: Literal["stay", "return", "circle"] = "return"
    leaves_s: Span = msgspec.field(default_factory=lambda: [0.0, 0.0])
    appears_s: Seconds = 0.0
    vanishes_s: Seconds | None = None
    power_losses_s: Annotated[list[Seconds], Meta(max_length=1000)] = []
    faults: list[str] = []
    sf: Annotated[int, Meta(ge=7, le=12)] = 7
    bw_hz: Literal[125000, 250000, 500000] = 125000
    adr: bool = True
    channels_hz: list[int] = []
    first_s: Span = msgspec.field(default_factory=lambda: [1.0, 8.0])
    interval_s: Span = msgspec.field(default_factory=lambda: [20.0, 30.0])
    burst: Annotated[int, Meta(ge=1, le=100)] = 1
    burst_gap_s: Span = msgspec.field(default_factory=lambda: [0.5, 1.0])
    confirmed_share: Annotated[float, Meta(ge=0, le=1)] = 0.0
    fport: Annotated[int, Meta(ge=1, le=223)] = 1
    sensors: list[str] = msgspec.field(default_factory=lambda: ["temperature", "humidity"])
    link_check_every: Annotated[int, Meta(ge=0)] = 0
    time_every: Annotated[int, Meta(ge=0)] = 0
    rejoin_every_s: Annotated[float, Meta(gt=0, le=31_536_000)] | None = None
    periodicity: Annotated[int, Meta(ge=0, le=7)] = 0
    rx_error_ms: float = 10.0
    rx_late_ms: Annotated[float, Meta(ge=-500, le=500)] = 0.0
    clock_ppm: PpmOrSpan = 0.0  # of several devices: each its own between two numbers
    clock_ppm_per_c: Ppm = 0.0
    clock_ppm_per_c2: Annotated[float, Meta(ge=-1, le=1)] = 0.0
    clock_ppm_per_day: Ppm = 0.0
    crystal_ppm: PpmOrSpan = 0.0
    crystal_ppm_per_c: Ppm = 0.0
    temperature_c: Annotated[float, Meta(ge=-60, le=120)] = 25.0
    temperature_swing_c: Annotated[float, Meta(ge=0, le=60)] = 0.0


class MulticastTable(_Table, frozen=True, kw_only=True):
    """A group: one address and one pair of keys for many devices."""

    name: Name
    dev_addr: str = ""
    nwk_s_key: str = ""
    app_s_key: str = ""
    periodicity: Annotated[int, Meta(ge=0, le=7)] | None = None  # of class B; none: class C


class DownlinkTable(_Table, frozen=True, kw_only=True):
    """Downlinks that an application orders."""

    at_s: Seconds
    every_s: Annotated[float, Meta(gt=0, le=31_536_000)] | None = None
    until_s: Seconds | None = None
    nodes: str = "*"  # their names, with * and ?; or ...
    multicast: str = ""  # ... the group
    fport: Annotated[int, Meta(ge=1, le=223)] = 2
    payload: Annotated[str, Meta(pattern=r"^([0-9A-Fa-f]{2}){0,242}$")] = "01"
    confirmed: bool = False


class InterferenceTable(_Table, frozen=True, kw_only=True):
    """Somebody else on the air: noise, or LoRa frames of a foreign network."""

    name: Name = "interference"
    kind: Literal["noise", "lora"] = "noise"
    x_m: Metres = 500.0
    y_m: Metres = 0.0
    power_dbm: Annotated[float, Meta(ge=-30, le=60)] = 14.0
    freq_hz: Annotated[int, Meta(ge=100_000_000, le=1_100_000_000)] = 868_100_000
    bw_hz: Annotated[int, Meta(ge=1_000, le=50_000_000)] = 125_000
    sf: Annotated[int, Meta(ge=7, le=12)] = 7  # of foreign frames
    size: Annotated[int, Meta(ge=1, le=255)] = 23
    from_s: Seconds = 0.0
    until_s: Seconds | None = None
    on_s: Span | Seconds = 1.0  # noise: so long ...
    off_s: Span | Seconds = 9.0  # ... then silent so long; at random between two numbers


class BurstTable(_Table, frozen=True, kw_only=True):
    """Something happens that many devices report at once."""

    at_s: Seconds
    nodes: str = "*"  # their names, with * and ?
    within_s: Seconds = 1.0


class FaultTable(_Table, frozen=True, kw_only=True):
    """A defect of a module's chip, wires or supply."""

    at_s: Seconds
    module: str = "*"  # its name, with * and ?
    kind: str = ""
    for_s: Annotated[float, Meta(gt=0, le=86_400)] = 0.5
    every_s: Annotated[float, Meta(gt=0, le=31_536_000)] | None = None  # again and again
    until_s: Seconds | None = None


class ScenarioTable(_Table, frozen=True, kw_only=True):
    """The whole file."""

    title: str = ""
    seed: Annotated[int, Meta(ge=0, le=1 << 53)] = 0
    region: str = "EU868"
    duration_s: Annotated[float, Meta(gt=0, le=31_536_000)] = 600.0
    air: AirTable = AirTable()
    gateway: GatewayTable | list[GatewayTable]
    nodes: Annotated[list[NodeTable], Meta(min_length=1)]
    interference: Annotated[list[InterferenceTable], Meta(max_length=100)] = []
    multicast: Annotated[list[MulticastTable], Meta(max_length=100)] = []
    downlinks: Annotated[list[DownlinkTable], Meta(max_length=1000)] = []
    bursts: Annotated[list[BurstTable], Meta(max_length=1000)] = []
    faults: Annotated[list[FaultTable], Meta(max_length=1000)] = []
    expect: dict[str, Any] = {}
