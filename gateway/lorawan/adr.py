"""Adaptive data rate on the server: the margin algorithm, and channel masks as LinkADRReq blocks. Pure.

Margin = best SNR of the last 20 uplinks - what the spreading factor needs - installation margin; each 3 dB is
one step: first a higher data rate, then less power. A negative margin gives power back, never data rate: that
is the device's own remedy when nobody answers it.
"""

from __future__ import annotations

from collections.abc import Collection
from zlib import crc32

from gateway.lorawan.mac import LinkADRReq
from radio.lora import REQUIRED_SNR_DB, LoRaModulation
from radio.regions import Region

STEP_DB = 3.0
_GROUP = 16  # channels in one ChMask


def margin_db(best_snr_db: float, modulation: LoRaModulation, installation_margin_db: float) -> float:
    return best_snr_db - REQUIRED_SNR_DB[modulation.sf] - installation_margin_db


def adapt(margin: float, data_rate: int, tx_power: int, max_dr: int, max_tx_power: int) -> tuple[int, int]:
    """The (data rate, TXPower index) that uses up the margin; a greater index is less power."""
    steps = int(margin // STEP_DB)
    while steps > 0 and data_rate < max_dr:
        data_rate += 1
        steps -= 1
    while steps > 0 and tx_power < max_tx_power:
        tx_power += 1
        steps -= 1
    while steps < 0 and tx_power > 0:
        tx_power -= 1
        steps += 1
    return data_rate, tx_power


def plan_number(channels: Collection[int] | None) -> int:
    """A number that stands for a set of channels, so that a changed setting is noticed; 0 is all channels."""
    return 0 if channels is None else crc32(repr(sorted(set(channels))).encode()) | 1


def link_adr_block(
    region: Region, channels: Collection[int] | None, data_rate: int, tx_power: int, nb_trans: int
) -> tuple[LinkADRReq, ...]:
    """One atomic block: this data rate and power on these channel indices, None for all (RP002,
    LinkADRReq)."""
    return tuple(
        LinkADRReq(data_rate, tx_power, mask, control, nb_trans) for control, mask in _masks(region, channels)
    )


def cflist(region: Region, extra_hz: Collection[int], channels: Collection[int] | None) -> bytes:
    """The CFList of a join-accept, or b"" where there is nothing to say (RP002, CFList)."""
    if region.cflist_type == 0:
        if not extra_hz:
            return b""
        return b"".join((hz // 100).to_bytes(3, "little") for hz in extra_hz).ljust(15, b"\0") + b"\0"
    if channels is None:
        return b""
    return (
        b"".join(_mask(channels, group).to_bytes(2, "little") for group in range(_groups(region))).ljust(
            15, b"\0"
        )
        + b"\1"
    )


def _masks(region: Region, channels: Collection[int] | None) -> list[tuple[int, int]]:
    """(ChMaskCntl, ChMask) pairs, in the order they have to be sent."""
    control = region.channel_mask
    if channels is None:
        return [(control.all_on, (1 << control.wide) - 1)]
    if not region.fixed_plan:
        return [(0, _mask(channels, 0))]
    groups_125k = (len(region.uplink_channels()) - control.wide) // _GROUP
    masks = [(group, _mask(channels, group)) for group in range(groups_125k)]
    if control.all_off is None:  # every group must be named, the empty ones too
        return masks
    return [(control.all_off, _mask(channels, groups_125k))] + [
        (group, mask) for group, mask in masks if mask
    ]


def _groups(region: Region) -> int:
    return -(-len(region.uplink_channels()) // _GROUP)


def _mask(channels: Collection[int], group: int) -> int:
    return sum(1 << channel % _GROUP for channel in set(channels) if channel // _GROUP == group)
