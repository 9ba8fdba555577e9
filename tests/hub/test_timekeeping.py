"""Times stamped while the clock was wrong are put right once it is known, and never guessed before."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from hub import log_clock
from hub.log import Log
from hub.message import Message, TimeQuality
from hub.timekeeping import STEP_NS, ClockWatch, Correction, KeptClock, corrected, merged, shift

from .conftest import MakeMessage

S = 1_000_000_000
DAY = 86_400 * S
NOW = 1_790_000_000 * S  # the true time at which each script starts: September 2026
YEAR_2036 = 2_085_978_496 * S  # where the 32 bits of NTP's era end

NTP, GNSS, UNSET, RESTORED = TimeQuality.NTP, TimeQuality.GNSS, TimeQuality.UNSET, TimeQuality.RESTORED


# The watch


def test_a_clock_that_runs_on_is_no_news() -> None:
    watch = ClockWatch()
    assert watch.observe(0, NOW, UNSET) is None
    assert watch.observe(DAY, NOW + DAY, UNSET) is None


@pytest.mark.parametrize("step", [S, -S, DAY, -DAY, YEAR_2036 - NOW, -NOW, STEP_NS + 1])
def test_a_step_either_way_is_told_once_with_its_size(step: int) -> None:
    watch = ClockWatch()
    watch.observe(5, NOW, UNSET)
    assert watch.observe(5 + S, NOW + S + step, UNSET) == step
    assert watch.observe(5 + 2 * S, NOW + 2 * S + step, UNSET) is None


def test_small_differences_wait_for_the_synchronisation_and_are_not_lost() -> None:
    watch = ClockWatch()
    watch.observe(0, NOW, RESTORED)
    assert watch.observe(S, NOW + S + STEP_NS // 2, RESTORED) is None
    assert watch.observe(2 * S, NOW + 2 * S + STEP_NS, RESTORED) is None
    assert watch.observe(3 * S, NOW + 3 * S + STEP_NS, NTP) == STEP_NS


def test_a_clock_that_proves_right_is_told_as_a_step_of_zero() -> None:
    watch = ClockWatch()
    watch.observe(0, NOW, RESTORED)
    assert watch.observe(S, NOW + S, GNSS) == 0
    assert watch.observe(2 * S, NOW + 2 * S, NTP) is None


def test_losing_synchronisation_is_no_step_and_finding_it_again_is_told() -> None:
    watch = ClockWatch()
    assert watch.observe(0, NOW, NTP) is None
    assert watch.observe(S, NOW + S, RESTORED) is None
    assert watch.observe(2 * S, NOW + 2 * S, NTP) == 0


def test_a_process_that_starts_again_in_the_same_boot_goes_on_from_what_was_kept() -> None:
    watch = ClockWatch(offset_ns=1_000, quality=UNSET)  # the clock was set while no process ran
    assert watch.observe(S, NOW + S, NTP) == NOW - 1_000


# Applying corrections


def stamped(seq: int, created_ns: int, quality: TimeQuality = UNSET, boot: str = "a") -> Message:
    return Message(
        "channel", "", "thing", "lora", "application/json", b"{}", created_ns, seq, time=quality, boot=boot
    )


def test_only_untrusted_messages_of_that_boot_and_before_the_step_move() -> None:
    corrections = [Correction("a", 10, DAY, NTP)]
    moved = corrected(stamped(10, 5), corrections)
    assert (moved.created_ns, moved.time, moved.seq) == (DAY + 5, NTP, 10)
    for message in (stamped(11, 5), stamped(3, 5, boot="b"), stamped(3, 5, NTP), stamped(3, 5, GNSS)):
        assert corrected(message, corrections) is message
    assert corrected(stamped(1, 5, RESTORED), corrections).created_ns == DAY + 5


def test_steps_of_one_boot_add_up_until_the_time_is_trusted() -> None:
    corrections = [
        Correction("a", 10, DAY, UNSET),
        Correction("b", 15, 7, NTP),
        Correction("a", 20, -S, NTP),
        Correction("a", 30, 3_600 * S, NTP),  # somebody set a synchronised clock wrong
    ]
    assert shift("a", 5, UNSET, corrections) == (DAY - S, NTP)
    assert shift("a", 15, UNSET, corrections) == (-S, NTP)
    assert shift("a", 25, RESTORED, corrections) == (3_600 * S, NTP)
    assert shift("a", 31, UNSET, corrections) == (0, UNSET)


def test_steps_with_no_message_between_become_one() -> None:
    first = Correction("a", 10, DAY, UNSET)
    assert merged([first], Correction("a", 10, S, NTP)) == [Correction("a", 10, DAY + S, NTP)]
    assert len(merged([first], Correction("a", 11, S, NTP))) == 2
    assert len(merged([first], Correction("b", 10, S, NTP))) == 2
    trusted = Correction("a", 10, DAY, NTP)
    assert len(merged([trusted], Correction("a", 10, S, NTP))) == 2


# In the log


def test_corrections_and_what_is_known_of_the_clock_survive_a_restart(
    tmp_path: Path, make_message: MakeMessage
) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        assert (list(log.corrections()), log.kept_clock) == ([], None)
        heard: list[Correction] = []
        log.on_correction(heard.append)
        await log.append([make_message(n, boot="a") for n in range(3)])
        first = log.correct("a", DAY, UNSET)
        assert first == Correction("a", 3, DAY, UNSET)
        log.correct("a", S, NTP)
        log.keep_clock(KeptClock("a", 77, NTP, NOW))
        assert heard == [first, Correction("a", 3, S, NTP)]
        await log.flush()
        await log.close()
        log = Log.open(tmp_path / "log.db")
        assert log.corrections() == [Correction("a", 3, DAY + S, NTP)]
        assert log.kept_clock == KeptClock("a", 77, NTP, NOW)
        shown = corrected(log.read(0)[0], log.corrections())
        assert (shown.created_ns, shown.time) == (make_message(0).created_ns + DAY + S, NTP)
        await log.close()

    asyncio.run(main())


def test_a_correction_is_durable_without_anybody_waiting(tmp_path: Path, make_message: MakeMessage) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db", commit_interval_s=3600)
        log.post([make_message(boot="a")])
        log.correct("a", DAY, NTP)
        await log.flush()
        assert log.query("SELECT up_to_seq, offset_ns FROM correction") == [(1, DAY)]
        await log.close()

    asyncio.run(main())


def test_corrections_are_bounded_and_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_clock, "MAX_CORRECTIONS", 5)

    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        for n in range(12):
            log.correct(f"boot {n}", n, NTP)
        await log.close()
        log = Log.open(tmp_path / "log.db")
        assert [correction.offset_ns for correction in log.corrections()] == [7, 8, 9, 10, 11]
        log.correct("one more", 12, NTP)
        await log.close()
        log = Log.open(tmp_path / "log.db")
        assert [correction.offset_ns for correction in log.corrections()] == [8, 9, 10, 11, 12]
        await log.close()

    asyncio.run(main())


@pytest.mark.parametrize("column", ["quality = 'what'", "offset_ns = 'much'"])
def test_damage_to_what_is_kept_of_the_clock_keeps_nothing_from_starting(tmp_path: Path, column: str) -> None:
    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        log.correct("a", DAY, NTP)
        await log.flush()
        await log.write([(f"UPDATE correction SET {column}", ())])
        await log.close()
        log = Log.open(tmp_path / "log.db")
        assert list(log.corrections()) == []
        log.correct("b", S, NTP)
        await log.close()
        log = Log.open(tmp_path / "log.db")
        await log.close()

    asyncio.run(main())


# Two hundred jumps


@dataclass
class FakeMachine:
    """One boot: its true time, its monotonic clock, and a wall clock that can be set."""

    boot: str
    true_ns: int
    wall_ns: int
    mono_ns: int = 0
    quality: TimeQuality = UNSET

    def pass_time(self, ns: int) -> None:
        self.true_ns += ns
        self.wall_ns += ns
        self.mono_ns += ns

    def synchronise(self, quality: TimeQuality) -> None:
        self.wall_ns, self.quality = self.true_ns, quality


def jump(machine: FakeMachine, rng: random.Random) -> None:
    machine.wall_ns = rng.choice(
        [
            rng.randrange(S),
            YEAR_2036 + rng.randrange(S),
            machine.wall_ns + S,
            machine.wall_ns - S,
            machine.wall_ns + DAY,
            machine.wall_ns - DAY,
            machine.wall_ns + rng.choice((-1, 1)) * rng.randrange(STEP_NS),  # too small to be told at once
        ]
    )


def test_two_hundred_jumps_leave_every_synchronised_boot_right_and_every_other_marked(
    tmp_path: Path, make_message: MakeMessage
) -> None:
    rng = random.Random(36)
    truth: dict[int, tuple[str, int]] = {}  # number to boot and true time
    synchronised: dict[str, bool] = {}

    async def publish(log: Log, machine: FakeMachine, watch: ClockWatch) -> None:
        machine.pass_time(rng.randrange(1, 600 * S))
        step = watch.observe(machine.mono_ns, machine.wall_ns, machine.quality)
        if step is not None:
            log.correct(machine.boot, step, machine.quality)
        offset = machine.wall_ns - machine.mono_ns
        log.keep_clock(KeptClock(machine.boot, offset, machine.quality, machine.wall_ns))
        message = make_message(created_ns=machine.wall_ns, time=machine.quality, boot=machine.boot)
        (seq,) = await log.append([message])
        truth[seq] = (machine.boot, machine.true_ns)

    async def boot(number: int, starts: int) -> int:
        machine = FakeMachine(f"boot {number}", NOW + number * DAY, rng.choice((0, NOW, YEAR_2036)))
        jumps = 10
        synchronised[machine.boot] = number % 4 != 3
        for start in range(starts):
            log = Log.open(tmp_path / "log.db")
            kept = log.kept_clock
            same_boot = kept is not None and kept.boot == machine.boot
            watch = ClockWatch(kept.offset_ns, kept.quality) if kept and same_boot else ClockWatch()

            await publish(log, machine, watch)
            for _ in range(jumps // starts):
                jump(machine, rng)
                if rng.random() < 0.7:  # else two jumps with nothing heard between them
                    await publish(log, machine, watch)
            if start == starts - 1 and synchronised[machine.boot]:
                machine.synchronise(rng.choice((NTP, GNSS)))
                await publish(log, machine, watch)
                jump(machine, rng)  # set wrong by hand, and right again
                await publish(log, machine, watch)
                machine.synchronise(NTP)
                await publish(log, machine, watch)
            await log.close()
        return jumps

    jumps = sum(asyncio.run(boot(number, starts=1 + number % 2)) for number in range(20))
    assert jumps == 200

    async def judge() -> None:
        log = Log.open(tmp_path / "log.db")
        messages = log.read(0, None, 10_000)
        assert len(messages) == len(truth) > 150
        for message in messages:
            name, true_ns = truth[message.seq]
            shown = corrected(message, log.corrections())
            if not synchronised[name]:
                assert shown.time in (UNSET, RESTORED)  # marked, never invented
            elif message.time in (UNSET, RESTORED):
                assert shown.time in (NTP, GNSS)
                assert abs(shown.created_ns - true_ns) <= STEP_NS
        await log.close()

    asyncio.run(judge())
