"""`fluxgate radio`: the configuration's radio section as the radio package wants it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from gateway import logs
from gateway.machine import gateway_eui
from gateway.radio_servers import server_config
from gateway.region import sub_bands
from gateway.settings import Config, GnssSection
from radio.boards import board_names, get_board
from radio.config import ModuleConfig, RadioConfig, Role
from radio.errors import RadioError
from radio.gnss.config import GnssConfig
from radio.service import run_radio


class RadioFailed(Exception):
    """The radio cannot run; the text says what to mend."""


def radio_config(config: Config) -> RadioConfig:
    """The radio's settings. Raises RadioFailed where they do not fit together."""
    section = config.radio
    if not section.module:
        raise RadioFailed(
            "no radio module is configured: add a [[radio.module]] section "
            "(`fluxgate radio boards` lists the boards, `fluxgate config show --defaults` the settings)"
        )
    try:
        return RadioConfig(
            modules=tuple(
                ModuleConfig(
                    module.board,
                    module.index,
                    module.freq_hz,
                    module.sf,
                    module.bw_hz,
                    Role(module.role),
                    sweep_sfs=module.sweep_sfs,
                    kind=module.kind,
                    port=module.port,
                    baud=module.baud,
                    sync_word=module.sync_word,
                )
                for module in section.module
            ),
            gateway_eui=gateway_eui(config.gateway.eui),
            region=config.gateway.region,
            server_host=section.server_host,
            server_port=section.server_port,
            servers=tuple(server_config(server) for server in section.server),
            tx_lead_us=section.tx_lead_us,
            antenna_gain_dbi=section.antenna_gain_dbi,
            cable_loss_db=section.cable_loss_db,
            sub_bands=sub_bands(config),
            limit_dwell=section.limit_dwell,
            stat_interval_s=section.stat_interval_s,
            gnss=gnss_config(config.gnss),
            gpio=section.gpio,
            control_socket=Path(section.control_socket) if section.control_socket else None,
            state_dir=Path(section.state_dir) if section.state_dir else None,
        )
    except ValueError as error:
        raise RadioFailed(f"[radio]: {error}") from error


def gnss_config(section: GnssSection) -> GnssConfig:
    """The receiver, or the place. Raises ValueError naming the setting."""
    try:
        return GnssConfig(
            port=section.port,
            baud=section.baud,
            pps_line=section.pps_line,
            privacy_digits=section.privacy_digits,
            latitude=section.latitude,
            longitude=section.longitude,
            altitude_m=section.altitude_m,
            leap_s=section.leap_seconds,
        )
    except ValueError as error:
        raise ValueError(f"[gnss]: {error}") from None


def run(config: Config) -> None:
    """Run until SIGINT or SIGTERM. Raises RadioFailed."""
    logs.set_up(config.gateway.log_level)
    stop = threading.Event()

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask_to_stop)
    try:
        run_radio(radio_config(config), stop=stop)
    except (RadioError, OSError, ImportError) as error:
        raise RadioFailed(str(error)) from error


def describe_boards() -> Iterator[str]:
    """A few lines for each board: its wiring by BCM numbers."""
    for name in board_names():
        board = get_board(name)
        yield f"{name}: {board.description}"
        yield f"  config.txt: {', '.join(board.config_lines)}"
        for index, wiring in enumerate(board.modules):
            pins = [f"SPI {wiring.spi[0]}.{wiring.spi[1]}", f"DIO0 {wiring.dio0}"]
            pins += [f"DIO1 {wiring.dio1}"] if wiring.dio1 is not None else []
            pins += [f"reset {wiring.reset}"] if wiring.reset is not None else ["no reset line"]
            yield f"  module {index}: {', '.join(pins)}"
