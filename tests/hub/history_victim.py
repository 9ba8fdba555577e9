"""A process that fills a history and compacts all the time, to be killed: see test_history_kill.py.

Usage: history_victim.py FOLDER. Appends messages that each hold one number of a counter in one of a few series,
says which are durable, and keeps the tail so small that a compaction is nearly always under way.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from hub import history as history_module
from hub import history_pieces, history_store, history_tail
from hub.history import History
from hub.log import Log
from hub.message import SENML_JSON, Message

SERIES = 17
T0 = 1_700_000_000


async def main(folder: Path) -> None:
    history_tail.TAIL_RECORDS = 150  # type: ignore[misc]
    history_pieces.CHUNK_POINTS = 40  # type: ignore[misc]
    history_store.STEP_S = 0.0  # type: ignore[misc]
    history_module.REST = 0.0  # type: ignore[misc]
    log = Log.open(folder / "log.db", commit_interval_s=0.02)
    history = History.open(folder / "history.db", log)
    number = int((folder / "next").read_text()) if (folder / "next").exists() else 0
    os.write(1, b"start\n")
    while True:
        batch = []
        for _ in range(50):
            payload = b'[{"n":"s%d","t":%d,"v":%d}]' % (number % SERIES, T0 + number * 7 % 1000, number)
            batch.append(Message("channel", "", "thing", "mqtt", SENML_JSON, payload, T0 * 10**9))
            number += 1
        await log.append(batch)
        os.write(1, b"ack %d compactions %d\n" % (number, history.counters.compactions))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
