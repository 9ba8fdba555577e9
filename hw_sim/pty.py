"""A simulated serial device as a device file, for software that opens one (pyserial, a terminal).

The kernel must run in real time (`Kernel.run(pace=1)`). A pty passes no break condition.
"""

import contextlib
import os
import select
import threading
import tty

from hw_sim.uart import Wire


class Pty:
    """The wire behind a pty: `path` is what the host opens. Close it when done."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)  # no echo, no line editing
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._pump, name=f"pty {self.path}", daemon=True)
        wire.on_unread = self._deliver
        self._thread.start()

    def close(self) -> None:
        """Take the device file away."""
        self._wire.on_unread = lambda: None
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        for fd in (self._master, self._slave, self._stop):
            os.close(fd)

    def _deliver(self) -> None:
        with contextlib.suppress(BlockingIOError):  # nobody reads: lost, as on a wire
            os.write(self._master, self._wire.take())

    def _pump(self) -> None:
        poller = select.poll()
        poller.register(self._master, select.POLLIN)
        poller.register(self._stop, select.POLLIN)
        while True:
            ready = {fd for fd, _events in poller.poll()}
            if self._stop in ready:
                return
            with contextlib.suppress(OSError):
                data = os.read(self._master, 4096)
                self._wire.kernel.inject(lambda data=data: self._wire.hear(data))  # type: ignore[misc]
