"""The airtime ledger: the duty cycle's books, kept over restarts so that no hour ever holds too much.

Nothing may wait for a disk before a downlink, so the file is written ahead: besides what was booked it holds,
for each sub-band, an amount that may be sent before the next write. After a restart that whole amount counts
as sent. A process killed at any moment therefore counts too much, never too little.

`Ledger` is the pure core: a start, bookings and the outcome of writes in, answers and file contents out.
`Airtime` is its shell: a lock for all modules' threads and one thread that writes.

Within one boot the monotonic clock goes on over a restart and no wall clock is asked. After a reboot, what the
file holds counts from the boot on as if the machine had been off for no time at all, until a wall clock of
known quality, then and now, says how long it was.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from radio.dutycycle import SECOND_NS, DutyCycle
from radio.regions import DUTY_WINDOW_S, SubBand
from radio.state import StateFolder

log = logging.getLogger(__name__)

NAME: Final = "airtime"  # of the state file
VERSION: Final = 1
BUCKET_S: Final = 60  # in the file, what stops counting within a minute does so at its end
# What may be sent before the next write: a twelfth of the hour's budget, or one long frame (SF12 with 51 bytes
# of payload) where that is a quarter of it at most.
AHEAD_PARTS: Final = 12
LONG_FRAME_US: Final = 3_000_000
FURTHEST_S: Final = DUTY_WINDOW_S + 600  # orders are accepted 512 s ahead, and a frame lasts up to 9 s
RETRY_S: Final = 60.0  # after a write that failed, and for a wall clock to become known
CLOCK_SLACK_S: Final = 2  # seconds are rounded down twice, and the wall clock is good to less than one
CLOSE_S: Final = 10.0


class Booking(Enum):
    """Answer to a transmission that asks for its time on air."""

    DONE = auto()
    OVER_BUDGET = auto()
    NOT_WRITTEN = auto()  # more than the file on the disk allows; a write is under way


@dataclass(frozen=True, slots=True)
class Moment:
    """Now, by the clocks there are."""

    mono_ns: int
    boot_id: str  # the monotonic clock's origin; "" where nobody knows, which is then a boot of its own
    utc_ns: int | None = None  # None: there is no wall clock, or nobody vouches for it


@dataclass(slots=True)
class _Ahead:
    """What may be sent in one sub-band without another write."""

    target_us: int
    left_us: int = 0
    since_snapshot_us: int = 0  # booked since the contents now being written were made
    writing_us: int = 0  # the amount in those contents


@dataclass(slots=True)
class _Carried:
    """What an earlier boot sent, until its age is known."""

    saved_utc_s: int
    entries: list[tuple[SubBand, int, int]]  # as booked: sub-band, counts until (s, of this boot), us


class Ledger:
    """Books of all sub-bands that limit time on air. Not for several threads at once."""

    def __init__(self, sub_bands: Iterable[SubBand], saved: Mapping[str, Any] | None, now: Moment) -> None:
        """`saved` is what `contents` gave to an earlier one, None where there is none (a first start)."""
        self.duty = DutyCycle(sub_bands)
        self.durable = True  # bookings are bound to what is on the disk
        self._boot_id = now.boot_id
        self._ahead = {band: _Ahead(self._least(band)) for band in self.duty.bands}
        self._carried: _Carried | None = None
        if saved is not None:
            self._restore(saved, now)

    # --- what the concentrator asks -----------------------------------------------------------------

    def try_reserve(self, band: SubBand, start_ns: int, airtime_us: int, now_ns: int) -> Booking:
        """Book a transmission, or say why not."""
        ahead = self._ahead.get(band)
        if ahead is None:
            return Booking.DONE
        if self.durable and airtime_us > ahead.left_us:
            fits = self.duty.allowed_from(band, start_ns, airtime_us) == start_ns
            if not fits:
                return Booking.OVER_BUDGET
            ahead.target_us = max(ahead.target_us, airtime_us)
            return Booking.NOT_WRITTEN
        if not self.duty.try_reserve(band, start_ns, airtime_us, now_ns):
            return Booking.OVER_BUDGET
        ahead.left_us -= airtime_us
        ahead.since_snapshot_us += airtime_us
        return Booking.DONE

    def release(self, band: SubBand, start_ns: int, airtime_us: int) -> None:
        """The frame was never sent. What may be sent before the next write does not grow by that."""
        self.duty.release(band, start_ns, airtime_us)

    # --- what the writer asks -----------------------------------------------------------------------

    @property
    def wants_write(self) -> bool:
        """Whether less than half of the amount ahead is left somewhere."""
        return any(2 * ahead.left_us < ahead.target_us for ahead in self._ahead.values())

    def contents(self, now: Moment, *, last: bool = False) -> dict[str, Any]:
        """What the file is to hold from now on; `written` or `not_written` must follow. `last`: nothing will
        be sent any more."""
        bands = []
        for band, ahead in self._ahead.items():
            ahead.writing_us = 0 if last else ahead.target_us
            ahead.since_snapshot_us = 0
            bands.append(
                {
                    "min_hz": band.min_hz,
                    "max_hz": band.max_hz,
                    "ahead_us": ahead.writing_us,
                    "used": [list(entry) for entry in _by_minute(self.duty.entries(band, now.mono_ns))],
                }
            )
        return {
            "version": VERSION,
            "boot_id": self._boot_id,
            "mono_s": now.mono_ns // SECOND_NS,
            "utc_s": None if now.utc_ns is None else now.utc_ns // SECOND_NS,
            "bands": bands,
        }

    def written(self) -> None:
        """The last contents are on the disk.

        Bookings that were not bound to it may have overtaken them: then another write is wanted first.
        """
        for ahead in self._ahead.values():
            ahead.left_us = ahead.writing_us - ahead.since_snapshot_us
        self.durable = all(ahead.left_us >= 0 for ahead in self._ahead.values())

    def not_written(self) -> None:
        """They are not and nobody knows when: sending goes on, and a restart will forget."""
        self.durable = False

    @property
    def waits_for_clock(self) -> bool:
        """Whether `learn_utc` could still tell how old something is."""
        return self._carried is not None

    def learn_utc(self, now: Moment) -> None:
        """A wall clock of known quality: how old is what an earlier boot left?"""
        carried = self._carried
        if carried is None or now.utc_ns is None:
            return
        self._carried = None
        off_s = now.utc_ns // SECOND_NS - carried.saved_utc_s - CLOCK_SLACK_S
        for band, until, airtime_us in carried.entries:
            # `until` was told as if nothing passed between the write and this boot's zero.
            sooner = until + now.mono_ns // SECOND_NS - off_s
            if off_s >= 0 and sooner < until:
                self.duty.uncount(band, until, airtime_us)
                self.duty.count(band, sooner, airtime_us)

    # --- after a restart ----------------------------------------------------------------------------

    def _restore(self, saved: Mapping[str, Any], now: Moment) -> None:
        """Book what an earlier process sent, and count what it may have sent. Never raises."""
        try:
            sent, maybe = self._booked(_used(saved, now)), self._booked(_maybe_sent(saved, now))
            saved_utc_s = None if saved["utc_s"] is None else int(saved["utc_s"])
            same_boot = _same_boot(saved, now)
        except (KeyError, TypeError, ValueError, OverflowError):
            log.error("the airtime ledger of an earlier version cannot be read: starting with empty books")
            return
        for band, until, airtime_us in sent + maybe:
            self.duty.count(band, until, airtime_us)
        if not same_boot and saved_utc_s is not None:
            self._carried = _Carried(saved_utc_s, sent)
            self.learn_utc(now)

    def _booked(self, entries: Iterable[tuple[int, int, int, int]]) -> list[tuple[SubBand, int, int]]:
        """To each entry the sub-bands it lies in: the settings may have changed since."""
        return [
            (band, until, airtime_us)
            for min_hz, max_hz, until, airtime_us in entries
            for band in self.duty.bands
            if band.min_hz < max_hz and min_hz < band.max_hz
        ]

    def _least(self, band: SubBand) -> int:
        budget_us = self.duty.budget_us(band)
        assert budget_us is not None
        return max(1, budget_us // AHEAD_PARTS, min(budget_us // 4, LONG_FRAME_US))


def _same_boot(saved: Mapping[str, Any], now: Moment) -> bool:
    return (
        bool(now.boot_id) and saved["boot_id"] == now.boot_id and saved["mono_s"] <= now.mono_ns // SECOND_NS
    )


def _used(saved: Mapping[str, Any], now: Moment) -> Iterator[tuple[int, int, int, int]]:
    """What was booked: (min_hz, max_hz, counts until, us), in seconds of this boot's clock.

    Another boot began after the write: its clock's zero is the latest that "now" of the file can have been.
    Raises KeyError, TypeError or ValueError for foreign contents.
    """
    if saved["version"] != VERSION:
        raise ValueError("another version")
    shift_s = 0 if _same_boot(saved, now) else -int(saved["mono_s"])
    now_s = now.mono_ns // SECOND_NS
    for row in saved["bands"]:
        for until, airtime_us in row["used"]:
            until_here = min(int(until) + shift_s, now_s + FURTHEST_S)
            if until_here > now_s and int(airtime_us) > 0:
                yield int(row["min_hz"]), int(row["max_hz"]), until_here, int(airtime_us)


def _maybe_sent(saved: Mapping[str, Any], now: Moment) -> Iterator[tuple[int, int, int, int]]:
    """What may have been sent after the write, as `_used`.

    When, nobody knows; but it had begun by now, or, in another boot, before this one.
    """
    begun_s = now.mono_ns // SECOND_NS + 1 if _same_boot(saved, now) else 0
    for row in saved["bands"]:
        ahead_us = int(row["ahead_us"])
        if ahead_us > 0:
            until = begun_s + -(-ahead_us // 1_000_000) + DUTY_WINDOW_S
            yield int(row["min_hz"]), int(row["max_hz"]), until, ahead_us


def _by_minute(entries: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    buckets: dict[int, int] = {}
    for until, airtime_us in entries:
        end = -(-until // BUCKET_S) * BUCKET_S
        buckets[end] = buckets.get(end, 0) + airtime_us
    return [(until, airtime_us) for until, airtime_us in buckets.items() if airtime_us]


class Airtime:
    """The ledger for all threads, and the one that writes it. Without `start` nothing is written."""

    def __init__(self, sub_bands: Iterable[SubBand], folder: StateFolder, now: Callable[[], Moment]) -> None:
        self._folder = folder
        self._now = now
        self._lock = threading.Lock()  # across pure code only
        self._ledger = Ledger(sub_bands, folder.read(NAME), now())
        self._ledger.durable = False  # until the first write
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self.writes = 0

    def start(self) -> None:
        """Write once, then keep writing ahead in a thread. Blocks for one write."""
        if self._folder.path is None or not self._ledger.duty.bands:
            return
        self._write()
        self._thread = threading.Thread(target=self._run, name="airtime ledger", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Nothing will be sent any more: write exactly what was."""
        if self._thread is None:
            return
        self._stopping = True
        self._wake.set()
        self._thread.join(CLOSE_S)
        self._thread = None

    @property
    def survives_restart(self) -> bool:
        """Whether a restart, however sudden, remembers what was sent; True as well where nothing is limited."""
        return self._ledger.durable or not self._ledger.duty.bands

    @property
    def fault(self) -> str:
        """Why it does not survive a restart; empty where it does."""
        return "" if self.survives_restart else self._folder.fault or "nothing was written yet"

    def try_reserve(self, band: SubBand, start_ns: int, airtime_us: int, now_ns: int) -> Booking:
        """Book a transmission, or say why not. Never waits for a disk."""
        with self._lock:
            answer = self._ledger.try_reserve(band, start_ns, airtime_us, now_ns)
            wants_write = self._ledger.wants_write
        if wants_write:
            self._wake.set()
        return answer

    def release(self, band: SubBand, start_ns: int, airtime_us: int) -> None:
        """The frame was never sent."""
        with self._lock:
            self._ledger.release(band, start_ns, airtime_us)

    def used_us(self, band: SubBand, now_ns: int) -> int:
        """Time on air that counts against the budget now."""
        with self._lock:
            return self._ledger.duty.used_us(band, now_ns)

    def budget_us(self, band: SubBand) -> int | None:
        """Time on air an hour may hold; None without limit."""
        return self._ledger.duty.budget_us(band)

    def allowed_from(self, band: SubBand, start_ns: int, airtime_us: int) -> int | None:
        """The first moment, not before `start_ns`, the budget allows it; None where it never will."""
        with self._lock:
            return self._ledger.duty.allowed_from(band, start_ns, airtime_us)

    def _write(self, *, last: bool = False) -> None:
        """Write until the file says enough, or cannot be written."""
        enough = False
        while not enough:
            now = self._now()
            with self._lock:
                self._ledger.learn_utc(now)
                contents = self._ledger.contents(now, last=last)
            on_disk = self._folder.write(NAME, contents)
            self.writes += on_disk
            with self._lock:
                if on_disk:
                    self._ledger.written()
                else:
                    self._ledger.not_written()
                enough = self._ledger.durable or not on_disk

    def _run(self) -> None:
        while not self._stopping:
            with self._lock:
                idle = self._ledger.durable and not self._ledger.waits_for_clock
            woken = self._wake.wait(None if idle else RETRY_S)
            self._wake.clear()
            if self._stopping:
                break
            if woken or not self._ledger.durable:
                self._write()
            else:
                now = self._now()
                with self._lock:
                    self._ledger.learn_utc(now)
        self._write(last=True)
