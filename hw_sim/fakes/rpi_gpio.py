"""The surface of `RPi.GPIO` over simulated lines, as rpi-lgpio offers it too.

All callbacks run in one thread of the module's own, one after the other; what a callback raises is logged
and does not end it. `emulate_broken_edges` makes `add_event_detect` fail as RPi.GPIO 0.7.1 does on kernels
from 6.6 on, `emulate_unknown_pi` makes `setup` fail as it does on a Pi 5.
"""

import logging
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Final

from hw_sim.edges import Trigger, Watch
from hw_sim.fakes import machine
from hw_sim.hosts import Host

log = logging.getLogger(__name__)

VERSION: Final = "0.7.2"
RPI_INFO: Final = {"P1_REVISION": 3, "TYPE": "Pi 4 Model B", "MANUFACTURER": "Simulated", "RAM": "4G"}
RPI_REVISION: Final = 3
BOARD, BCM = 10, 11
OUT, IN = 0, 1
LOW, HIGH = 0, 1
RISING, FALLING, BOTH = 31, 32, 33
PUD_OFF, PUD_DOWN, PUD_UP = 20, 21, 22
SERIAL, SPI, I2C, HARD_PWM, UNKNOWN = 40, 41, 42, 43, -1

# Pin of the 40-pin header -> BCM line.
_HEADER: Final = {
    3: 2, 5: 3, 7: 4, 8: 14, 10: 15, 11: 17, 12: 18, 13: 27, 15: 22, 16: 23, 18: 24, 19: 10, 21: 9, 22: 25, 23: 11,
    24: 8, 26: 7, 29: 5, 31: 6, 32: 12, 33: 13, 35: 19, 36: 16, 37: 26, 38: 20, 40: 21,
}  # fmt: skip
_TRIGGERS: Final = {RISING: Trigger.RISING, FALLING: Trigger.FALLING, BOTH: Trigger.BOTH}

Callback = Callable[[int], object]
Channels = int | Sequence[int]

emulate_broken_edges = False
emulate_unknown_pi = False
_mode: int | None = None
_warn = True
_directions: dict[int, int] = {}
_lock = threading.Lock()


class _Detector:
    """Edge detection on one channel."""

    def __init__(self, channel: int, trigger: Trigger, bounce_ms: int) -> None:
        self.channel = channel
        self.callbacks: list[Callback] = []
        self.detected = False
        self._bounce_ns = bounce_ms * 1_000_000
        self._last_ns: int | None = None
        self.watch: Watch = machine.host().watch({_line(channel): trigger})

    def accept(self, t_ns: int) -> bool:
        """False within the bounce time of the last edge that counted."""
        if self._last_ns is not None and t_ns - self._last_ns < self._bounce_ns:
            return False
        self._last_ns = t_ns
        self.detected = True
        return True


class _CallbackThread:
    """Waits for the edges of all detectors and runs their callbacks."""

    def __init__(self) -> None:
        self._host: Host = machine.host()
        self._ending = False
        self._control = self._host.watch({})
        self._thread = self._host.spawn(self._run, "RPi.GPIO")

    def refresh(self) -> None:
        """Look at the detectors again."""
        self._host.poke(self._control)

    def end(self) -> None:
        """No callback starts after this."""
        self._ending = True
        self.refresh()

    def _run(self) -> None:
        while not self._ending:
            with _lock:
                detectors = list(_detectors.values())
            self._host.wait([self._control, *(d.watch for d in detectors)], None)
            self._host.take(self._control)
            for detector in detectors:
                self._serve(detector)
            self._host.nudge()
        self._host.unwatch(self._control)

    def _serve(self, detector: _Detector) -> None:
        for edge in self._host.take(detector.watch):
            if not detector.accept(edge.t_ns):
                continue
            for callback in tuple(detector.callbacks):
                if self._ending:
                    return
                try:
                    callback(detector.channel)
                except Exception:
                    log.exception("an edge callback failed")


_detectors: dict[int, _Detector] = {}
_thread: _CallbackThread | None = None


def setmode(mode: int) -> None:
    """BCM or BOARD numbering; a change needs `cleanup` first."""
    global _mode
    if mode not in (BCM, BOARD):
        raise ValueError("An invalid mode was passed to setmode()")
    if _mode is not None and mode != _mode:
        raise ValueError("A different mode has already been set!")
    _mode = mode


def getmode() -> int | None:
    return _mode


def setwarnings(flag: bool) -> None:
    global _warn
    _warn = bool(flag)


def setup(
    channels: Channels, direction: int, pull_up_down: int = PUD_OFF, initial: int | None = None
) -> None:
    """Make channels inputs or outputs. Pull resistors have no effect: chips drive the lines."""
    if direction not in (IN, OUT):
        raise ValueError("An invalid direction was passed to setup()")
    if direction == IN and initial is not None:
        raise ValueError("initial parameter is not valid for inputs")
    if emulate_unknown_pi:
        raise RuntimeError("Cannot determine SOC peripheral base address")
    for channel in _each(channels):
        line = _line(channel)
        if channel in _directions and _warn:
            warnings.warn(
                "This channel is already in use, continuing anyway.  Use GPIO.setwarnings(False) to disable "
                "warnings.",
                RuntimeWarning,
                stacklevel=2,
            )
        _directions[channel] = direction
        if initial is not None:
            machine.host().set_up_pin(line, bool(initial))
        elif direction == IN:
            machine.host().release_pin(line)


def cleanup(channels: Channels | None = None) -> None:
    """Forget channels (None: all, and the numbering)."""
    global _mode, _thread
    for channel in list(_directions) if channels is None else _each(channels):
        if channel in _detectors:
            remove_event_detect(channel)
        _directions.pop(channel, None)
    if channels is None:
        _mode = None
    if not _directions and _thread is not None:
        _thread.end()
        _thread = None


def input(channel: int) -> int:  # noqa: A001 - the library's name
    """A channel's level."""
    if channel not in _directions:
        raise RuntimeError("You must setup() the GPIO channel first")
    return HIGH if machine.host().read_pin(_line(channel)) else LOW


def output(channels: Channels, values: int | bool | Sequence[int | bool]) -> None:
    """Drive output channels."""
    numbers = _each(channels)
    levels = [values] * len(numbers) if isinstance(values, int) else list(values)
    if len(levels) != len(numbers):
        raise RuntimeError("Number of channels != number of values")
    for channel, level in zip(numbers, levels, strict=True):
        if _directions.get(channel) != OUT:
            raise RuntimeError("The GPIO channel has not been set up as an OUTPUT")
        machine.host().write_pin(_line(channel), bool(level))


def gpio_function(channel: int) -> int:
    """IN or OUT, and UNKNOWN for a channel nobody set up."""
    _line(channel)
    return _directions.get(channel, UNKNOWN)


def add_event_detect(channel: int, edge: int, callback: Callback | None = None, bouncetime: int = 0) -> None:
    """Watch a channel's edges. Raises RuntimeError where it is watched already."""
    if edge not in _TRIGGERS:
        raise ValueError("The edge must be set to RISING, FALLING or BOTH")
    _need_input(channel)
    if emulate_broken_edges:
        raise RuntimeError("Failed to add edge detection")
    if channel in _detectors:
        raise RuntimeError("Conflicting edge detection already enabled for this GPIO channel")
    detector = _Detector(channel, _TRIGGERS[edge], max(0, bouncetime))
    if callback is not None:
        detector.callbacks.append(callback)
    with _lock:
        _detectors[channel] = detector
    _watch_in_background()


def add_event_callback(channel: int, callback: Callback) -> None:
    """One more callback for a watched channel."""
    if channel not in _detectors:
        raise RuntimeError("Add event detection using add_event_detect first before adding a callback")
    _detectors[channel].callbacks.append(callback)


def remove_event_detect(channel: int) -> None:
    """Stop watching; a channel nobody watches is no error."""
    with _lock:
        detector = _detectors.pop(channel, None)
    if detector is not None:
        detector.callbacks.clear()
        machine.host().unwatch(detector.watch)
        _watch_in_background()


def event_detected(channel: int) -> bool:
    """Was there an edge since the last time somebody asked?"""
    detector = _detectors.get(channel)
    if detector is None:
        return False
    detected, detector.detected = detector.detected, False
    return detected


def wait_for_edge(channel: int, edge: int, bouncetime: int = 0, timeout: int = -1) -> int | None:
    """Block for an edge, at most `timeout` ms; the channel, or None after the time."""
    if edge not in _TRIGGERS:
        raise ValueError("The edge must be set to RISING, FALLING or BOTH")
    _need_input(channel)
    host = machine.host()
    watch = host.watch({_line(channel): _TRIGGERS[edge]})
    try:
        host.wait((watch,), None if timeout < 0 else host.now_ns() + timeout * 1_000_000)
        return channel if watch.pending else None
    finally:
        host.unwatch(watch)


class PWM:
    """Accepted and without effect: no simulated part listens to one."""

    def __init__(self, channel: int, frequency: float) -> None:
        if _directions.get(channel) != OUT:
            raise RuntimeError("You must setup() the GPIO channel as an output first")
        self._frequency = frequency
        self._duty = 0.0

    def start(self, duty_cycle: float) -> None:
        self.ChangeDutyCycle(duty_cycle)

    def ChangeDutyCycle(self, duty_cycle: float) -> None:  # noqa: N802 - the library's name
        if not 0 <= duty_cycle <= 100:
            raise ValueError("dutycycle must have a value from 0.0 to 100.0")
        self._duty = duty_cycle

    def ChangeFrequency(self, frequency: float) -> None:  # noqa: N802 - the library's name
        if frequency <= 0:
            raise ValueError("frequency must be greater than 0.0")
        self._frequency = frequency

    def stop(self) -> None:
        self._duty = 0.0


def _watch_in_background() -> None:
    global _thread
    if _thread is None:
        _thread = _CallbackThread()
    else:
        _thread.refresh()


def _need_input(channel: int) -> None:
    _line(channel)
    if _directions.get(channel) != IN:
        raise RuntimeError("You must setup() the GPIO channel as an input first")


def _each(channels: Channels) -> list[int]:
    return [channels] if isinstance(channels, int) else list(channels)


def _line(channel: int) -> int:
    """The BCM line of a channel."""
    if _mode is None:
        raise RuntimeError(
            "Please set pin numbering mode using GPIO.setmode(GPIO.BOARD) or GPIO.setmode(GPIO.BCM)"
        )
    line = _HEADER.get(channel) if _mode == BOARD else channel
    if line is None or not 0 <= line <= 53:
        raise ValueError("The channel sent is invalid on a Raspberry Pi")
    return line
