"""A device's channels: which there are, which are enabled, and what the network's commands and lists do to them.

Pure. Where the text leaves a choice the device does as LoRaMac-node does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from gateway.lorawan import mac
from radio.regions import Region

DYNAMIC_CHANNELS: Final = 16  # of a region whose plan is not fixed
CFLIST_SIZE: Final = 16
LEAST_NARROW: Final = 2  # US915: with fewer 125 kHz channels a slow data rate is refused
_GROUP: Final = 16
_EIGHT: Final = 8
_BROAD_HZ: Final = 500_000


@dataclass(frozen=True, slots=True)
class Channel:
    """One uplink channel. Its RX1 is on `downlink_hz` where a DlChannelReq has moved it."""

    freq_hz: int
    min_dr: int
    max_dr: int
    downlink_hz: int | None = None
    index: int = 0  # the number a session of 1.1 signs


class Channels:
    """The channels of a device: its region's, narrowed down to `subset_hz` unless that is empty, and added ones."""

    def __init__(self, region: Region, subset_hz: Sequence[int] = ()) -> None:
        self._region = region
        self._subset = frozenset(subset_hz)
        low, high = min(region.uplink_data_rates), max(region.uplink_data_rates)
        self._all = {
            index: Channel(freq_hz, low, high, index=index)
            for index, freq_hz in enumerate(region.uplink_channels())
        }
        self.mask = {i for i, each in self._all.items() if self._allows(each.freq_hz)}

    def __contains__(self, index: int) -> bool:
        return index in self._all

    def usable(self, dr: int) -> list[Channel]:
        """Enabled channels that carry the data rate; without any, all that do."""
        able = [i for i in sorted(self._all) if self.carries(i, dr)]
        return [self._all[i] for i in able if i in self.mask] or [self._all[i] for i in able]

    def carries(self, index: int, dr: int) -> bool:
        """Is there such a channel, and is it for that data rate?"""
        channel = self._all.get(index)
        if channel is None or not channel.min_dr <= dr <= channel.max_dr:
            return False
        return not self._region.fixed_plan or self._is_broad(dr) == (index >= self._first_wide)

    def enable_defaults(self) -> None:
        """The last resort of a device that nobody answers."""
        self.mask |= set(range(self._defaults))

    def add_cflist(self, cflist: bytes) -> None:
        """The list of a join-accept (RP002, CFList): five frequencies, or the masks of a fixed plan.

        A list of the type that this region does not have is ignored.
        """
        if len(cflist) != CFLIST_SIZE or cflist[-1] != self._region.cflist_type:
            return
        if self._region.cflist_type == 1:
            self._take_masks(cflist)
            return
        for i in range(5):
            freq_hz = int.from_bytes(cflist[3 * i : 3 * i + 3], "little") * 100
            if freq_hz:
                index = self._defaults + i
                self._all[index] = Channel(freq_hz, 0, 5, index=index)
                if self._allows(freq_hz):
                    self.mask.add(index)

    def _take_masks(self, cflist: bytes) -> None:
        mask = {
            index
            for index in self._all
            if int.from_bytes(cflist[2 * (index // _GROUP) :][:2], "little") >> index % _GROUP & 1
        }
        self.mask = mask or self.mask

    # -- commands ------------------------------------------------------------------------------------

    def masked(self, mask: set[int] | None, request: mac.LinkADRReq) -> set[int] | None:
        """One ChMask with its ChMaskCntl; None where it names channels this device does not have."""
        if mask is None:
            return None
        bits = {i for i in range(_GROUP) if request.ch_mask >> i & 1}
        control = request.ch_mask_cntl
        if not self._region.fixed_plan:
            if control == self._region.channel_mask.all_on:
                return set(self._all)
            return bits if control == 0 and bits <= self._all.keys() else None
        first_wide, groups = self._first_wide, self._first_wide // _GROUP
        wide = {i for i in self._all if i >= first_wide}
        given_wide = {first_wide + i for i in bits if first_wide + i in self._all}
        if control < groups:
            start = _GROUP * control
            return mask - set(range(start, start + _GROUP)) | {start + i for i in bits}
        if control == groups and wide:
            return mask - wide | given_wide
        if control == self._region.channel_mask.all_on:
            return set(range(first_wide)) | given_wide
        if control == self._region.channel_mask.all_off:
            return given_wide
        if control == 5 and wide:  # by blocks of eight, each with its wide channel
            blocks = [i for i in bits if i < first_wide // _EIGHT]
            return {8 * block + i for block in blocks for i in range(_EIGHT)} | {
                first_wide + block for block in blocks if first_wide + block in self._all
            }
        return None

    def enough(self, mask: set[int], dr: int) -> bool:
        """Would a device work on these channels alone?"""
        if self._region.name == "US915" and not self._is_broad(dr):
            return sum(i < self._first_wide for i in mask) >= LEAST_NARROW
        return bool(mask)

    def new_channel(self, request: mac.NewChannelReq) -> mac.NewChannelAns:
        """5.6: default channels stay as they are; frequency 0 takes a channel away."""
        own = self._defaults <= request.ch_index < DYNAMIC_CHANNELS
        rates = self._region.uplink_data_rates
        answer = mac.NewChannelAns(
            freq_ok=own and (request.freq_hz == 0 or self.in_band(request.freq_hz)),
            data_rate_ok=request.min_dr <= request.max_dr
            and request.min_dr in rates
            and request.max_dr in rates,
        )
        if answer.freq_ok and answer.data_rate_ok:
            index = request.ch_index
            if request.freq_hz:
                self._all[index] = Channel(request.freq_hz, request.min_dr, request.max_dr, index=index)
                self.mask.add(index)
            else:
                self._all.pop(index, None)
                self.mask.discard(index)
        return answer

    def dl_channel(self, request: mac.DlChannelReq) -> mac.DlChannelAns:
        """5.9: where the first window after an uplink on this channel is."""
        channel = self._all.get(request.ch_index)
        answer = mac.DlChannelAns(freq_ok=self.in_band(request.freq_hz), uplink_exists=channel is not None)
        if channel is not None and answer.freq_ok:
            self._all[request.ch_index] = replace(channel, downlink_hz=request.freq_hz)
        return answer

    def in_band(self, freq_hz: int) -> bool:
        """May a device of this region use that frequency?"""
        return any(band.min_hz <= freq_hz <= band.max_hz for band in self._region.sub_bands)

    @property
    def _defaults(self) -> int:
        return len(self._region.uplink_channels())

    @property
    def _first_wide(self) -> int:
        return self._defaults - self._region.channel_mask.wide

    def _is_broad(self, dr: int) -> bool:
        return self._region.uplink_data_rates[dr].bw_hz == _BROAD_HZ

    def _allows(self, freq_hz: int) -> bool:
        return not self._subset or freq_hz in self._subset
