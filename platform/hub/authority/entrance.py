"""The way in over TLS, for every listener: handshake, judgement of the client certificate, then the door's protocol.

The door's own protocol is made when the handshake is done, and is told what the client has shown. Connections are taken
here and not by `create_server`, which says nothing of handshakes that fail: so a refused certificate can be told to a
technician, with the peer's address. Nothing is kept for a peer but its handshake, and of those there is a bound.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from .judge import MAX_CHAIN, Shown

log = logging.getLogger("hub.tls")

MAX_HANDSHAKES = 1024  # connections whose handshake is under way or waits for its turn; some 50 KB each
HANDSHAKE_S = 10.0
# When a thousand clients come at once, a few at a time are done in time and all together would not be: each handshake
# costs some ms, on a Pi some 20. Who says nothing gets no turn, and a turn is over after a moment, so that nobody holds
# the others up by being slow.
TURNS = 32
TURN_S = 1.0
TRY_AGAIN_S = 1.0  # after the system had no descriptor for a new connection
DER = 2  # `_ssl.ENCODING_DER`

Judge = Callable[[list[bytes], str], Shown]  # the chain as DER, and the peer's address
Failed = Callable[[str, str], None]  # the peer's address, and why in words
MakeProtocol = Callable[[Shown | None], asyncio.Protocol]

# What OpenSSL says of a certificate, for a technician (X509_V_ERR_*); the rest is told in its own words.
_VERIFY_WORDS = {
    2: "the authority that signed it is not among those this gateway trusts",
    7: "its signature is wrong: it was altered, or its authority only has the name of one that is trusted",
    18: "it is signed by itself; the gateway's authority must sign it",
    19: "its chain ends at an authority that this gateway does not trust",
    20: "the authority that signed it is not among those this gateway trusts",
    21: "it comes alone, and the authority that signed it is not among those this gateway trusts",
    22: "its chain is too long",
    24: "what signed it is no authority",
    25: "its authority may not have another authority below it",
    26: "it was not made for clients (its extended key usage lacks clientAuth)",
    32: "what signed it may not sign certificates",
    47: "it names what its authority must not name (name constraints)",
    48: "it names what its authority must not name (name constraints)",
    53: "one of its names has a form that its authority's name constraints cannot judge",
    66: "its key is too weak: use P-256, or RSA of 2048 bits or more",
    67: "the key of its authority is too weak",
    68: "it, or one in its chain, is signed with a hash that can be forged (SHA-1 or MD5)",
    79: "what signed it is no authority",
    94: "one of its keys is of a kind that is not allowed",
}
_REASON_WORDS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "no client certificate was shown, and this door wants one",
    "EXCESSIVE_MESSAGE_SIZE": "the certificate or its chain is too long",
    "BAD_SIGNATURE": "the client does not have the private key of the certificate it shows",
    "WRONG_SIGNATURE_TYPE": "the client signs with a kind of key that is not taken",
    "ILLEGAL_POINT_COMPRESSION": "its key cannot be read",
}
_CERTIFICATE_REASONS = ("CERT", "ASN1", "X509", "SIGNATURE", "EVP_LIB", "PUBLIC_KEY")


class Entrance:
    """One listener's way in. `context` is a server context; `judge` is asked of each certificate that it verified."""

    def __init__(
        self,
        context: ssl.SSLContext,
        judge: Judge,
        failed: Failed,
        *,
        handshake_s: float = HANDSHAKE_S,
        turned_away: Callable[[], None] = lambda: None,
    ) -> None:
        """`turned_away` counts connections above the bound of handshakes."""
        self._turned_away = turned_away
        self._context = context
        self._judge = judge
        self._failed = failed
        self._handshake_s = handshake_s
        self._listening: list[asyncio.Task[None]] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(TURNS)
        self.refused = 0  # connections above the bound
        self.failures = 0  # handshakes that came to nothing, for whatever reason

    def listen(self, listener: socket.socket, make: MakeProtocol) -> None:
        """Take connections from a socket that listens, until `close`, which closes it."""
        listener.setblocking(False)
        task = asyncio.get_running_loop().create_task(self._accept(listener, make), name="tls listener")
        self._listening.append(task)

    async def close(self) -> None:
        """Stop listening, and end the handshakes that are under way."""
        tasks = [*self._listening, *self._under_way]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listening.clear()

    async def _accept(self, listener: socket.socket, make: MakeProtocol) -> None:
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                try:
                    accepted, name = await loop.sock_accept(listener)
                except OSError as error:
                    log.warning("tls: no further connection: %s", error.strerror or error)
                    await asyncio.sleep(TRY_AGAIN_S)
                    continue
                self.begin(accepted, str(name[0]), make)

    def begin(self, accepted: socket.socket, address: str, make: MakeProtocol) -> None:
        """Shake hands with the peer of a connected socket, or turn it away where too many do."""
        if len(self._under_way) >= MAX_HANDSHAKES:
            self.refused += 1
            self._turned_away()
            accepted.close()
            return
        task = asyncio.get_running_loop().create_task(
            self._admit(accepted, address, make), name="tls handshake"
        )
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _admit(self, accepted: socket.socket, address: str, make: MakeProtocol) -> None:
        hall = _Hall()
        turn: asyncio.TimerHandle | None = None
        try:
            await _speaks(accepted, self._handshake_s)
            await self._turns.acquire()
            turn = asyncio.get_running_loop().call_later(TURN_S, self._turns.release)
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                lambda: hall, accepted, ssl=self._context, ssl_handshake_timeout=self._handshake_s
            )
        except (OSError, asyncio.CancelledError) as error:  # ssl.SSLError is one
            accepted.close()
            if isinstance(error, asyncio.CancelledError):
                raise
            self.failures += 1
            why = why_refused(error)
            log.info("tls %s: no connection: %s", address, why or error)
            if why:
                self._failed(address, why)
            return
        finally:
            if turn is not None and turn.when() > asyncio.get_running_loop().time():
                turn.cancel()
                self._turns.release()
        if hall.lost:
            return
        try:
            chain = verified_chain(transport.get_extra_info("ssl_object"), self._authorities)
            shown = self._judge(chain, address) if chain else None
            hall.leave(transport, make(shown))
        except Exception:
            log.exception("tls %s: our fault", address)
            transport.abort()

    def _authorities(self) -> list[x509.Certificate]:
        return [x509.load_der_x509_certificate(each) for each in self._context.get_ca_certs(binary_form=True)]


async def _speaks(accepted: socket.socket, limit_s: float) -> None:
    """Until the peer has sent something, or has closed. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    came = asyncio.Event()
    loop.add_reader(accepted, came.set)
    try:
        async with asyncio.timeout(limit_s):
            await came.wait()
    finally:
        loop.remove_reader(accepted)


class _Hall(asyncio.Protocol):
    """Where bytes wait that come with the end of the handshake, before the door's protocol is there."""

    def __init__(self) -> None:
        self.lost = False
        self._came: list[bytes] = []
        self._ended = False

    def data_received(self, data: bytes) -> None:
        self._came.append(data)

    def eof_received(self) -> bool:
        self._ended = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    def leave(self, transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        """Give the connection to the door's protocol, with all that has come."""
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        for data in self._came:
            protocol.data_received(data)
        if self._ended:
            protocol.eof_received()
            transport.close()


def why_refused(error: OSError) -> str:
    """Why the client's certificate ended the handshake, in words; "" where something else did."""
    if isinstance(error, ssl.SSLCertVerificationError):
        words = _VERIFY_WORDS.get(error.verify_code, error.verify_message)
        return f"the client certificate is refused: {words}"
    reason = getattr(error, "reason", None) or ""
    if reason in _REASON_WORDS:
        return f"the client certificate is refused: {_REASON_WORDS[reason]}"
    # An alert is what the client thinks of us
    ours = isinstance(error, ssl.SSLError) and "ALERT" not in reason
    if ours and any(part in reason for part in _CERTIFICATE_REASONS):
        return f"the client certificate is refused: it cannot be read ({reason.lower().replace('_', ' ')})"
    return ""


def verified_chain(connection: Any, authorities: Callable[[], Sequence[x509.Certificate]]) -> list[bytes]:
    """The chain that was verified, as DER, the client's own first; nothing where no certificate was shown.

    In TLS 1.2 a client may take up a session of some minutes ago, and shows its certificate only the first time.
    OpenSSL has kept it; its chain is then put together anew, so that each connection is judged as the first was.
    """
    leaf = connection.getpeercert(True) if connection is not None else None
    if leaf is None:
        return []
    chain = _told(connection, "get_verified_chain")
    if chain:
        return chain
    shown = _told(connection, "get_unverified_chain")
    try:
        return _put_together(leaf, [*authorities(), *map(x509.load_der_x509_certificate, shown)])
    except (ValueError, TypeError, x509.InvalidVersion):
        return [leaf]  # what cannot be read leads to no root, and is refused for that


def _told(connection: Any, what: str) -> list[bytes]:
    """Python 3.13 has these by name; 3.11 and 3.12 have them all the same."""
    if hasattr(connection, what):
        return list(getattr(connection, what)())
    return [each.public_bytes(DER) for each in getattr(connection._sslobj, what)() or ()]


def _put_together(leaf: bytes, pool: Sequence[x509.Certificate]) -> list[bytes]:
    """From the certificate up to a root, each signed by the next; as far as `pool` goes."""
    current = x509.load_der_x509_certificate(leaf)
    chain = [leaf]
    while current.issuer != current.subject and len(chain) <= MAX_CHAIN:
        issuer = next((each for each in pool if _signed(each, current)), None)
        if issuer is None:
            break
        chain.append(issuer.public_bytes(Encoding.DER))
        current = issuer
    return chain


def _signed(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    if issuer.subject != certificate.issuer:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def listening_socket(host: str, port: int, backlog: int) -> socket.socket:
    """A socket for `Entrance.listen`. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=backlog, dualstack_ipv6=host == "::")
