"""Section 2 of the SX127x notes: the register map, its reset values, and the two pages."""

import pytest

from hw_sim import registers as reg
from hw_sim import settings
from hw_sim.errors import Misuse, Rule
from hw_sim.records import Fate
from radio.lora import LoRaModulation
from radio.sx127x.chip import Chip
from radio.sx127x.registers import Settings

MS = 1_000_000

# As the table prints them: address -> value after reset, LoRa page.
# 0x01, 0x2F, 0x30 and 0x3A have tests of their own.
RESET = {
    0x02: 0x1A, 0x03: 0x0B, 0x04: 0x00, 0x05: 0x52, 0x06: 0x6C, 0x07: 0x80, 0x08: 0x00, 0x09: 0x4F,
    0x0A: 0x09, 0x0B: 0x2B, 0x0C: 0x20, 0x0D: 0x00, 0x0E: 0x80, 0x0F: 0x00, 0x10: 0x00, 0x11: 0x00,
    0x12: 0x00, 0x13: 0x00, 0x14: 0x00, 0x15: 0x00, 0x16: 0x00, 0x17: 0x00, 0x18: 0x10, 0x1C: 0x00,
    0x1D: 0x72, 0x1E: 0x70, 0x1F: 0x64, 0x20: 0x00, 0x21: 0x08, 0x22: 0x01, 0x23: 0xFF, 0x24: 0x00,
    0x25: 0x00, 0x26: 0x04, 0x27: 0x00, 0x28: 0x00, 0x29: 0x00, 0x2A: 0x00, 0x31: 0xC3, 0x33: 0x27,
    0x36: 0x03, 0x37: 0x0A, 0x39: 0x12, 0x3B: 0x1D, 0x40: 0x00, 0x41: 0x00, 0x42: 0x12, 0x44: 0x2D,
    0x4B: 0x09, 0x4D: 0x84, 0x61: 0x1C, 0x62: 0x0E, 0x63: 0x5B, 0x64: 0xCC, 0x70: 0xD0,
}  # fmt: skip

READ_ONLY = [0x10, *range(0x13, 0x1D), 0x25, 0x28, 0x29, 0x2A, 0x2C, 0x42]


def test_op_mode_after_reset_is_fsk_standby_with_the_low_frequency_bit(bench):
    assert bench.read(reg.OP_MODE) == 0x09


@pytest.mark.parametrize(("address", "value"), RESET.items(), ids=lambda v: f"{v:02X}")
def test_reset_value(bench, address, value):
    bench.write(reg.OP_MODE, 0x80)
    assert bench.read(address) == value


def test_intermediate_frequency_and_500_khz_registers_reset_to_a_calibration_dependent_value(bench):
    bench.lora()
    assert bench.burst(reg.IF_FREQ1, 2) in (b"\x45\x55", b"\x20\x00")
    assert 0x49 <= bench.read(reg.HIGH_BW_OPTIMIZE2) <= 0x65


@pytest.mark.parametrize("address", READ_ONLY, ids=lambda v: f"{v:02X}")
def test_writing_a_read_only_register_is_misuse(bench, address):
    bench.lora()
    with pytest.raises(Misuse) as caught:
        bench.write(address, 0xFF)
    assert caught.value.rule is Rule.READ_ONLY
    assert caught.value.address == address


@pytest.mark.parametrize("address", [a for a in READ_ONLY if a not in (0x1B, 0x2C)], ids=lambda v: f"{v:02X}")
def test_a_chip_that_is_not_strict_ignores_a_write_to_a_read_only_register(make_bench, address):
    bench = make_bench(strict=False)
    bench.lora()
    before = bench.read(address)
    bench.write(address, before ^ 0xFF)
    assert bench.read(address) == before


def test_wideband_rssi_is_noise_and_seeded(make_bench):
    first, second = make_bench("a"), make_bench("a")
    for bench in (first, second):
        bench.lora(reg.RXCONT)
    values = [first.read(reg.RSSI_WIDEBAND) for _ in range(64)]
    assert len(set(values)) > 30
    assert values == [second.read(reg.RSSI_WIDEBAND) for _ in range(64)]


def test_fsk_registers_show_while_long_range_mode_is_off(bench):
    assert bench.read(0x39) == 0xF5
    bench.write(0x39, 0x11)
    bench.lora()
    assert bench.read(reg.SYNC_WORD) == 0x12


def test_access_shared_reg_shows_the_fsk_page_in_lora_mode(bench):
    bench.lora()
    bench.write(reg.OP_MODE, 0xC1)
    bench.write(0x24, 0x07)
    assert bench.read(0x24) == 0x07
    bench.write(reg.OP_MODE, 0x81)
    assert bench.read(reg.HOP_PERIOD) == 0x00


def test_fsk_defaults_written_by_a_device_stack_do_not_touch_the_lora_page(bench):
    stack = {0x0D: 0x1E, 0x0E: 0xD2, 0x1A: 0x01, 0x1F: 0xAA, 0x24: 0x07, 0x27: 0x12, 0x28: 0xC1, 0x29: 0x94,
             0x2A: 0xC1, 0x30: 0xD8, 0x35: 0x9F, 0x3B: 0x02}  # fmt: skip
    for address, value in stack.items():
        bench.write(address, value)
    bench.lora()
    for address in (0x0D, 0x0E, 0x1A, 0x1F, 0x24, 0x28, 0x3B):
        assert bench.read(address) == RESET.get(address, 0), f"{address:02X}"


def test_image_calibration_runs_for_a_while_in_fsk_standby_and_clears_itself(bench):
    assert bench.read(reg.FSK_IMAGE_CAL) == 0x82
    bench.write(reg.FSK_IMAGE_CAL, 0xC2)
    assert bench.read(reg.FSK_IMAGE_CAL) == 0xA2
    bench.run(20 * MS)
    assert bench.read(reg.FSK_IMAGE_CAL) == 0x82


def test_image_calibration_outside_fsk_standby_is_misuse(bench):
    bench.write(reg.OP_MODE, 0x08)
    with pytest.raises(Misuse) as caught:
        bench.write(reg.FSK_IMAGE_CAL, 0xC2)
    assert caught.value.rule is Rule.IMAGE_CAL


def test_fsk_temperature_can_be_read_but_not_written(bench):
    bench.chip.temperature_c = 31
    assert bench.read(reg.FSK_TEMP) == 0xE1
    with pytest.raises(Misuse):
        bench.write(reg.FSK_TEMP, 0)


@pytest.mark.parametrize("address", [0x06, 0x0B, 0x0C, 0x1D, 0x26, 0x39, 0x4D, 0x61])
def test_a_setting_reads_back_as_written(bench, address):
    bench.lora()
    bench.write(address, 0x5A)
    assert bench.read(address) == 0x5A


def test_the_two_pages_part_at_0x0d_and_meet_again_at_0x40(bench):
    for address in (0x0C, 0x0D, 0x3F, 0x40):
        bench.write(address, 0x15)
    bench.lora()
    assert [bench.read(address) for address in (0x0C, 0x0D, 0x3F, 0x40)] == [0x15, 0x00, 0x00, 0x15]


def test_a_frequency_is_taken_over_with_its_last_byte_only(link):
    link.rx.write(reg.FRF_MSB, 0xD8, 0xC6)  # 867.1 MHz but for the last byte, which is the same
    assert link.rx.burst(reg.FRF_MSB, 3) == b"\xd8\xc6\x66"
    link.rx.write(reg.OP_MODE, 0x85)
    link.send()
    assert link.fate() is Fate.RECEIVED
    link.rx.write(reg.OP_MODE, 0x81)
    link.rx.write(reg.FRF_LSB, 0x66)
    link.rx.write(reg.OP_MODE, 0x85)
    link.send()
    assert link.fate() is Fate.NOT_MATCHED


def test_the_driver_retunes_by_a_whole_megahertz(link):
    """The two frequencies have their last byte in common, and the driver writes differences."""

    class Wire:
        def xfer(self, data: bytes) -> bytes:
            return link.rx.chip.spi(data)

    driver = Chip(Wire())
    modulation = LoRaModulation(7, 125_000)
    for freq_hz in (868_100_000, 867_100_000):
        driver.configure_receive(Settings(freq_hz, modulation))
        link.tx.setup(freq_hz=freq_hz)
        link.rx.write(reg.OP_MODE, 0x85)
        link.send()
        assert link.fate() is Fate.RECEIVED, freq_hz
        link.rx.write(reg.OP_MODE, 0x81)


def test_a_reset_restores_434_mhz(bench):
    bench.write(reg.FRF_MSB, 0xD9, 0x06, 0x66)
    bench.chip.power_cycle()
    bench.run(10 * MS)
    assert bench.burst(reg.FRF_MSB, 3) == b"\x6c\x80\x00"
    assert settings.frf_hz(0x6C8000) == 434_000_000


@pytest.mark.parametrize(
    ("code", "bw_hz"),
    tuple(enumerate((7_800, 10_400, 15_600, 20_800, 31_250, 41_700, 62_500, 125_000, 250_000, 500_000))),
)
def test_bandwidth_code(code, bw_hz):
    regs = bytearray(128)
    regs[reg.MODEM_CONFIG1 : reg.MODEM_CONFIG2 + 1] = bytes((code << 4 | 0x04, 0x90))
    assert settings.modulation(regs) == LoRaModulation(9, bw_hz, 2)


@pytest.mark.parametrize(
    ("ocp", "limit_ma"),
    [
        pytest.param(0x20, 45, id="trim 0"),
        pytest.param(0x2B, 100, id="trim 11, after reset"),
        pytest.param(0x2F, 120, id="trim 15"),
        pytest.param(0x30, 130, id="trim 16"),
        pytest.param(0x31, 140, id="trim 17"),
        pytest.param(0x3A, 230, id="trim 26"),
        pytest.param(0x3B, 240, id="trim 27"),
        pytest.param(0x3F, 240, id="trim 31"),
        pytest.param(0x0B, 240, id="off"),
    ],
)
def test_over_current_limit(ocp, limit_ma):
    regs = bytearray(128)
    regs[reg.OCP] = ocp
    assert settings.ocp_ma(regs) == limit_ma


def test_lna_gain_bits_are_the_chips_while_it_receives_with_agc(make_link):
    link = make_link(2.0)
    link.rx.write(reg.LNA, 0xC3)
    assert link.rx.read(reg.LNA) == 0xC3
    link.rx.write(reg.OP_MODE, 0x85)
    link.run(MS)
    assert link.rx.read(reg.LNA) == 0x23
    link.tx.load(bytes(50))
    link.tx.write(reg.OP_MODE, 0x83)
    link.run(20 * MS)
    assert link.rx.read(reg.LNA) >> 5 > 1
    assert link.rx.read(reg.LNA) & 0x1F == 0x03
    link.rx.write(reg.MODEM_CONFIG3, 0x00)
    assert link.rx.read(reg.LNA) == 0xC3


def test_preamble_length_has_two_bytes(link):
    link.tx.write(reg.PREAMBLE_MSB, 0x01, 0x02)
    link.send()
    longer_ns = link.last.airtime_ns
    link.tx.write(reg.PREAMBLE_MSB, 0x00, 0x08)
    link.send()
    assert longer_ns - link.last.airtime_ns == 250 * 1_024_000


def test_a_receiver_with_implicit_header_may_not_have_length_0(bench):
    bench.setup()
    bench.write(reg.MODEM_CONFIG1, 0x73)
    bench.write(reg.PAYLOAD_LENGTH, 0)
    with pytest.raises(Misuse) as caught:
        bench.write(reg.OP_MODE, 0x85)
    assert caught.value.rule is Rule.ZERO_LENGTH


def test_a_receiver_with_explicit_header_does_not_look_at_the_length(link):
    link.rx.write(reg.PAYLOAD_LENGTH, 0)
    link.rx.write(reg.OP_MODE, 0x85)
    link.send()
    assert link.fate() is Fate.RECEIVED


def test_a_chip_that_is_not_strict_sends_nothing_with_length_0(make_link):
    link = make_link()
    link.tx.chip.strict = False
    link.tx.write(reg.PAYLOAD_LENGTH, 0)
    link.tx.write(reg.OP_MODE, 0x83)
    link.run(1000 * MS)
    assert not link.air.records.frames
    assert link.tx.read(reg.IRQ_FLAGS) == 0


def test_the_running_bit_of_image_calibration_is_the_chips(bench):
    bench.write(reg.FSK_IMAGE_CAL, 0xA2)
    assert bench.read(reg.FSK_IMAGE_CAL) == 0x82
    bench.write(reg.FSK_IMAGE_CAL, 0xC2)
    bench.write(reg.FSK_IMAGE_CAL, 0x02)
    assert bench.read(reg.FSK_IMAGE_CAL) == 0x22
    bench.run(20 * MS)
    assert bench.read(reg.FSK_IMAGE_CAL) == 0x02
