"""The radio process as the gateway shows it: asked over its socket, in the API and in the metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.radio_link import RadioLink
from gateway.settings import Config, ModuleSection, RadioSection
from radio.control import ControlError, ControlServer

STATUS: dict[str, Any] = {
    "modules": [
        {
            "name": "dragino-hat/0",
            "freq_hz": 868_100_000,
            "received": 7,
            "faults_by_kind": {"lost_edge": 2},
            "start_error_us": {
                "unit": "us",
                "bounds": [10, 100],
                "counts": [5, 1, 1],
                "count": 7,
                "sum": 310,
                "min": 1,
                "max": 200,
            },
        }
    ],
    "counters": {"tx_accepted": 3},
    "duty_cycle": [{"min_hz": 1, "max_hz": 2, "used_us": 5, "budget_us": None}],
    "servers": [{"name": "local", "connected": True, "forwarded": 7, "host": "127.0.0.1"}],
}


class Clock:
    now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def link_to(answers: list[dict[str, Any] | ControlError], clock: Clock) -> RadioLink:
    def ask(path: Path, op: str, args: Mapping[str, Any] | None, timeout_s: float) -> dict[str, Any]:
        answer = answers.pop(0)
        if isinstance(answer, ControlError):
            raise answer
        return answer

    return RadioLink(Path("unused"), clock, ask)


def test_the_state_of_the_radio_is_shown_while_it_is_fresh() -> None:
    clock = Clock()
    link = link_to([STATUS], clock)
    asyncio.run(link.look())
    assert link.status() == {"reachable": True, "problem": "", **STATUS}
    clock.now_ns = 10_000_000_000
    assert link.status() == {"reachable": False, "problem": ""}


def test_the_time_of_a_receiver_is_passed_on_where_its_clock_is_ours() -> None:
    clock, heard = Clock(), list[tuple[int, int]]()
    clock.now_ns = 900_000_000_000
    gnss = {"quality": "gnss", "utc_ms": 1_795_000_000_123}
    answers: list[dict[str, Any]] = [
        {"mono_ns": 899_000_000_000, "time": gnss},
        {"mono_ns": 899_000_000_000, "time": {**gnss, "quality": "ntp"}},
        {"mono_ns": 5_000_000_000, "time": gnss},  # of a simulated radio, whose clock began at 0
        {"mono_ns": 899_000_000_000, "time": {**gnss, "utc_ms": None}},
        {"time": gnss},
        {},
    ]
    link = RadioLink(
        Path("unused"),
        clock,
        lambda *_: answers.pop(0),
        told=lambda mono_ns, utc_ns: heard.append((mono_ns, utc_ns)),
    )
    while answers:
        asyncio.run(link.look())
    assert heard == [(899_000_000_000, 1_795_000_000_123_000_000)]


def test_a_radio_that_does_not_answer_is_said_and_forgotten_once_stale() -> None:
    clock = Clock()
    link = link_to([STATUS, ControlError("the radio process is not running")], clock)
    asyncio.run(link.look())
    asyncio.run(link.look())
    assert link.status()["reachable"] is False
    assert link.status()["problem"] == "the radio process is not running"
    assert link.status()["modules"] == STATUS["modules"]
    clock.now_ns = 10_000_000_000
    assert "modules" not in link.status()


def test_without_a_radio_on_this_machine_nothing_is_asked() -> None:
    link = RadioLink(None, Clock())
    asyncio.run(link.look())
    assert "no radio process is configured" in link.status()["problem"]
    with pytest.raises(ControlError, match="no radio process is configured"):
        asyncio.run(link.scan({}))


def test_metrics_tell_counters_and_cumulative_buckets_by_module() -> None:
    link = link_to([STATUS], Clock())
    asyncio.run(link.look())
    flat = link.metrics()
    assert flat["fluxgate_radio_reachable"] == 1
    assert flat['fluxgate_radio_received_total{module="dragino-hat/0"}'] == 7
    assert flat['fluxgate_radio_faults_total{module="dragino-hat/0",kind="lost_edge"}'] == 2
    bucket = 'fluxgate_radio_start_error_us_bucket{module="dragino-hat/0",le="%s"}'
    assert [flat[bucket % bound] for bound in ("10", "100", "+Inf")] == [5, 6, 7]
    assert flat['fluxgate_radio_start_error_us_sum{module="dragino-hat/0"}'] == 310
    assert flat['fluxgate_radio_events_total{kind="tx_accepted"}'] == 3
    assert flat['fluxgate_radio_airtime_used_us{band="1-2"}'] == 5
    assert flat['fluxgate_radio_server_forwarded{server="local"}'] == 7
    assert not any("freq_hz" in name for name in flat)


def test_metrics_of_a_radio_that_is_gone_say_only_that() -> None:
    assert RadioLink(None, Clock()).metrics() == {"fluxgate_radio_reachable": 0}


def test_the_api_shows_the_radio_and_scans_for_administrators_only(config: Config, site: Any) -> None:
    socket = Path(config.gateway.runtime_dir) / "radio.sock"
    scanned = {
        "module": "dragino-hat/0",
        "points": [{"freq_hz": 868_100_000, "rssi_dbm": -117.0, "peak_dbm": -98.0}],
        "waited_ms": 12.5,
        "frames_spared": 1,
    }
    asked: list[dict[str, Any]] = []

    def scan(args: dict[str, Any]) -> dict[str, Any]:
        asked.append(args)
        return scanned

    radio = RadioSection(control_socket=str(socket), module=(ModuleSection(),))
    body = {"start_hz": 868_100_000, "stop_hz": 868_100_000}

    async def main() -> None:
        async with site(msgspec.structs.replace(config, radio=radio)) as s:
            for method, path in (("GET", "/gateway/radio"), ("POST", "/gateway/radio/scan")):
                assert (await s.api.request(method, path)).status_code in (401, 403)
            await s.claim()
            answer = await s.api.post("/gateway/radio/scan", json=body)
            assert (answer.status_code, "not running" in answer.json()["detail"]) == (503, True)
            server = ControlServer(socket)
            server.handle("status", lambda args: STATUS)
            server.handle("scan", scan)
            server.start()
            try:
                answer = await s.api.post("/gateway/radio/scan", json=body)
                assert (answer.status_code, answer.json()) == (200, scanned)
                assert asked == [{**body, "step_hz": 100_000, "dwell_ms": 5, "module": None}]
                for wrong in ({"stop_hz": 868_000_000}, {"step_hz": 0}, {"dwell_ms": 0}, {"module": 8}):
                    answer = await s.api.post("/gateway/radio/scan", json=body | wrong)
                    assert answer.status_code == 400, wrong
                await s.gateway.radio.look()
                shown = (await s.api.get("/gateway/radio")).json()
                assert shown["reachable"]
                assert shown["modules"] == STATUS["modules"]
            finally:
                server.close()

    asyncio.run(main())


def test_a_scan_goes_to_the_radio_process_and_comes_back(tmp_path: Path) -> None:
    server = ControlServer(tmp_path / "radio.sock")
    server.handle("scan", lambda args: {"module": "dragino-hat/0", "asked": args})
    server.start()
    try:
        found = asyncio.run(RadioLink(server.path, Clock()).scan({"start_hz": 868_000_000}))
    finally:
        server.close()
    assert found == {"module": "dragino-hat/0", "asked": {"start_hz": 868_000_000}}
