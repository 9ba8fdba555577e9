"""What time it is and where the gateway stands: the receiver's thread where there is one, else what is known without.

Nothing depends on it: without receiver, pulse or place the radio works, and says what it does not know.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any, Final

from radio.errors import RadioError
from radio.gnss.config import GnssConfig
from radio.gnss.leap import fixed, system_leap_seconds
from radio.gnss.owner import GnssOwner
from radio.gnss.receiver import Receiver
from radio.seam import Clock, Lines
from radio.serial_line import SerialPort
from radio.timebase import SystemTime, TimeBase

log = logging.getLogger(__name__)

STAMPED: Final = ("gpiod", "lgpio", "sim")  # backends whose edges carry the kernel's time

OpenSerial = Callable[[str, int], SerialPort]
OpenPulse = Callable[[int, Clock], Lines]


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
    ) -> None:
        self.config = GnssConfig() if config is None else config
        leap_s = self.config.leap_s
        self.time = TimeBase(system_leap_seconds() if leap_s is None else fixed(leap_s), system)
        self.owner: GnssOwner | None = None
        self.failure: BaseException | None = None
        self._utc_ns = utc_ns
        self._thread: threading.Thread | None = None
        if self.config.port and serial is not None:
            receiver_clock = clock("gnss")
            receiver = Receiver(self.time, self.config.baud, self.config.privacy_digits)
            port = serial(self.config.port, self.config.baud)
            self.owner = GnssOwner(receiver, port, receiver_clock, self._pulse(pulse, receiver_clock))

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
        config = self.config
        if config.latitude is None or config.longitude is None:
            return None
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
