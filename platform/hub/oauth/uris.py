"""Redirect URIs: which may be registered, and whether a request's is one of them.

RFC 6749, 3.1.2; RFC 8252; RFC 9700, 2.1. A URI is compared as text, character by character: nothing is decoded,
normalised or matched by pattern. The one exception is the port of a loopback address, which an app on somebody's own
computer cannot know beforehand (RFC 8252, 7.3).
"""

from __future__ import annotations

import ipaddress
import re

from hub.errors import Invalid

MAX_URI = 512  # characters
MAX_URIS = 20  # of one application

# What RFC 3986 allows in an absolute URI, without a fragment and without "*", which somebody could take for a pattern.
_ALLOWED = re.compile(r"[A-Za-z0-9\-._~:/?@!$&'()+,;=%\[\]]+")
_PARTS = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*):(?://(?P<authority>[^/?]*))?(?P<path>[^?]*)(?:\?(?P<query>.*))?"
)
_AUTHORITY = re.compile(r"(?P<host>[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::(?P<port>[1-9][0-9]{0,4}))?")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LOOPBACK = re.compile(r"(http://(?:127\.0\.0\.1|\[::1\]))(?::([1-9][0-9]{0,4}))?((?:[/?].*)?)", re.DOTALL)
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "[::1]", "localhost"})
_QUERY = re.compile(r"[A-Za-z0-9\-._~:/?@!()+,;=%&]*")  # what can be added to and stays what it was
# Parameters of the answer: an address that brings its own could stand in for ours.
_ANSWERS = frozenset({"code", "state", "iss", "error", "error_description", "error_uri"})


def checked_uri(uri: str, *, public: bool) -> str:
    """A URI that may be registered. Raises Invalid, saying what is wrong with it."""
    if not 1 <= len(uri) <= MAX_URI:
        raise Invalid(f"a redirect URI has 1 to {MAX_URI} characters")
    if not _ALLOWED.fullmatch(uri) or re.search(r"%(?![0-9A-Fa-f]{2})", uri):
        raise Invalid("a redirect URI is an absolute address in ASCII without a fragment (#)")
    parts = _PARTS.fullmatch(uri)
    if parts is None:
        raise Invalid("a redirect URI begins with its scheme in small letters, as https://")
    if parts["scheme"] in ("http", "https"):
        _check_web(parts["scheme"], parts["authority"] or "", parts["path"])
    else:
        _check_private(parts["scheme"], parts["authority"], parts["path"], public)
    if not _QUERY.fullmatch(parts["query"] or ""):
        raise Invalid("the query of a redirect URI is form-encoded, as ?tenant=7")
    names = {piece.partition("=")[0] for piece in (parts["query"] or "").split("&")}
    if found := names & _ANSWERS:
        raise Invalid(f"a redirect URI does not bring the parameter {sorted(found)[0]!r} itself")
    return uri


def _check_web(scheme: str, authority: str, path: str) -> None:
    match = _AUTHORITY.fullmatch(authority)
    if match is None or int(match["port"] or 1) > 65535:
        raise Invalid(
            "a redirect URI names a host in small letters and no user: https://app.example.org/callback"
        )
    host = match["host"]
    if not _is_host(host):
        raise Invalid(f"{host!r} is no name or address of a host")
    if scheme == "http" and host not in LOOPBACK_HOSTS:
        raise Invalid(
            "a redirect URI is https://, or http:// on the user's own computer: http://127.0.0.1/callback"
        )
    if not path.startswith("/"):
        raise Invalid("a redirect URI has a path, at least /")
    _check_path(path)


def _check_private(scheme: str, authority: str | None, path: str, public: bool) -> None:
    """A scheme of an app's own (RFC 8252, 7.1): its name holds a dot, as none does that a browser acts on itself."""
    if "." not in scheme:
        raise Invalid(
            f"the scheme {scheme}: is not one to redirect to; an app's own is as com.example.app:/callback"
        )
    if not public:
        raise Invalid("a scheme of its own is for an app on people's devices: make it a public one")
    if authority is not None or not path.startswith("/"):
        raise Invalid("write an app's own scheme with one slash: com.example.app:/callback")
    _check_path(path)


def _check_path(path: str) -> None:
    lowered = path.lower()
    if any(code in lowered for code in ("%2e", "%2f", "%5c", "%00", "%0a", "%0d", "%25")):
        raise Invalid("the path of a redirect URI has no encoded dots, slashes, percent signs or line ends")
    if any(element in (".", "..") for element in path.split("/")):
        raise Invalid("the path of a redirect URI has no . or .. in it")


def _is_host(host: str) -> bool:
    if host.startswith("["):
        try:
            return bool(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            return False
    # All digits: an address in its one usual form, not 2130706433 or 127.1
    if re.fullmatch(r"[0-9.]+", host):
        try:
            return str(ipaddress.IPv4Address(host)) == host
        except ValueError:
            return False
    labels = host.split(".")
    if re.match(r"[0-9]", labels[-1]):  # browsers take 0x7f.1 and the like for addresses
        return False
    return len(host) <= 253 and all(_LABEL.fullmatch(label) for label in labels)


def matches(uri: str, registered: tuple[str, ...], *, public: bool) -> bool:
    """Whether a request's redirect URI is one of those registered."""
    if len(uri) > MAX_URI + 6:  # a port may be longer than the one registered
        return False
    if uri in registered:
        return True
    if not public or (asked := _without_port(uri)) is None:
        return False
    return any(_without_port(one) == asked for one in registered)


def _without_port(uri: str) -> str | None:
    """A loopback URI without its port; None for any other. An app listens where the system lets it."""
    match = _LOOPBACK.fullmatch(uri)
    if match is None or int(match[2] or 1) > 65535:
        return None
    return f"{match[1]}{match[3]}"


def host_of(uri: str) -> str:
    """Where a redirect leads to, for the person who decides; an app's own scheme where there is no host."""
    parts = _PARTS.fullmatch(uri)
    if parts is None:
        return ""
    return parts["authority"] or f"{parts['scheme']}:"
