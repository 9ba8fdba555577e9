"""What the certificates say, and what OpenSSL and `cryptography` make of them as somebody else's verifiers."""

from __future__ import annotations

import datetime
import ipaddress
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from hub.authority import profile
from hub.authority.profile import Names, Pair
from tests.attacks.wrong_certificates import Recipe, Signer, name

NOW = 1_800_000_000.0
THEN = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
NAMES = Names(("gw-1.local", "gw-1", "localhost"), ("127.0.0.1", "192.168.1.5", "fd00::5"))


@pytest.fixture(scope="module")
def chain() -> tuple[Pair, Pair]:
    root = profile.make_root(profile.new_organisation(), NAMES.hosts, NOW)
    return root, profile.make_issuing(root, 1, NAMES.hosts, NOW)


def openssl(folder: Path, chain: tuple[Pair, Pair], leaf: x509.Certificate, *options: str) -> str:
    """What `openssl verify` says; "" where it is content."""
    files = []
    for title, certificate in (
        ("root", chain[0].certificate),
        ("issuing", chain[1].certificate),
        ("leaf", leaf),
    ):
        files.append(folder / f"{title}.pem")
        files[-1].write_text(profile.pem([certificate]))
    command = ["openssl", "verify", "-x509_strict", "-attime", str(int(NOW)), *options]
    command += ["-CAfile", str(files[0]), "-untrusted", str(files[1]), str(files[2])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return "" if done.returncode == 0 else done.stderr


def of_cryptography(chain: tuple[Pair, Pair], leaf: x509.Certificate, host: str = "") -> bool:
    builder = PolicyBuilder().store(Store([chain[0].certificate])).time(THEN)
    try:
        if host:
            builder.build_server_verifier(x509.DNSName(host)).verify(leaf, [chain[1].certificate])
        else:
            builder.build_client_verifier().verify(leaf, [chain[1].certificate])
    except VerificationError:
        return False
    return True


def test_others_accept_a_things_certificate(chain: tuple[Pair, Pair], tmp_path: Path) -> None:
    leaf = profile.make_thing(chain[1], "pump-7", profile.new_key().public_key(), profile.THING_LIFE_S, NOW)
    assert openssl(tmp_path, chain, leaf, "-purpose", "sslclient") == ""
    assert "purpose" in openssl(tmp_path, chain, leaf, "-purpose", "sslserver")
    assert of_cryptography(chain, leaf)


def test_others_accept_the_gateways_own_certificate(chain: tuple[Pair, Pair], tmp_path: Path) -> None:
    server = profile.make_server(chain[1], NAMES, NOW).certificate
    for option, named in (("-verify_hostname", "gw-1.local"), ("-verify_ip", "192.168.1.5")):
        assert openssl(tmp_path, chain, server, "-purpose", "sslserver", option, named) == ""
    assert "mismatch" in openssl(tmp_path, chain, server, "-verify_hostname", "other.local")
    assert of_cryptography(chain, server, "gw-1")
    assert not of_cryptography(chain, server, "other.local")
    # Apple's systems take no server certificate that is for longer than 825 days, from its begin to its end.
    assert (profile.end_of(server) - profile.begin_of(server)) / profile.DAY_S <= 825


BEYOND: list[Any] = [
    pytest.param({"more_names": [x509.DNSName("example.com")]}, id="a public host"),
    pytest.param({"more_names": [x509.DNSName("gw-2.local")]}, id="another gateway's host"),
    pytest.param({"more_names": [x509.IPAddress(ipaddress.ip_address("8.8.8.8"))]}, id="a public address"),
]


@pytest.mark.parametrize("beyond", BEYOND)
def test_others_refuse_what_a_stolen_issuing_key_signs_beyond_its_names(
    chain: tuple[Pair, Pair], tmp_path: Path, beyond: dict[str, Any]
) -> None:
    organisation = profile.organisation_of(chain[1].certificate)
    uses = (ExtendedKeyUsageOID.SERVER_AUTH,)
    leaf = Recipe(name(organisation, "x"), uses=uses, **beyond).signed_by(Signer.of(chain[1]), THEN)
    assert "permitted subtree violation" in openssl(tmp_path, chain, leaf)
    assert not of_cryptography(chain, leaf, "example.com")
    right = Recipe(name(organisation, "x"), uses=uses, more_names=[x509.DNSName("gw-1.local")])
    assert openssl(tmp_path, chain, right.signed_by(Signer.of(chain[1]), THEN)) == ""


def test_another_organisation_is_beyond_its_names(chain: tuple[Pair, Pair], tmp_path: Path) -> None:
    leaf = Recipe(name("Fluxgate 00000000", "pump-7"), things=("pump-7",)).signed_by(
        Signer.of(chain[1]), THEN
    )
    assert "permitted subtree violation" in openssl(tmp_path, chain, leaf)


def test_the_issuing_authority_signs_no_authority(chain: tuple[Pair, Pair], tmp_path: Path) -> None:
    organisation = profile.organisation_of(chain[1].certificate)
    below = Recipe(name(organisation, "below"), authority=True, usage="key_cert_sign", uses=())
    between = below.signed_by(Signer.of(chain[1]), THEN)
    leaf = Recipe(name(organisation, "pump-7")).signed_by(Signer(between.subject, below.key, between), THEN)
    (tmp_path / "more.pem").write_text(profile.pem([between]))
    assert "path length" in openssl(tmp_path, chain, leaf, "-untrusted", str(tmp_path / "more.pem"))


def test_certificates_begin_before_any_clock_of_a_device_that_was_never_set(chain: tuple[Pair, Pair]) -> None:
    leaf = profile.make_thing(chain[1], "t", profile.new_key().public_key(), profile.THING_LIFE_S, NOW)
    for certificate in (chain[0].certificate, chain[1].certificate, leaf):
        assert profile.begin_of(certificate) == profile.BACKDATED_S
    early = profile.make_root("Fluxgate 1", (), 1000.0)  # a gateway whose own clock is at 1970
    assert profile.begin_of(early.certificate) == 1000.0


def test_no_certificate_outlives_who_signed_it(chain: tuple[Pair, Pair]) -> None:
    late = NOW + 24 * profile.YEAR_S
    leaf = profile.make_thing(chain[1], "t", profile.new_key().public_key(), profile.THING_LIFE_S, late)
    assert profile.end_of(leaf) == profile.end_of(chain[1].certificate) < profile.end_of(chain[0].certificate)


def test_serial_numbers_are_128_random_bits() -> None:
    serials = {profile.new_serial() for _ in range(100)}
    assert len(serials) == 100
    assert 120 < max(serials).bit_length() <= 128
    assert {len(profile.serial_text(serial)) for serial in (1, *serials)} == {32}


def test_public_names_and_addresses_are_left_out_of_the_gateways_certificate(
    chain: tuple[Pair, Pair],
) -> None:
    wanted = Names(("gw-1.local", "example.com", "gw-1.local"), ("8.8.8.8", "10.1.2.3", "2001:db8::1", "::1"))
    names = profile.names_of(profile.make_server(chain[1], wanted, NOW).certificate)
    assert names == Names(("gw-1.local",), ("10.1.2.3", "::1"))


def test_a_pair_shows_no_key() -> None:
    assert repr(profile.make_root("Fluxgate 1", (), NOW)) == "Pair(CN=root,O=Fluxgate 1)"


def test_a_signature_is_of_p_256_and_sha_256(chain: tuple[Pair, Pair]) -> None:
    for certificate in (chain[0].certificate, chain[1].certificate):
        assert isinstance(certificate.signature_hash_algorithm, SHA256)
        assert certificate.public_key().curve.name == "secp256r1"  # type: ignore[union-attr]
