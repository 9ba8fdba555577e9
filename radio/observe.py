"""Looking at one module's wires, for `radio.probe` to judge: transfers, levels and times, and never a transmission.

A wire that flips bits can turn any write into one of RegOpMode. Therefore the power amplifier is set to the pin no
module has an antenna on, and no byte written here, nor one bit beside it, is the mode TX.
"""

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from radio.boards import Board, ModuleWiring
from radio.errors import BusyError, GpioError
from radio.hardware.gpiod_lines import GpiodLines
from radio.hardware.lgpio_lines import LgpioLines
from radio.hardware.rpi_gpio_lines import RpiGpioLines
from radio.probe import CRYSTAL_LIMIT_PPM, Observations, SelfTest, SpeedTrial
from radio.seam import Clock, Edge, Lines
from radio.sx127x import registers as r
from radio.sx127x.registers import Irq, Mode

log = logging.getLogger(__name__)

US: Final = 1_000
MS: Final = 1_000_000
SLOW_HZ: Final = 500_000  # what any wire carries: everything but the speed is looked at with it
SPEEDS_HZ: Final = (
    10_000_000,
    8_000_000,
    6_000_000,
    5_000_000,
    4_000_000,
    3_000_000,
    2_000_000,
    1_000_000,
    SLOW_HZ,
)
SPEED_ROUNDS: Final = 40
SPEED_BYTES: Final = 32
VERSION_READS: Final = 16
RESET_LOW_NS: Final = 1 * MS
RESET_WAIT_NS: Final = 10 * MS
CAD_LIMIT_NS: Final = 100 * MS  # two symbols at SF7 take 2 ms
SYNC_WORD_AFTER_RESET: Final = 0x12
CANARY: Final = 0x54
# Low bits of bytes that neither are the mode TX nor become it by one flipped bit.
_SAFE_LOW_BITS: Final = (0b000, 0b100, 0b101, 0b110)
_SYMBOL_NS: Final = 1_024_000  # at SF7 and 125 kHz
_SHORT_WINDOW, _LONG_WINDOW = 64, 1023  # symbols; the difference is what the crystal is measured by
_CRYSTAL_TRIES: Final = 3
# DIO0 is CadDone, and no other line is: DIO3 would be after a reset.
_ONLY_DIO0_IS_CAD_DONE: Final = 0x81
_MODE_READS: Final = 200
# Pins of the header that may be looked at without disturbing SPI, I2C and the serial port.
_FREE_PINS: Final = (4, 5, 6, 12, 13, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27)
_AUX_SPI_PINS: Final = frozenset(range(16, 22))


class ProbeBus(Protocol):
    """SPI that is given back: the next look is at another speed."""

    def xfer(self, data: bytes) -> bytes: ...
    def close(self) -> None: ...


class Machine(Protocol):
    """The computer the modules are on."""

    @property
    def clock(self) -> Clock: ...
    def bus(self, spi: tuple[int, int], speed_hz: int) -> ProbeBus: ...
    def devices(self) -> Sequence[tuple[int, int]]: ...
    def lines(self, board: Board, wiring: ModuleWiring, pins: Mapping[str, int]) -> Lines: ...


@dataclass(frozen=True, slots=True)
class Registers:
    """A chip by its registers alone: no shadow and no read-back, which a broken wire would only confuse."""

    bus: ProbeBus

    def read(self, register: int, count: int = 1) -> bytes:
        return self.bus.xfer(bytes((register,)) + bytes(count))[1:]

    def write(self, register: int, *values: int) -> None:
        self.bus.xfer(bytes((register | 0x80, *values)))

    def mode(self, mode: Mode) -> None:
        self.write(r.REG_OP_MODE, r.LONG_RANGE_MODE | mode)

    def start_lora(self, freq_hz: int) -> bool:
        """From reset to LoRa standby, quiet; False where the chip does not follow."""
        if not self.read(r.REG_OP_MODE)[0] & r.LONG_RANGE_MODE:
            self.write(r.REG_OP_MODE, Mode.SLEEP)
        self.mode(Mode.SLEEP)
        self.write(r.REG_PA_CONFIG, 0)
        word = r.frf(freq_hz)
        self.write(r.REG_FRF_MSB, word >> 16, word >> 8 & 0xFF, word & 0xFF)
        self.mode(Mode.STDBY)
        return self.read(r.REG_OP_MODE)[0] & 0x87 == r.LONG_RANGE_MODE | Mode.STDBY


def observe(
    machine: Machine, board: Board, wiring: ModuleWiring, name: str, freq_hz: int = 868_100_000
) -> Observations:
    """Everything that can be seen of one module, in about two seconds. The module is left asleep."""
    seen = Observations(
        name,
        wiring.spi,
        board.spi_hz,
        wiring.dio0,
        wiring.reset,
        config_lines=board.config_lines,
        neighbours={m.dio0: i for i, m in enumerate(board.modules) if m is not wiring},
    )
    try:
        bus = machine.bus(wiring.spi, SLOW_HZ)
    except BusyError as error:
        return replace(seen, busy=str(error))
    except ImportError as error:
        return replace(seen, library_problem=str(error))
    except OSError as error:
        return replace(seen, spi_problem=error.strerror or str(error))
    lines: Lines | None = None
    try:
        pins = {"dio0": wiring.dio0} | ({} if wiring.reset is None else {"reset": wiring.reset})
        lines = machine.lines(board, wiring, pins)
        seen = replace(seen, backend=lines.backend)
    except BusyError as error:
        bus.close()
        return replace(seen, busy=str(error))
    except (GpioError, ImportError) as error:
        seen = replace(seen, lines_problem=str(error))
    try:
        return _Look(machine, board, wiring, freq_hz, lines).at(seen, bus)
    finally:
        if lines is not None:
            lines.close()


@dataclass(slots=True)
class _Look:
    machine: Machine
    board: Board
    wiring: ModuleWiring
    freq_hz: int
    lines: Lines | None

    def at(self, seen: Observations, bus: ProbeBus) -> Observations:
        chip = Registers(bus)
        try:
            seen = replace(seen, reset_floats_high=self._let_reset_go())
            self._reset()
            seen = _identity(seen, chip)
            known = seen.versions[0] in r.VERSIONS and len(set(seen.versions)) == 1
            if not known:
                steady = len(set(seen.versions)) == 1 and not seen.echoes
                test = self._self_test(chip) if steady and self.lines is not None else None
                return replace(seen, self_test=test, elsewhere=self._elsewhere())
            seen = self._settings(seen, chip)
            if seen.lora_refused:
                return seen
            seen = replace(seen, modes_us=self._mode_times(chip))
            ppm, error = self._crystal(chip)
            seen = replace(seen, crystal_ppm=ppm, crystal_error_ppm=error)
            if self.lines is not None:
                seen = replace(seen, self_test=self._find_dio0(chip))
            chip.mode(Mode.SLEEP)
        finally:
            bus.close()
        return replace(seen, speeds=self._speeds())

    # --- reset --------------------------------------------------------------------------------------

    def _let_reset_go(self) -> bool | None:
        """The level of the reset line while nobody drives it: up, where a chip with power is at its end.

        It is pulled low before, and there is no other resistor: a line without chip stays low.
        """
        lines = self.lines
        if not isinstance(lines, GpiodLines | LgpioLines | RpiGpioLines) or self.wiring.reset is None:
            return None
        lines.set("reset", False)
        self._pass(RESET_LOW_NS)
        try:
            lines.let_go("reset")
        except (OSError, RuntimeError) as error:  # a kernel before 5.5 knows of no resistors
            log.info("GPIO %d cannot be let go: %s", self.wiring.reset, error)
            lines.set("reset", True)
            return None
        self._pass(RESET_LOW_NS)
        high = lines.get("reset")
        lines.drive("reset")
        self._pass(RESET_WAIT_NS)
        return high

    def _reset(self) -> None:
        if self.lines is None or self.wiring.reset is None:
            return
        self.lines.set("reset", False)
        self._pass(RESET_LOW_NS)
        self.lines.set("reset", True)
        self._pass(RESET_WAIT_NS)

    # --- what the chip says ---------------------------------------------------------------------------

    def _elsewhere(self) -> tuple[tuple[int, int], ...]:
        """Other SPI devices on which an SX127x answers, those of the board's other modules left out."""
        others = []
        taken = {module.spi for module in self.board.modules}
        for spi in self.machine.devices():
            if spi in taken:
                continue
            try:
                bus = self.machine.bus(spi, SLOW_HZ)
            except (OSError, ImportError):
                continue
            try:
                if Registers(bus).read(r.REG_VERSION)[0] in r.VERSIONS:
                    others.append(spi)
            finally:
                bus.close()
        return tuple(others)

    def _settings(self, seen: Observations, chip: Registers) -> Observations:
        """LoRa mode, a register that keeps what is written, and a reset that takes it back."""
        if not chip.start_lora(self.freq_hz):
            return replace(seen, lora_refused=True)
        held = True
        for value in (CANARY, 0xA8, CANARY):
            chip.write(r.REG_SYNC_WORD, value)
            held = held and chip.read(r.REG_SYNC_WORD)[0] == value
        seen = replace(seen, canary_held=held)
        if self.lines is None or self.wiring.reset is None:
            return seen
        self._reset()
        works = not chip.read(r.REG_OP_MODE)[0] & r.LONG_RANGE_MODE
        refused = not chip.start_lora(self.freq_hz)
        works = works and chip.read(r.REG_SYNC_WORD)[0] == SYNC_WORD_AFTER_RESET
        return replace(seen, reset_works=works, lora_refused=refused)

    def _mode_times(self, chip: Registers) -> tuple[tuple[str, float], ...]:
        """How long until a mode that was written is read back: FSTX locks the synthesiser and sends nothing."""
        times = []
        for mode in (Mode.SLEEP, Mode.STDBY, Mode.FSTX, Mode.RXCONT, Mode.STDBY):
            started_ns = self._now()
            chip.mode(mode)
            for _ in range(_MODE_READS):
                if chip.read(r.REG_OP_MODE)[0] & 0x07 == mode:
                    break
            times.append((mode.name, (self._now() - started_ns) / US))
        return tuple(times[:-1])

    def _crystal(self, chip: Registers) -> tuple[float | None, float]:
        """How far the chip's seconds are from ours, ppm, and how sure that is: by two receive windows' lengths.

        Noise taken for a preamble makes a window longer, so the best of a few counts.
        """
        chip.write(r.REG_MODEM_CONFIG_1, 0x72)  # 125 kHz, as after a reset
        nominal_ns = (_LONG_WINDOW - _SHORT_WINDOW) * _SYMBOL_NS
        found: tuple[float | None, float] = (None, 0.0)
        for _ in range(_CRYSTAL_TRIES):
            short_ns, short_error_ns = self._window(chip, _SHORT_WINDOW)
            long_ns, long_error_ns = self._window(chip, _LONG_WINDOW)
            if short_ns is None or long_ns is None:
                continue
            ppm = (nominal_ns - (long_ns - short_ns)) / nominal_ns * 1e6  # a fast crystal makes short windows
            if found[0] is None or abs(ppm) < abs(found[0]):
                found = ppm, (short_error_ns + long_error_ns) / nominal_ns * 1e6
            if abs(ppm) <= CRYSTAL_LIMIT_PPM:
                break
        return found

    def _window(self, chip: Registers, symbols: int) -> tuple[int | None, int]:
        """How long a receive window takes to time out, and between which two looks; None where it does not."""
        chip.write(r.REG_MODEM_CONFIG_2, 0x70 | symbols >> 8, symbols & 0xFF)
        chip.write(r.REG_IRQ_FLAGS, 0xFF)
        started_ns = self._now()
        chip.mode(Mode.RXSINGLE)
        expected_ns = started_ns + symbols * _SYMBOL_NS
        self.machine.clock.sleep_until(expected_ns - 2 * MS - symbols * _SYMBOL_NS // 1000)
        looked_ns = self._now()
        while looked_ns < expected_ns + 50 * MS:
            flags = Irq(chip.read(r.REG_IRQ_FLAGS)[0])
            before_ns, looked_ns = looked_ns, self._now()
            if Irq.RX_TIMEOUT in flags:
                return (before_ns + looked_ns) // 2 - started_ns, looked_ns - before_ns
        chip.mode(Mode.STDBY)
        return None, 0

    # --- DIO0 -----------------------------------------------------------------------------------------

    def _find_dio0(self, chip: Registers) -> SelfTest:
        test = self._self_test(chip)
        if test.edge or not test.flag or test.level or self.lines is None:
            return test
        spi1 = _AUX_SPI_PINS if any(bus == 1 for bus, _ in self.machine.devices()) else frozenset()
        # Another module's DIO0 may be looked at: two chip selects may have changed places.
        others = {m.dio0 for m in self.board.modules}
        resets = {m.reset for m in self.board.modules}
        candidates = (others | set(_FREE_PINS) - spi1) - resets - {self.wiring.dio0}
        return replace(test, other_pins=tuple(pin for pin in sorted(candidates) if self._rises(chip, pin)))

    def _rises(self, chip: Registers, pin: int) -> bool:
        try:
            lines = self.machine.lines(self.board, self.wiring, {"dio0": pin})
        except (OSError, ImportError, RuntimeError) as error:
            log.info("GPIO %d cannot be looked at: %s", pin, error)
            return False
        try:
            chip.write(r.REG_IRQ_FLAGS, 0xFF)
            if lines.get("dio0"):  # high for a reason of its own
                return False
            return detect(chip, lines, self.machine.clock)[0] is not None
        finally:
            lines.close()

    def _self_test(self, chip: Registers) -> SelfTest:
        """One channel activity detection. Works blind as well, where writes arrive and reads do not."""
        assert self.lines is not None
        chip.start_lora(self.freq_hz)
        self.lines.read_edges()
        edge, started_ns = detect(chip, self.lines, self.machine.clock)
        flag = Irq.CAD_DONE in Irq(chip.read(r.REG_IRQ_FLAGS)[0])
        level = self.lines.get("dio0")
        chip.write(r.REG_IRQ_FLAGS, 0xFF)
        took_us = 0.0 if edge is None else (edge.t_ns - started_ns) / US
        return SelfTest(flag, edge is not None, level, took_us)

    # --- speed ----------------------------------------------------------------------------------------

    def _speeds(self) -> tuple[SpeedTrial, ...]:
        """From the fastest clock down to the first two that lose nothing."""
        trials: list[SpeedTrial] = []
        for hz in SPEEDS_HZ:
            trials.append(self._try_speed(hz))
            if sum(not trial.errors for trial in trials) == 2:
                break
        return tuple(trials)

    def _try_speed(self, hz: int) -> SpeedTrial:
        slow = self.machine.bus(self.wiring.spi, SLOW_HZ)
        ready = Registers(slow).start_lora(self.freq_hz)
        slow.close()
        pattern = random.Random(hz)
        errors = 0 if ready else SPEED_ROUNDS
        bus = self.machine.bus(self.wiring.spi, hz)
        try:
            chip = Registers(bus)
            for _ in range(SPEED_ROUNDS if ready else 0):
                data = bytes(
                    pattern.randrange(32) << 3 | pattern.choice(_SAFE_LOW_BITS) for _ in range(SPEED_BYTES)
                )
                chip.write(r.REG_FIFO_ADDR_PTR, 0)
                chip.write(r.REG_FIFO, *data)
                chip.write(r.REG_FIFO_ADDR_PTR, 0)
                errors += chip.read(r.REG_FIFO, SPEED_BYTES) != data
        finally:
            bus.close()
        slow = self.machine.bus(self.wiring.spi, SLOW_HZ)
        Registers(slow).mode(Mode.SLEEP)
        slow.close()
        return SpeedTrial(hz, SPEED_ROUNDS, errors)

    # --- time -----------------------------------------------------------------------------------------

    def _now(self) -> int:
        return self.machine.clock.now_ns()

    def _pass(self, ns: int) -> None:
        self.machine.clock.sleep_until(self._now() + ns)


def _identity(seen: Observations, chip: Registers) -> Observations:
    sent = bytes((r.REG_VERSION, 0x50, 0xA8, 0x04, 0x38))
    return replace(
        seen,
        versions=tuple(chip.read(r.REG_VERSION)[0] for _ in range(VERSION_READS)),
        reply=chip.bus.xfer(bytes((r.REG_VERSION,)) + bytes(8)),
        register_10=chip.read(0x10)[0],
        echoes=chip.bus.xfer(sent) == sent,
    )


def detect(chip: Registers, lines: Lines, clock: Clock) -> tuple[Edge | None, int]:
    """Run a channel activity detection and wait for its edge on DIO0; also when it was started."""
    chip.mode(Mode.STDBY)
    chip.write(r.REG_IRQ_FLAGS_MASK, 0)
    chip.write(r.REG_DIO_MAPPING_1, _ONLY_DIO0_IS_CAD_DONE)
    chip.write(r.REG_IRQ_FLAGS, 0xFF)
    lines.read_edges()
    started_ns = clock.now_ns()
    chip.mode(Mode.CAD)
    return wait_for_edge(clock, lines, started_ns + CAD_LIMIT_NS), started_ns


def wait_for_edge(clock: Clock, lines: Lines, until_ns: int) -> Edge | None:
    """The next edge of some lines, or None where `until_ns` comes first."""
    while (now_ns := clock.now_ns()) < until_ns:
        edges = lines.read_edges()
        if edges:
            return edges[0]
        poll_ns = until_ns if lines.poll_ns is None else min(until_ns, now_ns + lines.poll_ns)
        clock.wait((lines,), poll_ns)
    edges = lines.read_edges()
    return edges[0] if edges else None
