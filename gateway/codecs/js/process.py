"""One codec process: its pipes, its shared memory, its end. `worker` decides what it is for."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import mmap
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from gateway.codecs.js.wire import PROGRESS

_BOOT = "import sys; sys.path += sys.argv[1:]; from gateway.codecs.js.child import main; main()"
_ROOT = Path(__file__).parents[3]  # where `gateway` lies
_FIRST_FD = 10  # ours stay out of the way of what the child gets: 0, 1 and 3
READ = 1 << 17


class Unavailable(Exception):
    """JavaScript cannot be run here; the text says why."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended, and what it was doing."""

    signal: int  # 0: it left by itself
    code: int
    call: int  # id of the call under way; 0: none
    calls: int  # how many from that one on, in one go
    cpu_s: float  # spent on them


class Process:
    """A running child. Raises Unavailable, OSError where it cannot be started."""

    def __init__(self) -> None:
        found = importlib.util.find_spec("_quickjs")
        if found is None or found.origin is None:
            raise Unavailable(
                "the package quickjs-ng is not installed here, so there are no JavaScript codecs"
            )
        with contextlib.ExitStack() as stack:
            fds: list[int] = []
            for fd in (*os.pipe2(os.O_CLOEXEC), *os.pipe2(os.O_CLOEXEC), os.memfd_create("codecs")):
                fds.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_FD))
                os.close(fd)
            to_child, self.input, self.output, from_child, shared = fds
            for fd in (to_child, from_child, shared):
                stack.callback(os.close, fd)
            os.ftruncate(shared, PROGRESS.size)
            self._shared = mmap.mmap(shared, PROGRESS.size)
            try:
                self.pid = os.posix_spawn(
                    sys.executable,
                    [
                        sys.executable,
                        "-I",
                        "-S",
                        "-B",
                        "-c",
                        _BOOT,
                        str(_ROOT),
                        str(Path(found.origin).parent),
                    ],
                    {},
                    file_actions=[
                        (os.POSIX_SPAWN_DUP2, to_child, 0),
                        (os.POSIX_SPAWN_DUP2, from_child, 1),
                        (os.POSIX_SPAWN_DUP2, shared, 3),
                    ],
                    setpgroup=0,  # a Ctrl-C at the terminal is for the gateway
                    setsigmask=[],
                    setsigdef=[signal.SIGALRM, signal.SIGPIPE, signal.SIGTERM],
                )
            except OSError:
                self._close()
                raise
        os.set_blocking(self.input, False)
        os.set_blocking(self.output, False)

    def kill(self) -> None:
        """End it now, whatever it does."""
        os.kill(self.pid, signal.SIGKILL)

    def end(self) -> Ending:
        """Kill it if it still lives, close all that belongs to it, and say how it ended."""
        self.kill()  # it is not reaped, so the number is still its own
        _, status, usage = os.wait4(self.pid, 0)
        call, start_ns, calls = PROGRESS.unpack_from(self._shared, 0)
        self._close()
        spent = usage.ru_utime + usage.ru_stime - start_ns / 1e9
        by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0
        return Ending(by, code, call, calls, spent)

    def _close(self) -> None:
        os.close(self.input)
        os.close(self.output)
        self._shared.close()
