"""What a kind of device can do and how this network treats it: one `Profile`, named by each of its devices.

`DEFAULT` is the profile of a device that names no other: LoRaWAN 1.0.3, class A, everything as the gateway's
settings say. None in a field means "as the gateway or the region has it".
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from gateway.lorawan.errors import OrderError

DEFAULT_NAME = "default"
MAX_NAME = 64  # characters
MAX_INTERVAL_S = 366 * 86_400
MAX_ABP_CHANNELS = 16  # what one ChMask names
MAX_ATTEMPTS = 8  # of a confirmed downlink: as often as a 1.0.x device repeats a confirmed uplink

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_REGION = re.compile(r"[A-Z0-9-]{0,16}")


class Version(enum.StrEnum):
    """The LoRaWAN link-layer version that a device follows."""

    V1_0_0 = "1.0.0"
    V1_0_1 = "1.0.1"
    V1_0_2 = "1.0.2"
    V1_0_3 = "1.0.3"
    V1_0_4 = "1.0.4"
    V1_1 = "1.1"

    @property
    def is_1_1(self) -> bool:
        return self is Version.V1_1

    @property
    def counter_nonces(self) -> bool:
        """DevNonce is a counter that only rises (1.0.4, 6.2.5; 1.1, 6.2.5), not a random number."""
        return self in (Version.V1_0_4, Version.V1_1)


class DeviceClass(enum.StrEnum):
    A = "A"
    B = "B"
    C = "C"


class DevNonceRule(enum.StrEnum):
    ALL = "all"  # each value once, in any order
    RISING = "rising"  # each above the last


class CounterReset(enum.StrEnum):
    """What an ABP device may do that begins again at FCnt 0, because it has lost power."""

    REFUSE = "refuse"
    ALLOW = "allow"  # whoever recorded its first frames can send them again


@dataclass(frozen=True, slots=True)
class Profile:
    """Raises OrderError, in words for the person who wrote it, for a value outside its range."""

    name: str
    version: Version = Version.V1_0_3
    device_class: DeviceClass = DeviceClass.A
    region: str = ""  # as radio.regions names it; "": whichever the gateway runs
    codec: str = "cayenne"
    expected_interval_s: int = 0  # between reports; 0: unknown, and never called overdue
    description: str = ""

    adr: bool = True
    adr_margin_db: float | None = None
    min_dr: int | None = None  # 0..15, as the next one
    max_dr: int | None = None
    max_tx_power: int | None = None  # TXPower index, 0..15: greater is weaker
    max_nb_trans: int | None = None  # 1..15
    fixed_dr: int | None = None  # the device always sends with this one, whatever it is told

    dev_nonces: DevNonceRule | None = None  # None: by version
    counter_reset: CounterReset = CounterReset.REFUSE

    abp_rx1_delay_s: int = 1  # 1..15; what an ABP device has built in, as the next ones
    abp_rx1_dr_offset: int = 0  # 0..7
    abp_rx2_dr: int | None = None
    abp_rx2_freq_hz: int | None = None
    abp_channels_hz: tuple[int, ...] = ()  # beyond the region's default channels

    class_b_timeout_s: int = 60  # a confirmed downlink is given up this long after it left, as the next one
    class_c_timeout_s: int = 10
    ping_slot_dr: int | None = None
    ping_slot_freq_hz: int | None = None
    ping_slot_period_s: int | None = None  # 1, 2, 4 .. 128; None: as the device asks
    max_downlink_attempts: int = MAX_ATTEMPTS  # of a confirmed one

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise OrderError(
                "a profile's name has 1 to 64 letters, digits, dots, dashes or underscores and begins with a letter"
                " or digit"
            )
        _one_of(self.version, Version, "version")
        _one_of(self.device_class, DeviceClass, "class")
        _one_of(self.counter_reset, CounterReset, "counter_reset")
        if self.dev_nonces is not None:
            _one_of(self.dev_nonces, DevNonceRule, "dev_nonces")
        if not _REGION.fullmatch(self.region):
            raise OrderError("region is a name like EU868, or empty")
        if len(self.description) > 200 or not self.description.isprintable():
            raise OrderError("description has at most 200 printable characters")
        for name, low, high in _RANGES:
            _within(getattr(self, name), low, high, name)
        if self.ping_slot_period_s not in (None, 1, 2, 4, 8, 16, 32, 64, 128):
            raise OrderError("ping_slot_period_s is 1, 2, 4, 8, 16, 32, 64 or 128")
        if self.min_dr is not None and self.max_dr is not None and self.min_dr > self.max_dr:
            raise OrderError(f"min_dr {self.min_dr} is above max_dr {self.max_dr}: no data rate is left")
        if len(self.abp_channels_hz) > MAX_ABP_CHANNELS:
            raise OrderError(f"abp_channels_hz has at most {MAX_ABP_CHANNELS} channels")
        for freq_hz in self.abp_channels_hz:
            _within(freq_hz, *_BAND_HZ, "a channel of abp_channels_hz")

    @property
    def rising_nonces(self) -> bool:
        """A DevNonce must be above the last one, rather than merely new."""
        if self.dev_nonces is None:
            return self.version.counter_nonces
        return self.dev_nonces is DevNonceRule.RISING

    @property
    def may_reset_counter(self) -> bool:
        return self.counter_reset is CounterReset.ALLOW


_BAND_HZ = (100_000_000, 3_000_000_000)  # sub-GHz bands and 2.4 GHz
_RANGES: tuple[tuple[str, float, float], ...] = (
    ("expected_interval_s", 0, MAX_INTERVAL_S),
    ("adr_margin_db", 0, 40),
    ("min_dr", 0, 15),
    ("max_dr", 0, 15),
    ("max_tx_power", 0, 15),
    ("max_nb_trans", 1, 15),
    ("fixed_dr", 0, 15),
    ("abp_rx1_delay_s", 1, 15),
    ("abp_rx1_dr_offset", 0, 7),
    ("abp_rx2_dr", 0, 15),
    ("abp_rx2_freq_hz", *_BAND_HZ),
    ("class_b_timeout_s", 1, 3600),
    ("class_c_timeout_s", 1, 3600),
    ("ping_slot_dr", 0, 15),
    ("ping_slot_freq_hz", *_BAND_HZ),
    ("max_downlink_attempts", 1, 16),
)


def _within(value: float | None, low: float, high: float, name: str) -> None:
    if value is not None and not low <= value <= high:
        raise OrderError(f"{name} is {low:g} to {high:g}, not {value:g}")


def _one_of(value: object, kind: type[enum.StrEnum], name: str) -> None:
    if not isinstance(value, kind):
        raise OrderError(f"{name} is one of {', '.join(kind)}, not {value}")


DEFAULT = Profile(DEFAULT_NAME)
