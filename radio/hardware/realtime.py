"""Real-time scheduling for the radio process, as far as it is permitted. A refusal is logged, never fatal."""

import ctypes
import gc
import logging
import os
import resource
import sys
from typing import Final

log = logging.getLogger(__name__)

PRIORITY: Final = 60  # above interrupt threads (50), below the kernel's watchdogs
SWITCH_INTERVAL_S: Final = 1e-4  # how long another Python thread may keep the interpreter from ours
_MCL_CURRENT: Final = 1
_MCL_FUTURE: Final = 2


def prefer_thread() -> None:
    """Put the calling thread under SCHED_FIFO: a downlink's start must not wait for anybody's time slice.

    Where it is there already, it stays with the priority it was given: systemd grants it to the whole process and
    then refuses the call.
    """
    try:
        if os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO:
            return
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except OSError as error:
        log.info("no real-time priority for the radio threads: %s", error)


def prefer_process() -> None:
    """Keep the process in memory, and Python from pausing it: call once everything is set up."""
    # Under a finite limit the call may succeed and a later allocation fail for it: then better unlocked.
    if os.geteuid() != 0 and resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] != resource.RLIM_INFINITY:
        log.info("memory not locked: the limit (RLIMIT_MEMLOCK) is finite")
    else:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE) != 0:
            log.info("memory not locked: %s", os.strerror(ctypes.get_errno()))
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()
