"""A device's radio: one frame out, one receive window at a time or one that stays open, all by interrupts.

The chip is driven through the same `radio.sx127x.chip.Chip` as a gateway's. Nothing here blocks or costs virtual
time besides what the chip itself takes; lines DIO0 (TxDone, RxDone) and DIO1 (RxTimeout) end what was started.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from hw_sim.kernel import Event, Kernel
from hw_sim.sx1276 import SX1276
from radio.lora import LoRaModulation
from radio.sx127x.chip import Chip, Packet
from radio.sx127x.registers import Dio0, Irq, Mode, Power, Settings

MIN_RX_SYMBOLS: Final = 6  # a window catches this many symbols of the preamble, wherever the clock errs
PREPARE_NS: Final = 2_000_000  # from sleep to a configured receiver, with room
RX_START_NS: Final = 100_000  # writing RXSINGLE in standby until the receiver hears
MAX_SYMBOL_TIMEOUT: Final = 1023
LONGEST_FRAME_NS: Final = 10_000_000_000  # 255 bytes at SF12 and 125 kHz take 9.2 s


@dataclass(frozen=True, slots=True)
class Window:
    """When to open a receiver, from the instant the downlink is due, and for how many symbols."""

    offset_ns: int  # negative: before it
    symbols: int


def receive_window(modulation: LoRaModulation, rx_error_ns: int) -> Window:
    """A window around the preamble of a downlink whose start is known to +-`rx_error_ns`.

    The rule of the LoRaMac-node stack: long enough to see MIN_RX_SYMBOLS whatever the error, centred on the
    middle of the 8-symbol preamble.
    """
    symbol_ns = modulation.symbol_ns
    wanted_ns = (2 * MIN_RX_SYMBOLS - 8) * symbol_ns + 2 * rx_error_ns
    symbols = min(MAX_SYMBOL_TIMEOUT, max(MIN_RX_SYMBOLS, -(-wanted_ns // symbol_ns)))
    return Window(4 * symbol_ns - symbols * symbol_ns // 2, symbols)


class DirectBus:
    """SPI straight into the simulated chip, in no time."""

    def __init__(self, chip: SX1276) -> None:
        self.xfer = chip.spi


class NodeRadio:
    """One chip that sleeps unless it sends or listens. Calls come from kernel events."""

    def __init__(self, kernel: Kernel, chip: SX1276) -> None:
        self._kernel = kernel
        self._powered = chip
        self._chip = Chip(DirectBus(chip))
        self._sent: Callable[[int], None] | None = None
        self._heard: Callable[[Packet | None], None] | None = None
        self._always: Callable[[Packet], None] | None = None  # who gets what an open receiver hears
        self._deadline: Event | None = None
        self._window: tuple[Event, Event] | None = None  # its two events, until they have come
        chip.on_dio = self._on_dio

    def start(self) -> None:
        """Power on."""
        self._chip.start()
        self._chip.set_mode(Mode.SLEEP)

    def power_off(self) -> None:
        """At once: a carrier stops, a window closes; nobody is told."""
        self._close_window()
        self._sent = None
        self._powered.power_cycle()

    def transmit(self, settings: Settings, power: Power, phy: bytes, sent: Callable[[int], None]) -> None:
        """Send at once; `sent` is called with the time at which the last symbol left. A window that waits is off."""
        chip = self._chip
        self._close_window()
        chip.set_mode(Mode.STDBY)
        chip.configure_transmit(settings, power, phy)
        chip.map_dio0(Dio0.TX_DONE)
        chip.clear_flags(Irq(0xFF))
        self._sent = sent
        chip.command(Mode.TX)

    def listen(
        self, settings: Settings, window: Window, due_ns: int, heard: Callable[[Packet | None], None]
    ) -> None:
        """Open a window around `due_ns`, which lies ahead; `heard` gets the packet, or None for silence.

        It takes the place of one that still waits.
        """
        for event in self._window or ():
            self._kernel.cancel(event)
        open_ns = due_ns + window.offset_ns
        tuned = replace(settings, symbol_timeout=window.symbols)
        at = self._kernel.at
        self._window = (
            at(open_ns - PREPARE_NS, lambda: self._prepare(tuned, heard)),
            at(open_ns - RX_START_NS, self._open),
        )

    def _close_window(self) -> None:
        """Without a word to whoever waited for it."""
        for event in (*(self._window or ()), self._deadline):
            self._kernel.cancel(event)
        self._heard = self._always = self._window = self._deadline = None

    def listen_on(self, settings: Settings, heard: Callable[[Packet], None]) -> None:
        """Keep the receiver open until something else is to be done; `heard` gets every frame with a good CRC."""
        chip = self._chip
        chip.set_mode(Mode.STDBY)
        chip.configure_receive(settings)
        chip.map_dio0(Dio0.RX_DONE)
        chip.clear_flags(Irq(0xFF))
        self._always = heard
        chip.command(Mode.RXCONT)

    @property
    def listens_on(self) -> bool:
        """Is the receiver open for good?"""
        return self._always is not None

    @property
    def receiving(self) -> bool:
        """Is a frame coming in?"""
        return self._chip.status()[1]

    def _open(self) -> None:
        self._window = None
        self._chip.command(Mode.RXSINGLE)

    def _prepare(self, settings: Settings, heard: Callable[[Packet | None], None]) -> None:
        chip = self._chip
        self._always = None
        chip.set_mode(Mode.STDBY)
        chip.configure_receive(settings)
        chip.map_dio0(Dio0.RX_DONE)
        chip.clear_flags(Irq(0xFF))
        self._heard = heard
        window_ns = settings.symbol_timeout * settings.modulation.symbol_ns
        self._deadline = self._kernel.after(PREPARE_NS + window_ns + LONGEST_FRAME_NS, self._end_window)

    def _on_dio(self, line: str, level: bool, t_ns: int) -> None:
        """An edge; served as its own event, when the chip has finished what it was doing."""
        if not level:
            return
        if line == "dio0" and self._sent is not None:
            self._kernel.after(0, lambda: self._tx_done(t_ns))
        elif line in ("dio0", "dio1") and self._heard is not None:
            self._kernel.after(0, self._end_window)
        elif line == "dio0" and self._always is not None:
            self._kernel.after(0, self._read_on)

    def _tx_done(self, t_ns: int) -> None:
        sent, self._sent = self._sent, None
        if sent is not None:
            self._chip.clear_flags(Irq(0xFF))
            self._chip.set_mode(Mode.SLEEP)
            sent(t_ns)

    def _read_on(self) -> None:
        """A frame of the open receiver, which stays open."""
        heard = self._always
        if heard is None:
            return  # closed in the same instant
        packet, _ = self._chip.read_packet()
        self._chip.clear_flags(Irq(0xFF))
        if packet is not None and packet.crc_ok:
            heard(packet)

    def _end_window(self) -> None:
        """RxDone, RxTimeout or, should neither ever come, the deadline."""
        heard, self._heard = self._heard, None
        if heard is None:
            return
        self._kernel.cancel(self._deadline)
        packet, _ = self._chip.read_packet()
        self._chip.clear_flags(Irq(0xFF))
        self._chip.set_mode(Mode.SLEEP)
        heard(packet if packet is not None and packet.crc_ok else None)
