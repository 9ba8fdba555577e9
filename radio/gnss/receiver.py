"""What a GNSS receiver's sentences and pulses amount to: a fix, a place, and edges with a label. Pure.

Sentences come 50 to 600 ms after the second they name: they label the PPS edge before them and are never the edge
themselves. What a receiver says is believed only where it can be: not a date before this software was made (a week
number that rolled over), not a time that contradicts a synchronised system clock, and a jump of time or place only
after it has lasted.
"""

import datetime
import logging
import math
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from radio.errors import NmeaError
from radio.gnss import nmea, ubx
from radio.gnss.nmea import LEAP_SECOND, Gga, Gsa, Place, Rmc, Zda
from radio.gnss.stream import Piece, Splitter
from radio.timebase import MS, SECOND_NS, TimeBase

log = logging.getLogger(__name__)

BUILT: Final = datetime.date(2025, 11, 1)  # no receiver can truly say an earlier date
YEARS_AHEAD: Final = 18  # a week number of ten bits repeats after 19.6
LABEL_NS: Final = 980 * MS  # an edge older than that belongs to an earlier second
QUIET_NS: Final = 5 * SECOND_NS
JUMP_NS: Final = 500 * MS
JUMP_PATIENCE: Final = 60  # believable sentences in a row until a jump is followed
MOVE_M: Final = 1000.0  # a gateway does not move; a fix wanders by metres
POLE_M: Final = 111_320.0  # of a degree of latitude
UBX_EVERY_NS: Final = 600 * SECOND_NS


class State(StrEnum):
    """What the receiver is good for."""

    SILENT = "silent"  # no sentences
    COLD = "cold"  # sentences, and never a fix yet
    FIX = "fix"
    LOST = "lost"  # it had a fix
    SUSPECT = "suspect"  # it has a fix, and what it says is not believed


class Event(StrEnum):
    """What a sentence, or the want of them, means."""

    VALID = "valid"
    VOID = "void"
    DOUBT = "doubt"
    QUIET = "quiet"


NEXT: Final[dict[tuple[State, Event], State]] = {
    (State.SILENT, Event.VALID): State.FIX,
    (State.SILENT, Event.VOID): State.COLD,
    (State.SILENT, Event.DOUBT): State.SUSPECT,
    (State.SILENT, Event.QUIET): State.SILENT,
    (State.COLD, Event.VALID): State.FIX,
    (State.COLD, Event.VOID): State.COLD,
    (State.COLD, Event.DOUBT): State.SUSPECT,
    (State.COLD, Event.QUIET): State.SILENT,
    (State.FIX, Event.VALID): State.FIX,
    (State.FIX, Event.VOID): State.LOST,
    (State.FIX, Event.DOUBT): State.SUSPECT,
    (State.FIX, Event.QUIET): State.SILENT,
    (State.LOST, Event.VALID): State.FIX,
    (State.LOST, Event.VOID): State.LOST,
    (State.LOST, Event.DOUBT): State.SUSPECT,
    (State.LOST, Event.QUIET): State.SILENT,
    (State.SUSPECT, Event.VALID): State.FIX,
    (State.SUSPECT, Event.VOID): State.LOST,
    (State.SUSPECT, Event.DOUBT): State.SUSPECT,
    (State.SUSPECT, Event.QUIET): State.SILENT,
}


@dataclass(frozen=True, slots=True)
class Position:
    """Where the gateway is, as it may be told."""

    latitude: float
    longitude: float
    altitude_m: int | None


@dataclass(slots=True)
class _Jump:
    """A time or place that does not follow from the last one, and how often it has been repeated."""

    offset_ns: int = 0
    times: int = 0


class Receiver:
    """One receiver. `on_bytes`, `on_edge` and `on_time` belong to one thread; the rest may be asked by any."""

    def __init__(self, time: TimeBase, baud: int = 9600, privacy_digits: int | None = None) -> None:
        self.state = State.SILENT
        self.reason = ""  # why it is suspect
        self.counters: Counter[str] = Counter()
        self._time = time
        self._split = Splitter(baud)
        self._privacy_digits = privacy_digits
        self._edge_ns: int | None = None  # the last, while it has no label
        self._last_edge_ns: int | None = None
        self._heard_ns: int | None = None
        self._date: datetime.date | None = None  # of a ZDA, where its year has four digits
        self._place: Place | None = None
        self._altitude_m: float | None = None
        self._satellites: int | None = None
        self._hdop: float | None = None
        self._dimensions: int | None = None
        self._time_jump = _Jump()
        self._place_jump = _Jump()

    # --- what happens -------------------------------------------------------------------------------

    def on_edge(self, t_ns: int) -> None:
        """The pulse of a second. It counts once a sentence has said which; while there are none, by what is known."""
        self.counters["edges"] += 1
        self._last_edge_ns = t_ns
        if self._edge_ns is not None:
            self.counters["edges_unlabelled"] += 1
        self._edge_ns = t_ns
        if self.state is State.SILENT and (line := self._time.received(t_ns)) is not None:
            second, off_ns = divmod(line.at(t_ns) + SECOND_NS // 2, SECOND_NS)
            if line.source == "pps" and abs(off_ns - SECOND_NS // 2) < SECOND_NS // 4:
                self._edge_ns = None
                self.counters["edges_by_reckoning"] += self._time.add_edge(t_ns, second)

    def on_bytes(self, data: bytes, now_ns: int) -> None:
        """Bytes were read at `now_ns`."""
        for piece in self._split.feed(data, now_ns):
            try:
                if piece.ubx:
                    self._on_ubx(piece)
                else:
                    self._on_sentence(piece)
            except NmeaError as error:
                self.counters["sentences_damaged"] += 1
                log.debug("GNSS: %s", error)
        self.counters["bytes_skipped"] = self._split.skipped

    def on_time(self, now_ns: int) -> None:
        """Time has passed: is the receiver still there?"""
        if self._heard_ns is None:
            self._heard_ns = now_ns
        if now_ns - self._heard_ns >= QUIET_NS:
            self._go(Event.QUIET)

    def lost_port(self) -> None:
        """The serial device is gone; half a sentence may be."""
        self._split.clear()

    # --- what is asked ------------------------------------------------------------------------------

    @property
    def position(self) -> Position | None:
        """The last believed place, rounded as the settings ask; None before a fix."""
        place, altitude_m = self._place, self._altitude_m
        if place is None:
            return None
        digits = 5 if self._privacy_digits is None else self._privacy_digits
        whole_m = None if altitude_m is None else round(altitude_m)
        if self._privacy_digits is not None and whole_m is not None:
            whole_m = round(whole_m, -1)
        return Position(round(place.latitude, digits), round(place.longitude, digits), whole_m)

    def status(self, now_ns: int) -> dict[str, Any]:
        """For people."""
        position = self.position
        edge_ns = self._last_edge_ns
        return {
            "state": str(self.state),
            "reason": self.reason,
            "latitude": None if position is None else position.latitude,
            "longitude": None if position is None else position.longitude,
            "altitude_m": None if position is None else position.altitude_m,
            "satellites": self._satellites,
            "hdop": self._hdop,
            "dimensions": self._dimensions,
            "pps_age_s": None if edge_ns is None else round((now_ns - edge_ns) / SECOND_NS, 1),
            **self.counters,
        }

    # --- sentences ----------------------------------------------------------------------------------

    def _on_sentence(self, piece: Piece) -> None:
        sentence = nmea.parse(piece.data)
        self.counters["sentences"] += 1
        self._heard_ns = piece.start_ns
        match sentence:
            case Rmc():
                self._on_rmc(sentence, piece.start_ns)
            case Gga(satellites=satellites, hdop=hdop, altitude_m=altitude_m):
                self._satellites, self._hdop = satellites, hdop
                if sentence.quality and self.state is State.FIX:
                    self._altitude_m = altitude_m
            case Gsa(dimensions=dimensions):
                self._dimensions = dimensions
            case Zda(date=date):
                self._date = date

    def _on_rmc(self, rmc: Rmc, start_ns: int) -> None:
        edge_ns, self._edge_ns = self._edge_ns, None
        date = rmc.date
        if not rmc.valid or rmc.time is None or date is None:
            self._go(Event.VOID)
            return
        if self._date is not None and (self._date.month, self._date.day) == (date.month, date.day):
            date = self._date
        gps_s = self._gps_s(date, rmc.time.second)
        gps_ns = gps_s * SECOND_NS + rmc.time.ns
        doubt = self._doubt(date, gps_ns, start_ns)
        if doubt:
            self.counters["sentences_not_believed"] += 1
            self.reason = doubt
            self._go(Event.DOUBT)
            return
        self._go(Event.VALID)
        self.reason = ""
        if rmc.place is not None:
            self._moved(rmc.place)
        if rmc.time.ns:
            return  # of a receiver that speaks several times a second; the pulse belongs to the whole ones
        self._time.add_message(start_ns, gps_ns)
        if edge_ns is not None and 0 <= start_ns - edge_ns <= LABEL_NS:
            self.counters["edges_labelled"] += 1
            self._time.add_edge(edge_ns, gps_s)

    def _gps_s(self, date: datetime.date, second: int) -> int:
        """The GPS second of a UTC second of a day; 23:59:60 is seen, and learnt."""
        midnight_s = (date.toordinal() - datetime.date(1970, 1, 1).toordinal()) * 86_400
        if second < LEAP_SECOND:
            return self._time.leap.gps_s(midnight_s + second)
        gps_s = self._time.leap.gps_s(midnight_s + 86_399) + 1
        self.counters["leap_seconds_seen"] += 1
        self._time.leap = self._time.leap.inserted(midnight_s + 86_400)
        return gps_s

    # --- what is believed ---------------------------------------------------------------------------

    def _doubt(self, date: datetime.date, gps_ns: int, start_ns: int) -> str:
        """Why this time cannot be, or empty."""
        if date < BUILT:
            return f"its date, {date}, lies before this software was made: its week number rolled over, or it is false"
        if date.year > BUILT.year + YEARS_AHEAD:
            return f"its date, {date}, lies too far ahead"
        system = self._time.system(start_ns)
        if system is not None:
            off_ns = gps_ns - system.at(start_ns)  # a sentence names a moment up to a second ago
            bound_ns = system.error_at(start_ns) + SECOND_NS
            if not -bound_ns <= off_ns <= bound_ns:
                return f"it is {_span(off_ns)} the network's time"
        line = self._time.received(start_ns)
        if line is None:
            return ""
        # A sentence comes up to a second after what it names; a label is told from its neighbours by more.
        off_ns = gps_ns + 350 * MS - line.at(start_ns)
        if abs(off_ns) <= JUMP_NS + line.error_at(start_ns):
            self._time_jump = _Jump()
            return ""
        jump = self._time_jump
        steady = abs(off_ns - jump.offset_ns) < JUMP_NS
        self._time_jump = jump = _Jump(off_ns, jump.times + 1 if steady else 1)
        if jump.times < JUMP_PATIENCE:
            return f"its time jumped to {_span(off_ns)} what it was"
        log.warning("GNSS: the receiver's time has stayed %s what it was: followed", _span(off_ns))
        self.counters["jumps_followed"] += 1
        self._time_jump = _Jump()
        self._time.forget()
        return ""

    def _moved(self, place: Place) -> None:
        """A fix wanders; a jump must last."""
        known = self._place
        if known is not None and _metres(known, place) > MOVE_M:
            self.counters["places_not_believed"] += 1
            self._place_jump.times += 1
            if self._place_jump.times < JUMP_PATIENCE:
                return
            log.warning("GNSS: the receiver's place has stayed %.0f m away: followed", _metres(known, place))
        self._place_jump = _Jump()
        self._place = place

    def _on_ubx(self, piece: Piece) -> None:
        report = ubx.parse_timels(piece.data)
        if report is None or report.current_s is None:
            return
        self._heard_ns = piece.start_ns
        utc_ns = self._time.utc_ns(piece.start_ns)
        if self.state is not State.FIX or utc_ns is None:
            return
        unix_s = utc_ns // SECOND_NS
        if self._time.leap.source == "setting":
            return
        wrong = self._time.leap.at_utc(unix_s) != report.current_s
        self._time.leap = self._time.leap.confirmed(report.current_s, unix_s)
        self.counters["leap_seconds_told"] += 1
        if wrong:
            log.warning("GNSS: GPS time minus UTC is %d s, by the receiver", report.current_s)
            self._time.forget()

    def _go(self, event: Event) -> None:
        before, self.state = self.state, NEXT[self.state, event]
        if self.state is before:
            return
        self.counters[f"became_{self.state}"] += 1
        match self.state:
            case State.FIX:
                log.info("GNSS: fix")
            case State.SUSPECT:
                log.warning("GNSS: not believed: %s", self.reason)
            case State.LOST:
                log.warning("GNSS: fix lost; the time holds over")
            case State.SILENT:
                log.warning("GNSS: no sentences; the time holds over")


def _span(off_ns: int) -> str:
    """`12.0 s ahead of` or `3 d behind`."""
    seconds = abs(off_ns) / SECOND_NS
    size = f"{seconds:.1f} s" if seconds < 86_400 else f"{seconds / 86_400:.0f} d"
    return f"{size} {'ahead of' if off_ns > 0 else 'behind'}"


def _metres(a: Place, b: Place) -> float:
    """Distance over a flat map, good enough to tell a jump."""
    east = (b.longitude - a.longitude + 180) % 360 - 180
    return POLE_M * math.hypot(b.latitude - a.latitude, east * math.cos(math.radians(a.latitude)))
