"""MQTT behind a proxy that passes bytes on: a listener on which each connection begins with a PROXY header.

Without it every client would have the proxy's address, and policies that ask for one would see only that. The header
is taken from trusted proxies only, and on this listener it is demanded; every other listener refuses it. It is read
off the socket before anything else has the socket, so that TLS may follow it as well as MQTT.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from hub import proxy_protocol
from hub.errors import ProxyProtocolError
from hub.mqtt.limits import Limits
from hub.proxy_protocol import MAX_BLOCK, Announced

BACKLOG = 1024
TRY_AGAIN_S = 1.0  # after the system had no descriptor for a new connection

log = logging.getLogger("hub.mqtt")


class ProxiedListener:
    """One such listener. `connected` makes the protocol of a client whose address is its argument.

    `refused` is told the peer's address and why its connection was ended. `secure` takes the socket in place of
    `connected`, where TLS follows the header.
    """

    def __init__(
        self,
        connected: Callable[[str], asyncio.Protocol],
        trusts: Callable[[str], bool],
        refused: Callable[[str, str], None],
        limits: Limits,
        secure: Callable[[socket.socket, str], None] | None = None,
    ) -> None:
        self._secure = secure
        self._connected = connected
        self._trusts = trusts
        self._refused = refused
        self._limits = limits
        self._accepting: asyncio.Task[None] | None = None
        self._opening: set[asyncio.Task[None]] = set()

    def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises OSError."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server(
            (host, port), family=family, backlog=BACKLOG, dualstack_ipv6=host == "::"
        )
        listener.setblocking(False)
        self._accepting = asyncio.create_task(self._accept(listener), name="mqtt behind a proxy")
        chosen: int = listener.getsockname()[1]
        return chosen

    async def close(self) -> None:
        """Stop listening; connections that have their protocol go on."""
        tasks = [*self._opening, *([self._accepting] if self._accepting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                try:
                    accepted, name = await loop.sock_accept(listener)
                except OSError as error:
                    log.warning("mqtt behind a proxy: no further connection: %s", error.strerror)
                    await asyncio.sleep(TRY_AGAIN_S)
                    continue
                peer = str(name[0])
                why = ""
                if not self._trusts(peer):
                    why = "this listener is for trusted proxies only (http.trusted_proxies)"
                elif len(self._opening) >= self._limits.unauthenticated:
                    why = "too many connections that have not said whose they are"
                if why:
                    accepted.close()
                    self._refused(peer, why)
                    continue
                task = asyncio.create_task(self._open(accepted, peer), name="mqtt: PROXY header")
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)

    async def _open(self, accepted: socket.socket, peer: str) -> None:
        try:
            async with asyncio.timeout(self._limits.connect_timeout_s):
                address = (await _announcement(accepted)).address or peer
            if self._secure is not None:
                self._secure(accepted, address)
                return
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._connected(address), accepted
            )
        except ProxyProtocolError as error:
            accepted.close()
            self._refused(peer, error.reason)
        except TimeoutError:
            accepted.close()
            self._refused(peer, "no PROXY header has come")
        except OSError:  # the client has left
            accepted.close()
        except BaseException:
            accepted.close()
            raise


async def _announcement(accepted: socket.socket) -> Announced:
    """Read the header and not a byte more. Raises ProxyProtocolError, OSError."""
    seen = b""
    while True:
        await _readable(accepted)
        ahead = accepted.recv(MAX_BLOCK - len(seen), socket.MSG_PEEK)
        if not ahead:
            raise ConnectionResetError("closed before its PROXY header was whole")
        found = proxy_protocol.parse(seen + ahead)
        accepted.recv(len(ahead) if found is None else found.used - len(seen))
        if found is not None:
            return found
        seen += ahead


async def _readable(accepted: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(accepted, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(accepted)
