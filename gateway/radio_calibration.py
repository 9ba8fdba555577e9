"""`fluxgate radio calibrate`: two of this gateway's modules measure each other's delays, and the result is kept.

A running radio process is asked to do it. Where none runs, the modules are opened here, as that process would.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from gateway import radio_process
from gateway.settings import Config
from radio.config import RadioConfig
from radio.control import ControlError, ask
from radio.errors import RadioError
from radio.hardware import realtime
from radio.service import Platform, Radio, linux_platform

WAIT_S: Final = 300.0  # listen-before-talk and a full ledger may take their time


class CalibrateFailed(Exception):
    """There is no result; the text says what to mend."""


def calibrate(
    config: Config, platform: Callable[[RadioConfig], Platform] = lambda config: linux_platform(config.gpio)
) -> Iterator[str]:
    """Lines of a report. Raises CalibrateFailed."""
    try:
        settings = radio_process.radio_config(config)
        result = _ask(settings.control_socket)
        if result is None:
            yield "no radio process runs: the modules are opened here"
            result = measure(Radio(_alone(settings), platform(settings), lambda _rx, _end_ns: None))
            if settings.state_dir is not None:
                _give_to_owner(settings.state_dir)
    except (radio_process.RadioFailed, RadioError, OSError) as error:
        raise CalibrateFailed(str(error)) from error
    yield from report(result)
    where = (
        f"kept in {settings.state_dir}" if result["kept"] else "not kept over a restart ([radio] state_dir)"
    )
    yield where


def measure(radio: Radio) -> dict[str, Any]:
    """With a radio of our own, once its modules have come up. Raises RadioError or OSError."""
    realtime.prefer_thread()  # the frames are sent from here
    radio.start()
    try:
        return radio.calibrate()
    finally:
        radio.stop()


def report(result: Mapping[str, Any]) -> Iterator[str]:
    """What was measured, frame by frame and as a table beside the common one."""
    yield from result["said"]
    yield f"{'':<10}{'measured':>12}{'table':>12}{'+-':>8}{'frames':>8}   (us)"
    for row in result["table"]:
        yield (
            f"{row['datr']:<10}{row['latency_us']:>12.1f}{row['default_us']:>12.1f}"
            f"{row['spread_us']:>8.1f}{row['frames']:>8}"
        )
    if result["start_measured"]:
        yield f"from the order to the air: {result['start_latency_us']:.1f} us"
    yield from (f"not believed: {reason}" for reason in result["rejected"])
    yield from (f"not measured: {reason}" for reason in result["left_out"])


def _ask(socket: Path | None) -> dict[str, Any] | None:
    """What the running process says; None where none runs. Raises ControlError."""
    if socket is None:
        return None
    try:
        return ask(socket, "calibrate", {}, WAIT_S)
    except ControlError as error:
        if isinstance(error.__cause__, FileNotFoundError | ConnectionRefusedError):
            return None
        raise


def _alone(settings: RadioConfig) -> RadioConfig:
    """The modules and the books of time on air, and nobody to ask or to forward to."""
    return replace(settings, control_socket=None, servers=())


def _give_to_owner(folder: Path) -> None:
    """What root wrote is the radio process's as well, which runs as another user."""
    if os.geteuid() != 0:
        return
    owner = folder.stat()
    for file in folder.glob("*.json"):
        os.chown(file, owner.st_uid, owner.st_gid)
