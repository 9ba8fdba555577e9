"""The surface of `lgpio` over simulated lines: handles, claims, and callbacks that carry a time stamp.

Calls that fail raise `error`, as lgpio does unless told otherwise. Callbacks run in a thread of the
module's own.
"""

import logging
from collections.abc import Callable
from typing import Final

from hw_sim.edges import Trigger, Watch
from hw_sim.fakes import machine

log = logging.getLogger(__name__)

RISING_EDGE, FALLING_EDGE, BOTH_EDGES = 1, 2, 3
LOW, HIGH, TIMEOUT = 0, 1, 2
SET_ACTIVE_LOW, SET_OPEN_DRAIN, SET_OPEN_SOURCE = 4, 8, 16
SET_PULL_UP, SET_PULL_DOWN, SET_PULL_NONE = 32, 64, 128
_TRIGGERS: Final = {
    RISING_EDGE: Trigger.RISING,
    FALLING_EDGE: Trigger.FALLING,
    BOTH_EDGES: Trigger.BOTH,
}

Alert = Callable[[int, int, int, int], object]  # chip, gpio, level, tick (ns)

stamp_offset_ns = 0  # kernels up to 5.6 stamp edges with the wall clock: set it to wall minus monotonic time
_handles: set[int] = set()
_outputs: dict[tuple[int, int], bool] = {}  # (handle, gpio) -> is an output
_alerts: dict[tuple[int, int], int] = {}  # (handle, gpio) -> edges
_debounce_us: dict[tuple[int, int], int] = {}
_callbacks: list["_Callback"] = []


class error(Exception):  # noqa: N801 - the library's name
    """What every failing call raises."""


class _Callback:
    """A function called at the edges of one line, until `cancel`."""

    def __init__(self, handle: int, gpio: int, edge: int, func: Alert) -> None:
        self._where = (handle, gpio)
        self._func = func
        self._last_ns: int | None = None
        self._ending = False
        self._host = machine.host()
        self._watch: Watch = self._host.watch({gpio: _TRIGGERS[edge]})
        self._host.spawn(self._run, f"lgpio {gpio}")

    def cancel(self) -> None:
        """No call starts after this."""
        self._ending = True
        self._host.poke(self._watch)
        if self in _callbacks:
            _callbacks.remove(self)

    def _run(self) -> None:
        while not self._ending:
            self._host.wait((self._watch,), None)
            for edge in self._host.take(self._watch):
                quiet_ns = _debounce_us.get(self._where, 0) * 1000
                if self._ending or (self._last_ns is not None and edge.t_ns - self._last_ns < quiet_ns):
                    continue
                self._last_ns = edge.t_ns
                try:
                    self._func(self._where[0], edge.line, int(edge.rising), edge.t_ns + stamp_offset_ns)
                except Exception:
                    log.exception("an edge callback failed")
            self._host.nudge()
        self._host.unwatch(self._watch)


def gpiochip_open(gpiochip: int) -> int:
    """A handle to /dev/gpiochip<n>."""
    if gpiochip != 0:
        raise error("can not open gpiochip")
    handle = max(_handles, default=-1) + 1
    _handles.add(handle)
    return handle


def gpiochip_close(handle: int) -> int:
    """Free the handle, and the lines claimed with it."""
    _check(handle)
    _handles.discard(handle)
    for claims in (_outputs, _alerts, _debounce_us):
        for where in [where for where in claims if where[0] == handle]:
            del claims[where]
    return 0


def gpio_get_chip_info(handle: int) -> list[int | str]:
    """Status, number of lines, name and label of an open chip."""
    _check(handle)
    return [0, machine.LINES, "gpiochip0", machine.GPIO_CHIP_LABEL]


def gpio_claim_input(handle: int, gpio: int, lFlags: int = 0) -> int:  # noqa: N803 - the library's name
    _claim(handle, gpio, is_output=False)
    machine.host().release_pin(gpio)
    return 0


def gpio_claim_output(handle: int, gpio: int, level: int = 0, lFlags: int = 0) -> int:  # noqa: N803
    _claim(handle, gpio, is_output=True)
    machine.host().set_up_pin(gpio, bool(level))
    return 0


def gpio_claim_alert(
    handle: int,
    gpio: int,
    eFlags: int,  # noqa: N803 - the library's name
    lFlags: int = 0,  # noqa: N803
    notify_handle: int | None = None,
) -> int:
    """Claim an input whose edges are reported to callbacks."""
    if eFlags not in _TRIGGERS:
        raise error("bad event request")
    _claim(handle, gpio, is_output=False)
    machine.host().release_pin(gpio)
    _alerts[handle, gpio] = eFlags
    return 0


def gpio_free(handle: int, gpio: int) -> int:
    _check(handle)
    if _outputs.pop((handle, gpio), None) is None:
        raise error("GPIO not allocated")
    _alerts.pop((handle, gpio), None)
    return 0


def gpio_read(handle: int, gpio: int) -> int:
    _check(handle)
    return int(machine.host().read_pin(gpio))


def gpio_write(handle: int, gpio: int, level: int) -> int:
    _check(handle)
    if not _outputs.get((handle, gpio), False):
        raise error("GPIO not set as an output")
    machine.host().write_pin(gpio, bool(level))
    return 0


def gpio_set_debounce_micros(handle: int, gpio: int, debounce_micros: int) -> int:
    _check(handle)
    _debounce_us[handle, gpio] = debounce_micros
    return 0


def callback(handle: int, gpio: int, edge: int = RISING_EDGE, func: Alert | None = None) -> _Callback:
    """Call `func(chip, gpio, level, tick)` at edges of a line claimed for alerts."""
    _check(handle)
    if (handle, gpio) not in _alerts or edge not in _TRIGGERS:
        raise error("GPIO not allocated")
    made = _Callback(handle, gpio, edge, func or (lambda chip, gpio, level, tick: None))
    _callbacks.append(made)
    return made


def close_all() -> None:
    """Cancel every callback and forget every handle (for `hw_sim.fakes.uninstall`)."""
    for active in tuple(_callbacks):
        active.cancel()
    for claims in (_outputs, _alerts, _debounce_us):
        claims.clear()
    _handles.clear()


def _check(handle: int) -> None:
    if handle not in _handles:
        raise error("unknown handle")


def _claim(handle: int, gpio: int, *, is_output: bool) -> None:
    _check(handle)
    if not 0 <= gpio < machine.LINES:
        raise error("bad GPIO number")
    if any(other == gpio and owner != handle for owner, other in _outputs):
        raise error("'GPIO busy'")
    _outputs[handle, gpio] = is_output
