"""Certificate requests: only a key on P-256 that its holder has proved gets through, whatever the bytes."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from hub.authority.requests import MAX_REQUEST, public_key_of
from hub.errors import Invalid
from tests.attacks.wrong_certificates import key, name


def request(holder: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> x509.CertificateSigningRequest:
    return x509.CertificateSigningRequestBuilder(name("", "x")).sign(holder, SHA256())


def text(made: x509.CertificateSigningRequest) -> str:
    return made.public_bytes(Encoding.PEM).decode()


def test_a_request_of_openssl_is_taken(tmp_path: Path) -> None:
    """The command of docs/certificates.md."""
    command = "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout k.pem -subj /CN=x"
    done = subprocess.run(
        command.split(), cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True
    )
    assert public_key_of(done.stdout).curve.name == "secp256r1"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        pytest.param("", "no certificate request", id="nothing"),
        pytest.param("x" * (MAX_REQUEST + 1), "at most", id="too long"),
        pytest.param(text(request(key("P-256"))).replace("REQUEST", "CERTIFICATE"), "no cert", id="label"),
        pytest.param(text(request(key("RSA 2048"))), "P-256", id="RSA"),
        pytest.param(text(request(ec.generate_private_key(ec.SECP384R1()))), "P-256", id="another curve"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(given: str, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        public_key_of(given)


def test_a_request_that_proves_nothing_is_refused() -> None:
    encoded = bytearray(request(key("P-256")).public_bytes(Encoding.DER))
    encoded[-3] ^= 1
    unproved = x509.load_der_x509_csr(bytes(encoded)).public_bytes(Encoding.PEM).decode()
    with pytest.raises(Invalid, match="not signed with the key"):
        public_key_of(unproved)


def test_damaged_requests_let_one_error_out() -> None:
    rng = random.Random(6)
    good = text(request(key("P-256")))
    taken = 0
    for _ in range(2000):
        damaged = list(good)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(damaged))
            match rng.randrange(3):
                case 0:
                    damaged[at] = chr(rng.choice((0, 10, 45, 65, 90, 0xE9, 0xDC80, rng.randrange(128))))
                case 1:
                    del damaged[at : at + rng.randint(1, 40)]
                case _:
                    damaged[at:at] = damaged[: rng.randint(1, 40)]
        try:
            public_key_of("".join(damaged))
            taken += 1
        except Invalid:
            continue
    assert taken < 200  # what was damaged outside of the request's own bytes
