"""The concentrators that may connect, and how one shows that it is one of them.

A gateway has a token, which it sends as an Authorization header, or a client certificate whose common name is its
EUI. Tokens are compared by their digests, all of them each time, so that the answer takes as long for a good guess
as for a bad one.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from radio.station.errors import StationError
from radio.station.eui import parse_eui

MIN_TOKEN = 16  # characters; ours have 43


@dataclass(frozen=True, slots=True)
class KnownGateway:
    """One concentrator that may connect. Raises ValueError for what can never let it in safely."""

    eui: bytes
    name: str = ""
    token: str = ""
    token_before: str = ""  # still good, until the gateway has fetched `token` from the CUPS

    def __post_init__(self) -> None:
        if len(self.eui) != 8:
            raise ValueError(f"an EUI has 8 bytes, not {len(self.eui)}")
        for name, token in (("token", self.token), ("token_before", self.token_before)):
            if token and (
                len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable() or " " in token
            ):
                raise ValueError(
                    f"the {name} of gateway {self.eui.hex()} needs {MIN_TOKEN} characters or more, without spaces; "
                    "`openssl rand -base64 32` makes one"
                )


class Registry:
    """All of them. Raises ValueError where two have the same EUI or token."""

    def __init__(self, gateways: Iterable[KnownGateway]) -> None:
        self._by_eui: dict[bytes, KnownGateway] = {}
        self._by_digest: list[tuple[bytes, KnownGateway]] = []
        for gateway in gateways:
            if gateway.eui in self._by_eui:
                raise ValueError(f"gateway {gateway.eui.hex()} is listed twice")
            self._by_eui[gateway.eui] = gateway
            for token in {gateway.token, gateway.token_before} - {""}:
                digest = _digest(token)
                if any(digest == other for other, _ in self._by_digest):
                    raise ValueError(f"the token of gateway {gateway.eui.hex()} is another one's, too")
                self._by_digest.append((digest, gateway))

    def __len__(self) -> int:
        return len(self._by_eui)

    def get(self, eui: bytes) -> KnownGateway | None:
        """The gateway with this EUI."""
        return self._by_eui.get(eui)

    def of_token(self, header: str) -> KnownGateway | None:
        """Whose token an Authorization header holds; "Bearer " before it may be left out."""
        scheme, _, token = header.strip().rpartition(" ")
        if scheme and scheme.strip().lower() != "bearer":
            return None
        digest = _digest(token)
        found = None
        for known, gateway in self._by_digest:
            if hmac.compare_digest(known, digest):
                found = gateway
        return found

    def of_certificate(self, peercert: Mapping[str, Any] | None) -> KnownGateway | None:
        """Whom a verified client certificate names, from `ssl.SSLObject.getpeercert()`."""
        names = [
            value
            for relative_name in (peercert or {}).get("subject", ())
            for kind, value in relative_name
            if kind == "commonName"
        ]
        if len(names) != 1:
            return None
        try:
            return self._by_eui.get(parse_eui(names[0]))
        except StationError:
            return None


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogateescape")).digest()
