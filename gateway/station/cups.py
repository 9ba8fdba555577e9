"""CUPS, the service a concentrator asks for its addresses and credentials: request and answer without a socket.

The request is JSON, the answer binary: two addresses behind their length in one byte, two sets of credentials behind
theirs in two bytes, a signature and an update of the firmware behind theirs in four, little endian. A length of 0
says that nothing changes. This gateway never sends a firmware: whoever can write a configuration of the network
is not whom a concentrator should take programs from.

Credentials are a certificate to trust, one to show and a key, in DER one after the other. A gateway with a token has
four zero bytes where its certificate would be, and an HTTP header line in place of the key.
"""

from __future__ import annotations

from binascii import crc32
from pathlib import Path
from typing import Annotated

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec import Meta

from gateway.station.registry import KnownGateway
from radio.station.errors import StationError
from radio.station.eui import parse_eui

PATH = "/update-info"
MAX_REQUEST = 8 << 10  # bytes; a request has less than 1 KB
MAX_URI = 0xFF
MAX_CREDENTIALS = 0xFFFF
NO_CERTIFICATE = bytes(4)

_Crc = Annotated[int, Meta(ge=0, le=0xFFFF_FFFF)]
_Text = Annotated[str, Meta(max_length=1024)]


class Request(msgspec.Struct, frozen=True):
    """What a concentrator says of itself."""

    router: bytes
    cups_uri: str
    tc_uri: str
    cups_crc: int  # CRC-32 of its credentials for the CUPS
    tc_crc: int  # and for the LNS
    station: str = ""
    model: str = ""
    package: str = ""


class _Wire(
    msgspec.Struct,
    rename={"cups_uri": "cupsUri", "tc_uri": "tcUri", "cups_crc": "cupsCredCrc", "tc_crc": "tcCredCrc"},
):
    router: str | int
    cups_uri: _Text | None = None
    tc_uri: _Text | None = None
    cups_crc: _Crc = 0
    tc_crc: _Crc = 0
    station: _Text | None = None
    model: _Text | None = None
    package: _Text | None = None


_decoder = msgspec.json.Decoder(_Wire)


def decode_request(body: bytes) -> Request:
    """Read the body of a POST. Raises StationError."""
    try:
        said = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise StationError(str(error)) from None
    return Request(
        parse_eui(said.router),
        said.cups_uri or "",
        said.tc_uri or "",
        said.cups_crc,
        said.tc_crc,
        said.station or "",
        said.model or "",
        said.package or "",
    )


class Answer(msgspec.Struct, frozen=True):
    """What changes; empty fields stay as they are."""

    cups_uri: str = ""
    tc_uri: str = ""
    cups_credentials: bytes = b""
    tc_credentials: bytes = b""

    @property
    def changes(self) -> list[str]:
        """The names of what changes."""
        return [name for name in self.__struct_fields__ if getattr(self, name)]

    def encode(self) -> bytes:
        """The body of the response."""
        uris = [uri.encode("ascii") for uri in (self.cups_uri, self.tc_uri)]
        credentials = (self.cups_credentials, self.tc_credentials)
        return b"".join(
            (
                *(bytes((len(uri),)) + uri for uri in uris),
                *(len(one).to_bytes(2, "little") + one for one in credentials),
                bytes(4),  # no signature
                bytes(4),  # no update
            )
        )


class Cups:
    """What this network has its concentrators know. Raises ValueError for addresses that do not fit."""

    def __init__(self, trust: bytes = b"", cups_uri: str = "", tc_uri: str = "") -> None:
        """`trust` is the certificate to trust, in DER; without it credentials are never sent."""
        for name, uri, scheme in (("cups_uri", cups_uri, "https://"), ("uri", tc_uri, "wss://")):
            if uri and not (uri.startswith(scheme) and uri.isascii() and len(uri) <= MAX_URI):
                raise ValueError(f"{name} {uri!r} is no address of the form {scheme}host:port")
        self._trust = trust
        self._cups_uri = cups_uri
        self._tc_uri = tc_uri

    def answer(self, request: Request, gateway: KnownGateway) -> Answer:
        """What is to change at a gateway that has shown who it is."""
        ours = self._credentials(gateway)
        crc = crc32(ours)
        return Answer(
            cups_uri=self._cups_uri if self._cups_uri != request.cups_uri else "",
            tc_uri=self._tc_uri if self._tc_uri != request.tc_uri else "",
            cups_credentials=ours if crc != request.cups_crc else b"",
            tc_credentials=ours if crc != request.tc_crc else b"",
        )

    def _credentials(self, gateway: KnownGateway) -> bytes:
        """For LNS and CUPS alike; none for a gateway with a certificate, whose key is its own affair."""
        if not self._trust or not gateway.token:
            return b""
        return token_credentials(self._trust, gateway.token)


def token_credentials(trust: bytes, token: str) -> bytes:
    """Credentials with a token, for a gateway that trusts the certificate `trust` (DER)."""
    return trust + NO_CERTIFICATE + f"Authorization: Bearer {token}\r\n".encode()


def trust_of(file: str | Path) -> bytes:
    """The first certificate of a PEM file, in DER: Basics Station takes one. Raises ValueError."""
    try:
        certificates = x509.load_pem_x509_certificates(Path(file).read_bytes())
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from None
    except ValueError:
        raise ValueError(f"{file} holds no certificate in PEM form") from None
    der = certificates[0].public_bytes(Encoding.DER)
    if len(der) > MAX_CREDENTIALS // 2:
        raise ValueError(f"the certificate in {file} is too long to be sent")
    return der
