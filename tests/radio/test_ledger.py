"""The airtime ledger against a plain list of everything that was sent, through kills, reboots and slow disks."""

from __future__ import annotations

import json
import random
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radio.config import ModuleConfig, RadioConfig
from radio.dutycycle import SECOND_NS, DutyCycle
from radio.gwmp import TxError, TxPacket
from radio.ledger import NAME, Airtime, Booking, Ledger, Moment
from radio.lora import LoRaModulation
from radio.regions import SubBand, get_region
from radio.service import Radio
from radio.state import StateFolder

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.radio.conftest import Carrier

BAND = SubBand(868_000_000, 868_600_000, 0.01, 16.15)  # 36 s an hour
NARROW = SubBand(868_700_000, 869_200_000, 0.001, 16.15)  # 3.6 s an hour
FREE = SubBand(923_300_000, 927_500_000, 1, 28.15)
HOUR = 3600 * SECOND_NS
START = Moment(5 * SECOND_NS, "boot 1", 1_800_000_000 * SECOND_NS)


def at(mono_s: float, boot: str = "boot 1", utc_s: float | None = None) -> Moment:
    return Moment(round(mono_s * SECOND_NS), boot, None if utc_s is None else round(utc_s * SECOND_NS))


def opened(saved: dict[str, Any] | None = None, now: Moment = START, *bands: SubBand) -> Ledger:
    """A ledger whose first contents are on the disk."""
    ledger = Ledger(bands or (BAND,), saved, now)
    ledger.contents(now)
    ledger.written()
    return ledger


def reserve(ledger: Ledger, start_s: float, airtime_us: int, band: SubBand = BAND) -> Booking:
    start_ns = round(start_s * SECOND_NS)
    return ledger.try_reserve(band, start_ns, airtime_us, start_ns)


def saved(ledger: Ledger, now: Moment, *, last: bool = False) -> dict[str, Any]:
    """What a reader of the file gets."""
    contents: dict[str, Any] = json.loads(json.dumps(ledger.contents(now, last=last)))
    ledger.written()
    return contents


# --- against a plain list ---------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 400_000),  # ms until the next order arrives
            st.integers(0, 500_000),  # ms from its arrival to its start
            st.integers(1, 9_000),  # ms on air
            st.booleans(),  # taken back at once
        ),
        max_size=80,
    )
)
def test_books_answer_as_a_plain_list_does(orders: list[tuple[int, int, int, bool]]) -> None:
    duty = DutyCycle([BAND])
    sent: list[tuple[int, int]] = []
    now_ns = 0
    for wait_ms, ahead_ms, airtime_ms, taken_back in orders:
        now_ns += wait_ms * 1_000_000
        start_ns, airtime_us = now_ns + ahead_ms * 1_000_000, airtime_ms * 1000
        # Whatever could share an hour with it: all later ones, and earlier ones that ended in the hour before.
        counting = sum(
            us
            for begun_ns, us in sent
            if -(-(begun_ns + us * 1000) // SECOND_NS) + 3600 > start_ns // SECOND_NS
        )
        fits = counting + airtime_us <= 36_000_000
        allowed = duty.allowed_from(BAND, start_ns, airtime_us)
        assert (allowed == start_ns) == fits
        assert duty.try_reserve(BAND, start_ns, airtime_us, now_ns) == fits
        if fits and taken_back:
            duty.release(BAND, start_ns, airtime_us)
        elif fits:
            sent.append((start_ns, airtime_us))
        assert no_hour_holds_too_much(sent, 36_000_000)


def no_hour_holds_too_much(sent: list[tuple[int, int]], budget_us: int) -> bool:
    """The definition itself: any hour, by the frames that begin in it (begun_ns, us)."""
    ordered = sorted(sent)
    return all(
        sum(us for other_ns, us in ordered[i:] if other_ns < begun_ns + HOUR) <= budget_us
        for i, (begun_ns, _) in enumerate(ordered)
    )


# --- restarts at any point --------------------------------------------------------------------------


class World:
    """A gateway with a disk, and what really left its antenna, in time that no restart touches (ns)."""

    def __init__(self, seed: int, ledger_type: type[Ledger] = Ledger) -> None:
        self.random = random.Random(seed)
        self.ledger_type = ledger_type
        self.now_ns = 0
        self.boot = 0
        self.boot_ns = 0
        self.clock_known = True
        self.disk: dict[str, Any] | None = None
        self.writing: dict[str, Any] | None = None
        self.sent: list[tuple[int, int]] = []
        self.promised: list[tuple[int, int]] = []
        self.refused = 0
        self.overcount_us = 0
        self.ledger = self.open()

    @property
    def moment(self) -> Moment:
        utc_ns = 1_800_000_000 * SECOND_NS + self.now_ns if self.clock_known else None
        return Moment(self.now_ns - self.boot_ns, f"boot {self.boot}", utc_ns)

    def open(self) -> Ledger:
        ledger = self.ledger_type((BAND,), self.disk, self.moment)
        self.disk = json.loads(json.dumps(ledger.contents(self.moment)))
        ledger.written()
        return ledger

    def step(self) -> None:
        match self.random.randrange(12):
            case 0 | 1:
                self.pass_time(self.random.choice((1, 30, 600)) * self.random.random())
            case 2:
                self.pass_time(self.random.uniform(0, 4000))
            case 3 | 4 | 5 | 6 | 7:
                self.order()
            case 8:
                self.write_begins()
            case 9:
                self.write_ends()
            case 10:
                self.ledger.learn_utc(self.moment)
            case _:
                self.restart()
        self.check()

    def pass_time(self, seconds: float) -> None:
        self.now_ns += round(seconds * SECOND_NS)
        self.sent += [tx for tx in self.promised if tx[0] <= self.now_ns]
        self.promised = [tx for tx in self.promised if tx[0] > self.now_ns]

    def order(self) -> None:
        start_ns = self.now_ns + self.random.choice((0, 10, 1000, 500_000)) * 1_000_000
        airtime_us = self.random.choice((60_000, 400_000, 1_500_000, 2_800_000))
        mono = start_ns - self.boot_ns
        answer = self.ledger.try_reserve(BAND, mono, airtime_us, self.now_ns - self.boot_ns)
        if answer is not Booking.DONE:
            self.refused += 1
            if answer is Booking.NOT_WRITTEN and self.random.random() < 0.5:
                self.write_begins()
                self.write_ends()
        elif start_ns > self.now_ns and self.random.random() < 0.1:
            self.ledger.release(BAND, mono, airtime_us)
        else:
            self.promised.append((start_ns, airtime_us))
            self.pass_time(0)

    def write_begins(self) -> None:
        self.writing = json.loads(json.dumps(self.ledger.contents(self.moment)))

    def write_ends(self) -> None:
        if self.writing is not None:
            self.disk, self.writing = self.writing, None
            self.ledger.written()

    def restart(self) -> None:
        """A kill, perhaps in the middle of a write; perhaps a power cut and a clock that is not set."""
        if self.writing is not None and self.random.random() < 0.5:
            self.disk = self.writing
        self.writing = None
        self.promised = []
        if self.random.random() < 0.5:
            self.now_ns += round(self.random.choice((1, 60, 5000)) * self.random.random() * SECOND_NS)
            self.boot += 1
            self.boot_ns = self.now_ns
            self.pass_time(self.random.uniform(1, 100))
        self.clock_known = self.random.random() < 0.5
        self.ledger = self.open()

    def check(self) -> None:
        hour_ago_ns = self.now_ns - HOUR
        really_us = sum(us for begun_ns, us in self.sent if begun_ns + us * 1000 > hour_ago_ns)
        counted_us = self.ledger.duty.used_us(BAND, self.now_ns - self.boot_ns)
        assert counted_us >= really_us, "a restart forgot something"
        self.overcount_us = max(self.overcount_us, counted_us - really_us)
        assert no_hour_holds_too_much(self.sent[-150:], 36_000_000)
        if self.random.random() < 0.02 and not self.clock_known:
            self.clock_known = True  # the time service has an answer


def run(seed: int, ledger_type: type[Ledger] = Ledger, steps: int = 250) -> World:
    world = World(seed, ledger_type)
    for _ in range(steps):
        world.step()
    return world


def test_killed_at_any_point_it_counts_too_much_and_never_too_little() -> None:
    worlds = [run(seed) for seed in range(60)]
    assert sum(len(world.sent) for world in worlds) > 2000, "and it does let frames out"
    assert sum(world.boot for world in worlds) > 300


class Forgetful(Ledger):
    """What the harness must find: nothing is written ahead."""

    def contents(self, now: Moment, *, last: bool = False) -> dict[str, Any]:
        contents = super().contents(now, last=last)
        for row in contents["bands"]:
            row["ahead_us"] = 0
        return contents


class Trusting(Ledger):
    """What the harness must find: the wall clock is believed about what was sent after the write too."""

    def learn_utc(self, now: Moment) -> None:
        if self._carried is not None and now.utc_ns is not None:
            off_s = now.utc_ns // SECOND_NS - self._carried.saved_utc_s
            for until, airtime_us in self.duty.entries(BAND, now.mono_ns):
                self.duty.uncount(BAND, until, airtime_us)
                self.duty.count(BAND, until + now.mono_ns // SECOND_NS - off_s, airtime_us)
        self._carried = None


@pytest.mark.parametrize("broken", [Forgetful, Trusting])
def test_the_harness_finds_a_ledger_that_forgets(broken: type[Ledger]) -> None:
    def search() -> None:
        for seed in range(60):
            run(seed, broken)

    with pytest.raises(AssertionError, match="forgot something"):
        search()


# --- one rule at a time -----------------------------------------------------------------------------


def test_a_frame_longer_than_what_is_written_ahead_waits_for_a_write() -> None:
    ledger = opened()
    assert reserve(ledger, 10, 3_000_000) is Booking.DONE
    assert ledger.wants_write
    assert reserve(ledger, 20, 2_000_000) is Booking.NOT_WRITTEN
    ledger.contents(at(21))
    ledger.written()
    assert not ledger.wants_write
    assert reserve(ledger, 22, 2_000_000) is Booking.DONE
    assert reserve(ledger, 30, 9_000_000) is Booking.NOT_WRITTEN
    ledger.contents(at(31))
    ledger.written()
    assert reserve(ledger, 32, 9_000_000) is Booking.DONE


def test_no_write_makes_room_in_a_budget_that_is_used_up() -> None:
    ledger = opened(None, START, NARROW)
    for second in range(10, 14):
        assert reserve(ledger, second, 900_000, NARROW) is Booking.DONE
        ledger.contents(at(second))
        ledger.written()
    assert reserve(ledger, 20, 3_000_000, NARROW) is Booking.OVER_BUDGET
    assert reserve(ledger, 20, 1, NARROW) is Booking.OVER_BUDGET
    assert reserve(ledger, 3700, 900_000, NARROW) is Booking.DONE


def test_without_a_limit_nothing_is_kept() -> None:
    ledger = opened(None, START, FREE)
    assert reserve(ledger, 10, 3_600_000_000, FREE) is Booking.DONE
    assert ledger.contents(at(11))["bands"] == []
    assert not ledger.wants_write


def test_what_was_booked_during_a_write_counts_against_it() -> None:
    ledger = opened()
    contents = ledger.contents(at(10))
    assert reserve(ledger, 11, 2_500_000) is Booking.DONE
    ledger.written()
    assert contents["bands"][0]["used"] == []
    assert reserve(ledger, 12, 1_000_000) is Booking.NOT_WRITTEN, "500 ms of the 3 s are left"


def test_after_a_failed_write_sending_goes_on_and_the_next_good_one_catches_up() -> None:
    ledger = opened()
    ledger.contents(at(10))
    ledger.not_written()
    assert all(reserve(ledger, 20 + i, 2_000_000) is Booking.DONE for i in range(5))
    ledger.contents(at(30))
    assert all(reserve(ledger, 31 + i, 2_000_000) is Booking.DONE for i in range(2))
    ledger.written()
    assert not ledger.durable, "4 s were sent since, 3 s are written ahead"
    ledger.contents(at(40))
    ledger.written()
    assert ledger.durable


def test_an_orderly_end_counts_nothing_too_much_but_the_minute() -> None:
    ledger = opened()
    reserve(ledger, 10, 2_000_000)
    contents = saved(ledger, at(100), last=True)
    again = Ledger((BAND,), contents, at(200))
    assert again.duty.used_us(BAND, 200 * SECOND_NS) == 2_000_000
    assert again.duty.allowed_from(BAND, 200 * SECOND_NS, 36_000_000) == 3660 * SECOND_NS


def test_a_reboot_counts_on_from_zero_until_a_clock_says_otherwise() -> None:
    ledger = opened()
    reserve(ledger, 10, 2_000_000)
    contents = saved(ledger, at(1000, utc_s=5000), last=True)
    dark = Ledger((BAND,), contents, at(20, "boot 2"))
    assert dark.waits_for_clock
    assert dark.duty.allowed_from(BAND, 0, 36_000_000) == (3660 - 1000) * SECOND_NS
    dark.learn_utc(at(60, "boot 2", utc_s=6000))  # 1000 s after the write, 60 s after the boot
    assert not dark.waits_for_clock
    assert dark.duty.allowed_from(BAND, 0, 36_000_000) == (3660 - 1000 - 940 + 2) * SECOND_NS


@pytest.mark.parametrize("utc_s", [4000.0, 5030.0])
def test_a_wall_clock_that_went_back_makes_nothing_younger(utc_s: float) -> None:
    ledger = opened()
    reserve(ledger, 10, 2_000_000)
    contents = saved(ledger, at(1000, utc_s=5000), last=True)
    again = Ledger((BAND,), contents, at(60, "boot 2", utc_s=utc_s))
    assert again.duty.allowed_from(BAND, 0, 36_000_000) == (3660 - 1000) * SECOND_NS


def test_steps_of_the_wall_clock_within_a_boot_change_nothing() -> None:
    ledger = opened()
    reserve(ledger, 10, 2_000_000)
    contents = saved(ledger, at(1000, utc_s=5000), last=True)
    again = Ledger((BAND,), contents, at(1001, utc_s=900_000))
    assert again.duty.used_us(BAND, 1001 * SECOND_NS) == 2_000_000
    assert not again.waits_for_clock


def test_other_sub_bands_after_the_restart_take_over_what_overlaps_them() -> None:
    ledger = opened(None, START, BAND, NARROW)
    reserve(ledger, 10, 2_000_000)
    wide = SubBand(868_100_000, 869_000_000, 0.1, 14)
    elsewhere = SubBand(869_400_000, 869_650_000, 0.1, 27)
    again = Ledger((wide, elsewhere), saved(ledger, at(20), last=True), at(30))
    assert again.duty.used_us(wide, 30 * SECOND_NS) == 2_000_000
    assert again.duty.used_us(elsewhere, 30 * SECOND_NS) == 0


def test_whatever_the_file_holds_the_ledger_starts() -> None:
    ledger = opened()
    reserve(ledger, 10, 2_000_000)
    whole = saved(ledger, at(1000, utc_s=5000))
    random_ = random.Random(7)
    strange = [None, "x", -1, 1e300, [], {}, [[]], [[1]], [[1, 2, 3]], {"min_hz": 1}, True, 10**30]

    def damaged(value: Any) -> Any:
        if random_.random() < 0.15:
            return random_.choice(strange)
        if isinstance(value, dict):
            return {k: damaged(v) for k, v in value.items() if random_.random() > 0.05}
        if isinstance(value, list):
            return [damaged(v) for v in value]
        return value

    for _ in range(3000):
        contents = damaged(whole)
        again = Ledger((BAND,), contents if isinstance(contents, dict) else {}, at(20, "boot 2", utc_s=9000))
        assert reserve(again, 30, 1) in (Booking.DONE, Booking.OVER_BUDGET, Booking.NOT_WRITTEN)
        assert len(again.duty.entries(BAND, 0)) <= 3, "and keeps a bounded number of entries"


def test_memory_is_bounded_however_much_is_sent() -> None:
    ledger = opened(None, START, *get_region("EU868").sub_bands)
    bands = ledger.duty.bands
    ledger.durable = False
    for second in range(3 * 3600):
        for band in bands:
            now_ns = second * SECOND_NS
            ledger.try_reserve(band, now_ns + 512 * SECOND_NS, 500, now_ns)
    counts = [len(ledger.duty.entries(band, 3 * HOUR)) for band in bands]
    assert all(0 < count <= 3600 + 513 for count in counts)
    contents = ledger.contents(at(3 * 3600))
    assert all(len(row["used"]) <= 70 for row in contents["bands"])
    assert len(json.dumps(contents)) < 16_000


# --- the shell --------------------------------------------------------------------------------------


def airtime(folder: StateFolder, mono_s: list[float]) -> Airtime:
    return Airtime((BAND,), folder, lambda: at(mono_s[0], "boot 1"))


def test_a_restarted_process_remembers(tmp_path: Path) -> None:
    clock = [10.0]
    first = airtime(StateFolder(tmp_path), clock)
    assert not first.survives_restart
    first.start()
    assert (first.survives_restart, first.fault) == (True, "")
    assert first.try_reserve(BAND, 11 * SECOND_NS, 2_500_000, 10 * SECOND_NS) is Booking.DONE
    # It is killed here: nothing more is written on its behalf but what its thread does anyway.
    killed = airtime(StateFolder(tmp_path), clock)
    assert killed.used_us(BAND, 12 * SECOND_NS) >= 2_500_000
    first.stop()
    ended = airtime(StateFolder(tmp_path), clock)
    assert ended.used_us(BAND, 12 * SECOND_NS) == 2_500_000


def test_a_write_is_wanted_as_soon_as_half_is_used(tmp_path: Path) -> None:
    written = threading.Event()

    class Watched(StateFolder):
        def write(self, name: str, value: dict[str, Any]) -> bool:
            done = super().write(name, value)
            if value["bands"][0]["used"]:
                written.set()
            return done

    book = airtime(Watched(tmp_path), [10.0])
    book.start()
    assert book.try_reserve(BAND, 11 * SECOND_NS, 2_000_000, 10 * SECOND_NS) is Booking.DONE
    assert written.wait(30)
    book.stop()
    assert book.writes >= 3


def test_without_a_folder_books_are_kept_in_memory_and_that_is_said() -> None:
    book = airtime(StateFolder(None), [10.0])
    book.start()
    assert book.try_reserve(BAND, 11 * SECOND_NS, 20_000_000, 10 * SECOND_NS) is Booking.DONE
    assert book.try_reserve(BAND, 12 * SECOND_NS, 20_000_000, 10 * SECOND_NS) is Booking.OVER_BUDGET
    assert not book.survives_restart
    assert "state_dir" in book.fault
    book.stop()


def test_where_nothing_is_limited_there_is_nothing_to_forget(tmp_path: Path) -> None:
    book = Airtime((FREE,), StateFolder(tmp_path), lambda: at(10))
    book.start()
    assert (book.survives_restart, book.fault, book.writes) == (True, "", 0)
    book.stop()


def test_a_disk_that_is_full_stops_no_downlink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = StateFolder(tmp_path)
    book = airtime(folder, [10.0])

    def full(name: str, value: dict[str, Any]) -> bool:
        folder.fault = "the disk is full"
        return False

    monkeypatch.setattr(folder, "write", full)
    book.start()
    for second in range(11, 20):
        assert book.try_reserve(BAND, second * SECOND_NS, 3_000_000, 10 * SECOND_NS) is Booking.DONE
    assert (book.survives_restart, book.fault) == (False, "the disk is full")
    book.stop()
    assert StateFolder(tmp_path).read(NAME) is None


def test_a_radio_that_is_started_again_knows_what_it_has_sent(
    carrier_for: Callable[[], Carrier], tmp_path: Path
) -> None:
    wish = TxPacket(None, True, 868_100_000, 0, 14, LoRaModulation(12, 125_000), True, bytes(20), True)
    used = []
    for _ in range(2):
        carrier = carrier_for()
        platform = replace(carrier.platform, boot_id="the same")
        module = ModuleConfig("fluxgate-sim-4", 0)
        config = RadioConfig(modules=(module,), gateway_eui=bytes(8), state_dir=tmp_path)
        radio = Radio(config, platform, lambda _rx, _end_ns: None)
        carrier.start(radio)
        carrier.run_until(SECOND_NS)
        assert radio.transmit(wish, carrier.kernel.now_ns).error is TxError.NONE
        carrier.run_until(4 * SECOND_NS)
        status = radio.status(carrier.kernel.now_ns)
        used.append(next(band["used_us"] for band in status["duty_cycle"] if band["min_hz"] == 868_000_000))
        assert status["regulation"]["ledger"]["survives_restart"]
        carrier.stop(radio)
    assert used[0] > 1_000_000
    assert used[1] == 2 * used[0]
    assert StateFolder(tmp_path).read(NAME) is not None
