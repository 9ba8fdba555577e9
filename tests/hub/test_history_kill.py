"""kill -9 in the middle of compactions: no record of the log is missing from the history, none is there twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import msgspec

from hub.history import History
from hub.history_model import HistoryRecord, Query
from hub.log import Log

VICTIM = Path(__file__).with_name("history_victim.py")
ROOT = Path(__file__).resolve().parents[2]


def run_and_kill(folder: Path, lines: int) -> tuple[int, int]:
    """Start a victim, read `lines` lines, kill it. Returns the last number acknowledged, and compactions."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}"}
    victim = subprocess.Popen(
        [sys.executable, str(VICTIM), str(folder)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert victim.stdout
    said = [victim.stdout.readline() for _ in range(lines)]
    victim.send_signal(signal.SIGKILL)
    said += victim.stdout.read().splitlines(keepends=True)
    victim.stdout.close()
    assert victim.wait() == -signal.SIGKILL
    acknowledged = compactions = 0
    for line in said:
        match line.split() if line.endswith("\n") else []:
            case ["ack", number, "compactions", count]:
                acknowledged, compactions = int(number), int(count)
    return acknowledged, compactions


async def found(folder: Path) -> tuple[Counter[float], Counter[float], int]:
    """Numbers in the history and in the log, and series whose compaction was cut off."""
    log = Log.open(folder / "log.db")
    history = History.open(folder / "history.db", log)
    cut_off = len(history._tail.skip)
    while history.behind:  # noqa: ASYNC110  (a question waits 5 s for it, which a busy machine may need more of)
        await asyncio.sleep(0.01)
    have: Counter[float] = Counter()
    async for part in history.export(Query("channel")):
        for record in part:
            assert isinstance(record, HistoryRecord)
            assert record.value is not None
            assert record.time == 1_700_000_000 + record.value * 7 % 1000
            have[record.value] += 1
    page = await history.query(Query("channel"))
    assert page.total == have.total() == history.records
    assert history._store._conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    logged: Counter[float] = Counter(
        msgspec.json.decode(message.payload)[0]["v"] for message in log.read(0, None, 1 << 30)
    )
    await history.close()
    await log.close()
    return have, logged, cut_off


def test_kills_while_compacting_lose_no_record_and_double_none(tmp_path: Path) -> None:
    rng = random.Random(71)
    compactions = cut_off = 0
    acknowledged = 0
    for _ in range(8):
        last, some = run_and_kill(tmp_path, rng.randint(4, 100))
        acknowledged = max(acknowledged, last)
        compactions += some
        have, logged, cut = asyncio.run(found(tmp_path))
        cut_off += bool(cut)
        assert have == logged
        assert set(map(float, range(acknowledged))) <= set(have)
        assert max(have.values()) == 1
        (tmp_path / "next").write_text(str(int(max(have)) + 1))
    assert compactions > 2
    assert cut_off > 0  # some kills fell between two steps of one compaction
