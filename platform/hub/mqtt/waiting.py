"""Connections that were accepted and have sent no CONNECT: how many there may be, in all and of one address.

A stranger's only cost is its place here, so one address cannot take all places. The own host, whose proxies carry
everybody's connections, is not counted by address; behind a PROXY header it is the client's address that counts.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hub.lockout import network_of
from hub.mqtt.limits import Limits

if TYPE_CHECKING:
    from hub.mqtt.connection import Connection


class Waiting:
    """In the order of arrival."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._networks: dict[Connection, str] = {}
        self._of_network: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._networks)

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._networks)

    def add(self, connection: Connection) -> bool:
        """Take one more; False where there is no place."""
        network = _counted(connection.peer)
        limits = self._limits
        full = len(self._networks) >= limits.unauthenticated
        if full or (network and self._of_network[network] >= limits.unauthenticated_per_address):
            self._tidy(network)
            return False
        self._networks[connection] = network
        self._of_network[network] += 1
        return True

    def remove(self, connection: Connection) -> None:
        """It has sent its CONNECT, or is gone; once more does no harm."""
        network = self._networks.pop(connection, None)
        if network is not None:
            self._of_network[network] -= 1
            self._tidy(network)

    def _tidy(self, network: str) -> None:
        if not self._of_network[network]:
            del self._of_network[network]


def _counted(peer: str) -> str:
    """The address as it is counted (the /64 in IPv6); "" for the own host and what is none."""
    network = network_of(peer)
    try:
        return "" if ipaddress.ip_network(network).is_loopback else network
    except ValueError:
        return ""
