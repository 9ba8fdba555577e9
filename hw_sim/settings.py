"""What the registers of an SX1276 add up to: waveforms, transmit power, band, and errata left unattended."""

from typing import Final

from hw_sim import registers as reg
from hw_sim.errors import Rule
from hw_sim.phy import BANDWIDTHS_HZ, Waveform
from radio.lora import LoRaModulation

FRF_STEP_HZ: Final = 32_000_000 / (1 << 19)
HF_PORT_FROM_HZ: Final = 525_000_000  # the lower end of what the LF port does not cover
RFO_UNWIRED_LOSS_DB: Final = 40.0  # modules connect PA_BOOST only; what still leaks from RFO
ERRATUM_500K_LOSS_DB: Final = 3.0  # assumed sensitivity loss at 500 kHz without erratum 2.1

# Errata 2.3: bandwidth -> what 0x2F must hold with automatic IF off (0x30 holds 0).
_IF_FREQ: Final[dict[int, int]] = {
    7_800: 0x48,
    **dict.fromkeys((10_400, 15_600, 20_800, 31_250, 41_700), 0x44),
    **dict.fromkeys((62_500, 125_000, 250_000), 0x40),
}


class BadSettings(Exception):
    """The registers describe nothing the modem can do; names the rule and the register to blame."""

    def __init__(self, rule: Rule, address: int, value: int) -> None:
        self.rule = rule
        self.address = address
        self.value = value
        super().__init__(rule.value)


def frf_hz(frf: int) -> float:
    """The carrier frequency of a 24-bit RegFrf."""
    return frf * FRF_STEP_HZ


def modulation(regs: bytearray) -> LoRaModulation:
    """Spreading factor, bandwidth and coding rate. Raises BadSettings for codes the modem does not have."""
    config1, config2 = regs[reg.MODEM_CONFIG1], regs[reg.MODEM_CONFIG2]
    bandwidth, rate, sf = config1 >> 4, config1 >> 1 & 7, config2 >> 4
    if bandwidth >= len(BANDWIDTHS_HZ):
        raise BadSettings(Rule.BANDWIDTH, reg.MODEM_CONFIG1, config1)
    if not 1 <= rate <= 4:
        raise BadSettings(Rule.CODING_RATE, reg.MODEM_CONFIG1, config1)
    if not 6 <= sf <= 12:
        raise BadSettings(Rule.SPREADING_FACTOR, reg.MODEM_CONFIG2, config2)
    if sf == 6 and not config1 & 1:
        raise BadSettings(Rule.SF6_EXPLICIT, reg.MODEM_CONFIG1, config1)
    return LoRaModulation(sf, BANDWIDTHS_HZ[bandwidth], rate)


def waveform(regs: bytearray, freq_hz: float, *, receiving: bool) -> Waveform:
    """Everything both ends must agree on. RX inversion is bit 6 of RegInvertIQ alone, TX inversion bit 0
    cleared.
    """
    invert = regs[reg.INVERT_IQ]
    return Waveform(
        freq_hz=freq_hz,
        modulation=modulation(regs),
        ldro=bool(regs[reg.MODEM_CONFIG3] & 0x08),
        implicit_header=bool(regs[reg.MODEM_CONFIG1] & 0x01),
        crc=bool(regs[reg.MODEM_CONFIG2] & 0x04),
        iq_inverted=bool(invert & 0x40) if receiving else not invert & 0x01,
        sync_word=regs[reg.SYNC_WORD],
        preamble=regs[reg.PREAMBLE_MSB] << 8 | regs[reg.PREAMBLE_LSB],
        length=regs[reg.PAYLOAD_LENGTH],
        hop_period=regs[reg.HOP_PERIOD],
    )


def detector_fits(regs: bytearray, sf: int) -> bool:
    """Are DetectOptimize and DetectionThreshold set for this spreading factor?"""
    optimize, threshold = (0x05, 0x0C) if sf == 6 else (0x03, 0x0A)
    return regs[reg.DETECT_OPTIMIZE] & 0x07 == optimize and regs[reg.DETECTION_THRESHOLD] == threshold


def receive_shift_hz(regs: bytearray, bw_hz: int) -> float:
    """How far below the programmed frequency a narrow-band receiver sits with automatic IF off (errata
    2.3).
    """
    narrow = bw_hz <= 41_700 and not regs[reg.DETECT_OPTIMIZE] & 0x80
    return float(bw_hz) if narrow and regs[reg.IF_FREQ1] == _IF_FREQ[bw_hz] else 0.0


def inversion_complete(regs: bytearray, *, inverted: bool) -> bool:
    """Does RegInvertIQ2 fit the direction of the chirps?"""
    return regs[reg.INVERT_IQ2] == (0x19 if inverted else 0x1D)


def errata_unattended(regs: bytearray, freq_hz: float, bw_hz: int) -> tuple[str, ...]:
    """The numbers of the receive errata whose workaround these registers do not hold."""
    found = []
    if bw_hz == 500_000:
        high_band = freq_hz >= HF_PORT_FROM_HZ
        if (regs[reg.HIGH_BW_OPTIMIZE1], regs[reg.HIGH_BW_OPTIMIZE2]) != (0x02, 0x64 if high_band else 0x7F):
            found.append("2.1")
        if not regs[reg.DETECT_OPTIMIZE] & 0x80:
            found.append("2.3")
    else:
        if regs[reg.HIGH_BW_OPTIMIZE1] != 0x03:
            found.append("2.1")
        wanted = (_IF_FREQ[bw_hz], 0x00)
        if regs[reg.DETECT_OPTIMIZE] & 0x80 or (regs[reg.IF_FREQ1], regs[reg.IF_FREQ2]) != wanted:
            found.append("2.3")
    return tuple(found)


def output_power_dbm(regs: bytearray, *, rfo_wired: bool) -> float:
    """Power at the antenna connector. +20 dBm needs RegPaDac and an over-current limit of 140 mA or more."""
    config = regs[reg.PA_CONFIG]
    output = config & 0x0F
    if config & 0x80:
        if regs[reg.PA_DAC] & 0x07 != 0x07:
            return 2.0 + output
        boosted = 5.0 + output
        return boosted if boosted <= 17 or ocp_ma(regs) >= 140 else 17.0
    power = min(10.8 + 0.6 * (config >> 4 & 7) - 15 + output, 14.0)
    return power if rfo_wired else power - RFO_UNWIRED_LOSS_DB


def ocp_ma(regs: bytearray) -> int:
    """The over-current limit; without protection, what the supply can give."""
    ocp = regs[reg.OCP]
    trim = min(ocp & 0x1F, 27)
    if not ocp & 0x20:
        return 240
    return 45 + 5 * trim if trim <= 15 else -30 + 10 * trim


def rssi_offset_dbm(freq_hz: float) -> int:
    """What RegRssi counts from, by the port the frequency belongs to."""
    return -157 if freq_hz >= HF_PORT_FROM_HZ else -164


def packet_rssi_code(rssi_dbm: float, snr_db: float, offset_dbm: int) -> int:
    """RegPktRssi for a signal of this strength: the inverse of the datasheet's two reading rules."""
    code = (rssi_dbm - offset_dbm) * 15 / 16 if snr_db >= 0 else rssi_dbm - snr_db - offset_dbm
    return max(0, min(255, round(code)))


def fei_code(error_hz: float, bw_hz: int) -> int:
    """RegFei, 20 bits two's complement: error * BW-dependent step of 2^24/32e6 * BW[kHz]/500 Hz."""
    code = round(error_hz * 32e6 / (1 << 24) * 500_000 / bw_hz)
    return max(-(1 << 19), min((1 << 19) - 1, code)) & 0xFFFFF
