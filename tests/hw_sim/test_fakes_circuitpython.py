"""Blinka's modules over simulated lines: what goes wrong for a driver goes wrong as on a Raspberry Pi."""

import pytest

from hw_sim import fakes
from hw_sim.board import Board
from hw_sim.hosts import LocalHost
from hw_sim.sx1276 import SX1276


@pytest.fixture
def host(kernel):
    board = Board(kernel)
    board.connect(SX1276(kernel, "chip"), (0, 0), {0: 25}, reset=22)
    host = LocalHost(kernel, board)
    fakes.install(host)
    yield host
    fakes.uninstall()


@pytest.fixture
def spi(host):
    import board
    import busio

    bus = busio.SPI(board.SCK, MOSI=board.MOSI, MISO=board.MISO)
    assert bus.try_lock()
    bus.configure(baudrate=5_000_000)
    return bus


@pytest.fixture
def cs(host):
    import board
    import digitalio

    line = digitalio.DigitalInOut(board.CE0)
    line.switch_to_output(value=True)
    return line


def test_what_happens_while_chip_select_is_low_is_one_transfer(host, spi, cs):
    chip = host.board.chip(0, 0)
    before = chip.transfers
    cs.value = False
    spi.write(b"\x06")
    answer = bytearray(3)
    spi.readinto(answer)
    cs.value = True
    assert bytes(answer) == b"\x6c\x80\x00"
    cs.value = False
    spi.write(b"\x86\xd9")
    spi.write(b"\x06\x66")
    cs.value = True
    both = bytearray(4)
    cs.value = False
    spi.write_readinto(b"\x06\0\0\0", both)
    cs.value = True
    assert bytes(both[1:]) == b"\xd9\x06\x66"
    assert chip.transfers - before == 3


def test_a_bus_without_lock_or_selected_chip_is_refused(spi, cs):
    with pytest.raises(RuntimeError, match="chip select is high"):
        spi.write(b"\x42")
    assert not spi.try_lock()
    spi.unlock()
    with pytest.raises(RuntimeError, match="try_lock"):
        spi.configure(baudrate=1_000_000)


def test_two_reads_under_one_chip_select_are_more_than_the_simulation_does(spi, cs):
    cs.value = False
    spi.write(b"\x42")
    spi.readinto(bytearray(1))
    with pytest.raises(RuntimeError, match="twice"):
        spi.readinto(bytearray(1))
    with pytest.raises(RuntimeError, match="after it has read"):
        spi.write(b"\x00")


def test_lines_are_inputs_until_they_are_switched(host):
    import board
    import busio
    import digitalio

    with digitalio.DigitalInOut(board.D22) as line:
        assert line.direction == digitalio.Direction.INPUT
        with pytest.raises(AttributeError, match="Not an output"):
            line.value = True
        line.direction = digitalio.Direction.OUTPUT
        line.value = False
        assert line.value is False
        line.switch_to_input(pull=digitalio.Pull.UP)
        assert line.pull == "up"
    with pytest.raises(ValueError, match="No Hardware SPI"):
        busio.SPI(board.D5)
    assert repr(board.D5) == "D5"
