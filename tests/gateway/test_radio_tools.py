"""The commands that look at modules by hand, from the settings to the lines a technician reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway import config as configuration
from gateway import radio_calibration, radio_tools
from gateway.cli import app
from gateway.radio_process import radio_config
from gateway.settings import Config
from hw_sim import fakes
from hw_sim.air import Air
from hw_sim.board import Board as SimBoard
from hw_sim.hosts import LocalHost, SimClock
from hw_sim.kernel import Kernel
from hw_sim.platforms import lockstep
from hw_sim.sx1276 import SX1276
from radio.boards import get_board
from radio.calibrate import borrowed
from radio.calibration import Calibration
from radio.control import ControlServer
from radio.errors import RadioError
from radio.gwmp import TxError, TxPacket
from radio.hardware import realtime
from radio.hardware.machine import LinuxMachine
from radio.hardware.spi import SpidevBus
from radio.lora import LoRaModulation
from radio.service import Radio

ODD_LATENCY_NS = 777_000


@pytest.fixture
def host() -> Iterator[LocalHost]:
    """A machine with four modules and fake libraries."""
    kernel = Kernel(seed=1)
    air = Air(kernel)
    board = get_board("fluxgate-sim-4")
    chips = [SX1276(kernel, f"module{i}") for i in range(4)]
    for chip in chips:
        air.add(chip, group="mast")
    host = LocalHost(kernel, SimBoard.wired(kernel, board, chips))
    fakes.install(host)
    yield host
    fakes.uninstall()
    kernel.close()


@pytest.fixture(autouse=True)
def ordinary_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests share their process: nobody locks its memory."""
    monkeypatch.setattr(realtime, "prefer_process", lambda: False)
    monkeypatch.setattr(realtime, "prefer_thread", lambda: False)


@pytest.fixture
def virtual_time(host: LocalHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(radio_tools, "LinuxMachine", lambda gpio: LinuxMachine(gpio, SimClock(host)))


def settings(tmp_path: Path, modules: int = 2) -> tuple[Config, Path]:
    lines = ["[radio]", f"state_dir = '{tmp_path / 'state'}'", "control_socket = ''", "server_port = 1"]
    for index in range(modules):
        lines += ["[[radio.module]]", "board = 'fluxgate-sim-4'", f"index = {index}"]
        lines += [f"freq_hz = {868_100_000 + 200_000 * index}"]
    path = tmp_path / "fluxgate.toml"
    path.write_text("\n".join(lines))
    return configuration.load(path), path


def test_probe_reports_every_module_and_ends_well(tmp_path: Path, virtual_time: None) -> None:
    _, path = settings(tmp_path)
    result = CliRunner().invoke(app, ["radio", "probe", "--config", str(path)])
    assert result.exit_code == 0, result.output
    assert "module fluxgate-sim-4/0 on /dev/spidev0.0" in result.output
    assert "module fluxgate-sim-4/1 on /dev/spidev0.1" in result.output
    assert "fault" not in result.output


def test_probe_of_a_board_given_by_hand_ends_with_1_where_there_is_a_fault(
    host: LocalHost, virtual_time: None
) -> None:
    host.board.chip(1, 0).faults.spi_echo = True
    result = CliRunner().invoke(app, ["radio", "probe", "--board", "fluxgate-sim-4", "--index", "2"])
    assert result.exit_code == 1
    assert "fault   MISO shows exactly what is sent" in result.output
    assert "to mend: " in result.output


def test_probe_says_that_the_radio_process_is_running(virtual_time: None) -> None:
    held = SpidevBus(0, 0, 1_000_000)
    result = CliRunner().invoke(app, ["radio", "probe", "--board", "fluxgate-sim-4", "--index", "0"])
    held.close()
    assert result.exit_code == 1
    assert "another program holds /dev/spidev0.0" in result.output


def test_bench_without_hardware_measures_the_machine_and_says_what_it_lacks() -> None:
    lines = list(radio_tools.bench(Config(), "generic", None, 10))
    assert lines[0].startswith("SPI and edges are not measured: ")
    assert any("wake-up late by" in line for line in lines)
    assert lines[-1].startswith("this machine is ")


def test_bench_says_that_the_radio_process_is_running(host: LocalHost) -> None:
    held = SpidevBus(0, 0, 1_000_000)
    with pytest.raises(radio_tools.ToolFailed, match="systemctl stop fluxgate-radio"):
        list(radio_tools.bench(Config(), "fluxgate-sim-4", 0, 10))
    held.close()


@pytest.mark.parametrize(
    ("board", "index", "problem"),
    [(None, None, "give --board"), ("nonesuch", None, "nonesuch"), ("generic", 3, "no index 3")],
)
def test_a_module_that_is_not_there_is_one_sentence(
    board: str | None, index: int | None, problem: str
) -> None:
    with pytest.raises(radio_tools.ToolFailed, match=problem):
        radio_tools.targets(Config(), board, index)


def started(host: LocalHost, radio: Radio, modules: int = 2) -> None:
    radio.start()
    host.kernel.await_clients(modules)
    host.kernel.run_until(host.kernel.now_ns + 100_000_000)


def stopped(host: LocalHost, radio: Radio) -> None:
    radio.ask_to_stop()
    host.kernel.run_until(host.kernel.now_ns + 200_000_000)
    radio.stop()
    assert radio.failure is None


@pytest.fixture
def odd_chips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chips that nobody's table is of."""
    monkeypatch.setattr("hw_sim.modem.rx_done_latency_ns", lambda _sf, _bw_hz: ODD_LATENCY_NS)


def test_calibrating_takes_two_modules(tmp_path: Path, host: LocalHost) -> None:
    config, _ = settings(tmp_path, modules=1)
    radio = Radio(radio_config(config), lockstep(host), lambda _rx, _end_ns: None)
    started(host, radio, modules=1)
    with pytest.raises(RadioError, match="two SX127x modules"):
        radio.calibrate()
    stopped(host, radio)


def test_a_running_radio_calibrates_uses_and_keeps_what_it_found(
    tmp_path: Path, host: LocalHost, odd_chips: None
) -> None:
    config, _ = settings(tmp_path)
    radio = Radio(radio_config(config), lockstep(host), lambda _rx, _end_ns: None)
    started(host, radio)
    assert radio.status(host.kernel.now_ns)["calibration"]["source"] == "table"
    result = radio.calibrate()
    assert result["kept"]
    assert {row["datr"] for row in result["table"]} >= {"SF7BW125", "SF12BW125"}
    host.kernel.run_until(host.kernel.now_ns + 500_000_000)
    status = radio.status(host.kernel.now_ns)
    stopped(host, radio)
    assert status["calibration"]["source"] == "measured"
    assert status["calibration"]["modules"] == ["fluxgate-sim-4/0", "fluxgate-sim-4/1"]
    assert [(module["state"], module["fault"]) for module in status["modules"]] == [
        ("listening", ""),
        ("resting", ""),  # of two, one sends
    ]
    assert [module["faults"] for module in status["modules"]] == [0, 0]

    again = Radio(radio_config(config), lockstep(host), lambda _rx, _end_ns: None)
    assert abs(again.calibration.rx_done_latency_ns(12, 125_000) - ODD_LATENCY_NS) < 5_000


def test_a_module_that_is_lent_takes_no_downlinks_and_is_lent_once(tmp_path: Path, host: LocalHost) -> None:
    config, _ = settings(tmp_path)
    radio = Radio(radio_config(config), lockstep(host), lambda _rx, _end_ns: None)
    started(host, radio)
    order = TxPacket(0, True, 868_100_000, 0, 14, LoRaModulation(7, 125_000), True, b"x", True)
    _, owner = radio._stations[0]
    _, other = radio._stations[1]
    with borrowed([owner, other], SimClock(host)):
        assert radio.transmit(order, host.kernel.now_ns).error is TxError.COLLISION_PACKET
        with pytest.raises(RadioError, match="being calibrated already"):
            owner.lend()
        assert owner.fault == "being calibrated"
    host.kernel.run_until(host.kernel.now_ns + 500_000_000)
    assert radio.transmit(order, host.kernel.now_ns).error is TxError.NONE
    stopped(host, radio)


def test_calibrate_prints_the_table_beside_the_common_one(
    tmp_path: Path, host: LocalHost, odd_chips: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(radio: Radio) -> dict[str, Any]:
        started(host, radio)
        result = radio.calibrate()
        stopped(host, radio)
        return result

    monkeypatch.setattr(radio_calibration, "measure", measure)
    config, _ = settings(tmp_path)
    lines = list(radio_calibration.calibrate(config, lambda _config: lockstep(host)))
    assert lines[0] == "no radio process runs: the modules are opened here"
    (row,) = [line.split() for line in lines if line.startswith("SF12BW125") and "frames" not in line]
    assert abs(float(row[1]) - ODD_LATENCY_NS / 1000) < 5
    assert row[2] == "31189.0"
    assert any(line.startswith("from the order to the air: 4") or "39." in line for line in lines)
    assert lines[-1] == f"kept in {tmp_path / 'state'}"


def test_calibrate_asks_a_running_process_first(tmp_path: Path) -> None:
    socket = tmp_path / "radio.sock"
    server = ControlServer(socket)
    answer = Calibration().status() | {"kept": False, "said": ["SF7"], "left_out": ["SF12BW125: dwell time"]}
    server.handle("calibrate", lambda _args: answer)
    server.start()
    _, path = settings(tmp_path)
    path.write_text(path.read_text().replace("control_socket = ''", f"control_socket = '{socket}'"))
    lines = list(radio_calibration.calibrate(configuration.load(path)))
    server.close()
    assert lines[0] == "SF7"
    assert "not measured: SF12BW125: dwell time" in lines
    assert lines[-1].startswith("not kept over a restart")


def test_calibrate_without_modules_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "fluxgate.toml"
    path.write_text("")
    result = CliRunner().invoke(app, ["radio", "calibrate", "--config", str(path)])
    assert result.exit_code == 1
