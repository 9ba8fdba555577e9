"""What the radio may send, what it refused, and how its servers are, in the words of a technician. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from webui.hardware import Hardware, Ledger, Regulation, Server, SubBand
from webui.hardware_words import State, micro
from webui.words import count, counted, duration, sentence, signed, times

REFUSED = {
    "duty_cycle": "Time on air used up",
    "dwell": "Too long on air",
    "frequency": "Frequency not open here",
    "frame": "No frame of LoRaWAN",
    "gps": "No GPS time",
    "ledger": "Time on air not yet written down",
    "module": "No module can send it",
    "power": "Too strong",
    "too_late": "Ordered too late",
    "too_early": "Ordered too early",
    "collision_packet": "Another downlink in its place",
    "tx_freq": "Frequency not possible",
    "tx_power": "Power not possible",
}
FEW_ACKS_PERCENT = 90.0


@dataclass(frozen=True, slots=True)
class Refused:
    """One kind of refusal."""

    what: str
    number: int
    last: str  # when and why; empty where that is long ago


def span(min_hz: int, max_hz: int) -> str:
    return f"{min_hz / 1e6:g} to {max_hz / 1e6:g}\u00a0MHz"


def airtime(band: SubBand) -> str:
    if band.budget_us is None:
        return f"{micro(band.used_us)}, no limit"
    share = band.used_us / band.budget_us if band.budget_us else 1.0
    return f"{micro(band.used_us)} of {micro(band.budget_us)} ({share:.0%})"


def allowed(band: SubBand) -> str:
    """Since when there is no room, or when there will be; empty while there is room for every usual frame."""
    waits = sorted((int(ms), wait) for ms, wait in band.allowed_in_ms.items() if ms.isdecimal())
    for ms, wait_ms in waits:
        frame = f"a frame of {micro(ms * 1000)}"
        if wait_ms is None:
            return sentence(f"{frame} is longer than an hour's budget")
        if wait_ms > 0:
            return sentence(f"used up: {frame} may go out in {duration(-(-wait_ms // 1000))}")
    return ""


def in_force(rules: Regulation) -> list[str]:
    """The rules beside the time on air."""
    said = []
    if rules.dwell_us is not None:
        said.append(f"No transmission may be longer than {micro(rules.dwell_us)}.")
    if rules.lbt is not None:
        lbt = rules.lbt
        text = f"A module listens for {micro(lbt.listen_us)} before it sends, and keeps silent where it hears"
        text += f" {signed(lbt.threshold_dbm, 0)}\u00a0dBm or more."
        if lbt.busy:
            text += f" The channel was busy {times(lbt.busy)}."
        if lbt.deferred:
            text += f" {counted(lbt.deferred, 'downlink')} waited for that."
        said.append(text)
    return said


def ledger(found: Ledger) -> str:
    """A warning, where a restart would forget the books; else empty."""
    if found.survives_restart and not found.fault:
        return ""
    why = found.fault.removesuffix(".") or "it is not written down"
    return f"After a restart the gateway would not know what it sent in the last hour, and might send too much: {why}."


def refused(hardware: Hardware) -> list[Refused]:
    """What was refused since the start, by kind, with the last of each."""
    rules = hardware.regulation
    last = {each.kind: each for each in rules.last_refusals}
    lines = []
    for kind, number in sorted(rules.refused.items(), key=lambda item: -item[1])[:8]:
        text = ""
        if kind in last:
            ago_s = max(0, hardware.mono_ns - last[kind].at_ns) / 1e9
            text = f"{duration(ago_s)} ago: {last[kind].reason}" if hardware.mono_ns else last[kind].reason
        words = REFUSED.get(kind, kind.replace("_", " ").capitalize())
        lines.append(Refused(words, number, text))
    return lines


def server_state(server: Server) -> State:
    level = "ok" if server.connected else "warn"
    word = "answers" if server.connected else "does not answer"
    return State(level, word if server.since_s is None else f"{word}, for {duration(server.since_s)}")


def server_trouble(server: Server) -> str:
    """What is wrong with it, in a sentence; empty where nothing is."""
    if server.trouble:
        return sentence(server.trouble)
    if server.connected and server.acked_percent is not None and server.acked_percent < FEW_ACKS_PERCENT:
        return (
            f"It confirms only {server.acked_percent:.0f}% of what it is sent: the way to it loses datagrams."
        )
    if server.join_conflicts:
        were = "was" if server.join_conflicts == 1 else "were"
        joins = f"{counted(server.join_conflicts, 'join')} {were} answered by another server before"
        return f"{joins}: register each device in one place."
    if server.channels_not_heard:
        return f"It asks for {counted(server.channels_not_heard, 'channel')} that no module listens to."
    return ""


def server_counts(server: Server) -> str:
    """What went to it and what did not."""
    said = [f"{counted(server.forwarded, 'frame')} passed on"]
    if server.waiting:
        said.append(f"{count(server.waiting)} waiting")
    if server.filtered + server.not_wanted:
        said.append(f"{count(server.filtered + server.not_wanted)} not for it")
    if server.dropped:
        said.append(f"{count(server.dropped)} lost, as it was away for too long")
    if server.downlinks_refused:
        said.append(f"{counted(server.downlinks_refused, 'downlink')} refused")
    return ", ".join(said)


def servers_shown(servers: list[Server]) -> bool:
    """One that answers is what everybody has."""
    return len(servers) > 1 or any(not each.connected or server_trouble(each) for each in servers)
