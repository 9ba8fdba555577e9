"""Section 5 of the SX127x notes: IRQ flags and DIO lines, row by row."""

import pytest

from hw_sim import registers as reg
from hw_sim.errors import Misuse, Rule
from hw_sim.links import AirSettings
from hw_sim.records import Fate

US, MS, S = 1_000, 1_000_000, 1_000_000_000

FLAGS = {
    "RxTimeout": 0x80, "RxDone": 0x40, "PayloadCrcError": 0x20, "ValidHeader": 0x10,
    "TxDone": 0x08, "CadDone": 0x04, "FhssChange": 0x02, "CadDetected": 0x01,
}  # fmt: skip

# The table of the datasheet: line -> (mapping register, shift, what 00, 01 and 10 show).
DIO = {
    0: (0x40, 6, ("RxDone", "TxDone", "CadDone")),
    1: (0x40, 4, ("RxTimeout", "FhssChange", "CadDetected")),
    2: (0x40, 2, ("FhssChange", "FhssChange", "FhssChange")),
    3: (0x40, 0, ("CadDone", "ValidHeader", "PayloadCrcError")),
    4: (0x41, 6, ("CadDetected", "PllLock", "PllLock")),
    5: (0x41, 4, ("ModeReady", "ClkOut", "ClkOut")),
}
CELLS = [
    pytest.param(line, address, code << shift, source, id=f"DIO{line}={code:02b} {source}")
    for line, (address, shift, sources) in DIO.items()
    for code, source in enumerate(sources)
]


@pytest.mark.parametrize(("line", "address", "mapping", "source"), CELLS)
def test_dio_line_shows_what_its_mapping_says(bench, line, address, mapping, source):
    bench.lora()
    bench.write(address, mapping)
    for name, flag in FLAGS.items():
        bench.write(reg.IRQ_FLAGS, 0xFF)
        bench.chip.raise_flags(flag)
        expected = name == source or source == "ModeReady"
        assert bench.chip.dio(line) is expected, name


@pytest.mark.parametrize("code", [1, 2])
def test_pll_lock_shows_in_modes_that_run_the_pll(bench, code):
    bench.setup(dio=(0, code << 6))
    assert not bench.chip.dio(4)
    bench.write(reg.OP_MODE, 0x82)
    assert bench.chip.dio(4)
    bench.write(reg.OP_MODE, 0x81)
    assert not bench.chip.dio(4)


def test_mode_ready_is_low_in_sleep_only(bench):
    bench.lora()
    assert bench.chip.dio(5)
    bench.write(reg.OP_MODE, 0x80)
    assert not bench.chip.dio(5)


@pytest.mark.parametrize("flag", FLAGS.values(), ids=FLAGS)
def test_flags_clear_where_a_one_is_written_and_stay_where_a_zero_is(bench, flag):
    bench.lora()
    bench.chip.raise_flags(0xFF)
    bench.write(reg.IRQ_FLAGS, flag)
    assert bench.read(reg.IRQ_FLAGS) == 0xFF & ~flag
    bench.write(reg.IRQ_FLAGS, 0x00)
    assert bench.read(reg.IRQ_FLAGS) == 0xFF & ~flag


@pytest.mark.parametrize("flag", FLAGS.values(), ids=FLAGS)
def test_a_masked_flag_is_not_set_and_moves_no_line(bench, flag):
    bench.setup()
    bench.write(reg.IRQ_FLAGS_MASK, flag)
    bench.chip.raise_flags(0xFF)
    assert bench.read(reg.IRQ_FLAGS) == 0xFF & ~flag
    bench.write(reg.IRQ_FLAGS, 0xFF)
    bench.edges.clear()
    bench.chip.raise_flags(flag)
    assert bench.edges == []


def test_a_line_stays_high_until_its_flag_is_cleared(link):
    link.rx.write(reg.OP_MODE, 0x85)
    link.send()
    assert link.rx.chip.dio(0)
    link.run(S)
    assert link.rx.chip.dio(0)
    link.rx.write(reg.IRQ_FLAGS, 0x40)
    assert not link.rx.chip.dio(0)
    assert [(line, level) for line, level, _ in link.rx.edges if line == "dio0"] == [
        ("dio0", True),
        ("dio0", False),
    ]


def test_a_second_event_while_the_line_is_high_gives_no_new_edge(link):
    link.rx.write(reg.OP_MODE, 0x85)
    link.send(b"one")
    link.send(b"two")
    assert [line for line, level, _ in link.rx.edges if level].count("dio0") == 1
    assert link.rx.fetch() == b"two"


def test_a_new_mapping_changes_the_level_at_once(bench):
    bench.setup()
    bench.chip.raise_flags(reg.TX_DONE)
    assert not bench.chip.dio(0)
    bench.write(reg.DIO_MAPPING1, 0x40)
    assert bench.chip.dio(0)
    bench.write(reg.DIO_MAPPING1, 0x00)
    assert not bench.chip.dio(0)


def test_an_edge_carries_the_virtual_time_it_happened_at(link):
    link.tx.write(reg.DIO_MAPPING1, 0x40)
    link.send()
    assert link.tx.edges == [("dio0", True, link.last.end_ns)]


def test_tx_done_is_raised_when_the_last_symbol_is_out(link):
    link.send()
    assert link.tx.read(reg.IRQ_FLAGS) == FLAGS["TxDone"]


def test_valid_header_comes_at_the_end_of_the_header_and_rx_done_after_the_payload(link):
    link.rx.write(reg.DIO_MAPPING1, 0x01)
    link.rx.write(reg.OP_MODE, 0x85)
    link.send()
    times = {line: t_ns for line, level, t_ns in link.rx.edges if level}
    symbol_ns = 1_024_000
    assert times["dio3"] - link.last.start_ns == 20.25 * symbol_ns
    assert times["dio0"] == link.last.end_ns
    assert link.rx.read(reg.IRQ_FLAGS) == FLAGS["RxDone"] | FLAGS["ValidHeader"]


# Section 9, "RxDone is late": us at 125 kHz.
@pytest.mark.parametrize(
    ("sf", "late_us"), [(7, 0), (8, 1648), (9, 3265), (10, 7049), (11, 13641), (12, 31189)]
)
@pytest.mark.parametrize("modelled", [True, False], ids=["modelled", "switched off"])
def test_rx_done_is_late_by_the_table(make_link, sf, late_us, modelled):
    link = make_link(rx_done_latency=modelled)
    link.setup(sf=sf)
    link.rx.write(reg.OP_MODE, 0x85)
    link.send()
    risen_ns = next(t_ns for line, level, t_ns in link.rx.edges if line == "dio0" and level)
    assert risen_ns - link.last.end_ns == (late_us * US if modelled else 0)


@pytest.mark.parametrize(("bw", "part"), [(8, 2), (9, 4)])
def test_rx_done_latency_scales_with_the_bandwidth(make_link, bw, part):
    link = make_link()
    link.setup(sf=10, bw=bw)
    link.rx.write(reg.OP_MODE, 0x85)
    link.send()
    risen_ns = next(t_ns for line, level, t_ns in link.rx.edges if line == "dio0" and level)
    assert risen_ns - link.last.end_ns == 7049 * US // part


def interfered(make_link, make_bench, kernel, **options):
    """A link whose payload is hit by a third chip's."""
    link = make_link(**options)
    third = make_bench("third")
    link.air.add(third.chip, 90.0)
    third.setup()
    link.rx.write(reg.OP_MODE, 0x85)
    link.tx.load(bytes(60))
    third.load(bytes(40))
    link.tx.write(reg.OP_MODE, 0x83)
    kernel.after(50 * MS, lambda: third.write(reg.OP_MODE, 0x83))
    return link


def test_rx_done_and_payload_crc_error_rise_together_and_dio0_with_them(make_link, make_bench, kernel):
    link = interfered(make_link, make_bench, kernel)
    link.rx.write(reg.DIO_MAPPING1, 0x02)
    link.run(S)
    assert link.rx.read(reg.IRQ_FLAGS) == FLAGS["RxDone"] | FLAGS["ValidHeader"] | FLAGS["PayloadCrcError"]
    assert link.rx.edges[-2][2] == link.rx.edges[-1][2]
    assert {line for line, level, _ in link.rx.edges if level} == {"dio0", "dio3"}
    assert link.rx.fetch() != bytes(60)


def test_a_bad_crc_counts_a_valid_header_but_no_valid_packet(make_link, make_bench, kernel):
    link = interfered(make_link, make_bench, kernel)
    link.run(S)
    assert link.rx.burst(reg.VALID_HEADER_CNT, 4) == b"\x00\x01\x00\x00"


def test_a_header_without_crc_never_gives_payload_crc_error(make_link, make_bench, kernel):
    link = make_link()
    third = make_bench("third")
    link.air.add(third.chip, 90.0)
    third.setup()
    link.tx.write(reg.MODEM_CONFIG2, 0x70)
    link.rx.write(reg.OP_MODE, 0x85)
    link.tx.load(bytes(60))
    third.load(bytes(40))
    link.tx.write(reg.OP_MODE, 0x83)
    kernel.after(50 * MS, lambda: third.write(reg.OP_MODE, 0x83))
    link.run(S)
    assert link.rx.read(reg.IRQ_FLAGS) == FLAGS["RxDone"] | FLAGS["ValidHeader"]
    assert link.rx.read(reg.HOP_CHANNEL) & 0x40 == 0
    assert link.rx.fetch() != bytes(60)
    assert [frame.fate("rx") for frame in link.air.records.frames if frame.sender == "tx"] == [Fate.CRC_ERROR]


@pytest.mark.parametrize("rx_crc", [0x70, 0x74], ids=["receiver off", "receiver on"])
@pytest.mark.parametrize(("tx_crc", "bit"), [(0x74, 0x40), (0x70, 0x00)], ids=["with CRC", "without"])
def test_crc_on_payload_tells_what_the_header_said_whatever_the_receiver_is_set_to(link, rx_crc, tx_crc, bit):
    link.tx.write(reg.MODEM_CONFIG2, tx_crc)
    link.rx.write(reg.MODEM_CONFIG2, rx_crc)
    link.rx.write(reg.OP_MODE, 0x85)
    link.send()
    assert link.rx.read(reg.HOP_CHANNEL) & 0x40 == bit
    assert link.fate() is Fate.RECEIVED


def test_a_lost_header_raises_nothing_in_rxcont(make_link, make_bench, kernel):
    link = make_link()
    third = make_bench("third")
    link.air.add(third.chip, 99.0)
    third.setup()
    link.rx.write(reg.OP_MODE, 0x85)
    link.tx.load(bytes(60))
    third.load(bytes(40))
    link.tx.write(reg.OP_MODE, 0x83)
    kernel.after(13 * MS, lambda: third.write(reg.OP_MODE, 0x83))
    link.run(S)
    assert link.rx.read(reg.IRQ_FLAGS) == 0
    assert {frame.fate("rx") for frame in link.air.records.frames} == {Fate.COLLIDED}


def test_a_lost_header_ends_rxsingle_in_rx_timeout(make_link, make_bench, kernel):
    link = make_link()
    third = make_bench("third")
    link.air.add(third.chip, 99.0)
    third.setup()
    link.rx.write(reg.OP_MODE, 0x86)
    link.tx.load(bytes(60))
    third.load(bytes(40))
    link.tx.write(reg.OP_MODE, 0x83)
    kernel.after(13 * MS, lambda: third.write(reg.OP_MODE, 0x83))
    link.run(S)
    assert link.rx.read(reg.IRQ_FLAGS) == FLAGS["RxTimeout"]
    assert link.rx.read(reg.OP_MODE) == 0x81


@pytest.mark.parametrize(("sf", "symbols"), [(7, 4), (7, 0x64), (9, 24), (12, 1023)])
def test_rx_timeout_comes_so_many_symbols_after_the_start_of_rxsingle(bench, sf, symbols):
    bench.setup(sf=sf)
    bench.write(reg.MODEM_CONFIG2, sf << 4 | symbols >> 8, symbols & 0xFF)
    began = bench.kernel.now_ns
    bench.write(reg.OP_MODE, 0x86)
    bench.run(60 * S)
    assert bench.edges == [("dio1", True, began + 100 * US + symbols * (1 << sf) * 8000)]
    assert bench.read(reg.IRQ_FLAGS) == FLAGS["RxTimeout"]


def test_rx_timeout_needs_at_least_4_symbols(bench):
    bench.setup()
    bench.write(reg.SYMB_TIMEOUT_LSB, 3)
    with pytest.raises(Misuse) as caught:
        bench.write(reg.OP_MODE, 0x86)
    assert caught.value.rule is Rule.SYMB_TIMEOUT


def test_rx_timeout_does_not_come_while_a_frame_is_being_received(link):
    link.rx.write(reg.SYMB_TIMEOUT_LSB, 8)
    link.rx.write(reg.OP_MODE, 0x86)
    link.send(bytes(100))
    assert link.rx.read(reg.IRQ_FLAGS) == FLAGS["RxDone"] | FLAGS["ValidHeader"]


def test_rx_timeout_never_comes_in_rxcont(bench):
    bench.setup()
    bench.write(reg.OP_MODE, 0x85)
    bench.run(60 * S)
    assert bench.read(reg.IRQ_FLAGS) == 0


# Section 9: five of the eight upchirps must fall into the open window.
@pytest.mark.parametrize(("late_symbols", "heard"), [(-3, True), (-4, False), (1, True), (4, False)])
def test_a_window_needs_five_upchirps(link, kernel, late_symbols, heard):
    symbol_ns = 1_024_000
    link.rx.write(reg.SYMB_TIMEOUT_LSB, 6)
    link.tx.load(b"downlink")
    opens_ns = kernel.now_ns + 20 * MS
    starts_ns = opens_ns + late_symbols * symbol_ns
    kernel.at(opens_ns - 100 * US, lambda: link.rx.write(reg.OP_MODE, 0x86))
    kernel.at(starts_ns - 175 * US, lambda: link.tx.write(reg.OP_MODE, 0x83))
    link.run(S)
    assert (link.fate() is Fate.RECEIVED) is heard
    assert bool(link.rx.read(reg.IRQ_FLAGS) & FLAGS["RxTimeout"]) is not heard


@pytest.mark.parametrize(("sf", "low", "high"), [(7, 1.75, 1.96), (9, 1.74, 1.96), (12, 1.74, 1.96)])
def test_cad_takes_about_1_75_to_1_95_symbols(bench, sf, low, high):
    bench.setup(sf=sf, dio=(0x80, 0))
    began = bench.kernel.now_ns
    bench.write(reg.OP_MODE, 0x87)
    bench.run(S)
    (t_ns,) = (t_ns for line, level, t_ns in bench.edges if line == "dio0" and level)
    assert low <= (t_ns - began - 100 * US) / ((1 << sf) * 8000) <= high


@pytest.mark.parametrize(
    ("inverted", "flags"), [(False, 0x05), (True, 0x04)], ids=["preamble", "other chirps"]
)
def test_cad_detects_a_matching_preamble(link, inverted, flags):
    link.rx.setup(inverted=inverted)
    link.tx.load(b"x")
    link.tx.write(reg.OP_MODE, 0x83)
    link.run(2 * MS)
    link.rx.write(reg.OP_MODE, 0x87)
    link.run(S)
    assert link.rx.read(reg.IRQ_FLAGS) == flags


def test_cad_finds_nothing_on_a_quiet_channel(bench):
    bench.setup()
    bench.write(reg.OP_MODE, 0x87)
    bench.run(S)
    assert bench.read(reg.IRQ_FLAGS) == FLAGS["CadDone"]


def test_fhss_change_comes_every_hop_period_symbols_while_sending(link):
    link.tx.write(reg.HOP_PERIOD, 10)
    link.tx.write(reg.DIO_MAPPING1, 0x10)
    link.tx.load(b"hop")
    link.tx.write(reg.OP_MODE, 0x83)
    link.run(10 * 1_024_000 + 175 * US)
    assert link.tx.read(reg.IRQ_FLAGS) == FLAGS["FhssChange"]
    assert link.tx.read(reg.HOP_CHANNEL) & 0x3F == 1
    link.run(S)
    assert link.tx.read(reg.HOP_CHANNEL) & 0x3F == link.last.airtime_ns // (10 * 1_024_000)


def test_a_flag_can_be_made_to_stick_and_an_edge_to_get_lost(link):
    link.rx.chip.faults.lost_edges = 1
    link.rx.chip.faults.stuck_flags = FLAGS["ValidHeader"]
    link.rx.write(reg.OP_MODE, 0x85)
    link.send()
    assert link.rx.edges == []
    assert link.rx.chip.dio(0)
    link.rx.write(reg.IRQ_FLAGS, 0xFF)
    assert link.rx.read(reg.IRQ_FLAGS) == FLAGS["ValidHeader"]


def test_noise_passes_for_a_header_at_the_rate_asked_for(make_link):
    link = make_link(settings=AirSettings(false_headers_per_hour=60.0))
    link.rx.write(reg.OP_MODE, 0x85)
    link.run(3600 * S)
    headers = int.from_bytes(link.rx.burst(reg.VALID_HEADER_CNT, 2), "big")
    assert 30 <= headers <= 90
    assert link.rx.read(reg.IRQ_FLAGS) & FLAGS["RxDone"]
    assert not link.air.records.frames


def test_a_frame_comes_in_behind_a_mask_without_flag_and_line(link):
    link.rx.write(reg.IRQ_FLAGS_MASK, FLAGS["RxDone"])
    link.rx.write(reg.OP_MODE, 0x85)
    link.send()
    assert link.rx.read(reg.IRQ_FLAGS) == FLAGS["ValidHeader"]
    assert link.rx.edges == []
    assert link.rx.fetch() == b"hello"


def test_a_masked_tx_done_still_ends_in_standby(link):
    link.tx.write(reg.DIO_MAPPING1, 0x40)
    link.tx.write(reg.IRQ_FLAGS_MASK, FLAGS["TxDone"])
    link.send()
    assert (link.tx.read(reg.IRQ_FLAGS), link.tx.read(reg.OP_MODE)) == (0, 0x81)
    assert link.tx.edges == []


def test_a_mask_leaves_a_flag_that_is_set_already(bench):
    bench.setup()
    bench.chip.raise_flags(FLAGS["TxDone"])
    bench.write(reg.IRQ_FLAGS_MASK, 0xFF)
    assert bench.read(reg.IRQ_FLAGS) == FLAGS["TxDone"]


def test_cad_listens_for_a_symbol_and_32_chips(link, kernel):
    """A preamble that ends before that much was heard is no activity; one that ends just after is."""
    heard = []
    for spare_ns in (-10 * US, 10 * US):
        link.tx.load(b"x")
        link.tx.write(reg.OP_MODE, 0x83)
        preamble_end_ns = kernel.now_ns + 175 * US + int(12.25 * 1_024_000)
        listen_ns = 1_024_000 + 256_000
        kernel.at(preamble_end_ns - listen_ns - 100 * US - spare_ns, lambda: link.rx.write(reg.OP_MODE, 0x87))
        link.run(S)
        heard.append(bool(link.rx.read(reg.IRQ_FLAGS) & FLAGS["CadDetected"]))
        link.rx.write(reg.IRQ_FLAGS, 0xFF)
    assert heard == [False, True]


def test_lora_flags_move_no_line_while_the_fsk_modem_is_on(bench):
    bench.setup()
    bench.chip.raise_flags(FLAGS["RxDone"])
    assert bench.chip.dio(0)
    bench.write(reg.OP_MODE, 0x00)
    assert not bench.chip.dio(0)


def test_hopping_leaves_crc_on_payload_of_the_last_header(link):
    link.rx.write(reg.OP_MODE, 0x85)
    link.send()
    link.rx.write(reg.OP_MODE, 0x81)
    link.rx.write(reg.HOP_PERIOD, 10)
    link.rx.load(b"hop")
    link.rx.write(reg.OP_MODE, 0x83)
    link.run(11 * 1_024_000)
    assert link.rx.read(reg.HOP_CHANNEL) == 0x41
