"""The surface of `gpiod` 2 over simulated lines: one chip, requests with a descriptor that really polls."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from types import TracebackType
from typing import Final

from hw_sim.edges import Trigger, Watch
from hw_sim.fakes import gpiod_line as line
from hw_sim.fakes import machine
from hw_sim.fakes.gpiod_line import Bias, Clock, Direction, Drive, Edge, Value

__version__: Final = "2.2.1"
_TRIGGERS: Final = {
    Edge.NONE: Trigger.NONE,
    Edge.RISING: Trigger.RISING,
    Edge.FALLING: Trigger.FALLING,
    Edge.BOTH: Trigger.BOTH,
}
_owners: dict[int, str] = {}  # requested line -> consumer


class ChipClosedError(Exception):
    """The chip was closed."""


class RequestReleasedError(Exception):
    """The request was released."""


@dataclass
class LineSettings:
    """How a line is requested. Bias, drive, debounce and clock are accepted and have no effect."""

    direction: Direction = Direction.AS_IS
    edge_detection: Edge = Edge.NONE
    bias: Bias = Bias.AS_IS
    drive: Drive = Drive.PUSH_PULL
    active_low: bool = False
    debounce_period: timedelta = timedelta()
    event_clock: Clock = Clock.MONOTONIC
    output_value: Value = Value.INACTIVE


@dataclass(frozen=True)
class EdgeEvent:
    """One edge; `line_seqno` shows lost ones."""

    class Type(Enum):
        RISING_EDGE = 1
        FALLING_EDGE = 2

    event_type: Type
    timestamp_ns: int
    line_offset: int
    global_seqno: int
    line_seqno: int


@dataclass(frozen=True)
class ChipInfo:
    """A GPIO chip's name and label."""

    name: str
    label: str
    num_lines: int


Lines = int | str | Iterable[int | str]


class LineRequest:
    """Lines held by a consumer, until `release`."""

    def __init__(self, consumer: str, config: Mapping[int, LineSettings]) -> None:
        for offset in config:
            if not 0 <= offset < machine.LINES:
                raise ValueError(f"line offset {offset} out of range")
            if offset in _owners:
                raise OSError(16, "Device or resource busy")
        self._host = machine.host()
        self._settings = dict(config)
        self._watch: Watch | None = None
        _owners.update(dict.fromkeys(config, consumer))
        self._apply()

    def _apply(self) -> None:
        if self._watch is not None:
            self._host.unwatch(self._watch)
        for offset, settings in self._settings.items():
            if settings.direction is Direction.OUTPUT:
                self._host.set_up_pin(offset, bool(settings.output_value) is not settings.active_low)
            elif settings.direction is Direction.INPUT:
                self._host.release_pin(offset)
        self._watch = self._host.watch({o: self._trigger(s) for o, s in self._settings.items()})
        self._fd = self._watch.fileno()

    @staticmethod
    def _trigger(settings: LineSettings) -> Trigger:
        trigger = _TRIGGERS[settings.edge_detection]
        if settings.active_low and trigger in (Trigger.RISING, Trigger.FALLING):
            return Trigger.FALLING if trigger is Trigger.RISING else Trigger.RISING
        return trigger

    @property
    def fd(self) -> int:
        """Readable while edge events are pending."""
        self._held()
        return self._fd

    def fileno(self) -> int:
        return self.fd

    @property
    def offsets(self) -> list[int]:
        return list(self._settings)

    lines = offsets

    def wait_edge_events(self, timeout: timedelta | float | None = None) -> bool:
        """Block for at most `timeout` (seconds; None: for ever; 0: not at all)."""
        watch = self._held()
        if not watch.pending and timeout != 0:
            seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
            until_ns = None if seconds is None else self._host.now_ns() + round(seconds * 1e9)
            self._host.wait((watch,), until_ns)
        return watch.pending > 0

    def read_edge_events(self, max_events: int | None = None) -> list[EdgeEvent]:
        """The pending events; blocks while there is none."""
        watch = self._held()
        while not watch.pending:
            self._host.wait((watch,), None)
        events = []
        for edge in self._host.take(watch, max_events or 64):
            rising = edge.rising is not self._settings[edge.line].active_low
            kind = EdgeEvent.Type.RISING_EDGE if rising else EdgeEvent.Type.FALLING_EDGE
            events.append(EdgeEvent(kind, edge.t_ns, edge.line, edge.seqno, edge.line_seqno))
        return events

    def get_value(self, line: int) -> Value:
        self._held()
        settings = self._settings[line]
        return Value.ACTIVE if self._host.read_pin(line) is not settings.active_low else Value.INACTIVE

    def get_values(self, lines: Iterable[int] | None = None) -> list[Value]:
        return [self.get_value(offset) for offset in (self._settings if lines is None else lines)]

    def set_value(self, line: int, value: Value) -> "LineRequest":
        return self.set_values({line: value})

    def set_values(self, values: Mapping[int, Value]) -> "LineRequest":
        self._held()
        for offset, value in values.items():
            if self._settings[offset].direction is not Direction.OUTPUT:
                raise PermissionError(1, "Operation not permitted")
            self._host.write_pin(offset, bool(value) is not self._settings[offset].active_low)
        return self

    def reconfigure_lines(self, config: Mapping[Lines, LineSettings | None]) -> "LineRequest":
        """New settings for the lines named, default ones for all others held; pending edges are lost."""
        self._held()
        wanted = _flat(config)
        self._settings = {offset: wanted.get(offset) or LineSettings() for offset in self._settings}
        self._apply()
        return self

    def release(self) -> None:
        watch = self._held()
        self._host.unwatch(watch)
        self._watch = None
        for offset in self._settings:
            _owners.pop(offset, None)

    def __enter__(self) -> "LineRequest":
        self._held()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watch is not None:
            self.release()

    def _held(self) -> Watch:
        if self._watch is None:
            raise RequestReleasedError()
        return self._watch


class Chip:
    """The machine's one GPIO controller."""

    def __init__(self, path: str) -> None:
        if not is_gpiochip_device(path):
            raise FileNotFoundError(2, "No such file or directory")
        self.path = path
        self._open = True

    def get_info(self) -> ChipInfo:
        self._check()
        return ChipInfo("gpiochip0", machine.GPIO_CHIP_LABEL, machine.LINES)

    def request_lines(
        self,
        config: Mapping[Lines, LineSettings | None],
        consumer: str | None = None,
        event_buffer_size: int | None = None,
        output_values: Mapping[int, Value] | None = None,
    ) -> "LineRequest":
        """Take lines. Raises OSError(16) where another request holds one."""
        self._check()
        settings = _flat(config)
        for offset, value in (output_values or {}).items():
            settings[offset] = LineSettings(direction=Direction.OUTPUT, output_value=value)
        return LineRequest(consumer or "?", settings)

    def close(self) -> None:
        self._open = False

    def __bool__(self) -> bool:
        return self._open

    def __enter__(self) -> "Chip":
        self._check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self) -> None:
        if not self._open:
            raise ChipClosedError()


def is_gpiochip_device(path: str) -> bool:
    """There is one."""
    return path == machine.GPIO_CHIP


def request_lines(
    path: str,
    config: Mapping[Lines, LineSettings | None],
    consumer: str | None = None,
    event_buffer_size: int | None = None,
    output_values: Mapping[int, Value] | None = None,
) -> "LineRequest":
    """`Chip(path).request_lines(...)`."""
    with Chip(path) as chip:
        return chip.request_lines(config, consumer, event_buffer_size, output_values)


def close_all() -> None:
    """Free every line, as when the process ends (for `hw_sim.fakes.uninstall`)."""
    _owners.clear()


def _flat(config: Mapping[Lines, LineSettings | None]) -> dict[int, LineSettings]:
    """Settings by offset; keys may be offsets, names like "GPIO4", or tuples of these."""
    flat: dict[int, LineSettings] = {}
    for key, settings in config.items():
        for name in (key,) if isinstance(key, int | str) else key:
            offset = name if isinstance(name, int) else int(name.removeprefix("GPIO"))
            flat[offset] = settings or LineSettings()
    return flat


__all__ = [
    "Chip", "ChipClosedError", "ChipInfo", "EdgeEvent", "LineRequest", "LineSettings", "RequestReleasedError",
    "is_gpiochip_device", "line", "request_lines",
]  # fmt: skip
