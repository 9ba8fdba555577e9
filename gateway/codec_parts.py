"""The codecs of a running gateway: the stored ones, the process that runs them, their routes and counters."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.codec_api import CodecApi
from gateway.codecs.catalog import Codecs
from gateway.codecs.library import Library
from gateway.lorawan.server import NetworkServer
from gateway.uplinks import Uplinks
from hub.http.table import Endpoint
from hub.hub import Hub

log = logging.getLogger(__name__)

LAST_ANSWERS_S = 2.0  # for calls under way when the gateway ends; what has none then is stored as bytes


@dataclass(frozen=True, slots=True)
class CodecParts:
    hub: Hub
    server: NetworkServer
    library: Library
    codecs: Codecs

    def endpoints(self) -> list[Endpoint]:
        """What the HTTP door mounts."""
        return CodecApi(self.hub, self.library, self.used).endpoints()

    def used(self) -> Counter[str]:
        """How many devices use each codec."""
        return Counter(device.codec for device in self.server.devices())

    def metrics(self) -> Mapping[str, float]:
        """For /metrics."""
        worker = self.library.worker
        counted = worker.counters
        return {
            "fluxgate_codec_calls_total": counted.calls,
            "fluxgate_codec_stopped_total": counted.stopped,
            "fluxgate_codec_refused_total": counted.refused,
            "fluxgate_codec_processes_total": counted.started,
            "fluxgate_codec_killed_total": counted.killed,
            "fluxgate_codec_died_total": counted.died,
            "fluxgate_codec_waiting": worker.waiting,
            "fluxgate_codec_held": sum(bool(each.script.strikes.held) for each in self.library.values()),
        }

    async def close(self, uplinks: Uplinks) -> None:
        """Wait a moment for the answers under way, then store as bytes what still waits, and end the process."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.library.worker.drained(), LAST_ANSWERS_S)
        uplinks.close()
        self.library.worker.close()


def opened(hub: Hub, server: NetworkServer) -> CodecParts:
    """Read the stored codecs; no process is started before one is called."""
    library = Library()
    with contextlib.closing(hub.log.reader()) as reader:
        for problem in library.load(reader.connection):
            log.error("%s", problem)
    return CodecParts(hub, server, library, Codecs(library))
