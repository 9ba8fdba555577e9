"""The PROXY protocol, versions 1 and 2 (HAProxy's proxy-protocol.txt): who really connects, told by a proxy.

A proxy that passes on bytes it does not understand, such as nginx's stream module, cannot add a header to them. It
writes a line or a block in front of everything else instead. A pure parser: bytes in, the client's address and the
number of bytes used out.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from .errors import ProxyProtocolError

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"  # of version 2 (2.2)
MAX_LINE = 107  # bytes of version 1 with CR LF (2.1)
MAX_BLOCK = 4096  # bytes of version 2; two addresses have 36, a TLS proxy's notes some hundreds

_LINE = re.compile(
    rb"PROXY (?:(TCP4|TCP6) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) (0|[1-9]\d{0,4}) (0|[1-9]\d{0,4})"
    rb"|UNKNOWN[^\r\n]*)\r\n"
)
_ADDRESS_BYTES = {1: 4, 2: 16}  # by family: AF_INET, AF_INET6 (2.2); others have no address of use to us


class Announced(NamedTuple):
    """What a proxy says of a connection. `address` None: it speaks for itself (a health check) or does not know."""

    address: str | None
    used: int  # bytes of the header; what follows is the client's


def parse(data: bytes) -> Announced | None:
    """Read the header at the begin of a connection. None while more bytes are needed: all of `data` belongs to it.

    Raises ProxyProtocolError.
    """
    if data[: len(SIGNATURE)] == SIGNATURE[: len(data)]:
        return _parse_block(data)
    if data[:6] == b"PROXY "[: len(data)]:
        return _parse_line(data)
    raise ProxyProtocolError("a connection begins with a PROXY header here")


def begins_header(data: bytes) -> bool:
    """Whether this is a PROXY header, where none belongs."""
    return data.startswith((SIGNATURE, b"PROXY "))


def _parse_line(data: bytes) -> Announced | None:
    """Version 1 (2.1): `PROXY TCP4 192.0.2.7 10.0.0.1 50123 1883`, CR LF."""
    end = data.find(b"\n", 0, MAX_LINE)
    if end < 0:
        if len(data) >= MAX_LINE:
            raise ProxyProtocolError(f"the line of PROXY has more than {MAX_LINE} bytes")
        return None
    found = _LINE.fullmatch(data, 0, end + 1)
    if found is None:
        raise ProxyProtocolError("the line of PROXY is damaged")
    if found[1] is None:
        return Announced(None, end + 1)
    version = 4 if found[1] == b"TCP4" else 6
    if any(int(port) > 0xFFFF for port in (found[4], found[5])):
        raise ProxyProtocolError("the line of PROXY names a port that is none")
    addresses = [_address(text.decode(), version) for text in (found[2], found[3])]
    return Announced(addresses[0], end + 1)


def _parse_block(data: bytes) -> Announced | None:
    """Version 2 (2.2). 13: version and command; 14: family and transport; 15, 16: length of what follows."""
    head = len(SIGNATURE) + 4
    if len(data) < head:
        return None
    version, command, family, transport = data[12] >> 4, data[12] & 15, data[13] >> 4, data[13] & 15
    length = int.from_bytes(data[14:16], "big")
    if version != 2 or command > 1:
        raise ProxyProtocolError("the block of PROXY is of no known version or command")
    if head + length > MAX_BLOCK:
        raise ProxyProtocolError(f"the block of PROXY has more than {MAX_BLOCK} bytes")
    size = _ADDRESS_BYTES.get(family, 0)
    told = command == 1 and size > 0  # of a LOCAL connection the family means nothing
    if command == 1 and (family > 3 or transport > 2 or (told and transport != 1)):
        raise ProxyProtocolError("the block of PROXY is not about a stream")
    if told and length < 2 * size + 4:
        raise ProxyProtocolError("the block of PROXY is shorter than its addresses")
    if len(data) < head + length:
        return None
    if not told:
        return Announced(None, head + length)
    return Announced(_plain(ipaddress.ip_address(data[head : head + size])), head + length)


def _address(text: str, version: int) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ProxyProtocolError("the line of PROXY names an address that is none") from None
    if address.version != version:
        raise ProxyProtocolError("the line of PROXY names an address of another family")
    return _plain(address)


def _plain(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """The address as everything else here writes it: one of IPv4 as such, also within IPv6."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
