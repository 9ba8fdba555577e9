"""Section 4 of the SX127x notes: the FIFO and its three pointers, row by row."""

from hw_sim import registers as reg
from hw_sim.records import Fate

MS, S = 1_000_000, 1_000_000_000


def test_spi_pointer_moves_by_one_a_byte_read_or_written_and_wraps(bench):
    bench.lora()
    bench.write(reg.FIFO_ADDR_PTR, 0xFE)
    bench.write(reg.FIFO, 1, 2, 3)
    assert bench.read(reg.FIFO_ADDR_PTR) == 0x01
    bench.write(reg.FIFO_ADDR_PTR, 0xFF)
    assert bench.burst(reg.FIFO, 2) == b"\x02\x03"
    assert bench.read(reg.FIFO_ADDR_PTR) == 0x01


def test_rx_done_leaves_start_length_and_last_byte_address(link):
    link.rx.write(reg.FIFO_RX_BASE, 0x40)
    link.rx.write(reg.OP_MODE, 0x85)
    link.send(b"payload")
    assert link.rx.read(reg.FIFO_RX_CURRENT) == 0x40
    assert link.rx.read(reg.RX_NB_BYTES) == 7
    assert link.rx.read(reg.FIFO_RX_BYTE_ADDR) == 0x46
    assert link.rx.fetch() == b"payload"


def test_in_rxcont_the_write_pointer_continues_after_each_packet(link):
    link.rx.write(reg.OP_MODE, 0x85)
    starts = []
    for text in (b"first", b"second", b"third"):
        link.send(text)
        starts.append(link.rx.read(reg.FIFO_RX_CURRENT))
        assert link.rx.fetch() == text
    assert starts == [0, 5, 11]


def test_the_write_pointer_walks_through_the_tx_half_and_wraps_at_256(link):
    link.rx.write(reg.OP_MODE, 0x85)
    starts = []
    for number in range(4):
        link.send(bytes((number,)) * 100)
        starts.append(link.rx.read(reg.FIFO_RX_CURRENT))
        assert link.rx.fetch() == bytes((number,)) * 100
    assert starts == [0, 100, 200, 44]


def test_reading_a_packet_does_not_move_the_receivers_pointer(link):
    link.rx.write(reg.OP_MODE, 0x85)
    link.send(b"abc")
    for _ in range(3):
        link.rx.fetch()
    link.send(b"def")
    assert link.rx.read(reg.FIFO_RX_CURRENT) == 3


def test_tx_sends_payload_length_bytes_from_the_tx_base_wherever_the_spi_pointer_stands(link):
    link.rx.write(reg.OP_MODE, 0x85)
    link.tx.write(reg.FIFO_TX_BASE, 0x20)
    link.tx.write(reg.FIFO_ADDR_PTR, 0x20)
    link.tx.write(reg.FIFO, *b"right here")
    link.tx.write(reg.FIFO_ADDR_PTR, 0x90)
    link.tx.write(reg.PAYLOAD_LENGTH, 5)
    link.tx.write(reg.OP_MODE, 0x83)
    link.run(S)
    assert link.rx.fetch() == b"right"


def test_a_driver_that_forgets_the_tx_base_sends_garbage(link):
    link.rx.write(reg.OP_MODE, 0x85)
    link.tx.write(reg.FIFO_TX_BASE, 0x80)  # as after a reset
    link.send(b"hello")
    assert link.last.payload == bytes(5)
    assert link.rx.fetch() == bytes(5)


def test_tx_wraps_at_256(link):
    link.tx.write(reg.FIFO_TX_BASE, 0xFE)
    link.tx.write(reg.FIFO_ADDR_PTR, 0xFE)
    link.tx.write(reg.FIFO, *b"wrap")
    link.tx.write(reg.PAYLOAD_LENGTH, 4)
    link.tx.write(reg.OP_MODE, 0x83)
    link.run(S)
    assert link.last.payload == b"wrap"


def test_a_payload_preloaded_while_receiving_may_be_overwritten_by_a_packet(link):
    link.rx.write(reg.OP_MODE, 0x85)
    link.rx.load(b"ours!")
    link.send(b"their")
    link.rx.write(reg.OP_MODE, 0x81)
    link.rx.write(reg.PAYLOAD_LENGTH, 5)
    link.rx.write(reg.OP_MODE, 0x83)
    link.run(S)
    assert link.last.payload == b"their"


def test_with_both_bases_at_zero_255_bytes_are_usable(link):
    link.rx.write(reg.OP_MODE, 0x85)
    payload = bytes(range(255))
    link.send(payload)
    assert link.rx.fetch() == payload
    assert link.fate() is Fate.RECEIVED


def test_status_registers_describe_the_last_packet_only(link):
    link.rx.write(reg.OP_MODE, 0x85)
    link.send(b"a longer one")
    link.send(b"short")
    assert link.rx.read(reg.RX_NB_BYTES) == 5
    assert link.rx.fetch() == b"short"
    assert link.rx.burst(reg.VALID_HEADER_CNT, 4) == b"\x00\x02\x00\x02"
