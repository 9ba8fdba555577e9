"""The system's clock beside the monotonic one, and what the kernel's clock discipline says about its error."""

import ctypes
import time
from typing import Final

from radio.timebase import SystemTime

_STA_UNSYNC: Final = 0x0040
_TRIES: Final = 3


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2) up to `status`; `modes` 0 only asks."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 40),
    )


def system_time() -> SystemTime:
    """Both clocks, read within a few microseconds of each other."""
    best: tuple[int, int, int] | None = None
    for _ in range(_TRIES):
        before_ns = time.monotonic_ns()
        utc_ns = time.time_ns()
        after_ns = time.monotonic_ns()
        if best is None or after_ns - before_ns < best[0]:
            best = (after_ns - before_ns, (before_ns + after_ns) // 2, utc_ns)
    assert best is not None
    width_ns, mono_ns, utc_ns = best
    error_ns = kernel_error_ns()
    return SystemTime(mono_ns, utc_ns, None if error_ns is None else error_ns + width_ns)


def kernel_error_ns() -> int | None:
    """The kernel's bound on the error of the system's clock; None where nothing keeps it right."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        answer = _Timex()
        failed = libc.adjtimex(ctypes.byref(answer)) < 0
    except (OSError, AttributeError):
        return None
    if failed or answer.status & _STA_UNSYNC:
        return None
    return int(answer.maxerror) * 1000
