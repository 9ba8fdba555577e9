"""Reverse proxies in front of the HTTP door: which of them are trusted, and what is taken from their word.

A header can be written by anybody, so what names a caller (his address, the scheme and host he used, who he is) counts
only where it comes from a connection of a trusted proxy. `Proxies.settle` looks at each request before anything else
does: what a trusted proxy says moves into the scope itself (`client`, `scheme`, the header Host) and into its state,
the headers go, and what nobody else may say is refused.
"""

from __future__ import annotations

import functools
import hmac
import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast

from starlette.types import Scope

from hub.errors import HubError

MAX_HOPS = 16  # proxies in a row; more is no site's network
MAX_KNOWN = 4096  # addresses remembered
MAX_FORWARDED = 2048  # characters of a header that names them

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Under which a reverse proxy offers this API beside the pages: `/http` is nginx's for Mainflux's HTTP adapter.
PREFIXES = ("/http/", "/api/")
PAGES = "pages"  # in the state of a scope: true where the gateway's own pages ask
VOUCHED = "vouched"  # in the state of a scope: a Vouched, where a trusted proxy has sent the request

_HOST = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9._-]{0,252})|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII | re.I
)
# What stands between the commas of RFC 7239: pairs, the values of which may be quoted.
_PAIR = re.compile(r'[ \t]*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=(?:([^\s",;=]+)|"((?:[^"\\]|\\.)*)")[ \t]*')

# Headers that say who somebody is, or what he has really asked for: nobody's word but a trusted proxy's.
_CLIENT_ID = b"client-id"
_METHOD, _URI = b"x-original-method", b"x-original-uri"
_CERTIFICATE = b"x-fluxgate-client-certificate"
_UPSTREAM, _ROLE = b"x-fluxgate-upstream", b"x-fluxgate-role"
_OUTSIDE = b"x-fluxgate-outside"
_NAMING = frozenset({_CLIENT_ID, _METHOD, _URI, _CERTIFICATE, _UPSTREAM, _ROLE, _OUTSIDE})
_OURS = b"x-fluxgate-"
_PAGES = b"x-fluxgate-pages"
# Headers about the way a request has come. From others they are common (a company's proxy) and mean nothing.
_FOR, _FORWARDED = b"x-forwarded-for", b"forwarded"
_PROTO, _HOST_NAME = b"x-forwarded-proto", b"x-forwarded-host"
_WAY = frozenset(
    {_FOR, _FORWARDED, _PROTO, _HOST_NAME, b"x-forwarded-port", b"x-forwarded-server", b"x-real-ip"}
)
_BEGINS = frozenset({b"cl", b"fo", b"x-", b"x_"})  # of all of these: most headers need no second look


class ForwardingError(HubError):
    """A request that names a caller without the right to, or not understandably. Its sentence names the header."""

    http_status = 400


class ForgedHeader(ForwardingError):
    """A header that a trusted proxy was sent and has not taken out; 403, since auth_request knows no 400."""

    http_status = 403


class Vouched(NamedTuple):
    """What a trusted proxy has said of a request besides where it came from; "" for what it has not said."""

    publisher: str = ""  # Client-ID: the thing that it found to be asking (Mainflux, 2017)
    certificate: str = ""  # of the client, as nginx's $ssl_client_escaped_cert
    method: str = ""  # of the request that /auth/check is about
    uri: str = ""  # of the same, as it stood in the request line
    upstream: str = ""  # host of another service that it guards with our accounts
    role: str = ""  # that such a service demands


NOTHING = Vouched()


class Proxies:
    """The trusted ones. `networks` are addresses or CIDRs; `header` is what they write the caller's address into.

    Only one header is ever read: a proxy that writes X-Forwarded-For hands on a Forwarded that its client made up, and
    the other way round. Raises ValueError for what is no network.
    """

    def __init__(
        self, networks: Iterable[str] = (), header: str = "x-forwarded-for", *, pages_key: str = ""
    ) -> None:
        """`pages_key` is the secret by which the gateway's own pages say whom they ask for; "": nobody may."""
        self._networks: tuple[Network, ...] = tuple(ipaddress.ip_network(each) for each in networks)
        self._header = header.encode()
        self._known: dict[Address, bool] = {}  # whether an address is of one of the networks
        self._pages_key = pages_key.encode()

    def __bool__(self) -> bool:
        return bool(self._networks)

    def trusts(self, address: str) -> bool:
        """Whether a connection from `address` is a trusted proxy's."""
        return bool(self._networks) and self._trusts(parse_address(address))

    def _trusts(self, address: Address | None) -> bool:
        if address is None:
            return False
        known = self._known.get(address)
        if known is None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            known = self._known[address] = any(address in network for network in self._networks)
        return known

    def settle(self, scope: Scope) -> None:
        """Put the request's real origin into `scope` and take the headers that told it out.

        Raises ForwardingError.
        """
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        for name, _ in headers:
            if name[:2] in _BEGINS and concerns(name):
                self._settle(scope, headers)
                return

    def way(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """The caller's address by these headers of a trusted proxy, "" where they name none.

        None where they say more than that, or nothing that is understood: such a request goes through `settle`.
        """
        told = []
        for name, value in headers:
            if not concerns(name):
                continue
            plain = name == self._header or (name == _PROTO and value in (b"http", b"https"))
            if not plain or (name == _FORWARDED and self._header == _FORWARDED):
                return None
            if name == self._header:
                told.append(value)
        try:
            return (self._caller("", _elements(told, self._header)) or None) if told else ""
        except ForwardingError:
            return None

    def _settle(self, scope: Scope, headers: Sequence[tuple[bytes, bytes]]) -> None:
        client = scope.get("client")
        peer = str(client[0]) if client else ""
        trusted = self.trusts(peer)
        said: dict[bytes, list[bytes]] = {}
        kept = []
        for name, value in headers:
            if concerns(name):
                said.setdefault(name, []).append(value)
            else:
                kept.append((name, value))
        if _PAGES in said:
            self._for_pages(scope, said.pop(_PAGES))
            trusted = True  # they hand on what a proxy asks them of their visitors
        chain = _elements(said.get(self._header, ()), self._header) if trusted else []
        if chain:
            scope["client"] = (self._caller(peer, chain), 0)
        for name in said:
            _refuse_naming(name, trusted, peer)
        if not trusted:
            scope["headers"] = kept
            return
        scheme = _one(said, _PROTO).lower() if self._header == _FOR else (chain[-1].proto if chain else "")
        if scheme:
            if scheme not in ("http", "https"):
                raise ForwardingError("X-Forwarded-Proto is http or https")
            websocket = scope["type"] == "websocket"
            scope["scheme"] = scheme.replace("http", "ws") if websocket else scheme
        host = _one(said, _HOST_NAME) if self._header == _FOR else (chain[-1].host if chain else "")
        if host:
            if not _HOST.fullmatch(host):
                raise ForwardingError("X-Forwarded-Host is the name of a host, with or without a port")
            kept = [(b"host", host.encode()), *((name, value) for name, value in kept if name != b"host")]
        scope["headers"] = kept
        word = NOTHING
        if not _NAMING.isdisjoint(said):
            word = Vouched(
                *(_one(said, name) for name in (_CLIENT_ID, _CERTIFICATE, _METHOD, _URI, _UPSTREAM, _ROLE))
            )
        scope.setdefault("state", {})[VOUCHED] = word

    def _for_pages(self, scope: Scope, values: Sequence[bytes]) -> None:
        """The pages' word on their visitor: their key and his address. Raises ForwardingError for anybody else's."""
        key, _, address = values[0].partition(b" ")
        if len(values) > 1 or not self._pages_key or not hmac.compare_digest(key, self._pages_key):
            raise ForwardingError("X-Fluxgate-Pages is for the gateway's own pages only")
        scope.setdefault("state", {})[PAGES] = True
        visitor = parse_address(address.decode("latin-1"))
        if visitor is not None:
            scope["client"] = (str(visitor), 0)

    def _caller(self, peer: str, chain: Sequence[Hop]) -> str:
        """The first address from the right that is no trusted proxy's; all being trusted, the farthest."""
        found = peer
        for hop in reversed(chain):
            address = parse_node(hop.node)
            if address is None:
                return ""  # "unknown", or a name of the proxy's own: not known to us either
            found = str(address)
            if not self._trusts(address):
                break  # what stands farther to the left may be made up
        return found


class Hop(NamedTuple):
    """What one proxy says of the request that it got."""

    node: str  # who sent it, not looked at yet
    proto: str = ""
    host: str = ""


@functools.lru_cache(maxsize=4096)
def parse_address(text: str) -> Address | None:
    """An address; one of IPv4 that is written as IPv6 (::ffff:10.0.0.1) is the one of IPv4. None for other text."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def parse_chain(text: str) -> list[Hop]:
    """X-Forwarded-For: addresses with commas between, the nearest last; a port does not count.

    Raises ForwardingError.
    """
    _bounded(text)
    return _counted([Hop(part.strip()) for part in text.split(",")])


def parse_node(text: str) -> Address | None:
    """One address, with or without a port; None where the proxy says that it does not tell (RFC 7239, 6).

    Raises ForwardingError.
    """
    if text.lower() == "unknown" or re.fullmatch(r"_[A-Za-z0-9._-]{1,64}(?::[0-9]{1,5})?", text):
        return None
    bare = text
    if bracketed := re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?", text):
        bare = bracketed[1]
    elif text.count(":") == 1:
        bare = re.sub(r":[0-9]{1,5}$", "", text)
    address = parse_address(bare) if "%" not in bare else None
    if address is None:
        raise ForwardingError("the proxy names an address that is none")
    return address


def parse_forwarded(text: str) -> list[Hop]:
    """The same of RFC 7239, 4: `for=192.0.2.60;proto=https;host=a.example, for="[2001:db8::1]:80"`.

    Raises ForwardingError.
    """
    _bounded(text)
    hops: list[Hop] = []
    pairs: dict[str, str] = {}
    at = 0
    while True:
        found = _PAIR.match(text, at)
        if found is None:
            raise ForwardingError("Forwarded is not as RFC 7239 has it")
        name = found[1].lower()
        if name in pairs:
            raise ForwardingError(f"Forwarded names {name} twice in one element")
        pairs[name] = found[2] if found[3] is None else re.sub(r"\\(.)", r"\1", found[3])
        at = found.end()
        if at == len(text) or text[at] == ",":
            hops.append(
                Hop(pairs.get("for", "unknown"), pairs.get("proto", "").lower(), pairs.get("host", ""))
            )
            pairs = {}
        elif text[at] != ";":
            raise ForwardingError("Forwarded is not as RFC 7239 has it")
        if at == len(text):
            return _counted(hops)
        at += 1


def below_prefix(path: str) -> str:
    """The path as the route table has it."""
    return path[path.index("/", 1) :] if path.startswith(PREFIXES) else path


def plain_name(name: bytes) -> bytes:
    """A header's name as a gateway interface such as WSGI makes one of it: there `_` and `-` are the same."""
    return name.replace(b"_", b"-") if b"_" in name else name


def concerns(name: bytes) -> bool:
    """Whether a header of this name, in lower case, is one that `Proxies.settle` takes or refuses."""
    if name[:2] not in _BEGINS:
        return False
    plain = plain_name(name)
    return plain in _NAMING or plain in _WAY or plain.startswith(_OURS)


def vouched(scope: Scope) -> Vouched | None:
    """What a trusted proxy says of this request; None where none has sent it with a word."""
    return cast("Vouched | None", scope.get("state", {}).get(VOUCHED))


def _refuse_naming(name: bytes, trusted: bool, peer: str) -> None:
    """Raises ForwardingError for a header that this peer may not send."""
    plain = plain_name(name)
    shown = plain.decode("latin-1").title().replace("Uri", "URI").replace("-Id", "-ID")
    if plain == _OUTSIDE:
        raise ForgedHeader("the proxy was sent a header that only a proxy may add, such as Client-ID")
    if plain in _WAY:
        return
    if not trusted:
        raise ForwardingError(
            f"{shown} is taken from a trusted proxy only; leave it out, or name {peer} in http.trusted_proxies"
        )
    if name != plain or plain not in _NAMING:
        raise ForgedHeader(f"{name.decode('latin-1')} is no header that a proxy adds for us")


def _elements(values: Sequence[bytes], header: bytes) -> list[Hop]:
    """All lines of the header, as the one list that they are (RFC 9110, 5.3). Raises ForwardingError."""
    if not values:
        return []
    text = b",".join(values).decode("latin-1")
    return parse_chain(text) if header == _FOR else parse_forwarded(text)


def _one(said: dict[bytes, list[bytes]], name: bytes) -> str:
    """The header's only value, "" where there is none. Raises ForwardingError for several, or for odd characters."""
    values = said.get(name, [])
    if not values:
        return ""
    text = values[0].decode("latin-1")
    if len(values) > 1 or not (text.isascii() and text.isprintable()):
        raise ForwardingError(f"{name.decode().title()} is there more than once, or is not plain text")
    return text


def _bounded(text: str) -> None:
    if len(text) > MAX_FORWARDED:
        raise ForwardingError(f"the way of a request is told in at most {MAX_FORWARDED} characters")


def _counted(hops: list[Hop]) -> list[Hop]:
    if len(hops) > MAX_HOPS:
        raise ForwardingError(f"a request comes through at most {MAX_HOPS} proxies")
    return hops
