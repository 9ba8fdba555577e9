"""Signal strength across the band, measured in the pauses of a module that goes on receiving.

For each point the receiver is away from its channel for a moment, never for longer than a preamble can spare
(three symbols of its eight; five are needed to lock), and then at home for at least as long as a preamble
takes. Before it leaves it looks whether a frame is coming in: RegModemStat knows of a preamble from its fifth
symbol on, the channel's strength of one that has just begun, if it stands out of the noise. So no frame in
progress is lost, and none that begins meanwhile, except one that is both weaker than the noise and in its
first five symbols when the receiver leaves.

    HOME ──a preamble's time, no frame, no downlink near──▶ AWAY ──time is up──▶ HOME
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from statistics import median_low
from typing import Any, Final

from radio.lora import LoRaModulation
from radio.sx127x import registers as r
from radio.sx127x.chip import Chip
from radio.sx127x.registers import FREQUENCY_RANGE_HZ, Irq, Mode, Settings

MAX_POINTS: Final = 512
MAX_DWELL_MS: Final = 1000
MIN_STEP_HZ: Final = 1000
LIMIT_S: Final = 100  # whoever asked waits no longer
LIMIT_NS: Final = 60_000_000_000  # a scan ends after this, with what it has
_MS: Final = 1_000_000
_US: Final = 1000
_SPARE_SYMBOLS: Final = 3
_HOME_SYMBOLS: Final = 8
_SETTLE_NS: Final = 500 * _US  # from the mode write until RegRssiValue shows the new channel
_READ_EVERY_NS: Final = 200 * _US
_RETURN_TRANSFERS: Final = 10  # to set the channel and be back in RXCONT
_RX_START_NS: Final = 150 * _US
_SIGNAL: Final = 0x07  # in ModemStat: receiving, synchronised, preamble detected
_OUTSTANDING_DB: Final = 6  # above the quiet channel: a signal, not the flicker of the noise
_REMEMBERED: Final = 64  # readings of the home channel; after so many a new hum counts as quiet
_DOWNLINK_ROOM_NS: Final = 2 * _MS


@dataclass(frozen=True, slots=True)
class ScanPlan:
    """Which frequencies are measured, and each for how long. Raises ValueError in words for the asker."""

    start_hz: int
    stop_hz: int  # included where a step hits it
    step_hz: int = 200_000
    dwell_ms: int = 10  # 1..1000 of measuring at each point, spread over as many visits as it takes

    def __post_init__(self) -> None:
        low_hz, high_hz = FREQUENCY_RANGE_HZ
        if not low_hz <= self.start_hz <= self.stop_hz <= high_hz:
            raise ValueError(
                f"scan {low_hz / 1e6:g} to {high_hz / 1e6:g} MHz, upwards: "
                f"not {self.start_hz / 1e6:g} to {self.stop_hz / 1e6:g}"
            )
        if self.step_hz < MIN_STEP_HZ:
            raise ValueError(f"a step of {self.step_hz} Hz is less than {MIN_STEP_HZ}")
        if len(self.points) > MAX_POINTS:
            raise ValueError(f"{len(self.points)} points are more than {MAX_POINTS}: take a larger step")
        if not 1 <= self.dwell_ms <= MAX_DWELL_MS:
            raise ValueError(f"dwell {self.dwell_ms} ms is not 1 to {MAX_DWELL_MS}")

    @property
    def points(self) -> range:
        """The frequencies."""
        return range(self.start_hz, self.stop_hz + 1, self.step_hz)


def scan_arguments(args: Mapping[str, Any]) -> dict[str, int]:
    """What a request for a scan says, for `Radio.scan`. Raises ValueError in words for the asker."""
    known = {"start_hz", "stop_hz", "step_hz", "dwell_ms", "module"}
    given = {name: value for name, value in args.items() if value is not None}
    if given.keys() - known or not {"start_hz", "stop_hz"} <= given.keys():
        raise ValueError(
            f"a scan takes start_hz and stop_hz, and may take step_hz, dwell_ms, module: {sorted(args)}"
        )
    for name, value in given.items():
        if type(value) is not int:
            raise ValueError(f"{name} is not a whole number")
    return given


@dataclass(slots=True)
class ScanJob:
    """An order for a scan and, once `done` is set, what came of it."""

    plan: ScanPlan
    done: threading.Event = field(default_factory=threading.Event)
    readings: dict[int, list[int]] = field(default_factory=dict)  # dBm, by frequency
    waited_ns: int = 0  # longer at home than it takes, for frames and downlinks
    frames_spared: int = 0  # times a frame was coming in when the receiver wanted to leave
    failure: str = ""

    def end(self, failure: str = "") -> None:
        """It is over: finished, or given up for this reason."""
        self.failure = failure
        self.done.set()

    def result(self, module: str) -> dict[str, Any]:
        """Plain values; points that were not reached are missing, and `complete` says so."""
        points = [
            {"freq_hz": freq_hz, "rssi_dbm": median_low(found), "peak_dbm": max(found)}
            for freq_hz, found in sorted(self.readings.items())
            if found
        ]
        return {
            "module": module,
            "points": points,
            "complete": not self.failure and len(points) == len(self.plan.points),
            "waited_ms": self.waited_ns // _MS,
            "frames_spared": self.frames_spared,
        }


class Scanner:
    """Works off one job over one chip, in the module's own thread. Raises ChipError, OSError.

    `home` None: the module does not receive, so it may stay away for the whole dwell. `go_home` takes the chip
    back to its work; `occupied` tells, besides what the chip says, whether it must not be left now. `transfer_ns`:
    what a short transfer takes on this host.
    """

    def __init__(
        self,
        chip: Chip,
        job: ScanJob,
        home: Settings | None,
        *,
        go_home: Callable[[int], None],
        occupied: Callable[[], bool] = lambda: False,
        transfer_ns: int = 30 * _US,
    ) -> None:
        self.chip = chip
        self.job = job
        self.due_ns = 0  # when `on_time` wants to be called
        self.away = False
        self._home = home
        self._go_home = go_home
        self._occupied = occupied
        self._pending = deque(job.plan.points)
        self._measured_ns = 0  # at the present point, over all its visits
        self._symbol_ns = 0 if home is None else home.modulation.symbol_ns
        self._quiet: deque[int] = deque(maxlen=_REMEMBERED)
        self._came_home_ns = 0
        self._left_ns = 0
        self._limit_ns = 0
        self._return_ns = _RETURN_TRANSFERS * transfer_ns + _RX_START_NS
        self._spared = False  # this frame was counted

    def begin(self, now_ns: int) -> None:
        """Start; the module is at home."""
        self._limit_ns = now_ns + LIMIT_NS
        self.at_home(now_ns)

    def at_home(self, now_ns: int) -> None:
        """The module has come back to its work, from a visit or from a downlink: a preamble's time counts anew."""
        self.away = False
        self._came_home_ns = now_ns
        self._spared = False
        self.due_ns = now_ns + self._tick_ns

    def on_time(self, now_ns: int, next_start_ns: int | None = None) -> None:
        """`due_ns` has come. `next_start_ns`: when the next downlink is due to be armed."""
        if self.away:
            self._measure(now_ns)
            return
        if now_ns > self._limit_ns:
            self._end("")
            return
        away_ns = self._longest_ns + _DOWNLINK_ROOM_NS
        downlink_near = next_start_ns is not None and next_start_ns - now_ns < away_ns
        free = self._home is None or self._may_leave(now_ns)
        if free and not downlink_near:
            self._leave(now_ns)
            return
        self.due_ns = now_ns + self._tick_ns
        if now_ns - self._came_home_ns > self._home_ns:
            self.job.waited_ns += self._tick_ns

    def fail(self, reason: str) -> None:
        """The module has broken down: the job ends with what it has."""
        self._end(reason)

    # --- at home --------------------------------------------------------------------------------------

    @property
    def _home_ns(self) -> int:
        return _HOME_SYMBOLS * self._symbol_ns

    @property
    def _tick_ns(self) -> int:
        return max(_MS, self._symbol_ns)

    @property
    def _longest_ns(self) -> int:
        """How long the module may be away at most."""
        if self._home is None:
            return self.job.plan.dwell_ms * _MS + _SETTLE_NS + self._return_ns
        return _SPARE_SYMBOLS * self._symbol_ns

    def _may_leave(self, now_ns: int) -> bool:
        """Look at the channel, and whether the receiver is free."""
        first = r.REG_IRQ_FLAGS
        status = self.chip.read_burst(first, r.REG_RSSI_VALUE - first + 1)
        frame = self._frame_comes(status)
        if now_ns - self._came_home_ns < self._home_ns:
            return False
        if frame and not self._spared:
            self.job.frames_spared += 1
        self._spared = frame
        return not frame

    def _frame_comes(self, status: bytes) -> bool:
        """Whether registers 0x12 to 0x1B show that something is coming in."""
        assert self._home is not None
        flags, stat = Irq(status[0]), status[r.REG_MODEM_STAT - r.REG_IRQ_FLAGS]
        rssi_dbm = r.rssi_offset_dbm(self._home.freq_hz) + status[-1]
        if flags & (Irq.RX_DONE | Irq.VALID_HEADER) or stat & _SIGNAL or self._occupied():
            return True
        self._quiet.append(rssi_dbm)
        return rssi_dbm >= min(self._quiet) + _OUTSTANDING_DB

    # --- away -----------------------------------------------------------------------------------------

    def _leave(self, now_ns: int) -> None:
        if not self._pending:
            self._end("")
            return
        chip, freq_hz = self.chip, self._pending[0]
        settings = self._home or Settings(freq_hz, LoRaModulation(7, 125_000))
        self.away = True
        self._left_ns = now_ns
        chip.set_mode(Mode.STDBY)
        chip.configure_receive(replace(settings, freq_hz=freq_hz))
        chip.command(Mode.RXCONT)
        self.due_ns = now_ns + _SETTLE_NS

    def _measure(self, now_ns: int) -> None:
        """One reading; then another, or home."""
        freq_hz = self._pending[0]
        rssi_dbm = r.rssi_offset_dbm(freq_hz) + self.chip.read(r.REG_RSSI_VALUE)
        self.job.readings.setdefault(freq_hz, []).append(rssi_dbm)
        self._measured_ns += _READ_EVERY_NS
        enough = self._measured_ns >= self.job.plan.dwell_ms * _MS
        next_ns = now_ns + _READ_EVERY_NS
        if not enough and next_ns + _READ_EVERY_NS + self._return_ns - self._left_ns <= self._longest_ns:
            self.due_ns = next_ns
            return
        if enough:
            self._pending.popleft()
            self._measured_ns = 0
        self._go_home(now_ns)
        self.at_home(now_ns)
        if not self._pending:
            self._end("")

    def _end(self, reason: str) -> None:
        self._pending.clear()
        self.job.end(reason)
