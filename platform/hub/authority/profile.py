"""What the authority's certificates look like (RFC 5280), with pure functions that make them.

Elliptic curve P-256 with SHA-256 throughout, which even the smallest TLS stacks have. Every certificate begins long
ago: neither a device nor a Raspberry Pi knows the date when it starts. Name constraints keep root and issuing
authority to this gateway's things and to names and addresses that no public site has. They are not marked critical,
though RFC 5280, 4.2.1.10 wants that: Mbed TLS and `cryptography` refuse a critical extension that they cannot judge,
while OpenSSL, Go, browsers and both of those hold to the constraints they know either way.
"""

from __future__ import annotations

import datetime
import ipaddress
import secrets
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY_S = 86_400
YEAR_S = 365 * DAY_S
BACKDATED_S = 1_767_225_600  # 2026-01-01: no gateway of this kind ran before, and no clock of one shows less
ROOT_LIFE_S = 40 * YEAR_S
ISSUING_LIFE_S = 25 * YEAR_S
THING_LIFE_S = 10 * YEAR_S  # devices in the field cannot be relied on to renew in time
# From now; with SERVER_BACKDATED_S it stays below the 825 days that Apple's systems take
SERVER_LIFE_S = 397 * DAY_S
SERVER_BACKDATED_S = YEAR_S
SERIAL_BYTES = 16  # random, so that nobody foresees one (RFC 5280, 4.1.2.2 allows 20)
MAX_COMMON_NAME = 64  # characters (RFC 5280, appendix A.1, ub-common-name)

THING_URI = "urn:fluxgate:thing:"  # in front of a thing's id, as a URI of the subject alternative name
# Domains that are never delegated in the public DNS: RFC 6762, RFC 6761, RFC 8375, and ICANN's `internal`.
PRIVATE_DOMAINS = ("local", "localhost", "internal", "home.arpa", "lan")
PRIVATE_NETWORKS = (
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "100.64.0.0/10",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
)

_NETWORKS = tuple(ipaddress.ip_network(network) for network in PRIVATE_NETWORKS)
_BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


class Pair(NamedTuple):
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return f"Pair({self.certificate.subject.rfc4514_string()})"


class Names(NamedTuple):
    """What a server certificate is for."""

    hosts: tuple[str, ...]  # the first is the gateway's own name
    addresses: tuple[str, ...] = ()


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def new_serial() -> int:
    """128 random bits; never 0, which RFC 5280 forbids."""
    return int.from_bytes(secrets.token_bytes(SERIAL_BYTES), "big") or 1


def serial_text(serial: int) -> str:
    """As certificates are named in requests, lists and audit lines: 32 hex digits."""
    return f"{serial:0{2 * SERIAL_BYTES}x}"


def new_organisation() -> str:
    """What tells this gateway's authority from every other's: it is in all of its names."""
    return f"Fluxgate {secrets.token_hex(4)}"


def make_root(organisation: str, hosts: Iterable[str], now_s: float) -> Pair:
    """An authority above all others, which signs issuing authorities and nothing else."""
    key = new_key()
    name = _name(organisation, "root")
    builder = _authority(name, name, key, key, 1, now_s + ROOT_LIFE_S, now_s)
    constraints = _constraints(organisation, (*PRIVATE_DOMAINS, *hosts))
    return Pair(builder.add_extension(constraints, critical=False).sign(key, SHA256()), key)


def make_issuing(root: Pair, number: int, hosts: Iterable[str], now_s: float) -> Pair:
    """The authority that is at work on the gateway: it signs things and this gateway's own doors, no authorities."""
    organisation = organisation_of(root.certificate)
    key = new_key()
    name = _name(organisation, f"issuing {number}")
    end_s = min(now_s + ISSUING_LIFE_S, end_of(root.certificate))
    constraints = _constraints(organisation, (*hosts, "localhost"))
    builder = (
        _authority(name, root.certificate.subject, key, root.key, 0, end_s, now_s)
        .add_extension(constraints, critical=False)
        .add_extension(x509.ExtendedKeyUsage(_BOTH), critical=False)
    )
    return Pair(builder.sign(root.key, SHA256()), key)


def make_thing(
    issuing: Pair, thing_id: str, key: ec.EllipticCurvePublicKey, life_s: float, now_s: float
) -> x509.Certificate:
    """A client certificate: it names one thing, and can be nothing but a client's."""
    end_s = min(now_s + life_s, end_of(issuing.certificate))
    name = _name(organisation_of(issuing.certificate), thing_id)
    return (
        _leaf(name, key, issuing, min(BACKDATED_S, now_s), end_s, ExtendedKeyUsageOID.CLIENT_AUTH)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(THING_URI + thing_id)]),
            critical=False,
        )
        .sign(issuing.key, SHA256())
    )


def make_server(issuing: Pair, names: Names, now_s: float) -> Pair:
    """The certificate of the TLS doors. Of `names` only those that the issuing authority may name."""
    key = new_key()
    allowed = nameable(issuing.certificate, names)
    known_as: list[x509.GeneralName] = [x509.DNSName(host) for host in allowed.hosts]
    known_as += [x509.IPAddress(ipaddress.ip_address(address)) for address in allowed.addresses]
    common_name = (allowed.hosts or ("localhost",))[0][:MAX_COMMON_NAME]
    begin_s = min(max(BACKDATED_S, now_s - SERVER_BACKDATED_S), now_s)
    end_s = min(now_s + SERVER_LIFE_S, end_of(issuing.certificate))
    name = _name(organisation_of(issuing.certificate), common_name)
    builder = _leaf(name, key.public_key(), issuing, begin_s, end_s, ExtendedKeyUsageOID.SERVER_AUTH)
    signed = builder.add_extension(x509.SubjectAlternativeName(known_as), critical=False)
    return Pair(signed.sign(issuing.key, SHA256()), key)


def nameable(issuing: x509.Certificate, names: Names) -> Names:
    """Those of `names` that lie within the name constraints of `issuing`."""
    permitted = (
        issuing.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees or []
    )
    domains = [subtree.value for subtree in permitted if isinstance(subtree, x509.DNSName)]
    hosts = [
        host
        for host in dict.fromkeys(names.hosts)
        if any(host == domain or host.endswith("." + domain) for domain in domains)
    ]
    addresses = [address for address in dict.fromkeys(names.addresses) if is_private(address)]
    return Names(tuple(hosts), tuple(addresses))


def is_private(address: str) -> bool:
    """Whether this is an address in one of PRIVATE_NETWORKS."""
    try:
        given = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(given.version == network.version and given in network for network in _NETWORKS)


def names_of(certificate: x509.Certificate) -> Names:
    """The hosts and addresses of a server certificate."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    hosts = names.get_values_for_type(x509.DNSName)
    return Names(tuple(hosts), tuple(str(each) for each in names.get_values_for_type(x509.IPAddress)))


def organisation_of(certificate: x509.Certificate) -> str:
    """The organisation in a certificate's subject; "" where there is none."""
    found = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return str(found[0].value) if found else ""


def begin_of(certificate: x509.Certificate) -> float:
    """UTC seconds."""
    return certificate.not_valid_before_utc.timestamp()


def end_of(certificate: x509.Certificate) -> float:
    """UTC seconds."""
    return certificate.not_valid_after_utc.timestamp()


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def pem(certificates: Sequence[x509.Certificate]) -> str:
    """One after the other, as files of certificates have them."""
    return "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in certificates)


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """A private key in the clear, PKCS #8."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def key_der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def key_of(encoded: bytes) -> ec.EllipticCurvePrivateKey:
    """The key that `key_der` wrote. Raises ValueError."""
    key = load_der_private_key(encoded, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("no key on an elliptic curve")
    return key


def _name(organisation: str, common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _constraints(organisation: str, domains: Iterable[str]) -> x509.NameConstraints:
    """RFC 5280, 4.2.1.10: subjects of this organisation only, these domains, and private addresses."""
    own = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation)])
    permitted: list[x509.GeneralName] = [x509.DirectoryName(own)]
    permitted += [x509.DNSName(domain) for domain in dict.fromkeys(domains)]
    permitted += [x509.IPAddress(network) for network in _NETWORKS]
    return x509.NameConstraints(permitted, None)


def _authority(
    name: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    path_length: int,
    end_s: float,
    now_s: float,
) -> x509.CertificateBuilder:
    builder = _builder(
        name, issuer, key.public_key(), issuer_key.public_key(), min(BACKDATED_S, now_s), end_s
    )
    return builder.add_extension(
        x509.BasicConstraints(ca=True, path_length=path_length), critical=True
    ).add_extension(_usage(authority=True), critical=True)


def _leaf(
    name: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuing: Pair,
    begin_s: float,
    end_s: float,
    use: x509.ObjectIdentifier,
) -> x509.CertificateBuilder:
    return (
        _builder(name, issuing.certificate.subject, key, issuing.key.public_key(), begin_s, end_s)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
    )


def _builder(
    name: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
    begin_s: float,
    end_s: float,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder(issuer, name, key, new_serial())
        .not_valid_before(_moment(begin_s))
        .not_valid_after(_moment(end_s))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _moment(at_s: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(at_s), datetime.UTC)


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
