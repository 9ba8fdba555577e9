"""Fakes and fixtures for the radio tests."""

import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import pytest

from hw_sim.air import Air
from hw_sim.board import Board as SimBoard
from hw_sim.hosts import LocalHost, SimBus, SimClock, SimLines
from hw_sim.kernel import Kernel
from hw_sim.links import AirSettings
from hw_sim.records import FrameRecord
from hw_sim.sx1276 import SX1276
from radio.boards import get_board
from radio.hardware.gpio import pins_of
from radio.hardware.realtime import Quiet
from radio.owner import ModuleOwner
from radio.seam import Edge
from radio.service import Platform, Radio
from radio.sx127x.chip import Chip
from radio.sx127x.modem import Event
from radio.sx127x.registers import SYNC_WORD_LORAWAN, Mode, Power, Settings
from radio.sx127x.roaming import RoamingModem

T = TypeVar("T")

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # torture.*, whose short versions are tests here


@dataclass
class RegisterFake:
    """A bus with 128 registers and a FIFO behind it, and the few reactions of the chip that `Chip` needs.

    It stands in where a test wants to see the transfers or to make a register misbehave; the register-level
    model in `hw_sim` judges everything else.
    """

    registers: bytearray = field(default_factory=lambda: bytearray(128))
    fifo: bytearray = field(default_factory=lambda: bytearray(256))
    transfers: list[bytes] = field(default_factory=list)
    stuck: dict[int, int] = field(default_factory=dict)  # registers that read this, whatever is written
    before: Callable[[bytes], None] | None = None  # called with each transfer
    flip: tuple[int, int] | None = None  # byte and bits of every transfer that arrive inverted
    flip_once: tuple[int, int] | None = None  # of the next one
    echo: bool = False

    def __post_init__(self) -> None:
        self.registers[0x01] = 0x09
        self.registers[0x42] = 0x12

    def xfer(self, data: bytes) -> bytes:
        self.transfers.append(data)
        if self.before is not None:
            self.before(data)
        if self.echo:
            return data
        flip, self.flip_once = self.flip_once or self.flip, None
        if flip is not None:
            data = data[: flip[0]] + bytes((data[flip[0]] ^ flip[1],)) + data[flip[0] + 1 :]
        address = data[0] & 0x7F
        out = bytearray(b"\0")
        for i, value in enumerate(data[1:]):
            register = address if address == 0 else address + i
            out.append(self._write(register, value) if data[0] & 0x80 else self._read(register))
        return bytes(out)

    @property
    def writes(self) -> list[bytes]:
        """The write transfers, with the plain register address first."""
        return [bytes((t[0] & 0x7F,)) + t[1:] for t in self.transfers if t[0] & 0x80]

    def _read(self, register: int) -> int:
        if register == 0:
            value = self.fifo[self.registers[0x0D]]
            self.registers[0x0D] = (self.registers[0x0D] + 1) & 0xFF
            return value
        if register == 0x2C:
            self.registers[register] = (self.registers[register] + 101) & 0xFF  # noise
        return self.stuck.get(register, self.registers[register])

    def _write(self, register: int, value: int) -> int:
        old = self.registers[register]
        if register == 0:
            old = self.fifo[self.registers[0x0D]]
            self.fifo[self.registers[0x0D]] = value
            self.registers[0x0D] = (self.registers[0x0D] + 1) & 0xFF
        elif register == 0x12:
            self.registers[register] &= ~value
        elif register == 0x01:
            lora = value & 0x80 if value & 0x07 == 0 else old & 0x80
            self.registers[register] = lora | value & 0x7F
        elif register == 0x3B and not self.registers[0x01] & 0x80:
            self.registers[register] = value & ~0x40  # image calibration starts and is over at once
        else:
            self.registers[register] = value
        return old


@pytest.fixture
def bus() -> RegisterFake:
    return RegisterFake()


@pytest.fixture
def chip(bus: RegisterFake) -> Chip:
    """A chip that has been started; the transfers of its start are forgotten."""
    chip = Chip(bus)
    chip.start(868_000_000)
    bus.transfers.clear()
    return chip


class CallbackLines(SimLines):
    """Lines whose edges are stamped by a callback, as those of the RPi.GPIO API."""

    def read_edges(self) -> list[Edge]:
        return [replace(edge, coarse=True) for edge in super().read_edges()]


@dataclass
class Device:
    """A radio that does as it is told, at the time it is told, as events of the kernel."""

    kernel: Kernel
    radio: SX1276

    def sends(self, t_ns: int, settings: Settings, payload: bytes) -> None:
        """Start a frame at a time; its first symbol follows 175 us later."""

        def send() -> None:
            chip = self._awake()
            chip.configure_transmit(settings, Power(14), payload)
            chip.command(Mode.TX)

        self.kernel.at(t_ns, send)

    def listens(self, t_ns: int, settings: Settings) -> None:
        """Receive from a time on."""

        def listen() -> None:
            chip = self._awake()
            chip.configure_receive(settings)
            chip.command(Mode.RXCONT)

        self.kernel.at(t_ns, listen)

    def _awake(self) -> Chip:
        chip = Chip(_Direct(self.radio))
        chip.write(0x01, 0x80)
        chip.write(0x01, 0x81)
        return chip


@dataclass
class Bench:
    """A kernel, an air without luck, one gateway module with its owner, and a device that sends and hears."""

    kernel: Kernel
    air: Air
    chip: SX1276
    lines: SimLines
    owner: ModuleOwner
    device: SX1276
    events: list[Event]
    stop: threading.Event

    def at(self, t_ns: int, act: Callable[[], object]) -> None:
        """Do something at a virtual time, as an event."""

        def event() -> None:
            act()

        self.kernel.at(t_ns, event)

    def device_sends(self, t_ns: int, settings: Settings, payload: bytes) -> None:
        """Have the device start a frame at a time."""
        Device(self.kernel, self.device).sends(t_ns, settings, payload)

    def device_listens(self, t_ns: int, settings: Settings) -> None:
        """Have the device listen from a time on."""
        Device(self.kernel, self.device).listens(t_ns, settings)

    def run_until(self, t_ns: int) -> None:
        self.kernel.run_until(t_ns)

    @property
    def state(self) -> str:
        """What the modem is doing."""
        return self.owner.modem.state.name

    @property
    def frames(self) -> list[FrameRecord]:
        """Every frame that was on the air."""
        return list(self.air.records.frames)

    def of(self, kind: type[T]) -> list[T]:
        """The owner's events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]


@dataclass
class _Direct:
    """SPI without time, for what happens inside an event."""

    chip: SX1276

    def xfer(self, data: bytes) -> bytes:
        return self.chip.spi(data)


CALM = AirSettings(fading_db=0.0, decode_width_db=0.01)


@pytest.fixture
def bench_for() -> Iterator[Callable[..., Bench]]:
    """A maker of benches; what it made is taken down afterwards."""
    made: list[Bench] = []

    def make(
        receive: Settings | None,
        *,
        lines: str = "kernel",
        sweep_sfs: tuple[int, ...] = (),
        without: tuple[str, ...] = (),
        quiet: Quiet | None = None,
    ) -> Bench:
        kernel = Kernel(seed=1)
        air = Air(kernel, CALM)
        chip, device = SX1276(kernel, "gateway"), SX1276(kernel, "device")
        air.add(chip)
        air.add(device, x_m=300)
        board = get_board("generic")
        host = LocalHost(kernel, SimBoard.wired(kernel, board, [chip]))
        make_lines = SimLines if lines == "kernel" else CallbackLines
        pins = {name: line for name, line in pins_of(board.module(0)).items() if name not in without}
        sim_lines = make_lines(host, pins)
        events: list[Event] = []
        modem = RoamingModem(
            Chip(SimBus(host, 0, 0)),
            receive,
            SYNC_WORD_LORAWAN,
            calibrate_at_hz=868_000_000,
            sweep_sfs=sweep_sfs,
        )
        owner = ModuleOwner(
            "module",
            modem,
            sim_lines,
            SimClock(host),
            lambda _owner, event: events.append(event),
            has_reset=True,
            quiet=quiet,
        )
        bench = Bench(kernel, air, chip, sim_lines, owner, device, events, threading.Event())
        kernel.spawn(lambda: owner.run(bench.stop), "module")
        made.append(bench)
        return bench

    yield make
    for bench in made:
        bench.kernel.close()


class Carrier:
    """A simulated board: four chips on one mast, the platform that reaches them, and devices around it."""

    def __init__(self) -> None:
        self.kernel = Kernel(seed=1)
        self.air = Air(self.kernel, CALM)
        self.board = get_board("fluxgate-sim-4")
        chips = [SX1276(self.kernel, f"module{i}") for i in range(len(self.board.modules))]
        for chip in chips:
            self.air.add(chip, group="mast")
        self.host = LocalHost(self.kernel, SimBoard.wired(self.kernel, self.board, chips))
        self._devices = 0

    @property
    def platform(self) -> Platform:
        """What a Radio needs to run on this board."""
        return Platform(
            bus=lambda board, wiring: SimBus(self.host, *wiring.spi, board.spi_hz),
            lines=lambda _board, wiring, _clock: SimLines(self.host, pins_of(wiring)),
            clock=lambda _name: SimClock(self.host),
        )

    def device(self, name: str) -> Device:
        """One more device, near the mast."""
        self._devices += 1
        chip = SX1276(self.kernel, name)
        self.air.add(chip, x_m=200.0 + self._devices)
        return Device(self.kernel, chip)

    def start(self, radio: Radio) -> None:
        """Start the radio's threads and wait until each is in lock-step."""
        radio.start()
        self.kernel.await_clients(len(radio.config.modules))

    def run_until(self, t_ns: int) -> None:
        self.kernel.run_until(t_ns)

    def stop(self, radio: Radio) -> None:
        """End the radio's threads: they need virtual time to see it."""
        radio.ask_to_stop()
        self.kernel.run_until(self.kernel.now_ns + 100_000_000)
        radio.stop()
        assert radio.failure is None

    @property
    def frames(self) -> list[FrameRecord]:
        """Every frame that was on the air."""
        return list(self.air.records.frames)


@pytest.fixture
def carrier_for() -> Iterator[Callable[[], Carrier]]:
    """A maker of carriers; what it made is taken down afterwards."""
    made: list[Carrier] = []

    def make() -> Carrier:
        made.append(Carrier())
        return made[-1]

    yield make
    for carrier in made:
        carrier.kernel.close()


@pytest.fixture
def carrier(carrier_for: Callable[[], Carrier]) -> Carrier:
    """A simulated board."""
    return carrier_for()
