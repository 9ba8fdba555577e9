"""What is wanted of a device, what it has agreed to, what is under way and what was said, for API and pages."""

from __future__ import annotations

import msgspec

from gateway.lorawan import linkadr, mac, wants
from gateway.lorawan.channels import in_ranges
from gateway.lorawan.device import Session
from gateway.lorawan.heardrate import HeardRate
from gateway.lorawan.maclayer import MAX_ATTEMPTS, MacLayer
from gateway.lorawan.macstate import ADR_HISTORY, Pending, Rest
from gateway.lorawan.wants import Context, Value


class SettingView(msgspec.Struct):
    """One thing that MAC commands settle. `state`: agreed, asked, waiting, resting, or unknown."""

    name: str
    title: str
    wanted: str  # in words; "" where the network has no wish
    reported: str  # in words; "" where nobody knows
    state: str
    words: str = ""  # about the state


class ChannelView(msgspec.Struct):
    index: int
    freq_hz: int
    enabled: bool  # as the device has agreed
    wanted: bool  # enabled, as the network wants it
    heard_drs: list[int]  # data rates that this gateway hears there
    rx1_freq_hz: int | None = None  # where DlChannelReq has moved RX1


class AdrView(msgspec.Struct):
    active: bool  # by gateway, profile and the device's ADR bit
    why_not: str
    data_rate: int | None  # of the last uplink
    tx_power: int
    nb_trans: int
    allowed_drs: list[int]
    weakest_power: int
    history_snr_db: list[float]
    history_full: int  # uplinks until the next conclusion
    margin_db: float  # installation margin
    decisions: list[DecisionView]


class DecisionView(msgspec.Struct):
    time: float  # Unix seconds
    data_rate: int
    best_snr_db: float
    margin_db: float
    loss: float  # 0..1
    words: str


class HeardShare(msgspec.Struct):
    """How many of the device's frames are heard, by the gaps in its counter."""

    recent: float | None  # of the last `frames`, 0..1
    frames: int
    overall: float | None  # since the start
    heard: int
    missed: int
    expected: float  # of a device with these channels
    words: str


class TraceView(msgspec.Struct):
    time: float  # Unix seconds
    way: str  # up, down
    name: str
    words: str
    outcome: str


class MacView(msgspec.Struct):
    dev_eui: str
    name: str
    version: str
    session: bool  # False: the device has not joined yet, and nothing below holds
    settings: list[SettingView] = []
    channels: list[ChannelView] = []
    orders: dict[str, int] = {}
    adr: AdrView | None = None
    heard: HeardShare | None = None
    trace: list[TraceView] = []  # newest first
    device_class: str = "A"


_TITLES = {
    "rx_timing": "Receive delay",
    "rx_params": "Receive windows",
    "duty_cycle": "Duty cycle",
    "tx_params": "Dwell time and power limit",
    "adr_params": "ADR patience",
    "rejoin_params": "Rejoining",
    "ping_slot": "Ping slots",
    "beacon": "Beacon",
    "data_rate": "Data rate",
    "tx_power": "Power",
    "nb_trans": "Repetitions",
    "channels": "Channels in use",
    "force_rejoin": "Rejoin now",
}


def view(layer: MacLayer, session: Session) -> MacView:
    """All of one session."""
    device, context, state = session.device, layer.context(session), session.mac
    return MacView(
        dev_eui=str(device.dev_eui),
        name=device.config.name,
        version=context.version,
        session=True,
        settings=_settings(context),
        channels=_channels(context),
        orders=dict(state.orders),
        adr=_adr(context),
        heard=heard_share(layer, session),
        trace=[
            TraceView(e.time_ns / 1e9, "up" if e.uplink else "down", e.name, e.words, e.outcome)
            for e in reversed(state.trace or ())
        ],
        device_class=state.device_class or device.profile.device_class,
    )


def heard_share(layer: MacLayer, session: Session) -> HeardShare:
    heard, rx = session.device.heard, session.device.last_rx
    rate = None if rx is None else layer.context(session).region.dr_of(rx.modulation)
    expected = layer.plan.expected_share(session.mac.channels, rate)
    return HeardShare(
        recent=heard.share,
        frames=heard.frames,
        overall=heard.overall,
        heard=heard.heard,
        missed=heard.missed,
        expected=expected,
        words=_heard_words(layer, session, heard, expected),
    )


def _heard_words(layer: MacLayer, session: Session, heard: HeardRate, expected: float) -> str:
    if heard.share is None:
        return "nothing was heard since the start"
    table = session.mac.channels
    used = [index for index in table if table.is_enabled(index)]
    listened = [i for i in used if layer.plan.heard is None or layer.plan.heard.get(i)]
    words = f"heard {heard.share:.0%} of the last {heard.frames}"
    if expected >= 1:
        return f"{words}, all can be heard"
    return f"{words} (expected {expected:.0%}: {len(listened)} of its {len(used)} channels are listened to)"


def _settings(context: Context) -> list[SettingView]:
    want, have, state = wants.wanted(context), wants.reported(context), context.state
    rows = [
        _row(
            name, _title(name), want.get(name), have.get(name), state.pending.get(name), state.rests.get(name)
        )
        for name in dict.fromkeys((*want, *have))
    ]
    return _link_rows(context) + rows


def _row(
    name: str,
    title: str,
    want: Value | None,
    have: Value | None,
    pending: Pending | None,
    rest: Rest | None,
) -> SettingView:
    row = SettingView(name, title, in_words(name, want), in_words(name, have), "agreed")
    if pending is not None:
        row.state = "asked" if pending.attempts else "waiting"
        row.words = _asked_words(pending)
    elif rest is not None:
        row.state = "resting"
        row.words = f"{rest.words}; asked again after uplink {rest.until_fcnt}"
    elif want is None:
        row.state = "agreed" if have is not None else "unknown"
    elif want != have:
        row.state, row.words = "waiting", "asked for after the next uplink"
    return row


def _asked_words(pending: Pending) -> str:
    if not pending.attempts:
        return "waits for room in a downlink"
    return f"asked {pending.attempts} of {MAX_ATTEMPTS} times, waits for the answer"


def _link_rows(context: Context) -> list[SettingView]:
    """LinkADRReq settles four things at once, so its request and its rest are theirs together."""
    state, table = context.state, context.state.channels
    pending, rest = state.pending.get(linkadr.KEY), state.rests.get(linkadr.KEY)
    have: dict[str, Value | None] = {
        "data_rate": None if state.data_rate is None else (state.data_rate,),
        "tx_power": (state.tx_power,),
        "nb_trans": (state.nb_trans,),
        "channels": _indices(table.enabled),
    }
    rate = state.data_rate if state.data_rate is not None else _rate(context)
    asked = pending.value if pending is not None else rest.value if rest is not None else None
    mask = table.all_on if rate is None else context.plan.mask(table, rate)
    want: dict[str, Value | None] = {
        name: (state.orders[name],) if name in state.orders else have[name]
        for name in ("data_rate", "tx_power", "nb_trans")
    }
    want["channels"] = _indices(mask)
    if asked is not None:
        for name, part in (("data_rate", asked[0]), ("tx_power", asked[1]), ("nb_trans", asked[2])):
            want[name] = (part,)
        want["channels"] = _indices(asked[linkadr.MASK])
    rows = []
    for name, value in want.items():
        differs = value != have[name]
        asked_of = (pending, rest) if differs else (None, None)
        row = _row(name, _TITLES[name], value, have[name], *asked_of)
        if differs and name != "channels" and state.adr_on is False:
            row.state, row.words = "resting", "the device has its ADR bit off and keeps its own"
        rows.append(row)
    return rows


def _channels(context: Context) -> list[ChannelView]:
    table, plan, rate = context.state.channels, context.plan, _rate(context)
    mask = table.all_on if rate is None else plan.mask(table, rate)
    every = sorted(context.region.uplink_data_rates)
    return [
        ChannelView(
            index,
            table.freq_hz(index) or 0,
            table.is_enabled(index),
            bool(mask >> index & 1),
            [r for r in every if plan.hears(index, r)],
            table.dl_freq.get(index),
        )
        for index in table
    ]


def _adr(context: Context) -> AdrView:
    state, profile, settings = context.state, context.profile, context.settings
    why_not = ""
    if not settings.adr:
        why_not = "ADR is off on this gateway"
    elif not profile.adr:
        why_not = f"ADR is off in the profile {profile.name}"
    elif profile.fixed_dr is not None:
        why_not = (
            f"the profile {profile.name} says that the device keeps to DR{profile.fixed_dr}; power is adapted"
        )
    elif state.adr_on is False:
        why_not = "the device has its ADR bit off: it keeps its own data rate and power"
    return AdrView(
        active=settings.adr and profile.adr and state.adr_on is not False,
        why_not=why_not,
        data_rate=_rate(context),
        tx_power=state.tx_power,
        nb_trans=state.nb_trans,
        allowed_drs=list(linkadr.rates_allowed(context)),
        weakest_power=linkadr.weakest_power(context),
        history_snr_db=list(state.snr_db),
        history_full=max(0, ADR_HISTORY - state.uplinks_since_adr),
        margin_db=settings.adr_margin_db if profile.adr_margin_db is None else profile.adr_margin_db,
        decisions=[
            DecisionView(d.time_ns / 1e9, d.data_rate, d.best_snr_db, d.margin_db, d.loss, d.words)
            for d in reversed(state.decisions or ())
        ],
    )


def _rate(context: Context) -> int | None:
    rx = context.session.device.last_rx
    return None if rx is None else context.region.dr_of(rx.modulation)


def _indices(mask: int) -> Value:
    return tuple(i for i in range(mask.bit_length()) if mask >> i & 1)


def _title(name: str) -> str:
    return _TITLES.get(name) or name[0].upper() + name[1:]


def in_words(name: str, value: Value | None) -> str:
    """A value as a person reads it; "" for None."""
    if value is None:
        return ""
    match name:
        case "rx_timing":
            return f"RX1 after {value[0]} s"
        case "rx_params":
            return f"RX1 offset {value[0]}, RX2 {value[2] / 1e6:g} MHz DR{value[1]}"
        case "duty_cycle":
            return "no limit" if not value[0] else f"1/{1 << value[0]} of the time"
        case "tx_params" | "adr_params" | "rejoin_params":
            return _request_words(name, value)
        case "ping_slot":
            return (
                f"{value[0] / 1e6:g} MHz DR{value[1]}"
                if value[0]
                else f"the region's frequency, DR{value[1]}"
            )
        case "beacon":
            return f"{value[0] / 1e6:g} MHz" if value[0] else "the region's frequency"
        case "data_rate":
            return f"DR{value[0]}"
        case "tx_power":
            return f"power {value[0]}"
        case "nb_trans":
            return f"each frame {value[0]} x"
        case "channels":
            return in_ranges(value) or "none"
        case _:
            return f"{value[0] / 1e6:g} MHz" if value[0] else "none"


def _request_words(name: str, value: Value) -> str:
    if name == "tx_params":
        return mac.fields_in_words(mac.TxParamSetupReq(bool(value[0]), bool(value[1]), value[2]))
    if name == "adr_params":
        return mac.fields_in_words(mac.ADRParamSetupReq(*value))
    return mac.fields_in_words(mac.RejoinParamSetupReq(*value))
