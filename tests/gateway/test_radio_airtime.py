"""`fluxgate radio airtime`: the books of a running radio process, in words."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gateway.radio_airtime import AirtimeFailed, airtime, describe
from gateway.settings import Config, RadioSection
from radio.concentrator import Concentrator, TxModule
from radio.control import ControlServer
from radio.gwmp import TxError, TxPacket
from radio.jit import Transmission
from radio.lora import LoRaModulation
from radio.regions import get_region

NOW = 10**12


class Owner:
    name = "m0"

    def submit(self, tx: Transmission, now_ns: int) -> TxError:
        return TxError.NONE

    def earliest_start(self, airtime_us: int, now_ns: int) -> int:
        return now_ns


def radio(region: str, **settings: bool) -> Concentrator:
    concentrator = Concentrator(get_region(region), lambda _rx, _end_ns: None, **settings)  # type: ignore[arg-type]
    concentrator.use([TxModule(Owner(), True, True, 20)])
    return concentrator


def order(freq_hz: int, sf: int = 12, size: int = 51) -> TxPacket:
    return TxPacket(None, True, freq_hz, 0, 10, LoRaModulation(sf, 125_000), True, bytes(size), True)


def test_used_budget_and_when_more_would_be_allowed() -> None:
    concentrator = radio("EU868")
    while concentrator.transmit(order(868_100_000), NOW).error is TxError.NONE:
        pass
    lines = list(describe(concentrator.status(NOW)))
    assert lines[0] == "EU868: time on air of the last hour"
    used = next(line for line in lines if "868-868.6 MHz" in line)
    assert "of 36.0 s (9" in used
    assert used.endswith("16.15 dBm EIRP; 1500 ms in 60 min; 3000 ms in 60 min")
    assert next(line for line in lines if "869.4-" in line).endswith(
        "29.15 dBm EIRP; any frame may leave now"
    )
    assert any(
        line.startswith("refused for duty cycle: 1, the last one: duty cycle 1.0% of 868") for line in lines
    )
    assert lines[-1].startswith("the books are lost at a restart: no folder is set")


def test_rules_of_other_regions_are_named() -> None:
    lines = list(describe(radio("AS923-1-JP", limit_dwell=True).status(NOW)))
    assert (
        "listens 5 ms before each downlink, free below -80 dBm: found busy 0 times, put off 0 times" in lines
    )
    assert "no downlink is longer than 400 ms" in lines
    assert any("no duty cycle" in line for line in describe(radio("US915").status(NOW)))


def test_the_running_process_is_asked(tmp_path: Path) -> None:
    socket = tmp_path / "radio.sock"
    config = msgspec.structs.replace(Config(), radio=RadioSection(control_socket=str(socket)))
    with pytest.raises(AirtimeFailed, match="is it running"):
        list(airtime(config))
    server = ControlServer(socket)
    concentrator = radio("EU868")
    server.handle("status", lambda _args: concentrator.status(NOW))
    server.start()
    try:
        assert next(airtime(config)) == "EU868: time on air of the last hour"
    finally:
        server.close()
    with pytest.raises(AirtimeFailed, match="set \\[radio\\] control_socket"):
        list(airtime(msgspec.structs.replace(Config(), radio=RadioSection(control_socket=""))))
