"""A certificate authority in a folder, for tests: good certificates, and bad ones of every kind."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
LOOPBACK = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
SIGNS_CERTIFICATES = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM files."""

    cert: Path
    key: Path


class Authority:
    """Signs what is asked for. Its own certificate is `cert`."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder = folder
        self._issued = 0
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.cert = folder / f"{name}.pem"
        signed = self._builder(self._name, self._key, -1, 30).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        signed = signed.add_extension(SIGNS_CERTIFICATES, critical=True)
        self.cert.write_bytes(signed.sign(self._key, SHA256()).public_bytes(Encoding.PEM))

    def _builder(
        self, subject: x509.Name, key: Key, from_days: float, to_days: float
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now + from_days * DAY)
            .not_valid_after(now + to_days * DAY)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            # Python 3.13 asks for it, as RFC 5280, 4.2.1.1 does.
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )

    def key_file(self) -> Path:
        """The authority's own key, for a certificate that nobody but itself has signed."""
        path = self.cert.with_suffix(".key")
        path.write_bytes(self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return path

    def issue_beyond_rights(self, common_name: str) -> Pair:
        """Signed by a client's certificate, which is no authority; the file holds both, as a chain."""
        middle = self.issue("middle")
        inner = Authority.__new__(Authority)
        inner.folder, inner.cert, inner._issued = self.folder, self.folder / "inner.pem", 0
        inner._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "middle")])
        key = load_pem_private_key(middle.key.read_bytes(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        inner._key = key
        pair = inner.issue(common_name)
        pair.cert.write_bytes(pair.cert.read_bytes() + middle.cert.read_bytes())
        return pair

    def server(self, name: str = "gateway") -> Pair:
        """For 127.0.0.1."""
        return self.issue(name, names=[LOOPBACK, x509.DNSName("localhost")], server=True)

    def issue(
        self,
        common_name: str,
        *,
        names: list[x509.GeneralName] | None = None,
        server: bool = False,
        from_days: float = -1,
        to_days: float = 1,
        key: Key | None = None,
    ) -> Pair:
        """A certificate for clients, or for servers only. Days count from now."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])
        use = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = self._builder(subject, key, from_days, to_days).add_extension(
            x509.ExtendedKeyUsage([use]), critical=False
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        self._issued += 1
        stem = f"{self.cert.stem}-{self._issued}-{common_name[:32]}"
        pair = Pair(self.folder / f"{stem}.pem", self.folder / f"{stem}.key")
        pair.cert.write_bytes(builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM))
        pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return pair
