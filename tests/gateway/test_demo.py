"""`fluxgate demo` as a newcomer runs it: real processes, simulated hardware, every count where it happens."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.demo import broker, demo
from gateway.demo.report import report

FIELDS = {
    "frames_on_air",
    "frames_received",
    "joins",
    "uplinks",
    "senml_records",
    "mqtt_delivered",
    "upstream_delivered",
    "downlinks_sent",
    "downlinks_acked",
    "lost",
}


def check(counts: dict[str, Any]) -> None:
    assert counts.keys() >= FIELDS
    assert counts["joins"] == 8
    assert counts["uplinks"] >= 8
    assert counts["frames_received"] >= counts["uplinks"] + counts["joins"]
    assert counts["senml_records"] >= 7 * counts["uplinks"]
    assert counts["mqtt_delivered"] == counts["upstream_delivered"] == counts["messages"]
    assert counts["downlinks_sent"] >= counts["joins"]
    assert counts["lost"] == 0


def demonstration(*options: str) -> list[str]:
    """The command of one that others may run beside."""
    return [sys.executable, "-m", "gateway", "demo", "--headless", "--any-ports", *options]


def test_headless_demo_ends_by_itself_and_loses_nothing(tmp_path: Path) -> None:
    written = tmp_path / "report.json"
    command = demonstration("--seconds", "15", "--speed", "5")
    answer = subprocess.run(
        [*command, "--report", str(written)], capture_output=True, text=True, timeout=120, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert "claim code" in answer.stdout
    check(json.loads(written.read_text()))


def test_without_mosquitto_a_second_hub_is_the_upstream_broker(mocker: Any, tmp_path: Path) -> None:
    mocker.patch.object(broker, "mosquitto_path", return_value=None)
    written = tmp_path / "report.json"
    asyncio.run(demo.run(demo.Options(headless=True, seconds=12, speed=5, report=written, any_ports=True)))
    check(json.loads(written.read_text()))


def test_an_unknown_scenario_is_one_sentence() -> None:
    command = demonstration("--scenario", "nowhere.toml")
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 1
    assert "nowhere.toml" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_kept_folder_is_not_used_again_nor_is_what_it_holds_read_by_others(tmp_path: Path) -> None:
    command = demonstration("--seconds", "1", "--speed", "5")
    command += ["--keep", str(tmp_path / "kept")]
    assert subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 0
    files = [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    assert [path for path in files if path.stat().st_mode & 0o077] == []
    assert {"log.db", "registry.db", "history.db", "fluxgate.toml"} <= {path.name for path in files}
    again = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode == 1
    assert "give --keep a new folder" in again.stderr
    assert "Traceback" not in again.stderr


@pytest.mark.parametrize(
    ("uplinks", "mqtt", "upstream", "place"),
    [
        pytest.param(9, 18, 18, "between_radio_and_gateway", id="a frame the gateway never saw"),
        pytest.param(10, 17, 18, "between_log_and_mqtt", id="a message the subscriber never got"),
        pytest.param(10, 18, 16, "between_log_and_upstream", id="messages that never arrived upstream"),
    ],
)
def test_what_is_lost_is_counted_where_it_is_lost(uplinks: int, mqtt: int, upstream: int, place: str) -> None:
    counters = {
        "uplinks": uplinks,
        "joins": 2,
        "rejected": {"duplicate": 1},
        "senml_records": 70,
        "downlinks_sent": 3,
        "downlinks_acked": 0,
    }
    simulator = {"frames_on_air": 15, "frames_received": 13, "fates": {}, "virtual_s": 30.0}
    counts = report(simulator, {"counters": counters}, mqtt, upstream, 18)
    assert counts["lost"] == counts["lost_where"][place] > 0
