"""Lines of an RN2483: what they mean, when they began, and that damage raises one error type only."""

import contextlib
import random

import pytest

from radio.errors import ModemLineError
from radio.rn2483_lines import Answer, Banner, Frame, Reply, Value, parse
from radio.serial_line import MAX_LINE, Line, LineReader, byte_ns

# Wording: Microchip DS40001784G, 2.3 (system), 2.4 (mac pause), 2.5 (radio); two spaces as firmware 1.0.5 writes them.
VECTORS: list[tuple[bytes, Reply]] = [
    (b"ok", Answer.OK),
    (b"invalid_param", Answer.INVALID),
    (b"busy", Answer.BUSY),
    (b"radio_tx_ok", Answer.SENT),
    (b"radio_err", Answer.FAILED),
    (b"radio_rx  48656C6C6F", Frame(b"Hello")),
    (b"radio_rx 48656c6c6f", Frame(b"Hello")),
    (b"RN2483 1.0.5 Oct 31 2018 15:06:52", Banner("RN2483", (1, 0, 5))),
    (b"RN2903 1.0.3 Aug  8 2017 15:11:09", Banner("RN2903", (1, 0, 3))),
    (b"4294967245", Value("4294967245")),
    (b"868100000", Value("868100000")),
    (b"sf12", Value("sf12")),
    (b"4/5", Value("4/5")),
    (b"-7", Value("-7")),
    (b"on", Value("on")),
]


@pytest.mark.parametrize(("line", "reply"), [pytest.param(*v, id=v[0].decode()) for v in VECTORS])
def test_each_line_means_one_thing(line: bytes, reply: Reply) -> None:
    assert parse(line) == reply


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"radio_rx ", id="no payload"),
        pytest.param(b"radio_rx  ABC", id="half a byte"),
        pytest.param(b"radio_rx  " + b"00" * 256, id="256 bytes"),
        pytest.param(b"radio_rx  00 11", id="two payloads"),
        pytest.param(b"radio_rx  0x11", id="not hexadecimal"),
        pytest.param(b"\xffok", id="not ASCII"),
        pytest.param(b"mac_tx_ok", id="of the stack that is paused"),
        pytest.param(b"", id="empty"),
    ],
)
def test_what_the_module_cannot_have_meant_is_an_error(line: bytes) -> None:
    with pytest.raises(ModemLineError):
        parse(line)


def test_damaged_lines_raise_one_error_type_only() -> None:
    rng = random.Random(2483)
    for _ in range(5000):
        line = bytearray(rng.choice(VECTORS)[0])
        for _ in range(rng.randrange(1, 4)):
            match rng.randrange(3):
                case 0 if line:
                    line[rng.randrange(len(line))] ^= 1 << rng.randrange(8)
                case 1:
                    line.insert(rng.randrange(len(line) + 1), rng.randrange(256))
                case _ if line:
                    del line[rng.randrange(len(line))]
        with contextlib.suppress(ModemLineError):
            parse(bytes(line))


def test_lines_come_out_whole_however_the_bytes_come_in() -> None:
    data = b"ok\r\nradio_rx  4865\r\n\r\n4294967245\nbusy"
    whole = LineReader(57_600)
    texts = [line.text for line in whole.feed(data, 10**9)]
    assert texts == [b"ok", b"radio_rx  4865", b"4294967245"]
    single = LineReader(57_600)
    lines: list[Line] = []
    for i, byte in enumerate(data):
        lines += single.feed(bytes([byte]), 10**9 + i * byte_ns(57_600))
    assert [line.text for line in lines] == texts


def test_a_line_began_when_its_first_byte_did_even_where_the_last_ones_are_read_late() -> None:
    reader = LineReader(57_600)
    line = b"radio_rx  " + b"AB" * 40 + b"\r\n"
    per_byte, start_ns = byte_ns(57_600), 5 * 10**9
    got: list[Line] = []
    for at in range(0, len(line), 16):
        part = line[at : at + 16]
        delay_ns = 30_000_000 if at else 200_000  # only the first read is prompt
        got += reader.feed(part, start_ns + (at + len(part)) * per_byte + delay_ns)
    assert [(one.text, one.start_ns - start_ns) for one in got] == [(line.rstrip(), 200_000)]


def test_an_endless_line_is_thrown_away_and_counted() -> None:
    reader = LineReader(57_600)
    for _ in range(10):
        assert reader.feed(b"x" * MAX_LINE, 0) == []
    assert reader.overlong == 1
    assert [line.text for line in reader.feed(b"x\nok\r\n", 0)] == [b"ok"]
