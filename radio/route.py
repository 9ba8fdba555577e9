"""Where a server is: which address of its name is used, and when the name is asked for again. Pure.

A name is asked for at the start, now and then while all is well (it may move), and when nobody answers or the
network is gone. Then the next of its addresses is tried with fresh sockets, because an old one may be bound to
an interface that went away or to a forgotten entry of a NAT. Waits double up to a bound and are spread at
random, so that the gateways of a site do not come back all at once. Times are ns of the monotonic clock.
"""

import random
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

SECOND_NS: Final = 1_000_000_000
ASK_AGAIN_NS: Final = 300 * SECOND_NS  # while the server answers; a name's time to live is not told to us
FIRST_WAIT_NS: Final = 5 * SECOND_NS
LONGEST_WAIT_NS: Final = 300 * SECOND_NS
NEXT_ADDRESS_NS: Final = 4 * SECOND_NS  # for each address of a name, before the first wait
SPREAD: Final = 0.5  # a wait is this part of its length at least
MAX_ADDRESSES: Final = 16


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address to send to: what `socket.socket` and `connect` want."""

    family: int
    address: tuple[Any, ...]

    def __str__(self) -> str:
        host, port = self.address[0], self.address[1]
        return f"[{host}]:{port}" if self.family == socket.AF_INET6 else f"{host}:{port}"


def resolve(host: str, port: int) -> list[Endpoint]:
    """Every address of a name, as the system orders them. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    return list(dict.fromkeys(Endpoint(family, address) for family, _, _, _, address in found))


class Route:
    """The way to one server. The caller asks for the name when `due`, and tells what came of it."""

    def __init__(self, rng: random.Random) -> None:
        self.endpoint: Endpoint | None = None
        self.moves = 0  # times the server was found elsewhere
        self._rng = rng
        self._addresses: tuple[Endpoint, ...] = ()
        self._tried = 0  # addresses since the server last answered, or since the last wait
        self._waits = 0  # since the server last answered
        self._lost = True  # nobody answers
        self._asked = False
        self._due_ns: int | None = None  # None: at once

    def due(self, now_ns: int) -> bool:
        """Whether to ask for the name now; then `resolved` or `unresolved` is to follow."""
        if self._asked or (self._due_ns is not None and now_ns < self._due_ns):
            return False
        self._asked = True
        return True

    def next_deadline(self, now_ns: int) -> int | None:
        """When `due` wants to be called; None while it waits for an answer."""
        return None if self._asked else now_ns if self._due_ns is None else self._due_ns

    def resolved(self, addresses: Sequence[Endpoint], now_ns: int) -> bool:
        """What the name stands for now. Returns whether sockets are to be made anew, for `endpoint`."""
        self._asked = False
        known = tuple(addresses[:MAX_ADDRESSES])
        if not known:
            self.unresolved(now_ns)
            return False
        self._addresses = known
        if not self._lost and self.endpoint in known:
            self._due_ns = now_ns + self._spread(ASK_AGAIN_NS)
            return False
        before = self.endpoint
        self.endpoint = known[(known.index(before) + 1) % len(known)] if before in known else known[0]
        self.moves += before is not None and before not in known
        self._lost = True
        self._tried += 1
        if self._tried < len(known):
            self._due_ns = now_ns + NEXT_ADDRESS_NS
        else:
            self._due_ns = now_ns + self._wait()
        return True

    def unresolved(self, now_ns: int) -> None:
        """The name could not be asked for or stands for nothing; an address in use stays in use."""
        self._asked = False
        self._due_ns = now_ns + self._wait()

    def answered(self, now_ns: int) -> None:
        """The server has answered."""
        if self._lost:
            self._lost = False
            self._tried = self._waits = 0
            self._due_ns = now_ns + self._spread(ASK_AGAIN_NS)

    def silent(self, now_ns: int) -> None:
        """The server, or the network, is gone; said again and again while that lasts, it changes nothing."""
        if not self._lost:
            self._lost = True
            self._due_ns = now_ns

    def _wait(self) -> int:
        """The next wait, ns."""
        longest = min(LONGEST_WAIT_NS, FIRST_WAIT_NS << min(self._waits, 16))
        self._tried = 0
        self._waits += 1
        return self._spread(longest)

    def _spread(self, length_ns: int) -> int:
        return round(length_ns * self._rng.uniform(SPREAD, 1))
