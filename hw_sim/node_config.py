"""One device in plain values: who it is, where it stands or goes, how exact its clocks are, what it sends."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway.lorawan.types import AES128Key, DevAddr, DevEUI, JoinEUI
from hw_sim.drift import EXACT, MILD, Climate, Oscillator
from hw_sim.mobility import Way
from hw_sim.payloads import SENSORS
from radio.regions import get_region

MAX_RX_ERROR_MS: Final = 200.0  # more, and the window would begin before the radio is free
NO_JOIN_EUI: Final = JoinEUI(0)


class DevNonceMode(StrEnum):
    RANDOM = "random"  # LoRaWAN 1.0.0 to 1.0.3
    COUNTER = "counter"  # 1.0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """One device: who it is, where it stands, what it sends. Raises ValueError for what cannot be."""

    name: str
    dev_eui: DevEUI
    join_eui: JoinEUI = NO_JOIN_EUI
    app_key: AES128Key | None = None  # OTAA
    dev_addr: DevAddr | None = None  # ABP, with both session keys
    nwk_s_key: AES128Key | None = None
    app_s_key: AES128Key | None = None
    region: str = "EU868"
    channels_hz: tuple[int, ...] = ()  # of the default channels; empty: all
    dr: int = 5  # SF7 in EU868
    adr: bool = True
    dev_nonce: DevNonceMode = DevNonceMode.RANDOM
    x_m: float = 0.0
    y_m: float = 0.0
    first_s: tuple[float, float] = (1.0, 8.0)  # when it starts, at random between
    interval_s: tuple[float, float] = (20.0, 30.0)  # between uplinks, at random between
    confirmed_share: float = 0.0  # of the uplinks
    fport: int = 1
    sensors: tuple[str, ...] = ("temperature", "humidity")
    link_check_every: int = 0  # uplinks; 0: never
    rx_error_ms: float = 10.0  # how far off the device takes its own clock to be
    clock: Oscillator = EXACT  # what times its receive windows
    crystal: Oscillator = EXACT  # of the radio
    climate: Climate = MILD
    way: Way | None = None  # instead of x_m, y_m
    appears_s: float = 0.0  # when it is switched on ...
    vanishes_s: float | None = None  # ... and off
    burst: int = 1  # uplinks in a row
    burst_gap_s: tuple[float, float] = (0.5, 1.0)  # between those, at random between

    def __post_init__(self) -> None:
        otaa = self.app_key is not None
        abp = None not in (self.dev_addr, self.nwk_s_key, self.app_s_key)
        if otaa == abp:
            raise ValueError("either app_key (OTAA) or dev_addr, nwk_s_key and app_s_key (ABP)")
        region = get_region(self.region)
        if self.dr not in region.uplink_data_rates:
            raise ValueError(f"{self.region} has no LoRa data rate {self.dr}")
        if not 0 <= self.rx_error_ms <= MAX_RX_ERROR_MS:
            raise ValueError(f"rx_error_ms is 0 to {MAX_RX_ERROR_MS:g}")
        if self.vanishes_s is not None and self.vanishes_s <= self.appears_s:
            raise ValueError("vanishes_s comes after appears_s")
        for sensor in self.sensors:
            if sensor not in SENSORS:
                raise ValueError(f"there is no sensor {sensor!r}; there are {', '.join(SENSORS)}")
        if unknown := set(self.channels_hz) - set(region.uplink_channels()):
            raise ValueError(f"{min(unknown)} Hz is no default channel of {self.region}")

    @property
    def otaa(self) -> bool:
        return self.app_key is not None
