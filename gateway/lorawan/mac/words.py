"""The fields of a MAC command as a person reads them."""

from __future__ import annotations

from gateway.lorawan.mac import class_b, core, v1_1
from gateway.lorawan.mac.base import Command

_CLASS_WORDS = {v1_1.CLASS_A: "class A", v1_1.CLASS_C: "class C"}


def fields_in_words(command: Command) -> str:
    """What a command says beside its name; "" where it says nothing more."""
    match command:
        case core.LinkADRReq():
            return _link_adr(command)
        case core.LinkADRAns(ch_mask_ok=mask, data_rate_ok=rate, power_ok=power):
            return _answer(("the channel mask", mask), ("the data rate", rate), ("the power", power))
        case core.LinkCheckAns(margin_db=margin, gateways=gateways):
            return f"{margin} dB above the floor, heard by {gateways}"
        case core.DutyCycleReq(max_dc_exponent=n):
            return "no limit beyond the region's" if n == 0 else f"at most 1/{1 << n} of the time on air"
        case core.RXParamSetupReq(rx1_dr_offset=offset, rx2_dr=rate, freq_hz=hz):
            return f"RX1 offset {offset}, RX2 at {_mhz(hz)} DR{rate}"
        case core.RXParamSetupAns(channel_ok=freq, rx2_dr_ok=rate, rx1_dr_offset_ok=offset):
            return _answer(
                ("the RX2 frequency", freq), ("the RX2 data rate", rate), ("the RX1 offset", offset)
            )
        case core.DevStatusAns(battery=battery, margin_db=margin):
            return f"battery {_battery(battery)}, margin {margin} dB"
        case core.NewChannelReq(ch_index=index, freq_hz=0):
            return f"channel {index} is removed"
        case core.NewChannelReq(ch_index=index, freq_hz=hz, max_dr=high, min_dr=low):
            return f"channel {index} is {_mhz(hz)}, DR{low} to DR{high}"
        case core.NewChannelAns(freq_ok=freq, data_rate_ok=rate):
            return _answer(("the frequency", freq), ("the data rates", rate))
        case core.RXTimingSetupReq(delay_s=delay):
            return f"RX1 opens {delay} s after an uplink"
        case core.TxParamSetupReq(downlink_dwell=down, uplink_dwell=up, max_eirp=code):
            return (
                f"at most {core.MAX_EIRP_DBM[code]} dBm EIRP; uplinks {_dwell(up)}, downlinks {_dwell(down)}"
            )
        case core.DlChannelReq(ch_index=index, freq_hz=hz):
            return f"RX1 of channel {index} is on {_mhz(hz)}"
        case core.DlChannelAns(freq_ok=freq, uplink_exists=exists):
            return _answer(("the frequency", freq), ("a channel of that number", exists))
        case core.DeviceTimeAns(gps_s=seconds, fraction=fraction):
            return f"GPS time {seconds} s and {fraction}/256"
        case _:
            return _rest_in_words(command)


def _rest_in_words(command: Command) -> str:
    match command:
        case v1_1.ADRParamSetupReq(limit_exp=limit, delay_exp=delay):
            return f"asks for an answer after {1 << limit} uplinks, slows down after {1 << delay} more"
        case v1_1.ForceRejoinReq(period=period, max_retries=retries, rejoin_type=kind, data_rate=rate):
            return (
                f"rejoin-request type {kind} at DR{rate}, {retries + 1} times, {32 << period} s or more apart"
            )
        case v1_1.RejoinParamSetupReq(max_time=time, max_count=count):
            return f"rejoin-request type 0 each {1 << count + 4} uplinks or {1 << time + 10} s"
        case v1_1.RejoinParamSetupAns(time_ok=ok):
            return "accepted" if ok else "accepted, but the device has no clock for the time"
        case v1_1.ResetInd(minor=minor) | v1_1.ResetConf(minor=minor):
            return f"LoRaWAN 1.{minor}"
        case v1_1.RekeyInd(minor=minor) | v1_1.RekeyConf(minor=minor):
            return f"LoRaWAN 1.{minor}"
        case v1_1.DeviceModeInd(mode=mode) | v1_1.DeviceModeConf(mode=mode):
            return _CLASS_WORDS.get(mode, f"class {mode}")
        case class_b.PingSlotInfoReq(periodicity=n):
            return f"a ping slot each {1 << n} s"
        case class_b.PingSlotChannelReq(freq_hz=hz, data_rate=rate):
            return f"ping slots on {_or_regions(hz)} at DR{rate}"
        case class_b.PingSlotChannelAns(freq_ok=freq, data_rate_ok=rate):
            return _answer(("the frequency", freq), ("the data rate", rate))
        case class_b.BeaconTimingAns(delay=delay, channel=channel):
            return f"the next beacon in {30 * delay} to {30 * (delay + 1)} ms on channel {channel}"
        case class_b.BeaconFreqReq(freq_hz=hz):
            return f"the beacon is on {_or_regions(hz)}"
        case class_b.BeaconFreqAns(freq_ok=ok):
            return _answer(("the frequency", ok))
        case _:
            return ""


def _link_adr(command: core.LinkADRReq) -> str:
    rate = "data rate as it is" if command.data_rate == core.KEEP else f"DR{command.data_rate}"
    power = "power as it is" if command.tx_power == core.KEEP else f"power {command.tx_power}"
    times = "sent as often as now" if command.nb_trans == 0 else f"each frame {command.nb_trans} x"
    return f"{rate}, {power}, {times}, channel mask {command.ch_mask:04x} of group {command.ch_mask_cntl}"


def _answer(*parts: tuple[str, bool]) -> str:
    refused = [name for name, ok in parts if not ok]
    return f"{', '.join(refused)} refused" if refused else "accepted"


def _battery(level: int) -> str:
    if level == core.BATTERY_EXTERNAL:
        return "on mains"
    if level == core.BATTERY_UNKNOWN:
        return "unknown"
    return f"{(level - 1) / 253:.0%}"


def _dwell(limited: bool) -> str:
    return "at most 400 ms" if limited else "of any length"


def _or_regions(hz: int) -> str:
    return _mhz(hz) if hz else "the region's frequency"


def _mhz(hz: int) -> str:
    return f"{hz / 1e6:g} MHz"
