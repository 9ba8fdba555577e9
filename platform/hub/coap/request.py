"""What a request asks for: options to values, with the answer for each that makes no sense.

Pure. Whether it is allowed is not decided here.
"""

from __future__ import annotations

from typing import NamedTuple

from hub.coap.blocks import Block, decode_block
from hub.coap.endpoint import Response
from hub.coap.packets import Code, Opt, Option, Packet, dotted, uint, unknown_critical
from hub.errors import (
    AccessDenied,
    BadMessage,
    Busy,
    HubError,
    Invalid,
    LogFailed,
    NotFound,
    SenmlError,
    TooLarge,
    TopicError,
    UnsupportedType,
)
from hub.topics import ANY_CHANNEL, Filter, parse_filter, parse_topic

WELL_KNOWN = (".well-known", "core")
MAX_ADDRESSES = 1024  # parsed paths kept: a gateway's channels times their subtopics
MAX_WORDS = 200  # bytes of a diagnostic payload (RFC 7252, 5.5.2)

# What the door understands of options that must be understood (RFC 7252, 5.4.1).
UNDERSTOOD = frozenset(
    int(number)
    for number in (
        *(Opt.URI_HOST, Opt.URI_PORT, Opt.URI_PATH, Opt.URI_QUERY),
        *(Opt.ACCEPT, Opt.BLOCK1, Opt.BLOCK2, Opt.OSCORE),
    )
)

BUSY_S, FULL_S = 2, 30  # when to come again; a disk does not empty itself in a moment


class Refusal(Exception):
    """A request is answered with an error. `counter` is the one that rises."""

    def __init__(
        self, code: Code, words: str, counter: str = "refused_requests", options: tuple[Option, ...] = ()
    ) -> None:
        super().__init__(words)
        self.counter = counter
        self.response = Response(code, options, words.encode()[:MAX_WORDS])

    def __str__(self) -> str:
        return f"{dotted(self.response.code)} {super().__str__()}"


class BadAddress(Refusal):
    """A path that names no channel's messages, or those of more than one channel."""


class Request(NamedTuple):
    """A request that can be understood. `path` is its Uri-Path; `key` what `?auth=` says, None without.

    An option has 255 bytes, so a longer credential comes in several `auth`, joined in their order.
    """

    code: int
    path: tuple[str, ...]
    key: str | None
    queries: tuple[tuple[str, str], ...]  # names and values of the others
    content_format: int | None
    accept: int | None
    observe: int | None
    block1: Block | None
    block2: Block | None
    size1: int  # what the client says the whole body has; 0 where it does not
    etags: tuple[bytes, ...]
    request_tags: tuple[bytes, ...]
    payload: bytes


def read_request(packet: Packet) -> Request:
    """Take a packet apart. Raises Refusal."""
    path: list[str] = []
    key: str | None = None
    queries: list[tuple[str, str]] = []
    content_format = accept = observe = None
    block1 = block2 = None
    size1 = 0
    etags: list[bytes] = []
    tags: list[bytes] = []
    for number, value in packet.options:
        if number == Opt.URI_PATH:
            path.append(_text(value))
        elif number == Opt.URI_QUERY:
            if value.startswith(b"auth="):
                key = (key or "") + _text(value[5:])
            else:
                name, _, given = _text(value).partition("=")
                queries.append((name, given))
        elif number == Opt.CONTENT_FORMAT:
            content_format = _short(value)
        elif number == Opt.ACCEPT:
            accept = _short(value)
        elif number == Opt.OBSERVE:
            observe = int.from_bytes(value, "big")
        elif number == Opt.BLOCK1:
            block1 = _block(value)
        elif number == Opt.BLOCK2:
            block2 = _block(value)
        elif number == Opt.SIZE1:
            size1 = int.from_bytes(value[:8], "big")
        elif number == Opt.ETAG:
            etags.append(value)
        elif number == Opt.REQUEST_TAG:
            tags.append(value)
        elif number in (Opt.PROXY_URI, Opt.PROXY_SCHEME):
            raise Refusal(Code.NO_PROXY, "this is no proxy")
    unknown = unknown_critical(packet, UNDERSTOOD)
    if unknown is not None:
        raise Refusal(Code.BAD_OPTION, f"option {unknown} is not understood, or repeated")
    return Request(
        packet.code,
        tuple(path),
        key,
        tuple(queries),
        content_format,
        accept,
        observe,
        block1,
        block2,
        size1,
        tuple(etags),
        tuple(tags),
        packet.payload,
    )


class Addresses:
    """Paths to where a message goes. Those of things are remembered: parsing costs more than all the rest."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], Filter] = {}

    def publish(self, path: tuple[str, ...]) -> Filter:
        """Where a POST to `path` goes. Raises Refusal."""
        found = self._known.get(path)
        if found is None:
            self._check(path)
            try:
                address = parse_topic("/".join(path))
            except TopicError as error:
                raise BadAddress(Code.BAD_REQUEST, error.reason) from None
            found = Filter(*address)
            if len(self._known) >= MAX_ADDRESSES:
                self._known.clear()
            self._known[path] = found
        return found

    def read(self, path: tuple[str, ...]) -> Filter:
        """What a GET of `path` asks for; `+` and `#` as in MQTT. Raises Refusal."""
        self._check(path)
        try:
            wanted = parse_filter("/".join(path))
        except TopicError as error:
            raise BadAddress(Code.BAD_REQUEST, error.reason) from None
        if wanted.channel == ANY_CHANNEL:
            raise BadAddress(Code.BAD_REQUEST, "one channel at a time: wildcards come after messages/")
        return wanted

    @staticmethod
    def _check(path: tuple[str, ...]) -> None:
        levels = path[1:] if path[:1] == ("mainflux",) else path
        if len(levels) < 3 or levels[0] != "channels" or levels[2] != "messages":
            raise Refusal(Code.NOT_FOUND, "the path is channels/<id>/messages[/<subtopic>]")


def refusal_of(error: HubError, max_payload: int) -> Refusal:
    """The answer for what the hub refuses."""
    words = error.reason or str(error)
    match error:
        case AccessDenied():
            return Refusal(Code.FORBIDDEN, words, "refused_rights")
        case TooLarge():
            size1 = ((int(Opt.SIZE1), uint(max_payload)),)
            return Refusal(Code.TOO_LARGE, words, "refused_size", size1)
        case UnsupportedType():
            return Refusal(Code.UNSUPPORTED_FORMAT, words, "refused_contents")
        case BadMessage() | SenmlError() | TopicError() | Invalid():
            return Refusal(Code.BAD_REQUEST, words, "refused_contents")
        case NotFound():
            return Refusal(Code.NOT_FOUND, words)
        case Busy():
            return unavailable(words, BUSY_S)
        case LogFailed():
            return unavailable(words, FULL_S, "log_failures")
    return Refusal(Code.INTERNAL, "this is our fault; the message was not acknowledged", "log_failures")


def unavailable(words: str, after_s: int, counter: str = "refused_busy") -> Refusal:
    """5.03; Max-Age says when to come again (RFC 7252, 5.9.3.4)."""
    return Refusal(Code.UNAVAILABLE, words, counter, ((int(Opt.MAX_AGE), uint(after_s)),))


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Refusal(Code.BAD_REQUEST, "path and query are UTF-8") from None


def _short(value: bytes) -> int:
    if len(value) > 2:
        raise Refusal(Code.BAD_OPTION, "a content format has 16 bits")
    return int.from_bytes(value, "big")


def _block(value: bytes) -> Block:
    block = decode_block(value)
    if block is None:
        raise Refusal(Code.BAD_OPTION, "a block has at most 1024 bytes")
    return block
