"""`fluxgate radio scan`: asks the running process, else opens the modules itself."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import radio_scan
from gateway.radio_scan import ScanFailed, chart, scan
from gateway.settings import Config, ModuleSection, RadioSection
from hw_sim import platforms
from hw_sim.air import Air
from hw_sim.board import Board
from hw_sim.hosts import LocalHost
from hw_sim.kernel import Kernel
from hw_sim.sx1276 import SX1276
from radio.boards import get_board
from radio.control import ControlServer
from radio.errors import RadioError

RESULT = {
    "module": "generic/0",
    "points": [
        {"freq_hz": 868_100_000, "rssi_dbm": -118, "peak_dbm": -70},
        {"freq_hz": 868_300_000, "rssi_dbm": -60, "peak_dbm": -20},
    ],
    "complete": True,
    "waited_ms": 1500,
    "frames_spared": 2,
}


def config(socket: Path) -> Config:
    section = RadioSection(module=(ModuleSection(board="generic"),), control_socket=str(socket), state_dir="")
    return msgspec.structs.replace(Config(), radio=section)


def serve(socket: Path, answer: Any) -> ControlServer:
    server = ControlServer(socket)
    server.handle("scan", answer)
    server.start()
    return server


def test_the_chart_shows_median_and_peak_of_every_frequency() -> None:
    quiet, loud, last = chart(RESULT)
    assert quiet == "  868.100 MHz  -118 dBm   -70 ######                        ."
    assert loud == "  868.300 MHz   -60 dBm   -20 " + "#" * 35
    assert last == "# median, . peak; by generic/0; waited 1.5 s for 2 frames"
    assert "not all" in list(chart({**RESULT, "complete": False}))[-1]


def test_a_running_process_is_asked_for_the_whole_band_of_its_region(tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = []

    def answer(args: dict[str, Any]) -> dict[str, Any]:
        asked.append(args)
        return RESULT

    server = serve(tmp_path / "radio.sock", answer)
    try:
        lines = list(scan(config(server.path), {"start_hz": None, "step_hz": 100_000, "module": None}))
    finally:
        server.close()
    assert lines == list(chart(RESULT))
    (args,) = asked
    assert args["start_hz"] < 868_000_000 < args["stop_hz"]
    assert args["step_hz"] == 100_000
    assert "module" not in args


def test_what_the_process_refuses_is_told_and_the_modules_are_left_alone(tmp_path: Path) -> None:
    def refuse(_args: dict[str, Any]) -> dict[str, Any]:
        raise RadioError("module generic/0 has other scans to do")

    server = serve(tmp_path / "radio.sock", refuse)
    try:
        with pytest.raises(ScanFailed, match="other scans"):
            list(scan(config(server.path), {}))
    finally:
        server.close()


def test_where_no_process_runs_the_modules_are_opened_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[dict[str, int]] = []

    def measure(_config: object, args: dict[str, int], _platform: object) -> dict[str, Any]:
        measured.append(args)
        return RESULT

    monkeypatch.setattr(radio_scan, "_measure", measure)
    lines = list(scan(config(tmp_path / "radio.sock"), {"start_hz": 868_000_000, "stop_hz": 869_000_000}))
    assert lines == ["no radio process runs: the modules are opened here", *chart(RESULT)]
    assert measured == [{"start_hz": 868_000_000, "stop_hz": 869_000_000}]


def test_without_modules_in_the_settings_it_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ScanFailed, match=r"\[\[radio.module\]\]"):
        list(scan(msgspec.structs.replace(Config(), radio=RadioSection()), {}))


def test_modules_opened_here_are_scanned_and_let_go(tmp_path: Path) -> None:
    kernel = Kernel(seed=1)
    air = Air(kernel)
    chip = SX1276(kernel, "module")
    air.add(chip)
    host = LocalHost(kernel, Board.wired(kernel, get_board("generic"), [chip]))
    wanted = {"start_hz": 868_000_000, "stop_hz": 868_400_000, "step_hz": 200_000}
    try:
        with ThreadPoolExecutor(1) as pool:
            platform = platforms.lockstep(host)
            asked = pool.submit(
                lambda: list(scan(config(tmp_path / "radio.sock"), wanted, lambda _config: platform))
            )
            kernel.await_clients(1)
            while not asked.done():
                kernel.run_until(kernel.now_ns + 20_000_000)
            lines = asked.result(timeout=10)
    finally:
        kernel.close()
    assert [line.split()[0] for line in lines[1:4]] == ["868.000", "868.200", "868.400"]
    assert not air.records.sent
    assert chip.spi(b"\x01\x00")[1] & 0x07 == 0  # asleep
