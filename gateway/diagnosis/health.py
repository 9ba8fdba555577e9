"""The regular look at every registered device: silence, signal, battery, channel. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from gateway.diagnosis.finding import Evidence
from gateway.diagnosis.reasons import Kind
from gateway.diagnosis.verdict import Registry, Verdict, called, heard, margin_db
from gateway.lorawan.clock import Instant
from gateway.lorawan.device import Device
from hub.timekeeping import TRUSTED
from radio.gwmp import RxPacket
from radio.regions import Region, get_region, region_names

WEAK_DB = 3.0  # above the floor: the next change of weather loses frames
LOW_BATTERY = 26  # of 254 (DevStatusAns): 10 %
OVERDUE_INTERVALS = 2.5  # two reports are missing
NEVER_HEARD_S = 3600.0  # or OVERDUE_INTERVALS where its interval is known
_SECOND_NS = 10**9


def look(device: Device, known_ns: int, registry: Registry, now: Instant, *, deaf: bool) -> Iterator[Verdict]:
    """What is wrong with a device now. `known_ns`: since when (monotonic) this gateway knows it and was up;
    `deaf`: the gateway hears nothing at all, so nobody's silence is his own."""
    if not deaf:
        yield from _silence(device, known_ns, now)
    rx = device.last_rx
    if rx is not None:
        evidence = heard(rx, device.gateways[0] if device.gateways else b"")
        if margin_db(rx) < WEAK_DB:
            words = (
                f"{called(device)} is heard {margin_db(rx):.0f} dB above the floor of SF{rx.modulation.sf}"
            )
            yield Verdict(device.topic, Kind.WEAK_SIGNAL, words, evidence, True)
        found = of_channel(rx, registry, evidence)
        if found is not None:
            yield Verdict(device.topic, *found, True)
    battery = device.battery
    if battery is not None and 1 <= battery <= LOW_BATTERY:
        share = round(100 * battery / 254)
        words = f"the battery of {called(device)} is at {share} %"
        yield Verdict(device.topic, Kind.LOW_BATTERY, words, {"battery": battery}, True)


def _silence(device: Device, known_ns: int, now: Instant) -> Iterator[Verdict]:
    interval_s = device.profile.expected_interval_s
    if device.last_seen_ns is None:
        if device.last_join_ns:
            return  # it asks to join: that is another trouble
        patience_s = max(OVERDUE_INTERVALS * interval_s, NEVER_HEARD_S)
        waited_s = (now.mono_ns - known_ns) / _SECOND_NS
        if waited_s > patience_s:
            words = f"{called(device)} was never heard, in {_duration(waited_s)} since it is registered or we are up"
            yield Verdict(device.topic, Kind.NEVER_HEARD, words, {"waited_s": round(waited_s)}, True)
        return
    if not interval_s:
        return
    silent_s = _silent_s(device, known_ns, now)
    if silent_s > OVERDUE_INTERVALS * interval_s:
        missed = int(silent_s / interval_s)
        words = (
            f"{called(device)} has not been heard for {_duration(silent_s)}: {missed} reports are missing, one is due"
            f" every {_duration(interval_s)}"
        )
        evidence: Evidence = {
            "silent_s": round(silent_s),
            "missed": missed,
            "expected_interval_s": interval_s,
        }
        if device.last_rx is not None:
            evidence["last_snr_db"] = device.last_rx.lsnr_db
        yield Verdict(device.topic, Kind.SILENT, words, evidence, True)


def _silent_s(device: Device, known_ns: int, now: Instant) -> float:
    """Since the last frame; after a restart from wall time, and only where that is known."""
    session = device.session
    if session is not None and session.last_heard_ns:
        return (now.mono_ns - session.last_heard_ns) / _SECOND_NS
    up_s = (now.mono_ns - known_ns) / _SECOND_NS
    if now.quality in TRUSTED and device.last_seen_ns is not None:
        # While the gateway was off nobody was heard: that time is not the device's silence.
        return min((now.wall_ns - device.last_seen_ns) / _SECOND_NS, up_s)
    return up_s


def of_channel(rx: RxPacket, registry: Registry, evidence: Evidence) -> tuple[Kind, str, Evidence] | None:
    """What is wrong with the channel or data rate of a frame."""
    region = registry.region
    freq_hz = rx.freq_hz
    place = f"{freq_hz / 1e6:.10g} MHz"
    low, high = region.band_hz
    if not low <= freq_hz <= high:
        others = [name for name in region_names() if _has_channel(name, freq_hz)]
        likely = f"; that is a channel of {', '.join(others[:4])}" if others else ""
        words = f"a frame on {place}, outside the band of {region.name}{likely}"
        return Kind.WRONG_REGION, words, {**evidence, "regions": others[:8]}
    if region.dr_of(rx.modulation) is None:
        words = f"a frame with {rx.modulation.datr}, a data rate that {region.name} does not have"
        return Kind.DATA_RATE_UNKNOWN, words, evidence
    index = region.uplink_index(freq_hz)
    if region.fixed_plan:
        wanted = registry.settings.uplink_channels
        if index is None:
            return Kind.CHANNEL_UNKNOWN, f"a frame on {place}, which is no channel of {region.name}", evidence
        if wanted is not None and index not in wanted:
            words = f"a frame on channel {index} ({place}): the gateway's sub-band has {_span(wanted)}"
            return Kind.SUB_BAND_OTHER, words, {**evidence, "channel": index}
        return None
    if freq_hz in region.default_channels_hz or freq_hz in registry.settings.cflist_hz:
        return None
    return Kind.CHANNEL_UNKNOWN, f"a frame on {place}, which is no channel of this network", evidence


@lru_cache(maxsize=512)
def _has_channel(name: str, freq_hz: int) -> bool:
    region: Region = get_region(name)
    return region.uplink_index(freq_hz) is not None or freq_hz in region.default_channels_hz


def _span(channels: tuple[int, ...]) -> str:
    low, high = min(channels), max(channels)
    if len(channels) == high - low + 1:
        return f"{low} to {high}"
    return ", ".join(map(str, sorted(channels)))


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
