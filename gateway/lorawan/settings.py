"""How the network is run: the choices a gateway's owner has beyond the region's fixed values."""

from __future__ import annotations

from dataclasses import dataclass

STATUS_INTERVAL_S = 24 * 3600  # battery and margin change slowly, downlinks are scarce


@dataclass(frozen=True, slots=True)
class Listener:
    """A radio module that hears one channel, at one spreading factor or at a few by turns."""

    freq_hz: int
    sfs: tuple[int, ...]
    bw_hz: int = 125_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Raises ValueError for a value outside its range."""

    rx1_delay_s: int = 1  # 1..15; more where the backhaul is slow
    rx1_dr_offset: int = 0
    rx2_dr: int | None = None  # None: the region's
    rx2_freq_hz: int | None = None  # None: the region's; devices learn another one by RXParamSetupReq
    max_eirp_dbm: float | None = None  # of downlinks; None: the region's; the sub-band limits it further
    # The radio keeps downlinks below the region's dwell limit: plan for shorter ones
    limit_dwell: bool = False
    cflist_hz: tuple[int, ...] = ()  # up to five further uplink channels, in regions where they can be added
    uplink_channels: tuple[int, ...] | None = None  # indices to steer devices to; None: all
    heard: tuple[
        Listener, ...
    ] = ()  # all that can hear an uplink; empty: every channel and data rate is heard
    steer: str = "auto"  # bring devices to what is heard; "off": they send where they like
    max_duty: int = 0  # exponent: devices may send 1/2**n of the time; 0: their own limits
    adr_ack: tuple[int, int] | None = None  # 1.1: exponents of ADR_ACK_LIMIT and ADR_ACK_DELAY; None: 6 and 5
    rejoin: tuple[int, int] | None = None  # 1.1: RejoinParamSetupReq's time and count; None: never told
    adr: bool = True
    adr_margin_db: float = 10.0  # installation margin
    adr_max_dr: int | None = None  # highest that the gateway's radios listen to; None: the region's
    status_interval_s: int = STATUS_INTERVAL_S  # between DevStatusReq; 0 never asks
    class_b: bool = False  # downlinks in ping slots, and the beacon for them
    beacon: bool = True  # with class_b: order the beacon; False: gateways send it by themselves
    beacon_gateways: tuple[bytes, ...] = ()  # EUIs that are to send it; none: the radio of this machine
    beacon_hz: int | None = None  # None: the region's; devices learn another one by BeaconFreqReq
    beacon_share: float = 1.0  # of its beacons that each gateway sends, drawn by lot
    max_devices: int = 10_000  # about 4 KB of memory each
    max_downlinks: int = 16  # waiting for one device: hours of a class A device's windows

    def __post_init__(self) -> None:
        if not 1 <= self.rx1_delay_s <= 15:
            raise ValueError("rx1_delay_s is 1 to 15 seconds")
        if not 0 <= self.rx1_dr_offset <= 7:
            raise ValueError("rx1_dr_offset is 0 to 7")
        if self.steer not in ("auto", "off"):
            raise ValueError('steer is "auto" or "off"')
        for name, value in (
            ("max_duty", (self.max_duty,)),
            ("adr_ack", self.adr_ack),
            ("rejoin", self.rejoin),
        ):
            if value is not None and not all(0 <= each <= 15 for each in value):
                raise ValueError(f"{name} holds exponents of 0 to 15")
        if len(self.cflist_hz) > 5:
            raise ValueError("a CFList holds five channels")
        if self.uplink_channels is not None and not self.uplink_channels:
            raise ValueError("uplink_channels needs at least one channel")
        if not 0 < self.beacon_share <= 1:
            raise ValueError("beacon_share is a share of 1, and not 0")
        if not 1 <= self.max_downlinks <= 256:
            raise ValueError("max_downlinks is 1 to 256")
