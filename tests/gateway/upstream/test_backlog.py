"""The backlog of an outage, in processes of their own: `tests/bench/bench_relay.py` with a small one."""

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parents[2] / "bench" / "bench_relay.py"
BACKLOG = 100_000
MEMORY_MB = 64


def test_a_backlog_leaves_in_order_beside_live_traffic_and_memory_does_not_grow_with_it() -> None:
    command = [sys.executable, str(BENCH), "--json", "--backlog", str(BACKLOG)]
    run = subprocess.run(command, check=True, capture_output=True, text=True, timeout=280)
    found = json.loads(run.stdout)
    assert found["queued_at_start"] == BACKLOG
    assert found["first_copies"] == found["delivered"] == found["sent"] > BACKLOG  # live messages, too
    assert (found["again"], found["out_of_order"]) == (0, 0)
    assert found["live_commits"] > 0
    assert found["rss_before_mb"] + found["rss_growth_mb"] < 2 * MEMORY_MB
    assert found["rss_growth_mb"] < MEMORY_MB / 4
