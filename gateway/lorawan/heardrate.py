"""How many of a device's frames are heard: counted from the gaps in its FCnt.

Each new frame counter tells how many frames before it nobody heard. Repetitions under one counter (NbTrans) are one
frame. A new session, a counter that begins anew and a restart of this process leave no gap to count.
"""

from __future__ import annotations

RECENT = 100  # frames that the share is over, heard and missed together: within 5 % at a third heard
# A longer one is a device that was elsewhere or has set its counter, not one that was missed
MAX_GAP = 16_384
_MASK = (1 << RECENT) - 1


class HeardRate:
    """Of one device, since the start of the process: 96 bytes."""

    __slots__ = ("_bits", "heard", "missed")

    def __init__(self) -> None:
        self.heard = 0
        self.missed = 0
        self._bits = 0  # of the last frames, newest lowest: 1 heard, 0 missed

    def add(self, before: int | None, fcnt: int) -> None:
        """A frame came with counter `fcnt`; the last one of its session was `before`, None where it is the first."""
        if before is not None and fcnt - before != 1 and self.heard:
            gap = fcnt - before - 1
            if 0 < gap < MAX_GAP:
                self.missed += gap
                self._bits <<= gap if gap < RECENT else RECENT
        self.heard += 1
        bits = self._bits
        if bits != _MASK:  # most devices are heard whole
            self._bits = (bits << 1 | 1) & _MASK

    @property
    def frames(self) -> int:
        """How many of the last RECENT frames are known of."""
        return min(RECENT, self.heard + self.missed)

    @property
    def share(self) -> float | None:
        """Of the last frames, 0..1; None before the first."""
        return self._bits.bit_count() / self.frames if self.heard else None

    @property
    def overall(self) -> float | None:
        """Of all frames since the start."""
        return self.heard / (self.heard + self.missed) if self.heard else None

    def loss(self, heard: int) -> float:
        """The share that was missed from the first of the last `heard` frames that came until now, 0..1.

        Among RECENT frames at most; 0 where fewer are known.
        """
        bits, ones, frames = self._bits, 0, 0
        while ones < heard and frames < self.frames:
            ones += bits & 1
            bits >>= 1
            frames += 1
        return 1 - ones / frames if ones >= heard or frames >= RECENT else 0.0
