"""What time it is and where the gateway stands: the receiver's thread where there is one, else what is known without.

Nothing depends on it: without receiver, pulse or place the radio works, and says what it does not know. What a receiver
has told is kept over restarts: the place, until it has a fix again, and the leap seconds, until they expire.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

import msgspec

from radio.errors import RadioError
from radio.gnss.config import GnssConfig
from radio.gnss.leap import LeapSeconds, fixed, system_leap_seconds
from radio.gnss.owner import GnssOwner
from radio.gnss.receiver import Receiver
from radio.seam import Clock, Lines
from radio.serial_line import SerialPort
from radio.state import StateFolder
from radio.timebase import SECOND_NS, SystemTime, TimeBase

log = logging.getLogger(__name__)

STAMPED: Final = ("gpiod", "lgpio", "sim")  # backends whose edges carry the kernel's time

STATE: Final = "gnss"
FIRST_KEEP_NS: Final = 1800 * SECOND_NS  # by then a receiver that started cold knows the leap seconds
KEEP_NS: Final = 6 * 3600 * SECOND_NS

OpenSerial = Callable[[str, int], SerialPort]
OpenPulse = Callable[[int, Clock], Lines]


@dataclass(frozen=True, slots=True)
class _Kept:
    """What a receiver told, over a restart; the place as it may be told."""

    latitude: float | None = None
    longitude: float | None = None
    altitude_m: int | None = None
    leap_s: int | None = None
    leap_expires_s: int = 0

    @classmethod
    def of(cls, value: dict[str, Any]) -> "_Kept":
        """From the state folder; what does not fit is as nothing."""
        try:
            return msgspec.convert(value, cls)
        except msgspec.ValidationError as error:
            log.warning("what was kept of the GNSS receiver does not fit: %s", error)
            return cls()


class TimeAndPlace:
    """The gateway's time base and place. `clock` makes one for the receiver's thread."""

    def __init__(
        self,
        config: GnssConfig | None,
        clock: Callable[[str], Clock],
        *,
        serial: OpenSerial | None = None,
        pulse: OpenPulse | None = None,
        system: Callable[[], SystemTime | None] | None = None,
        utc_ns: Callable[[int], int | None] | None = None,
        state: StateFolder | None = None,
    ) -> None:
        self.config = GnssConfig() if config is None else config
        self._state = StateFolder(None) if state is None else state
        self._kept = _Kept.of(self._state.read(STATE) or {}) if self.config.port else _Kept()
        self._keep_ns: int | None = None
        self.time = TimeBase(self._leap(), system)
        self.owner: GnssOwner | None = None
        self.failure: BaseException | None = None
        self._utc_ns = utc_ns
        self._thread: threading.Thread | None = None
        if self.config.port and serial is not None:
            receiver_clock = clock("gnss")
            receiver = Receiver(self.time, self.config.baud, self.config.privacy_digits)
            port = serial(self.config.port, self.config.baud)
            lines = self._pulse(pulse, receiver_clock)
            self.owner = GnssOwner(receiver, port, receiver_clock, lines, self.keep)

    def _leap(self) -> LeapSeconds:
        """The setting; else what expires last of the machine's list and what a receiver told before the restart."""
        if self.config.leap_s is not None:
            return fixed(self.config.leap_s)
        listed, kept = system_leap_seconds(), self._kept
        if kept.leap_s is None or kept.leap_expires_s <= listed.expires_s:
            return listed
        return LeapSeconds(((0, kept.leap_s),), kept.leap_expires_s, "receiver, before the restart")

    def keep(self, now_ns: int) -> None:
        """Write down what the receiver has told: once it has a fix, and then every few hours."""
        owner = self.owner
        if owner is None or (self._keep_ns is not None and now_ns < self._keep_ns):
            return
        position, utc_ns = owner.position, self.time.utc_ns(now_ns)
        if position is None or utc_ns is None:
            return
        self._keep_ns = now_ns + (KEEP_NS if self._keep_ns is not None else FIRST_KEEP_NS)
        leap = self.time.leap
        told = leap.source.startswith("receiver")
        self._kept = _Kept(
            position.latitude,
            position.longitude,
            position.altitude_m,
            leap.at_utc(utc_ns // SECOND_NS) if told else None,
            leap.expires_s if told else 0,
        )
        self._state.write(STATE, asdict(self._kept))

    def _pulse(self, open_pulse: OpenPulse | None, clock: Clock) -> Lines | None:
        """The pulse's line; a gateway without it is told so and goes on."""
        line = self.config.pps_line
        if line is None or open_pulse is None:
            return None
        try:
            lines = open_pulse(line, clock)
        except (RadioError, OSError, ImportError) as error:
            log.warning(
                "GNSS: the pulse on GPIO %d cannot be watched, only the sentences count: %s", line, error
            )
            return None
        if lines.backend not in STAMPED:
            log.warning("GNSS: %s gives edges no time, the pulse is of no use; install gpiod", lines.backend)
            lines.close()
            return None
        return lines

    def utc_ns(self, mono_ns: int) -> int | None:
        """UTC in Unix ns, as good as it is known."""
        utc_ns = self.time.utc_ns(mono_ns)
        return self._utc_ns(mono_ns) if utc_ns is None and self._utc_ns is not None else utc_ns

    def position(self) -> tuple[float, float, int | None] | None:
        """Latitude, longitude and altitude for `stat`: of the receiver, else of the settings, rounded as they ask."""
        found = None if self.owner is None else self.owner.position
        if found is not None:
            return found.latitude, found.longitude, found.altitude_m
        config, kept = self.config, self._kept
        if config.latitude is None or config.longitude is None:
            if kept.latitude is None or kept.longitude is None:
                return None
            return kept.latitude, kept.longitude, kept.altitude_m
        digits = 5 if config.privacy_digits is None else config.privacy_digits
        return round(config.latitude, digits), round(config.longitude, digits), config.altitude_m

    def start(self, stop: threading.Event) -> None:
        """Start the receiver's thread, where there is one."""
        owner = self.owner
        if owner is None:
            return

        def run() -> None:
            try:
                owner.run(stop)
            except BaseException as error:
                log.exception("the GNSS receiver's thread failed; the gateway goes on without")
                self.failure = error

        self._thread = threading.Thread(target=run, name="gnss", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Let the thread look at its stop event."""
        if self.owner is not None:
            self.owner.clock.wake()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def status(self, now_ns: int) -> dict[str, Any]:
        """The entries `gnss` (None without a receiver), `position` and `time` of the radio's status."""
        place = self.position()
        return {
            "gnss": None if self.owner is None else self.owner.status(now_ns),
            "position": None
            if place is None
            else {"latitude": place[0], "longitude": place[1], "altitude_m": place[2]},
            "time": self.time.status(now_ns),
        }
