"""What is wrong with a chip, from what its registers read; and the book of what went wrong so far. Pure.

`judge` and `diagnose` are the rules. `Health` counts by kind, tells an episode's first sign from its repetitions,
and says when mild measures have been tried often enough. The ladder itself, from reading once more to a reset at
growing intervals, is climbed by the modem and its owner.
"""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, Final

from radio.errors import FaultKind
from radio.sx127x import registers as r
from radio.sx127x.chip import Survey
from radio.sx127x.registers import Mode

MS: Final = 1_000_000
EPISODE_NS: Final = 60_000 * MS  # so long without a sign of it, and the next one is said in the log again
MILD_LIMIT: Final = 3  # mild measures against one kind ...
MILD_NS: Final = 20_000 * MS  # ... within this; after that the chip is reset
FEW: Final = 3  # registers wrong at once; more of them, and others that nobody compares may be wrong as well

# What a technician should look at, by kind.
ADVICE: Final[dict[FaultKind, str]] = {
    FaultKind.LOST_EDGE: "check the wire of DIO0; until edges come again the module is asked every few milliseconds",
    FaultKind.STUCK_LINE: "DIO0 is joined to the supply or to another wire; the module is asked instead, and "
    "its downlinks are less exact",
    FaultKind.STUCK_FLAG: "the module is defective where a reset does not end it: replace it",
    FaultKind.SPI_NOISE: "SPI wires are long, loose or beside something that disturbs: shorten them, or lower "
    "spi_hz in the board file",
    FaultKind.SPI_LOW: "check the module's 3.3 V, ground, MISO and chip select",
    FaultKind.SPI_HIGH: "check the module's chip select, MISO, 3.3 V and ground",
    FaultKind.SPI_ECHO: "MISO touches MOSI: check these two wires",
    FaultKind.SPI_REFUSED: "the system cannot use the SPI device: see the kernel's log (dmesg)",
    FaultKind.BROWN_OUT: "its supply dips: use a stronger power supply, shorter wires, and 100 uF beside the module",
    FaultKind.SETTINGS: "its supply or SPI wires are disturbed: shorten the wires, or lower spi_hz in the board file",
    FaultKind.MODE: "where this goes on, check supply and SPI wires",
    FaultKind.CRYSTAL: "its crystal does not run: the module is too cold, wet or defective",
    FaultKind.PLL: "the module cannot tune to this frequency: it is made for another band, or defective",
    FaultKind.TX_HUNG: "its supply may be too weak for this power: use a stronger one, or lower max_power_dbm",
    FaultKind.RX_STUCK: "something strong disturbs this channel, or the module is defective",
    FaultKind.OTHER: "check that the board file describes this module",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something is wrong. `reset`: nothing milder will do."""

    kind: FaultKind
    reason: str
    reset: bool


_BROWN_OUT: Final = Finding(
    FaultKind.BROWN_OUT, "it has been reset by something: its settings are gone", reset=True
)


def judge(survey: Survey) -> Finding | None:
    """What a survey shows; None where everything is as it was set."""
    body = survey.registers[1:]
    if not any(body):
        return Finding(FaultKind.SPI_LOW, "all registers read 0x00", reset=True)
    if body.count(0xFF) == len(body):
        return Finding(FaultKind.SPI_HIGH, "all registers read 0xff", reset=True)
    op_mode, should = survey.registers[r.REG_OP_MODE], survey.op_mode
    if not survey.mode_right:
        if not op_mode & r.LONG_RANGE_MODE:
            return Finding(
                FaultKind.BROWN_OUT, "it has been reset by something: its settings are gone", reset=True
            )
        return Finding(
            FaultKind.MODE,
            f"it is in {Mode(op_mode & 7).name} and should be in {Mode(should & 7).name}",
            reset=False,
        )
    if len(survey.wrong) > FEW and survey.registers[r.REG_FRF_MSB : r.REG_FRF_LSB + 1] == r.FRF_AFTER_RESET:
        return _BROWN_OUT
    if survey.wrong:
        register, (wanted, read) = next(iter(survey.wrong.items()))
        more = f", and {len(survey.wrong) - 1} more" if len(survey.wrong) > 1 else ""
        reason = f"register 0x{register:02x} reads 0x{read:02x} and should be 0x{wanted:02x}{more}"
        return Finding(FaultKind.SETTINGS, reason, reset=len(survey.wrong) > FEW)
    # Of FSTX and FSRX the bit says nothing: it is that of the last time the chip sent or received.
    if should & 7 in (Mode.TX, Mode.RXCONT) and survey.registers[r.REG_HOP_CHANNEL] & r.PLL_TIMEOUT:
        return Finding(FaultKind.PLL, "its synthesiser does not lock", reset=False)
    return None


def diagnose(survey: Survey) -> FaultKind:
    """What kind of thing made a command fail again and again."""
    finding = judge(survey)
    if finding is None:
        return FaultKind.SPI_NOISE
    if finding.kind is FaultKind.MODE and survey.registers[r.REG_OP_MODE] & 7 == Mode.SLEEP:
        return FaultKind.CRYSTAL  # asleep it answers without one
    return finding.kind


@dataclass(slots=True)
class Span:
    """The last and the longest of some durations."""

    last_ns: int = 0
    worst_ns: int = 0

    def add(self, ns: int) -> None:
        """One more."""
        self.last_ns = ns
        self.worst_ns = max(self.worst_ns, ns)

    def status(self) -> dict[str, float]:
        """Milliseconds."""
        return {"last": round(self.last_ns / MS, 1), "worst": round(self.worst_ns / MS, 1)}


@dataclass(slots=True)
class Health:
    """The faults of one module since the process started."""

    by_kind: Counter[FaultKind] = field(default_factory=Counter)
    recovered: int = 0  # of all these, how many the module works again after
    detection: Span = field(default_factory=Span)  # at most: since everything had last been seen to be right
    recovery: Span = field(default_factory=Span)  # from detection until it worked again
    _good_ns: int | None = None
    _since_ns: int | None = None  # detection of what is not yet mended
    _open: int = 0
    _episodes: dict[FaultKind, tuple[int, int]] = field(default_factory=dict)  # when last, how often
    _mild: dict[FaultKind, deque[int]] = field(default_factory=dict)  # bounded: the kinds, MILD_LIMIT each

    def good(self, now_ns: int) -> None:
        """Everything was seen to be right: whatever was wrong is mended."""
        self._good_ns = now_ns
        if self._since_ns is not None:
            self.recovery.add(now_ns - self._since_ns)
            self.recovered += self._open
            self._since_ns, self._open = None, 0

    def detected(self, kind: FaultKind, now_ns: int) -> bool:
        """Something is wrong; True where the log should say so: at the beginning of an episode."""
        self.by_kind[kind] += 1
        if self._since_ns is None:
            self._since_ns = now_ns
            if self._good_ns is not None:
                self.detection.add(now_ns - self._good_ns)
        self._open += 1
        last_ns, count = self._episodes.get(kind, (None, 0))
        new = last_ns is None or now_ns - last_ns > EPISODE_NS
        self._episodes[kind] = (now_ns, 1 if new else count + 1)
        return new

    def mild_enough(self, kind: FaultKind, now_ns: int) -> bool:
        """Whether one more mild measure against this kind is worth trying; it counts as tried."""
        tried = self._mild.setdefault(kind, deque(maxlen=MILD_LIMIT))
        if len(tried) == MILD_LIMIT and now_ns - tried[0] < MILD_NS:
            tried.clear()
            return False
        tried.append(now_ns)
        return True

    def ended(self, now_ns: int) -> list[tuple[FaultKind, int]]:
        """Episodes that are over: their kind, and how often it happened."""
        over = [
            (kind, count)
            for kind, (last_ns, count) in self._episodes.items()
            if now_ns - last_ns > EPISODE_NS
        ]
        for kind, _count in over:
            del self._episodes[kind]
        return over

    def status(self) -> dict[str, Any]:
        """Plain values: counts, and times in ms."""
        return {
            "faults_by_kind": {str(kind): count for kind, count in sorted(self.by_kind.items())},
            "recovered": self.recovered,
            "detection_ms": self.detection.status(),
            "recovery_ms": self.recovery.status(),
        }
