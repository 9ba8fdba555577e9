"""The regular look at a chip that says nothing: is it still what and where it was, and does it hear at all?

Once a second everything is read back. In between only where edges get lost: then the chip is asked for frames
every few milliseconds. Time is an argument; SPI transfers happen inside `look`, through the chip.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from radio.errors import FaultKind
from radio.lora import airtime_us
from radio.sx127x import registers as r
from radio.sx127x.chip import Chip, Survey
from radio.sx127x.health import MS, Finding, judge
from radio.sx127x.registers import Irq, Mode, Settings

POLL_NS: Final = 1000 * MS  # how often the chip is looked at
FAST_POLL_NS: Final = 5 * MS  # how often it is asked for frames while edges do not come ...
FAST_FOR_NS: Final = 10_000 * MS  # ... which is so long after the last one that was lost
EDGE_GRACE_NS: Final = 2 * MS  # a flag without its edge may only be waiting for the edge to be read
# Every look finds the receiver inside a frame, and neither header nor frame comes out of it: so long beyond the
# longest frame.
STUCK_NS: Final = 4 * POLL_NS
STILL_NS: Final = 2 * MS  # the noise a receiver shows may be the same after this ...
STILL_LOOKS: Final = 16  # ... but not so often in a row: then it has no clock
HIGH_LOOKS: Final = 2  # what is tried against a DIO0 that stays high: a cycle through standby, then a reset


@dataclass(frozen=True, slots=True)
class LostEdge:
    """RxDone is set and no edge told of it; seen first at `since_ns`."""

    since_ns: int


@dataclass(slots=True)
class Watch:
    """Looks at one chip; `receive` None: it rests in standby. `line_high` reads DIO0."""

    chip: Chip
    receive: Settings | None
    line_high: Callable[[], bool] | None = None
    due_ns: int = 0  # when `look` wants to be called
    high_looks: int = 0  # in a row, at which DIO0 was high for no reason
    _look_ns: int = 0  # when everything is read back
    _fast_until_ns: int = 0
    _flag_since_ns: int | None = None
    _busy_since_ns: int | None = None  # the receiver says a frame is coming in
    _progress: bytes = b""  # its counters of headers and frames, then
    _still: int = 0  # looks in a row that showed the same noise

    def begin(self, now_ns: int) -> None:
        """The chip has just been set up and seen to be right."""
        self.due_ns = self._look_ns = now_ns + POLL_NS
        self._flag_since_ns = self._busy_since_ns = None
        self._still = 0

    def edge_came(self) -> None:
        """Edges are told of: no need to ask."""
        self._fast_until_ns = 0
        self._flag_since_ns = None

    @property
    def degraded(self) -> str:
        """What does not work as it should while the module works; empty otherwise."""
        if self.high_looks > HIGH_LOOKS:
            return "DIO0 stays high: frames are asked for, and their times are inexact"
        return "edges of DIO0 get lost: frames are asked for, and their times are inexact" * self.fast

    @property
    def fast(self) -> bool:
        """Whether the chip is asked every few milliseconds."""
        return self._fast_until_ns > 0

    @property
    def content(self) -> bool:
        """Whether the last look left nothing to be seen to."""
        return self.due_ns >= self._look_ns and not (self._still or self.high_looks)

    def look(self, now_ns: int) -> Finding | LostEdge | None:
        """What is wrong, if anything; sets `due_ns`. Raises ChipError or OSError."""
        found: Finding | LostEdge | None
        if now_ns < self._look_ns:
            found = self._ask(self.chip.status()[0], now_ns)
        else:
            self._look_ns = now_ns + POLL_NS
            survey, finding = self._survey()
            found = finding or self._closer_look(survey, now_ns)
        if self._fast_until_ns and now_ns >= self._fast_until_ns and not self.high_looks:
            self._fast_until_ns = 0
        self.due_ns = self._look_ns
        if self._flag_since_ns is not None:
            self.due_ns = min(self.due_ns, now_ns + EDGE_GRACE_NS)
        elif self.fast:
            self.due_ns = min(self.due_ns, now_ns + FAST_POLL_NS)
        return found

    def _survey(self) -> tuple[Survey, Finding | None]:
        """A survey, and what it shows twice: a reading damaged on the wire is right the next time."""
        survey = self.chip.survey()
        finding = judge(survey)
        if finding is not None:
            survey = self.chip.survey()
            again = judge(survey)
            if again is None:
                self.chip.incidents.append(FaultKind.SPI_NOISE)
            elif (
                self.receive is not None
                and again.kind is FaultKind.SETTINGS
                and survey.wrong.keys() <= r.FOR_SENDING
            ):
                self.chip.restore(survey)  # without leaving a frame that may be coming in
                self.chip.incidents.append(FaultKind.SETTINGS)
                again = None
            finding = again
        return survey, finding

    def _closer_look(self, survey: Survey, now_ns: int) -> Finding | LostEdge | None:
        stale = survey.flags & ~Irq.RX_DONE
        if self.receive is None:
            if survey.flags:
                self.chip.clear_surely(survey.flags)
            self._exercise()
            return self._line(now_ns)
        if stale and not survey.receiving and Irq.RX_DONE not in survey.flags:
            self.chip.clear_surely(stale)
        return (
            self._ask(survey.flags, now_ns)
            or self._line(now_ns)
            or self._inside_a_frame(survey, self.receive, now_ns)
            or self._noise(survey, now_ns)
        )

    def _ask(self, flags: Irq, now_ns: int) -> LostEdge | None:
        """A frame whose edge did not come."""
        if self.receive is None or Irq.RX_DONE not in flags:
            self._flag_since_ns = None
            return None
        if self._flag_since_ns is None:
            self._flag_since_ns = now_ns
            return None
        since_ns, self._flag_since_ns = self._flag_since_ns, None
        self._fast_until_ns = now_ns + FAST_FOR_NS
        return LostEdge(since_ns)

    def _line(self, now_ns: int) -> Finding | None:
        """DIO0 is high: is there a flag that raises it?"""
        if self.line_high is None or self._flag_since_ns is not None:
            return None
        if not self.line_high() or self.chip.flags() or not self.line_high():
            self.high_looks = 0
            return None
        self.high_looks += 1
        if self.high_looks > HIGH_LOOKS:  # not the chip's doing: live with it
            self._fast_until_ns = now_ns + 2 * POLL_NS
            return None
        reset = self.high_looks == HIGH_LOOKS
        return Finding(FaultKind.STUCK_LINE, "DIO0 is high for no reason", reset=reset)

    def _inside_a_frame(self, survey: Survey, receive: Settings, now_ns: int) -> Finding | None:
        """Is it stuck in one?"""
        progress = survey.registers[r.REG_RX_HEADER_CNT_MSB : r.REG_RX_PACKET_CNT_LSB + 1]
        if not survey.receiving or progress != self._progress or self._busy_since_ns is None:
            self._busy_since_ns = now_ns if survey.receiving else None
            self._progress = progress
            return None
        longest_ns = airtime_us(receive.modulation, 255, preamble=receive.preamble, crc=True) * 1000
        if now_ns - self._busy_since_ns <= longest_ns + STUCK_NS:
            return None
        return Finding(
            FaultKind.RX_STUCK, "it says a frame is coming in, and none ever comes out", reset=False
        )

    def _noise(self, survey: Survey, now_ns: int) -> Finding | None:
        """A receiver without a clock answers as before, but its noise stands still."""
        seen = survey.registers[r.REG_RSSI_VALUE], survey.registers[r.REG_RSSI_WIDEBAND]
        if self.chip.life() != seen:
            self._still = 0
            return None
        self._still += 1
        if self._still >= STILL_LOOKS:
            return Finding(FaultKind.CRYSTAL, "its receiver stands still", reset=True)
        self._look_ns = now_ns + STILL_NS
        return None

    def _exercise(self) -> None:
        """A module that only sends: does it still change modes? Better asked now than at the next downlink."""
        self.chip.set_mode(Mode.FSRX)
        self.chip.set_mode(Mode.STDBY)
