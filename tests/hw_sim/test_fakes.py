"""The fake modules, called as drivers call the real ones."""

import select
import sys
import threading
from datetime import timedelta

import pytest

from hw_sim import fakes
from hw_sim.board import Board
from hw_sim.fakes import rpi_gpio as rpi_gpio_module
from hw_sim.hosts import FreeHost, LocalHost
from hw_sim.kernel import Kernel
from hw_sim.sx1276 import SX1276

US, MS, S = 1_000, 1_000_000, 1_000_000_000


@pytest.fixture
def chip(kernel):
    return SX1276(kernel, "chip")


@pytest.fixture
def host(kernel, chip):
    board = Board(kernel)
    board.connect(chip, (0, 0), {0: 4}, reset=17)
    host = LocalHost(kernel, board)
    fakes.install(host)
    yield host
    fakes.uninstall()


@pytest.fixture
def level(host):
    return lambda line, value: host.board.set_level(line, value)


# -- sys.modules ---------------------------------------------------------------------------------------


def test_installing_puts_the_modules_where_import_finds_them(host):
    import gpiod.line
    import spidev
    from RPi import GPIO

    assert spidev.__name__ == "hw_sim.fakes.spidev"
    assert gpiod.line.Value.ACTIVE
    assert GPIO.BCM == 11


def test_uninstalling_gives_back_what_was_there(host):
    fakes.install(host)
    sentinel = sys.modules["spidev"]
    fakes.uninstall()
    assert sys.modules.get("spidev") is not sentinel
    assert "RPi.GPIO" not in sys.modules or sys.modules["RPi.GPIO"] is not rpi_gpio_module
    with pytest.raises(RuntimeError, match="install"):
        sentinel.SpiDev(0, 0)
    fakes.install(host)


# -- spidev --------------------------------------------------------------------------------------------


def test_spidev_transfers_lists_bytes_and_tuples_and_gives_lists(host):
    import spidev

    with spidev.SpiDev(0, 0) as spi:
        for values in ([0x42, 0], (0x42, 0), b"\x42\x00", bytearray(b"\x42\x00"), memoryview(b"\x42\x00")):
            assert spi.xfer(values) == [0, 0x12]
            assert spi.xfer2(values) == [0, 0x12]
            assert spi.xfer3(values) == (0, 0x12)


def test_spidev_reads_and_writes(host):
    import spidev

    spi = spidev.SpiDev()
    spi.open_path("/dev/spidev0.0")
    spi.writebytes([0x86, 0xD9])
    spi.writebytes2(b"\x87\x06")
    assert spi.xfer2([0x06, 0, 0]) == [0, 0xD9, 0x06]
    assert len(spi.readbytes(3)) == 3
    assert spi.readbytes(0) == []


def test_spidev_has_the_attributes_drivers_set(host):
    import spidev

    spi = spidev.SpiDev()
    for name, value in {"mode": 3, "max_speed_hz": 1, "bits_per_word": 8, "lsbfirst": True, "cshigh": True,
                        "no_cs": True, "loop": True, "threewire": True, "read0": True}.items():  # fmt: skip
        setattr(spi, name, value)
        assert getattr(spi, name) == value
    assert isinstance(spi.fileno(), int)


def test_spidev_clock_decides_how_long_a_transfer_takes(host, kernel):
    import spidev

    spi = spidev.SpiDev(0, 0)
    spi.max_speed_hz = 1_000_000
    began = host.now_ns()
    spi.xfer2([0x42, 0])
    assert host.now_ns() - began == 36 * US
    spi.xfer2([0x42, 0], 8_000_000, 100)
    assert host.now_ns() - began == (36 + 22 + 100) * US


def test_spidev_errors_are_those_of_the_library(host):
    import spidev

    with pytest.raises(FileNotFoundError):
        spidev.SpiDev(3, 1)
    with pytest.raises(FileNotFoundError):
        spidev.SpiDev().open_path("/dev/null")
    spi = spidev.SpiDev(0, 0)
    with pytest.raises(OverflowError):
        spi.xfer2([0] * 4097)
    assert len(spi.xfer3([0x42] + [0] * 4096)) == 4097
    for nonsense in ([], [256], [-1]):
        with pytest.raises(TypeError):
            spi.xfer2(nonsense)
    spi.close()
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        spi.xfer2([0])
    assert caught.value.errno == 9


# -- gpiod ---------------------------------------------------------------------------------------------


def test_gpiod_finds_one_chip_by_its_label(host):
    import glob

    import gpiod

    (path,) = glob.glob("/dev/gpiochip*")
    assert gpiod.is_gpiochip_device(path)
    assert not gpiod.is_gpiochip_device("/dev/null")
    with gpiod.Chip(path) as chip:
        assert chip.get_info().label == "pinctrl-bcm2711"
    assert not chip
    with pytest.raises(FileNotFoundError):
        gpiod.Chip("/dev/gpiochip7")


def edges_of(line=20, **settings):
    import gpiod
    from gpiod.line import Direction, Edge

    settings = {"direction": Direction.INPUT, "edge_detection": Edge.BOTH} | settings
    return gpiod.request_lines(
        "/dev/gpiochip0", consumer="test", config={line: gpiod.LineSettings(**settings)}
    )


def test_gpiod_events_carry_line_time_and_numbers(host, level, kernel):
    import gpiod

    with edges_of() as request:
        kernel.at(MS, lambda: level(20, True))
        kernel.at(2 * MS, lambda: level(20, False))
        kernel.run_until(3 * MS)
        up, down = request.read_edge_events()
    assert (up.event_type, up.timestamp_ns, up.line_offset) == (gpiod.EdgeEvent.Type.RISING_EDGE, MS, 20)
    assert (down.event_type, down.timestamp_ns) == (gpiod.EdgeEvent.Type.FALLING_EDGE, 2 * MS)
    assert [(e.line_seqno, e.global_seqno) for e in (up, down)] == [(1, 1), (2, 2)]


def test_gpiod_descriptor_really_polls(host, level):
    with edges_of() as request:
        poller = select.poll()
        poller.register(request.fd, select.POLLIN)
        assert request.fileno() == request.fd
        assert poller.poll(0) == []
        level(20, True)
        assert poller.poll(0)
        request.read_edge_events(max_events=10)
        assert poller.poll(0) == []


def test_gpiod_waits_in_virtual_time(host, level, kernel):
    with edges_of() as request:
        assert not request.wait_edge_events(0)
        assert not request.wait_edge_events(0.005)
        assert host.now_ns() // MS == 5
        kernel.after(MS, lambda: level(20, True))
        assert request.wait_edge_events(timedelta(seconds=1))
        assert host.now_ns() // MS == 6
        kernel.after(MS, lambda: level(20, False))
        assert len(request.read_edge_events()) == 1
        assert len(request.read_edge_events()) == 1


def test_gpiod_reads_and_drives_lines(host):
    import gpiod
    from gpiod.line import Direction, Value

    config = {
        (5, "GPIO6"): gpiod.LineSettings(direction=Direction.OUTPUT, output_value=Value.ACTIVE),
        7: None,
    }
    with gpiod.Chip("/dev/gpiochip0").request_lines(config, consumer="test") as request:
        assert request.offsets == [5, 6, 7]
        assert request.get_values() == [Value.ACTIVE, Value.ACTIVE, Value.INACTIVE]
        request.set_value(5, Value.INACTIVE)
        request.set_values({6: Value.INACTIVE})
        assert request.get_values([5, 6]) == [Value.INACTIVE, Value.INACTIVE]
        with pytest.raises(PermissionError):
            request.set_value(7, Value.ACTIVE)


def test_gpiod_active_low_turns_levels_and_edges_round(host, level):
    import gpiod
    from gpiod.line import Edge, Value

    with edges_of(active_low=True, edge_detection=Edge.RISING) as request:
        assert request.get_value(20) is Value.ACTIVE
        level(20, True)
        level(20, False)
        (event,) = request.read_edge_events()
        assert event.event_type is gpiod.EdgeEvent.Type.RISING_EDGE


def test_gpiod_lines_belong_to_one_request_at_a_time(host):
    import gpiod

    request = edges_of()
    with pytest.raises(OSError, match="busy"):
        edges_of()
    request.release()
    with pytest.raises(gpiod.RequestReleasedError):
        request.get_value(20)
    edges_of().release()


def test_lines_nobody_released_are_free_on_the_next_machine(host):
    edges_of()
    fakes.uninstall()
    fakes.install(host)
    edges_of().release()


def test_gpiod_reconfigures_lines(host, level):
    import gpiod
    from gpiod.line import Direction, Edge, Value

    with edges_of() as request:
        level(20, True)
        request.reconfigure_lines(
            {20: gpiod.LineSettings(direction=Direction.INPUT, edge_detection=Edge.NONE)}
        )
        level(20, False)
        assert not request.wait_edge_events(0)
        output = gpiod.LineSettings(direction=Direction.OUTPUT, output_value=Value.ACTIVE)
        request.reconfigure_lines({20: output})
        assert request.get_value(20) is Value.ACTIVE


def test_gpiod_refuses_lines_the_chip_does_not_have(host):
    with pytest.raises(ValueError, match="range"):
        edges_of(58)


# -- RPi.GPIO ------------------------------------------------------------------------------------------


@pytest.fixture
def gpio(host):
    from RPi import GPIO

    GPIO.setmode(GPIO.BCM)
    yield GPIO
    GPIO.cleanup()
    GPIO.setwarnings(True)


def test_rpi_gpio_needs_a_numbering_and_a_setup(host):
    from RPi import GPIO

    with pytest.raises(RuntimeError, match="setmode"):
        GPIO.setup(4, GPIO.IN)
    GPIO.setmode(GPIO.BCM)
    assert GPIO.getmode() == GPIO.BCM
    with pytest.raises(ValueError, match="different"):
        GPIO.setmode(GPIO.BOARD)
    with pytest.raises(RuntimeError, match="setup"):
        GPIO.input(4)
    with pytest.raises(RuntimeError, match="OUTPUT"):
        GPIO.output(4, 1)
    GPIO.cleanup()
    assert GPIO.getmode() is None
    GPIO.setmode(GPIO.BOARD)
    GPIO.cleanup()


def test_rpi_gpio_counts_header_pins_in_board_mode(host):
    from RPi import GPIO

    GPIO.setmode(GPIO.BOARD)
    GPIO.setup(7, GPIO.OUT, initial=GPIO.HIGH)  # pin 7 is BCM 4
    assert host.read_pin(4)
    with pytest.raises(ValueError, match="invalid"):
        GPIO.setup(1, GPIO.OUT)  # 3.3 V
    GPIO.cleanup()


def test_rpi_gpio_drives_lists_of_channels(gpio, host):
    gpio.setup([20, 21], gpio.OUT, initial=gpio.LOW)
    gpio.output((20, 21), (gpio.HIGH, gpio.LOW))
    assert (gpio.input(20), gpio.input(21)) == (1, 0)
    gpio.output([20, 21], True)
    assert (gpio.input(20), gpio.input(21)) == (1, 1)
    with pytest.raises(RuntimeError, match="Number"):
        gpio.output([20, 21], [1])
    assert gpio.gpio_function(20) == gpio.OUT
    assert gpio.gpio_function(22) == gpio.UNKNOWN


def test_rpi_gpio_warns_of_a_channel_in_use(gpio):
    gpio.setup(20, gpio.IN)
    with pytest.warns(RuntimeWarning, match="already in use"):
        gpio.setup(20, gpio.IN)
    gpio.setwarnings(False)
    gpio.setup(20, gpio.IN)


def test_rpi_gpio_callbacks_get_the_channel_from_one_thread_and_may_raise(gpio, level, kernel, caplog):
    calls = []

    def callback(channel):
        calls.append((channel, threading.current_thread().name))
        if len(calls) == 1:
            raise ZeroDivisionError

    gpio.setup([20, 21], gpio.IN)
    gpio.add_event_detect(20, gpio.RISING, callback=callback)
    gpio.add_event_detect(21, gpio.FALLING)
    gpio.add_event_callback(21, callback)
    for t_ms, line, value in ((1, 20, True), (2, 21, True), (3, 21, False), (4, 20, False), (5, 20, True)):
        kernel.at(t_ms * MS, lambda line=line, value=value: level(line, value))
    kernel.run_until(10 * MS)
    assert calls == [(20, "RPi.GPIO"), (21, "RPi.GPIO"), (20, "RPi.GPIO")]
    assert "an edge callback failed" in caplog.text
    assert gpio.event_detected(20)
    assert not gpio.event_detected(20)
    assert not gpio.event_detected(22)


def test_rpi_gpio_bounce_time_really_drops_edges(gpio, level, kernel):
    calls = []
    gpio.setup(20, gpio.IN)
    gpio.add_event_detect(20, gpio.BOTH, callback=calls.append, bouncetime=5)
    for t_ms in range(1, 11):
        kernel.at(t_ms * MS, lambda value=bool(t_ms % 2): level(20, value))
    kernel.run_until(20 * MS)
    assert len(calls) == 2


def test_rpi_gpio_watches_a_channel_once(gpio, level, kernel):
    calls = []
    gpio.setup(20, gpio.IN)
    gpio.add_event_detect(20, gpio.RISING, callback=calls.append)
    with pytest.raises(RuntimeError, match="Conflicting"):
        gpio.add_event_detect(20, gpio.RISING)
    gpio.remove_event_detect(20)
    gpio.remove_event_detect(20)
    kernel.after(MS, lambda: level(20, True))
    kernel.run_until(kernel.now_ns + 5 * MS)
    assert calls == []
    with pytest.raises(RuntimeError, match="first"):
        gpio.add_event_callback(20, calls.append)
    with pytest.raises(RuntimeError, match="input"):
        gpio.add_event_detect(21, gpio.RISING)
    with pytest.raises(ValueError, match="edge"):
        gpio.add_event_detect(20, 7)


def test_rpi_gpio_can_fail_as_on_kernels_from_6_6_on(gpio, monkeypatch):
    monkeypatch.setattr(gpio, "emulate_broken_edges", True)
    gpio.setup(20, gpio.IN)
    with pytest.raises(RuntimeError, match="Failed to add edge detection"):
        gpio.add_event_detect(20, gpio.RISING)


def test_rpi_gpio_waits_for_an_edge_in_virtual_time(gpio, host, level, kernel):
    gpio.setup(20, gpio.IN)
    assert gpio.wait_for_edge(20, gpio.RISING, timeout=5) is None
    assert host.now_ns() // MS == 5
    kernel.after(3 * MS, lambda: level(20, True))
    assert gpio.wait_for_edge(20, gpio.RISING) == 20
    assert host.now_ns() // MS == 8


def test_rpi_gpio_pwm_checks_its_arguments(gpio):
    gpio.setup(20, gpio.OUT)
    pwm = gpio.PWM(20, 100)
    pwm.start(50)
    pwm.ChangeFrequency(50)
    with pytest.raises(ValueError, match="dutycycle"):
        pwm.ChangeDutyCycle(101)
    with pytest.raises(ValueError, match="frequency"):
        pwm.ChangeFrequency(0)
    pwm.stop()
    with pytest.raises(RuntimeError):
        gpio.PWM(21, 1)


# -- lgpio ---------------------------------------------------------------------------------------------


def test_lgpio_claims_reads_and_writes(host):
    import lgpio

    handle = lgpio.gpiochip_open(0)
    lgpio.gpio_claim_output(handle, 20, 1)
    assert lgpio.gpio_read(handle, 20) == 1
    lgpio.gpio_write(handle, 20, 0)
    assert lgpio.gpio_read(handle, 20) == 0
    lgpio.gpio_claim_input(handle, 21)
    for call in (
        lambda: lgpio.gpio_write(handle, 21, 1),
        lambda: lgpio.gpio_read(handle + 1, 20),
        lambda: lgpio.gpiochip_open(9),
        lambda: lgpio.gpio_claim_input(lgpio.gpiochip_open(0), 20),
        lambda: lgpio.gpio_free(handle, 22),
        lambda: lgpio.callback(handle, 22),
        lambda: lgpio.gpio_claim_alert(handle, 22, 9),
    ):
        with pytest.raises(lgpio.error):
            call()
    assert lgpio.gpio_free(handle, 20) == 0
    assert lgpio.gpiochip_close(handle) == 0


def test_lgpio_callbacks_carry_chip_line_level_and_time(host, level, kernel):
    import lgpio

    calls = []
    handle = lgpio.gpiochip_open(0)
    lgpio.gpio_claim_alert(handle, 20, lgpio.BOTH_EDGES)
    lgpio.gpio_set_debounce_micros(handle, 20, 500)
    callback = lgpio.callback(handle, 20, lgpio.BOTH_EDGES, lambda *args: calls.append(args))
    for t_us, value in ((1000, True), (1200, False), (2000, True), (3000, False)):
        kernel.at(t_us * US, lambda value=value: level(20, value))
    kernel.run_until(2500 * US)
    callback.cancel()
    kernel.run_until(5 * MS)
    assert calls == [(handle, 20, 1, MS), (handle, 20, 1, 2 * MS)]


# -- without lock-step -----------------------------------------------------------------------------------


def test_fakes_work_for_code_with_its_own_clock_in_a_real_time_run():
    import time

    kernel = Kernel()
    board = Board(kernel)
    chip = SX1276(kernel, "chip")
    board.connect(chip, (0, 0), {0: 4})
    runner = threading.Thread(target=lambda: kernel.run(pace=1.0))
    fakes.install(FreeHost(kernel, board))
    runner.start()
    try:
        import spidev
        from RPi import GPIO

        called = threading.Event()
        GPIO.setmode(GPIO.BCM)
        GPIO.setup(4, GPIO.IN)
        GPIO.add_event_detect(4, GPIO.RISING, callback=lambda channel: called.set())
        spi = spidev.SpiDev(0, 0)
        before_ns = time.monotonic_ns()
        for transfer in ([0x81, 0x80], [0x81, 0x81], [0xC0, 0x40], [0x81, 0x83]):
            spi.xfer2(transfer)
        assert called.wait(10)
        after_ns = time.monotonic_ns()
        GPIO.cleanup()
        request = edges_of(4)
        spi.xfer2([0x92, 0xFF])
        spi.xfer2([0x81, 0x83])
        assert request.wait_edge_events(10.0)
        stamps = [event.timestamp_ns for event in request.read_edge_events()]
        request.release()
        assert before_ns < after_ns < stamps[-1] + 1_000_000_000
        assert all(before_ns <= stamp <= time.monotonic_ns() for stamp in stamps)
    finally:
        fakes.uninstall()
        kernel.stop()
        runner.join(10)
        kernel.close()
