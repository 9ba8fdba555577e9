"""Pages of certificates, against the hub's own API: what they make opens, what they revoke is shut."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from tests.real_hub import RealHub
from tests.webui.double import EMAIL, PASSPHRASE, Visitor


@pytest.fixture
def real(tmp_path: Path) -> Iterator[RealHub]:
    hub = RealHub(tmp_path, EMAIL, PASSPHRASE)
    yield hub
    hub.close()


@pytest.fixture
def gateway_url(real: RealHub) -> str:
    return real.url


@pytest.fixture
def thing(real: RealHub) -> str:
    made: str = real.hub.registry.create_thing("pump <7>")[0].id
    return made


def downloads(page: str) -> dict[str, str]:
    """Files that a page offers, by name."""
    found = re.findall(r'download="([^"]+)" href="data:application/x-pem-file;base64,([^"]+)"', page)
    return {name: base64.b64decode(data).decode() for name, data in found}


def test_a_certificate_is_made_shown_once_and_revoked(person: Visitor, real: RealHub, thing: str) -> None:
    person.get("/certificates")
    assert "There are none yet" in person.page
    assert "no authority yet" in person.page
    assert person.post("/certificates", {"thing": thing}).status_code == 200, person.page
    files = downloads(person.page)
    leaf = x509.load_pem_x509_certificates(files[f"{thing}.pem"].encode())[0]
    secret = load_pem_private_key(files[f"{thing}.key"].encode(), None)
    assert secret.public_key() == leaf.public_key()
    assert "PRIVATE KEY" in person.page
    (one,) = real.hub.registry.certificates.all()
    assert f"/certificates/{one.serial}" in person.page
    person.get(f"/certificates/{one.serial}")
    assert "PRIVATE KEY" not in person.page
    assert "pump &lt;7&gt;" in person.page
    assert one.fingerprint in person.page
    assert x509.load_pem_x509_certificate(downloads(person.page)[f"{thing}.pem"].encode()) == leaf
    person.post(f"/certificates/{one.serial}/revoke", {"reason": "<b>stolen</b>"})
    person.get(f"/certificates/{one.serial}")
    assert "cut off" in person.page
    assert "&lt;b&gt;stolen" in person.page
    assert real.hub.registry.certificates.refusal(one.serial)
    person.get("/certificates?view=good")
    assert one.serial[:16] not in person.page
    for view in ("", "revoked"):
        person.get(f"/certificates?view={view}")
        assert one.serial[:16] in person.page


def test_the_authority_is_downloaded_and_its_fingerprint_shown(
    person: Visitor, real: RealHub, thing: str
) -> None:
    person.get("/certificates/authority.pem")
    person.get("/certificates")
    assert "There is no authority yet" in person.page
    person.post("/certificates", {"thing": thing})
    root = real.hub.registry.authority.root
    assert root is not None
    person.get("/certificates")
    assert root.certificate.fingerprint(SHA256()).hex(":").upper() in person.page
    answer = person.get("/certificates/authority.pem")
    assert x509.load_pem_x509_certificate(answer.data) == root.certificate
    assert "attachment" in answer.headers["Content-Disposition"]


def test_with_a_request_no_private_key_is_shown(person: Visitor, real: RealHub, thing: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    request = x509.CertificateSigningRequestBuilder(name).sign(key, SHA256())
    person.get("/certificates")
    csr = request.public_bytes(Encoding.PEM).decode()
    assert person.post("/certificates", {"thing": thing, "csr": csr}).status_code == 200
    assert "PRIVATE KEY" not in person.page
    assert set(downloads(person.page)) == {f"{thing}.pem", f"{thing}.authority.pem"}


def test_what_cannot_be_is_said(person: Visitor, thing: str) -> None:
    person.get("/certificates")
    assert person.post("/certificates", {"thing": "no such/../thing"}).status_code == 422
    assert "Type a thing" in person.page
    assert person.post("/certificates", {"thing": "nothing"}).status_code == 422
    assert "no such thing" in person.page.lower()
    assert person.post("/certificates", {"thing": thing, "csr": "no PEM"}).status_code == 422
    assert "no certificate request" in person.page
    for path in ("/certificates/nothing", "/certificates/" + "0" * 32, "/certificates?view=x"):
        assert person.get(path).status_code == 404
    person.get("/certificates?q=nobody")
    assert "None is like that" in person.page


def test_the_issuing_authority_is_followed(person: Visitor, real: RealHub, thing: str) -> None:
    person.get("/certificates")
    person.post("/certificates", {"thing": thing})
    person.get("/certificates")
    person.post("/certificates/authority/follow")
    assert len(real.hub.registry.authority.generations()) == 2
