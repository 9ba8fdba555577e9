"""Three drivers on the same frames: ours, LoRaRF and Adafruit's rfm9x, the latter two unmodified from PyPI.

In virtual time on the register-level chip: which frames each of them hands on, and with how many transfers.
On a chip that always has a frame ready and answers at once: what one frame costs each of them in processor time.
"""

from __future__ import annotations

import importlib
import queue
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from hw_sim import fakes, platforms
from hw_sim.air import Air
from hw_sim.board import Board
from hw_sim.edges import PinEdge, Trigger, Watch
from hw_sim.fakes.host_time import HostTime
from hw_sim.hosts import SPI_HZ, LocalHost
from hw_sim.kernel import Kernel
from hw_sim.links import AirSettings
from hw_sim.sx1276 import SX1276
from radio.boards import get_board
from radio.config import ModuleConfig, RadioConfig, Role
from radio.hardware.spi import SpidevBus
from radio.lora import LoRaModulation, airtime_us
from radio.seam import Edge
from radio.service import Radio
from radio.sx127x.chip import Chip
from radio.sx127x.modem import Modem, Received
from radio.sx127x.registers import Mode, Power, Settings

MS, S = 1_000_000, 1_000_000_000
FREQ_HZ = 868_100_000
SF7 = LoRaModulation(7, 125_000)
BOARD = "fluxgate-sim-4"
HEADER = b"\xff\xff\x00\x00"  # of RadioHead, which rfm9x insists on
PAYLOAD = 24
DRIVERS = ("Fluxgate", "LoRaRF", "rfm9x")


@dataclass(frozen=True)
class Heard:
    """What one driver made of one run."""

    sent: int
    handed_on: int
    transfers: int


def side_by_side(driver: str, frames: int, work_ms: int, seed: int = 1) -> Heard:
    """`frames` close behind one another; whoever takes a frame is busy with it for `work_ms`."""
    kernel = Kernel(seed=seed)
    air = Air(kernel, AirSettings(fading_db=0.0, decode_width_db=0.01))
    chip, device = SX1276(kernel, "gateway"), SX1276(kernel, "device")
    air.add(chip)
    air.add(device, x_m=250.0)
    end_ns = _send(kernel, device, frames, seed)
    handed_on: list[bytes] = []
    start = {"Fluxgate": _ours, "LoRaRF": _lorarf, "rfm9x": _rfm9x}[driver]
    finish = start(kernel, chip, handed_on, work_ms)
    kernel.run_until(200 * MS)
    before = chip.transfers
    kernel.run_until(end_ns + S)
    taken = chip.transfers - before
    finish()
    kernel.close()
    fakes.uninstall()
    return Heard(frames, len(set(handed_on)), taken)


def _send(kernel: Kernel, device: SX1276, frames: int, seed: int) -> int:
    """Queue the traffic; when it ends."""
    rng = random.Random(seed)
    node = Chip(Direct(device))
    t_ns = 400 * MS

    def send(n: int) -> None:
        node.write(0x01, 0x80)
        node.write(0x01, 0x81)
        payload = HEADER + n.to_bytes(4, "big") + bytes(PAYLOAD - 8)
        node.configure_transmit(Settings(FREQ_HZ, SF7, sync_word=0x12), Power(14), payload)
        node.command(Mode.TX)

    for n in range(frames):
        kernel.at(t_ns, partial(send, n))
        t_ns += airtime_us(SF7, PAYLOAD) * 1000 + rng.randrange(1, 60) * MS
    return t_ns


class Direct:
    """SPI without time, for a node that lives in events."""

    def __init__(self, chip: SX1276) -> None:
        self._chip = chip

    def xfer(self, data: bytes) -> bytes:
        return self._chip.spi(data)


def _ours(kernel: Kernel, chip: SX1276, handed_on: list[bytes], work_ms: int) -> Callable[[], None]:
    """The radio's module thread, and another that works with the frames, as the forwarder's does."""
    host = LocalHost(kernel, Board.wired(kernel, get_board(BOARD), [chip]))
    frames: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    config = RadioConfig(
        modules=(ModuleConfig(BOARD, 0, FREQ_HZ, role=Role.RX),),
        gateway_eui=bytes(8),
        sync_word=0x12,
    )
    radio = Radio(config, platforms.lockstep(host), lambda rx, _end_ns: frames.put(rx.data))

    def work() -> None:
        while True:
            host.delay(MS)
            while not frames.empty():
                handed_on.append(frames.get())
                host.delay(work_ms * MS)

    radio.start()
    kernel.spawn(work, "work")
    kernel.await_clients(2)

    def finish() -> None:
        while not frames.empty():  # received in time, and still to be worked with
            kernel.run_until(kernel.now_ns + 100 * MS)
        radio.ask_to_stop()
        kernel.run_until(kernel.now_ns + 100 * MS)
        radio.stop()

    return finish


def _foreign(kernel: Kernel, chip: SX1276, name: str, timed: str) -> tuple[Any, LocalHost]:
    """A driver imported anew, on a machine of its own in virtual time."""
    machine = Board(kernel)
    machine.connect(chip, (0, 0), {0: 25}, reset=22)
    host = LocalHost(kernel, machine)
    fakes.install(host)
    return _import(name, timed, host), host


def _import(name: str, timed: str, host: Any) -> Any:
    for known in [m for m in sys.modules if m == name or m.startswith(name + ".")]:
        del sys.modules[known]
    module = importlib.import_module(name)
    sys.modules[timed].time = HostTime(host)  # type: ignore[attr-defined]
    return module


def _lorarf(kernel: Kernel, chip: SX1276, handed_on: list[bytes], work_ms: int) -> Callable[[], None]:
    lorarf, host = _foreign(kernel, chip, "LoRaRF", "LoRaRF.SX127x")

    def program() -> None:
        radio = set_up_lorarf(lorarf)
        radio.request(radio.RX_CONTINUOUS)
        while True:
            radio.wait(1)
            frame = radio.get(radio.available()) if radio.available() else b""
            if radio.status() == radio.STATUS_RX_DONE:
                handed_on.append(frame)
                host.delay(work_ms * MS)

    kernel.spawn(program, "LoRaRF")
    return lambda: None


def set_up_lorarf(lorarf: Any) -> Any:
    radio = lorarf.SX127x()
    assert radio.begin(bus=0, cs=0, reset=22)
    radio.setFrequency(FREQ_HZ)
    radio.setLoRaModulation(sf=7, bw=125_000, cr=5)
    radio.setLoRaPacket(radio.HEADER_EXPLICIT, 8, 32, crcType=True)
    radio.setSyncWord(0x12)
    return radio


def _rfm9x(kernel: Kernel, chip: SX1276, handed_on: list[bytes], work_ms: int) -> Callable[[], None]:
    rfm9x, host = _foreign(kernel, chip, "adafruit_rfm9x", "adafruit_rfm9x")

    def program() -> None:
        radio = set_up_rfm9x(rfm9x)
        while True:
            frame = radio.receive(timeout=0.5, with_header=True)
            if frame is not None:
                handed_on.append(bytes(frame))
                host.delay(work_ms * MS)

    kernel.spawn(program, "rfm9x")
    return lambda: None


def set_up_rfm9x(rfm9x: Any) -> Any:
    import board
    import busio
    import digitalio

    spi = busio.SPI(board.SCK, MOSI=board.MOSI, MISO=board.MISO)
    pins = (digitalio.DigitalInOut(board.CE0), digitalio.DigitalInOut(board.D22))
    return rfm9x.RFM9x(spi, *pins, FREQ_HZ / 1e6)


# --- processor time of one frame ----------------------------------------------------------------------


class ReadyHost:
    """A machine whose chip has a frame ready as soon as the last one was taken, and answers in no time."""

    def __init__(self) -> None:
        self.transfers = 0
        self.registers = bytearray(128)
        self.registers[0x42] = 0x12
        self.frame = HEADER + bytes(range(PAYLOAD - len(HEADER)))
        self._count = 0

    def ready(self) -> None:
        """The next frame has come in."""
        regs = self.registers
        self._count = (self._count + 1) & 0xFFFF
        regs[0x10] = regs[0x25] + 1 & 0xFF
        regs[0x25] = regs[0x10] + PAYLOAD - 1 & 0xFF
        regs[0x12] |= 0x50
        regs[0x13] = PAYLOAD
        regs[0x14:0x18] = self._count.to_bytes(2, "big") * 2
        regs[0x19], regs[0x1A], regs[0x1C] = 36, 60, 0x40

    def has_spi(self, _bus: int, _device: int) -> bool:
        return True

    def xfer(self, _bus: int, _device: int, data: bytes, _speed_hz: int = SPI_HZ) -> bytes:
        self.transfers += 1
        regs, address, count = self.registers, data[0] & 0x7F, len(data) - 1
        if data[0] & 0x80:
            old = bytes(regs[address : address + count])
            if address == 0x12:
                regs[0x12] &= ~data[1]
            elif address == 0x01:  # SLEEP takes the LoRa bit over
                regs[1] = data[1] if not data[1] & 7 else data[1] & 0x7F | regs[1] & 0x80
            elif address:
                regs[address : address + count] = data[1:]
            else:
                regs[0x0D] = regs[0x0D] + count & 0xFF
            return b"\0" + old
        if address:
            return b"\0" + bytes(regs[address : address + count])
        pointer = regs[0x0D]
        regs[0x0D] = pointer + count & 0xFF
        first = pointer - regs[0x10] & 0xFF
        return b"\0" + self.frame[first : first + count].ljust(count, b"\0")

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def delay(self, _ns: int) -> None: ...
    def read_pin(self, _line: int) -> bool:
        return False

    def write_pin(self, _line: int, _level: bool) -> None: ...
    def set_up_pin(self, _line: int, _level: bool) -> None: ...
    def release_pin(self, _line: int) -> None: ...
    def watch(self, triggers: Mapping[int, Trigger]) -> Watch:
        return Watch(triggers)

    def unwatch(self, _watch: Watch) -> None: ...
    def take(self, _watch: Watch, _limit: int = 256) -> list[PinEdge]:
        return []

    def watch_of(self, _fd: int) -> Watch | None:
        return None

    def wait(self, _watches: Sequence[Watch], _until_ns: int | None) -> bool:
        return False

    def waker(self) -> Callable[[], None]:
        return lambda: None

    def nudge(self) -> None: ...
    def poke(self, _watch: Watch) -> None: ...
    def spawn(self, fn: Callable[[], object], name: str) -> Any:
        raise AssertionError(f"{name} wants a thread for {fn}")


def cpu_per_frame(driver: str, frames: int) -> tuple[float, float]:
    """(processor seconds, transfers) for one frame that is ready, the fake modules' share included."""
    host = ReadyHost()
    fakes.install(host)
    try:
        take = {"Fluxgate": _take_ours, "LoRaRF": _take_lorarf, "rfm9x": _take_rfm9x}[driver](host)
        for _ in range(frames // 10 + 1):
            host.ready()
            assert take() == host.frame
        before, began = host.transfers, time.process_time()
        for _ in range(frames):
            host.ready()
            take()
        return (time.process_time() - began) / frames, (host.transfers - before) / frames
    finally:
        fakes.uninstall()


def _take_ours(host: ReadyHost) -> Callable[[], bytes]:
    settings = Settings(FREQ_HZ, SF7, sync_word=0x12)
    modem = Modem(Chip(SpidevBus(0, 0, SPI_HZ)), settings, 0x12)
    modem.start(0)
    seqno = 0

    def take() -> bytes:
        nonlocal seqno
        seqno += 1
        (event,) = modem.on_edge(Edge("dio0", True, seqno * S, seqno), seqno * S)
        assert isinstance(event, Received)
        return event.packet.payload

    return take


def _take_lorarf(host: ReadyHost) -> Callable[[], bytes]:
    radio = set_up_lorarf(_import("LoRaRF", "LoRaRF.SX127x", host))
    radio.request(radio.RX_CONTINUOUS)

    def take() -> bytes:
        radio.wait(1)
        frame = radio.get(radio.available())
        assert radio.status() == radio.STATUS_RX_DONE
        radio.packetRssi(), radio.snr()
        return frame  # type: ignore[no-any-return]

    return take


def _take_rfm9x(host: ReadyHost) -> Callable[[], bytes]:
    radio = set_up_rfm9x(_import("adafruit_rfm9x", "adafruit_rfm9x", host))
    return lambda: bytes(radio.receive(timeout=0.5, with_header=True))
