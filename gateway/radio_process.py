"""`fluxgate radio`: the configuration's radio section as the radio package wants it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from gateway import logs
from gateway.machine import gateway_eui
from gateway.settings import Config
from radio.boards import board_names, get_board
from radio.config import ModuleConfig, RadioConfig, Role
from radio.errors import RadioError
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
                    module.board, module.index, module.freq_hz, module.sf, module.bw_hz, Role(module.role)
                )
                for module in section.module
            ),
            gateway_eui=gateway_eui(config.gateway.eui),
            region=config.gateway.region,
            server_host=section.server_host,
            server_port=section.server_port,
            tx_lead_us=section.tx_lead_us,
            antenna_gain_dbi=section.antenna_gain_dbi,
            stat_interval_s=section.stat_interval_s,
            gpio=section.gpio,
            control_socket=Path(section.control_socket) if section.control_socket else None,
            state_dir=Path(section.state_dir) if section.state_dir else None,
        )
    except ValueError as error:
        raise RadioFailed(f"[radio]: {error}") from error


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
        for index, wiring in enumerate(board.modules):
            pins = [f"SPI {wiring.spi[0]}.{wiring.spi[1]}", f"DIO0 {wiring.dio0}"]
            pins += [f"DIO1 {wiring.dio1}"] if wiring.dio1 is not None else []
            pins += [f"reset {wiring.reset}"] if wiring.reset is not None else ["no reset line"]
            yield f"  module {index}: {', '.join(pins)}"
