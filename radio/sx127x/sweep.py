"""Listening on two or three spreading factors with one receiver: channel activity detection in turn. Opt-in.

A CAD looks for a preamble of one spreading factor for about two of its symbols. Where it finds one, the
receiver is switched on for it; where nothing follows within a preamble's length, or after the frame, the
round goes on. A preamble has eight symbols; the look, the switch and the lock use up most of them, so a
sweep hears only a part of the frames: `SfCounts` and `status` say how it went.

    look ──CadDone, CadDetected──▶ follow ──RxDone, RxTimeout, limit──▶ look
      └────CadDone alone: the next spreading factor
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from radio.errors import ChipError
from radio.lora import LoRaModulation, airtime_us, rx_done_latency_ns
from radio.sx127x import registers as r
from radio.sx127x.chip import Chip
from radio.sx127x.registers import Dio0, Irq, Mode, Settings

MAX_SFS: Final = 3  # with more, every preamble is over before its turn comes
# What is left of a preamble after its CAD; nothing that starts later belongs to it.
FOLLOW_SYMBOLS: Final = 8
_US: Final = 1000
_MS: Final = 1_000_000
_CAD_SYMBOLS: Final = 3  # it takes a bit under two; more than this and the chip has stopped
_CAD_GRACE_NS: Final = 5 * _MS
_CAD_LIMIT_NS: Final = 500 * _MS  # in which a chip that says it is still looking may yet end
_EDGE_GRACE_NS: Final = 2 * _MS
_LONGEST_FRAME: Final = 255
FLAGS: Final = (
    Irq.RX_TIMEOUT | Irq.RX_DONE | Irq.PAYLOAD_CRC_ERROR | Irq.VALID_HEADER | Irq.CAD_DONE | Irq.CAD_DETECTED
)


@dataclass(slots=True)
class SfCounts:
    """What came of the looks at one spreading factor."""

    looks: int = 0
    detections: int = 0  # CadDetected
    headers: int = 0  # detections that led to a valid header
    frames: int = 0  # ... and to a frame
    timeouts: int = 0  # detections that led to nothing: noise, or too little preamble was left


class Rota:
    """Which spreading factor is looked for next: each gets the same share of time. Pure.

    A look at SF9 takes four times one at SF7, and SF9's preamble waits four times as long, so equal time means
    equal chances. Of those that have had the least time, the lowest is next.
    """

    def __init__(self, sfs: Sequence[int]) -> None:
        self._spent = dict.fromkeys(sorted(sfs), 0)

    def next(self) -> int:
        """The next spreading factor; its time counts as spent."""
        sf = min(self._spent, key=lambda sf: (self._spent[sf], sf))
        least = self._spent[sf]
        for other in self._spent:
            self._spent[other] -= least
        self._spent[sf] += 1 << sf
        return sf


class Sweep:
    """The rounds over one chip; the modem hands in edges and times, as it gets them. Raises ChipError, OSError.

    Where `on_edge` or `on_time` says that a frame is there, the modem reads it and calls `next`. `settings` are
    those of one spreading factor, the others differ in that only.
    """

    def __init__(self, chip: Chip, settings: Settings, sfs: Sequence[int]) -> None:
        if not 2 <= len(set(sfs)) == len(sfs) <= MAX_SFS:
            raise ValueError(f"a sweep takes 2 to {MAX_SFS} different spreading factors, not {list(sfs)}")
        self.chip = chip
        self.due_ns = 0  # when `on_time` wants to be called
        self.edges_lost = 0
        self.counts = {sf: SfCounts() for sf in sorted(sfs)}
        self._rota = Rota(sfs)
        self._settings = {
            sf: replace(
                settings,
                modulation=LoRaModulation(sf, settings.modulation.bw_hz, settings.modulation.cr),
                symbol_timeout=FOLLOW_SYMBOLS,
            )
            for sf in self.counts
        }
        self._registers = {sf: r.for_receive(each) for sf, each in self._settings.items()}
        self._sf = min(sfs)
        self._following = False
        self._since_ns = 0  # when the present look or pursuit began
        self._limit_ns = 0  # when a look or pursuit is given up, whatever the chip says
        self._began_ns: int | None = None
        self._swept_ns = 0
        self._followed_ns = 0

    @property
    def following(self) -> bool:
        """Whether a detected preamble is being pursued: not the moment to leave."""
        return self._following

    @property
    def settings(self) -> Settings:
        """Those of the spreading factor that is looked for, or pursued."""
        return self._settings[self._sf]

    def begin(self, now_ns: int) -> None:
        """Start looking; the chip is in STDBY. Everything is set anew."""
        self._following = False
        self.chip.configure_receive(self.settings)
        self.chip.mask_flags(FLAGS)
        self._look(now_ns)

    def on_edge(self, line: str, t_ns: int, now_ns: int) -> bool:
        """DIO0 rose with CadDone or RxDone, or DIO1 with RxTimeout; True where a frame is to be read."""
        if t_ns < self._since_ns:
            return False  # of the look before, whose flag was seen already
        if self._following:
            return self._pursue(now_ns)
        if line == "dio0":
            self._looked(now_ns)
        return False

    def on_time(self, now_ns: int) -> bool:
        """`due_ns` has come: an edge is missing, or there is no line for it. True where a frame is to be read."""
        if self._following:
            frame = self._pursue(now_ns)
            self.edges_lost += frame
            return frame
        if self._looked(now_ns):
            self.edges_lost += 1
        elif now_ns < self._limit_ns and self.chip.in_mode(Mode.CAD):
            self.due_ns = now_ns + _CAD_GRACE_NS
        elif not self._looked(now_ns):  # it may have ended between these two looks
            raise ChipError("channel activity detection does not end")
        return False

    def next(self, now_ns: int, *, frame: bool) -> None:
        """The pursuit is over, with a frame that was read or without; the chip is in STDBY by itself."""
        counts = self.counts[self._sf]
        if frame:
            counts.frames += 1
        else:
            counts.timeouts += 1
        self._look(now_ns)

    def status(self) -> dict[str, Any]:
        """Plain values, per spreading factor, with the share of detections that led to a frame (None: none yet)."""
        looked_ns = max(1, self._swept_ns)
        return {
            "sfs": list(self.counts),
            "edges_lost": self.edges_lost,
            "following_share": round(self._followed_ns / (looked_ns + self._followed_ns), 4),
            "per_sf": {
                str(sf): asdict(counts)
                | {
                    "hit_rate": round(counts.frames / counts.detections, 4) if counts.detections else None,
                    "every_us": self._swept_ns // _US // counts.looks if counts.looks else None,
                }
                for sf, counts in self.counts.items()
            },
        }

    # --- looking ------------------------------------------------------------------------------------

    def _look(self, now_ns: int) -> None:
        """The next CAD, from STDBY."""
        if self._following:
            self._followed_ns += now_ns - self._since_ns
        self._following = False
        self._sf = self._rota.next()
        self.chip.apply(self._registers[self._sf])
        self.chip.map_dio0(Dio0.CAD_DONE)
        self.chip.clear_flags(Irq(0xFF))
        self.chip.detect()
        self._since_ns = now_ns
        self.due_ns = now_ns + _CAD_SYMBOLS * self.settings.modulation.symbol_ns + _CAD_GRACE_NS
        self._limit_ns = self.due_ns + _CAD_LIMIT_NS

    def _looked(self, now_ns: int) -> bool:
        """A CAD may be over; False while it is not."""
        flags = self.chip.flags()
        if Irq.CAD_DONE not in flags:
            return False
        self._swept_ns += now_ns - self._since_ns
        self.chip.came_back()
        counts = self.counts[self._sf]
        counts.looks += 1
        if Irq.CAD_DETECTED not in flags:
            self._look(now_ns)
            return True
        counts.detections += 1
        self._follow(now_ns)
        return True

    # --- following ----------------------------------------------------------------------------------

    def _follow(self, now_ns: int) -> None:
        """A preamble: receive it. Few transfers, because every microsecond is taken from it."""
        chip, mod = self.chip, self.settings.modulation
        chip.map_dio0(Dio0.RX_DONE)
        chip.clear_flags(Irq(0xFF))
        chip.command(Mode.RXSINGLE)
        self._following = True
        self._since_ns = now_ns
        self.due_ns = now_ns + FOLLOW_SYMBOLS * mod.symbol_ns + _EDGE_GRACE_NS
        longest_us = airtime_us(replace(mod, cr=4), _LONGEST_FRAME)
        self._limit_ns = now_ns + longest_us * _US + rx_done_latency_ns(mod.sf, mod.bw_hz) + _EDGE_GRACE_NS

    def _pursue(self, now_ns: int) -> bool:
        """RxDone, RxTimeout, or a look at how far it is. True where a frame is to be read."""
        chip = self.chip
        flags, receiving = chip.status()
        over = Irq.RX_DONE | Irq.RX_TIMEOUT
        if not (receiving or flags & over or chip.in_mode(Mode.RXSINGLE)):
            flags, receiving = chip.status()  # it may have ended between the last two looks
            if not flags & over:
                raise ChipError(f"left RXSINGLE unasked: RegOpMode reads 0x{chip.op_mode():02x}")
        if Irq.RX_DONE in flags:
            self.counts[self._sf].headers += 1
            chip.came_back()
            return True
        if Irq.RX_TIMEOUT in flags or now_ns >= self._limit_ns:
            self.counts[self._sf].headers += Irq.VALID_HEADER in flags
            chip.set_mode(Mode.STDBY)
            self.next(now_ns, frame=False)
        else:
            symbol_ns = self.settings.modulation.symbol_ns
            self.due_ns = min(self._limit_ns, now_ns + FOLLOW_SYMBOLS * symbol_ns)
        return False
