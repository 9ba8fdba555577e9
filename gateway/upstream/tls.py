"""TLS towards a destination: its certificate and name are always checked."""

from __future__ import annotations

import ssl

from .errors import SinkRefused


def client_context(ca_file: str, cert_file: str, key_file: str) -> ssl.SSLContext:
    """`ca_file` "" means the system's authorities. Raises SinkRefused: a file does not serve."""
    path = ca_file
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
        path = cert_file
        if path:
            context.load_cert_chain(cert_file, key_file)
    except (OSError, ssl.SSLError) as error:
        raise SinkRefused(f"certificate file {path or 'of the system'} cannot be used: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python 3.13 began to refuse authorities without the extensions that private ones often leave out: an update of
    # the system must not cut a gateway off.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
