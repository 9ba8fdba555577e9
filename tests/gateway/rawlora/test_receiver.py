"""Which node a frame is from, what is new, what is answered, and what strangers can leave behind."""

import random
import sqlite3
from contextlib import closing

import pytest

from gateway.rawlora import store
from gateway.rawlora.node import Header, Node, NodeError, NodeExists, UnknownNode
from gateway.rawlora.receiver import BURST, MAX_NODES, MAX_STRANGERS, SAME_NS, Receiver
from radio.gwmp import RxPacket
from radio.lora import SYNC_WORD_PRIVATE, LoRaModulation

SECOND = 10**9
GATEWAY = bytes(8)
SHED = Node(header=Header.RADIOHEAD, address=5, own_address=1, name="shed")
BARN = Node(header=Header.BYTE, address=5, place=1, name="barn")
WELL = Node(header=Header.SINGLE, freq_hz=868_450_000, name="well")


def rx(data: bytes, freq_hz: int = 868_300_000, stat: int = 1) -> RxPacket:
    return RxPacket(
        0, freq_hz, 1, 0, stat, LoRaModulation(8, 125_000), -70, 9.0, data, sync_word=SYNC_WORD_PRIVATE
    )


def take(receiver: Receiver, data: bytes, at_s: float = 1.0, **more):
    return receiver.take(rx(data, **more), GATEWAY, int(at_s * SECOND), int(at_s * SECOND))


def test_a_radiohead_node_is_known_by_its_from_and_answered_on_its_channel():
    receiver = Receiver([SHED])
    taken = take(receiver, bytes((1, 5, 7, 0)) + b"hi")
    assert (taken.reading.node, taken.reading.payload) == (SHED, b"hi")
    answer = taken.answer
    assert answer.data == bytes((5, 1, 7, 0x80)) + b"!"
    assert (answer.imme, answer.ipol, answer.ncrc, answer.sync_word) == (True, False, False, 0x12)
    assert (answer.freq_hz, answer.modulation) == (868_300_000, LoRaModulation(8, 125_000))


def test_a_repeated_datagram_is_acknowledged_and_not_published_again():
    receiver = Receiver([SHED])
    data = bytes((1, 5, 7, 0)) + b"hi"
    assert take(receiver, data, 1.0).reading is not None
    again = take(receiver, bytes((1, 5, 7, 0x40)) + b"hi", 1.3)
    assert again.reading is None
    assert again.answer is not None
    assert receiver.counters.duplicates == 1
    assert take(receiver, data, 2 + SAME_NS / 1e9).reading is not None, "IDs come round"
    assert take(receiver, bytes((1, 5, 7, 0)) + b"ho", 3 + SAME_NS / 1e9).reading is not None, (
        "it started over"
    )


def test_what_was_not_stored_is_new_when_it_is_repeated():
    receiver = Receiver([SHED])
    data = bytes((1, 5, 7, 0)) + b"hi"
    first = take(receiver, data, 1.0)
    receiver.not_stored(first.reading)
    assert take(receiver, data, 1.3).reading is not None


@pytest.mark.parametrize(
    ("data", "published", "answered"),
    [
        pytest.param(bytes((255, 5, 1, 0)) + b"x", True, False, id="a broadcast is heard and not answered"),
        pytest.param(bytes((9, 5, 1, 0)) + b"x", False, False, id="to somebody else"),
        pytest.param(bytes((1, 5, 1, 0x80)) + b"!", False, False, id="an acknowledgement"),
    ],
)
def test_only_what_is_for_the_gateway_is_answered(data, published, answered):
    taken = take(Receiver([SHED]), data)
    assert (taken.reading is not None, taken.answer is not None) == (published, answered)


def test_an_acknowledgement_can_be_left_out():
    silent = Node(header=Header.RADIOHEAD, address=5, acknowledge=False)
    taken = take(Receiver([silent]), bytes((0, 5, 1, 0)) + b"x")
    assert taken.reading is not None
    assert taken.answer is None


def test_plain_frames_are_known_by_a_byte_or_by_their_frequency():
    receiver = Receiver([SHED, BARN, WELL])
    shed = take(receiver, b"\x01\x05temp")
    assert (shed.reading.node.name, shed.reading.payload) == ("shed", b"mp"), "RadioHead's header comes first"
    barn = take(receiver, b"\x99\x05temp")
    assert (barn.reading.node.name, barn.reading.payload) == ("barn", b"temp")
    well = take(receiver, b"\x99\x06temp", freq_hz=868_450_000)
    assert (well.reading.node.name, well.reading.payload) == ("well", b"\x99\x06temp")
    assert take(receiver, b"\x99\x06temp").reading is None


def test_a_node_on_a_frequency_comes_before_one_on_any():
    near = Node(header=Header.RADIOHEAD, address=5, freq_hz=868_450_000, name="near")
    receiver = Receiver([SHED, near])
    assert take(receiver, bytes((0, 5, 1, 0)), freq_hz=868_450_000).reading.node is near
    assert take(receiver, bytes((1, 5, 1, 0))).reading.node is SHED


def test_a_node_that_sends_without_end_is_held_back():
    receiver = Receiver([SHED])
    taken = [take(receiver, bytes((1, 5, n % 256, 0)) + bytes((n % 251,)), 1 + n / 1000) for n in range(500)]
    assert sum(each.reading is not None for each in taken) == BURST
    assert receiver.counters.too_many == 500 - BURST
    assert all(each.answer is None for each in taken if each.reading is None)
    assert take(receiver, bytes((1, 5, 9, 0)) + b"later", 10).reading is not None


def test_strangers_leave_a_bounded_list_for_whoever_registers_them():
    receiver = Receiver([SHED])
    rng = random.Random(1)
    for n in range(10 * MAX_STRANGERS):
        take(receiver, bytes((0, 6 + n % 200, n % 256, rng.randrange(256))) + b"x")
    assert len(receiver.strangers()) == MAX_STRANGERS
    for n in range(3):
        take(receiver, bytes((0, 200, n, 0)) + b"xyz")
    newest = receiver.strangers()[0]
    assert (newest.count, newest.first_bytes, newest.size, newest.sf) == (3, "00c80200", 7, 8)
    assert receiver.counters.unknown == 10 * MAX_STRANGERS + 3


def test_damaged_frames_are_counted_only():
    receiver = Receiver([SHED])
    assert take(receiver, bytes((1, 5, 1, 0)), stat=-1).reading is None
    assert (receiver.counters.damaged, receiver.strangers()) == (1, [])


def test_an_order_leaves_as_the_node_was_heard():
    receiver = Receiver([SHED, BARN])
    with pytest.raises(NodeError, match="not heard"):
        receiver.order(SHED.id, b"on")
    take(receiver, bytes((1, 5, 7, 0)) + b"hi")
    packet, gateway = receiver.order(SHED.id, b"on")
    assert packet.data[:2] == bytes((5, 1))
    assert packet.data[3:] == b"\0on"
    assert (packet.ipol, packet.sync_word, gateway) == (False, 0x12, GATEWAY)
    with pytest.raises(NodeError, match="most"):
        receiver.order(SHED.id, bytes(252))
    with pytest.raises(UnknownNode):
        receiver.order("raw-radiohead-6", b"")


def test_two_nodes_that_cannot_be_told_apart_are_refused_and_so_are_too_many():
    receiver = Receiver([SHED])
    with pytest.raises(NodeExists):
        receiver.add(Node(header=Header.RADIOHEAD, address=5, name="another"))
    for n in range(MAX_NODES - 1):
        receiver.add(Node(header=Header.BYTE, address=n % 256, place=n // 256))
    with pytest.raises(NodeError, match="no more fit"):
        receiver.add(WELL)


@pytest.mark.parametrize(
    "fields",
    [
        {"header": Header.RADIOHEAD, "address": 256},
        {"header": Header.RADIOHEAD, "address": 255},
        {"header": Header.BYTE, "place": 99},
        {"header": Header.SINGLE},
        {"header": Header.SINGLE, "freq_hz": 1},
        {"header": Header.BYTE, "name": "a\nb"},
        {"header": Header.BYTE, "name": "x" * 65},
    ],
)
def test_what_cannot_be_a_node_is_refused_in_words(fields):
    with pytest.raises(NodeError):
        Node(**fields)


def test_nodes_outlive_a_restart_and_a_damaged_row_is_left_out():
    with closing(sqlite3.connect(":memory:")) as connection:
        for migration in store.MIGRATIONS:
            for statement in migration.statements:
                connection.execute(statement)
        for node in (SHED, BARN, WELL):
            connection.execute(*store.added(node))
        connection.execute("INSERT INTO raw_node VALUES ('x', 'no', 1, 1, NULL, 1, 1, '', '', '', '')")
        assert sorted(node.name for node in store.load(connection)) == ["barn", "shed", "well"]
        connection.execute(*store.gone(WELL.id))
        assert {node.id for node in store.load(connection)} == {SHED.id, BARN.id}


def test_no_bytes_make_the_receiver_fail():
    receiver = Receiver([SHED, BARN, WELL])
    rng = random.Random(3)
    for n in range(4000):
        data = rng.randbytes(rng.choice((0, 1, 2, 3, 4, 5, 20, 255)))
        taken = take(receiver, data, n, freq_hz=rng.choice((868_300_000, 868_450_000)))
        assert (taken.reading is None) == bool(taken.why)
    counted = receiver.counters
    assert counted.frames == 4000
    ends = (counted.readings, counted.duplicates, counted.unknown, counted.not_for_us, counted.too_many)
    assert sum(ends) + counted.own == 4000
