"""A lock-step client of the event kernel: a thread whose blocking calls are where virtual time passes."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from hw_sim.errors import KernelError

if TYPE_CHECKING:
    from hw_sim.kernel import Kernel

T = TypeVar("T")

FOREVER: Final = 1 << 62  # ns; later than any limit, about 146 years


class Client:
    """One thread in lock-step. All methods but `wake` are for that thread only."""

    def __init__(self, kernel: "Kernel", name: str, rank: int = 0) -> None:
        self.kernel = kernel
        self.name = name
        self.local_ns = 0
        self.due_ns: int | None = None  # when it wants the baton; None while it holds it
        self.order = (rank, name)
        self.thread: threading.Thread | None = None
        self.woken = False
        self._waiting = False
        self.baton = threading.Lock()
        self.baton.acquire()

    def call(self, fn: Callable[[], T], before_ns: int = 0, after_ns: int = 0, *, ahead: bool = False) -> T:
        """Run `fn` at this client's time plus `before_ns`; `after_ns` pass for it before its next request.

        It may come up to `LOOKAHEAD_NS` before others whose time is smaller, for what touches nothing of theirs.
        """
        kernel = self.kernel
        with kernel.mutex:
            self.local_ns += before_ns
            if not (ahead and kernel.may_run_ahead(self.local_ns)):
                self._reach(self.local_ns)
            try:
                return fn()
            finally:
                self.local_ns += after_ns

    def delay(self, ns: int) -> None:
        """Let `ns` of virtual time pass."""
        self.delay_until(self.local_ns + max(0, ns))

    def delay_until(self, t_ns: int) -> None:
        """Let virtual time pass until `t_ns`; the driver's may end early, by `stop` or a failure."""
        with self.kernel.mutex:
            try:
                self._reach(max(t_ns, self.local_ns))
            finally:
                self.local_ns = max(self.local_ns, self.kernel.now_ns)

    def wait(self, until_ns: int | None, ready: Callable[[], bool]) -> bool:
        """Sleep until `notify` or `wake`, at most until `until_ns`; at once where `ready()` already holds.

        True where a `wake` ended it.
        """
        with self.kernel.mutex:
            if not (self.woken or ready()):
                limit = FOREVER if until_ns is None else until_ns
                self._waiting = True
                try:
                    self._reach(max(limit, self.local_ns))
                finally:
                    self._waiting = False
            woken, self.woken = self.woken, False
            self.local_ns = max(self.local_ns, self.kernel.now_ns)
            return woken

    def notify(self) -> None:
        """End this client's wait at the current virtual time; for events and other clients' calls."""
        if self._waiting:
            self.due_ns = max(self.local_ns, self.kernel.now_ns)
            self.kernel.now_due(self.due_ns)

    def wake(self) -> None:
        """End this client's wait, or its next one; from any thread."""
        self.kernel.inject(self._take_wake)

    def _take_wake(self) -> None:
        self.woken = True
        self.notify()

    def detach(self) -> None:
        """Leave lock-step; this thread no longer holds time."""
        self.kernel.detach(self)

    def _reach(self, t_ns: int) -> None:
        """Give everything that is due before `t_ns` its turn. The mutex is held, once."""
        kernel = self.kernel
        if kernel.in_event:
            raise KernelError("an event must not block: it has no local time")
        self.due_ns = t_ns
        try:
            chosen = kernel.choose()
            if chosen is not self:
                kernel.hand_over(self, chosen)
        finally:
            self.due_ns = None
        kernel.check(self)
