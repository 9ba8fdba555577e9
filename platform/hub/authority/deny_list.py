"""The deny list as others read it: a certificate revocation list (RFC 5280, 5) for each issuing authority."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from .profile import DAY_S, Pair

LIFE_S = 7 * DAY_S  # after which whoever has a copy is to fetch it anew


class Denied(NamedTuple):
    """One certificate that counts no more."""

    serial: int
    since_s: float  # UTC seconds


def sign_list(
    authority: Pair, denied: Iterable[Denied], now_s: float, life_s: float = LIFE_S
) -> x509.CertificateRevocationList:
    """A list of what `authority` has signed and takes back. It is dated a day back, for clocks that go slow."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(_moment(now_s - DAY_S))
        .next_update(_moment(now_s + life_s))
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
        )
        .add_extension(x509.CRLNumber(int(now_s)), critical=False)
    )
    for each in denied:
        entry = x509.RevokedCertificateBuilder(each.serial, _moment(each.since_s))
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(authority.key, SHA256())


def _moment(at_s: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(at_s), datetime.UTC)
