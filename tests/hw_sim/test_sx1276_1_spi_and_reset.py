"""Section 1 of the SX127x notes: SPI and reset, row by row."""

import pytest

from hw_sim import registers as reg
from hw_sim.errors import Misuse, Rule

US, MS = 1_000, 1_000_000


def test_first_byte_is_write_flag_and_address(bench):
    assert bench.chip.spi(bytes((0x42, 0))) == b"\x00\x12"
    bench.chip.spi(bytes((0x80 | reg.FRF_MSB, 0xD9)))
    assert bench.read(reg.FRF_MSB) == 0xD9


def test_a_burst_moves_on_from_register_to_register(bench):
    bench.write(reg.FRF_MSB, 0xD9, 0x06, 0x66)
    assert [bench.read(a) for a in (0x06, 0x07, 0x08)] == [0xD9, 0x06, 0x66]
    assert bench.burst(0x06, 3) == b"\xd9\x06\x66"


def test_a_burst_at_the_fifo_stays_at_the_fifo(bench):
    bench.lora()
    bench.write(reg.FIFO, 1, 2, 3)
    bench.write(reg.FIFO_ADDR_PTR, 0)
    assert bench.burst(reg.FIFO, 3) == b"\x01\x02\x03"
    assert bench.read(reg.OP_MODE) == 0x81


def test_miso_is_zero_under_the_address_and_shows_old_content_under_written_bytes(bench):
    assert bench.chip.spi(bytes((0x80 | reg.FRF_MSB, 1, 2, 3))) == b"\x00\x6c\x80\x00"
    assert bench.chip.spi(bytes((0x80 | reg.FRF_MSB, 4))) == b"\x00\x01"


def test_miso_shows_the_old_fifo_byte_when_the_fifo_is_written(bench):
    bench.lora()
    bench.write(reg.FIFO, 7)
    bench.write(reg.FIFO_ADDR_PTR, 0)
    assert bench.write(reg.FIFO, 8) == b"\x07"


def test_an_access_without_a_byte_is_misuse(bench):
    with pytest.raises(Misuse) as caught:
        bench.chip.spi(b"")
    assert caught.value.rule is Rule.EMPTY_TRANSFER


def test_reset_pulse_of_100_us_restores_the_registers_and_takes_5_ms(bench):
    bench.lora()
    bench.write(reg.FRF_MSB, 0xD9)
    bench.chip.set_reset(False)
    bench.run(100 * US)
    bench.chip.set_reset(True)
    bench.run(5 * MS - 1)
    with pytest.raises(Misuse) as caught:
        bench.read(reg.VERSION)
    assert caught.value.rule is Rule.NOT_READY
    bench.run(1)
    assert bench.read(reg.OP_MODE) == 0x09
    assert bench.read(reg.FRF_MSB) == 0x6C


def test_a_chip_held_in_reset_does_not_answer(make_bench):
    bench = make_bench(strict=False)
    bench.chip.set_reset(False)
    assert bench.read(reg.VERSION) == 0
    assert bench.chip.warnings[Rule.NOT_READY.value] == 1


def test_a_reset_pulse_shorter_than_100_us_is_misuse_and_resets_nothing(bench):
    bench.write(reg.FRF_MSB, 0xD9)
    bench.chip.set_reset(False)
    bench.run(99 * US)
    with pytest.raises(Misuse) as caught:
        bench.chip.set_reset(True)
    assert caught.value.rule is Rule.SHORT_RESET
    assert bench.read(reg.FRF_MSB) == 0xD9


def test_after_power_on_the_chip_needs_10_ms(bench):
    bench.chip.power_cycle()
    bench.run(10 * MS - 1)
    with pytest.raises(Misuse):
        bench.read(reg.VERSION)
    bench.run(1)
    assert bench.read(reg.VERSION) == 0x12


def test_version_is_0x12(bench):
    assert bench.read(reg.VERSION) == 0x12


@pytest.mark.parametrize("stuck", [0x00, 0xFF])
def test_a_power_or_wiring_fault_reads_all_zeros_or_all_ones(bench, stuck):
    bench.chip.faults.spi_reads = stuck
    assert bench.burst(reg.FRF_MSB, 3) == bytes((stuck,)) * 3


def test_miso_wired_to_mosi_echoes_the_address(bench):
    bench.chip.faults.spi_echo = True
    assert bench.chip.spi(b"\x3c\x3c") == b"\x3c\x3c"


def test_miso_shows_the_old_flags_under_the_ones_that_clear_them(bench):
    bench.lora()
    bench.chip.raise_flags(reg.RX_DONE | reg.VALID_HEADER)
    assert bench.write(reg.IRQ_FLAGS, 0xFF) == b"\x50"
    assert bench.write(reg.IRQ_FLAGS, 0xFF) == b"\x00"


def test_miso_shows_the_old_content_of_the_fsk_page_and_of_op_mode_too(bench):
    assert bench.write(0x39, 0x11) == b"\xf5"
    assert bench.write(0x39, 0x22) == b"\x11"
    assert bench.write(reg.OP_MODE, 0x08) == b"\x09"
    assert bench.write(reg.OP_MODE, 0x80) == b"\x08"
