"""LinkADRReq: data rate, power, repetitions and channels of one device, wished for, asked for, and answered.

One request (a block of one command or more) is under way at a time. ADR is one reason for it, steering another, a
technician's order the third; whatever the reason, the request names the channels too, because a device may have
opened its default channels unnoticed.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.lorawan import adr, mac
from gateway.lorawan.clock import Instant
from gateway.lorawan.frames import MAX_FOPTS, DataFrame
from gateway.lorawan.macstate import ADR_HISTORY, Decision, Pending
from gateway.lorawan.profile import Version
from gateway.lorawan.steering import KEEP_ALIVE
from gateway.lorawan.wants import Context
from radio.gwmp import RxPacket

KEY = "link_adr"
DATA_RATE, TX_POWER, NB_TRANS, MASK = range(4)  # of the value of a Pending


def rates_allowed(context: Context) -> tuple[int, ...]:
    """Data rates the device may be given, rising: those of region, gateway, profile, and never refused by it."""
    region, settings, profile = context.region, context.settings, context.profile
    highest = region.adr_max_dr
    for limit in (settings.adr_max_dr, profile.max_dr, context.state.max_dr):
        if limit is not None:
            highest = min(highest, limit)
    lowest = min(region.uplink_data_rates) if profile.min_dr is None else profile.min_dr
    heard = context.plan.rates
    rates = [
        rate
        for rate in sorted(region.uplink_data_rates)
        if lowest <= rate <= highest and (heard is None or rate in heard)
    ]
    if profile.fixed_dr is not None:
        return (profile.fixed_dr,)
    return tuple(rates)


def weakest_power(context: Context) -> int:
    limits = (context.region.max_tx_power_index, context.profile.max_tx_power, context.state.max_tx_power)
    return min(limit for limit in limits if limit is not None)


def wish(context: Context, frame: DataFrame, rx: RxPacket, now: Instant) -> Pending | None:
    """The request this device needs now, or None. Looks at the ADR history where it is full, and starts it anew."""
    session, state = context.session, context.state
    rate = context.region.dr_of(rx.modulation)
    if rate is None:
        return None
    current = (rate, state.tx_power, state.nb_trans)
    target = current
    if frame.adr:
        target = _target(context, current, rx, now)
    mask = context.plan.mask(state.channels, target[DATA_RATE])
    fcnt = session.fcnt_up or 0
    fresh = context.plan.narrow and frame.adr and (frame.adr_ack_req or fcnt - state.proof_fcnt >= KEEP_ALIVE)
    told_again = fresh or state.refresh or KEY in state.unsure
    if target == current and mask == state.channels.enabled and not told_again:
        return None
    commands = block(context, *target, mask, adr_on=frame.adr)
    if commands is None:
        return None
    return Pending(KEY, commands, (*target, mask), adr=frame.adr)


def _target(
    context: Context, current: tuple[int, int, int], rx: RxPacket, now: Instant
) -> tuple[int, int, int]:
    """Data rate, power and repetitions for a device that lets itself be told."""
    state, settings, profile = context.state, context.settings, context.profile
    rate, power, times = current
    rates = rates_allowed(context)
    if settings.adr and profile.adr and state.uplinks_since_adr >= ADR_HISTORY:
        state.uplinks_since_adr = 0
        rate, power, times = _adapted(context, rates, current, rx, now)
    elif rates and rate not in rates and context.plan.narrow:
        rate = adr.nearest(rates, rate)
    if profile.fixed_dr is not None:
        rate = current[DATA_RATE]  # the device keeps to it whatever it is told
    return (
        context.order("data_rate", rate),
        context.order("tx_power", power),
        context.order("nb_trans", times),
    )


def _adapted(
    context: Context, rates: Sequence[int], current: tuple[int, int, int], rx: RxPacket, now: Instant
) -> tuple[int, int, int]:
    state, profile = context.state, context.profile
    best = max(state.snr_db)
    installation_db = (
        context.settings.adr_margin_db if profile.adr_margin_db is None else profile.adr_margin_db
    )
    margin = adr.margin_db(best, rx.modulation, installation_db)
    rate, power = adr.adapt(
        margin, current[0], current[1], max(rates, default=current[0]), weakest_power(context), rates
    )
    loss = adr.loss_beyond(
        context.session.device.heard.loss(ADR_HISTORY),
        context.plan.expected_share(state.channels, current[0]),
    )
    most = adr.MAX_NB_TRANS if profile.max_nb_trans is None else profile.max_nb_trans
    times = min(adr.repetitions(current[2], loss), most)
    words = (
        "as it is" if (rate, power, times) == current else f"DR{rate}, power {power}, each frame {times} x"
    )
    state.decide(Decision(now.wall_ns, current[0], best, margin, loss, words))
    return rate, power, times


def block(
    context: Context, rate: int, power: int, times: int, mask: int, *, adr_on: bool
) -> tuple[mac.LinkADRReq, ...] | None:
    """The commands of one request; None where this device cannot be told in one.

    A device with ADR off takes each command of a block by itself (LoRaMac-node), so it gets a single one that is
    complete, and where the mask needs two it is left as it is.
    """
    table, region = context.state.channels, context.region
    channels = None if mask == table.all_on else [i for i in table if mask >> i & 1]
    if not adr_on and region.fixed_plan and channels is not None:
        banks = adr.banks(region, channels) if context.version >= Version.V1_0_3 else None
        if banks is None:
            return None
        return (mac.LinkADRReq(rate, power, banks, adr.BANKS, times),)
    commands = adr.link_adr_block(region, channels, rate, power, times)
    return commands if len(mac.encode(commands)) <= MAX_FOPTS else None


def settle(context: Context, pending: Pending, answers: Sequence[mac.LinkADRAns]) -> tuple[bool, str]:
    """Take the answer: whether it was accepted, and words for it.

    One answer a request or one a block, by the device's version: all have to agree (1.0.2 and 1.1, 5.2). With ADR
    off only the channels count.
    """
    state = context.state
    rate, power, times, mask = pending.value
    masks_ok = all(answer.ch_mask_ok for answer in answers)
    rates_ok = not pending.adr or all(answer.data_rate_ok for answer in answers)
    powers_ok = not pending.adr or all(answer.power_ok for answer in answers)
    state.uplinks_since_adr = 0
    state.refresh = False
    if masks_ok and rates_ok and powers_ok:
        state.channels.enable(mask)
        if not pending.adr:
            return True, "channels accepted"
        if (rate, power) != (state.data_rate, state.tx_power):
            state.snr_db.clear()  # what was heard at another power says nothing about this one
        state.data_rate, state.tx_power, state.nb_trans = rate, power, times
        return True, f"DR{rate}, power {power} accepted"
    refused = []
    if not rates_ok:
        state.max_dr = max(rate - 1, 0)
        refused.append(f"DR{rate}")
    if not powers_ok:
        state.max_tx_power = max(power - 1, 0)
        refused.append(f"power {power}")
    if not masks_ok:
        refused.append("the channel mask")
    return False, f"{', '.join(refused)} refused"


def observe(context: Context, frame: DataFrame, rx: RxPacket) -> str:
    """What an uplink shows of a device that has gone its own way; words for it, "" where it has not.

    A device that long hears nothing raises its power, then lowers its data rate, then opens its default channels
    (1.0.2, 4.3.1.1).
    """
    state, said = context.state, []
    rate = context.region.dr_of(rx.modulation)
    if frame.adr and rate is not None and state.data_rate is not None and rate < state.data_rate:
        said.append(
            f"the device has slowed down from DR{state.data_rate} to DR{rate} by itself, at full power"
        )
        state.data_rate, state.tx_power = rate, 0
    index = state.channels.index(rx.freq_hz)
    if index is not None and not state.channels.is_enabled(index):
        said.append(
            f"the device uses channel {index}, which it had given up: it has opened its channels again"
        )
        state.channels.enable(state.channels.enabled | (1 << state.channels.defaults) - 1)
    return "; ".join(said)
