"""kill -9 at random moments: nothing acknowledged is lost, nothing is stored twice, no number is used again."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from hub.log import Log

VICTIM = Path(__file__).with_name("log_victim.py")
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Account:
    """What the victims said, and what is wrong with it."""

    acknowledged: dict[str, int] = field(default_factory=dict)  # body to number
    seen: set[int] = field(default_factory=set)
    reused: list[int] = field(default_factory=list)

    def lost(self, stored: dict[str, int]) -> list[str]:
        return [body for body, seq in self.acknowledged.items() if stored.get(body) != seq]


def run_and_kill(path: Path, manner: str, lines: int, account: Account) -> None:
    """Start a victim, read `lines` lines, kill it, and take down all it said before it died."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}"}
    victim = subprocess.Popen(
        [sys.executable, str(VICTIM), str(path), manner], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert victim.stdout
    said = [victim.stdout.readline() for _ in range(lines)]
    victim.send_signal(signal.SIGKILL)
    rest = victim.stdout.read()
    victim.stdout.close()
    assert victim.wait() == -signal.SIGKILL
    said += rest.splitlines(keepends=True)
    mine: set[int] = set()
    for line in said:
        match line.split() if line.endswith("\n") else []:
            case ["seen", seq]:
                if int(seq) in account.seen or int(seq) in mine:
                    account.reused.append(int(seq))
                mine.add(int(seq))
            case ["ack", seq, body]:
                account.acknowledged[body] = int(seq)
    account.seen |= mine


def stored_in(path: Path) -> tuple[dict[str, int], int]:
    """Body to number of all that is stored by acknowledged publishers, and how many rows that is."""

    async def read() -> tuple[dict[str, int], int]:
        log = Log.open(path)
        rows = [message for message in log.read(0, None, 1 << 40) if message.payload != b"posted"]
        assert log.query("PRAGMA integrity_check") == [("ok",)]
        assert log.message_count == log.query("SELECT count(*) FROM log")[0][0]
        await log.close()
        return {message.payload.decode(): message.seq for message in rows}, len(rows)

    return asyncio.run(read())


def test_twenty_kills_lose_nothing_acknowledged_and_reuse_no_number(tmp_path: Path) -> None:
    rng = random.Random(9)
    account = Account()
    path = tmp_path / "log.db"
    for _ in range(20):
        run_and_kill(path, "honest", rng.randint(1, 1500), account)
    stored, rows = stored_in(path)
    assert len(account.acknowledged) > 1000
    assert account.lost(stored) == []
    assert len(stored) == rows  # no body twice
    assert account.reused == []


def test_the_harness_sees_an_acknowledgement_before_the_commit(tmp_path: Path) -> None:
    """The control: the same kills must find fault with a victim that acknowledges too early."""
    rng = random.Random(9)
    account = Account()
    path = tmp_path / "log.db"
    for _ in range(5):
        run_and_kill(path, "hasty", rng.randint(200, 1500), account)
    stored, _ = stored_in(path)
    assert account.lost(stored) != []


def test_the_harness_sees_numbers_used_again(tmp_path: Path) -> None:
    """The control: without the block reserved ahead, numbers that listeners have seen come back."""
    account = Account()
    path = tmp_path / "log.db"
    for _ in range(4):
        run_and_kill(path, "hasty", 600, account)
        forget_reservation(path)
    assert account.reused != []


def forget_reservation(path: Path) -> None:
    async def forget() -> None:
        log = Log.open(path)
        last = log.committed_seq
        log._writer._give_back_reservation = lambda: None  # type: ignore[method-assign]
        await log.write([("UPDATE state SET value = ?", (last,)), ("DELETE FROM hole", ())])
        await log.close()

    asyncio.run(forget())
    path.with_name(path.name + ".reserved").unlink()
