"""Wrong certificates of every kind, made with the keys that an attacker might have got hold of."""

from __future__ import annotations

import datetime
import ipaddress
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hub.authority.profile import THING_URI, Pair

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
DAY = datetime.timedelta(days=1)
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
CODE = ExtendedKeyUsageOID.CODE_SIGNING
USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
    *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)
_keys: dict[str, Any] = {}


def key(kind: str = "P-256", number: int = 0) -> Any:
    """Made once for all tests of a process."""
    title = f"{kind} {number}"
    if title not in _keys:
        match kind:
            case "P-256":
                _keys[title] = ec.generate_private_key(ec.SECP256R1())
            case "P-192":
                _keys[title] = ec.generate_private_key(ec.SECP192R1())
            case "Ed25519":
                _keys[title] = ed25519.Ed25519PrivateKey.generate()
            case _:
                _keys[title] = rsa.generate_private_key(65537, int(kind.removeprefix("RSA ")))
    return _keys[title]


def key_pem(secret: Key) -> bytes:
    return secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def key_identifier(secret: Key) -> bytes:
    return x509.SubjectKeyIdentifier.from_public_key(secret.public_key()).digest


def name(organisation: str, *common_names: str) -> x509.Name:
    pairs = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation)] if organisation else []
    return x509.Name([*pairs, *(x509.NameAttribute(NameOID.COMMON_NAME, each) for each in common_names)])


@dataclass
class Signer:
    """Whoever signs: a name and a key, and the certificate that goes with them."""

    subject: x509.Name
    key: Any
    certificate: x509.Certificate

    @classmethod
    def of(cls, pair: Pair) -> Signer:
        return cls(pair.certificate.subject, pair.key, pair.certificate)


@dataclass
class Recipe:
    """A certificate to be forged; what is left alone is as the gateway's authority would have it."""

    subject: x509.Name
    things: Sequence[str] = ()
    more_names: Sequence[x509.GeneralName] = ()
    key: Any = field(default_factory=key)
    from_days: float = -100
    to_days: float = 100
    serial: int = 0
    uses: Sequence[x509.ObjectIdentifier] = (CLIENT,)
    authority: bool | None = False  # None: without basicConstraints
    usage: str = "digital_signature"
    key_id: bytes = b""  # of the subject, where it is not its own
    issuer_key_id: bytes = b""
    critical: bool = False  # an extension that nobody knows

    def signed_by(self, signer: Signer | None, now: datetime.datetime) -> x509.Certificate:
        """None: by itself."""
        issuer, signing = (signer.subject, signer.key) if signer else (self.subject, self.key)
        serial = self.serial or x509.random_serial_number()
        builder = x509.CertificateBuilder(issuer, self.subject, self.key.public_key(), serial)
        builder = builder.not_valid_before(now + self.from_days * DAY).not_valid_after(
            now + self.to_days * DAY
        )
        own, theirs = self.key_id or key_identifier(self.key), self.issuer_key_id or key_identifier(signing)
        builder = builder.add_extension(x509.SubjectKeyIdentifier(own), critical=False)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier(theirs, None, None), critical=False)
        if self.authority is not None:
            builder = builder.add_extension(x509.BasicConstraints(self.authority, None), critical=True)
        names = [
            *(x509.UniformResourceIdentifier(THING_URI + each) for each in self.things),
            *self.more_names,
        ]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if self.uses:
            builder = builder.add_extension(x509.ExtendedKeyUsage(list(self.uses)), critical=False)
        usage = x509.KeyUsage(**{part: part == self.usage for part in USAGES})
        builder = builder.add_extension(usage, critical=True)
        if self.critical:
            oid = x509.ObjectIdentifier("1.3.6.1.4.1.55555.1")
            builder = builder.add_extension(x509.UnrecognizedExtension(oid, b"\x05\x00"), critical=True)
        return builder.sign(signing, None if isinstance(signing, ed25519.Ed25519PrivateKey) else SHA256())


@dataclass
class Hand:
    """What a client comes with: the chain it shows, and the key of the first certificate."""

    chain: list[x509.Certificate]
    key: Any

    def write(self, file: Path) -> Path:
        file.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in self.chain) + key_pem(self.key))
        return file


def altered(certificate: x509.Certificate, change: Callable[[bytes], bytes]) -> x509.Certificate:
    """The same certificate with bytes changed after it was signed."""
    return x509.load_der_x509_certificate(change(certificate.public_bytes(Encoding.DER)))


def by_openssl(folder: Path, signer: Pair, holder: Key, subject: str, *options: str) -> x509.Certificate:
    """Signed by the command line tool, which makes what `cryptography` refuses to make: SHA-1, MD5, version 1."""
    files = {each: str(folder / f"openssl.{each}") for each in ("key", "csr", "ca", "cakey", "pem")}
    Path(files["key"]).write_bytes(key_pem(holder))
    Path(files["cakey"]).write_bytes(key_pem(signer.key))
    Path(files["ca"]).write_bytes(signer.certificate.public_bytes(Encoding.PEM))
    for command in (
        ["req", "-new", "-key", files["key"], "-subj", subject, "-out", files["csr"]],
        [
            *("x509", "-req", "-in", files["csr"], "-CA", files["ca"], "-CAkey", files["cakey"]),
            *("-days", "100", "-set_serial", "77", "-out", files["pem"], *options),
        ],
    ):
        subprocess.run(["openssl", *command], check=True, capture_output=True, timeout=30)
    return x509.load_pem_x509_certificate(Path(files["pem"]).read_bytes())


def public_address(text: str = "8.8.8.8") -> x509.IPAddress:
    return x509.IPAddress(ipaddress.ip_address(text))
