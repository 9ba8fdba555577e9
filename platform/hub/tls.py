"""TLS for every door: the server's context, and which thing a client certificate names.

TLS 1.2 and newer with the library's own choice of ciphers. Where client certificates are looked at, sessions are
never resumed: a resumed session would carry a certificate past its end of validity, or past a change of the
authorities, without looking at it again.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from .errors import HubError

THING_URI = "urn:fluxgate:thing:"  # in front of a thing's id, as a URI of the subject alternative name

_THING_ID = re.compile(r"[\w-]{1,64}", re.ASCII)


class TlsError(HubError):
    """A certificate or key that cannot be used. The sentence names the file."""


def server_context(
    cert_file: str | Path,
    key_file: str | Path,
    *,
    client_ca_file: str | Path = "",
    client_cert_required: bool = False,
) -> ssl.SSLContext:
    """A context for `asyncio.loop.create_server`. Files are PEM; `cert_file` may hold the whole chain.

    With `client_ca_file` a client may show a certificate of those authorities, and must where
    `client_cert_required`; without it none is asked for. Raises TlsError.
    """
    if client_cert_required and not client_ca_file:
        raise TlsError("client certificates are required, but no file names their authorities")
    _check_pair(cert_file, key_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    try:
        context.load_cert_chain(cert_file, key_file)
    except (ssl.SSLError, OSError) as error:
        raise TlsError(f"{cert_file} cannot be used for TLS: {error}") from None
    if client_ca_file:
        _certificates(client_ca_file)
        try:
            context.load_verify_locations(client_ca_file)
        except (ssl.SSLError, OSError) as error:
            raise TlsError(f"{client_ca_file} cannot be used for TLS: {error}") from None
        context.verify_mode = ssl.CERT_REQUIRED if client_cert_required else ssl.CERT_OPTIONAL
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0  # TLS 1.3 would send tickets of another kind instead
    return context


def thing_id_of(peercert: Mapping[str, Any] | None) -> str | None:
    """The thing that a verified certificate names, from `ssl.SSLObject.getpeercert()`.

    A URI `urn:fluxgate:thing:<id>` in the subject alternative name (RFC 5280, 4.2.1.6), else the common name
    of the subject. None where there is no certificate, or none or more than one thing is named.
    """
    if not peercert:
        return None
    uris = [value for kind, value in peercert.get("subjectAltName", ()) if kind == "URI"]
    names = {uri.removeprefix(THING_URI) for uri in uris if uri.startswith(THING_URI)}
    if not names:
        subject = (pair for relative_name in peercert.get("subject", ()) for pair in relative_name)
        names = {value for kind, value in subject if kind == "commonName"}
    if len(names) != 1:
        return None
    name = names.pop()
    return name if _THING_ID.fullmatch(name) else None


def _check_pair(cert_file: str | Path, key_file: str | Path) -> None:
    """What OpenSSL would say without naming the file at fault."""
    certificate = _certificates(cert_file)[0]
    key = _private_key(key_file)
    try:
        public = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise TlsError(f"{cert_file}: the certificate's key is of no known kind") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if public.public_bytes(*form) != key.public_key().public_bytes(*form):
        raise TlsError(f"{key_file} is not the key of the certificate in {cert_file}")


def _certificates(file: str | Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(file))
    except ValueError:
        raise TlsError(f"{file} holds no certificate in PEM form") from None


def _private_key(file: str | Path) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(_read(file), password=None)
    except TypeError:
        raise TlsError(f"{file}: the key is encrypted; the gateway starts without anybody to ask") from None
    except (ValueError, UnsupportedAlgorithm):
        raise TlsError(f"{file} holds no private key in PEM form") from None


def _read(file: str | Path) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise TlsError(f"{file} cannot be read: {error.strerror}") from None
