"""A LoRa frame as the modem sees it: symbols in time, and what both ends must agree on.

Durations come from the register bits as programmed (low data rate optimisation, header mode, preamble), not
from what a sensible driver would program: a driver's mistake must show on the air.
"""

from dataclasses import dataclass
from typing import Final

from radio.lora import BANDWIDTH_DIVIDER, CRYSTAL_HZ, LoRaModulation

# Bandwidth code of ModemConfig1 b7:4 -> Hz as data sheets print it.
BANDWIDTHS_HZ: Final[tuple[int, ...]] = tuple(sorted(BANDWIDTH_DIVIDER))
MIN_PREAMBLE_SYMBOLS: Final = 5  # upchirps a receiver must see to lock: 5 of the usual 8


@dataclass(frozen=True, slots=True)
class Waveform:
    """What is programmed at either end of a link; frozen when the chip starts to send or to listen."""

    freq_hz: float  # with the crystal's error
    modulation: LoRaModulation
    ldro: bool
    implicit_header: bool
    crc: bool  # sent with a payload CRC; at a receiver what it expects with an implicit header
    iq_inverted: bool
    sync_word: int
    preamble: int  # programmed symbols
    length: int  # PHY payload bytes; at a receiver only meaningful with an implicit header
    hop_period: int  # symbols, 0 = no hopping

    @property
    def symbol_ns(self) -> int:
        """Duration of a symbol, rounded down."""
        return self.modulation.symbol_ns

    def symbols_ns(self, quarter_symbols: int) -> int:
        """Duration of so many quarter symbols, without adding up rounding errors."""
        mod = self.modulation
        ticks = quarter_symbols * (1 << mod.sf) * BANDWIDTH_DIVIDER[mod.bw_hz]
        return ticks * 1_000_000_000 // (4 * CRYSTAL_HZ)

    @property
    def preamble_ns(self) -> int:
        """Programmed symbols and the 4.25 of sync word and start of frame."""
        return self.symbols_ns(4 * self.preamble + 17)

    def header_ns(self) -> int:
        """From the start of the frame to where the first block of 8 symbols, which holds the header, ends."""
        return self.symbols_ns(4 * (self.preamble + 8) + 17)

    def airtime_ns(self, length: int | None = None, *, crc: bool | None = None) -> int:
        """Time on air of `length` bytes (default: the programmed length)."""
        return self.symbols_ns(4 * (self.preamble + self.payload_symbols(length, crc=crc)) + 17)

    def payload_symbols(self, length: int | None = None, *, crc: bool | None = None) -> int:
        """Symbols of header, payload and CRC (SX1276 datasheet, 4.1.1.7)."""
        size = self.length if length is None else length
        with_crc = self.crc if crc is None else crc
        sf = self.modulation.sf
        bits = 8 * size - 4 * sf + 28 + 16 * with_crc - 20 * self.implicit_header
        blocks = -(-bits // (4 * (sf - 2 * self.ldro)))
        return 8 + max(blocks * (self.modulation.cr + 4), 0)
