"""How the driver treats the chip: what it writes, what it reads back, and what it says when that fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from radio.errors import ChipError, FaultKind, ReadBackError
from radio.lora import LoRaModulation
from radio.sx127x.chip import Chip
from radio.sx127x.registers import Dio0, Irq, Mode, Power, Settings

if TYPE_CHECKING:
    from tests.radio.conftest import RegisterFake

SETTINGS = Settings(868_100_000, LoRaModulation(7, 125_000))


def test_start_reaches_lora_standby_through_lora_sleep(bus: RegisterFake) -> None:
    Chip(bus).start()
    assert [w[1] for w in bus.writes if w[0] == 0x01] == [0x00, 0x80, 0x81]
    assert bus.registers[0x01] == 0x81


def test_image_calibration_runs_in_fsk_standby_at_the_working_frequency(bus: RegisterFake) -> None:
    Chip(bus).start(868_000_000)
    calibration = bus.writes.index(bytes((0x3B, 0x42)))
    assert bytes((0x06, 0xD9, 0x00, 0x00)) in bus.writes[:calibration]
    assert [w for w in bus.writes[:calibration] if w[0] == 0x01][-1] == bytes((0x01, 0x01))


@pytest.mark.parametrize(
    ("version", "words"),
    [(0x00, "no power"), (0xFF, "no power"), (0x42, "echoes"), (0x22, "SX1272"), (0x55, "0x55")],
)
def test_probe_says_what_a_wrong_answer_means(bus: RegisterFake, version: int, words: str) -> None:
    bus.stuck[0x42] = version
    with pytest.raises(ChipError, match=words):
        Chip(bus).probe()


def test_settings_go_out_once_in_bursts_and_only_differences_after(bus: RegisterFake, chip: Chip) -> None:
    chip.configure_receive(SETTINGS)
    assert bytes((0x1D, 0x72, 0x74, 0x64, 0x00, 0x08, 0xFF, 0xFF, 0x00)) in bus.writes
    bus.transfers.clear()
    chip.configure_receive(SETTINGS)
    assert bus.transfers == []
    chip.configure_receive(Settings(868_300_000, LoRaModulation(7, 125_000)))
    assert bus.writes == [bytes((0x06, 0xD9, 0x13, 0x33))]
    bus.transfers.clear()
    chip.configure_receive(Settings(868_300_000, LoRaModulation(9, 125_000)))
    assert bus.writes == [bytes((0x1E, 0x94))]


def test_a_frequency_goes_out_to_its_last_byte_which_alone_makes_the_chip_take_it(
    bus: RegisterFake, chip: Chip
) -> None:
    chip.configure_receive(SETTINGS)
    bus.transfers.clear()
    chip.configure_receive(Settings(867_100_000, LoRaModulation(7, 125_000)))  # 1 MHz: the LSB stays
    assert bus.writes == [bytes((0x06, 0xD8, 0xC6, 0x66))]


def test_a_register_that_does_not_hold_is_named(bus: RegisterFake, chip: Chip) -> None:
    bus.stuck[0x39] = 0x12
    with pytest.raises(ReadBackError) as caught:
        chip.configure_receive(SETTINGS)
    assert (caught.value.register, caught.value.written, caught.value.read) == (0x39, 0x34, 0x12)
    bus.stuck.clear()
    bus.transfers.clear()
    chip.configure_receive(SETTINGS)
    assert bytes((0x39, 0x34)) in bus.writes


def test_gain_bits_belong_to_the_chip(bus: RegisterFake, chip: Chip) -> None:
    bus.stuck[0x0C] = 0xC3
    chip.configure_receive(SETTINGS)


def test_flags_are_cleared_without_reading_first(bus: RegisterFake, chip: Chip) -> None:
    bus.registers[0x12] = 0xFF
    chip.clear_flags(Irq.RX_DONE | Irq.VALID_HEADER)
    assert bus.transfers == [bytes((0x92, 0x50))]
    assert bus.registers[0x12] == 0xAF


def test_mode_is_never_cached(bus: RegisterFake, chip: Chip) -> None:
    chip.command(Mode.TX)
    bus.registers[0x01] = 0x81  # the chip falls back to standby by itself
    assert chip.mode() is Mode.STDBY
    assert not chip.in_mode(Mode.TX)


def test_a_mode_that_is_not_reached_is_an_error(bus: RegisterFake, chip: Chip) -> None:
    bus.stuck[0x01] = 0x80
    with pytest.raises(ChipError, match="RXCONT not reached"):
        chip.set_mode(Mode.RXCONT)


def test_no_mode_is_entered_from_where_a_flipped_bit_would_be_on_the_air_at_once(
    bus: RegisterFake, chip: Chip
) -> None:
    chip.set_mode(Mode.FSTX)
    bus.transfers.clear()
    chip.set_mode(Mode.STDBY)
    written = [write[1] & 7 for write in bus.writes if write[0] == 0x01]
    assert written == [Mode.FSRX, Mode.STDBY]
    assert all((mode ^ Mode.TX).bit_count() > 1 for mode in written[:1])


def test_low_band_sets_the_low_frequency_bit(bus: RegisterFake, chip: Chip) -> None:
    chip.configure_receive(Settings(433_175_000, LoRaModulation(7, 125_000)))
    chip.command(Mode.RXCONT)
    assert bus.writes[-1] == bytes((0x01, 0x8D))


def test_payload_is_loaded_from_the_transmit_base_and_compared(bus: RegisterFake, chip: Chip) -> None:
    chip.configure_transmit(SETTINGS, Power(14), b"hello")
    assert bytes(bus.fifo[:5]) == b"hello"
    assert (bus.registers[0x0E], bus.registers[0x22], bus.registers[0x09]) == (0, 5, 0xFC)
    assert len([w for w in bus.writes if w[0] == 0]) == 1


@pytest.mark.parametrize("payload", [b"", bytes(256)])
def test_payload_must_fit(chip: Chip, payload: bytes) -> None:
    with pytest.raises(ValueError, match="1 to 255"):
        chip.configure_transmit(SETTINGS, Power(14), payload)


def packet(bus: RegisterFake, *, flags: int = 0x50, hop: int = 0x40, snr: int = 0x26, rssi: int = 60) -> None:
    """Put one more received packet of four bytes at 0xFE, so that it wraps, into the registers."""
    bus.registers[0x15] += 1
    bus.registers[0x17] += 1
    bus.fifo[0xFE:] = b"\x01\x02"
    bus.fifo[:2] = b"\x03\x04"
    bus.registers[0x10] = 0xFE
    bus.registers[0x12] = flags
    bus.registers[0x13] = 4
    bus.registers[0x18] = 0x34
    bus.registers[0x19], bus.registers[0x1A], bus.registers[0x1C] = snr, rssi, hop
    bus.registers[0x28:0x2B] = bytes((0x00, 0x1D, 0xCD))


def test_a_packet_takes_few_transfers_and_wraps_around_the_fifo(bus: RegisterFake, chip: Chip) -> None:
    chip.configure_receive(SETTINGS)
    packet(bus)
    bus.transfers.clear()
    received, more = chip.read_packet()
    assert received is not None
    assert received.payload == b"\x01\x02\x03\x04"
    assert (received.crc_present, received.crc_ok, received.coding_rate) == (True, True, 1)
    assert (received.rssi_dbm, received.snr_db, received.freq_error_hz) == (-93, 9.5, 1000)
    assert more == Irq(0)
    assert len(bus.transfers) == 5


def test_crc_counts_only_where_the_header_announced_one(bus: RegisterFake, chip: Chip) -> None:
    chip.configure_receive(SETTINGS)
    packet(bus, hop=0x00)
    received, _ = chip.read_packet()
    assert received is not None
    assert (received.crc_present, received.crc_ok) == (False, True)
    packet(bus, flags=0x70)
    received, _ = chip.read_packet()
    assert received is not None
    assert (received.crc_present, received.crc_ok) == (True, False)


def test_only_the_flags_seen_are_cleared_so_that_a_later_one_is_not_lost(
    bus: RegisterFake, chip: Chip
) -> None:
    chip.configure_receive(SETTINGS)
    packet(bus, flags=0x50)
    bus.transfers.clear()
    chip.read_packet()
    assert [write for write in bus.writes if write[0] == 0x12] == [bytes((0x12, 0x50))]


def test_no_packet_without_rx_done(bus: RegisterFake, chip: Chip) -> None:
    chip.configure_receive(SETTINGS)
    packet(bus, flags=0x10)
    assert chip.read_packet() == (None, Irq.VALID_HEADER)
    assert bus.registers[0x12] == 0x10


def test_a_chip_that_receives_is_not_believed_to_be_unlocked(bus: RegisterFake, chip: Chip) -> None:
    chip.configure_receive(SETTINGS)
    bus.registers[0x1C] = 0x80
    assert chip.survey().registers[0x1C] & 0x80
    packet(bus, hop=0xC0)
    chip.read_packet()
    assert not chip.survey().registers[0x1C] & 0x80


def test_a_packet_is_taken_once(bus: RegisterFake, chip: Chip) -> None:
    chip.configure_receive(SETTINGS)
    packet(bus)
    assert chip.read_packet()[0] is not None
    bus.registers[0x12] = 0x40  # the flag is set again, and no packet came
    assert chip.read_packet() == (None, Irq(0))
    assert bus.registers[0x12] == 0


def test_a_flag_that_cannot_be_cleared_is_named(bus: RegisterFake, chip: Chip) -> None:
    bus.stuck[0x12] = 0x40
    with pytest.raises(ChipError, match="0x40 cannot be cleared") as caught:
        chip.clear_surely(Irq(0xFF))
    assert caught.value.kind is FaultKind.STUCK_FLAG


def test_a_packet_that_came_meanwhile_is_announced(bus: RegisterFake, chip: Chip) -> None:
    chip.configure_receive(SETTINGS)
    packet(bus)

    def overtake(data: bytes) -> None:
        if data[0] == 0x00:  # while the FIFO is read, the next packet ends
            bus.registers[0x10], bus.registers[0x13] = 0x02, 5
            bus.registers[0x15] += 1
            bus.registers[0x17] += 1

    bus.before = overtake
    first, flags = chip.read_packet()
    assert first is not None
    assert first.payload == b"\x01\x02\x03\x04"
    assert Irq.RX_DONE in flags
    bus.before = None
    second, _ = chip.read_packet(Irq.RX_DONE)
    assert second is not None
    assert len(second.payload) == 5


def test_a_survey_shows_what_differs_from_what_was_written(bus: RegisterFake, chip: Chip) -> None:
    chip.configure_receive(SETTINGS)
    bus.transfers.clear()
    survey = chip.survey()
    assert (survey.mode_right, survey.wrong, len(bus.transfers)) == (True, {}, 1)
    bus.registers[0x39] = 0x12
    bus.registers[0x01] = 0x80
    survey = chip.survey()
    assert (survey.mode_right, survey.wrong) == (False, {0x39: (0x34, 0x12)})


def test_restoring_writes_what_a_survey_found_and_a_frequency_whole(bus: RegisterFake, chip: Chip) -> None:
    chip.configure_receive(SETTINGS)
    bus.registers[0x07] = 0
    bus.registers[0x39] = 0x12
    survey = chip.survey()
    bus.transfers.clear()
    chip.restore(survey)
    assert bus.writes == [bytes((0x06, 0xD9, 0x06, 0x66)), bytes((0x39, 0x34))]
    assert chip.survey().wrong == {}


def test_a_read_clocks_out_what_the_registers_hold_so_that_it_may_arrive_as_a_write(
    bus: RegisterFake, chip: Chip
) -> None:
    chip.configure_transmit(SETTINGS, Power(14), b"hello")
    before = bytes(bus.registers)
    bus.flip = (0, 0x80)  # the first bit of every transfer arrives the other way round
    chip.survey()
    # All but the pointer
    assert bytes(bus.registers[:13]) + bytes(bus.registers[14:]) == before[:13] + before[14:]
    bus.flip = None
    assert chip.holds(b"hello")
    chip.write(0x0D, 0)
    bus.flip = (0, 0x80)
    assert chip.read_burst(0x00, 5, b"hello") == b"hello"
    assert bytes(bus.fifo[:5]) == b"hello"


def test_a_write_that_missed_is_repeated_and_the_mode_put_right(bus: RegisterFake, chip: Chip) -> None:
    chip.configure_receive(SETTINGS)
    bus.flip_once = (0, 0x08)  # PaConfig 0x09 becomes RegOpMode 0x01: 13 dBm would be "TX"
    chip.apply({0x09: 0xFB})
    assert bus.registers[0x09] == 0xFB
    assert bus.registers[0x01] == 0x81
    assert chip.incidents == [FaultKind.SPI_NOISE]


def test_an_echo_is_told_from_an_answer(bus: RegisterFake, chip: Chip) -> None:
    chip.configure_receive(SETTINGS)
    bus.echo = True
    with pytest.raises(ChipError, match="echoes") as caught:
        chip.survey()
    assert caught.value.kind is FaultKind.SPI_ECHO


def test_dio0_mapping_is_a_setting_like_any_other(bus: RegisterFake, chip: Chip) -> None:
    chip.map_dio0(Dio0.TX_DONE)
    assert bus.registers[0x40] == 0x40
    chip.mask_flags(Irq.TX_DONE)
    assert bus.registers[0x11] == 0xF7
