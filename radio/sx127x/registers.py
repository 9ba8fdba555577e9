"""The SX1276/77/78/79 register map in LoRa mode, and which values a wanted setting needs. Pure.

Names and numbers are the datasheet's (revision 7, section 6). `for_receive` and `for_transmit` turn
settings into register contents; `errata` holds every errata note that touches a register.
"""

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

from radio.lora import CRYSTAL_HZ, LoRaModulation
from radio.lora import SYNC_WORD_LORAWAN as SYNC_WORD_LORAWAN
from radio.lora import SYNC_WORD_PRIVATE as SYNC_WORD_PRIVATE

REG_FIFO: Final = 0x00
REG_OP_MODE: Final = 0x01
REG_FRF_MSB: Final = 0x06
REG_FRF_MID: Final = 0x07
REG_FRF_LSB: Final = 0x08
REG_PA_CONFIG: Final = 0x09
REG_PA_RAMP: Final = 0x0A
REG_OCP: Final = 0x0B
REG_LNA: Final = 0x0C
REG_FIFO_ADDR_PTR: Final = 0x0D
REG_FIFO_TX_BASE_ADDR: Final = 0x0E
REG_FIFO_RX_BASE_ADDR: Final = 0x0F
REG_FIFO_RX_CURRENT_ADDR: Final = 0x10
REG_IRQ_FLAGS_MASK: Final = 0x11
REG_IRQ_FLAGS: Final = 0x12
REG_RX_NB_BYTES: Final = 0x13
REG_RX_HEADER_CNT_MSB: Final = 0x14
REG_RX_PACKET_CNT_LSB: Final = 0x17
REG_MODEM_STAT: Final = 0x18
REG_PKT_SNR_VALUE: Final = 0x19
REG_PKT_RSSI_VALUE: Final = 0x1A
REG_RSSI_VALUE: Final = 0x1B
REG_HOP_CHANNEL: Final = 0x1C
REG_MODEM_CONFIG_1: Final = 0x1D
REG_MODEM_CONFIG_2: Final = 0x1E
REG_SYMB_TIMEOUT_LSB: Final = 0x1F
REG_PREAMBLE_MSB: Final = 0x20
REG_PREAMBLE_LSB: Final = 0x21
REG_PAYLOAD_LENGTH: Final = 0x22
REG_MAX_PAYLOAD_LENGTH: Final = 0x23
REG_HOP_PERIOD: Final = 0x24
REG_MODEM_CONFIG_3: Final = 0x26
REG_PPM_CORRECTION: Final = 0x27
REG_FEI_MSB: Final = 0x28
REG_RSSI_WIDEBAND: Final = 0x2C
REG_IF_FREQ_1: Final = 0x2F
REG_IF_FREQ_2: Final = 0x30
REG_DETECT_OPTIMIZE: Final = 0x31
REG_INVERT_IQ: Final = 0x33
REG_HIGH_BW_OPTIMIZE_1: Final = 0x36
REG_DETECTION_THRESHOLD: Final = 0x37
REG_SYNC_WORD: Final = 0x39
REG_HIGH_BW_OPTIMIZE_2: Final = 0x3A
REG_INVERT_IQ_2: Final = 0x3B
REG_IMAGE_CAL: Final = 0x3B  # in FSK mode
REG_DIO_MAPPING_1: Final = 0x40
REG_VERSION: Final = 0x42
REG_PA_DAC: Final = 0x4D

LONG_RANGE_MODE: Final = 0x80
LOW_FREQUENCY_MODE_ON: Final = 0x08
PLL_TIMEOUT: Final = 0x80  # in HopChannel: the synthesiser did not lock
CRC_ON_PAYLOAD: Final = 0x40  # in HopChannel: the header of the last packet announced a CRC
RX_ONGOING: Final = 0x04  # in ModemStat
IMAGE_CAL_START: Final = 0x40
IMAGE_CAL_RUNNING: Final = 0x20

VERSIONS: Final = {0x12: "SX1276/77/78/79", 0x13: "SX1276 clone", 0x11: "SX1276 clone"}
HF_PORT_FROM_HZ: Final = 525_000_000  # datasheet 4.1: band 1 is the HF port, 2 and 3 the LF port
FREQUENCY_RANGE_HZ: Final = (137_000_000, 1_020_000_000)

# What the chip changes by itself or never shows again; left out when a write is compared with its read-back.
READ_BACK_MASK: Final[dict[int, int]] = {
    REG_LNA: 0x1F,  # with AGC on, the gain bits are the chip's
    REG_PA_RAMP: 0x0F,
    REG_OCP: 0x3F,
    REG_INVERT_IQ: 0x41,  # the rest is reserved
}
FRF_AFTER_RESET: Final = bytes((0x6C, 0x80, 0x00))  # 434 MHz
# What matters to a transmission alone, and may be written while the chip receives.
FOR_SENDING: Final = frozenset({REG_PA_CONFIG, REG_PA_RAMP, REG_OCP, REG_PA_DAC, REG_FIFO_TX_BASE_ADDR})
# Registers with a life of their own, never part of a settings burst.
NOT_SETTINGS: Final = frozenset({REG_FIFO, REG_OP_MODE, REG_FIFO_ADDR_PTR, REG_IRQ_FLAGS})


class Mode(IntEnum):
    """Bits 2:0 of RegOpMode."""

    SLEEP = 0
    STDBY = 1
    FSTX = 2
    TX = 3
    FSRX = 4
    RXCONT = 5
    RXSINGLE = 6
    CAD = 7


class Irq(IntFlag):
    """RegIrqFlags; write 1 to clear."""

    RX_TIMEOUT = 0x80
    RX_DONE = 0x40
    PAYLOAD_CRC_ERROR = 0x20
    VALID_HEADER = 0x10
    TX_DONE = 0x08
    CAD_DONE = 0x04
    FHSS_CHANGE = 0x02
    CAD_DETECTED = 0x01


class Dio0(IntEnum):
    """RegDioMapping1 bits 7:6."""

    RX_DONE = 0
    TX_DONE = 1
    CAD_DONE = 2


@dataclass(frozen=True, slots=True)
class Settings:
    """All a LoRa link needs to know; both ends set the same. Raises ValueError out of range."""

    freq_hz: int
    modulation: LoRaModulation
    iq_inverted: bool = False  # devices send normal and listen inverted, gateways the reverse
    crc: bool = True  # sender: append one; receiver with explicit header obeys the header instead
    sync_word: int = SYNC_WORD_LORAWAN
    preamble: int = 8  # symbols; 4.25 more go out
    implicit_header: bool = False
    payload_length: int = 0xFF  # implicit header: the length expected. Sending sets its own
    symbol_timeout: int = 100  # 4..1023, for RXSINGLE

    def __post_init__(self) -> None:
        if not FREQUENCY_RANGE_HZ[0] <= self.freq_hz <= FREQUENCY_RANGE_HZ[1]:
            raise ValueError(f"{self.freq_hz} Hz is outside what an SX127x tunes to")
        if self.modulation.sf == 6 and not self.implicit_header:
            raise ValueError("SF6 works with an implicit header only")
        if not 0 <= self.sync_word <= 0xFF:
            raise ValueError(f"sync word {self.sync_word} is not one byte")
        if not 6 <= self.preamble <= 0xFFFF:
            raise ValueError(f"a preamble of {self.preamble} symbols is not 6 to 65535")
        if not 4 <= self.symbol_timeout <= 1023:
            raise ValueError(f"a symbol timeout of {self.symbol_timeout} is not 4 to 1023")
        if not 1 <= self.payload_length <= 255:
            raise ValueError(f"a payload length of {self.payload_length} is not 1 to 255")


@dataclass(frozen=True, slots=True)
class Power:
    """Where the antenna is wired and how strong to send. Raises ValueError out of range."""

    dbm: int  # at the chip's pin
    pa_boost: bool = True  # nearly all modules wire PA_BOOST only; RFO on them radiates almost nothing

    def __post_init__(self) -> None:
        low, high = self.limits(self.pa_boost)
        if not low <= self.dbm <= high:
            raise ValueError(f"{self.dbm} dBm is not {low} to {high}")

    @staticmethod
    def limits(pa_boost: bool) -> tuple[int, int]:
        """Weakest and strongest output of a pin, in dBm."""
        return (2, 20) if pa_boost else (-4, 14)


def frf(freq_hz: int) -> int:
    """The 24 bits of RegFrf nearest to a frequency (steps of 61.03515625 Hz)."""
    return ((freq_hz << 19) + CRYSTAL_HZ // 2) // CRYSTAL_HZ


def _common(settings: Settings) -> dict[int, int]:
    mod = settings.modulation
    bandwidth = _BANDWIDTH_CODE[mod.bw_hz]
    return {
        REG_LNA: 0x23,  # G1 to start from, HF boost
        REG_MODEM_CONFIG_1: bandwidth << 4 | mod.cr << 1 | settings.implicit_header,
        REG_MODEM_CONFIG_2: mod.sf << 4 | settings.crc << 2 | settings.symbol_timeout >> 8,
        REG_SYMB_TIMEOUT_LSB: settings.symbol_timeout & 0xFF,
        REG_PREAMBLE_MSB: settings.preamble >> 8,
        REG_PREAMBLE_LSB: settings.preamble & 0xFF,
        REG_PAYLOAD_LENGTH: settings.payload_length,
        REG_MAX_PAYLOAD_LENGTH: 0xFF,
        REG_HOP_PERIOD: 0,  # anything else is frequency hopping
        REG_MODEM_CONFIG_3: mod.low_data_rate_optimize << 3 | 0x04,  # AgcAutoOn
        REG_PPM_CORRECTION: 0,
        REG_DETECTION_THRESHOLD: 0x0C if mod.sf == 6 else 0x0A,
        REG_SYNC_WORD: settings.sync_word,
        REG_FIFO_TX_BASE_ADDR: 0,  # both halves share one buffer: a gateway never does both at once
        REG_FIFO_RX_BASE_ADDR: 0,
    }


def for_receive(settings: Settings) -> dict[int, int]:
    """Register contents to receive with these settings."""
    fixes, shift_hz = errata(settings.freq_hz, settings.modulation.bw_hz)
    return (
        _common(settings)
        | _frequency(settings.freq_hz + shift_hz)
        | {
            # Bit 6 inverts the receive path, bit 0 CLEARED the transmit path.
            REG_INVERT_IQ: 0x67 if settings.iq_inverted else 0x27,
            REG_INVERT_IQ_2: 0x19 if settings.iq_inverted else 0x1D,
        }
        | _with_detector(fixes, settings.modulation.sf)
    )


def for_transmit(settings: Settings, power: Power, length: int) -> dict[int, int]:
    """Register contents to send `length` bytes (1..255) with these settings."""
    fixes, _shift_is_for_receiving = errata(settings.freq_hz, settings.modulation.bw_hz)
    return (
        _common(settings)
        | _frequency(settings.freq_hz)
        | power_amplifier(power)
        | {
            REG_PAYLOAD_LENGTH: length,
            REG_INVERT_IQ: 0x26 if settings.iq_inverted else 0x27,
            REG_INVERT_IQ_2: 0x19 if settings.iq_inverted else 0x1D,
        }
        | _with_detector(fixes, settings.modulation.sf)
    )


def power_amplifier(power: Power) -> dict[int, int]:
    """PaConfig, PaRamp, Ocp and PaDac for an output power (datasheet 3.4.2 and 3.4.3)."""
    ramp = {REG_PA_RAMP: 0x09}  # 40 us: part of the constant start latency
    if not power.pa_boost:
        # Pout = 10.8 + 0.6 * MaxPower - 15 + OutputPower, with MaxPower 7 or 0
        config = 7 << 4 | power.dbm if power.dbm >= 0 else power.dbm + 4
        return ramp | {REG_PA_CONFIG: config, REG_OCP: 0x2B, REG_PA_DAC: 0x84}
    if power.dbm > 17:  # +20 dBm setting: Pout = 5 + OutputPower, and the 240 mA limit
        return ramp | {REG_PA_CONFIG: 0xF0 | (power.dbm - 5), REG_OCP: 0x3B, REG_PA_DAC: 0x87}
    return ramp | {REG_PA_CONFIG: 0xF0 | (power.dbm - 2), REG_OCP: 0x2B, REG_PA_DAC: 0x84}


def errata(freq_hz: int, bw_hz: int) -> tuple[dict[int, int], int]:
    """Errata note of the SX1276 family: register contents, and a shift in Hz for receiving only.

    2.1 sensitivity with 500 kHz; 2.3 spurious reception of a signal offset by the intermediate frequency.
    Of RegDetectOptimize the answer gives AutomaticIFOn (bit 7) and the reserved bits; the low three bits
    belong to the spreading factor.
    """
    if bw_hz == 500_000:
        return {  # 2.1 (the second value follows the band) and 2.3
            REG_HIGH_BW_OPTIMIZE_1: 0x02,
            REG_HIGH_BW_OPTIMIZE_2: 0x64 if freq_hz >= HF_PORT_FROM_HZ else 0x7F,
            REG_DETECT_OPTIMIZE: 0xC0,
        }, 0
    values = {
        REG_HIGH_BW_OPTIMIZE_1: 0x03,  # 2.1: HighBwOptimize2 is then the chip's own
        REG_DETECT_OPTIMIZE: 0x40,  # 2.3
        REG_IF_FREQ_2: 0x00,
    }
    if bw_hz >= 62_500:
        return values | {REG_IF_FREQ_1: 0x40}, 0
    if bw_hz >= 10_400:
        return values | {REG_IF_FREQ_1: 0x44}, bw_hz
    return values | {REG_IF_FREQ_1: 0x48}, bw_hz


def _with_detector(fixes: dict[int, int], sf: int) -> dict[int, int]:
    return fixes | {REG_DETECT_OPTIMIZE: fixes[REG_DETECT_OPTIMIZE] | (0x05 if sf == 6 else 0x03)}


def _frequency(freq_hz: int) -> dict[int, int]:
    word = frf(freq_hz)
    return {REG_FRF_MSB: word >> 16, REG_FRF_MID: word >> 8 & 0xFF, REG_FRF_LSB: word & 0xFF}


_BANDWIDTH_CODE: Final[dict[int, int]] = {
    7_800: 0,
    10_400: 1,
    15_600: 2,
    20_800: 3,
    31_250: 4,
    41_700: 5,
    62_500: 6,
    125_000: 7,
    250_000: 8,
    500_000: 9,
}


def rssi_offset_dbm(freq_hz: int) -> int:
    """What an RSSI register counts from: the HF port -157 dBm, the LF port -164 dBm (datasheet 5.5.5)."""
    return -157 if freq_hz >= HF_PORT_FROM_HZ else -164


def packet_snr_db(raw: int) -> float:
    """RegPktSnrValue: a signed byte of quarter decibels."""
    return (raw - 256 if raw >= 128 else raw) / 4


def packet_rssi_dbm(raw: int, snr_db: float, freq_hz: int) -> int:
    """Strength of the last packet (datasheet 5.5.5): corrected by the SNR below the noise floor."""
    offset = rssi_offset_dbm(freq_hz)
    return round(offset + raw + snr_db) if snr_db < 0 else round(offset + raw * 16 / 15)


def frequency_error_hz(raw: bytes, bw_hz: int) -> int:
    """RegFei, 20 bits signed: how far the sender is above the receiver (datasheet 4.1.5)."""
    word = (raw[0] & 0x0F) << 16 | raw[1] << 8 | raw[2]
    if word & 0x80000:
        word -= 1 << 20
    return round(word * (1 << 24) / CRYSTAL_HZ * bw_hz / 500_000)
