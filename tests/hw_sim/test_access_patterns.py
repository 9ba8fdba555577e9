"""Known drivers' register sequences (SX127x notes, 12.3) and scheduled windows, played in lock-step on strict chips."""

import pytest

from hw_sim import registers as reg
from hw_sim.air import Air
from hw_sim.board import Board
from hw_sim.edges import Trigger
from hw_sim.hosts import LocalHost
from hw_sim.kernel import Kernel
from hw_sim.links import AirSettings
from hw_sim.records import Fate
from hw_sim.sx1276 import SX1276

US, MS, S = 1_000, 1_000_000, 1_000_000_000


class Pi:
    """One chip on a machine of its own; `w` and `r` are the notes' W and R."""

    def __init__(self, kernel, air, name, x_m):
        self.kernel = kernel
        self.chip = SX1276(kernel, name)
        air.add(self.chip, x_m)
        board = Board(kernel)
        board.connect(self.chip, (0, 0), {0: 4, 1: 23}, reset=17)
        self.host = LocalHost(kernel, board)
        self.watch = self.host.watch({4: Trigger.RISING, 23: Trigger.RISING})
        self.writes = 0

    def w(self, address, *values):
        self.writes += 1
        return self.host.xfer(0, 0, bytes((address | 0x80, *values)))

    def r(self, address, count=1):
        data = self.host.xfer(0, 0, bytes((address,)) + bytes(count))[1:]
        return data[0] if count == 1 else data

    def wait(self, line, limit_ns=5 * S):
        """The time `line` rose."""
        until = self.host.now_ns() + limit_ns
        while self.host.now_ns() < until:
            self.host.wait((self.watch,), until)
            for edge in self.host.take(self.watch):
                if edge.line == line:
                    return edge.t_ns
        raise AssertionError(f"line {line} did not rise")


class RadioLib(Pi):
    """RadioLib 7's SX1276, as observed."""

    def verified(self, address, value, mask=0xFF):
        self.w(address, value)
        assert self.r(address) & mask == value & mask, f"{address:02X}"

    def begin(self):
        self.host.write_pin(17, False)
        self.host.delay(MS)
        self.host.write_pin(17, True)
        self.host.delay(5 * MS)
        assert self.r(0x42) == 0x12
        assert self.r(0x01) == 0x09
        self.verified(0x01, 0x08)
        self.w(0x01, 0x88)
        assert self.r(0x01) == 0x80
        self.verified(0x01, 0x81)
        self.verified(0x39, 0x34)
        self.verified(0x0B, 0x23)
        for address, value in (
            (0x06, 0xD9),
            (0x07, 0x06),
            (0x08, 0x66),
            (0x09, 0xCF),
            (0x09, 0xFC),
            (0x0C, 0x23),
        ):
            self.verified(address, value)
        self.verified(0x1E, 0x74)

    def transmit(self, payload):
        self.w(0x01, 0x81)
        assert self.r(0x01) == 0x81
        self.verified(0x40, 0x40)
        self.w(0x12, 0xFF)
        self.verified(0x22, len(payload))
        self.verified(0x0E, 0x00)
        self.w(0x0D, 0x00)
        self.w(0x00, *payload)
        self.w(0x01, 0x83)
        assert self.r(0x01) == 0x83
        risen = self.wait(4)
        self.w(0x12, 0xFF)
        assert self.r(0x01) == 0x81
        return risen

    def start_receive(self):
        self.w(0x01, 0x81)
        self.verified(0x40, 0x00)
        self.w(0x12, 0xFF)
        for address in (0x0F, 0x0D):
            self.verified(address, 0)
        self.w(0x01, 0x85)

    def read_data(self):
        length = self.r(0x13)
        flags = self.r(0x12)
        crc_on = bool(self.r(0x1C) & 0x40)
        self.w(0x0D, self.r(0x10))
        payload = self.r(0x00, length)
        self.w(0x12, 0xFF)
        return bytes((payload,)) if length == 1 else payload, flags, crc_on


class LoRaMacNode(Pi):
    """LoRaMac-node's SX1276 driver, as observed."""

    def begin(self):
        self.host.write_pin(17, False)
        self.host.delay(MS)
        self.host.write_pin(17, True)
        self.host.delay(6 * MS)
        pa_config = self.r(0x09)
        self.w(0x09, 0x00)
        for _ in range(2):  # low, then high frequency band
            self.w(0x3B, 0xC2)
            while self.r(0x3B) & 0x20:
                self.host.delay(MS)
            self.w(0x06, 0xD9, 0x00, 0x00)
        self.w(0x09, pa_config)
        self.w(0x01, 0x08)
        for address, value in (
            (0x0C, 0x23), (0x0D, 0x1E), (0x0E, 0xD2), (0x1A, 0x01), (0x1F, 0xAA), (0x24, 0x07), (0x27, 0x12),
            (0x28, 0xC1), (0x29, 0x94), (0x2A, 0xC1), (0x30, 0xD8), (0x35, 0x9F), (0x3B, 0x02), (0x40, 0x00),
            (0x41, 0x30),
        ):  # fmt: skip
            self.w(address, value)
        self.w(0x01, 0x80)
        self.w(0x23, 0x40)
        self.w(0x39, 0x34)

    def random(self):
        self.w(0x11, 0xFF)
        self.w(0x01, 0x81)
        self.w(0x01, 0x85)
        bits = 0
        for i in range(32):
            self.host.delay(MS)
            bits |= (self.r(0x2C) & 1) << i
        self.w(0x01, 0x80)
        return bits

    def uplink(self, payload):
        self.w(0x06, 0xD9, 0x06, 0x66)
        self.w(0x01, 0x81)
        self.w(0x09, 0xFC)
        self.w(0x4D, 0x84)
        self.w(0x1D, 0x72)
        self.w(0x1E, 0x74)
        self.w(0x26, 0x04)
        self.w(0x20, 0x00)
        self.w(0x21, 0x08)
        self.w(0x31, 0xC3)
        self.w(0x37, 0x0A)
        self.w(0x23, len(payload))
        self.w(0x33, 0x27)
        self.w(0x3B, 0x1D)
        self.w(0x22, len(payload))
        self.w(0x0E, 0x00)
        self.w(0x0D, 0x00)
        self.w(0x00, *payload)
        self.w(0x11, 0xF7)
        self.w(0x40, 0x40)
        self.w(0x01, 0x83)
        risen = self.wait(4)
        self.w(0x12, 0x08)
        self.w(0x01, 0x80)
        return risen

    def rx1(self, at_ns):
        """Open the window; the payload, or None after RxTimeout."""
        self.host.kernel.client_here().delay_until(at_ns)
        self.w(0x01, 0x81)
        self.w(0x1E, 0x70)
        self.w(0x1F, 0x18)
        self.w(0x36, 0x03)
        self.w(0x31, 0xC3)
        self.w(0x37, 0x0A)
        self.w(0x23, 0xFF)
        self.w(0x33, 0x67)
        self.w(0x3B, 0x19)
        self.w(0x31, 0x43)
        self.w(0x30, 0x00)
        self.w(0x2F, 0x40)
        self.w(0x11, 0x1F)
        self.w(0x40, 0x00)
        self.w(0x0F, 0x00)
        self.w(0x0D, 0x00)
        self.w(0x01, 0x86)
        self.host.wait((self.watch,), None)
        self.host.take(self.watch)
        flags = self.r(0x12)
        self.w(0x12, flags)
        if not flags & 0x40:
            return None
        self.w(0x0D, self.r(0x10))
        return self.r(0x00, self.r(0x13))


@pytest.fixture
def air(kernel):
    return Air(kernel, AirSettings(fading_db=0.0))


def play(kernel, *parts, until_ns=20 * S):
    """Run drivers side by side; what each returned."""
    results = {}
    for i, part in enumerate(parts):
        kernel.spawn(lambda i=i, part=part: results.update({i: part()}), f"driver{i}")
    kernel.run_until(until_ns)
    return [results[i] for i in range(len(parts))]


def test_radiolib_begins_without_a_complaint(kernel, air):
    pi = RadioLib(kernel, air, "a", 0)
    play(kernel, pi.begin)
    assert pi.chip._regs[reg.FRF_MSB : reg.FRF_LSB + 1] == b"\xd9\x06\x66"
    assert pi.chip.mode == reg.STDBY
    assert set(pi.chip.warnings) <= {"LongRangeMode changed outside SLEEP"}


def test_radiolib_sends_to_radiolib(kernel, air):
    sender, receiver = RadioLib(kernel, air, "a", 0), RadioLib(kernel, air, "b", 200)

    def send():
        sender.begin()
        sender.host.delay(50 * MS)
        return [sender.transmit(b"hello number" + bytes((i,))) for i in range(3)]

    def receive():
        receiver.begin()
        receiver.start_receive()
        got = []
        for _ in range(3):
            risen = receiver.wait(4)
            got.append((risen, *receiver.read_data()))
        return got

    sent, got = play(kernel, send, receive)
    assert [payload for _, payload, _, _ in got] == [b"hello number" + bytes((i,)) for i in range(3)]
    assert all(flags == 0x50 and crc_on for _, _, flags, crc_on in got)
    assert [risen for risen, *_ in got] == sent  # at SF7 RxDone has no latency


def test_radiolib_single_receive_times_out_after_20_symbols(kernel, air):
    pi = RadioLib(kernel, air, "a", 0)

    def work():
        pi.begin()
        pi.w(0x12, 0xFF)
        pi.w(0x1F, 0x14)
        began = pi.host.now_ns()
        pi.w(0x01, 0x86)
        return pi.wait(23) - began

    (took,) = play(kernel, work)
    assert took == pytest.approx(20 * 1_024_000, abs=200 * US)


@pytest.mark.parametrize(("busy", "line"), [(False, 4), (True, 23)])
def test_radiolib_scans_a_channel(kernel, air, busy, line):
    scanner, sender = RadioLib(kernel, air, "scanner", 0), RadioLib(kernel, air, "sender", 100)

    def scan():
        scanner.begin()
        scanner.host.kernel.client_here().delay_until(100 * MS)
        scanner.w(0x12, 0xFF)
        scanner.w(0x40, 0xA0)
        scanner.w(0x01, 0x87)
        scanner.wait(line)
        return scanner.r(0x12)

    def send():
        sender.begin()
        if busy:
            sender.host.kernel.client_here().delay_until(98 * MS)
            sender.transmit(b"x")

    flags, _ = play(kernel, scan, send)
    assert flags == (0x05 if busy else 0x04)


def test_loramac_node_initialises_both_register_pages(kernel, air):
    pi = LoRaMacNode(kernel, air, "node", 0)

    def work():
        pi.begin()
        return [pi.random() for _ in range(2)]

    ((first, second),) = play(kernel, work)
    assert first != second
    assert pi.chip._regs[0x23] == 0x40
    assert pi.chip._regs[0x24] == 0x00
    assert pi.chip._regs[0x3B] == 0x1D


# The device opens RX1 1 s after TxDone less 10 ms, for 24 symbols: five upchirps fall in from -13 to +9.5 ms.
@pytest.mark.parametrize(
    ("late_ms", "heard"), [(-16, False), (-6, True), (0, True), (6, True), (9, True), (22, False)]
)
def test_loramac_node_uplink_and_rx1_against_radiolib_as_gateway(kernel, air, late_ms, heard):
    node, gateway = LoRaMacNode(kernel, air, "node", 300), RadioLib(kernel, air, "gateway", 0)

    def device():
        node.begin()
        node.host.delay(20 * MS)
        risen = node.uplink(b"uplink payload")
        return node.rx1(risen + S - 10 * MS)

    def answer():
        gateway.begin()
        gateway.start_receive()
        risen = gateway.wait(4)
        payload, _, crc_on = gateway.read_data()
        gateway.w(0x01, 0x81)
        gateway.w(0x1E, 0x70)
        gateway.w(0x33, 0x26)
        gateway.w(0x3B, 0x19)
        gateway.host.kernel.client_here().delay_until(risen + S + late_ms * MS - 2 * MS)
        gateway.transmit(b"downlink")
        return payload, crc_on

    downlink, uplink = play(kernel, device, answer)
    assert uplink == (b"uplink payload", True)
    assert downlink == (b"downlink" if heard else None)
    fate = {frame.sender: frame.fate("node") for frame in air.records.frames}["gateway"]
    assert (fate is Fate.RECEIVED) is heard


def test_a_driver_that_polls_flags_gets_there_too():
    kernel = Kernel()
    air = Air(kernel, AirSettings(fading_db=0.0))
    pi = RadioLib(kernel, air, "polling", 0)

    def work():
        pi.begin()
        pi.w(0x40, 0x00)  # no line tells of TxDone
        pi.w(0x22, 1)
        pi.w(0x01, 0x83)
        polls = 0
        while not pi.r(0x12) & 0x08:
            polls += 1
        return polls

    (polls,) = play(kernel, work)
    assert 500 < polls < 3000
    kernel.close()
