"""LoRa modulation: spreading factor, bandwidth, coding rate, and what follows from them in time.

Every other module of the gateway speaks of a modulation through `LoRaModulation` and of durations in
whole microseconds or nanoseconds; the formulas are those of the SX1276 datasheet, section 4.1.1.7.
"""

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

# Bandwidth in Hz as data sheets print it -> divider of the 32 MHz crystal. Symbols are counted by the
# divider, because "7.8 kHz" really is 7812.5 Hz and a symbol at SF12 is long enough to notice.
BANDWIDTH_DIVIDER: Final[dict[int, int]] = {
    7_800: 4096,
    10_400: 3072,
    15_600: 2048,
    20_800: 1536,
    31_250: 1024,
    41_700: 768,
    62_500: 512,
    125_000: 256,
    250_000: 128,
    500_000: 64,
}
CRYSTAL_HZ: Final = 32_000_000

# What keeps networks on one channel apart: the same for all of LoRaWAN, and the one most other systems use.
SYNC_WORD_LORAWAN: Final = 0x34
SYNC_WORD_PRIVATE: Final = 0x12

# Lowest signal-to-noise ratio a receiver demodulates, by spreading factor (SX1276 datasheet, table 13).
REQUIRED_SNR_DB: Final[dict[int, float]] = {
    6: -5.0,
    7: -7.5,
    8: -10.0,
    9: -12.5,
    10: -15.0,
    11: -17.5,
    12: -20.0,
}

# How long after the end of a frame the SX127x raises RxDone, in us at 125 kHz. Measured values that the
# LMIC device stack has carried for years; without them a class A downlink at SF12 starts 31 ms late.
_RX_DONE_LATENCY_125K_US: Final[dict[int, int]] = {
    6: 0,
    7: 0,
    8: 1648,
    9: 3265,
    10: 7049,
    11: 13641,
    12: 31189,
}

_DATR = re.compile(r"SF(\d{1,2})BW(\d{1,3}(?:\.\d{1,3})?)", re.ASCII)
# "2/3" and "1/2" are spellings that concentrators use for 4/6 and 4/8.
_CODING_RATES: Final[dict[str, int]] = {"4/5": 1, "4/6": 2, "2/3": 2, "4/7": 3, "4/8": 4, "1/2": 4}


@dataclass(frozen=True)
class LoRaModulation:
    """One way to modulate; equal values compare and hash alike.

    Raises ValueError for a spreading factor, bandwidth or coding rate no SX127x has.
    """

    sf: int  # 6..12
    bw_hz: int  # 7_800..500_000, one of BANDWIDTH_DIVIDER
    cr: int = 1  # 1..4 for 4/5..4/8

    def __post_init__(self) -> None:
        if not 6 <= self.sf <= 12:
            raise ValueError(f"spreading factor {self.sf} is not one of 6 to 12")
        if self.bw_hz not in BANDWIDTH_DIVIDER:
            raise ValueError(f"bandwidth {self.bw_hz} Hz is not one a LoRa modem has")
        if not 1 <= self.cr <= 4:
            raise ValueError(f"coding rate {self.cr} is not one of 1 to 4 (4/5 to 4/8)")

    @staticmethod
    @lru_cache(maxsize=512)
    def parse(datr: str, codr: str = "4/5") -> "LoRaModulation":
        """Read the GWMP spelling, `SF7BW125` and `4/5`. Raises ValueError for anything else."""
        match = _DATR.fullmatch(datr)
        if match is None:
            raise ValueError(f"{datr[:32]!r} is not a LoRa data rate such as SF7BW125")
        cr = _CODING_RATES.get(codr)
        if cr is None:
            raise ValueError(f"{codr[:32]!r} is not a coding rate such as 4/5")
        return LoRaModulation(int(match[1]), round(float(match[2]) * 1000), cr)

    @cached_property
    def datr(self) -> str:
        """The GWMP and SenML spelling of spreading factor and bandwidth, such as `SF7BW125`."""
        return f"SF{self.sf}BW{self.bw_hz / 1000:g}"

    @property
    def codr(self) -> str:
        """The coding rate as `4/5`..`4/8`."""
        return f"4/{4 + self.cr}"

    @property
    def symbol_ns(self) -> int:
        """Duration of a symbol, rounded down."""
        return (1 << self.sf) * BANDWIDTH_DIVIDER[self.bw_hz] * 1_000_000_000 // CRYSTAL_HZ

    @property
    def low_data_rate_optimize(self) -> bool:
        """Whether both ends must set LowDataRateOptimize: symbols of 16 ms and longer."""
        return self.symbol_ns >= 16_000_000

    def __str__(self) -> str:
        return f"{self.datr} {self.codr}"


def airtime_us(
    mod: LoRaModulation,
    phy_len: int,  # 0..255
    *,
    preamble: int = 8,  # programmed symbols; 4.25 more go out
    crc: bool = True,
    implicit_header: bool = False,
) -> int:
    """Time on air of a frame of `phy_len` bytes, rounded up to a microsecond (SX1276, 4.1.1.7)."""
    bits = 8 * phy_len - 4 * mod.sf + 28 + (16 if crc else 0) - (20 if implicit_header else 0)
    bits_per_block = 4 * (mod.sf - (2 if mod.low_data_rate_optimize else 0))
    payload_symbols = 8 + max(-(-bits // bits_per_block) * (mod.cr + 4), 0)
    quarter_symbols = 4 * (preamble + payload_symbols) + 17
    ticks = quarter_symbols * (1 << mod.sf) * BANDWIDTH_DIVIDER[mod.bw_hz]
    return -(-ticks * 1_000_000 // (4 * CRYSTAL_HZ))


def rx_done_latency_ns(sf: int, bw_hz: int) -> int:
    """Time from the end of a frame on air to the RxDone edge of an SX127x.

    Known at 125 kHz; other bandwidths scale with the symbol until someone measures them.
    """
    return _RX_DONE_LATENCY_125K_US[sf] * 1000 * BANDWIDTH_DIVIDER[bw_hz] // BANDWIDTH_DIVIDER[125_000]
