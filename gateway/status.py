"""The gateway's state as one value: for the API, for `fluxgate status`, and for the pages' lamps.

`StatusFiles` keeps it in the runtime directory, which only root and the gateway's user can read, beside the claim
code: who can read these files is on the machine already.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.copies import CopyCounters
from gateway.devices.fleet import Fleet
from gateway.link import Link
from gateway.live import LiveFrames
from gateway.lorawan.clock import Instant
from gateway.lorawan.server import NetworkServer
from gateway.settings import ModuleSection
from gateway.uplinks import UplinkCounters
from gateway.upstream.relay import Relay
from hub.disk import DiskState
from hub.hub import Hub

if TYPE_CHECKING:
    from gateway.nats_source import NatsSource

STATUS_FILE = "status.json"
CLAIM_FILE = "claim-code"
WRITE_INTERVAL_S = 1.0
STALE_S = 10.0  # a status file that old was left by a process that is gone
SHOWN_FRAMES = 20
SHOWN_DEVICES = 50  # the API lists all of them
RADIO_SILENT_S = 30.0  # a forwarder sends PULL_DATA every 5 s

Status = dict[str, Any]


class StatusSource:
    """Gathers the state of the parts."""

    def __init__(
        self,
        name: str,
        version: str,
        hub: Hub,
        server: NetworkServer,
        link: Link,
        uplinks: UplinkCounters,
        live: LiveFrames,
        relays: list[Relay],
        clock: Callable[[], Instant],
        modules: Sequence[ModuleSection] = (),
        sources: Sequence[NatsSource] = (),
    ) -> None:
        self._name, self._version = name, version
        self._hub, self._server, self._link = hub, server, link
        self._uplinks, self._live, self._relays = uplinks, live, relays
        self._clock = clock
        self._modules = modules
        self._sources = sources
        self.station: Callable[[], list[Status]] = list  # concentrators with Basics Station
        self.warnings: Callable[[], list[str]] = list  # sentences on devices that two sides answer
        self.copies = CopyCounters()
        self.devices: Fleet | None = None  # None where tools ask without a running gateway
        self._started_ns = clock().mono_ns

    def status(self) -> Status:
        """The body of GET /gateway/status."""
        now = self._clock()
        log = self._hub.log
        return {
            "name": self._name,
            "version": self._version,
            "region": self._server.region.name,
            "uptime_s": (now.mono_ns - self._started_ns) // 1_000_000_000,
            "time": now.wall_ns / 1e9,
            "time_quality": now.quality.value,
            "radio": self._radio(now.mono_ns),
            "station": self.station(),
            "store": {
                "state": log.state.value,
                "state_reason": log.state_reason,
                "messages": log.message_count,
                "committed_seq": log.committed_seq,
                "first_seq": log.first_seq,
                "pending": log.pending,
                "bytes": log.size_bytes,
                "free_bytes": shutil.disk_usage(log.path.parent).free,
                "not_stored": log.counters.failed,
                "set_aside": [path.name for path in self._set_aside()],
                "lost_commits": log.counters.lost_commits,
                "gap_messages": log.counters.gap_messages,
                "damaged_rows": log.damaged_rows,
            },
            "history": {
                "behind": self._hub.history.behind,
                "records": self._hub.history.records,
                "series": self._hub.history.series,
                "bytes": self._hub.history.used_bytes,
                "damaged_records": self._hub.history.counters.damaged_records,
                "lost": self._hub.history.lost,
                "undecodable": self._hub.history.undecodable,
                "series_refused": self._hub.history.series_refused,
            },
            "upstream": self.upstream(),
            "nats": [asdict(source.status()) for source in self._sources],
            "devices": self._devices(),
            "counters": self.counters(),
        }

    def upstream(self) -> list[Status]:
        """The body of GET /upstream."""
        return [asdict(relay.status()) for relay in self._relays]

    def counters(self) -> Status:
        """What happened since the start, by kind."""
        server = self._server.counters
        return {
            "uplinks": server.uplinks,
            "joins": server.joins,
            "downlinks_sent": server.downlinks_sent,
            "downlinks_failed": server.downlinks_failed,
            "downlinks_acked": server.orders_acked,
            "downlinks_dropped": server.orders_dropped,
            "rejected": {str(reason): count for reason, count in server.rejected.items() if count},
            **asdict(self._uplinks),
            "gwmp": dict(self._link.counters),
            "copies": asdict(self.copies),
        }

    def metrics(self) -> dict[str, float]:
        """The counters in Prometheus' naming."""
        flat: dict[str, float] = {}
        for name, value in self.counters().items():
            if isinstance(value, dict):
                label = "reason" if name == "rejected" else "kind"
                for kind, count in value.items():
                    flat[f'fluxgate_{name}_total{{{label}="{kind}"}}'] = count
            else:
                flat[f"fluxgate_{name}_total"] = value
        for relay in self._relays:
            state = relay.status()
            flat[f'fluxgate_upstream_queued{{name="{state.name}"}}'] = state.queued
            flat[f'fluxgate_upstream_delivered_total{{name="{state.name}"}}'] = state.delivered
            flat[f'fluxgate_upstream_rejected_total{{name="{state.name}"}}'] = state.rejected
            flat[f'fluxgate_upstream_missed_total{{name="{state.name}"}}'] = state.missed
        for source in self._sources:
            brought = source.status()
            flat[f'fluxgate_nats_stored_total{{name="{brought.name}"}}'] = brought.stored
            flat[f'fluxgate_nats_again_total{{name="{brought.name}"}}'] = brought.again
            flat[f'fluxgate_nats_behind{{name="{brought.name}"}}'] = brought.behind
            for reason, count in brought.passed_over.items():
                flat[f'fluxgate_nats_passed_over_total{{name="{brought.name}",reason="{reason}"}}'] = count
        log, history = self._hub.log, self._hub.history
        flat |= {f"fluxgate_log_{name}_total": value for name, value in asdict(log.counters).items()}
        flat["fluxgate_log_messages"] = log.message_count
        flat["fluxgate_log_bytes"] = log.size_bytes
        flat["fluxgate_disk_free_bytes"] = shutil.disk_usage(log.path.parent).free
        flat["fluxgate_log_pending"] = log.pending
        flat["fluxgate_log_writable"] = int(log.state is DiskState.OK)
        flat["fluxgate_log_damaged_rows"] = log.damaged_rows
        flat["fluxgate_history_behind"] = history.behind
        flat["fluxgate_history_records"] = history.records
        flat["fluxgate_history_series"] = history.series
        flat["fluxgate_history_bytes"] = history.used_bytes
        flat["fluxgate_history_tail_records"] = history.tail_records
        flat["fluxgate_history_series_refused_total"] = history.series_refused
        flat["fluxgate_history_undecodable_total"] = history.undecodable
        flat |= {f"fluxgate_history_{name}": value for name, value in asdict(history.counters).items()}
        return flat

    def local(self) -> Status:
        """What local tools are shown: the status with devices and the last frames."""
        return {
            **self.status(),
            "shown_devices": self.devices.first(SHOWN_DEVICES) if self.devices else [],
            "frames": self._live.after(0, SHOWN_FRAMES),
        }

    def _set_aside(self) -> list[Path]:
        """Files that were damaged at this start and put beside fresh ones: a technician should be told."""
        hub = self._hub
        found = (hub.log.set_aside, hub.registry.set_aside, hub.history.set_aside)
        return [path for path in found if path is not None]

    def connected(self) -> bool:
        """Whether any packet forwarder or concentrator is there."""
        now_ns = self._clock().mono_ns
        known = self._link.forwarders.known.values()
        return any(now_ns - each.last_seen_ns < RADIO_SILENT_S * 1e9 for each in known) or bool(
            self.station()
        )

    def _devices(self) -> Status:
        """How many devices there are, and how they stand; at most some seconds old."""
        if self.devices is None:
            return {"total": self._server.device_count}
        summary = self.devices.summary
        return {
            "total": summary.total,
            "attention": summary.attention,
            "missed": summary.missed,
            "states": {str(state): count for state, count in summary.states.items() if count},
        }

    def _radio(self, now_ns: int) -> Status:
        gateways: list[Status] = []
        for forwarder in self._link.forwarders.known.values():
            silent_s = (now_ns - forwarder.last_seen_ns) / 1e9
            gateways.append(
                {
                    "eui": forwarder.eui.hex(),
                    "last_seen_s_ago": round(silent_s, 1),
                    "rx_ok": forwarder.received,
                    "tx": forwarder.sent,
                    "address": forwarder.host,
                    "restarts": forwarder.restarts,
                    "problem": forwarder.problem(now_ns),
                }
            )
        return {
            "connected": any(gateway["last_seen_s_ago"] < RADIO_SILENT_S for gateway in gateways)
            or bool(self.station()),
            "gateways": gateways,
            "warnings": [*self._link.forwarders.problems(now_ns), *self.warnings()],
            # As configured: GWMP does not tell what a forwarder listens to.
            "modules": [
                {"freq_hz": each.freq_hz, "sf": each.sf, "bw_hz": each.bw_hz, "role": each.role}
                for each in self._modules
            ],
        }


class StatusFiles:
    """Writes status and claim code to the runtime directory while `run` runs; both stay there when it ends."""

    def __init__(self, folder: Path, source: StatusSource, claim_code: Callable[[str], str | None]) -> None:
        """`claim_code` gives the code to show; it is handed what was shown before, by an earlier process as well."""
        self._folder = folder
        self._source = source
        self._claim_code = claim_code

    async def run(self) -> None:
        """Write now and every WRITE_INTERVAL_S until cancelled."""
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            while True:
                status = msgspec.json.encode(self._source.local())
                await asyncio.to_thread(self._write, status)
                await asyncio.sleep(WRITE_INTERVAL_S)
        finally:
            _replace(self._folder / STATUS_FILE, msgspec.json.encode(self._source.local()))

    def _write(self, status: bytes) -> None:
        _replace(self._folder / STATUS_FILE, status)
        path = self._folder / CLAIM_FILE
        shown = path.read_text().strip() if path.exists() else ""
        code = self._claim_code(shown)
        if code is None:
            path.unlink(missing_ok=True)
        elif code != shown:
            _replace(path, code.encode())


def _replace(path: Path, content: bytes) -> None:
    """Replace a file so that a reader sees the old or the new one, and nobody else's eyes see either."""
    new = path.with_name(path.name + ".new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    new.replace(path)
