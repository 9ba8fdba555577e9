"""Certificates of things in the registry: made, used, renewed, denied, listed, and what a restart keeps."""

from __future__ import annotations

import sqlite3
import ssl
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from hub.authority import certificates as module
from hub.authority.certificates import OVERLAP_S, WITH_ITS_THING
from hub.authority.doorkeeper import Doorkeeper
from hub.authority.generations import authorities_of
from hub.authority.judge import Clock, Shown, judge
from hub.authority.profile import DAY_S, THING_LIFE_S, YEAR_S, der, end_of
from hub.errors import Conflict, Invalid, NotFound
from hub.registry import ChangeKind
from tests.attacks.wrong_certificates import key, name
from tests.hub.authority.conftest import NOW, Office

RIGHT = Clock(NOW, True)


def chain_of(office: Office, serial: str) -> list[bytes]:
    """As OpenSSL verifies it."""
    authority = office.registry.authority
    one = office.registry.certificates.get(serial)
    assert one is not None
    assert authority.root is not None
    signer = next(
        held for held in authority.generations() if held.certificate.subject == one.certificate.issuer
    )
    return [one.encoded, signer.encoded, authority.root.encoded]


def look_at(office: Office, serial: str, clock: Clock = RIGHT) -> Shown:
    registry = office.registry
    return judge(chain_of(office, serial), registry.authority, registry.certificates, clock)


def csr(number: int = 1) -> str:
    made = x509.CertificateSigningRequestBuilder(name("Else", "else")).sign(key("P-256", number), SHA256())
    return made.public_bytes(Encoding.PEM).decode()


def issue(office: Office, **more: Any) -> str:
    made = office.registry.certificates.issue(office.thing, more.pop("now_s", NOW), "users/u", **more)
    return made.certificate.serial


def test_a_certificate_with_a_key_made_here_is_shown_once_and_kept_without_it(office: Office) -> None:
    made = office.registry.certificates.issue(office.thing, NOW, "users/u")
    leaf = x509.load_pem_x509_certificates(made.chain.encode())[0]
    secret = load_pem_private_key(made.key.encode(), None)
    assert secret.public_key() == leaf.public_key()
    assert end_of(leaf) == NOW + THING_LIFE_S
    assert made.key not in repr(made)
    lines = made.key.splitlines()[1:-1]
    content = b"".join(file.read_bytes() for file in office.path.parent.iterdir())
    assert not any(line.encode() in content for line in lines)
    assert look_at(office, made.certificate.serial).thing == office.thing


def test_of_a_request_only_the_key_is_taken(office: Office) -> None:
    made = office.registry.certificates.issue(office.thing, NOW, "users/u", request=csr())
    leaf = x509.load_pem_x509_certificates(made.chain.encode())[0]
    assert leaf.public_key() == key("P-256", 1).public_key()
    assert "else" not in leaf.subject.rfc4514_string().lower()
    assert made.key == ""


def test_what_is_denied_stays_denied_over_a_restart(office: Office) -> None:
    serial, other = issue(office), issue(office)
    heard: list[ChangeKind] = []
    office.registry.on_change(lambda change: heard.append(change.kind))
    epoch = office.registry.epoch
    office.registry.certificates.revoke([serial], NOW, "lost")
    assert heard == [ChangeKind.REVOKED]
    assert office.registry.epoch > epoch
    for _ in range(2):
        assert "it was revoked: lost" in look_at(office, serial).refusal
        assert look_at(office, other).refusal == ""
        office.again()
    office.registry.certificates.revoke([serial], NOW + 5, "again")
    one = office.registry.certificates.get(serial)
    assert one is not None
    assert (one.revoked_s, one.reason) == (NOW, "lost")


def test_a_thing_takes_its_certificates_with_it_for_good(office: Office) -> None:
    serial = issue(office)
    for _ in range(2):
        if office.registry.thing(office.thing):
            office.registry.remove_thing(office.thing)
            office.registry.create_thing("another", id=office.thing)
        assert WITH_ITS_THING in look_at(office, serial).refusal
        office.again()


def test_after_a_renewal_the_old_certificate_has_30_days_from_the_first_use_of_the_new(
    office: Office,
) -> None:
    certificates = office.registry.certificates
    old = issue(office, life_s=YEAR_S)
    made = certificates.renew(old, csr(), NOW + 5 * DAY_S)
    new = made.certificate
    assert new.renews == old
    assert end_of(new.certificate) == NOW + 5 * DAY_S + YEAR_S  # as long as the one before was for
    late = NOW + 100 * DAY_S
    certificates.look(late)
    assert [look_at(office, each).refusal for each in (old, new.serial)] == ["", ""], (
        "the new one was not used"
    )
    certificates.note_use(new.serial, late, trusted=True)
    certificates.look(late + OVERLAP_S - 1)
    assert look_at(office, old).refusal == ""
    assert certificates.look(late + OVERLAP_S + 1)
    assert "renewed" in look_at(office, old, Clock(late + OVERLAP_S + 1, True)).refusal
    office.again()
    office.registry.certificates.look(late + OVERLAP_S + 1)
    assert office.registry.certificates.refusal(old) == "the certificate was renewed"
    assert office.registry.certificates.refusal(new.serial) == ""


def test_a_first_use_by_a_clock_that_is_not_set_ends_nothing(office: Office) -> None:
    certificates = office.registry.certificates
    old = issue(office)
    new = certificates.renew(old, csr(), NOW).certificate.serial
    certificates.note_use(new, NOW - YEAR_S, trusted=False)
    certificates.look(NOW + YEAR_S)
    assert certificates.refusal(old) == ""


def test_only_what_counts_can_be_renewed(office: Office) -> None:
    certificates = office.registry.certificates
    serial = issue(office)
    certificates.revoke([serial], NOW)
    for each in (serial, "0" * 32):
        with pytest.raises(NotFound):
            certificates.renew(each, csr(), NOW)


def test_live_sessions_hear_of_an_end_only_by_a_clock_that_is_right(office: Office) -> None:
    certificates = office.registry.certificates
    serial = issue(office, life_s=DAY_S)
    assert not certificates.look(NOW)
    assert not certificates.look(None)
    assert certificates.refusal(serial) == ""
    assert certificates.look(NOW + 2 * DAY_S)
    assert certificates.refusal(serial) == "the certificate is over"
    assert certificates.look(None), "the clock is in doubt again"
    assert certificates.refusal(serial) == ""


def test_dates_count_only_while_the_clock_is_right(office: Office) -> None:
    serial = issue(office, life_s=DAY_S)
    after, before = NOW + 9 * DAY_S, 1000.0
    assert "valid until 2027-01-16" in look_at(office, serial, Clock(after, True)).refusal
    assert "valid from 2026-01-01" in look_at(office, serial, Clock(before, True)).refusal
    for when in (after, before):
        shown = look_at(office, serial, Clock(when, False))
        assert (shown.refusal, shown.unchecked) == ("", True)
        assert "clock is not set" in look_at(office, serial, Clock(when, False, strict=True)).refusal
    assert not look_at(office, serial).unchecked


def test_the_deny_list_is_a_crl_of_each_authority(office: Office) -> None:
    certificates, authority = office.registry.certificates, office.registry.authority
    assert certificates.lists(NOW) == []
    first, kept = issue(office), issue(office)
    authority.roll_over(NOW)
    second = issue(office)
    certificates.revoke([first, second], NOW)
    lists = [x509.load_der_x509_crl(each) for each in certificates.lists(NOW + 60)]
    assert [[f"{entry.serial_number:032x}" for entry in each] for each in lists] == [[first], [second], []]
    signers = [*authority.generations(), authority.root]
    for each, signer in zip(lists, signers, strict=True):
        assert signer is not None
        assert each.is_signature_valid(signer.certificate.public_key())  # type: ignore[arg-type]
    assert certificates.lists(NOW + 61) is certificates.lists(NOW + 62), "signed once an hour"
    certificates.revoke([kept], NOW + 63)
    assert len(list(x509.load_der_x509_crl(certificates.lists(NOW + 64)[0]))) == 2


def test_there_are_bounds(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    certificates = office.registry.certificates
    with pytest.raises(NotFound):
        certificates.issue("nobody", NOW, "users/u")
    for life_s in (1.0, 1e12):
        with pytest.raises(Invalid, match="for 300 to"):
            issue(office, life_s=life_s)
    with pytest.raises(Invalid, match="a reason has"):
        certificates.revoke([issue(office)], NOW, "x" * 201)
    monkeypatch.setattr(module, "MAX_OF_THING", 2)
    issue(office)
    with pytest.raises(Conflict, match="2 certificates"):
        issue(office)
    monkeypatch.setattr(module, "MAX_OF_THING", 9)
    monkeypatch.setattr(module, "MAX_CERTIFICATES", 3)
    short = issue(office, life_s=DAY_S)
    with pytest.raises(Invalid, match="at most 3"):
        issue(office)
    issue(office, now_s=NOW + 2 * DAY_S)  # what is over makes room
    assert certificates.get(short) is None


def test_a_damaged_certificate_of_the_authority_is_damage(office: Office) -> None:
    issue(office)
    office.registry.close()
    with sqlite3.connect(office.path) as conn:
        conn.execute("UPDATE authority SET certificate = x'00' WHERE role = 'root'")
    conn.close()
    office.registry = type(office.registry).open(office.path, office.registry._key)
    assert office.registry.set_aside is not None


def test_a_foreign_chain_is_judged_by_the_authorities_in_force(office: Office) -> None:
    serial = issue(office)
    chain = chain_of(office, serial)
    registry = office.registry
    stranger = chain[:2]  # ends at the issuing authority, which is nobody's anchor
    assert "trusted no longer" in judge(stranger, registry.authority, registry.certificates, RIGHT).refusal
    configured = frozenset({chain[1]})
    assert judge(stranger, registry.authority, registry.certificates, RIGHT, configured).serial == ""
    assert "too long" in judge([], registry.authority, registry.certificates, RIGHT).refusal
    assert "cannot be read" in judge([b"x"], registry.authority, registry.certificates, RIGHT).refusal
    assert der(x509.load_der_x509_certificate(chain[0])) == chain[0]


def test_certificates_whose_parts_cannot_be_read_are_refused_not_an_error_of_ours(office: Office) -> None:
    """A part of a certificate is looked into when it is asked for, and then raises what it wants."""
    chain = chain_of(office, issue(office))
    registry = office.registry
    common_name = b"\x06\x03\x55\x04\x03\x0c\x06pump-7"
    version = b"\xa0\x03\x02\x01"
    assert chain[0].count(common_name) == 1
    no_text = chain[0].replace(common_name, common_name[:-1] + b"\xff")
    no_version = chain[0].replace(version + b"\x02", version + b"\x07")
    for leaf in (no_text, no_version):
        shown = judge([leaf, *chain[1:]], registry.authority, registry.certificates, RIGHT)
        assert "cannot be read" in shown.refusal
    with pytest.raises(Invalid, match="no certificate in PEM form"):
        authorities_of(ssl.DER_cert_to_PEM_cert(no_version))
    hub: Any = SimpleNamespace(registry=registry, audit=SimpleNamespace(record=lambda *_args, **_more: None))
    keeper = Doorkeeper(hub, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), "http")
    assert (
        "cannot be read" in keeper.passed_on(quote(ssl.DER_cert_to_PEM_cert(no_version)), "192.0.2.1").refusal
    )
