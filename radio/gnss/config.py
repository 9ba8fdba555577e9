"""What the radio process must be told about time and place."""

from dataclasses import dataclass
from typing import Final

RATES: Final = (4800, 9600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800)


@dataclass(frozen=True, slots=True)
class GnssConfig:
    """A receiver, or a place that somebody has looked up. Raises ValueError naming the setting that does not fit."""

    port: str = ""  # device file; empty: no receiver
    baud: int = 9600
    pps_line: int | None = None  # BCM number; None: no pulse is wired
    # Decimals of latitude and longitude that are told; None: 5, about a metre
    privacy_digits: int | None = None
    latitude: float | None = None  # of a gateway without receiver
    longitude: float | None = None
    altitude_m: int | None = None
    leap_s: int | None = None  # GPS time minus UTC; None: from the machine's list, or the receiver

    def __post_init__(self) -> None:
        if self.baud not in RATES:
            raise ValueError(f"baud {self.baud} is not one of {', '.join(map(str, RATES))}")
        if self.pps_line is not None and not 0 <= self.pps_line <= 53:
            raise ValueError(f"pps_line {self.pps_line} is not a BCM number, 0 to 53")
        if self.pps_line is not None and not self.port:
            raise ValueError(
                "pps_line without port: only the receiver's sentences say which second a pulse begins"
            )
        if self.privacy_digits is not None and not 0 <= self.privacy_digits <= 6:
            raise ValueError(f"privacy_digits {self.privacy_digits} is not 0 to 6")
        if (self.latitude is None) != (self.longitude is None):
            raise ValueError("latitude and longitude belong together")
        if self.latitude is not None and not -90 <= self.latitude <= 90:
            raise ValueError(f"latitude {self.latitude} is not -90 to 90")
        if self.longitude is not None and not -180 <= self.longitude <= 180:
            raise ValueError(f"longitude {self.longitude} is not -180 to 180")
        if self.leap_s is not None and not 0 <= self.leap_s <= 60:
            raise ValueError(f"leap_seconds {self.leap_s} is not 0 to 60")
