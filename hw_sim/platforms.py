"""What `radio.service` runs on when the hardware is simulated.

In a lock-step run its module threads are clients of the kernel: `Kernel.await_clients` before the first run
lets all of them in at once. They end like any client, while the kernel runs: `Radio.ask_to_stop`, run a
little, `Radio.stop`.
"""

from hw_sim import fakes
from hw_sim.errors import NoSuchDevice
from hw_sim.hosts import FreeHost, LocalHost, SimBus, SimClock, SimLines
from hw_sim.uart import SimSerial
from radio.hardware.gpio import open_lines, pins_of
from radio.hardware.spi import SpidevBus
from radio.serial_line import SerialPort
from radio.service import Platform, linux_platform


def lockstep(host: LocalHost) -> Platform:
    """Straight onto the simulated chips, in virtual time."""
    return Platform(
        bus=lambda board, wiring: SimBus(host, *wiring.spi, board.spi_hz),
        lines=lambda _board, wiring, _clock: SimLines(host, pins_of(wiring)),
        clock=lambda _name: SimClock(host),
        serial=lambda port, _baud: _serial(host, port),
        pulse=lambda line, _clock: SimLines(host, {"pps": line}),
    )


def lockstep_on_fakes(host: LocalHost, gpio: str = "gpiod") -> Platform:
    """The driver's own hardware shells on the fake modules, in virtual time; `fakes.uninstall` when done."""
    fakes.install(host)
    return Platform(
        bus=lambda board, wiring: SpidevBus(*wiring.spi, board.spi_hz),
        lines=lambda board, wiring, clock: open_lines(gpio, board, wiring, clock.now_ns),
        clock=lambda _name: SimClock(host),
        serial=lambda port, _baud: _serial(host, port),
        pulse=lambda line, _clock: SimLines(host, {"pps": line}),
    )


def real_time_on_fakes(host: FreeHost, gpio: str = "gpiod") -> Platform:
    """As on a Raspberry Pi, with the machine's own clock and polls; the kernel must run at pace 1."""
    fakes.install(host)
    linux = linux_platform(gpio)
    return Platform(bus=linux.bus, lines=linux.lines, clock=linux.clock, utc_ns=linux.utc_ns)


def _serial(host: LocalHost, port: str) -> SerialPort:
    """The host's end of what hangs on a port of its board. Raises NoSuchDevice."""
    wire = host.board.serial.get(port)
    if wire is None:
        raise NoSuchDevice(
            f"nothing hangs on the serial port {port!r}; there are: {', '.join(host.board.serial) or 'none'}"
        )
    return SimSerial(host, wire)
