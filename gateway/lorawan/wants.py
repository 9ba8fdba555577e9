"""What the network wants of a device, what the device has agreed to, and the requests that follow from the difference.

`wanted` and `reported` give both sides by name and in the same form, so a page can show them side by side. `requests`
turns each difference into commands, in one fixed order: windows first, then channels, then LinkADRReq (added by the
caller, who knows the uplink), then the rest. No command goes to a device whose version does not know it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gateway.lorawan import mac
from gateway.lorawan.channels import MAX_DYNAMIC
from gateway.lorawan.device import Activation, Session
from gateway.lorawan.errors import OrderError
from gateway.lorawan.frames import MAX_FOPTS
from gateway.lorawan.macstate import MacState, Pending
from gateway.lorawan.profile import DeviceClass, Profile, Version
from gateway.lorawan.settings import Settings
from gateway.lorawan.steering import Plan, rates_of_new
from radio.regions import Region

Value = tuple[int, ...]
DL_CHANNEL = "dl_channel_"  # and the channel's number: the name of a technician's order
ORDERS: Mapping[str, tuple[int, int]] = {  # what a technician may set for one device, with its range
    "data_rate": (0, 15),
    "tx_power": (0, 15),
    "nb_trans": (1, 15),
    "rx1_delay_s": (1, 15),
    "rx1_dr_offset": (0, 7),
    "rx2_dr": (0, 15),
    "rx2_freq_hz": (100_000_000, 1_677_721_500),
    "max_duty": (0, 15),
    "beacon_freq_hz": (0, 1_677_721_500),
    "ping_slot_freq_hz": (0, 1_677_721_500),
    "ping_slot_dr": (0, 15),
}


def checked_order(region: Region, name: str, value: object) -> tuple[str, int]:
    """A technician's order in its range. Raises OrderError, in his words."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise OrderError(f"{name} is a whole number")
    if name.startswith(DL_CHANNEL) and name.removeprefix(DL_CHANNEL).isdecimal():
        if region.fixed_plan:
            raise OrderError(f"the channels of {region.name} are fixed: RX1 cannot be moved")
        if int(name.removeprefix(DL_CHANNEL)) >= MAX_DYNAMIC:
            raise OrderError(f"a device has channels 0 to {MAX_DYNAMIC - 1}")
        low, high = ORDERS["rx2_freq_hz"]
    elif name in ORDERS:
        low, high = ORDERS[name]
    else:
        raise OrderError(f"{name} cannot be set; {', '.join((*ORDERS, DL_CHANNEL + '<n>'))} can")
    if not low <= value <= high:
        raise OrderError(f"{name} is {low} to {high}, not {value}")
    if name == "data_rate" and value not in region.uplink_data_rates:
        raise OrderError(f"{region.name} has no uplink data rate DR{value}")
    if name == "rx2_dr" and value not in region.downlink_data_rates:
        raise OrderError(f"{region.name} has no downlink data rate DR{value}")
    if name == "tx_power" and value > region.max_tx_power_index:
        raise OrderError(f"{region.name} has powers 0 to {region.max_tx_power_index}")
    if name.endswith("_hz") or name.startswith(DL_CHANNEL):
        _in_band(region, name, value)
    return name, value


def _in_band(region: Region, name: str, freq_hz: int) -> None:
    if freq_hz and region.sub_band_for(freq_hz, 125_000) is None:
        raise OrderError(f"{name}: this gateway may not send on {freq_hz / 1e6:g} MHz in {region.name}")


@dataclass(frozen=True, slots=True)
class Context:
    """All that decides what is wanted of one device."""

    region: Region
    settings: Settings
    plan: Plan
    session: Session

    @property
    def state(self) -> MacState:
        return self.session.mac

    @property
    def profile(self) -> Profile:
        return self.session.device.profile

    @property
    def version(self) -> str:
        """The version whose commands it knows: 1.1 only where this session has been opened as one."""
        if self.session.v1_1:
            return Version.V1_1.value
        return min(self.profile.version, Version.V1_0_4).value

    def knows(self, kind: type[mac.Command]) -> bool:
        if kind.CLASS_B and self.profile.device_class is not DeviceClass.B and self.state.ping_period is None:
            return False
        return self.version >= kind.SINCE

    def order(self, name: str, otherwise: int) -> int:
        return self.state.orders.get(name, otherwise)

    @property
    def answer_room(self) -> int:
        """Bytes of answers that surely fit into an uplink: those beyond it a device drops."""
        slowest = min(rate for rate in self.region.uplink_data_rates if self._longest(rate))
        if self.profile.min_dr is not None and self.profile.min_dr in self.region.uplink_data_rates:
            slowest = max(slowest, self.profile.min_dr)
        fixed = self.profile.fixed_dr
        if fixed is not None and fixed in self.region.uplink_data_rates:
            slowest = fixed
        return min(MAX_FOPTS, self._longest(slowest))

    def _longest(self, rate: int) -> int:
        # A device that was told nothing of dwell time yet keeps its uplinks short (RP002, AS923 and AU915).
        untold = self.region.tx_param_setup and self.state.tx_param is None
        return self.region.max_payload(rate, dwell=self.settings.limit_dwell or untold)


def wanted(context: Context) -> dict[str, Value]:
    """By name what the network wants. A name is missing where it has no wish, or the device no such command."""
    region, settings, profile = context.region, context.settings, context.profile
    rx2_dr = region.rx2[1] if settings.rx2_dr is None else settings.rx2_dr
    values: dict[str, Value] = {
        "rx_timing": (context.order("rx1_delay_s", settings.rx1_delay_s),),
        "rx_params": (
            context.order("rx1_dr_offset", settings.rx1_dr_offset),
            context.order("rx2_dr", rx2_dr),
            context.order("rx2_freq_hz", settings.rx2_freq_hz or region.rx2[0]),
        ),
        "duty_cycle": (context.order("max_duty", settings.max_duty),),
    }
    if region.tx_param_setup and context.knows(mac.TxParamSetupReq):
        code = max(i for i, dbm in enumerate(mac.MAX_EIRP_DBM) if i == 0 or dbm <= region.max_eirp_dbm)
        values["tx_params"] = (int(settings.limit_dwell), int(settings.limit_dwell), code)
    if settings.adr_ack is not None and context.knows(mac.ADRParamSetupReq):
        values["adr_params"] = settings.adr_ack
    if settings.rejoin is not None and context.knows(mac.RejoinParamSetupReq):
        values["rejoin_params"] = settings.rejoin
    if context.knows(mac.PingSlotChannelReq):
        hz = context.order("ping_slot_freq_hz", profile.ping_slot_freq_hz or 0)
        rate = context.order("ping_slot_dr", -1 if profile.ping_slot_dr is None else profile.ping_slot_dr)
        if rate < 0 and hz and region.beacon is not None:
            rate = region.beacon.dr
        if rate >= 0:
            values["ping_slot"] = (hz, rate)
        if "beacon_freq_hz" in context.state.orders:
            values["beacon"] = (context.state.orders["beacon_freq_hz"],)
        elif settings.class_b and settings.beacon_hz is not None:
            values["beacon"] = (settings.beacon_hz,)
    values.update((f"channel {index}", value) for index, value in _channels_wanted(context).items())
    values.update((f"RX1 of channel {index}", (hz,)) for index, hz in _dl_wanted(context).items())
    return values


def reported(context: Context) -> dict[str, Value]:
    """By name what the device has accepted, or has from the start. Missing: nobody knows."""
    session, state, table = context.session, context.state, context.state.channels
    rx2_hz = context.region.rx2[0] if session.rx2_freq_hz is None else session.rx2_freq_hz
    values: dict[str, Value] = {
        "rx_timing": (session.rx1_delay_s,),
        "rx_params": (session.rx1_dr_offset, session.rx2_dr, rx2_hz),
        "duty_cycle": (state.max_duty,),
    }
    if state.tx_param is not None:
        values["tx_params"] = (int(state.tx_param[0]), int(state.tx_param[1]), state.tx_param[2])
    optional = {
        "adr_params": state.adr_param,
        "rejoin_params": state.rejoin_param,
        "ping_slot": state.ping_slot,
        "beacon": None if state.beacon_hz is None else (state.beacon_hz,),
    }
    values.update((name, value) for name, value in optional.items() if value is not None)
    values.update(
        (f"channel {i}", (each.freq_hz, each.min_dr, each.max_dr)) for i, each in table.added.items()
    )
    values.update((f"RX1 of channel {i}", (hz,)) for i, hz in table.dl_freq.items())
    return values


def requests(context: Context) -> Iterator[Pending]:
    """The requests before LinkADRReq: receive windows, and channels that are to be added."""
    want, have, unsure = wanted(context), reported(context), context.state.unsure
    for name in ("rx_params", "rx_timing"):
        if want[name] != have[name] or name in unsure:
            yield Pending(name, _commands(name, want[name]), want[name])
    for index, value in _channels_wanted(context).items():
        name = f"channel {index}"
        if have.get(name) != value or name in unsure:
            yield Pending(name, _new_channel(index, value), value)


def later_requests(context: Context) -> Iterator[Pending]:
    """Those after LinkADRReq: channels that are to go, and the rest."""
    want, have, table = wanted(context), reported(context), context.state.channels
    keep, unsure = _channels_wanted(context), context.state.unsure
    doubtful = {index for index in range(table.defaults, MAX_DYNAMIC) if f"channel {index}" in unsure}
    for index in sorted({*table.added, *doubtful} - set(keep)):
        if table.enabled & ~(1 << index):  # a device never gives up its only channel
            yield Pending(f"channel {index}", _new_channel(index, (0, 0, 0)), (0, 0, 0))
    for name, value in want.items():
        if name.startswith("RX1 of") and (have.get(name) != value or name in unsure):
            yield Pending(name, _commands(name, value), value)
    for name in ("tx_params", "duty_cycle", "adr_params", "rejoin_params", "ping_slot", "beacon"):
        if name in want and (want[name] != have.get(name) or name in unsure):
            yield Pending(name, _commands(name, want[name]), want[name])
    kind = context.state.force_rejoin
    if kind is not None and context.knows(mac.ForceRejoinReq):
        rate = (
            context.region.dr_of(context.session.device.last_rx.modulation)
            if context.session.device.last_rx
            else 0
        )
        yield Pending("force_rejoin", (mac.ForceRejoinReq(0, 2, kind, rate or 0),), (kind,))


def _channels_wanted(context: Context) -> dict[int, Value]:
    """Channels beyond the region's own: the network's, and those that an ABP device has built in."""
    if context.region.fixed_plan:
        return {}
    low, high = rates_of_new(context.region)
    hertz: dict[int, int] = {}
    if context.session.device.config.activation is Activation.ABP:
        built_in = context.plan.built_in(context.profile)
        hertz = {index: each.freq_hz for index, each in built_in.added.items()}
    hertz.update(context.plan.wanted)
    return {index: (hz, low, high) for index, hz in sorted(hertz.items())}


def _dl_wanted(context: Context) -> dict[int, int]:
    if context.region.fixed_plan or not context.knows(mac.DlChannelReq):
        return {}
    table = context.state.channels
    moved = {
        int(name.removeprefix(DL_CHANNEL)): hz
        for name, hz in context.state.orders.items()
        if name.startswith(DL_CHANNEL)
    }
    # A channel whose order is gone gets its own frequency back.
    told = {*table.dl_freq, *(i for i in table if f"RX1 of channel {i}" in context.state.unsure)}
    moved.update((i, table.freq_hz(i) or 0) for i in told if i not in moved)
    return {i: hz for i, hz in sorted(moved.items()) if table.freq_hz(i) is not None}


def _new_channel(index: int, value: Value) -> tuple[mac.Command, ...]:
    hz, low, high = value
    return (mac.NewChannelReq(index, hz, high, low),)


def _commands(name: str, value: Value) -> tuple[mac.Command, ...]:
    match name:
        case "rx_params":
            return (mac.RXParamSetupReq(*value),)
        case "rx_timing":
            return (mac.RXTimingSetupReq(*value),)
        case "tx_params":
            return (mac.TxParamSetupReq(bool(value[0]), bool(value[1]), value[2]),)
        case "duty_cycle":
            return (mac.DutyCycleReq(*value),)
        case "adr_params":
            return (mac.ADRParamSetupReq(*value),)
        case "rejoin_params":
            return (mac.RejoinParamSetupReq(*value),)
        case "ping_slot":
            return (mac.PingSlotChannelReq(*value),)
        case "beacon":
            return (mac.BeaconFreqReq(*value),)
        case _:
            return (mac.DlChannelReq(int(name.rsplit(" ", 1)[1]), value[0]),)
