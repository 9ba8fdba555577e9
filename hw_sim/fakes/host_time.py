"""What a foreign driver needs besides the fake modules to live in virtual time: a `time` module."""

from typing import Final

from hw_sim.hosts import Host

TURN_NS: Final = 5_000  # a turn of a loop that asks for the time, as an interpreter on a small Pi takes it


class HostTime:
    """Stands in for the `time` module of a driver's source file: sleeping and asking are the host's.

    Asking lets time pass, and others have their turn: a driver that polls without sleeping still gets its
    callbacks, and comes to its time-out.
    """

    def __init__(self, host: Host) -> None:
        self._host = host

    def sleep(self, seconds: float) -> None:
        """As `time.sleep`."""
        self._host.delay(round(seconds * 1e9))

    def monotonic_ns(self) -> int:
        """As `time.monotonic_ns`."""
        self._host.delay(TURN_NS)
        return self._host.now_ns()

    def monotonic(self) -> float:
        """As `time.monotonic`."""
        return self.monotonic_ns() / 1e9

    perf_counter = time = monotonic
