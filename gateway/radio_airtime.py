"""`fluxgate radio airtime`: how much of each sub-band's hour a running radio process has used, and what it refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gateway.settings import Config
from radio.control import ControlError, ask


class AirtimeFailed(Exception):
    """There is nobody to ask; the text says what to do."""


def airtime(config: Config) -> Iterator[str]:
    """Lines for a technician. Raises AirtimeFailed."""
    if not config.radio.control_socket:
        raise AirtimeFailed("the radio process cannot be asked: set [radio] control_socket")
    try:
        status = ask(Path(config.radio.control_socket), "status")
    except (ControlError, OSError) as error:
        raise AirtimeFailed(f"no radio process answers ({error}): is it running?") from error
    return describe(status)


def describe(status: Mapping[str, Any]) -> Iterator[str]:
    """The books in the radio's status, in words."""
    regulation = status["regulation"]
    yield f"{regulation['region']}: time on air of the last hour"
    for band in status["duty_cycle"]:
        yield f"  {_mhz(band)}  {_used(band)}, {band['max_eirp_dbm']:g} dBm EIRP; {_next(band)}"
    lbt = regulation["lbt"]
    if lbt is not None:
        yield (
            f"listens {lbt['listen_us'] / 1000:g} ms before each downlink, free below {lbt['threshold_dbm']} dBm: "
            f"found busy {lbt['busy']} times, put off {lbt['deferred']} times"
        )
    if regulation["dwell_us"] is not None:
        yield f"no downlink is longer than {regulation['dwell_us'] / 1000:g} ms"
    reasons = {refusal["kind"]: refusal["reason"] for refusal in regulation["last_refusals"]}
    for kind, count in sorted(regulation["refused"].items()):
        last = f", the last one: {reasons[kind]}" if kind in reasons else ""
        yield f"refused for {kind.replace('_', ' ')}: {count}{last}"
    ledger = regulation["ledger"]
    yield (
        "the books survive a restart"
        if ledger["survives_restart"]
        else f"the books are lost at a restart: {ledger['fault']}"
    )


def _mhz(band: Mapping[str, Any]) -> str:
    return f"{band['min_hz'] / 1e6:.10g}-{band['max_hz'] / 1e6:.10g} MHz"


def _used(band: Mapping[str, Any]) -> str:
    if band["budget_us"] is None:
        return "no duty cycle"
    share = band["used_us"] / band["budget_us"]
    return f"{band['used_us'] / 1e6:.1f} of {band['budget_us'] / 1e6:.1f} s ({share:.0%})"


def _next(band: Mapping[str, Any]) -> str:
    """The longest of the asked frames that may leave now, and when the longer ones may."""
    waits = [(int(ms), wait_ms) for ms, wait_ms in band["allowed_in_ms"].items()]
    later = [f"{ms} ms {_wait(wait_ms)}" for ms, wait_ms in sorted(waits) if wait_ms != 0]
    return "any frame may leave now" if not later else "; ".join(later)


def _wait(wait_ms: int | None) -> str:
    if wait_ms is None:
        return "never"
    return f"in {wait_ms / 1000:.0f} s" if wait_ms < 60_000 else f"in {wait_ms / 60_000:.0f} min"
