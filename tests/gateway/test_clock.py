"""The clock tells both times, claims no more trust than the kernel gives, and tells the log when it was set."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path

import pytest

from gateway import clock
from gateway.clock import BUILD_TIME_NS, SystemClock
from hub.log import Log
from hub.message import OCTET_STREAM, Message, TimeQuality
from hub.timekeeping import Correction, KeptClock, corrected

ROOT = Path(__file__).resolve().parents[2]
S = 1_000_000_000
DAY = 86_400 * S
NOW = BUILD_TIME_NS + 250 * DAY

NTP, UNSET, RESTORED = TimeQuality.NTP, TimeQuality.UNSET, TimeQuality.RESTORED


class Machine:
    """Clocks that go as told."""

    def __init__(self, wall_ns: int, mono_ns: int = 0) -> None:
        self.wall_ns, self.mono_ns, self.synchronised = wall_ns, mono_ns, False

    def clock(self) -> SystemClock:
        return SystemClock(lambda: (self.mono_ns, self.wall_ns), lambda: self.synchronised)

    def pass_time(self, ns: int) -> None:
        self.wall_ns += ns
        self.mono_ns += ns

    def synchronise(self, wall_ns: int) -> None:
        self.wall_ns, self.synchronised = wall_ns, True


class Told:
    """A log that only listens."""

    def __init__(self, kept: KeptClock | None = None) -> None:
        self.kept_clock = kept
        self.corrections: list[Correction] = []

    def keep_clock(self, kept: KeptClock) -> None:
        self.kept_clock = kept

    def correct(self, boot: str, offset_ns: int, quality: TimeQuality) -> Correction:
        self.corrections.append(Correction(boot, 0, offset_ns, quality))
        return self.corrections[-1]


def test_clocks_do_not_go_back() -> None:
    system = SystemClock()
    first, second = system.now(), system.now()
    assert second.mono_ns >= first.mono_ns
    assert abs(second.wall_ns - second.mono_ns - first.wall_ns + first.mono_ns) < S


def test_trust_follows_the_kernel_and_is_asked_for_now_and_then() -> None:
    machine = Machine(0)
    system = machine.clock()
    assert system.now().quality is UNSET
    machine.wall_ns = BUILD_TIME_NS
    machine.synchronised = True
    machine.pass_time(clock.QUALITY_AGE_NS + 1)
    assert system.now().quality is NTP
    machine.synchronised = False
    machine.pass_time(S)
    assert system.now().quality is NTP
    machine.pass_time(clock.QUALITY_AGE_NS + 1)
    assert system.now().quality is RESTORED


def test_a_synchronised_kernel_in_1970_is_not_believed() -> None:
    machine = Machine(5 * S)
    machine.synchronised = True
    assert machine.clock().now().quality is UNSET


def test_kernel_answers_without_changing_anything() -> None:
    assert clock._synchronised() in (True, False)


@pytest.mark.parametrize("step", [S, -S, DAY, -DAY, -NOW, 10 * 365 * DAY])
def test_a_step_is_told_at_once_with_the_quality_it_brought(step: int) -> None:
    machine, told = Machine(NOW), Told()
    system = machine.clock()
    system.follow(told, "boot")
    machine.pass_time(S)
    system.now()
    assert told.corrections == []
    machine.pass_time(S)
    machine.wall_ns += step
    assert system.now().wall_ns == machine.wall_ns
    quality = RESTORED if machine.wall_ns >= BUILD_TIME_NS else UNSET
    assert told.corrections == [Correction("boot", 0, step, quality)]
    machine.pass_time(S)
    system.now()
    assert len(told.corrections) == 1


def test_synchronisation_is_told_in_one_correction_that_is_trusted() -> None:
    machine, told = Machine(0), Told()
    system = machine.clock()
    system.follow(told, "boot")
    assert (system.now().wall_ns, system.now().quality) == (BUILD_TIME_NS, UNSET)
    machine.pass_time(S)
    machine.synchronise(NOW)
    now = system.now()
    assert (now.wall_ns, now.quality) == (NOW, NTP)
    assert told.corrections == [Correction("boot", 0, NOW - BUILD_TIME_NS - S, NTP)]
    assert told.kept_clock == KeptClock("boot", NOW - S, NTP, NOW)


def test_a_machine_that_starts_in_1970_goes_on_from_the_last_time_seen() -> None:
    machine, told = Machine(3 * S, mono_ns=3 * S), Told(KeptClock("earlier boot", 0, NTP, NOW))
    system = machine.clock()
    system.follow(told, "boot")
    now = system.now()
    assert (now.wall_ns, now.quality) == (NOW, RESTORED)
    assert told.corrections == []
    machine.pass_time(10 * S)
    assert system.now().wall_ns == NOW + 10 * S
    again = machine.clock()  # the process starts again in the same boot: it goes on, without a step
    again.follow(told, "boot")
    assert again.now().wall_ns == NOW + 10 * S
    assert told.corrections == []
    machine.synchronise(NOW - DAY)  # what was kept had been wrong; a trusted time may be earlier
    machine.pass_time(clock.QUALITY_AGE_NS + 1)
    assert again.now().wall_ns == machine.wall_ns
    assert [one.quality for one in told.corrections] == [NTP]


def test_a_step_between_two_processes_of_one_boot_is_found() -> None:
    machine, told = Machine(NOW), Told()
    first = machine.clock()
    first.follow(told, "boot")
    machine.pass_time(S)
    machine.synchronise(NOW + DAY)
    second = machine.clock()
    second.follow(told, "boot")
    assert told.corrections == [Correction("boot", 0, DAY - S, NTP)]


def test_the_time_is_kept_again_and_again_and_at_the_end() -> None:
    machine, told = Machine(NOW), Told()
    system = machine.clock()
    system.follow(told, "boot")
    machine.pass_time(DAY)

    async def main() -> None:
        task = asyncio.create_task(system.keep())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert told.kept_clock == KeptClock("boot", NOW, RESTORED, NOW + DAY)


def test_messages_of_an_unsynchronised_start_are_right_once_the_clock_is(tmp_path: Path) -> None:
    machine = Machine(0)
    system = machine.clock()

    def message() -> Message:
        now = system.now()
        return Message("c", "", "p", "lora", OCTET_STREAM, b"", now.wall_ns, time=now.quality, boot="boot")

    async def main() -> None:
        log = Log.open(tmp_path / "log.db")
        system.follow(log, "boot")
        for _ in range(10):
            machine.pass_time(60 * S)
            await log.append([message()])
        machine.synchronise(NOW + 600 * S)
        await log.append([message()])
        shown = [corrected(one, log.corrections()) for one in log.read(0)]
        assert [one.created_ns for one in shown] == [
            *(NOW + n * 60 * S for n in range(1, 11)),
            NOW + 600 * S,
        ]
        assert {one.time for one in shown} == {NTP}
        await log.close()

    asyncio.run(main())


# Nobody else reads the wall clock

WALL = {"time", "time_ns", "now", "utcnow", "today", "localtime", "gmtime", "ctime"}
ALLOWED = {
    "gateway/clock.py": "the one place that reads it",
    "gateway/cli.py": "the age of a status file, whose time stamp is wall time",
    "gateway/rest/messages.py": "a command at somebody's own machine, which reckons what he asks for",
    "gateway/rest/provision.py": "the same",
    "gateway/rest/watching.py": "the same",
    "gateway/upstream/relay.py": "shown to people: since when, worked out from monotonic time",
    "gateway/nats_source.py": "shown to people, as in the relay",
    "gateway/upstream/mqtt.py": "what is left of a message's expiry, which its publisher gave in wall time",
    "gateway/upstream/nats.py": "the stamp of a message it makes",
    "gateway/upstream/mqtt_link.py": "whether a certificate has expired, after the handshake refused it",
    "gateway/upstream/nats_link.py": "the same",
    "platform/hub/history.py": "the default clock of a history without a gateway",
    "platform/hub/hub.py": "the default clock of a hub without a gateway",
}


def wall_clock_calls(path: Path) -> list[int]:
    """Lines that call time.time() and its like, or datetime.now()."""
    lines = []
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.Attribute)
            and node.attr in WALL
            and isinstance(node.value, (ast.Name, ast.Attribute))
        ):
            owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            if owner in ("time", "datetime", "date"):
                lines.append(node.lineno)
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            lines += [node.lineno for name in node.names if name.name in WALL]
    return sorted(lines)


def test_no_part_runs_timers_on_the_wall_clock() -> None:
    found = {
        str(path.relative_to(ROOT)): wall_clock_calls(path)
        for folder in ("platform/hub", "gateway")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if wall_clock_calls(path)
    }
    assert {name: lines for name, lines in found.items() if name not in ALLOWED} == {}


def test_the_search_for_wall_clocks_finds_them(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("import time, datetime\ntime.time()\ndatetime.datetime.now()\nfrom time import time_ns\n")
    assert wall_clock_calls(path) == [2, 3, 4]
    path.write_text("import time\ntime.monotonic()\nself.clock.now()\n")
    assert wall_clock_calls(path) == []


def test_a_gnss_receiver_sets_a_clock_that_nobody_else_keeps_and_the_log_is_told() -> None:
    machine = Machine(wall_ns=5 * S, mono_ns=1_000 * S)  # 1970: a Raspberry Pi without internet
    told = Told()
    system = machine.clock()
    system.follow(told, "boot")
    assert system.now().quality is UNSET
    system.told(machine.mono_ns - 2 * S, NOW)
    now = system.now()
    assert (now.wall_ns, now.quality) == (NOW + 2 * S, TimeQuality.GNSS)
    assert [each.quality for each in told.corrections] == [TimeQuality.GNSS]
    machine.pass_time(30 * S)
    system.told(machine.mono_ns, NOW + 32 * S + 4_000_000)  # a reading that came a little late moves nothing
    assert system.now().wall_ns == NOW + 32 * S
    assert len(told.corrections) == 1


def test_a_gnss_receiver_that_falls_silent_is_trusted_no_longer_but_its_time_goes_on() -> None:
    machine = Machine(wall_ns=5 * S, mono_ns=1_000 * S)
    system = machine.clock()
    system.told(machine.mono_ns, NOW)
    machine.pass_time(90 * S)
    now = system.now()
    assert now.wall_ns == NOW + 90 * S
    assert now.quality is not TimeQuality.GNSS


def test_a_synchronised_clock_is_left_alone_by_a_gnss_receiver() -> None:
    machine = Machine(wall_ns=NOW, mono_ns=1_000 * S)
    machine.synchronised = True
    system = machine.clock()
    system.told(machine.mono_ns, NOW + 3_600 * S)
    assert (system.now().wall_ns, system.now().quality) == (NOW, NTP)
