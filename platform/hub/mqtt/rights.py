"""Rights that end while somebody is connected: what lives is asked for again, and cut where it is no longer allowed.

In: that rights were taken away, or time has passed. Out: connections closed. Who may do what is `hub.access`'s.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from hub.access import Action, Resource
from hub.hub import Hub
from hub.mqtt.reasons import Reason

if TYPE_CHECKING:
    from hub.mqtt.connection import Connection

log = logging.getLogger("hub.mqtt")


class Rights:
    """Of one door; `live` tells its connections that have authenticated."""

    def __init__(self, hub: Hub, live: Callable[[], Iterable[Connection]], counters: dict[str, int]) -> None:
        self._hub = hub
        self._live = live
        self._counters = counters

    def recheck(self) -> None:
        """Rights were taken away, of whomever."""
        for connection in list(self._live()):
            if not self._still_allowed(connection):
                self.cut(connection)

    def recheck_tokens(self) -> None:
        """A token may have ended by itself."""
        for connection in list(self._live()):
            if connection.token and not self._token_lives(connection):
                self.cut(connection)

    def cut(self, connection: Connection) -> None:
        self._counters["revoked"] += 1
        log.warning("mqtt %s: rights of %s were revoked", connection.peer, connection.principal.id)
        connection.cut(Reason.ADMINISTRATIVE_ACTION, "rights were revoked")

    def _still_allowed(self, connection: Connection) -> bool:
        connected = self._hub.access.decide(
            connection.principal, Action.CONNECT, Resource(), connection.circumstances
        )
        if not connected.allowed or (connection.token and not self._token_lives(connection)):
            return False
        return connection.subscribing.still_allowed()

    def _token_lives(self, connection: Connection) -> bool:
        return self._hub.authenticate_bearer(connection.token, self._hub.now_s()) is not None
