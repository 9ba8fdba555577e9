"""What a device's answer to a MAC request comes to: accepted and in force from now on, or refused and why.

LinkADRAns is not here: one answer or several stand for a whole block, and ADR draws its own conclusions (`linkadr`).
"""

from __future__ import annotations

from gateway.lorawan import mac
from gateway.lorawan.device import Session

# By answer, the request it belongs to.
REQUEST_OF: dict[type[mac.Command], type[mac.Command]] = {
    mac.RXParamSetupAns: mac.RXParamSetupReq,
    mac.RXTimingSetupAns: mac.RXTimingSetupReq,
    mac.NewChannelAns: mac.NewChannelReq,
    mac.DlChannelAns: mac.DlChannelReq,
    mac.TxParamSetupAns: mac.TxParamSetupReq,
    mac.DutyCycleAns: mac.DutyCycleReq,
    mac.ADRParamSetupAns: mac.ADRParamSetupReq,
    mac.RejoinParamSetupAns: mac.RejoinParamSetupReq,
    mac.PingSlotChannelAns: mac.PingSlotChannelReq,
    mac.BeaconFreqAns: mac.BeaconFreqReq,
}
# Repeated in each uplink until the device hears a downlink: the first three by the specification (1.0.2, 5.4, 5.7,
# 5.9), the others by LoRaMac-node.
STICKY = frozenset(
    (
        mac.RXParamSetupAns,
        mac.RXTimingSetupAns,
        mac.DlChannelAns,
        mac.TxParamSetupAns,
        mac.PingSlotChannelAns,
    )
)


def settle(session: Session, request: mac.Command, answer: mac.Command) -> str:
    """Take what was accepted into the session; the words for what was refused, "" for nothing."""
    refused = refused_words(answer)
    if refused:
        return refused
    state = session.mac
    match request:
        case mac.RXParamSetupReq(rx1_dr_offset=offset, rx2_dr=rate, freq_hz=hz):
            session.rx1_dr_offset, session.rx2_dr, session.rx2_freq_hz = offset, rate, hz
        case mac.RXTimingSetupReq(delay_s=delay_s):
            session.rx1_delay_s = delay_s
        case mac.NewChannelReq(ch_index=index, freq_hz=0):
            state.channels.remove(index)
        case mac.NewChannelReq(ch_index=index, freq_hz=hz, min_dr=low, max_dr=high):
            state.channels.add(index, hz, low, high)
        case mac.DlChannelReq(ch_index=index, freq_hz=hz):
            state.channels.move_rx1(index, hz)
        case mac.TxParamSetupReq(downlink_dwell=down, uplink_dwell=up, max_eirp=code):
            state.tx_param = down, up, code
        case mac.DutyCycleReq(max_dc_exponent=exponent):
            state.max_duty = exponent
        case mac.ADRParamSetupReq(limit_exp=limit, delay_exp=delay):
            state.adr_param = limit, delay
        case mac.RejoinParamSetupReq(max_time=time, max_count=count):
            state.rejoin_param = time, count
        case mac.PingSlotChannelReq(freq_hz=hz, data_rate=rate):
            state.ping_slot = hz, rate
        case mac.BeaconFreqReq(freq_hz=hz):
            state.beacon_hz = hz
    return ""


def refused_words(answer: mac.Command) -> str:
    words = mac.fields_in_words(answer)
    return words.removesuffix(" refused") if words.endswith("refused") else ""
