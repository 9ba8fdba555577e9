"""Numbers and codes of the API in the words of a technician. Pure: the time is an argument.

Silence is never called "offline": a LoRa gateway knows what it heard, not what is switched on.
"""

from __future__ import annotations

import re
import time as clock
from dataclasses import dataclass

from webui.client import Device, Frame, Module, Source, Status, Upstream, Value

QUIET_AFTER_S = 3600  # a sensor that reports hourly is the slowest common one
DISK_FULL_BYTES = 50_000_000  # free; below it the store's own housekeeping soon has no room
RADIO_SILENT_AFTER_S = 120  # forwarders send a status report every 30 s

# Demodulation limit of the SX127x by spreading factor (SX1276 data sheet, table 13).
SNR_FLOOR_DB = {6: -5.0, 7: -7.5, 8: -10.0, 9: -12.5, 10: -15.0, 11: -17.5, 12: -20.0}
_SIGNAL_STEPS = ((15.0, 5, "excellent"), (10.0, 4, "good"), (5.0, 3, "fair"), (0.0, 2, "weak"))

KINDS = {"uplink": "Uplink", "join": "Join", "downlink": "Downlink", "rejected": "Refused"}

REASONS = {
    "unknown_dev_addr": "No device here has this address: another network's, or one with an old session.",
    "unknown_dev_eui": "This device wants to join but is not registered here.",
    "bad_mic": "The signature does not fit: the key entered here is not the key in the device.",
    "replay": "A frame with this counter was heard before; it counts once.",
    "dev_nonce_used": "The device repeats an old join: it has forgotten its counter, or somebody replays it.",
    "counter_reset": "It counts its frames anew: it has lost its counter, by a power cut or a reset.",
    "unknown_channel": "It was signed for another channel than the one it was heard on.",
    "moved_away": "This device was moved to another gateway, which answers it.",
    "multicast_address": "The address is that of a group, under which no device sends.",
    "rejoin_count_used": "The device repeats an old rejoin: it has forgotten its counter, or somebody replays it.",
    "not_joined": "It asks to rejoin, but has no session here that it could: it must join.",
    "malformed": "Not a LoRaWAN frame.",
    "raw": "A simple node's frame that was not taken.",
    "crc_error": "Damaged on the air: too weak, or two frames at once.",
    "join_eui_mismatch": "The JoinEUI in the device is not the one entered here.",
    "not_otaa": "It wants to join, but it is registered here with fixed keys (ABP).",
    "join_nonces_used_up": "All joins of this device are used up. Give it a new AppKey.",
    "unsupported": "A LoRaWAN version or message that this gateway does not know.",
    "not_an_uplink": "A transmission of another gateway.",
    "foreign_net": "It belongs to another network.",
    "command": "An application's order to send something could not be carried out.",
    "duplicate": "The same frame through a second antenna; it counts once.",
    "too_late": "The transmission slot had passed already.",
    "too_early": "The transmission slot is too far ahead for the radio.",
    "collision_packet": "The radio was busy with another transmission in that slot.",
    "collision_beacon": "A beacon takes that slot.",
    "tx_freq": "The radio may not transmit on this frequency.",
    "tx_power": "The radio cannot transmit with this power.",
    "gps_unlocked": "A timed transmission needs GPS time, which is missing.",
}

UNITS = {
    "Cel": "°C",
    "%RH": "% RH",
    "%EL": "% battery",
    "lx": "lx",
    "hPa": "hPa",
    "Pa": "Pa",
    "m/s2": "m/s²",
    "deg/s": "°/s",
    "/": "",
}
_DEVICE_URN = re.compile(r"^urn:dev:[a-z]+:[0-9a-fA-F]+[_:]?")


@dataclass(frozen=True, slots=True)
class Lamp:
    """One of the three signs in the header. `level`: ok, warn, bad or off."""

    name: str
    page: str
    level: str
    value: str  # at most about ten characters
    text: str  # a full sentence


@dataclass(frozen=True, slots=True)
class Signal:
    bars: int  # 1..5
    word: str


# -- time and size


def duration(seconds: float) -> str:
    """Two units at most: "41 s", "1 h 52 min", "3 d 4 h"."""
    total = max(0, int(seconds))
    if total < 60:
        return f"{total} s"
    minutes, hours, days = total // 60, total // 3600, total // 86_400
    if minutes < 60:
        return f"{minutes} min"
    if hours < 24:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{days} d {hours % 24} h" if hours % 24 else f"{days} d"


def seen(last_seen_s: float | None, now_s: float) -> str:
    if last_seen_s is None:
        return "never heard yet"
    ago_s = now_s - last_seen_s
    if ago_s < 2:
        return "heard just now"
    if ago_s < QUIET_AFTER_S:
        return f"heard {duration(ago_s)} ago"
    return f"silent for {duration(ago_s)}"


def time_of_day(time_s: float, now_s: float) -> str:
    """Local time of the gateway, with the date where it is not today."""
    then, today = clock.localtime(time_s), clock.localtime(now_s)
    return clock.strftime("%H:%M:%S" if then[:3] == today[:3] else "%d %b %H:%M", then)


def time_in_full(time_s: float) -> str:
    return clock.strftime("%Y-%m-%d %H:%M:%S %Z", clock.localtime(time_s))


def iso_time(time_s: float) -> str:
    return clock.strftime("%Y-%m-%dT%H:%M:%SZ", clock.gmtime(time_s))


def count(number: float) -> str:
    """Thousands apart by a thin no-break space, so that they never wrap."""
    return f"{number:,.0f}".replace(",", "\u202f")


def counted(number: int, one: str, many: str = "") -> str:
    """Number and noun, kept on one line."""
    return f"{count(number)}\u00a0{one if number == 1 else many or one + 's'}"


def times(number: int) -> str:
    return "once" if number == 1 else f"{count(number)} times"


def sentence(text: str) -> str:
    """What the gateway says, beginning and ending as a sentence does."""
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}." if text else ""


def size(octets: int) -> str:
    value = float(octets)
    for unit in ("B", "KB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 10 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


# -- radio


def frequency(freq_hz: int | None) -> str:
    return f"{_megahertz(freq_hz)} MHz" if freq_hz else ""


def _megahertz(freq_hz: int) -> str:
    return f"{freq_hz / 1e6:.3f}".rstrip("0").rstrip(".")


def spreading(datr: str | None) -> str:
    """ "SF7BW125" as "SF7"; the bandwidth is said only where it is not the usual 125 kHz."""
    found = re.fullmatch(r"SF(\d+)BW(\d+)", datr or "")
    if not found:
        return datr or ""
    return f"SF{found[1]}" if found[2] == "125" else f"SF{found[1]} {found[2]} kHz"


def spreading_factor(datr: str | None) -> int | None:
    found = re.match(r"SF(\d+)", datr or "")
    return int(found[1]) if found else None


def signal(snr_db: float | None, sf: int | None) -> Signal | None:
    """Bars by the margin above what the spreading factor needs: one SNR is fair at SF7 and good at SF12."""
    if snr_db is None:
        return None
    margin_db = snr_db - SNR_FLOOR_DB.get(sf or 7, -7.5)
    for least_db, bars, word in _SIGNAL_STEPS:
        if margin_db >= least_db:
            return Signal(bars, word)
    return Signal(1, "critical")


def signed(number: float, decimals: int) -> str:
    """With a real minus sign, which is as wide as a plus and does not break off at a line's end."""
    return f"{number:.{decimals}f}".replace("-", "\u2212")


def level(rssi_dbm: float, snr_db: float | None) -> str:
    text = f"{signed(rssi_dbm, 0)}\u00a0dBm"
    return text if snr_db is None else f"{text}, {signed(snr_db, 1)}\u00a0dB"


def set_to(module: Module) -> str:
    """What one module is set to."""
    if module.role == "tx":
        return "sends only"
    return f"{frequency(module.freq_hz)} · SF{module.sf}" + (", sends" if module.role == "rxtx" else "")


def listening(status: Status) -> str:
    """What the radio hears. An SX127x hears one channel at one spreading factor, and people must know."""
    channels: dict[int, list[str]] = {}
    for module in status.radio.modules:
        if module.role != "tx":
            channels.setdefault(module.sf, []).append(_megahertz(module.freq_hz))
    return (
        " + ".join(f"{', '.join(heard)} MHz · SF{sf}" for sf, heard in sorted(channels.items()))
        or status.region
    )


# -- lamps and the one sentence


def lamps(status: Status) -> list[Lamp]:
    return [radio_lamp(status), store_lamp(status), upstream_lamp(status.upstream)]


def radio_lamp(status: Status) -> Lamp:
    if status.station and status.radio.connected:  # a connection that stands is proof enough
        return Lamp("Radio", "radio.index", "ok", "ok", "The radio is listening.")
    forwarders = status.radio.gateways
    if not forwarders:
        text = "No radio has reported yet. Is the radio service running?"
        return Lamp("Radio", "radio.index", "warn", "waiting", text)
    ages = [forwarder.last_seen_s_ago for forwarder in forwarders if forwarder.last_seen_s_ago is not None]
    if not status.radio.connected or (ages and min(ages) > RADIO_SILENT_AFTER_S):
        since = f" for {duration(min(ages))}" if ages else ""
        return Lamp("Radio", "radio.index", "bad", "no report", f"The radio service has not reported{since}.")
    return Lamp("Radio", "radio.index", "ok", "ok", "The radio is listening.")


def store_lamp(status: Status) -> Lamp:
    used = size(status.store.bytes)
    free = status.store.free_bytes
    if status.store.state == "read-only":
        reason = status.store.state_reason or "the disk is read-only"
        text = f"{reason[0].upper()}{reason[1:]}. What is stored can still be read."
        return Lamp("Store", "more.index", "bad", "read-only", text)
    if status.store.state == "full" or (free is not None and free < DISK_FULL_BYTES):
        lost = (
            f" {counted(status.store.not_stored, 'message')} could not be kept."
            if status.store.not_stored
            else ""
        )
        room = "" if free is None else f": {size(free)} free"
        text = f"The disk is full{room}.{lost} Make room on it, or put in a larger card."
        return Lamp("Store", "more.index", "bad", "disk full", text)
    if status.store.lost_commits:
        text = "The end of the message log was damaged; the newest messages before the start are lost."
        return Lamp("Store", "more.index", "warn", "damaged", text)
    if status.store.set_aside:
        text = "A damaged file was set aside at the start; what it held may be missing."
        return Lamp("Store", "more.index", "warn", "damaged", text)
    return Lamp(
        "Store", "more.index", "ok", used, f"{counted(status.store.messages, 'message')} kept, {used}."
    )


def upstream_level(sink: Upstream | Source) -> str:
    """An outage is what the store is for, so it is amber; red is for what waiting will not cure."""
    if sink.state == "connected":
        return "ok"
    if sink.state == "refused":
        return "bad"
    if sink.state == "paused":
        return "off"
    return "warn"


def upstream_lamp(sinks: list[Upstream]) -> Lamp:
    if not sinks:
        return Lamp("Upstream", "upstream.index", "off", "not set", "No upstream broker is set up.")
    levels = [upstream_level(sink) for sink in sinks]
    level = next((sign for sign in ("bad", "warn", "ok") if sign in levels), "off")
    queued = sum(sink.queued for sink in sinks)
    waits = "waits" if queued == 1 else "wait"
    safe = f"{counted(queued, 'message')} {waits} safely on disk." if queued else "nothing waits."
    if level == "ok":
        if queued:
            return Lamp("Upstream", "upstream.index", "ok", count(queued), f"Upstream connected, {safe}")
        return Lamp("Upstream", "upstream.index", "ok", "ok", "Upstream connected, everything delivered.")
    if level == "bad":
        return Lamp(
            "Upstream",
            "upstream.index",
            "bad",
            count(queued) if queued else "refused",
            f"Upstream refuses us; {safe}",
        )
    if level == "off":
        return Lamp("Upstream", "upstream.index", "off", "paused", f"Upstream is paused; {safe}")
    return Lamp(
        "Upstream",
        "upstream.index",
        "warn",
        count(queued) if queued else "offline",
        f"Upstream not reachable; {safe}",
    )


def state_sentence(status: Status) -> str:
    """The one sentence of Home: the worst first, and good news short."""
    radio, upstream = radio_lamp(status), upstream_lamp(status.upstream)
    if radio.level != "ok":
        return radio.text
    store = store_lamp(status)
    if store.level != "ok":
        return store.text
    if upstream.level in {"bad", "warn"}:
        return f"Radio fine. {upstream.text}"
    if upstream.level == "off":
        return "Radio fine. " + upstream.text
    return (
        "All is well: the radio listens and everything is delivered."
        if upstream.value == "ok"
        else upstream.text
    )


# -- frames and readings


def reason(frame: Frame) -> str:
    code = frame.reason or ""
    return REASONS.get(code) or code.replace("_", " ").capitalize() or "Refused."


def who(frame: Frame) -> str:
    """The name where there is one, else the address that was in the frame."""
    return frame.name or eui(frame.dev_eui) or (frame.dev_addr or "") or "unknown sender"


def eui(text: str | None) -> str:
    """16 digits in groups of four, which people can read aloud."""
    digits = (text or "").upper()
    return " ".join(digits[at : at + 4] for at in range(0, len(digits), 4)) if len(digits) == 16 else digits


def reading_name(name: str) -> str:
    """The quantity without the device's URN (RFC 9039, 4) and with spaces."""
    return _DEVICE_URN.sub("", name).replace("_", " ").strip() or name


def reading(value: Value) -> str:
    if value.vb is not None:
        return "yes" if value.vb else "no"
    if value.vs is not None:
        return value.vs
    if value.v is None:
        return "no value"
    if value.u in {"lat", "lon"}:
        # Five decimals are a metre. Most names say already which of the two it is.
        return f"{value.v:.5f}°" if value.n.lower().endswith(value.u) else f"{value.v:.5f}° {value.u}"
    unit = UNITS.get(value.u or "", value.u or "")
    gap = "\u00a0" if unit else ""
    return f"{value.v or 0.0:.6g}{gap}{unit}"  # `or`: no negative zero


def readings(values: list[Value]) -> str:
    """The first values of a frame in one short line, without names and so without places: "17.9 °C, 73 % RH"."""
    return ", ".join(
        reading(value) for value in [each for each in values if each.u not in {"lat", "lon"}][:2]
    )


def battery(device: Device) -> str:
    """DevStatusAns (LoRaWAN 1.0.4, 5.5)."""
    if device.battery is None:
        return "not asked yet"
    if device.battery == 0:
        return "external power"
    if device.battery == 255:
        return "cannot be measured"
    return f"{(device.battery - 1) / 253:.0%}"
