"""Drivers of other people, unmodified from PyPI, exchange frames with ours over the simulated air.

LoRaRF runs on the fake `spidev` and `RPi.GPIO`, Adafruit's rfm9x on the fake Blinka modules, each on a
machine of its own. Both are MIT-licensed. Their clocks are the simulation's.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from hw_sim import fakes, platforms
from hw_sim.air import Air
from hw_sim.board import Board
from hw_sim.fakes.host_time import HostTime
from hw_sim.hosts import LocalHost
from hw_sim.kernel import Kernel
from hw_sim.links import AirSettings
from hw_sim.sx1276 import SX1276
from radio.boards import get_board
from radio.config import ModuleConfig, RadioConfig
from radio.gwmp import RxPacket, TxError, TxPacket
from radio.service import Radio

MS, S = 1_000_000, 1_000_000_000
FREQ_HZ = 868_100_000
BOARD = "fluxgate-sim-4"
DOWN = b"\xff\xff\x07\x00down"  # with the four bytes RadioHead puts in front
ANSWER_AFTER_US = 60_000


class Meeting:
    """Our radio on one machine, a foreign driver on another, an air without luck in between."""

    def __init__(self) -> None:
        self.kernel = Kernel(seed=1)
        air = Air(self.kernel, AirSettings(fading_db=0.0, decode_width_db=0.01))
        ours, theirs = SX1276(self.kernel, "ours"), SX1276(self.kernel, "theirs")
        air.add(ours)
        air.add(theirs, x_m=250.0)
        self.air = air
        self.heard: list[RxPacket] = []
        host = LocalHost(self.kernel, Board.wired(self.kernel, get_board(BOARD), [ours]))
        config = RadioConfig(
            modules=(ModuleConfig(BOARD, 0, FREQ_HZ),), gateway_eui=bytes(8), tx_lead_us=0, sync_word=0x12
        )
        self.radio = Radio(config, platforms.lockstep(host), self._answer)
        machine = Board(self.kernel)
        machine.connect(theirs, (0, 0), {0: 25}, reset=22)
        self.host = LocalHost(self.kernel, machine)
        fakes.install(self.host)

    def _answer(self, rx: RxPacket, end_ns: int) -> None:
        self.heard.append(rx)
        order = TxPacket(
            tmst=(rx.tmst + ANSWER_AFTER_US) % 2**32,
            imme=False,
            freq_hz=rx.freq_hz,
            rfch=0,
            powe_dbm=14,
            modulation=rx.modulation,
            ipol=False,
            data=DOWN,
            ncrc=False,
        )
        assert self.radio.transmit(order, end_ns).error is TxError.NONE

    def run(self, script: Callable[[], None], for_ns: int = S) -> None:
        """The foreign program in its thread, and our radio, for some virtual time."""

        def foreign() -> None:
            self.host.delay(100 * MS)  # ours is up by then
            script()

        self.radio.start()
        self.kernel.spawn(foreign, "foreign")
        self.kernel.await_clients(2)
        self.kernel.run_until(for_ns)
        self.radio.ask_to_stop()
        self.kernel.run_until(for_ns + 100 * MS)
        self.radio.stop()
        assert self.radio.failure is None


@pytest.fixture
def meeting() -> Iterator[Meeting]:
    made = Meeting()
    yield made
    made.kernel.close()
    fakes.uninstall()


def fresh(monkeypatch: pytest.MonkeyPatch, name: str, *timed: str, host: LocalHost) -> ModuleType:
    """Import a driver anew, on the fakes, with the simulation's time in the modules that ask for it."""
    root = name.partition(".")[0]
    for known in [m for m in sys.modules if m == root or m.startswith(root + ".")]:
        monkeypatch.delitem(sys.modules, known)
    module = importlib.import_module(name)
    for part in timed:
        monkeypatch.setattr(sys.modules[part], "time", HostTime(host))
    return module


def test_adafruit_rfm9x_and_our_driver_hear_each_other(
    meeting: Meeting, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = fresh(monkeypatch, "adafruit_rfm9x", "adafruit_rfm9x", host=meeting.host)
    import board
    import busio
    import digitalio

    got: list[bytes] = []

    def script() -> None:
        radio = driver.RFM9x(
            busio.SPI(board.SCK, MOSI=board.MOSI, MISO=board.MISO),
            digitalio.DigitalInOut(board.CE0),
            digitalio.DigitalInOut(board.D22),
            FREQ_HZ / 1e6,
        )
        for text in (b"hello", b"x" * 251):
            assert radio.send(text)
            got.append(bytes(radio.receive(timeout=0.3) or b""))

    meeting.run(script, 2 * S)
    assert [rx.data for rx in meeting.heard] == [bytes((255, 255, 0, 0)) + t for t in (b"hello", b"x" * 251)]
    assert all(rx.stat == 1 for rx in meeting.heard)
    assert got == [DOWN[4:], DOWN[4:]]


@pytest.mark.parametrize("irq", [pytest.param(-1, id="polling"), pytest.param(25, id="by callback")])
def test_lorarf_and_our_driver_hear_each_other(
    meeting: Meeting, monkeypatch: pytest.MonkeyPatch, irq: int
) -> None:
    lorarf = fresh(monkeypatch, "LoRaRF", "LoRaRF.SX127x", host=meeting.host)
    got: list[bytes] = []

    def script() -> None:
        radio = lorarf.SX127x()
        assert radio.begin(bus=0, cs=0, reset=22, irq=irq)
        radio.setFrequency(FREQ_HZ)
        radio.setLoRaModulation(sf=7, bw=125_000, cr=5)
        radio.setLoRaPacket(radio.HEADER_EXPLICIT, preambleLength=8, payloadLength=32, crcType=True)
        radio.setSyncWord(0x12)
        for text in (b"hello", b"once more"):
            radio.beginPacket()
            radio.put(text)
            assert radio.endPacket()
            assert radio.wait(1)
            radio.request(radio.RX_CONTINUOUS)
            assert radio.wait(1)
            got.append(radio.get(radio.available()))
            radio.status()
            radio.standby()

    meeting.run(script)
    assert [rx.data for rx in meeting.heard] == [b"hello", b"once more"]
    assert all(rx.stat == 1 for rx in meeting.heard)
    assert got == [DOWN, DOWN]
