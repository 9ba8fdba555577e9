"""Fakes and fixtures for the radio tests."""

from dataclasses import dataclass, field

import pytest

from radio.sx127x.chip import Chip


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

    def __post_init__(self) -> None:
        self.registers[0x01] = 0x09
        self.registers[0x42] = 0x12

    def xfer(self, data: bytes) -> bytes:
        self.transfers.append(data)
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
        return self.stuck.get(register, self.registers[register])

    def _write(self, register: int, value: int) -> int:
        old = self.registers[register]
        if register == 0:
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
