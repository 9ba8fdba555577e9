"""The CoAP door: sockets, one timer, and the wiring of the rooms of this package.

The sockets are plain and the door's own: one for each family the host has (so a container without IPv6 is fine),
told at which address each datagram arrived. An answer leaves from that address, and what was sent to a group or as
broadcast is not answered, since one request could have a whole site answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import secrets
import socket
import struct
import time
from collections.abc import Callable

from hub.coap.admission import Address, Admission
from hub.coap.endpoint import Endpoint, Exchange
from hub.coap.limits import COUNTERS, Limits
from hub.coap.oscore import Contexts, seal_key
from hub.coap.resource import Messages
from hub.coap.store import SELECT_EXCHANGES
from hub.errors import HubError
from hub.hub import Hub
from hub.keys import ServerKey

TICK_S = 0.25  # how late a retransmission or an acknowledgement may be
AT_ONCE = 64  # datagrams taken before others on the loop have their turn
LOG_INTERVAL_S = 1.0  # one line at most in this time, whatever comes
RECEIVE_BUFFER = 1 << 20  # bytes the kernel keeps while the loop is busy: about 2,000 requests
_ANCILLARY = socket.CMSG_SPACE(32)
_IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)  # Linux; named by Python from 3.14 on
_PKTINFO4 = struct.Struct("=i4s4s")  # interface, our address, the one in the datagram (ip(7))
_PKTINFO6 = struct.Struct("=16si")  # the address in the datagram, interface (RFC 3542, 6)

log = logging.getLogger("hub.coap")


class CoapDoor:
    """A CoAP server (RFC 7252) of one hub over UDP.

    `host` "" means all addresses; `port` 0 lets the system choose, `self.port` tells. `counters` never fall, except
    `observers_now`. `contexts` makes OSCORE contexts for things. The hub must have been opened with
    `hub.coap.MIGRATIONS`.
    """

    def __init__(
        self,
        hub: Hub,
        host: str = "127.0.0.1",
        port: int = 5683,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.host = host
        self.port = port
        self.limits = limits or Limits()
        self.counters = dict.fromkeys(COUNTERS, 0)
        server_key = ServerKey.load(hub.log.path.with_name("server.key"))
        self.contexts = Contexts(hub.log, hub.registry, seal_key(server_key.digest), self.limits)
        self._hub = hub
        self._clock = clock
        self._sockets: dict[int, socket.socket] = {}  # by family
        self._unsubscribe: list[Callable[[], None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._quiet_until = 0.0
        secret = secrets.token_bytes(32)
        self._messages = Messages(hub, self.limits, self.counters, self.contexts, secret, self._complain)
        self.endpoint = Endpoint(
            Admission(self.limits, secret),
            self.limits,
            self.counters,
            self._send,
            self._handle,
            lambda address, mid: self._messages.observers.on_reset(address, mid),
            clock,
        )
        self._messages.attach(self.endpoint)
        self.contexts.on_removed = self._messages.observers.recheck

    async def start(self) -> None:
        """Take over what the last run left, then listen. Raises OSError."""
        hub = self._hub
        wall_s = hub.clock()[0] / 1e9
        self.endpoint.exchanges.restore(hub.log.query(SELECT_EXCHANGES), self._clock(), wall_s)
        await self.contexts.load()
        self._open_sockets()
        self._unsubscribe = [
            hub.log.on_commit(self._messages.values.on_commit),
            hub.log.on_commit(self._messages.observers.on_commit),
            hub.access.on_revoke(self._revoked),
        ]
        loop = asyncio.get_running_loop()
        for opened in self._sockets.values():
            loop.add_reader(opened, self._readable, opened)
        self._timer = loop.call_later(TICK_S, self._tick)

    async def close(self) -> None:
        """Stop listening; requests that wait for the disk are answered before."""
        loop = asyncio.get_running_loop()
        for opened in self._sockets.values():
            loop.remove_reader(opened)
        tasks = list(self._messages.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
            with contextlib.suppress(HubError):
                await self._hub.log.flush()
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        for opened in self._sockets.values():
            opened.close()
        self._sockets.clear()

    # Datagrams

    def _open_sockets(self) -> None:
        """One socket a family. Raises OSError where there is none at all."""
        found = socket.getaddrinfo(
            self.host or None, self.port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
        )
        failure: OSError | None = None
        for family, _, _, _, where in found:
            if family in self._sockets:
                continue
            try:
                self._sockets[family] = _open_socket(family, (where[0], self.port, *where[2:]))
            except OSError as error:
                failure = error
                continue
            self.port = self._sockets[family].getsockname()[1]
        if not self._sockets:
            raise failure or OSError(f"{self.host} is no address of this machine")

    def _readable(self, opened: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                data, ancillary, flags, remote = opened.recvmsg(self.limits.datagram_bytes, _ANCILLARY)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._complain("receiving failed: %s", error)
                return
            local = b""
            if ancillary:
                local, group = _arrived_at(ancillary)
                if group:
                    self.counters["dropped_group"] += 1
                    continue
            if flags & socket.MSG_TRUNC:
                self.counters["refused_size"] += 1
                self.endpoint.too_long(data, Address(remote, local))
                continue
            self.receive(data, Address(remote, local))

    def receive(self, data: bytes, address: Address) -> None:
        """Take one datagram. Whatever it is, nothing is raised."""
        try:
            self.endpoint.receive(data, address)
        except Exception:
            # Ours, not the sender's: say so once, and go on with the next datagram.
            if self._may_log():
                log.exception("coap %s: a datagram of %d bytes failed", address.text, len(data))

    def _handle(self, exchange: Exchange) -> None:
        self._messages.handle(exchange)

    def _send(self, data: bytes, address: Address) -> None:
        """Hand one datagram to the kernel.

        What it does not take is lost, as it might be on the way; clients ask again.
        """
        remote, local = address
        opened = self._sockets.get(socket.AF_INET6 if ":" in remote[0] else socket.AF_INET)
        if opened is None:
            return
        try:
            if local:
                level = socket.IPPROTO_IPV6 if opened.family == socket.AF_INET6 else socket.IPPROTO_IP
                kind = socket.IPV6_PKTINFO if opened.family == socket.AF_INET6 else _IP_PKTINFO
                opened.sendmsg([data], [(level, kind, local)], 0, remote)
            else:
                opened.sendto(data, remote)
        except OSError as error:
            self.counters["send_errors"] += 1
            self._complain("sending to %s failed: %s", address.text, error)

    # Time and rights

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        self.tick()

    def tick(self) -> None:
        """Do what time decides."""
        self.endpoint.tick()
        self._messages.tick()

    def _revoked(self) -> None:
        self.contexts.forget_strangers()
        self._messages.observers.recheck()

    def _complain(self, text: str, *parts: object) -> None:
        if self._may_log():
            log.warning("coap: " + text, *parts)

    def _may_log(self) -> bool:
        now = self._clock()
        if now < self._quiet_until:
            self.counters["log_lines_held"] += 1
            return False
        self._quiet_until = now + LOG_INTERVAL_S
        return True


def _open_socket(family: int, where: tuple[str | int, ...]) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_DGRAM)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            opened.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        opened.bind(where)
    except OSError:
        opened.close()
        raise
    return opened


def _arrived_at(ancillary: list[tuple[int, int, bytes]]) -> tuple[bytes, bool]:
    """The packet information to answer with, and whether the datagram was for a group or for everybody."""
    for level, kind, value in ancillary:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            _, ours, target = _PKTINFO4.unpack(value[: _PKTINFO4.size])
            return _PKTINFO4.pack(0, ours, bytes(4)), ours != target
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            target, interface = _PKTINFO6.unpack(value[: _PKTINFO6.size])
            group = target[0] == 0xFF
            # The interface matters only where an address alone does not say it.
            link_local = ipaddress.IPv6Address(target).is_link_local
            return _PKTINFO6.pack(target, interface if link_local else 0), group
    return b"", False
