"""By which names and addresses this machine is reached: what its own certificate is for."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from pathlib import Path

from hub.authority.profile import Names

MAX_ADDRESSES = 32  # in one certificate

_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_LOCAL = re.compile(r"\|-- ([\d.]+)\n\s+/32 host LOCAL")


def own_names(more: Iterable[str] = (), net: Path = Path("/proc/net")) -> Names:
    """Host name, with `.local` as mDNS gives it, loopback, the machine's addresses, and `more` from the settings."""
    name = socket.gethostname().lower().rstrip(".")
    given = [*more]
    hosts = [f"{name.partition('.')[0]}.local", name, "localhost", *(each.lower() for each in given)]
    addresses = ["127.0.0.1", "::1", *(each for each in given if _is_address(each)), *_addresses(net)]
    return Names(
        tuple(dict.fromkeys(host for host in hosts if _HOST.fullmatch(host) and not _is_address(host))),
        tuple(dict.fromkeys(addresses))[:MAX_ADDRESSES],
    )


def _addresses(net: Path) -> list[str]:
    """Those of all interfaces, in a steady order; link-local ones of IPv6 left out, since nobody can type them."""
    found = sorted(set(_LOCAL.findall(_text(net / "fib_trie"))))
    for line in sorted(_text(net / "if_inet6").splitlines()):
        digits = line.partition(" ")[0]
        if len(digits) == 32 and not (address := ipaddress.IPv6Address(bytes.fromhex(digits))).is_link_local:
            found.append(str(address))
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
