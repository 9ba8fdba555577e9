"""How fast a thing may publish: who is faster is read from later, and nothing that was sent is lost.

MQTT 3.1.1 has no word for a refused message and at QoS 0 nobody has, so a pause is the only bound that costs no
message: what comes meanwhile waits in the client's own socket. All connections of a thing share its rate.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakSet

from hub.mqtt.limits import Limits
from hub.rates import Rates

if TYPE_CHECKING:
    from hub.mqtt.connection import Connection

log = logging.getLogger("hub.mqtt")


class Pace:
    """One per door. `clock` is monotonic seconds."""

    def __init__(self, limits: Limits, counters: dict[str, int], clock: Callable[[], float]) -> None:
        self._rates = Rates(limits.publish_rate, limits.publish_burst) if limits.publish_rate else None
        self._counters = counters
        self._clock = clock
        self._told: WeakSet[Connection] = WeakSet()

    def published(self, connection: Connection, messages: int) -> None:
        """So many came in one read: no more of this connection is read before they are within the rate."""
        if self._rates is None:
            return
        wait_s = self._rates.owes_s(connection.principal.id, messages, self._clock())
        if wait_s:
            self._counters["paced_reads"] += 1
            self._tell(connection)
            connection.pause()
            asyncio.get_running_loop().call_later(wait_s, connection.resume)

    def _tell(self, connection: Connection) -> None:
        """In the log, once for a connection: its client only notices that writing takes longer."""
        if connection not in self._told:
            self._told.add(connection)
            words = "mqtt %s: thing %s publishes faster than publish_rate allows, and is read later"
            log.warning(words, connection.peer, connection.principal.id)
