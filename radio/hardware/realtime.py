"""Real-time scheduling for the radio process, as far as it is permitted, and no garbage collection near a start.

A refusal is logged and reported with what to do about it, never fatal.
"""

import ctypes
import gc
import logging
import os
import resource
import sys
import threading
from typing import Any, Final

log = logging.getLogger(__name__)

PRIORITY: Final = 60  # above interrupt threads (50), below the kernel's watchdogs
SWITCH_INTERVAL_S: Final = 1e-4  # how long another Python thread may keep the interpreter from ours
_MCL_CURRENT: Final = 1
_MCL_FUTURE: Final = 2

NO_PRIORITY: Final = (
    "no real-time priority, so a busy machine may start downlinks late: run the radio as its systemd unit, "
    "or give its user 'rtprio 60' in /etc/security/limits.d"
)
NOT_LOCKED: Final = (
    "memory not locked, so a downlink may wait for a page from the card: the unit needs LimitMEMLOCK=infinity, "
    "or its user 'memlock unlimited' in /etc/security/limits.d"
)


def prefer_thread() -> bool:
    """Put the calling thread under SCHED_FIFO: a downlink's start must not wait for anybody's time slice.

    Where it is there already, it stays with the priority it was given: systemd grants it to the whole process and
    then refuses the call. False where it is not permitted.
    """
    try:
        if os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO:
            return True
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except OSError as error:
        log.info("%s (%s)", NO_PRIORITY, error)
        return False
    return True


def prefer_process() -> bool:
    """Keep the process in memory, and Python from pausing it: call once everything is set up.

    False where the memory could not be locked.
    """
    locked = _lock_memory()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()
    return locked


def _lock_memory() -> bool:
    # Under a finite limit the call may succeed and a later allocation fail for it: then better unlocked.
    if os.geteuid() != 0 and resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] != resource.RLIM_INFINITY:
        log.info("%s (RLIMIT_MEMLOCK is finite)", NOT_LOCKED)
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE) != 0:
        log.info("%s (%s)", NOT_LOCKED, os.strerror(ctypes.get_errno()))
        return False
    return True


class Granted:
    """What the system gave of that, for the status. Threads report by name."""

    def __init__(self) -> None:
        self._threads: dict[str, bool] = {}
        self._memory: bool | None = None

    def thread(self, name: str) -> None:
        """Ask for the calling thread."""
        self._threads[name] = prefer_thread()

    def process(self) -> None:
        """Ask for the process."""
        self._memory = prefer_process()

    def has_priority(self, name: str) -> bool:
        """Whether that thread asked and got it."""
        return self._threads.get(name, False)

    def status(self) -> dict[str, Any]:
        """Plain values; `advice` says what to do about what was refused."""
        priority = bool(self._threads) and all(self._threads.values())
        advice = [NO_PRIORITY] if self._threads and not priority else []
        if self._memory is False:
            advice.append(NOT_LOCKED)
        return {"priority": priority, "memory_locked": bool(self._memory), "advice": advice}


class Quiet:
    """Keeps the garbage collector away while any module has a downlink in hand, and runs it in between.

    A collection stops all threads of the process for milliseconds. `hold` and `release` go around a deadline,
    each module with a key of its own; `rest` is called by a module that is about to wait. From any thread.
    """

    ROOM_NS: Final = 50_000_000  # a collection takes a few milliseconds; nobody may have a start this near
    EVERY_NS: Final = 10_000_000_000

    def __init__(self) -> None:
        self.collections = 0
        self._lock = threading.Lock()
        self._holding: set[str] = set()
        self._next_ns: dict[str, int | None] = {}
        self._was_enabled = False
        self._collected_ns: int | None = None

    def hold(self, key: str) -> None:
        """No collection until `release`; calling it again changes nothing."""
        with self._lock:
            if not self._holding:
                self._was_enabled = gc.isenabled()
                gc.disable()
            self._holding.add(key)

    def release(self, key: str) -> None:
        """This module's deadline is behind it; collections may come again when that holds for all."""
        with self._lock:
            if key not in self._holding:
                return
            self._holding.remove(key)
            if not self._holding and self._was_enabled:
                gc.enable()

    def rest(self, key: str, next_start_ns: int | None, now_ns: int) -> None:
        """This module has nothing to start before `next_start_ns` (None: nothing at all): collect, if all rest."""
        with self._lock:
            self._next_ns[key] = next_start_ns
            if self._collected_ns is None:
                self._collected_ns = now_ns  # the process has just collected and frozen what it started with
            if (
                self._holding
                or now_ns - self._collected_ns < self.EVERY_NS
                or any(t is not None and t - now_ns < self.ROOM_NS for t in self._next_ns.values())
            ):
                return
            self._collected_ns = now_ns
            self.collections += 1
            gc.collect()
