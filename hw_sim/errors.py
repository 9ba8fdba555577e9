"""What can go wrong in the simulated hardware, and whose fault it is.

`Misuse` is the driver's fault: it did to the chip what a real chip refuses, ignores or answers with garbage.
`KernelError` is the fault of whoever runs the simulation. `ProtocolError` is a damaged request on the socket.
"""

from enum import StrEnum


class SimError(Exception):
    """Base of every error of the simulator."""


class Rule(StrEnum):
    """The rule a driver broke; the section of reference material each comes from stands in docs/hw_sim.md."""

    EMPTY_TRANSFER = "an SPI transfer needs at least an address byte"
    NOT_READY = "the chip is in reset or still starting"
    SHORT_RESET = "reset must be held low for at least 100 us"
    FIFO_IN_SLEEP = "the FIFO cannot be reached in SLEEP"
    READ_ONLY = "the register is read-only"
    LORA_BIT = "LongRangeMode changes only with the mode field SLEEP in the same byte"
    NO_SUCH_MODE = "the FSK modem has no such mode"
    ZERO_LENGTH = "PayloadLength 0 is not permitted"
    SYMB_TIMEOUT = "SymbTimeout must be at least 4 symbols"
    SPREADING_FACTOR = "the spreading factor must be 6 to 12"
    BANDWIDTH = "the bandwidth code must be 0 to 9"
    CODING_RATE = "the coding rate code must be 1 to 4"
    SF6_EXPLICIT = "SF6 works with the implicit header only"
    IMAGE_CAL = "image calibration needs FSK standby"


class Misuse(SimError):
    """A driver broke a rule of the chip; raised in strict mode only."""

    def __init__(self, chip: str, rule: Rule, address: int | None = None, value: int | None = None) -> None:
        self.chip = chip
        self.rule = rule
        self.address = address
        self.value = value
        where = "" if address is None else f" (register 0x{address:02X}"
        if where:
            where += ")" if value is None else f", value 0x{value:02X})"
        super().__init__(f"{chip}: {rule.value}{where}")


class KernelError(SimError):
    """The event kernel was used in a way that cannot work."""


class KernelClosed(KernelError):
    """The kernel was closed while this client was blocked in it."""


class ClientStalled(KernelError):
    """A lock-step client kept time standing still for longer than the kernel's patience."""

    def __init__(self, client: str, patience_s: float) -> None:
        self.client = client
        super().__init__(f"client {client!r} held virtual time for more than {patience_s:g} s of real time")


class ProtocolError(SimError):
    """A request on the socket that the protocol does not know, or that names what the board does not have."""


class NoSuchDevice(SimError):
    """The board has nothing at this SPI address or on this line."""
