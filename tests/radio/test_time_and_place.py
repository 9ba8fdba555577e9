"""Time and place as the radio process keeps them: what is told with and without a receiver, and what is kept."""

import logging
from pathlib import Path
from typing import Any

import pytest

from hw_sim.gnss import sentence
from radio.config import ModuleConfig, RadioConfig, Role
from radio.errors import GpioError
from radio.gnss.config import GnssConfig
from radio.hardware.clock import MonotonicClock
from radio.hardware.wallclock import kernel_error_ns, system_time
from radio.seam import Clock, Edge
from radio.state import StateFolder
from radio.time_and_place import TimeAndPlace
from radio.timebase import SECOND_NS, SystemTime

EUI = bytes(8)


class NoPort:
    """A serial port that is not there."""

    def open(self) -> None:
        raise OSError("no such device")

    def fileno(self) -> int | None:
        return None

    def read(self) -> bytes:
        return b""

    def write(self, data: bytes) -> None: ...
    def send_break(self) -> None: ...
    def close(self) -> None: ...


class Pulse:
    """A line of some backend."""

    poll_ns: int | None = None

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self.closed = False

    def fileno(self) -> int | None:
        return None

    def read_edges(self) -> list[Edge]:
        return []

    def get(self, name: str) -> bool:
        return False

    def set(self, name: str, level: bool) -> None: ...

    def close(self) -> None:
        self.closed = True


def made(config: GnssConfig | None, **platform: Any) -> TimeAndPlace:
    return TimeAndPlace(
        config, lambda _name: MonotonicClock(), serial=lambda _port, _baud: NoPort(), **platform
    )


def test_without_anything_time_is_the_platform_s_and_place_is_nowhere() -> None:
    place = made(None, utc_ns=lambda mono_ns: mono_ns + 5)
    assert place.utc_ns(10) == 15
    assert place.position() is None
    status = place.status(0)
    assert status["gnss"] is None
    assert status["position"] is None
    assert status["time"]["quality"] == "unset"


def test_a_place_that_is_set_is_told_as_roughly_as_asked() -> None:
    config = GnssConfig(latitude=52.523456, longitude=13.412345, altitude_m=34, privacy_digits=2)
    assert made(config).position() == (52.52, 13.41, 34)


def test_the_system_s_clock_is_used_with_its_bound() -> None:
    place = made(None, system=lambda: SystemTime(0, 1_780_000_000 * SECOND_NS, 5_000_000))
    assert place.utc_ns(7) == 1_780_000_000 * SECOND_NS + 7
    assert place.status(7)["time"]["quality"] == "ntp"


def test_a_pulse_that_cannot_be_had_is_said_and_done_without(caplog: pytest.LogCaptureFixture) -> None:
    def nothing(_line: int, _clock: Clock) -> Pulse:
        raise GpioError("no GPIO chip")

    config = GnssConfig(port="/dev/ttyAMA0", pps_line=18)
    place = made(config, pulse=nothing)
    assert place.owner is not None
    assert place.status(0)["gnss"]["pps"] is None
    assert "GPIO 18" in caplog.text
    polling = Pulse("polling")
    with caplog.at_level(logging.WARNING):
        place = made(config, pulse=lambda _line, _clock: polling)
    assert polling.closed
    assert "no time" in caplog.text
    assert made(config, pulse=lambda _line, _clock: Pulse("gpiod")).status(0)["gnss"]["pps"] == "gpiod"


def test_the_machine_s_two_clocks_are_read_together() -> None:
    first, second = system_time(), system_time()
    assert 0 <= (second.utc_ns - first.utc_ns) < 60 * SECOND_NS
    assert second.mono_ns >= first.mono_ns
    error_ns = kernel_error_ns()
    assert error_ns is None or error_ns >= 0


def test_what_a_receiver_told_is_known_after_a_restart(tmp_path: Path) -> None:
    config = GnssConfig(port="/dev/ttyAMA0", privacy_digits=2)
    state = StateFolder(tmp_path)
    place = made(config, state=state)
    assert place.owner is not None
    assert place.position() is None
    for i in range(6):
        body = f"GNRMC,12000{i}.00,A,5231.2,N,01324.6,E,,,010326,,,A"
        place.owner.receiver.on_edge(i * SECOND_NS)
        place.owner.receiver.on_bytes(sentence(body), i * SECOND_NS + SECOND_NS // 5)
    place.time.leap = place.time.leap.confirmed(19, 1_900_000_000)
    place.keep(6 * SECOND_NS)
    again = made(config, state=StateFolder(tmp_path))
    assert again.position() == (52.52, 13.41, None)
    assert again.time.leap.at_utc(1_900_000_000) == 19
    assert again.time.leap.source == "receiver, before the restart"
    state.write("gnss", {"latitude": "north"})
    assert made(config, state=StateFolder(tmp_path)).position() is None


# --- the settings of modules behind serial ports ---------------------------------------------------------


def rn2483(**settings: Any) -> ModuleConfig:
    return ModuleConfig(**{"kind": "rn2483", "port": "/dev/ttyUSB0", "sf": 9, **settings})


def test_an_rn2483_is_a_module_by_its_port() -> None:
    module = rn2483(role="rx")
    assert module.name == "rn2483:ttyUSB0"
    assert module.role is Role.RX
    config = RadioConfig(modules=(module, ModuleConfig()), gateway_eui=EUI)
    assert [each.kind for each in config.modules] == ["rn2483", "sx127x"]


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"kind": "sx1301"}, "kind 'sx1301'"),
        ({"port": ""}, "serial port"),
        ({"baud": 1}, "baud 1"),
        ({"freq_hz": 915_000_000}, "863-870 MHz"),
        ({"bw_hz": 62_500}, "125 to 500 kHz"),
        ({"sweep_sfs": (7, 8)}, "sweep_sfs is for an SX127x"),
    ],
)
def test_what_an_rn2483_cannot_do_is_said(settings: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        rn2483(**settings)


def test_one_port_is_for_one_device() -> None:
    with pytest.raises(ValueError, match="port is configured twice"):
        RadioConfig(modules=(rn2483(), rn2483(freq_hz=868_300_000)), gateway_eui=EUI)
    with pytest.raises(ValueError, match="port is configured twice"):
        RadioConfig(modules=(rn2483(),), gateway_eui=EUI, gnss=GnssConfig(port="/dev/ttyUSB0"))
