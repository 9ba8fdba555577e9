"""The event kernel: one queue, one clock, and the clients that must not be overtaken by it.

Virtual time is an integer of nanoseconds. Events (the chips, the air, the nodes) run in order of (time,
insertion). Lock-step clients are threads with ordinary blocking code (a radio driver, the socket of a
foreign process). Each has a local time; whoever has the smallest runs, alone, after all events up to that
time have run. A client that computes holds time still, so runs are deterministic however slow the machine
is.

Only one thread at a time holds the baton. Its holder does the kernel's work in its own call, so a request
that nobody else precedes costs no thread switch; the baton moves by one lock a client when another is due
first. The thread that calls `run` or `run_until` is the driver, a client like the others that is served
last among equals.
"""

import heapq
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from hw_sim.client import FOREVER, Client
from hw_sim.errors import ClientStalled, KernelClosed, KernelError

T = TypeVar("T")

# See Client.call; a chip's signal reaches another chip's registers a millisecond later
LOOKAHEAD_NS = 200_000
PATIENCE_S = 60.0  # real time a client may compute before run() gives it up
_CALLS_AHEAD = 64  # in a row, before the scheduler looks at stop events and what other threads injected
_TICK_S = 0.05  # how often a waiting driver looks at the stop event and at dead threads


class Event:
    """A queued call; cancelled by clearing what it would call."""

    __slots__ = ("fn", "t_ns")

    def __init__(self, t_ns: int, fn: Callable[[], None]) -> None:
        self.t_ns = t_ns
        self.fn: Callable[[], None] | None = fn


class Kernel:
    """The queue and the clock. `seed` decides every random draw of a run (`rng`)."""

    def __init__(self, seed: int = 0, patience_s: float = PATIENCE_S) -> None:
        self.seed = seed
        self.patience_s = patience_s
        self.now_ns = 0
        self.mutex = threading.RLock()
        self.in_event = False
        self.closed = False
        self.events_run = 0
        self._changed = threading.Condition(self.mutex)
        self._arrived = threading.Condition()
        self._arrivals = 0
        self._queue: list[tuple[int, int, Event]] = []
        self._inserted = 0
        self._driver = Client(self, "driver", rank=1)
        self._driver.thread = threading.current_thread()
        self._clients: list[Client] = [self._driver]
        self._by_thread: dict[int, Client] = {}
        self._holder = self._driver
        self._injected: deque[Callable[[], None]] = deque()
        self._idle = False  # the baton's holder sleeps in choose() ...
        self._sleeps_until_ns = 0  # ... until then, or until it is disturbed
        self._ahead_until_ns = 0  # how far the baton's holder may run ahead of the other clients' times
        self._calls_ahead = 0
        self._choices = 0  # grows with every decision: how the driver tells a slow client from a stuck one
        self._failure: BaseException | None = None
        self._running = False
        self._speed: float | None = None
        self._origin_ns = 0  # virtual time at ...
        self._real_origin_ns = 0  # ... this reading of time.monotonic_ns()
        self._stop_event: threading.Event | None = None

    def rng(self, name: str) -> random.Random:
        """A random source of its own for `name`, so that one part's draws never shift another's."""
        return random.Random(f"{self.seed}/{name}")

    # -- the queue ---------------------------------------------------------------------------------

    def at(self, t_ns: int, fn: Callable[[], None]) -> Event:
        """Queue `fn` for virtual time `t_ns`; events of one instant run in the order they were queued."""
        with self.mutex:
            if t_ns < self.now_ns:
                raise KernelError(f"cannot queue an event {self.now_ns - t_ns} ns in the past")
            event = Event(t_ns, fn)
            self._inserted += 1
            heapq.heappush(self._queue, (t_ns, self._inserted, event))
            if self._idle:
                self._sleeps_until_ns = min(self._sleeps_until_ns, t_ns)
                self._changed.notify_all()
            return event

    def after(self, delay_ns: int, fn: Callable[[], None]) -> Event:
        """Queue `fn` for `delay_ns` from now."""
        with self.mutex:
            return self.at(self.now_ns + delay_ns, fn)

    def cancel(self, event: Event | None) -> None:
        """Take an event back; None and one that has run are no error."""
        if event is not None:
            event.fn = None

    # -- running -----------------------------------------------------------------------------------

    def run_until(self, t_ns: int) -> None:
        """Run to virtual time `t_ns`, as fast as the machine can."""
        self.run(until_ns=t_ns)

    def run(
        self,
        pace: float | None = None,
        until_ns: int | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        """Run until `until_ns`, `stop` or `stop()`.

        `pace` None: virtual time, as fast as possible. A number: that many virtual seconds a real second;
        events run late where the machine or a computing client is slower, and catch up. Raises what an
        event raised, and ClientStalled where a client computes for longer than the kernel's patience.
        """
        with self.mutex:
            if self._running:
                raise KernelError("the kernel is already running")
            self._adopt_driver()
            self._running = True
            self._stop_event = stop
            self._speed = pace
            self._origin_ns = self.now_ns
            self._real_origin_ns = time.monotonic_ns()
        try:
            self._driver.delay_until(FOREVER if until_ns is None else until_ns)
        finally:
            with self.mutex:
                self._running = False
                self._speed = None
                self._stop_event = None

    def stop(self) -> None:
        """End the running `run`; from any thread."""
        self.inject(self._take_stop)

    def _take_stop(self) -> None:
        if self._driver.due_ns is not None:
            self._driver.due_ns = self.now_ns

    def close(self) -> None:
        """End every blocked client with KernelClosed. The kernel is of no use afterwards."""
        with self.mutex:
            self.closed = True
            while self._injected:
                self._injected.popleft()()
            for client in self._clients:
                if client is not self._holder and client is not self._driver and client.due_ns is not None:
                    client.baton.release()

    # -- clients -----------------------------------------------------------------------------------

    def spawn(self, fn: Callable[[], object], name: str) -> threading.Thread:
        """Start `fn` in a thread of its own as a lock-step client that is due now. Call it before running."""
        client = Client(self, name)

        def body() -> None:
            try:
                self._join(client)
                fn()
            except KernelClosed:
                pass
            except BaseException as error:
                self.fail(error)
            finally:
                self.detach(client)

        thread = threading.Thread(target=body, name=name, daemon=True)
        client.thread = thread
        self._admit(client)
        thread.start()
        return thread

    def attach(self, name: str | None = None) -> Client:
        """Make the calling thread a lock-step client; returns when it has its first turn."""
        thread = threading.current_thread()
        client = Client(self, name or thread.name)
        client.thread = thread
        self._admit(client)
        self._join(client)
        return client

    def client_here(self) -> Client:
        """The calling thread's client: the driver where it drives, else attached on first use."""
        client = self._by_thread.get(threading.get_ident())
        if client is not None:
            return client
        if threading.current_thread() is self._driver.thread:
            self._driver.local_ns = max(self._driver.local_ns, self.now_ns)
            return self._driver
        return self.attach()

    def read_clock_ns(self, cost_ns: int = 0) -> int:
        """The calling thread's time: a client's local time plus what reading costs, else the kernel's.

        Takes no lock and makes nobody a client.
        """
        client = self._by_thread.get(threading.get_ident())
        if client is not None:
            client.local_ns += cost_ns
            return client.local_ns
        if threading.current_thread() is self._driver.thread and not self.in_event:
            return max(self.now_ns, self._driver.local_ns)
        if self._speed is not None and self._idle:
            return max(self.now_ns, min(self._real_time_ns(), self._sleeps_until_ns))
        return self.now_ns

    def await_clients(self, count: int, timeout_s: float = 10.0) -> None:
        """Block (in real time) until `count` clients have come in all, so that a run starts with all of
        them.
        """
        with self._arrived:
            if not self._arrived.wait_for(lambda: self._arrivals >= count, timeout_s):
                raise KernelError(f"only {self._arrivals} of {count} clients came within {timeout_s:g} s")

    def _admit(self, client: Client) -> None:
        self.inject(lambda: self._take_client(client))
        with self._arrived:
            self._arrivals += 1
            self._arrived.notify_all()

    def _take_client(self, client: Client) -> None:
        client.local_ns = client.due_ns = self.now_ns
        self._clients.append(client)

    def check(self, client: Client) -> None:
        """Raise, in the client's thread, what ends its turn: a closed kernel, or an event that failed."""
        if self.closed:
            raise KernelClosed("the kernel was closed")
        if client is self._driver and self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _join(self, client: Client) -> None:
        """Wait, in the client's own thread, for its first turn."""
        self._by_thread[threading.get_ident()] = client
        client.baton.acquire()
        with self.mutex:
            client.due_ns = None
            self.check(client)

    def detach(self, client: Client) -> None:
        """Take a client out; the baton goes on where it held it."""
        for ident, known in list(self._by_thread.items()):
            if known is client:
                del self._by_thread[ident]
        with self.mutex:
            if client in self._clients:
                self._clients.remove(client)
            if client is self._holder and not self.closed:
                self._holder = self.choose()
                self._holder.baton.release()

    def fail(self, error: BaseException) -> None:
        """End the run with this error, raised from `run` in the driver's thread."""
        with self.mutex:
            if self._failure is None:
                self._failure = error

    def inject(self, action: Callable[[], None]) -> None:
        """Have the kernel do `action` at the current virtual time; from any thread, without blocking on a
        run.
        """
        self._injected.append(action)
        if self._idle:
            with self.mutex:
                self._changed.notify_all()

    # -- free-running callers ----------------------------------------------------------------------

    def call_free(self, fn: Callable[[], T]) -> T:
        """Run `fn` now for a thread that does not hold time (real-time mode)."""
        with self.mutex:
            self._follow_real_time()
            return fn()

    def to_monotonic_ns(self, t_ns: int) -> int:
        """The reading of time.monotonic_ns() that a paced run gives virtual time `t_ns`."""
        speed = self._speed or 1.0
        return self._real_origin_ns + int((t_ns - self._origin_ns) / speed)

    def _follow_real_time(self) -> None:
        """Move the clock to real time, but never past something that is due. The mutex is held."""
        if self._speed is not None and self._idle:
            self.now_ns = max(self.now_ns, min(self._real_time_ns(), self._sleeps_until_ns))

    def _real_time_ns(self) -> int:
        return self._origin_ns + int((time.monotonic_ns() - self._real_origin_ns) * (self._speed or 1.0))

    # -- the scheduler: everything below runs with the mutex held, in the thread that has the baton ----

    def _next_due(self) -> tuple[int, Client]:
        """(time of the next event or client, the client that is due first)."""
        first = self._driver
        first_due = FOREVER if first.due_ns is None else first.due_ns
        for client in self._clients:
            due = client.due_ns
            if due is not None and (due < first_due or (due == first_due and client.order < first.order)):
                first, first_due = client, due
        queue = self._queue
        while queue and queue[0][2].fn is None:
            heapq.heappop(queue)
        if queue and queue[0][0] <= first_due:
            return queue[0][0], first
        return first_due, first

    def may_run_ahead(self, t_ns: int) -> bool:
        """Move the clock to `t_ns` for the holder's next call where nothing queued and nobody's turn forbids it."""
        queue = self._queue
        self._calls_ahead -= 1
        if (
            self._calls_ahead < 0
            or t_ns > self._ahead_until_ns
            or (queue and queue[0][0] <= t_ns)
            or self.in_event
            or self._injected
            or self._speed is not None
            or self.closed
        ):
            return False
        self.now_ns = t_ns
        return True

    def now_due(self, t_ns: int) -> None:
        """A waiting client will want the baton at `t_ns`."""
        self._ahead_until_ns = min(self._ahead_until_ns, t_ns + LOOKAHEAD_NS)

    def _look_ahead(self, chosen: Client) -> None:
        """How far the chosen client may run before somebody else's turn; never past the driver's limit."""
        until = FOREVER
        for client in self._clients:
            if client is not chosen and client.due_ns is not None:
                slack = 0 if client is self._driver else LOOKAHEAD_NS
                until = min(until, client.due_ns + slack)
        self._ahead_until_ns = until
        self._calls_ahead = _CALLS_AHEAD

    def choose(self) -> Client:
        """Run events until a client is due; move the clock there and return the client."""
        while True:
            self._choices += 1
            while self._injected:
                self._injected.popleft()()
            if self._failure is not None or self._stopped():
                return self._driver
            t_ns, client = self._next_due()
            if t_ns >= FOREVER or (self._speed is not None and t_ns > self._real_time_ns()):
                self._sleep(t_ns)
                continue
            queue = self._queue
            if queue and queue[0][0] <= t_ns:
                self._run_event(heapq.heappop(queue)[2])
                continue
            self.now_ns = t_ns  # may be a little back, where the last client ran ahead
            self._look_ahead(client)
            return client

    def _run_event(self, event: Event) -> None:
        fn, event.fn = event.fn, None
        assert fn is not None
        self.now_ns = event.t_ns
        self.events_run += 1
        self.in_event = True
        try:
            fn()
        except BaseException as error:
            self._failure = self._failure or error
        finally:
            self.in_event = False

    def _stopped(self) -> bool:
        return self._stop_event is not None and self._running and self._stop_event.is_set()

    def _sleep(self, t_ns: int) -> None:
        """Let real time pass until `t_ns` is due, something is injected or queued, or a tick ends."""
        timeout: float | None = None
        if self._speed is not None and t_ns < FOREVER:
            timeout = (t_ns - self._real_time_ns()) / self._speed / 1e9
        if self._stop_event is not None:
            timeout = _TICK_S if timeout is None else min(timeout, _TICK_S)
        self._sleeps_until_ns = t_ns
        self._idle = True
        try:
            if not self._injected and (timeout is None or timeout > 0):
                self._changed.wait(timeout)
        finally:
            self._follow_real_time()
            self._idle = False

    def hand_over(self, giver: Client, to: Client) -> None:
        """Pass the baton and block until it comes back."""
        self._holder = to
        self.mutex.release()
        try:
            to.baton.release()
            if giver is self._driver:
                self._await_baton()
            else:
                giver.baton.acquire()
        finally:
            self.mutex.acquire()

    def _await_baton(self) -> None:
        """The driver's wait: it also notices threads that ended or computed for too long with the baton."""
        choices, since = self._choices, time.monotonic()
        while not self._driver.baton.acquire(timeout=_TICK_S):
            if self._idle or self._choices != choices:
                choices, since = self._choices, time.monotonic()
            holder = self._holder
            if holder.thread is not None and not holder.thread.is_alive() and holder is not self._driver:
                self.detach(holder)
            elif time.monotonic() - since > self.patience_s:
                raise ClientStalled(holder.name, self.patience_s)

    def _adopt_driver(self) -> None:
        self._driver.thread = threading.current_thread()
        self._by_thread.pop(threading.get_ident(), None)
