"""Whom a client certificate stands for, or why it is refused: one judgement for every door and every connection.

In comes the chain that OpenSSL has verified up to an authority it was given: signatures, path lengths, name
constraints, key strength and purpose. What OpenSSL cannot know is decided here: whether a certificate of our own
authority is one that we made and have not taken back, which thing it names, and whether its dates count. They count
only while the gateway's clock is right. A gateway that starts without network or receiver does not know the date, and
would lock out every device of its site; it accepts, and says so. OpenSSL is told not to look at dates, since it knows
the system's clock only.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.hashes import MD5, SHA1
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from . import profile
from .certificates import Certificates
from .generations import Authority
from .profile import THING_URI

MAX_CERTIFICATE = 16 * 1024  # bytes of one in a chain; ours have 600
MAX_CHAIN = 8  # certificates, the authority's own included
MIN_RSA_BITS, MIN_EC_BITS = 2048, 256

_THING_ID = re.compile(r"[\w-]{1,64}", re.ASCII)
_WEAK_HASHES = (MD5, SHA1)


class Shown(NamedTuple):
    """What a client certificate came to.

    `thing` is "" where it names none, `serial` "" where it is of a foreign authority. With a `refusal`, a sentence for
    a technician, nothing else counts. `unchecked`: its dates could not be looked at.
    """

    thing: str = ""
    serial: str = ""
    refusal: str = ""
    unchecked: bool = False
    subject: str = ""  # as RFC 4514 writes it, for people


class Clock(NamedTuple):
    """What the judgement knows of the time."""

    now_s: float  # UTC seconds
    trusted: bool
    strict: bool = False  # refuse certificates while it is not trusted


class Refused(Exception):
    """A certificate that counts for nothing; the sentence goes on from "is refused:"."""


def judge(
    chain: Sequence[bytes],
    authority: Authority,
    certificates: Certificates,
    clock: Clock,
    configured: Collection[bytes] = (),
) -> Shown:
    """What the verified `chain` (DER; the client's own certificate first, its root last) comes to.

    `configured` are the foreign authorities that the settings name.
    """
    thing = serial = subject = ""
    try:
        if not chain or len(chain) > MAX_CHAIN or max(map(len, chain)) > MAX_CERTIFICATE:
            raise Refused("the certificate or its chain is too long")
        parsed = _parsed(chain)
        leaf = parsed[0]
        subject = _subject(leaf)
        thing = thing_of(leaf)
        _check_strength(parsed)
        _check_leaf(leaf)
        if authority.of_own(chain[-1]):
            serial = profile.serial_text(leaf.serial_number)
            _check_own(serial, chain[0], thing, certificates)
        elif chain[-1] not in configured and not authority.of_foreign(chain[-1]):
            raise Refused("it comes from an authority that is trusted no longer")
        unchecked = _check_dates(parsed, clock)
    except Refused as refused:
        return Shown(thing, serial, f"the client certificate is refused: {refused}", subject=subject)
    return Shown(thing, serial, "", unchecked, subject)


def _subject(leaf: x509.Certificate) -> str:
    """For people: what is in it, in the form of RFC 4514. Raises Refused."""
    try:
        return leaf.subject.rfc4514_string()[:200]
    except (ValueError, TypeError):  # its parts are looked into only now
        raise Refused("its subject cannot be read") from None


def thing_of(leaf: x509.Certificate) -> str:
    """The thing a certificate names, "" for none.

    A URI `urn:fluxgate:thing:<id>` in the subject alternative name (RFC 5280, 4.2.1.6), else the common name. Raises
    Refused where it names more than one.
    """
    try:
        alternative = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = alternative.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    except (ValueError, x509.DuplicateExtension):
        raise Refused("its names cannot be read") from None
    names = {uri.removeprefix(THING_URI) for uri in uris if uri.startswith(THING_URI)}
    if not names:
        names = {str(each.value) for each in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)}
    if len(names) > 1:
        raise Refused("it names more than one thing")
    name = names.pop() if names else ""
    return name if _THING_ID.fullmatch(name) else ""


def _parsed(chain: Sequence[bytes]) -> list[x509.Certificate]:
    try:
        return [x509.load_der_x509_certificate(each) for each in chain]
    except (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm):
        raise Refused("it cannot be read") from None


def _check_strength(chain: Sequence[x509.Certificate]) -> None:
    """OpenSSL does the same at its usual security level, which a system's configuration may lower."""
    for certificate in chain:
        try:
            key = certificate.public_key()
            digest = certificate.signature_hash_algorithm
        except (ValueError, UnsupportedAlgorithm):
            raise Refused("its key or signature is of no known kind") from None
        match key:
            case rsa.RSAPublicKey():
                weak = key.key_size < MIN_RSA_BITS
            case ec.EllipticCurvePublicKey():
                weak = key.key_size < MIN_EC_BITS
            case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
                weak = False
            case dsa.DSAPublicKey():
                weak = True
            case _:
                weak = True
        if weak:
            raise Refused("its key is too weak: use P-256, or RSA of 2048 bits or more")
        # Nobody relies on a root's own signature
        if isinstance(digest, _WEAK_HASHES) and certificate is not chain[-1]:
            raise Refused(f"it is signed with {digest.name.upper()}, which can be forged")


def _check_leaf(leaf: x509.Certificate) -> None:
    """It must be a client's, and no authority's."""
    try:
        extensions = leaf.extensions
        for extension in extensions:
            value = extension.value
            if isinstance(value, x509.BasicConstraints) and value.ca:
                raise Refused("it is an authority's certificate, not a client's")
            if isinstance(value, x509.ExtendedKeyUsage) and ExtendedKeyUsageOID.CLIENT_AUTH not in value:
                raise Refused("it was not made for clients (its extended key usage lacks clientAuth)")
    except (ValueError, x509.DuplicateExtension):
        raise Refused("its extensions cannot be read") from None


def _check_own(serial: str, encoded: bytes, thing: str, certificates: Certificates) -> None:
    """Of our own authority only what we know to have made counts."""
    known = certificates.get(serial)
    if known is None:
        raise Refused(
            "its serial number is not known here: it was not made by this gateway, or before a restore"
        )
    if known.encoded != encoded:
        raise Refused("another certificate has its serial number")
    if known.thing != thing:
        raise Refused("it names another thing than it was made for")
    why = certificates.refusal(serial)
    if why:
        raise Refused(why.removeprefix("the certificate ").replace("was revoked", "it was revoked", 1))


def _check_dates(chain: Sequence[x509.Certificate], clock: Clock) -> bool:
    """True where nobody can know whether the dates hold. Raises Refused."""
    if not clock.trusted:
        if clock.strict:
            raise Refused("the gateway's clock is not set, and its dates cannot be checked")
        return True
    now = datetime.datetime.fromtimestamp(clock.now_s, datetime.UTC)
    for certificate in chain:
        whose = "it" if certificate is chain[0] else "an authority in its chain"
        if certificate.not_valid_after_utc < now:
            raise Refused(
                f"{whose} was valid until {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC only"
            )
        if certificate.not_valid_before_utc > now:
            raise Refused(f"{whose} is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC only")
    return False
