"""Where the MQTT door listens: plain TCP, TLS, and behind proxies that tell a client's address.

In: addresses. Out: a `Connection` for each client that is let in. What becomes of it is the door's.
"""

from __future__ import annotations

import asyncio
import socket
import ssl as tls
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from hub.authority.doorkeeper import entrance_of
from hub.authority.entrance import Entrance, listening_socket
from hub.hub import Hub
from hub.mqtt.connection import Connection
from hub.mqtt.proxied import ProxiedListener
from hub.mqtt.publishing import PROTOCOL

if TYPE_CHECKING:
    from hub.mqtt.door import MqttDoor

BACKLOG = 1024  # connections the kernel completes ahead: all of a site reconnect at once after an outage


class Listening:
    """The listening sockets of one door."""

    def __init__(self, door: MqttDoor, hub: Hub) -> None:
        self._door = door
        self._hub = hub
        self._servers: list[asyncio.Server] = []
        self._entrances: list[Entrance] = []
        self._proxied: list[ProxiedListener] = []

    async def listen(self, host: str, port: int, ssl: tls.SSLContext | None) -> int:
        """Listen on an address, with TLS where there is a context. Returns the port. Raises OSError."""
        door = self._door
        if ssl is not None:
            listener = listening_socket(host, port, BACKLOG)
            address: tuple[str, int] = listener.getsockname()[:2]
            self._entrance(ssl).listen(listener, partial(Connection, door, ""))
            return address[1]
        server = await asyncio.get_running_loop().create_server(
            partial(Connection, door), host, port, backlog=BACKLOG
        )
        self._servers.append(server)
        chosen: int = server.sockets[0].getsockname()[1]
        return chosen

    def listen_behind_proxy(
        self, host: str, port: int, trusts: Callable[[str], bool], ssl: tls.SSLContext | None
    ) -> int:
        """Listen for proxies that `trusts` knows; TLS may follow the header. Returns the port. Raises OSError."""
        door = self._door
        entrance = self._entrance(ssl) if ssl is not None else None

        def secure(accepted: socket.socket, address: str) -> None:
            assert entrance is not None
            entrance.begin(accepted, address, partial(Connection, door, address))

        listener = ProxiedListener(
            partial(Connection, door), trusts, door.misannounced, door.limits, secure if entrance else None
        )
        chosen = listener.start(host, port)
        self._proxied.append(listener)
        return chosen

    def _entrance(self, context: tls.SSLContext) -> Entrance:
        def turned_away() -> None:
            self._door.counters["refused_connections"] += 1

        entrance = entrance_of(
            *(self._hub, context, PROTOCOL),
            handshake_s=self._door.limits.connect_timeout_s,
            turned_away=turned_away,
        )
        self._entrances.append(entrance)
        return entrance

    async def stop(self) -> None:
        """Take no new connections."""
        for server in self._servers:
            server.close()
        for entrance in self._entrances:
            await entrance.close()
        for listener in self._proxied:
            await listener.close()

    async def ended(self) -> None:
        """Return when every connection that came this way is closed."""
        for server in self._servers:
            await server.wait_closed()
