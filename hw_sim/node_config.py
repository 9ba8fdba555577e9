"""One device in plain values: who it is, where it stands or goes, how exact its clocks are, what it sends."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway.lorawan.profile import DeviceClass, Version
from gateway.lorawan.types import AES128Key, DevAddr, DevEUI, JoinEUI
from hw_sim.drift import EXACT, MILD, Climate, Oscillator
from hw_sim.mobility import Way
from hw_sim.payloads import SENSORS
from radio.regions import get_region

MAX_RX_ERROR_MS: Final = 200.0  # more, and the window would begin before the radio is free
NO_JOIN_EUI: Final = JoinEUI(0)
MAX_PERIODICITY: Final = 7


class DevNonceMode(StrEnum):
    RANDOM = "random"  # LoRaWAN 1.0.0 to 1.0.3
    COUNTER = "counter"  # 1.0.4, 1.1


class NodeFault(StrEnum):
    """What devices in the field get wrong. Who they are said to be is in the rest of their `NodeConfig`."""

    WRONG_ROOT_KEY = "wrong_root_key"  # AppKey, of 1.1 the NwkKey: one bit is another one's
    WRONG_APP_KEY = "wrong_app_key"  # of a 1.1 device: it joins, and its payloads cannot be read
    WRONG_JOIN_EUI = "wrong_join_eui"
    SWAPPED_DEV_EUI = "swapped_dev_eui"  # typed in with its bytes in the other order
    WRONG_NWK_S_KEY = "wrong_nwk_s_key"  # ABP
    WRONG_APP_S_KEY = "wrong_app_s_key"  # ABP: frames verify, payloads come out as noise
    STUCK_DEV_NONCE = "stuck_dev_nonce"  # the same one at every attempt
    FORGETS_DEV_NONCE = "forgets_dev_nonce"  # a counter that begins anew after a loss of power
    FORGETS_COUNTERS = "forgets_counters"  # ABP: FCnt begins anew after a loss of power
    SHORT_COUNTER = "short_counter"  # the 16 bits of the air go into the code, and roll over there
    DEAF = "deaf"  # sends, and hears nothing
    IGNORES_MAC = "ignores_mac"  # leaves the network's MAC commands unanswered
    REFUSES_ADR = "refuses_adr"  # answers every LinkADRReq with no
    KEEPS_CHANNELS = "keeps_channels"  # says yes to masks and goes on hopping over all its channels
    REPEATS_OLD = "repeats_old"  # sends each uplink once more, minutes later


@dataclass(frozen=True, slots=True, kw_only=True)
class MulticastGroup:
    """A group that a device belongs to: its address and keys."""

    name: str = ""
    dev_addr: DevAddr
    nwk_s_key: AES128Key
    app_s_key: AES128Key
    periodicity: int | None = None  # class B: a ping slot each 2**periodicity seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """One device: who it is, where it stands, what it sends. Raises ValueError for what cannot be."""

    name: str
    dev_eui: DevEUI
    join_eui: JoinEUI = NO_JOIN_EUI
    version: Version = Version.V1_0_3
    device_class: DeviceClass = DeviceClass.A  # B and C once joined
    app_key: AES128Key | None = None  # OTAA
    nwk_key: AES128Key | None = None  # OTAA with 1.1
    dev_addr: DevAddr | None = None  # ABP, with both session keys
    nwk_s_key: AES128Key | None = None  # of 1.1: FNwkSIntKey
    s_nwk_s_int_key: AES128Key | None = None  # ABP with 1.1; None: as nwk_s_key, as the next one
    nwk_s_enc_key: AES128Key | None = None
    app_s_key: AES128Key | None = None
    groups: tuple[MulticastGroup, ...] = ()
    region: str = "EU868"
    channels_hz: tuple[int, ...] = ()  # of the default channels; empty: all
    dr: int = 5  # SF7 in EU868
    adr: bool = True
    dev_nonce: DevNonceMode | None = None  # None: as the version has it
    x_m: float = 0.0
    y_m: float = 0.0
    first_s: tuple[float, float] = (1.0, 8.0)  # when it starts, at random between
    interval_s: tuple[float, float] = (20.0, 30.0)  # between uplinks, at random between
    confirmed_share: float = 0.0  # of the uplinks
    fport: int = 1
    sensors: tuple[str, ...] = ("temperature", "humidity")
    link_check_every: int = 0  # uplinks; 0: never
    time_every: int = 0  # uplinks between two DeviceTimeReq; 0: never
    rejoin_every_s: float | None = None  # 1.1: RejoinRequest type 1, as a device that may roam sends it
    periodicity: int = 0  # class B: a ping slot each 2**periodicity seconds
    rx_error_ms: float = 10.0  # how far off the device takes its own clock to be
    rx_late_ms: float = 0.0  # how late its windows really open, beside what its clock does; negative: early
    clock: Oscillator = EXACT  # what times its receive windows
    crystal: Oscillator = EXACT  # of the radio
    climate: Climate = MILD
    way: Way | None = None  # instead of x_m, y_m
    appears_s: float = 0.0  # when it is switched on ...
    vanishes_s: float | None = None  # ... and off
    burst: int = 1  # uplinks in a row
    burst_gap_s: tuple[float, float] = (0.5, 1.0)  # between those, at random between
    power_losses_s: tuple[float, ...] = ()  # when it starts anew, with what its memory keeps
    faults: frozenset[NodeFault] = frozenset()

    def __post_init__(self) -> None:
        otaa = self.app_key is not None
        abp = None not in (self.dev_addr, self.nwk_s_key, self.app_s_key)
        if otaa == abp:
            raise ValueError("either app_key (OTAA) or dev_addr, nwk_s_key and app_s_key (ABP)")
        if (self.nwk_key is not None) != (otaa and self.version.is_1_1):
            raise ValueError("nwk_key belongs to OTAA with LoRaWAN 1.1, beside app_key")
        region = get_region(self.region)
        if self.dr not in region.uplink_data_rates:
            raise ValueError(f"{self.region} has no LoRa data rate {self.dr}")
        if not 0 <= self.rx_error_ms <= MAX_RX_ERROR_MS:
            raise ValueError(f"rx_error_ms is 0 to {MAX_RX_ERROR_MS:g}")
        if not 0 <= self.periodicity <= MAX_PERIODICITY:
            raise ValueError(f"periodicity is 0 to {MAX_PERIODICITY}")
        if self.rejoin_every_s is not None and not (otaa and self.version.is_1_1):
            raise ValueError("rejoin_every_s belongs to OTAA with LoRaWAN 1.1")
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

    @property
    def counts_nonces(self) -> bool:
        """Are its DevNonces a counter?"""
        if self.dev_nonce is None:
            return self.version.counter_nonces
        return self.dev_nonce is DevNonceMode.COUNTER
