"""OSCORE (RFC 8613): requests that show who they are from and can be neither read, changed nor replayed.

A context belongs to one thing and stands for it. aiocoap does the cryptography; here is what must outlive a crash:
a sender sequence number is never used twice, because blocks of them are reserved on disk before the first of them
is used, and after a start each peer first has to answer a challenge (RFC 8613, B.1.2), so an old request cannot be
played again.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import aiocoap
import cbor2
from aiocoap import oscore
from aiocoap.error import Error as AiocoapError
from aiocoap.message import Direction
from aiocoap.numbers.optionnumbers import OptionNumber
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hub.coap.endpoint import Response
from hub.coap.limits import Limits
from hub.coap.packets import Code, Opt, Packet, uint
from hub.coap.store import SELECT_CONTEXTS, drop_context, keep_context, reserve_numbers
from hub.errors import HubError, Invalid, LogFailed, NotFound
from hub.log import Log
from hub.registry import Registry

log = logging.getLogger("hub.coap")

ALGORITHM = "AES-CCM-16-64-128"  # mandatory to implement (RFC 8613, 3.2.1), as is HKDF with SHA-256
KDF = "HKDF SHA-256"
SERVER_ID = b"\x00"  # our sender ID; the pair with the thing's is what has to be unique
KID_BYTES = 4  # a thing's sender ID: random, and never 1 byte as ours
SECRET_BYTES, SALT_BYTES = 16, 8
BLOCK = 256  # sender sequence numbers reserved at a time: used by notifications and challenges only
WINDOW = 64  # requests that may overtake each other
MAX_KID = 7  # bytes: nonce length less 6 (RFC 8613, 3.3)

_NONCE_BYTES = 12
_NO_NUMBERS = Response(
    Code.UNAVAILABLE, ((Opt.MAX_AGE, uint(30)),), b"no sequence number is reserved: is the disk full?"
)


class Parameters(NamedTuple):
    """What the thing must be given, shown once. IDs are from the thing's point of view."""

    thing: str
    master_secret: bytes
    master_salt: bytes
    sender_id: bytes
    recipient_id: bytes
    algorithm: str = ALGORITHM
    kdf: str = KDF


class OscoreFault(Exception):
    """A protected request that is refused; `response` goes back in clear (RFC 8613, 8.2), or protected (B.1.2)."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.payload)
        self.response = response


class Header(NamedTuple):
    """The OSCORE option (RFC 8613, 6.1). Without a context ID: ours have none."""

    partial_iv: bytes
    kid: bytes


def decode_header(value: bytes) -> Header | None:
    """The option's value as a request has it; None where it is malformed or nothing that we use."""
    if not value:
        return None
    flags, size = value[0], value[0] & 7
    # Reserved bits, a context ID, no kid, no partial IV, or a reserved length of it.
    if flags & 0xF0 or not flags & 8 or not 1 <= size <= 5 or len(value) < 1 + size:
        return None
    kid = value[1 + size :]
    return Header(value[1 : 1 + size], kid) if len(kid) <= MAX_KID else None


class Context(oscore.CanProtect, oscore.CanUnprotect, oscore.SecurityContextUtils):  # type: ignore[misc]
    """One thing's security context: what aiocoap's cryptography works with."""

    def __init__(
        self,
        kid: bytes,
        thing: str,
        secret: bytes,
        salt: bytes,
        reserved: int,
        *,
        fresh: bool,
        sender_id: bytes = SERVER_ID,
    ) -> None:
        self.thing = thing
        self.alg_aead = oscore.algorithms[ALGORITHM]
        self.hashfun = oscore.hashfunctions["sha256"]
        self.sender_id = sender_id
        self.recipient_id = kid
        self.id_context = None
        self.sender_sequence_number = reserved
        self.usable_below = reserved  # what the disk knows as reserved
        self.reserving = False
        self.echo_recovery = secrets.token_bytes(8)
        self.recipient_replay_window = oscore.ReplayWindow(WINDOW, lambda: None)
        if fresh:
            self.recipient_replay_window.initialize_empty()
        self.wants_numbers: Callable[[Context], None] = lambda _context: None
        self.derive_keys(salt, secret)

    def new_sequence_number(self) -> int:
        """The next number, if the disk knows that it may be used."""
        if self.usable_below - self.sender_sequence_number <= BLOCK // 2:
            self.wants_numbers(self)
        if self.sender_sequence_number >= self.usable_below:
            raise oscore.ContextUnavailable("no sequence number is reserved")
        number: int = super().new_sequence_number()
        return number

    def post_seqnoincrease(self) -> None:
        """Nothing: numbers are reserved before they are used."""


@dataclass(frozen=True, slots=True)
class Secured:
    """What protects the answers to one request."""

    context: Context
    request: oscore.RequestIdentifiers

    def protect(self, response: Response) -> Response | None:
        """The protected response; None where no sequence number is reserved for it, because the disk is full."""
        inner = aiocoap.Message(code=response.code, payload=response.payload)
        observe: bytes | None = None
        for number, value in response.options:
            # Counted outside, for proxies; inside it only says that it is there (4.1.3.5)
            if number == Opt.OBSERVE:
                observe, value = value, b""
            inner.opt.add_option(OptionNumber(number).create_option(decode=value))
        inner.direction = Direction.OUTGOING
        try:
            outer, _ = self.context.protect(inner, self.request)
        except oscore.ContextUnavailable:
            return None
        options = [(int(Opt.OSCORE), bytes(outer.opt.oscore))]
        if observe is not None:
            options.insert(0, (int(Opt.OBSERVE), observe))
        return Response(_code(outer), tuple(options), outer.payload)


class Contexts:
    """All contexts of one gateway. `key` (32 bytes) seals what is on disk."""

    def __init__(self, hub_log: Log, registry: Registry, key: bytes, limits: Limits) -> None:
        self._log = hub_log
        self._registry = registry
        self._sealer = AESGCM(key)
        self._limits = limits
        self._contexts: dict[bytes, Context] = {}
        self.on_removed: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self._contexts)

    async def load(self) -> None:
        """Read the contexts of the last run, and reserve numbers above those they may have used."""
        unreadable = 0
        for kid, thing, sealed, reserved in self._log.query(SELECT_CONTEXTS):
            try:
                secret, salt = self._unseal(kid, thing, sealed)
            except (InvalidTag, ValueError, TypeError):
                unreadable += 1
                continue
            self._add(Context(kid, thing, secret, salt, reserved, fresh=False))
        if unreadable:
            log.error("%d OSCORE contexts cannot be opened with this server.key: make new ones", unreadable)
        if not self._contexts:
            return
        try:
            await self._log.write(
                [reserve_numbers(kid, one.usable_below + BLOCK) for kid, one in self._contexts.items()]
            )
        except LogFailed as error:  # a full disk: numbers are asked for again when one is needed
            log.warning("no OSCORE sequence numbers are reserved: %s", error)
        else:
            for context in self._contexts.values():
                context.usable_below += BLOCK

    def of(self, thing: str) -> list[str]:
        """The sender IDs, in hex, of a thing's contexts."""
        return [kid.hex() for kid, context in self._contexts.items() if context.thing == thing]

    async def create(self, thing: str) -> Parameters:
        """Make a context for a thing; durable when this returns. The secret is never shown again.

        Raises NotFound, Invalid (too many), LogFailed.
        """
        if self._registry.thing(thing) is None:
            raise NotFound("there is no such thing")
        if len(self._contexts) >= self._limits.oscore_contexts:
            raise Invalid(f"at most {self._limits.oscore_contexts} OSCORE contexts")
        kid = secrets.token_bytes(KID_BYTES)
        while kid in self._contexts:
            kid = secrets.token_bytes(KID_BYTES)
        secret, salt = secrets.token_bytes(SECRET_BYTES), secrets.token_bytes(SALT_BYTES)
        await self._log.write([keep_context(kid, thing, self._seal(kid, thing, secret, salt), BLOCK)])
        context = Context(kid, thing, secret, salt, 0, fresh=True)
        context.usable_below = BLOCK
        self._add(context)
        return Parameters(thing, secret, salt, kid, SERVER_ID)

    async def remove(self, sender_id: str) -> None:
        """End a context, by the thing's sender ID in hex. Raises NotFound, LogFailed."""
        try:
            kid = bytes.fromhex(sender_id)
        except ValueError:
            kid = b""
        if kid not in self._contexts:
            raise NotFound("there is no such OSCORE context")
        del self._contexts[kid]
        self.on_removed()
        await self._log.write([drop_context(kid)])

    def forget_strangers(self) -> None:
        """End the contexts of things that are gone."""
        for kid, context in list(self._contexts.items()):
            if self._registry.thing(context.thing) is None:
                del self._contexts[kid]
                self._write_later(drop_context(kid))

    def valid(self, secured: Secured) -> bool:
        """Whether the context behind `secured` still stands."""
        return self._contexts.get(secured.context.recipient_id) is secured.context

    def open(self, packet: Packet, *, again: bool = False) -> tuple[Packet, Secured]:
        """The request inside a protected one, and what protects its answers. Raises OscoreFault.

        `again`: a copy of a request that was taken before this start; it is opened, however old.
        """
        header = decode_header(packet.first(Opt.OSCORE) or b"")
        if header is None:
            raise _fault(Code.BAD_OPTION, "Failed to decode COSE")
        if packet.code not in (Code.POST, Code.FETCH):
            raise _fault(Code.METHOD_NOT_ALLOWED, "OSCORE comes in POST or FETCH")
        context = self._contexts.get(header.kid)
        if context is None:
            raise _fault(Code.UNAUTHORIZED, "Security context not found")
        outer = aiocoap.Message(code=packet.code, payload=packet.payload)
        outer.opt.oscore = packet.first(Opt.OSCORE)
        outer.opt.observe = packet.uint(Opt.OBSERVE)
        outer.direction = Direction.INCOMING
        if again:
            return packet, Secured(context, _identifiers(context, outer))
        try:
            inner, identifiers = context.unprotect(outer)
        except oscore.ReplayErrorWithEcho as challenge:
            echo = Response(Code.UNAUTHORIZED, ((Opt.ECHO, challenge.echo),))
            protected = Secured(context, challenge.request_id).protect(echo)
            raise OscoreFault(protected or _NO_NUMBERS) from None
        except oscore.ReplayError:
            raise _fault(Code.UNAUTHORIZED, "Replay detected") from None
        except oscore.DecodeError:
            raise _fault(Code.BAD_OPTION, "Failed to decode COSE") from None
        except oscore.ProtectionInvalid:
            raise _fault(Code.BAD_REQUEST, "Decryption failed") from None
        except (AiocoapError, UnicodeDecodeError):  # the inside, from one who has the key
            raise _fault(Code.BAD_REQUEST, "Decryption failed") from None
        assert identifiers is not None  # of a request there always are
        return _packet_of(inner, packet), Secured(context, identifiers)

    def _add(self, context: Context) -> None:
        context.wants_numbers = self._reserve
        self._contexts[context.recipient_id] = context

    def _reserve(self, context: Context) -> None:
        """Reserve the next block on disk; it is used once it is there."""
        if context.reserving:
            return
        below = context.usable_below + BLOCK
        context.reserving = True

        def done(error: HubError | None) -> None:
            context.reserving = False
            if error is None:
                context.usable_below = below

        try:
            self._log.submit((), [reserve_numbers(context.recipient_id, below)], done)
        except HubError:
            context.reserving = False

    def _write_later(self, write: tuple[str, tuple[object, ...]]) -> None:
        try:
            self._log.post((), [write])
        except HubError as error:
            log.warning("an OSCORE context that is not valid any more stays on disk: %s", error)

    def _seal(self, kid: bytes, thing: str, secret: bytes, salt: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._sealer.encrypt(nonce, cbor2.dumps([secret, salt]), kid + thing.encode())

    def _unseal(self, kid: bytes, thing: str, sealed: bytes) -> tuple[bytes, bytes]:
        plain = self._sealer.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], kid + thing.encode())
        secret, salt = cbor2.loads(plain)
        return secret, salt


def seal_key(server_key_digest: Callable[[str, str], bytes]) -> bytes:
    """The key that seals contexts on disk, made from the gateway's own."""
    return server_key_digest("coap", "what seals OSCORE contexts")


def _identifiers(context: Context, outer: aiocoap.Message) -> oscore.RequestIdentifiers:
    """What an answer to an old request is bound to. Opened beside the replay window, so nothing is struck out."""
    window = context.recipient_replay_window
    context.recipient_replay_window = oscore.ReplayWindow(WINDOW, lambda: None)
    try:
        _, identifiers = context.unprotect(outer)
    except oscore.ReplayErrorWithEcho as challenge:
        return challenge.request_id
    except (AiocoapError, UnicodeDecodeError):
        raise _fault(Code.BAD_REQUEST, "Decryption failed") from None
    finally:
        context.recipient_replay_window = window
    assert identifiers is not None  # of a request there always are
    return identifiers


def _code(message: aiocoap.Message) -> int:
    """The code of a message; what has been decoded or protected has one."""
    assert message.code is not None
    return int(message.code)


def _packet_of(inner: aiocoap.Message, outer: Packet) -> Packet:
    options = tuple((int(option.number), option.encode()) for option in inner.opt.option_list())
    return Packet(outer.type, _code(inner), outer.mid, outer.token, options, inner.payload)


def _fault(code: Code, words: str) -> OscoreFault:
    options = ((Opt.MAX_AGE, b""),) if code == Code.UNAUTHORIZED else ()
    return OscoreFault(Response(code, options, words.encode()))
