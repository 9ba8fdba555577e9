"""Adaptive data rate on the server: the margin algorithm, and channel masks as LinkADRReq blocks. Pure.

Margin = best SNR of the last 20 uplinks - what the spreading factor needs - installation margin; each 3 dB is
one step: first a higher data rate, then less power. A negative margin gives power back, never data rate: that
is the device's own remedy when nobody answers it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gateway.lorawan.mac import LinkADRReq
from radio.lora import REQUIRED_SNR_DB, LoRaModulation
from radio.regions import Region

STEP_DB = 3.0
HYSTERESIS_DB = 1.5  # below zero, before power is given back
MAX_NB_TRANS = 3  # more repetitions fill the air faster than they help
BANKS = 5  # ChMaskCntl of US915 and AU915: bit i is channels 8 i to 8 i + 7 and the wide channel 64 + i
_BANK = 8
_GROUP = 16  # channels in one ChMask


def margin_db(best_snr_db: float, modulation: LoRaModulation, installation_margin_db: float) -> float:
    return best_snr_db - REQUIRED_SNR_DB[modulation.sf] - installation_margin_db


def adapt(
    margin: float,
    data_rate: int,
    tx_power: int,
    max_dr: int,
    max_tx_power: int,
    rates: Sequence[int] | None = None,
) -> tuple[int, int]:
    """The (data rate, TXPower index) that uses up the margin; a greater index is less power.

    `rates` are the only ones to choose among; a device that is at another one is brought to the nearest. Power is
    given back only for a margin that is clearly negative, so that noise does not move it to and fro.
    """
    choice = range(max(max_dr, data_rate) + 1) if rates is None else rates
    steps = int(margin // STEP_DB)
    if choice and data_rate not in choice:
        better = nearest(choice, data_rate)
        steps -= max(0, better - data_rate)
        data_rate = better
    faster = [rate for rate in choice if data_rate < rate <= min(max_dr, data_rate + steps)]
    if faster:
        steps -= max(faster) - data_rate
        data_rate = max(faster)
    if margin > -HYSTERESIS_DB:
        steps = max(steps, 0)
    tx_power = max(0, min(tx_power + steps, max_tx_power))
    return data_rate, tx_power


def nearest(rates: Collection[int], data_rate: int) -> int:
    """The fastest of `rates` that is no faster; else the slowest there is."""
    slower = [rate for rate in rates if rate <= data_rate]
    return max(slower) if slower else min(rates)


def repetitions(nb_trans: int, loss: float) -> int:
    """How often each frame is to be sent, from how often now and the share of frames that was lost.

    One more for more than 10 %, two for more than 30 %; back to one step fewer below 5 %.
    """
    now = max(1, min(nb_trans, MAX_NB_TRANS))
    if loss < 0.05:
        return max(1, now - 1)
    if loss < 0.10:
        return now
    return min(MAX_NB_TRANS, now + (1 if loss < 0.30 else 2))


def loss_beyond(loss: float, expected_share: float) -> float:
    """The loss among the frames that could be heard at all, where only a share of them can."""
    return max(0.0, 1 - (1 - loss) / expected_share) if expected_share > 0 else 0.0


def link_adr_block(
    region: Region, channels: Collection[int] | None, data_rate: int, tx_power: int, nb_trans: int
) -> tuple[LinkADRReq, ...]:
    """One atomic block: this data rate and power on these channel indices, None for all (RP002,
    LinkADRReq)."""
    return tuple(
        LinkADRReq(data_rate, tx_power, mask, control, nb_trans) for control, mask in _masks(region, channels)
    )


def banks(region: Region, channels: Collection[int]) -> int | None:
    """The mask for ChMaskCntl 5 with just these channels, or None where they are not whole banks (RP002, US915)."""
    if not region.fixed_plan or region.channel_mask.wide != _BANK:
        return None
    first_wide = len(region.uplink_channels()) - _BANK
    mask = sum(1 << bank for bank in range(first_wide // _BANK) if bank * _BANK in channels)
    whole = {
        channel
        for bank in range(first_wide // _BANK)
        if mask >> bank & 1
        for channel in (*range(bank * _BANK, bank * _BANK + _BANK), first_wide + bank)
    }
    return mask if mask and whole == set(channels) else None


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
