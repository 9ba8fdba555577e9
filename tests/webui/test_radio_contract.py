"""What the pages read of the radio's status is what the radio tells: each field, by the name it has there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import msgspec
import pytest

from hw_sim.air import Air
from hw_sim.board import Board
from hw_sim.hosts import LocalHost, SimClock
from hw_sim.kernel import Kernel
from hw_sim.platforms import lockstep
from hw_sim.sx1276 import SX1276
from radio.boards import get_board
from radio.concentrator import TxResult
from radio.config import ModuleConfig, RadioConfig
from radio.forwarder import Forwarder
from radio.gnss.owner import GnssOwner
from radio.gnss.receiver import Receiver
from radio.gwmp import TxError, TxPacket
from radio.regions import get_region
from radio.rn2483 import Rn2483
from radio.rn2483_owner import Rn2483Owner
from radio.serial_line import SerialPort
from radio.servers import Downlinks, Fanout, Outlet
from radio.service import Radio
from radio.station.client import Client
from radio.station.credentials import Credentials
from radio.station.server import StationServer
from radio.timebase import TimeBase
from radio.udp import UdpForwarder
from webui import hardware

BOARD = "fluxgate-sim-4"
EUI = bytes.fromhex("b827ebfffe000001")
NO_PORT = cast("SerialPort", None)  # of threads that never run


@pytest.fixture
def status() -> Iterator[dict[str, Any]]:
    """Of a radio with all there is: chips on simulated hardware, and the rest as it is before its threads run."""
    kernel = Kernel(seed=1)
    air, chips = Air(kernel), [SX1276(kernel, f"module{i}") for i in range(4)]
    for chip in chips:
        air.add(chip, group="mast")
    host = LocalHost(kernel, Board.wired(kernel, get_board(BOARD), chips))
    modules = (ModuleConfig(BOARD, 0, sweep_sfs=(7, 8), role="rxtx"), ModuleConfig(BOARD, 1))  # type: ignore[arg-type]
    radio = Radio(RadioConfig(modules=modules, gateway_eui=EUI), lockstep(host), lambda _rx, _end_ns: None)
    radio.start()
    kernel.await_clients(2)
    kernel.run_until(kernel.now_ns + 500_000_000)
    # Too strong for the sub-band: something to be refused.
    order = TxPacket(
        tmst=None, imme=True, freq_hz=868_100_000, rfch=0, powe_dbm=27, modulation=modules[1].modulation,
        ipol=True, data=b"down", ncrc=True,
    )  # fmt: skip
    assert radio.transmit(order, kernel.now_ns).error is not TxError.NONE
    found = radio.status(kernel.now_ns)
    radio.ask_to_stop()
    kernel.run_until(kernel.now_ns + 200_000_000)
    radio.stop()
    clock = SimClock(host)
    serial = Rn2483Owner("serial", Rn2483(None), NO_PORT, clock, lambda _owner, _event: None)
    gnss = GnssOwner(Receiver(TimeBase(radio.place.time.leap)), NO_PORT, clock, None)
    found["modules"].append({"name": "serial", "role": "rx", "freq_hz": 1, "datr": ""} | serial.status(0))
    found |= {"gnss": gnss.status(0), "position": {"latitude": 1.5, "longitude": 2, "altitude_m": None}}
    found["servers"] = servers()
    yield msgspec.json.decode(msgspec.json.encode(found))
    kernel.close()


def servers() -> list[dict[str, Any]]:
    def transmit(_order: TxPacket, _now_ns: int) -> TxResult:
        return TxResult(TxError.NONE)

    class Still:
        def now_ns(self) -> int:
            return 0

    clock: Any = Still()
    udp = UdpForwarder(Forwarder(EUI, transmit, name="local"), "127.0.0.1", 1700, clock)
    client = Client(get_region("EU868"), transmit, name="cloud")
    station = StationServer(client, EUI, "ws://127.0.0.1:1", Credentials(), clock)
    found = Fanout(
        [Outlet(each, lambda _rx: "") for each in (udp, station)], Downlinks(transmit), clock.now_ns
    )
    shown = found.status()
    udp.close()
    station.close()
    return shown


def missing(kind: type[msgspec.Struct], *told: dict[str, Any]) -> set[str]:
    """Fields of ours that none of these has."""
    return {field.encode_name for field in msgspec.structs.fields(kind)} - {
        key for each in told for key in each
    }


def test_every_field_that_is_shown_is_told_by_the_radio(status: dict[str, Any]) -> None:
    shown = msgspec.json.decode(msgspec.json.encode(status), type=hardware.Hardware)
    assert [module.kind for module in shown.modules] == ["sx127x", "sx127x", "rn2483"]
    assert shown.regulation.refused == {"power": 1}

    assert missing(hardware.Hardware, status) == {"reachable", "problem"}  # the gateway's own
    modules = status["modules"]
    assert missing(hardware.RadioModule, *modules) == set()
    assert missing(hardware.Histogram, modules[0]["slack_us"]) == set()
    assert missing(hardware.Span, modules[0]["recovery_ms"]) == set()
    assert missing(hardware.Sweep, modules[0]["sweep"]) == set()
    assert missing(hardware.SweepCounts, modules[0]["sweep"]["per_sf"]["7"]) == set()
    assert missing(hardware.Capabilities, modules[2]["capabilities"]) == set()
    assert missing(hardware.Realtime, status["realtime"]) == set()
    assert missing(hardware.SubBand, status["duty_cycle"][0]) == set()
    assert missing(hardware.Regulation, status["regulation"]) == set()
    assert missing(hardware.LastRefusal, status["regulation"]["last_refusals"][0]) == set()
    assert missing(hardware.Ledger, status["regulation"]["ledger"]) == set()
    assert missing(hardware.Server, *status["servers"]) == set()
    assert missing(hardware.Calibration, status["calibration"]) == set()
    assert missing(hardware.Receiver, status["gnss"]) == set()
    assert missing(hardware.Position, status["position"]) == set()
    assert missing(hardware.Time, status["time"]) == set()
