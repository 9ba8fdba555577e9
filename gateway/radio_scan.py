"""`fluxgate radio scan`: how strong signals are across the band, as a chart of text.

A running radio process is asked, and measures in the pauses of its modules. Where none runs, the modules are
opened here, as that process would, for as long as it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from gateway import radio_process
from gateway.settings import Config
from radio.config import RadioConfig
from radio.control import ControlError, ask
from radio.errors import RadioError
from radio.service import Platform, Radio, linux_platform
from radio.sx127x.scan import LIMIT_S, scan_arguments

WAIT_S: Final = LIMIT_S + 20.0
FLOOR_DBM: Final = -130  # where the bars begin; below the noise of the narrowest channel
DB_A_MARK: Final = 2
MARKS: Final = 40


class ScanFailed(Exception):
    """There is no result; the text says what to mend."""


def scan(
    config: Config,
    wanted: Mapping[str, int | None],
    platform: Callable[[RadioConfig], Platform] | None = None,
) -> Iterator[str]:
    """Lines of a report on `wanted` (arguments of `Radio.scan`; without a range, the region's). Raises ScanFailed."""
    try:
        radio = radio_process.radio_config(config)
        bands = radio.region_data.sub_bands
        whole = {"start_hz": bands[0].min_hz, "stop_hz": bands[-1].max_hz}
        args = scan_arguments(whole | {name: value for name, value in wanted.items() if value is not None})
        result = _ask(config, args)
        if result is None:
            yield "no radio process runs: the modules are opened here"
            result = _measure(radio, args, platform)
    except (radio_process.RadioFailed, RadioError, OSError, ValueError) as error:
        raise ScanFailed(str(error)) from error
    yield from chart(result)


def _ask(config: Config, args: Mapping[str, int]) -> dict[str, Any] | None:
    """What the running process says; None where none runs. Raises ControlError."""
    if not config.radio.control_socket:
        return None
    try:
        return ask(Path(config.radio.control_socket), "scan", args, WAIT_S)
    except ControlError as error:
        if isinstance(error.__cause__, FileNotFoundError | ConnectionRefusedError):
            return None
        raise


def _measure(
    config: RadioConfig, args: dict[str, int], platform: Callable[[RadioConfig], Platform] | None
) -> dict[str, Any]:
    """The same with modules of our own; nothing is ever sent. Raises RadioError or OSError."""
    config = replace(config, state_dir=None, control_socket=None)
    made = linux_platform(config.gpio) if platform is None else platform(config)
    radio = Radio(config, made, lambda _rx, _end_ns: None)
    radio.start()
    try:
        return radio.scan(**args)
    finally:
        radio.stop()


def chart(result: Mapping[str, Any]) -> Iterator[str]:
    """A line for each frequency: the median as a bar, the strongest moment as a point behind it."""
    for point in result["points"]:
        median, peak = round(point["rssi_dbm"]), round(point["peak_dbm"])
        bar = ("#" * _marks(median)).ljust(MARKS)
        at = _marks(peak)
        if _marks(median) <= at < MARKS:
            bar = f"{bar[:at]}.{bar[at + 1 :]}"
        yield f"{point['freq_hz'] / 1e6:9.3f} MHz {median:5d} dBm {peak:5d} {bar}".rstrip()
    spared, waited_ms = result["frames_spared"], result["waited_ms"]
    yield f"# median, . peak; by {result['module']}; waited {waited_ms / 1000:.1f} s for {spared} frames"
    if not result.get("complete", True):
        yield "not all frequencies were reached in time: frames come first; ask for fewer, or again"


def _marks(dbm: int) -> int:
    return max(0, min(MARKS, (dbm - FLOOR_DBM) // DB_A_MARK))
