"""The messages of the Basics Station LNS protocol, version 2, as values. `codec` reads and writes their JSON."""

from typing import Any, Final

import msgspec

PROTOCOL: Final = 2
MAX_MESSAGE: Final = 64 << 10  # bytes; a router_config has 3 KB, a frame 1 KB
CLASS_A, CLASS_B, CLASS_C = 0, 1, 2
MAX_DR: Final = 15


class Discovery(msgspec.Struct, frozen=True):
    """What a concentrator asks at /router-info."""

    router: bytes


class DiscoveryAnswer(msgspec.Struct, frozen=True):
    """Where the concentrator is to connect, or why it may not."""

    router: bytes
    muxs: bytes
    uri: str = ""
    error: str = ""


class Version(msgspec.Struct, frozen=True):
    """The first message of a concentrator."""

    station: str = ""
    firmware: str = ""
    package: str = ""
    model: str = ""
    protocol: int = 0
    features: str = ""


class Uplink(msgspec.Struct, frozen=True, gc=False):
    """A frame that a concentrator has heard."""

    phy: bytes
    dr: int
    freq_hz: int
    rctx: int  # opaque: comes back in the answer
    xtime: int  # as well
    rssi_dbm: float
    snr_db: float
    gpstime_us: int = 0  # 0: the concentrator has no GPS time
    rxtime_s: float = 0.0  # UTC by the concentrator's clock; 0: unknown
    ref_time_s: float = 0.0  # MuxTime of the last message from the server plus what has passed since; 0: none
    fts: int = -1  # fine time stamp, ns in the PPS second


class Sent(msgspec.Struct, frozen=True):
    """`dntxed`: a downlink is on the air."""

    diid: int
    dev_eui: bytes
    rctx: int = 0
    xtime: int = 0
    txtime_s: float = 0.0
    gpstime_us: int = 0
    dr: int | None = None
    freq_hz: int | None = None


class TimeSyncRequest(msgspec.Struct, frozen=True):
    """A concentrator asks what GPS time it is; `txtime` is its own clock and goes back unchanged."""

    txtime: int | float


class TimeSync(msgspec.Struct, frozen=True):
    """A server's word on time: the answer to a request, or, with `xtime`, a transfer of its own accord."""

    txtime: int | float | None = None
    xtime: int | None = None
    gpstime_us: int | None = None
    mux_time_s: float | None = None


class DataRate(msgspec.Struct, frozen=True):
    """One row of a router_config's DRs."""

    sf: int  # 7..12; 0 is FSK
    bw_khz: int
    down_only: bool = False


class Channel(msgspec.Struct, frozen=True):
    """An uplink channel with its range of data rates."""

    freq_hz: int
    min_dr: int
    max_dr: int


class RouterConfig(msgspec.Struct, frozen=True):
    """How a server wants a concentrator to be set up."""

    region: str
    hwspec: str
    freq_range_hz: tuple[int, int]
    data_rates: tuple[DataRate | None, ...]  # by number; None is one that is not used
    channels: tuple[Channel, ...] = ()
    net_ids: tuple[int, ...] | None = None  # leading seven bits of the DevAddr that are wanted; None: all
    join_euis: tuple[tuple[int, int], ...] | None = None  # ranges that are wanted; None: all
    max_eirp_dbm: float | None = None
    sx1301_conf: tuple[dict[str, Any], ...] = ()
    mux_time_s: float | None = None


class Order(msgspec.Struct, frozen=True):
    """`dnmsg`: a downlink to be sent."""

    dev_eui: bytes
    device_class: int  # CLASS_A, CLASS_B, CLASS_C
    diid: int
    pdu: bytes
    rctx: int = 0
    xtime: int = 0  # of the uplink that is answered; 0: none
    rx_delay_s: int = 1  # 1..15, from xtime to RX1
    rx1: tuple[int, int] | None = None  # (dr, freq_hz)
    rx2: tuple[int, int] | None = None
    ping: tuple[int, int] | None = None  # class B: (dr, freq_hz) at gpstime_us
    gpstime_us: int = 0
    priority: int = 0  # 0..255
    mux_time_s: float | None = None


class Scheduled(msgspec.Struct, frozen=True):
    """One frame of a `dnsched`: for many devices, at a time, with no report."""

    pdu: bytes
    dr: int
    freq_hz: int
    rctx: int = 0
    xtime: int = 0
    gpstime_us: int = 0
    priority: int = 0


class Schedule(msgspec.Struct, frozen=True):
    """`dnsched`."""

    frames: tuple[Scheduled, ...]
    mux_time_s: float | None = None


class Other(msgspec.Struct, frozen=True):
    """A message of a kind that is not served; only its kind is kept."""

    msgtype: str


UpMessage = Version | Uplink | Sent | TimeSyncRequest | Other
DownMessage = RouterConfig | Order | Schedule | TimeSync | Other
