"""What a simulated device measures, and how it packs it: signals that move like weather, in Cayenne LPP.

Every signal is a function of virtual time and of the device's own random source, so that one seed gives one
history. The layout is that of Cayenne Low Power Payload: channel, type, big-endian value.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from types import MappingProxyType
from typing import Final

DAY_S: Final = 86_400
DIGITAL_INPUT: Final = 0
TEMPERATURE: Final = 103
HUMIDITY: Final = 104
GPS: Final = 136
METRES_A_DEGREE: Final = 111_320.0  # of latitude


@dataclass(frozen=True, slots=True)
class Readings:
    """All a device can measure at one moment."""

    temperature_c: float
    humidity_percent: float
    latitude_deg: float
    longitude_deg: float
    altitude_m: float
    contact: bool  # a door, say


class Signals:
    """The surroundings of one device. `sample` must be called with times that do not go back."""

    def __init__(self, rng: Random, latitude_deg: float, longitude_deg: float) -> None:
        self._rng = rng
        self._latitude_deg = latitude_deg
        self._longitude_deg = longitude_deg
        self._altitude_m = rng.uniform(80, 120)
        self._mean_c = rng.uniform(12, 22)
        self._swing_c = rng.uniform(2, 6)
        self._gust_c = 0.0
        self._contact = False
        self._next_change_s = rng.expovariate(1 / 3600)

    def sample(self, now_s: float) -> Readings:
        """What there is to measure `now_s` seconds after the start, which is midnight."""
        rng = self._rng
        self._gust_c = 0.8 * self._gust_c + rng.gauss(0, 0.15)
        warmth = math.sin(2 * math.pi * (now_s / DAY_S - 0.375))  # coolest before sunrise, at 3
        temperature_c = self._mean_c + self._swing_c * warmth + self._gust_c
        while now_s >= self._next_change_s:
            self._contact = not self._contact
            self._next_change_s += rng.expovariate(1 / 3600)
        return Readings(
            temperature_c=temperature_c,
            humidity_percent=min(100.0, max(5.0, 60 - 18 * warmth + rng.gauss(0, 1))),
            latitude_deg=self._latitude_deg + rng.gauss(0, 3) / METRES_A_DEGREE,
            longitude_deg=self._longitude_deg + rng.gauss(0, 3) / METRES_A_DEGREE,
            altitude_m=self._altitude_m + rng.gauss(0, 5),
            contact=self._contact,
        )


def temperature(channel: int, celsius: float) -> bytes:
    """Steps of 0.1 Celsius, 16 bits with sign."""
    return bytes((channel, TEMPERATURE)) + round(celsius * 10).to_bytes(2, "big", signed=True)


def humidity(channel: int, percent: float) -> bytes:
    """Steps of 0.5 %, 8 bits."""
    return bytes((channel, HUMIDITY, round(percent * 2)))


def gps(channel: int, latitude_deg: float, longitude_deg: float, altitude_m: float) -> bytes:
    """Steps of 0.0001 degree and 0.01 m, 24 bits with sign each."""
    steps = (round(latitude_deg * 10_000), round(longitude_deg * 10_000), round(altitude_m * 100))
    return bytes((channel, GPS)) + b"".join(step.to_bytes(3, "big", signed=True) for step in steps)


def digital_input(channel: int, level: bool) -> bytes:
    """0 or 1, 8 bits."""
    return bytes((channel, DIGITAL_INPUT, level))


SENSORS: Final[Mapping[str, Callable[[Readings], bytes]]] = MappingProxyType(
    {
        "temperature": lambda now: temperature(1, now.temperature_c),
        "humidity": lambda now: humidity(2, now.humidity_percent),
        "gps": lambda now: gps(3, now.latitude_deg, now.longitude_deg, now.altitude_m),
        "digital": lambda now: digital_input(4, now.contact),
    }
)


def encode(readings: Readings, sensors: Sequence[str], limit: int) -> bytes:
    """The payload with these sensors in their order, as many as fit into `limit` bytes."""
    payload = b""
    for name in sensors:
        part = SENSORS[name](readings)
        if len(payload) + len(part) <= limit:
            payload += part
    return payload
