"""Whole gateways: several modules in lock-step virtual time without UDP, and the process with UDP in real time."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from radio.boards import Board, ModuleWiring
from radio.config import ModuleConfig, RadioConfig, Role
from radio.errors import RadioError
from radio.gwmp import PullData, PullResp, PushData, RxPacket, TxAck, TxError, TxPacket, decode, encode
from radio.hardware.clock import MonotonicClock
from radio.jit import MS
from radio.lora import LoRaModulation
from radio.seam import Edge, Lines
from radio.server_config import ServerConfig
from radio.service import Platform, Radio, run_radio
from radio.sx127x.registers import Settings

if TYPE_CHECKING:
    from tests.radio.conftest import Carrier, RegisterFake

SECOND = 1000 * MS
EUI = bytes.fromhex("b827ebfffe000001")
UP = bytes.fromhex("40f17dbe4900020001954378762b11ff0d")
BOARD = "fluxgate-sim-4"


def config(*modules: ModuleConfig, **settings: object) -> RadioConfig:
    return RadioConfig(modules=modules, gateway_eui=EUI, tx_lead_us=0, **settings)  # type: ignore[arg-type]


def answer(rx: RxPacket, delay_us: int = 1_000_000) -> TxPacket:
    """The RX1 downlink a network server would order."""
    return TxPacket(
        tmst=(rx.tmst + delay_us) % 2**32,
        imme=False,
        freq_hz=rx.freq_hz,
        rfch=0,
        powe_dbm=14,
        modulation=rx.modulation,
        ipol=True,
        data=b"down" + rx.data[:8],
        ncrc=True,
    )


def closed_loop(carrier: Carrier, config: RadioConfig) -> tuple[Radio, list[RxPacket]]:
    """A radio whose frames are answered at once, from inside the callback, as an in-process server does."""
    heard: list[RxPacket] = []

    def on_frame(rx: RxPacket, end_ns: int) -> None:
        heard.append(rx)
        assert radio.transmit(answer(rx), end_ns).error is TxError.NONE

    radio = Radio(config, carrier.platform, on_frame)
    return radio, heard


def test_the_sending_module_leaves_the_receivers_alone(carrier: Carrier) -> None:
    channels = (868_100_000, 868_300_000, 868_500_000)
    modules = [ModuleConfig(BOARD, i, freq_hz=f, role=Role.RX) for i, f in enumerate(channels)]
    radio, heard = closed_loop(carrier, config(*modules, ModuleConfig(BOARD, 3, role=Role.TX)))
    carrier.start(radio)
    devices = [carrier.device(f"device{i}") for i in range(3)]
    for i in range(12):
        devices[i % 3].sends(
            SECOND + i * 400 * MS, Settings(channels[i % 3], LoRaModulation(7, 125_000)), UP + bytes((i,))
        )
    carrier.run_until(10 * SECOND)
    assert [rx.data[-1] for rx in heard] == list(range(12))
    assert [rx.chan for rx in heard] == [i % 3 for i in range(12)]
    status = radio.status(10 * SECOND)
    assert [module["sent"] for module in status["modules"]] == [0, 0, 0, 12]
    assert [module["deaf_ns"] for module in status["modules"][:3]] == [0, 0, 0]
    assert status["counters"]["tx_sent"] == 12
    carrier.stop(radio)


class QuietLines:
    """Lines on which nothing happens."""

    backend = "sim"
    poll_ns: int | None = None

    def __init__(self) -> None:
        self.closed = False

    def fileno(self) -> int | None:
        return None

    def read_edges(self) -> list[Edge]:
        return []

    def get(self, name: str) -> bool:
        return False

    def set(self, name: str, level: bool) -> None:
        assert name == "reset"

    def close(self) -> None:
        self.closed = True


def real_time(bus: RegisterFake, lines: Lines) -> Platform:
    return Platform(
        bus=lambda _board, _wiring: bus,
        lines=lambda _board, _wiring, _clock: lines,
        clock=lambda _name: MonotonicClock(),
        utc_ns=lambda t_ns: t_ns,
    )


def test_the_process_talks_to_its_server_until_it_is_stopped(bus: RegisterFake) -> None:
    lines = QuietLines()
    stop = threading.Event()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(20)
        cfg = config(ModuleConfig(BOARD), server_port=server.getsockname()[1], stat_interval_s=1.0)
        thread = threading.Thread(target=run_radio, args=(cfg, stop, real_time(bus, lines)))
        thread.start()
        try:
            data, down = server.recvfrom(4096)
            pull = decode(data)
            assert isinstance(pull, PullData)
            assert pull.eui == EUI
            late = TxPacket(0, False, 923_300_000, 0, 14, LoRaModulation(7, 125_000), True, b"x", True)
            server.sendto(encode(PullResp(3, late)), down)
            wanted = {"answer", "statistics"}
            while wanted:  # in either order, and more of them on a slow machine
                seen = decode(server.recv(4096))
                if isinstance(seen, TxAck):
                    assert (seen.token, seen.error) == (3, TxError.TX_FREQ)
                    wanted.discard("answer")
                elif isinstance(seen, PushData) and seen.stat is not None:
                    wanted.discard("statistics")
        finally:
            stop.set()
            thread.join()
    assert lines.closed


def test_a_further_server_is_spoken_to_and_may_not_send_unless_it_is_let(bus: RegisterFake) -> None:
    stop = threading.Event()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as local,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        for server in (local, other):
            server.bind(("127.0.0.1", 0))
            server.settimeout(20)
        further = ServerConfig("other", host="127.0.0.1", port=other.getsockname()[1])
        cfg = config(ModuleConfig(BOARD), server_port=local.getsockname()[1], servers=(further,))
        thread = threading.Thread(target=run_radio, args=(cfg, stop, real_time(bus, QuietLines())))
        thread.start()
        try:
            assert isinstance(decode(local.recv(4096)), PullData)
            data, down = other.recvfrom(4096)
            assert isinstance(decode(data), PullData)
            wanted = TxPacket(None, True, 869_525_000, 0, 14, LoRaModulation(7, 125_000), True, b"x", True)
            other.sendto(encode(PullResp(4, wanted)), down)
            answers = iter(lambda: decode(other.recv(4096)), None)
            ack = next(answer for answer in answers if isinstance(answer, TxAck))
        finally:
            stop.set()
            thread.join()
    assert ack == TxAck(4, EUI, TxError.TX_FREQ)


def test_the_first_failing_thread_ends_the_process(bus: RegisterFake) -> None:
    class BrokenLines(QuietLines):
        def read_edges(self) -> list[Edge]:
            raise OSError("the GPIO chip is gone")

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        cfg = config(ModuleConfig("uputronics-dual"), server_port=server.getsockname()[1])
        with pytest.raises(OSError, match="GPIO chip is gone"):
            run_radio(cfg, threading.Event(), real_time(bus, BrokenLines()))


def test_missing_libraries_are_named(bus: RegisterFake) -> None:
    def no_spidev(_board: Board, _wiring: ModuleWiring) -> RegisterFake:
        raise ImportError("No module named 'spidev'")

    platform = Platform(no_spidev, lambda *_: QuietLines(), lambda _name: MonotonicClock())
    with pytest.raises(RadioError, match=r"spidev.*fluxgate"):
        Radio(config(ModuleConfig()), platform, lambda _rx, _t: None).start()


def test_importing_the_package_touches_no_hardware_library() -> None:
    code = "import sys, radio.service; print([m for m in ('spidev', 'gpiod', 'RPi', 'serial') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
