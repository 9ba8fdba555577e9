"""What the gateway knows of the radio process on its machine: asked every few seconds over its control socket.

GWMP carries frames and little else. How the modules are, what they were refused, how exact their downlinks start and
what the band sounds like comes this way (`radio.control`), to the pages and to `/metrics`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from radio.control import ControlError, ask

POLL_S = 2.0
STATUS_WAIT_S = 2.0
STALE_NS = 10_000_000_000
SCAN_WAIT_S = 120.0  # a scan gives way to every frame
NOT_ASKED = "the radio process was not asked yet"
NONE = "no radio process is configured on this machine ([radio] control_socket)"

Ask = Callable[[Path, str, Mapping[str, Any] | None, float], dict[str, Any]]


class RadioLink:
    """The last state of the radio process, and the way to ask it for more. `socket` None: there is none."""

    def __init__(
        self,
        socket: Path | None,
        mono_ns: Callable[[], int],
        ask: Ask = ask,
        told: Callable[[int, int], None] | None = None,
    ) -> None:
        """`told` hears of each moment that a GNSS receiver vouches for, as monotonic time and UTC in ns."""
        self._socket, self._mono_ns, self._ask, self._told = socket, mono_ns, ask, told
        self.seen: Callable[[dict[str, Any]], None] = _nobody  # hears the status after each look
        self._last: dict[str, Any] = {}
        self._at_ns: int | None = None
        self._problem = NOT_ASKED if socket else NONE

    async def run(self) -> None:
        """Ask for ever; runs until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(POLL_S)

    async def look(self) -> None:
        """Ask once; what goes wrong is kept as the problem."""
        if self._socket is None:
            return
        try:
            self._last = await asyncio.to_thread(self._ask, self._socket, "status", None, STATUS_WAIT_S)
        except ControlError as error:
            self._problem = str(error)
        else:
            self._at_ns, self._problem = self._mono_ns(), ""
            if self._told is not None and (moment := self._moment(self._at_ns)) is not None:
                self._told(*moment)
        self.seen(self.status())

    def status(self) -> dict[str, Any]:
        """The radio's own status while it is fresh, with `reachable` and, where it is not, `problem`."""
        fresh = self._at_ns is not None and self._mono_ns() - self._at_ns < STALE_NS
        state = self._last if fresh else {}
        return {"reachable": not self._problem and fresh, "problem": self._problem, **state}

    async def scan(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """The level on each frequency asked for. Raises ControlError saying what is wrong."""
        if self._socket is None:
            raise ControlError(NONE)
        return await asyncio.to_thread(self._ask, self._socket, "scan", args, SCAN_WAIT_S)

    def _moment(self, now_ns: int) -> tuple[int, int] | None:
        """Monotonic time and UTC of one moment, where the radio has them from a receiver and its clock is ours."""
        time, mono_ns = self._last.get("time"), self._last.get("mono_ns")
        if not isinstance(time, dict) or time.get("quality") != "gnss" or not isinstance(mono_ns, int):
            return None
        utc_ms = time.get("utc_ms")
        # A radio on simulated hardware has a clock of its own, which says nothing about ours.
        if not isinstance(utc_ms, int) or not 0 <= now_ns - mono_ns < STALE_NS:
            return None
        return mono_ns, utc_ms * 1_000_000

    def metrics(self) -> dict[str, float]:
        """Counters and histograms of all modules in Prometheus' naming."""
        status = self.status()
        flat: dict[str, float] = {"fluxgate_radio_reachable": int(status["reachable"])}
        for module in _tables(status.get("modules")):
            name = f'module="{module.get("name", "")}"'
            for key, value in module.items():
                if isinstance(value, int) and key not in ("freq_hz", "queued"):
                    flat[f"fluxgate_radio_{key}_total{{{name}}}"] = value
            flat |= _kinds("fluxgate_radio_faults_total", name, module.get("faults_by_kind"))
            for key in ("slack_us", "start_error_us"):
                flat.update(_histogram(f"fluxgate_radio_{key}", name, module.get(key)))
        for band in _tables(status.get("duty_cycle")):
            name = f'band="{band.get("min_hz")}-{band.get("max_hz")}"'
            for key in ("used_us", "budget_us"):
                if isinstance(value := band.get(key), int):
                    flat[f"fluxgate_radio_airtime_{key}{{{name}}}"] = value
        for kind, count in _items(status.get("counters")):
            flat[f'fluxgate_radio_events_total{{kind="{kind}"}}'] = count
        for server in _tables(status.get("servers")):
            name = f'server="{server.get("name", "")}"'
            for key, value in server.items():
                if isinstance(value, int):
                    flat[f"fluxgate_radio_server_{key}{{{name}}}"] = int(value)
        return flat


def _nobody(status: dict[str, Any]) -> None: ...


def _kinds(metric: str, label: str, counts: object) -> dict[str, float]:
    return {f'{metric}{{{label},kind="{kind}"}}': count for kind, count in _items(counts)}


def _histogram(metric: str, label: str, shown: object) -> Iterator[tuple[str, float]]:
    """Cumulative buckets, as Prometheus wants them, of a `radio.histogram` status."""
    if not isinstance(shown, dict):
        return
    count = 0
    for bound, here in zip([*shown["bounds"], "+Inf"], shown["counts"], strict=True):
        count += here
        yield f'{metric}_bucket{{{label},le="{bound}"}}', count
    yield f"{metric}_count{{{label}}}", shown["count"]
    yield f"{metric}_sum{{{label}}}", shown["sum"]


def _tables(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        yield from (each for each in value if isinstance(each, dict))


def _items(value: object) -> Iterator[tuple[str, int]]:
    if isinstance(value, dict):
        yield from ((str(key), count) for key, count in value.items() if isinstance(count, int))
