"""TLS for every door: the server's context. Whom a client certificate stands for says `hub.authority`.

TLS 1.2 and newer with the library's own choice of ciphers. Where client certificates are looked at no tickets are
given out, so that in TLS 1.3 every connection shows its certificate anew. In TLS 1.2 a client can take up a session for
300 s, in which OpenSSL does not look at its certificate again: a listener's entrance does (`hub.authority.entrance`).
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from .errors import HubError

# X509_V_FLAG_NO_CHECK_TIME, for which Python has no name: OpenSSL would take the system's clock, right or not.
NO_CHECK_TIME = ssl.VerifyFlags(0x200000)


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
    context = _context()
    load_pair(context, cert_file, key_file)
    if client_ca_file:
        _trust_file(context, client_ca_file)
        _ask_for_certificates(context, required=client_cert_required)
    return context


def door_context(
    authorities: Sequence[x509.Certificate],
    *,
    client_ca_file: str | Path = "",
    client_cert_required: bool = False,
) -> ssl.SSLContext:
    """A context for a listener with an entrance (`hub.authority.entrance`), which looks at dates by the hub's clock.

    Clients may show a certificate of `authorities` or of those in `client_ca_file`. The certificate of the door itself
    comes with `load_pair` or `load_pem`, and again whenever it changes. Raises TlsError.
    """
    context = _context()
    trust(context, authorities)
    if client_ca_file:
        _trust_file(context, client_ca_file)
    context.verify_flags |= NO_CHECK_TIME
    _ask_for_certificates(context, required=client_cert_required)
    return context


def trust(context: ssl.SSLContext, authorities: Sequence[x509.Certificate]) -> None:
    """Let clients show certificates of these authorities, too; of connections to come."""
    if authorities:
        context.load_verify_locations(
            cadata=b"".join(certificate.public_bytes(Encoding.DER) for certificate in authorities)
        )


def load_pair(context: ssl.SSLContext, cert_file: str | Path, key_file: str | Path) -> None:
    """Show the certificate in these files, on connections to come. Raises TlsError."""
    _check_pair(cert_file, key_file)
    try:
        context.load_cert_chain(cert_file, key_file)
    except (ssl.SSLError, OSError) as error:
        raise TlsError(f"{cert_file} cannot be used for TLS: {error}") from None


def load_pem(context: ssl.SSLContext, pem: str) -> None:
    """As `load_pair`, with certificate, chain and key as text. OpenSSL reads files only: this one is in memory."""
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    with open(descriptor, "wb") as file:
        file.write(pem.encode())
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    return context


def _trust_file(context: ssl.SSLContext, file: str | Path) -> None:
    _certificates(file)
    try:
        context.load_verify_locations(file)
    except (ssl.SSLError, OSError) as error:
        raise TlsError(f"{file} cannot be used for TLS: {error}") from None


def _ask_for_certificates(context: ssl.SSLContext, *, required: bool) -> None:
    context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0  # TLS 1.3 would send tickets of another kind instead


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
