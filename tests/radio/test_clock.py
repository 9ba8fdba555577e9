"""The machine's monotonic clock as the seam wants it. Nothing here measures how long something took."""

import os
import threading
import time

from radio.hardware.clock import MonotonicClock, utc_ns
from radio.seam import Edge

LONG_NS = 600 * 10**9


class Pipe:
    """Lines that are a pipe."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def fileno(self) -> int | None:
        return self._read

    def ring(self) -> None:
        os.write(self._write, b"!")

    def read_edges(self) -> list[Edge]:
        os.read(self._read, 1)
        return [Edge("dio0", True, 1, 1)]

    def get(self, name: str) -> bool:
        return False

    def set(self, name: str, level: bool) -> None: ...

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


def test_a_wait_ends_at_a_pending_edge_a_wake_or_its_limit() -> None:
    clock, lines = MonotonicClock(), Pipe()
    lines.ring()
    clock.wait((lines,), clock.now_ns() + LONG_NS)
    assert lines.read_edges()
    clock.wake()
    clock.wait((lines,), None)
    until_ns = clock.now_ns() + 1_000_000
    clock.wait((lines,), until_ns)
    assert clock.now_ns() >= until_ns - 1_000_000  # poll counts whole milliseconds
    lines.close()


def test_a_wake_from_another_thread_ends_the_wait() -> None:
    clock = MonotonicClock()
    thread = threading.Thread(target=clock.wake)
    thread.start()
    clock.wait((), clock.now_ns() + LONG_NS)
    thread.join()


def test_sleeping_never_ends_early() -> None:
    clock = MonotonicClock()
    for ahead_ns in (-5, 0, 50_000, 2_000_000):
        at_ns = clock.now_ns() + ahead_ns
        clock.sleep_until(at_ns)
        assert clock.now_ns() >= at_ns


def test_wall_time_of_a_monotonic_time() -> None:
    before_ns = time.time_ns()
    assert abs(utc_ns(time.monotonic_ns()) - before_ns) < LONG_NS
