"""The audit log: chained, bounded, never in the way, and any damage to it is found."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hub.audit
import hub.audit_file
from hub.access import Action, Circumstances, Principal, Resource
from hub.audit import MAX_REFUSED_BURST, MAX_WAITING, OTHERS, Attempt, Audit, attempting
from hub.audit_chain import Line
from hub.audit_file import AuditFile, head_path, verify_file
from hub.hub import Hub
from hub.message import TimeQuality

KEY = b"k" * 32


class Time:
    """Both clocks, moved by hand."""

    def __init__(self) -> None:
        self.wall_s, self.mono = 1_800_000_000.0, 0.0
        self.quality = TimeQuality.NTP

    def clock(self) -> tuple[int, TimeQuality]:
        return int(self.wall_s * 1e9), self.quality

    def passes(self, seconds: float) -> None:
        self.wall_s += seconds
        self.mono += seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def audit(tmp_path: Path, time: Time) -> Iterator[Audit]:
    made = Audit(tmp_path / "audit.db", KEY, time.clock, "boot", lambda: time.mono)
    yield made
    made.close()


def lines(audit: Audit, where: str = "1") -> list[Line]:
    """What the file holds, oldest first."""
    assert audit.flush()
    with audit.reader() as reader:
        return reader.lines(where, (), 10_000)[::-1]


def edit(path: Path, sql: str, *parameters: Any) -> None:
    """Change the file as somebody would who has it and not the key."""
    conn = sqlite3.connect(path)
    assert conn.execute(sql, parameters).rowcount != 0
    conn.commit()
    conn.close()


def test_a_line_says_what_who_where_and_when_with_the_quality_of_the_time(audit: Audit, time: Time) -> None:
    time.quality = TimeQuality.UNSET
    audit.record(
        "sign-in",
        "allowed",
        who="users/1",
        address="192.0.2.7",
        door="http",
        resource="/tokens",
        detail="password",
    )
    assert lines(audit) == [
        Line(
            *(1, 1_800_000_000_000_000_000, "unset", "boot", "sign-in", "allowed", "users/1", "192.0.2.7"),
            *("http", "/tokens", "password", 1),
        )
    ]


def test_what_happens_within_a_request_is_recorded_with_its_caller(audit: Audit) -> None:
    async def main() -> Attempt:
        with attempting(Attempt("users/1", "192.0.2.7", "http", "PATCH /users/2")) as one:
            await asyncio.to_thread(audit.record, "role", "done", resource="users/2")
            return one

    assert asyncio.run(main()).lines == 1
    (line,) = lines(audit)
    assert (line.who, line.address, line.door, line.resource) == ("users/1", "192.0.2.7", "http", "users/2")


def test_no_field_can_forge_a_line_or_fill_the_file(audit: Audit) -> None:
    audit.record(
        "sign-in", "refused", who="a\r\n2026 root allowed\x1b[2J\u2028", detail="x" * 100_000 + "\ud800"
    )
    (line,) = lines(audit)
    assert line.who == "a  2026 root allowed [2J "
    assert len(line.detail) == hub.audit.MAX_FIELD
    assert audit.verify().intact


def test_equal_refusals_of_a_minute_are_one_line_and_one_with_their_number(audit: Audit, time: Time) -> None:
    for _ in range(1000):
        audit.record("sign-in", "refused", who="owner@example.org", address="192.0.2.7")
    audit.record("sign-in", "refused", who="owner@example.org", address="192.0.2.8")
    assert [line.count for line in lines(audit)] == [1, 1]
    time.passes(60)
    audit.record("sign-in", "refused", who="owner@example.org", address="192.0.2.7")
    found = lines(audit)
    assert [(line.address[-1], line.count) for line in found] == [("7", 1), ("8", 1), ("7", 999), ("7", 1)]
    assert found[2].time_ns == 1_800_000_000_000_000_000


def test_a_flood_of_different_refusals_does_not_push_out_what_matters(audit: Audit, time: Time) -> None:
    for n in range(50_000):
        audit.record("access", "refused", who=f"things/{n}")
    audit.record("sign-in", "refused", who="owner@example.org")
    assert audit.flush(gathered=True)
    found = lines(audit)
    assert len(found) == MAX_REFUSED_BURST + 2
    (rest,) = [line for line in found if line.detail == OTHERS]
    assert rest.count == 50_000 - MAX_REFUSED_BURST
    assert len(audit._gathered) == 0
    time.passes(600)
    for n in range(1000):
        audit.record("access", "refused", who=f"things/{n}")
    assert audit.flush(gathered=True)
    assert len(lines(audit)) == len(found) + 10 + 1


def fill(path: Path, count: int = 50) -> AuditFile:
    file = AuditFile(path, KEY)
    for n in range(count):
        file.append([Line(0, n, "ntp", "boot", "thing", "done", f"users/{n}")])
    return file


DAMAGE = [
    pytest.param("UPDATE line SET who = 'users/x' WHERE n = 20", "line 20 was changed", id="edited"),
    pytest.param("UPDATE line SET count = 2 WHERE n = 20", "line 20 was changed", id="a number edited"),
    pytest.param(
        "UPDATE line SET time_ns = time_ns + 1 WHERE n = 50", "line 50 was changed", id="the last edited"
    ),
    pytest.param("DELETE FROM line WHERE n = 20", "line 20 is missing", id="one deleted"),
    pytest.param("DELETE FROM line WHERE n = 1", "line 1 is missing", id="the first deleted"),
    pytest.param("DELETE FROM line WHERE n > 40", "lines 41 to 50 are missing", id="cut off"),
    pytest.param("DELETE FROM line", "lines 1 to 50 are missing", id="emptied"),
    pytest.param(
        "UPDATE line SET n = CASE n WHEN 20 THEN -21 WHEN 21 THEN -20 END WHERE n IN (20, 21)",
        "where line 1 should",
        id="two moved",
    ),
    pytest.param(
        "INSERT INTO line SELECT 51, time_ns, quality, boot, kind, outcome, who, address, door, resource, detail,"
        " count, hash, hash FROM line WHERE n = 50",
        "line 51 was changed",
        id="one added",
    ),
    pytest.param(
        "INSERT INTO anchor SELECT 1, n, hash, hash FROM line WHERE n = 10",
        "is not the gateway's",
        id="anchor forged",
    ),
]


@pytest.mark.parametrize(("sql", "words"), DAMAGE)
def test_an_edit_without_the_key_is_found(tmp_path: Path, sql: str, words: str) -> None:
    path = tmp_path / "audit.db"
    fill(path).close()
    whole = verify_file(path, KEY)
    assert (whole.intact, whole.lines, whole.breaks) == (True, 50, [])  # without it nothing is found
    edit(path, sql)
    verdict = verify_file(path, KEY)
    assert not verdict.intact
    assert words in " ".join(found.words for found in verdict.breaks)


def test_moved_lines_are_found_wherever_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    fill(path).close()
    edit(path, "UPDATE line SET n = 1000 WHERE n = 20")
    edit(path, "UPDATE line SET n = 20 WHERE n = 21")
    edit(path, "UPDATE line SET n = 21 WHERE n = 1000")
    assert {found.line for found in verify_file(path, KEY).breaks} >= {20, 21}


def test_each_line_deleted_or_edited_is_found(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    fill(path, 12).close()
    whole = path.read_bytes()
    for n in range(1, 13):
        for sql in ("DELETE FROM line WHERE n = ?", "UPDATE line SET detail = 'x' WHERE n = ?"):
            edit(path, sql, n)
            assert not verify_file(path, KEY).intact, (sql, n)
            path.write_bytes(whole)
    assert verify_file(path, KEY).intact


def test_a_cut_is_still_found_after_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    fill(path).close()
    edit(path, "DELETE FROM line WHERE n > 40")
    again = AuditFile(path, KEY)
    assert again.note == "lines 41 to 50 are missing"
    again.append([Line(0, 1, "ntp", "boot", "audit", "done")])
    again.close()
    verdict = verify_file(path, KEY)
    assert [(found.line, found.words) for found in verdict.breaks] == [(51, "lines 41 to 50 are missing")]


@pytest.mark.parametrize("how", ["gone", "old", "forged", "empty"])
def test_the_mark_outside_the_file_cannot_be_taken_away(tmp_path: Path, how: str) -> None:
    path = tmp_path / "audit.db"
    file = fill(path, 10)
    old = head_path(path).read_bytes()
    file.append([Line(0, 1, "ntp", "boot", "thing", "done")])
    file.close()
    _, at, seal = old.split()
    forged = {"old": old, "forged": b"11 " + at + b" " + seal, "empty": b""}
    if how == "gone":
        head_path(path).unlink()
    else:
        head_path(path).write_bytes(forged[how])
    # One batch behind is what a crash leaves, and all that it can leave.
    assert verify_file(path, KEY).intact is (how == "old")


def test_a_lost_file_is_noticed_and_the_numbers_go_on(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    fill(path).close()
    path.write_bytes(b"damaged" * 1000)
    audit = Audit(path, KEY, Time().clock)
    audit.record("thing", "done")
    first, second = lines(audit)
    audit.close()
    assert "damaged and is kept as audit.db.damaged-1; lines 1 to 50 are missing" in first.detail
    assert (first.kind, first.n, second.n) == ("audit", 51, 52)
    assert [found.words for found in audit.verify().breaks] == ["lines 1 to 50 are missing"]


def test_the_file_stays_below_its_bound_and_what_went_is_anchored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub.audit_file, "CHECK_EVERY", 50)
    path = tmp_path / "audit.db"
    file = AuditFile(path, KEY, max_bytes=200_000)
    for n in range(60):
        file.append([Line(0, n, "ntp", "boot", "thing", "done", detail="x" * 200) for _ in range(50)])
    file.close()
    assert path.stat().st_size < 300_000
    verdict = verify_file(path, KEY)
    assert verdict.intact
    assert (verdict.first, verdict.last) == (verdict.removed + 1, 3000)
    assert verdict.removed > 1000
    edit(path, "UPDATE anchor SET n = n + 1")
    assert not verify_file(path, KEY).intact
    edit(path, "DELETE FROM anchor")
    assert not verify_file(path, KEY).intact


def test_another_gateways_key_finds_every_line_strange(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    fill(path, 5).close()
    assert not verify_file(path, b"x" * 32).intact


def test_a_full_disk_is_said_and_counted_and_the_lines_follow(
    audit: Audit, time: Time, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    append: Callable[..., None] = AuditFile.append

    def refuse(*_: object) -> None:
        raise full

    monkeypatch.setattr(AuditFile, "append", refuse)
    for n in range(MAX_WAITING + 7):
        audit.record("thing", "done", who=f"users/{n}")
    assert not audit.flush()
    assert "the disk is full" in audit.problem
    assert "the audit log cannot be written: the disk is full" in caplog.text
    assert audit.counters()["fluxgate_audit_lines_lost_total"] == 7
    monkeypatch.setattr(AuditFile, "append", append)
    assert audit.flush()
    found = lines(audit)
    assert audit.problem == ""
    assert len(found) == MAX_WAITING + 1
    assert found[0].detail.startswith("7 lines could not be kept: the disk is full")
    assert audit.verify().intact


def test_which_settings_changed_is_noted_and_never_their_values(tmp_path: Path) -> None:
    for settings in ({"a": "1", "b.password": "s3cret"}, {"a": "1", "b.password": "0ther", "c": "2"}):
        audit = Audit(tmp_path / "audit.db", KEY, Time().clock)
        audit.configured(settings)
        assert audit.flush()
        audit.close()
    with audit.reader() as reader:
        (line,) = reader.lines("1", (), 10)
    assert (line.kind, line.detail) == (
        "configuration",
        "other settings than at the last start: b.password, c",
    )
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"s3cret" not in files
    assert b"0ther" not in files


VICTIM = """
import sys
from pathlib import Path
from hub.audit import Audit
from hub.hub import system_clock
audit = Audit(Path(sys.argv[1]), b"k" * 32, system_clock)
n = 0
while True:
    for _ in range(20):
        n += 1
        audit.record("thing", "done", who=f"users/{n}")
    audit.flush()
    print(n, flush=True)
"""


def test_a_kill_takes_nothing_that_was_written_and_leaves_a_whole_chain(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    kept = 0
    for _ in range(3):
        victim = subprocess.Popen(
            [sys.executable, "-c", VICTIM, str(path)], stdout=subprocess.PIPE, text=True, env={**os.environ}
        )
        assert victim.stdout is not None
        told = [int(victim.stdout.readline()) for _ in range(3)][-1]
        victim.send_signal(signal.SIGKILL)
        victim.wait(10)
        victim.stdout.close()
        AuditFile(path, KEY).close()
        verdict = verify_file(path, KEY)
        assert verdict.intact, verdict.breaks
        assert verdict.lines >= kept + told
        kept = verdict.lines


def test_the_hub_notes_denials_at_its_doors_and_changes_nobody_asked_for(tmp_path: Path) -> None:
    async def main() -> list[Line]:
        opened = Hub.open(tmp_path)
        thing, _ = await asyncio.to_thread(opened.registry.create_thing, "sensor")
        await asyncio.sleep(0)
        for action in (Action.PUBLISH, Action.DELIVER):
            opened.access.decide(
                Principal.of_thing(thing), action, Resource("c"), Circumstances("mqtt", "192.0.2.7")
            )
        opened.audit.flush()
        with opened.audit.reader() as reader:
            found = reader.lines("1", (), 10)
        await opened.close()
        return [found[1], found[0], *found[2:]] if found[0].kind == "thing" else found

    denied, made = asyncio.run(main())
    assert (made.kind, made.outcome, made.who, made.detail) == (
        *("thing", "done", "gateway", "sensor: made, or given a right"),
    )
    assert (denied.kind, denied.outcome, denied.address, denied.door) == (
        "access",
        "refused",
        "192.0.2.7",
        "mqtt",
    )
    assert denied.resource == "publish channels/c/messages"
