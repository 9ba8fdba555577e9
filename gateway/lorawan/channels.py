"""The uplink channels a device has, as the network knows them: index, frequency, data rates, and whether enabled.

A device starts with its region's channels. CFList and NewChannelReq add to them in regions that leave room, a
LinkADRReq's mask enables and disables them, a DlChannelReq moves the first receive window of one. What is here is
what the device has *accepted*, so `index` is the channel number that the device itself counts with (LoRaWAN 1.1, TxCh).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from radio.regions import Region

MAX_DYNAMIC = 16  # channels of a device whose region has no fixed plan (RP002: at least 16)


@dataclass(frozen=True, slots=True)
class Channel:
    freq_hz: int
    min_dr: int
    max_dr: int


_NONE: dict[int, Channel] = {}
_NO_DL: dict[int, int] = {}


@dataclass(slots=True)
class ChannelTable:
    """The channels of one device. Without a region it is empty: the server gives it one as it takes the session."""

    region: Region | None = None
    mask: int | None = None  # bit i: channel i may be used; None: every one that there is
    added: dict[int, Channel] = field(default_factory=lambda: _NONE)  # beyond the region's own
    dl_freq: dict[int, int] = field(default_factory=lambda: _NO_DL)  # Hz of RX1 by channel, where moved

    @property
    def enabled(self) -> int:
        """Bit i: the device may use channel i."""
        return self.all_on if self.mask is None else self.mask

    def enable(self, mask: int) -> None:
        """The device has accepted this mask."""
        self.mask = None if mask == self.all_on else mask

    @property
    def defaults(self) -> int:
        """How many channels the region itself has: they cannot be redefined."""
        return 0 if self.region is None else len(self.region.uplink_channels())

    def index(self, freq_hz: int) -> int | None:
        """The number of the channel on that frequency, or None."""
        if self.region is None:
            return None
        index = self.region.uplink_index(freq_hz)
        if index is None:
            for index, channel in self.added.items():
                if channel.freq_hz == freq_hz:
                    return index
            return None
        return index

    def freq_hz(self, index: int) -> int | None:
        """The frequency of a channel, or None where there is none of that number."""
        if self.region is None:
            return None
        if index < self.defaults:
            return self.region.uplink_channels()[index]
        channel = self.added.get(index)
        return None if channel is None else channel.freq_hz

    def is_enabled(self, index: int) -> bool:
        return bool(self.enabled >> index & 1)

    def add(self, index: int, freq_hz: int, min_dr: int, max_dr: int) -> None:
        """Define a channel beyond the region's own; it is enabled at once. Raises ValueError for one of those."""
        if index < self.defaults or index >= MAX_DYNAMIC:
            raise ValueError(f"channel {index} is not one of {self.defaults} to {MAX_DYNAMIC - 1}")
        self.added = {**self.added, index: Channel(freq_hz, min_dr, max_dr)}
        if self.mask is not None:
            self.mask |= 1 << index
        self._forget_dl(index)

    def remove(self, index: int) -> None:
        """Forget a channel that was added; nothing happens where there is none."""
        if index in self.added:
            self.added = {number: each for number, each in self.added.items() if number != index}
            if self.mask is not None:
                self.mask &= ~(1 << index)
            self._forget_dl(index)

    def move_rx1(self, index: int, freq_hz: int) -> None:
        """The device listens on `freq_hz` after uplinks on this channel."""
        self.dl_freq = {**self.dl_freq, index: freq_hz}

    def rx1_hz(self, uplink_hz: int) -> int | None:
        """Where RX1 of an uplink was moved to by DlChannelReq; None: where the region says."""
        if not self.dl_freq:
            return None
        index = self.index(uplink_hz)
        return None if index is None else self.dl_freq.get(index)

    def __iter__(self) -> Iterator[int]:
        """Every channel number, enabled or not."""
        yield from range(self.defaults)
        yield from sorted(self.added)

    @property
    def all_on(self) -> int:
        """The mask with every existing channel."""
        mask = (1 << self.defaults) - 1
        for index in self.added:
            mask |= 1 << index
        return mask

    def _forget_dl(self, index: int) -> None:
        if index in self.dl_freq:
            self.dl_freq = {number: hz for number, hz in self.dl_freq.items() if number != index}


def in_ranges(indices: Iterable[int]) -> str:
    """Channel numbers for people: 8, 9, 10 and 65 become "8-10, 65"."""
    parts: list[list[int]] = []
    for index in indices:
        if parts and index == parts[-1][-1] + 1:
            parts[-1].append(index)
        else:
            parts.append([index])
    return ", ".join(f"{each[0]}-{each[-1]}" if len(each) > 1 else str(each[0]) for each in parts)
