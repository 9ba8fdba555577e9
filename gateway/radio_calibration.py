"""`fluxgate radio calibrate`: two of this gateway's modules measure each other's delays, and the result is kept."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from gateway.radio_process import radio_config
from gateway.radio_tools import Target, ToolFailed, targets
from gateway.settings import Config
from radio.calibrate import Calibrator, Station
from radio.calibration import NAME, Calibration, to_state
from radio.config import RadioConfig
from radio.errors import BusyError, RadioError
from radio.hardware import realtime
from radio.hardware.clock import MonotonicClock, boot_id
from radio.hardware.gpio import open_lines
from radio.hardware.spi import SpidevBus
from radio.hardware.wallclock import system_time
from radio.ledger import Airtime, Moment
from radio.lora import LoRaModulation, rx_done_latency_ns
from radio.state import StateFolder


def calibrate(config: Config, say: Callable[[str], None]) -> Calibration:
    """Measure with the first two modules of the settings and keep the result. Raises ToolFailed, RadioFailed."""
    settings = radio_config(config)
    chosen = targets(config, None, None)[:2]
    if len(chosen) < 2:
        raise ToolFailed("calibrating takes two SX127x modules, and the settings have one ([[radio.module]])")
    folder = StateFolder(settings.state_dir)
    books = Airtime(settings.region_data.sub_bands, folder, lambda: Moment(time.monotonic_ns(), boot_id()))
    realtime.prefer_thread()
    try:
        with ExitStack() as hardware:
            first, second = (_station(target, settings.gpio, hardware) for target in chosen)
            work = Calibrator(
                (first, second),
                MonotonicClock(),
                settings.region_data,
                books,
                antenna_gain_dbi=settings.antenna_gain_dbi - settings.cable_loss_db,
                say=say,
            )
            books.start()
            hardware.callback(books.stop)
            found = work.run([module.modulation for module in settings.modules], _utc_s())
    except BusyError as error:
        raise ToolFailed(str(error)) from error
    except ImportError as error:
        raise ToolFailed(f"{error}: install the Raspberry Pi extra, fluxgate[pi]") from error
    except (RadioError, OSError) as error:
        raise ToolFailed(str(error)) from error
    for line in (*report(found), *(f"not measured: {reason}" for reason in work.left_out)):
        say(line)
    say(_keep(folder, found, settings))
    return found


def report(found: Calibration) -> list[str]:
    """The table as lines of text, beside the common one."""
    lines = [f"{'':<10}{'measured':>12}{'table':>12}{'+-':>8}{'frames':>8}   (us)"]
    for (sf, bw_hz), each in sorted(found.measured.items()):
        common_ns = rx_done_latency_ns(sf, bw_hz)
        lines.append(
            f"{LoRaModulation(sf, bw_hz).datr:<10}{each.latency_ns / 1000:>12.1f}{common_ns / 1000:>12.1f}"
            f"{each.spread_ns / 1000:>8.1f}{each.frames:>8}"
        )
    lines += [f"not believed: {reason}" for reason in found.rejected]
    if found.start_measured:
        lines.append(f"from the order to the air: {found.start_latency_ns / 1000:.1f} us")
    return lines


def _station(target: Target, gpio: str, hardware: ExitStack) -> Station:
    bus = SpidevBus(*target.wiring.spi, target.board.spi_hz)
    hardware.callback(bus.close)
    lines = open_lines(gpio, target.board, target.wiring, time.monotonic_ns)
    hardware.callback(lines.close)
    return Station(target.name, target.board, target.wiring, bus, lines)


def _utc_s() -> int | None:
    """Wall time, where somebody keeps it right."""
    now = system_time()
    return None if now.error_ns is None else now.utc_ns // 1_000_000_000


def _keep(folder: StateFolder, found: Calibration, settings: RadioConfig) -> str:
    if not folder.write(NAME, to_state(found)):
        return f"not kept over a restart: {folder.fault}"
    assert settings.state_dir is not None
    _give_to_owner(settings.state_dir)
    return f"kept in {settings.state_dir}; the radio process uses it from its next start on"


def _give_to_owner(folder: Path) -> None:
    """What root wrote is the radio process's as well, which runs as another user."""
    if os.geteuid() != 0:
        return
    owner = folder.stat()
    for file in folder.glob("*.json"):
        os.chown(file, owner.st_uid, owner.st_gid)
