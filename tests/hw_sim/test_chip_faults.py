"""Every fault that can be injected does what it says, is counted once it could do harm, and ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hw_sim import registers as reg
from hw_sim.chip_faults import ChipFault
from hw_sim.kernel import Kernel
from hw_sim.sx1276 import SX1276

MS = 1_000_000


@pytest.fixture
def chip() -> SX1276:
    """A chip in LoRa standby that listens to nobody."""
    kernel = Kernel(seed=5)
    chip = SX1276(kernel, strict=False)
    for op_mode in (0x80, 0x81):
        write(chip, reg.OP_MODE, op_mode)
    return chip


def write(chip: SX1276, address: int, value: int) -> None:
    chip.spi(bytes((address | 0x80, value)))


def read(chip: SX1276, address: int) -> int:
    return chip.spi(bytes((address, 0)))[1]


def run(chip: SX1276, ms: float) -> None:
    chip.kernel.run_until(chip.kernel.now_ns + round(ms * MS))


@pytest.mark.parametrize(
    ("fault", "answer"),
    [(ChipFault.SPI_LOW, b"\0\0"), (ChipFault.SPI_HIGH, b"\xff\xff"), (ChipFault.SPI_ECHO, b"\x42\0")],
)
def test_a_dead_bus_answers_the_same_and_loses_writes(chip: SX1276, fault: ChipFault, answer: bytes) -> None:
    chip.faults.inject(fault, 10 * MS)
    assert chip.spi(bytes((reg.VERSION, 0))) == answer
    write(chip, reg.SYNC_WORD, 0x34)
    run(chip, 11)
    assert read(chip, reg.VERSION) == 0x12
    assert read(chip, reg.SYNC_WORD) == 0x12
    assert chip.faults.met[fault] == 2


def test_a_flip_damages_one_bit_of_one_transfer(chip: SX1276) -> None:
    sound = [chip.spi(bytes((reg.FRF_MSB, 0, 0, 0))) for _ in range(2)]
    assert sound[0] == sound[1]
    differing = 0
    for _ in range(40):
        chip.faults.inject(ChipFault.SPI_FLIP)
        got = chip.spi(bytes((reg.FRF_MSB, 0, 0, 0)))
        differing += got != sound[0]
        chip.poke(reg.FRF_MSB, 0x6C)  # the flip may have made it a write
        chip.poke(reg.FRF_MID, 0x80)
        chip.poke(reg.FRF_LSB, 0x00)
        assert chip.spi(bytes((reg.FRF_MSB, 0, 0, 0))) == sound[0]
    assert 15 <= differing <= 30  # half of them on the way out; some in the address on the way in


def test_a_brown_out_ends_when_the_supply_is_back(chip: SX1276) -> None:
    write(chip, reg.SYNC_WORD, 0x34)
    chip.faults.inject(ChipFault.BROWN_OUT, 20 * MS)
    assert read(chip, reg.VERSION) == 0x00
    run(chip, 31)
    assert (read(chip, reg.VERSION), read(chip, reg.OP_MODE)) == (0x12, 0x09)


def test_a_stuck_flag_is_set_and_outlasts_being_cleared(chip: SX1276) -> None:
    chip.faults.inject(ChipFault.STUCK_FLAG, 10 * MS)
    stuck = read(chip, reg.IRQ_FLAGS)
    write(chip, reg.IRQ_FLAGS, 0xFF)
    assert read(chip, reg.IRQ_FLAGS) == stuck != 0
    run(chip, 11)
    write(chip, reg.IRQ_FLAGS, 0xFF)
    assert read(chip, reg.IRQ_FLAGS) == 0


def test_a_wire_may_be_held_at_either_level(chip: SX1276) -> None:
    chip.faults.hold_line(True)
    assert chip.dio(0)
    chip.faults.hold_line(False)
    chip.raise_flags(reg.RX_DONE)
    assert not chip.dio(0)
    chip.faults.hold_line(None)
    assert chip.dio(0)


def test_an_edge_is_lost_once(chip: SX1276) -> None:
    edges: list[str] = []
    chip.on_dio = lambda line, level, _t: edges.append(f"{line} {level}")
    chip.faults.inject(ChipFault.LOST_EDGE)
    for _ in range(2):
        chip.raise_flags(reg.RX_DONE)
        write(chip, reg.IRQ_FLAGS, 0xFF)
    assert edges == ["dio0 False", "dio0 True", "dio0 False"]


def test_a_receiver_without_a_clock_answers_and_hears_nothing(chip: SX1276) -> None:
    write(chip, reg.OP_MODE, 0x85)
    run(chip, 1)
    assert chip.listening is not None
    chip.faults.inject(ChipFault.CRYSTAL, 10 * MS)
    assert chip.listening is None
    assert len({read(chip, reg.RSSI_WIDEBAND) for _ in range(10)}) == 1
    write(chip, reg.OP_MODE, 0x81)
    assert read(chip, reg.OP_MODE) == 0x85
    run(chip, 11)
    assert chip.listening is not None
    assert len({read(chip, reg.RSSI_WIDEBAND) for _ in range(10)}) > 1


def test_an_unlocked_synthesiser_shows_in_its_bit_until_it_locks_again(chip: SX1276) -> None:
    chip.faults.inject(ChipFault.PLL, 10 * MS)
    write(chip, reg.OP_MODE, 0x85)
    run(chip, 1)
    assert chip.listening is None
    assert read(chip, reg.HOP_CHANNEL) & 0x80
    run(chip, 10)
    for op_mode in (0x81, 0x85):
        write(chip, reg.OP_MODE, op_mode)
    run(chip, 1)
    assert chip.listening is not None
    assert not read(chip, reg.HOP_CHANNEL) & 0x80


def test_a_hung_transmission_does_not_end(chip: SX1276) -> None:
    chip.faults.inject(ChipFault.TX_HUNG, 1000 * MS)
    write(chip, reg.OP_MODE, 0x83)
    run(chip, 500)
    assert (read(chip, reg.OP_MODE), read(chip, reg.IRQ_FLAGS)) == (0x83, 0)
    write(chip, reg.OP_MODE, 0x81)
    write(chip, reg.OP_MODE, 0x83)
    run(chip, 500)
    assert (read(chip, reg.OP_MODE), read(chip, reg.IRQ_FLAGS)) == (0x81, reg.TX_DONE)


@pytest.mark.parametrize(
    ("fault", "change"),
    [
        (ChipFault.MODE_LEFT, lambda chip: chip.mode == reg.STDBY),
        (ChipFault.MODE_REFUSED, lambda chip: (write(chip, reg.OP_MODE, 0x80), chip.mode == reg.RXCONT)[1]),
    ],
)
def test_modes_are_left_and_refused(chip: SX1276, fault: ChipFault, change: Callable[[SX1276], bool]) -> None:
    write(chip, reg.OP_MODE, 0x85)
    chip.faults.inject(fault, 10 * MS)
    assert change(chip)
    assert chip.faults.met[fault] == 1


def test_a_disturbed_setting_differs_in_one_bit(chip: SX1276) -> None:
    before = [chip.peek(address) for address in range(0x50)]
    chip.faults.inject(ChipFault.SETTING)
    changed = [was ^ chip.peek(address) for address, was in enumerate(before) if was != chip.peek(address)]
    assert [change.bit_count() for change in changed] == [1]


@pytest.mark.parametrize("fault", list(ChipFault))
def test_every_fault_ends(chip: SX1276, fault: ChipFault) -> None:
    chip.faults.inject(fault, 5 * MS)
    run(chip, 20)
    assert not chip.faults.any
    chip.faults.inject(str(fault), 1000 * MS)  # by its word
    chip.faults.clear()
    assert not chip.faults.any


def test_a_fault_nobody_knows_is_refused(chip: SX1276) -> None:
    with pytest.raises(ValueError, match="gremlins"):
        chip.faults.inject("gremlins")


def test_the_fsk_modem_sending_is_said(chip: SX1276) -> None:
    for op_mode in (0x80, 0x00, 0x01, 0x03):
        write(chip, reg.OP_MODE, op_mode)
    run(chip, 1)
    assert chip.warnings["the FSK modem sends"] == 1
