"""A simulated machine: boards, lock-step hosts, the clock of the radio code, and the radio itself on all of it."""

import threading

import pytest

from hw_sim import registers as reg
from hw_sim.air import Air
from hw_sim.board import Board
from hw_sim.edges import QUEUE_LENGTH, Trigger, Watch
from hw_sim.errors import Misuse, NoSuchDevice
from hw_sim.hosts import LocalHost, SimBus, SimClock, SimLines
from hw_sim.kernel import Kernel
from hw_sim.links import AirSettings
from hw_sim.sx1276 import SX1276
from radio.boards import get_board

US, MS, S = 1_000, 1_000_000, 1_000_000_000


@pytest.fixture
def chip(kernel):
    return SX1276(kernel, "chip")


@pytest.fixture
def host(kernel, chip):
    board = Board(kernel)
    board.connect(chip, (0, 1), {0: 4, 1: 23}, reset=17)
    return LocalHost(kernel, board)


def in_client(kernel, fn, until_ns=S):
    """Run `fn` as a lock-step client; give what it returned."""
    results = []
    kernel.spawn(lambda: results.append(fn()), "client")
    kernel.run_until(kernel.now_ns + until_ns)
    return results[0]


@pytest.mark.parametrize(
    "name", ["dragino-hat", "adafruit-bonnet", "uputronics-dual", "generic", "fluxgate-sim-4"]
)
def test_every_board_file_can_be_wired(kernel, name):
    radio_board = get_board(name)
    chips = [SX1276(kernel, f"m{i}") for i in range(len(radio_board.modules))]
    board = Board.wired(kernel, radio_board, chips)
    for wiring, chip in zip(radio_board.modules, chips, strict=True):
        assert board.chip(*wiring.spi) is chip
        chip.spi(bytes((0xC0, 0x40)))
        chip.spi(bytes((0x81, 0x80)))
        chip.raise_flags(reg.TX_DONE)
        assert board.level(wiring.dio0)
        if wiring.reset is not None:
            board.set_level(wiring.reset, False)
            with pytest.raises(Misuse):
                chip.spi(b"\x42\x00")


def test_an_spi_transfer_costs_its_bits_and_20_us(kernel, host):
    def work():
        began = host.now_ns()
        answer = host.xfer(0, 1, b"\x42\x00", 1_000_000)
        return answer, host.now_ns() - began

    assert in_client(kernel, work) == (b"\x00\x12", 20 * US + 16 * US + 200)


def test_a_plain_call_costs_200_ns(kernel, host):
    def work():
        began = host.now_ns()
        host.read_pin(4)
        host.write_pin(5, True)
        return host.now_ns() - began

    assert in_client(kernel, work) == 600


def test_delay_passes_exactly_so_much(kernel, host):
    def work():
        began = host.now_ns()
        host.delay(5 * MS)
        return host.now_ns() - began

    assert in_client(kernel, work) == 5 * MS + 200


def test_there_is_no_chip_where_none_is_wired(kernel, host):
    assert not host.has_spi(0, 0)
    with pytest.raises(NoSuchDevice):
        host.xfer(0, 0, b"\x42\x00")


def test_the_reset_line_resets_the_chip(kernel, host, chip):
    def work():
        host.xfer(0, 1, b"\x86\x11")
        host.write_pin(17, False)
        host.delay(MS)
        host.write_pin(17, True)
        host.delay(5 * MS)
        return host.xfer(0, 1, b"\x06\x00")[1]

    assert in_client(kernel, work) == 0x6C


def test_a_free_line_keeps_its_level_and_gives_edges(kernel, host):
    watch = host.watch({20: Trigger.BOTH})
    host.write_pin(20, True)
    host.write_pin(20, True)
    host.write_pin(20, False)
    assert [(e.rising, e.line_seqno) for e in host.take(watch)] == [(True, 1), (False, 2)]
    assert not host.read_pin(20)
    assert not host.read_pin(21)


def test_wait_ends_at_an_edge_with_the_time_of_the_edge(kernel, host, chip):
    watch = host.watch({4: Trigger.RISING})

    def work():
        for transfer in (b"\x81\x80", b"\x81\x81", b"\xc0\x40", b"\x81\x83"):
            host.xfer(0, 1, transfer)
        host.wait((watch,), None)
        (edge,) = host.take(watch)
        return edge, host.now_ns() - edge.t_ns

    edge, after = in_client(kernel, work)
    assert (edge.line, edge.rising) == (4, True)
    assert after < US


def test_wait_ends_at_its_limit_and_at_a_wake(kernel, host):
    wakers = []

    def work():
        began = host.now_ns()
        assert not host.wait((), began + 3 * MS)
        limit = host.now_ns() - began
        wakers.append(host.waker())
        kernel.at(kernel.now_ns + MS, lambda: threading.Thread(target=wakers[0]).start())
        assert host.wait((), None)
        return limit

    result = []
    kernel.spawn(lambda: result.append(work()), "client")
    kernel.run_until(10 * MS)
    while not result:  # the waking thread is outside lock-step
        kernel.run_until(kernel.now_ns + MS)
    assert result[0] // MS == 3


def test_a_watch_keeps_a_bounded_number_of_edges_and_its_numbers_show_what_is_missing(host):
    watch = host.watch({20: Trigger.RISING})
    for _ in range(QUEUE_LENGTH + 10):
        host.write_pin(20, True)
        host.write_pin(20, False)
    assert watch.dropped == 10
    edges = host.take(watch, QUEUE_LENGTH)
    host.write_pin(20, True)
    assert host.take(watch)[0].line_seqno - edges[-1].line_seqno == 11


def test_a_watch_has_a_descriptor_that_polls(host):
    import select

    watch = host.watch({20: Trigger.RISING})
    poller = select.poll()
    poller.register(watch.fileno(), select.POLLIN)
    assert poller.poll(0) == []
    host.write_pin(20, True)
    assert poller.poll(0)
    host.take(watch)
    assert poller.poll(0) == []
    host.unwatch(watch)


def test_a_watch_made_readable_late_shows_what_is_already_pending(host):
    import select

    watch = host.watch({20: Trigger.RISING})
    host.write_pin(20, True)
    poller = select.poll()
    poller.register(watch.fileno(), select.POLLIN)
    assert poller.poll(0)
    host.unwatch(watch)


def test_triggers_tell_directions_apart():
    watch = Watch({1: Trigger.RISING, 2: Trigger.FALLING, 3: Trigger.BOTH, 4: Trigger.NONE})
    for line in (1, 2, 3, 4, 5):
        watch.push(line, True, 0)
        watch.push(line, False, 0)
    assert [(e.line, e.rising) for e in watch.take()] == [(1, True), (2, False), (3, True), (3, False)]


def test_the_clock_of_the_seam_sleeps_exactly_and_wakes_early(kernel, host):
    clock = SimClock(host)

    def work():
        clock.sleep_until(7 * MS + 13)
        slept = clock.now_ns()
        clock.wake()
        clock.wait((), None)
        clock.wait((), slept + 2 * MS)
        return slept, clock.now_ns()

    slept, waited = in_client(kernel, work)
    assert slept == 7 * MS + 13 + 200
    assert 2 * MS <= waited - slept < 2 * MS + 2 * US


def test_a_wake_before_the_clocks_thread_has_ever_waited_is_not_lost(kernel, host):
    clock = SimClock(host)
    clock.wake()

    def work():
        clock.wait((), None)
        return clock.now_ns()

    assert in_client(kernel, work) < US


def test_the_clock_waits_for_the_lines_it_is_given_and_no_others(kernel, host):
    mine, others = SimLines(host, {"dio0": 20}), SimLines(host, {"dio0": 21})
    clock = SimClock(host)
    kernel.at(MS, lambda: host.board.set_level(21, True))
    kernel.at(2 * MS, lambda: host.board.set_level(20, True))

    def work():
        clock.wait((mine,), None)
        return [edge.line for edge in mine.read_edges()], clock.now_ns() // MS

    assert in_client(kernel, work) == (["dio0"], 2)
    others.close()
    mine.close()


def test_a_frame_goes_from_one_client_to_another_the_same_way_every_time():
    def play(seed):
        kernel = Kernel(seed)
        air = Air(kernel, AirSettings(fading_db=2.0))
        log = []
        for i in range(2):
            chip = SX1276(kernel, f"chip{i}")
            air.add(chip, 100.0 * i)
            board = Board(kernel)
            board.connect(chip, (0, 0), {0: 4})
            host = LocalHost(kernel, board)
            kernel.spawn(lambda i=i, host=host: station(i, host, log), f"station{i}")
        kernel.run_until(5 * S)
        kernel.close()
        return log

    def station(i, host, log):
        bus = SimBus(host, 0, 0)
        lines = SimLines(host, {"dio0": 4})
        clock = SimClock(host)
        for transfer in (
            b"\x81\x80",
            b"\x81\x81",
            bytes((0x89, 0xFC)),
            bytes((0x8E, 0, 0)),
            bytes((0xC0, 0x40 * i)),
        ):
            bus.xfer(transfer)
        for round_ in range(10):
            if i == 1:
                bus.xfer(bytes((0x8D, 0)))
                bus.xfer(bytes((0x80, *b"ping")))
                bus.xfer(bytes((0xA2, 4)))
                bus.xfer(b"\x81\x83")
                clock.wait((lines,), None)
                clock.sleep_until(clock.now_ns() + 50 * MS)
            else:
                bus.xfer(b"\x81\x85")
                clock.wait((lines,), 4 * S)
                log.append((round_, clock.now_ns(), bus.xfer(bytes((0x19, 0, 0)))))
            log.extend((edge.t_ns, i) for edge in lines.read_edges())
            bus.xfer(b"\x92\xff")

    first = play(3)
    assert len(first) == 30
    assert play(3) == first
    assert play(4) != first
