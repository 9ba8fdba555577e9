"""What a machine may lack, have wired wrong or locked: the sides of the fakes that a good day does not show."""

import fcntl

import pytest

from hw_sim import fakes
from hw_sim.board import Board
from hw_sim.fakes import packages
from hw_sim.hosts import LocalHost
from hw_sim.sx1276 import SX1276
from hw_sim.wiring import Fault, MiswiredHost, Wires

US, MS = 1_000, 1_000_000
VERSION = b"\x42\x00"


@pytest.fixture
def board(kernel):
    board = Board(kernel)
    board.connect(SX1276(kernel, "chip"), (0, 0), {0: 4}, reset=17)
    return board


@pytest.fixture
def host(kernel, board):
    host = LocalHost(kernel, board)
    fakes.install(host)
    yield host
    fakes.uninstall()


# -- libraries


def test_a_library_that_is_lacking_cannot_be_imported_until_the_machine_is_gone(host):
    packages.lack("gpiod", "RPi")
    with pytest.raises(ImportError):
        import gpiod
    with pytest.raises(ImportError):
        from gpiod.line import Clock  # noqa: F401
    with pytest.raises(ImportError):
        from RPi import GPIO  # noqa: F401
    fakes.uninstall()
    fakes.install(host)
    import gpiod

    assert gpiod.request_lines


def test_debians_libgpiod_1_has_its_own_interface(host):
    packages.have_libgpiod_1()
    import gpiod

    assert gpiod.version_string() == "1.6.3"
    assert not hasattr(gpiod, "request_lines")
    with pytest.raises(ImportError):
        from gpiod.line import Clock  # noqa: F401
    line = gpiod.Chip("gpiochip0").get_line(20)
    line.request(consumer="test", type=gpiod.LINE_REQ_DIR_OUT, default_val=1)
    assert line.get_value() == 1
    line.set_value(0)
    assert line.get_value() == 0
    line.release()
    with pytest.raises(FileNotFoundError):
        gpiod.Chip("gpiochip9")


def test_rpi_gpio_on_a_pi_5_does_not_know_the_board(host, monkeypatch):
    from RPi import GPIO

    monkeypatch.setattr(GPIO, "emulate_unknown_pi", True)
    GPIO.setmode(GPIO.BCM)
    with pytest.raises(RuntimeError, match="SOC peripheral base address"):
        GPIO.setup(4, GPIO.IN)
    GPIO.cleanup()


def test_lgpio_knows_its_chip_by_label(host):
    import lgpio

    handle = lgpio.gpiochip_open(0)
    assert lgpio.gpio_get_chip_info(handle) == [0, 58, "gpiochip0", "pinctrl-bcm2711"]
    with pytest.raises(lgpio.error):
        lgpio.gpio_get_chip_info(handle + 1)


# -- lines


def test_a_reset_line_that_is_let_go_is_pulled_up_by_its_chip(host, kernel):
    import gpiod
    from gpiod.line import Direction, Value

    output = gpiod.LineSettings(direction=Direction.OUTPUT, output_value=Value.INACTIVE)
    floating = gpiod.LineSettings(direction=Direction.INPUT)
    with gpiod.request_lines("/dev/gpiochip0", consumer="test", config={(17, 20): output}) as request:
        kernel.run_until(kernel.now_ns + MS)
        request.reconfigure_lines({(17, 20): floating})
        assert request.get_values([17, 20]) == [Value.ACTIVE, Value.INACTIVE]  # 20 leads nowhere


def test_lines_left_out_of_a_reconfiguration_lose_their_settings(host, kernel):
    import gpiod
    from gpiod.line import Direction, Edge

    rising = gpiod.LineSettings(direction=Direction.INPUT, edge_detection=Edge.RISING)
    with gpiod.request_lines("/dev/gpiochip0", consumer="test", config={(20, 21): rising}) as request:
        request.reconfigure_lines({20: rising})
        host.board.set_level(20, True)
        host.board.set_level(21, True)
        assert [event.line_offset for event in request.read_edge_events()] == [20]


# -- SPI


def test_a_device_file_can_be_locked_by_one_opener_at_a_time(host):
    import spidev

    first, second, closed = spidev.SpiDev(0, 0), spidev.SpiDev(0, 0), spidev.SpiDev()
    fcntl.flock(first.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    with pytest.raises(BlockingIOError):
        fcntl.flock(second.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    first.close()
    fcntl.flock(second.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    second.close()
    assert closed.fileno() == -1


def test_the_device_files_are_those_of_the_wired_chips(host):
    import glob

    assert glob.glob("/dev/spidev*") == ["/dev/spidev0.0"]


@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        (Fault.NOTHING, b"\x00\x12"),
        (Fault.NOBODY, b"\x00\x00"),
        (Fault.UNPOWERED, b"\x00\x00"),
        (Fault.SWAPPED, b"\x00\x00"),
        (Fault.PULLED_UP, b"\xff\xff"),
        (Fault.SHORTED, VERSION),
        (Fault.MISO_OPEN, b"\x00\x00"),
    ],
)
def test_a_wiring_fault_shows_on_miso(kernel, board, fault, answer):
    assert MiswiredHost(kernel, board, {(0, 0): Wires(fault)}).xfer(0, 0, VERSION) == answer


def test_writes_arrive_where_only_miso_is_open_and_nowhere_else(kernel, board):
    wires = Wires(Fault.NOTHING)
    host = MiswiredHost(kernel, board, {(0, 0): wires})
    host.xfer(0, 0, b"\x81\x00")
    host.xfer(0, 0, b"\x81\x80")  # the LoRa page
    wires.fault = Fault.MISO_OPEN
    host.xfer(0, 0, b"\xb9\x34")
    for fault in (Fault.SWAPPED, Fault.NOBODY, Fault.SHORTED, Fault.NOISY):
        wires.fault = fault
        host.xfer(0, 0, b"\xb9\x77")
    wires.fault = Fault.NOTHING
    assert host.xfer(0, 0, b"\x39\x00") == b"\x00\x34"


def test_wires_that_are_too_long_flip_bits_above_a_clock_and_never_below(kernel, board):
    host = MiswiredHost(kernel, board, {(0, 0): Wires(clean_up_to_hz=4_000_000)})
    fast = [host.xfer(0, 0, VERSION, 8_000_000) for _ in range(500)]
    slow = [host.xfer(0, 0, VERSION, 4_000_000) for _ in range(500)]
    assert set(slow) == {b"\x00\x12"}
    assert len(set(fast)) > 3


def test_an_empty_chip_select_has_a_device_file_and_nobody_behind_it(kernel, board):
    host = MiswiredHost(kernel, board, {(0, 1): Wires(Fault.NOBODY)})
    assert host.has_spi(0, 1)
    assert not host.has_spi(0, 2)
