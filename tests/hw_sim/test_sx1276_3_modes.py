"""Section 3 of the SX127x notes: the rules of RegOpMode, row by row."""

import pytest

from hw_sim import registers as reg
from hw_sim.errors import Misuse, Rule
from hw_sim.records import Fate

US, MS, S = 1_000, 1_000_000, 1_000_000_000


@pytest.mark.parametrize(
    ("mode", "code"),
    [
        ("sleep", 0),
        ("stdby", 1),
        ("fstx", 2),
        ("tx", 3),
        ("fsrx", 4),
        ("rxcont", 5),
        ("rxsingle", 6),
        ("cad", 7),
    ],
)
def test_mode_field_reads_back_what_was_written(bench, mode, code):
    bench.lora()
    bench.write(reg.OP_MODE, 0x80 | code)
    assert bench.read(reg.OP_MODE) == 0x80 | code


def test_long_range_mode_sticks_when_sleep_is_written_in_the_same_byte(bench):
    bench.write(reg.OP_MODE, 0x80)
    assert bench.read(reg.OP_MODE) == 0x80


def test_long_range_mode_sticks_from_fsk_standby_too_but_that_is_counted(bench):
    assert bench.read(reg.OP_MODE) & 7 == reg.STDBY
    bench.write(reg.OP_MODE, 0x80)
    assert bench.read(reg.OP_MODE) == 0x80
    assert bench.chip.warnings["LongRangeMode changed outside SLEEP"] == 1


def test_long_range_mode_from_sleep_is_not_counted(bench):
    bench.write(reg.OP_MODE, 0x00)
    bench.write(reg.OP_MODE, 0x80)
    assert not bench.chip.warnings


@pytest.mark.parametrize("value", [0xD3, 0x81, 0x85])
def test_long_range_mode_with_another_mode_in_the_same_byte_is_misuse(bench, value):
    bench.write(reg.OP_MODE, 0x00)
    with pytest.raises(Misuse) as caught:
        bench.write(reg.OP_MODE, value)
    assert caught.value.rule is Rule.LORA_BIT


def test_a_chip_that_is_not_strict_refuses_lora_and_reads_back_0x43_after_0xd3(make_bench):
    bench = make_bench(strict=False)
    bench.write(reg.OP_MODE, 0x00)
    bench.write(reg.OP_MODE, 0xD3)
    assert bench.read(reg.OP_MODE) == 0x43


def test_leaving_lora_needs_sleep_as_well(bench):
    bench.lora()
    with pytest.raises(Misuse):
        bench.write(reg.OP_MODE, 0x01)
    bench.write(reg.OP_MODE, 0x00)
    assert bench.read(reg.OP_MODE) == 0x00


def test_low_frequency_bit_clears_itself_on_a_switch_of_modems(bench):
    bench.write(reg.OP_MODE, 0x08)
    bench.write(reg.OP_MODE, 0x88)
    assert bench.read(reg.OP_MODE) == 0x80


def test_low_frequency_bit_can_be_written_within_a_modem(bench):
    bench.lora()
    bench.write(reg.OP_MODE, 0x89)
    assert bench.read(reg.OP_MODE) == 0x89


@pytest.mark.parametrize("mode", [6, 7])
def test_fsk_has_no_modes_6_and_7(bench, mode):
    with pytest.raises(Misuse) as caught:
        bench.write(reg.OP_MODE, mode)
    assert caught.value.rule is Rule.NO_SUCH_MODE


def test_after_tx_done_the_chip_is_in_standby(link):
    link.tx.load(b"x")
    link.tx.write(reg.OP_MODE, 0x83)
    link.run(10 * MS)
    assert link.tx.read(reg.OP_MODE) == 0x83
    link.run(S)
    assert link.tx.read(reg.OP_MODE) == 0x81


def test_after_a_received_frame_rxsingle_is_in_standby(link):
    link.rx.write(reg.SYMB_TIMEOUT_LSB, 0x64)
    link.rx.write(reg.OP_MODE, 0x86)
    link.send()
    assert link.rx.read(reg.OP_MODE) == 0x81
    assert link.fate() is Fate.RECEIVED


def test_after_a_timeout_rxsingle_is_in_standby(bench):
    bench.setup()
    bench.write(reg.OP_MODE, 0x86)
    bench.run(S)
    assert bench.read(reg.OP_MODE) == 0x81


def test_after_cad_the_chip_is_in_standby(bench):
    bench.setup()
    bench.write(reg.OP_MODE, 0x87)
    bench.run(S)
    assert bench.read(reg.OP_MODE) == 0x81


def test_rxcont_stays_after_a_frame(link):
    link.rx.write(reg.OP_MODE, 0x85)
    link.send()
    assert link.rx.read(reg.OP_MODE) == 0x85


def test_sleep_clears_the_fifo_and_the_counters_and_keeps_the_registers(link):
    link.rx.write(reg.OP_MODE, 0x85)
    link.send()
    assert link.rx.read(reg.VALID_PACKET_CNT + 1) == 1
    link.rx.write(reg.OP_MODE, 0x80)
    assert link.rx.burst(reg.VALID_HEADER_CNT, 4) == bytes(4)
    assert link.rx.read(reg.SYNC_WORD) == 0x34
    link.rx.write(reg.OP_MODE, 0x81)
    link.rx.write(reg.FIFO_ADDR_PTR, 0)
    assert link.rx.burst(reg.FIFO, 5) == bytes(5)


@pytest.mark.parametrize("value", [None, 1], ids=["read", "write"])
def test_fifo_access_in_sleep_is_misuse(bench, value):
    bench.lora(reg.SLEEP)
    with pytest.raises(Misuse) as caught:
        bench.read(reg.FIFO) if value is None else bench.write(reg.FIFO, value)
    assert caught.value.rule is Rule.FIFO_IN_SLEEP


def test_a_chip_that_is_not_strict_reads_zero_from_the_fifo_in_sleep(make_bench):
    bench = make_bench(strict=False)
    bench.lora(reg.SLEEP)
    bench.write(reg.FIFO, 5)
    assert bench.read(reg.FIFO) == 0


@pytest.mark.parametrize(("survive", "flags"), [(True, reg.TX_DONE), (False, 0)])
def test_whether_flags_survive_sleep_is_an_option(make_bench, survive, flags):
    bench = make_bench(flags_survive_sleep=survive)
    bench.setup()
    bench.load(b"x")
    bench.write(reg.OP_MODE, 0x83)
    bench.run(S)
    bench.write(reg.OP_MODE, 0x80)
    assert bench.read(reg.IRQ_FLAGS) == flags


def test_standby_keeps_the_fifo(bench):
    bench.setup()
    bench.load(b"keep")
    bench.write(reg.OP_MODE, 0x82)
    bench.write(reg.OP_MODE, 0x81)
    bench.write(reg.FIFO_ADDR_PTR, 0)
    assert bench.burst(reg.FIFO, 4) == b"keep"


def test_a_new_rx_entry_puts_the_write_pointer_back_and_clears_the_counters(link):
    link.rx.write(reg.OP_MODE, 0x85)
    link.send(b"one")
    link.rx.write(reg.OP_MODE, 0x81)
    link.rx.write(reg.OP_MODE, 0x85)
    assert link.rx.burst(reg.VALID_HEADER_CNT, 4) == bytes(4)
    link.send(b"two")
    assert link.rx.read(reg.FIFO_RX_CURRENT) == 0
    assert link.rx.fetch() == b"two"


@pytest.mark.parametrize("mode", [0x80, 0x81], ids=["sleep", "stdby"])
def test_leaving_tx_stops_the_carrier_without_tx_done(link, mode):
    link.rx.write(reg.OP_MODE, 0x85)
    link.tx.load(bytes(100))
    link.tx.write(reg.OP_MODE, 0x83)
    link.run(60 * MS)
    link.tx.write(reg.OP_MODE, mode)
    link.run(S)
    assert link.tx.read(reg.IRQ_FLAGS) == 0
    assert link.last.aborted
    assert link.last.airtime_ns < 61 * MS
    assert link.fate() is Fate.CRC_ERROR


def test_leaving_tx_before_the_header_is_out_gives_the_receiver_nothing(link):
    link.rx.write(reg.OP_MODE, 0x85)
    link.tx.load(bytes(100))
    link.tx.write(reg.OP_MODE, 0x83)
    link.run(15 * MS)
    link.tx.write(reg.OP_MODE, 0x81)
    link.run(S)
    assert link.fate() is Fate.TRUNCATED
    assert link.rx.read(reg.IRQ_FLAGS) == 0


@pytest.mark.parametrize("mode", [0x80, 0x81], ids=["sleep", "stdby"])
def test_leaving_rx_drops_the_frame_without_a_flag(link, mode):
    link.rx.write(reg.OP_MODE, 0x85)
    link.tx.load(bytes(100))
    link.tx.write(reg.OP_MODE, 0x83)
    link.run(60 * MS)
    link.rx.write(reg.IRQ_FLAGS, 0xFF)
    link.rx.write(reg.OP_MODE, mode)
    link.run(S)
    assert link.rx.read(reg.IRQ_FLAGS) == 0
    assert link.fate() is Fate.DEAF


def test_writing_rxcont_again_does_not_disturb_a_reception(link):
    link.rx.write(reg.OP_MODE, 0x85)
    link.tx.load(bytes(100))
    link.tx.write(reg.OP_MODE, 0x83)
    link.run(60 * MS)
    link.rx.write(reg.OP_MODE, 0x85)
    link.run(S)
    assert link.fate() is Fate.RECEIVED


def test_sleep_out_of_rx_may_be_made_not_to_take(bench):
    bench.setup()
    bench.write(reg.OP_MODE, 0x85)
    bench.run(MS)
    bench.chip.faults.refused_modes = 1
    bench.write(reg.OP_MODE, 0x80)
    assert bench.read(reg.OP_MODE) == 0x85
    bench.write(reg.OP_MODE, 0x80)
    assert bench.read(reg.OP_MODE) == 0x80


def test_a_write_to_tx_is_on_air_175_us_later(link):
    link.tx.load(b"x")
    began = link.kernel.now_ns
    link.tx.write(reg.OP_MODE, 0x83)
    link.run(S)
    assert link.last.start_ns - began == 175 * US


def test_through_fstx_only_the_ramp_is_left(link):
    link.tx.load(b"x")
    link.tx.write(reg.OP_MODE, 0x82)
    link.run(60 * US)
    began = link.kernel.now_ns
    link.tx.write(reg.OP_MODE, 0x83)
    link.run(S)
    assert link.last.start_ns - began == 40 * US


def test_fstx_needs_60_us_to_lock_its_pll(link):
    link.tx.load(b"x")
    link.tx.write(reg.OP_MODE, 0x82)
    link.run(20 * US)
    began = link.kernel.now_ns
    link.tx.write(reg.OP_MODE, 0x83)
    link.run(S)
    assert link.last.start_ns - began == (40 + 40) * US


def test_the_ramp_is_the_programmed_one(link):
    link.tx.write(reg.PA_RAMP, 0x05)
    link.tx.load(b"x")
    began = link.kernel.now_ns
    link.tx.write(reg.OP_MODE, 0x83)
    link.run(S)
    assert link.last.start_ns - began == (135 + 125) * US


def test_from_sleep_the_crystal_needs_250_us_more(link):
    link.tx.write(reg.FIFO_TX_BASE, 0)
    link.tx.write(reg.OP_MODE, 0x80)
    began = link.kernel.now_ns
    link.tx.write(reg.OP_MODE, 0x83)
    link.run(S)
    assert link.last.start_ns - began == (175 + 250) * US


def test_frequency_is_taken_over_on_entering_a_mode_that_uses_it(link):
    link.rx.write(reg.OP_MODE, 0x85)
    link.run(MS)
    link.rx.write(reg.FRF_MSB, 0x6C, 0x80, 0x00)
    link.send()
    assert link.fate() is Fate.RECEIVED
    link.rx.write(reg.OP_MODE, 0x81)
    link.rx.write(reg.OP_MODE, 0x85)
    link.send()
    assert link.fate() is Fate.NOT_MATCHED


@pytest.mark.parametrize(
    ("address", "value", "rule"),
    [
        pytest.param(reg.MODEM_CONFIG1, 0xA2, Rule.BANDWIDTH, id="bandwidth"),
        pytest.param(reg.MODEM_CONFIG1, 0x7A, Rule.CODING_RATE, id="coding rate"),
        pytest.param(reg.MODEM_CONFIG2, 0x54, Rule.SPREADING_FACTOR, id="spreading factor"),
        pytest.param(reg.PAYLOAD_LENGTH, 0, Rule.ZERO_LENGTH, id="payload length"),
    ],
)
def test_starting_with_settings_the_modem_does_not_have_is_misuse(bench, address, value, rule):
    bench.setup()
    bench.write(address, value)
    with pytest.raises(Misuse) as caught:
        bench.write(reg.OP_MODE, 0x83)
    assert caught.value.rule is rule


def test_a_modem_setting_written_while_busy_is_counted(bench):
    bench.setup()
    bench.write(reg.OP_MODE, 0x85)
    bench.write(reg.MODEM_CONFIG2, 0x94)
    assert bench.chip.warnings["modem setting written while the modem is busy"] == 1


def test_low_frequency_bit_clears_itself_on_the_way_back_to_fsk_too(bench):
    bench.lora()
    bench.write(reg.OP_MODE, 0x89)
    bench.write(reg.OP_MODE, 0x08)
    assert bench.read(reg.OP_MODE) == 0x00


@pytest.mark.parametrize(
    ("before", "wait_ns", "deaf_ns"),
    [
        pytest.param(0x81, MS, 100 * US, id="from standby"),
        pytest.param(0x80, MS, 350 * US, id="from sleep"),
        pytest.param(0x84, MS, 0, id="through FSRX"),
        pytest.param(0x84, 20 * US, 40 * US, id="through FSRX before its PLL has locked"),
    ],
)
def test_a_receiver_hears_after_its_crystal_and_its_pll(bench, before, wait_ns, deaf_ns):
    bench.setup()
    bench.write(reg.OP_MODE, before)
    bench.run(wait_ns)
    began = bench.kernel.now_ns
    bench.write(reg.OP_MODE, 0x86)
    bench.run(S)
    (t_ns,) = (t_ns for line, level, t_ns in bench.edges if line == "dio1" and level)
    assert t_ns - began == deaf_ns + 0x64 * 1_024_000


def test_sleep_out_of_lora_standby_clears_the_fifo_written_by_the_driver(bench):
    bench.setup()
    bench.load(b"gone")
    bench.write(reg.OP_MODE, 0x80)
    bench.write(reg.OP_MODE, 0x81)
    bench.write(reg.FIFO_ADDR_PTR, 0)
    assert bench.burst(reg.FIFO, 4) == bytes(4)


def test_switching_to_fsk_stops_the_carrier(link):
    link.rx.write(reg.OP_MODE, 0x85)
    link.tx.load(bytes(100))
    link.tx.write(reg.OP_MODE, 0x83)
    link.run(60 * MS)
    link.tx.write(reg.OP_MODE, 0x00)
    link.run(S)
    assert link.last.aborted
    assert link.tx.read(reg.OP_MODE) == 0x00


def test_switching_to_fsk_ends_a_reception(link):
    link.rx.write(reg.OP_MODE, 0x85)
    link.run(MS)
    link.rx.write(reg.OP_MODE, 0x00)
    link.send()
    link.rx.write(reg.OP_MODE, 0x80)
    assert link.rx.read(reg.IRQ_FLAGS) == 0
    assert link.rx.read(reg.RX_NB_BYTES) == 0
