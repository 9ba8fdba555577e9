"""Root, issuing authorities one after another, the gateway's own certificate, and authorities of others."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from hub.authority import generations as module
from hub.authority import profile
from hub.authority.generations import authorities_of
from hub.authority.profile import DAY_S, YEAR_S, Names
from hub.errors import Conflict, Invalid, NotFound
from hub.keys import ServerKey
from tests.hub.authority.conftest import NOW, Office

PASSPHRASE = "a passphrase for the safe"


def test_nothing_is_made_until_it_is_needed(office: Office) -> None:
    authority = office.registry.authority
    assert (authority.root, authority.issuing, authority.server) == (None, None, None)
    authority.ensure(NOW)
    first = (authority.root, authority.issuing)
    authority.ensure(NOW)
    assert (authority.root, authority.issuing) == first
    assert authority.root_key_here()


def test_everything_is_there_again_after_a_restart_and_no_key_in_clear(office: Office) -> None:
    office.registry.authority.new_server(NOW)
    before = office.registry.authority
    keys = [before.key_of(held) for held in (*before.own(), before.server) if held]
    authority = office.again().authority
    after = [authority.key_of(held) for held in (*authority.own(), authority.server) if held]
    content = b"".join(file.read_bytes() for file in office.path.parent.iterdir())
    for one, other in zip(keys, after, strict=True):
        assert one is not None
        assert other is not None
        assert one.certificate == other.certificate
        secret = one.key.private_numbers().private_value.to_bytes(32, "big")
        assert one.key.private_numbers() == other.key.private_numbers()
        assert secret not in content


def test_a_root_key_is_exported_taken_off_and_brought_back(office: Office) -> None:
    authority = office.registry.authority
    with pytest.raises(Conflict):
        authority.export_root(PASSPHRASE)
    authority.ensure(NOW)
    with pytest.raises(Invalid, match="12 characters"):
        authority.export_root("short")
    exported = authority.export_root(PASSPHRASE)
    assert load_pem_private_key(exported.encode(), PASSPHRASE.encode())
    authority.remove_root_key()
    authority = office.again().authority
    assert not authority.root_key_here()
    office.registry.certificates.issue(office.thing, NOW, "users/u")  # the issuing authority goes on
    for call in (lambda: authority.roll_over(NOW), authority.remove_root_key):
        with pytest.raises(Conflict, match="not on the gateway"):
            call()
    with pytest.raises(Invalid, match="passphrase is wrong"):
        authority.return_root_key(exported, "wrong passphrase")
    other = profile.make_root("Else", (), NOW)
    with pytest.raises(Invalid, match="not the key of the gateway's root"):
        authority.return_root_key(profile.key_pem(other.key), "")
    assert authority.roll_over(NOW, exported, PASSPHRASE).certificate.subject.rfc4514_string()[:12] == (
        "CN=issuing 2"
    )
    assert not authority.root_key_here(), "it was used and not kept"
    authority.return_root_key(exported, PASSPHRASE)
    assert authority.root_key_here()


def test_what_an_earlier_issuing_authority_signed_stays_trusted(office: Office) -> None:
    authority = office.registry.authority
    first = authority.ensure(NOW)
    second = authority.roll_over(NOW + 5)
    assert authority.issuing == second
    assert [held.certificate for held in (first, second)] == [
        each.certificate for each in authority.generations()
    ]
    assert {first.certificate, second.certificate} <= set(authority.trusted())


def test_the_gateways_certificate_is_due_for_names_an_authority_and_its_end(office: Office) -> None:
    authority = office.registry.authority
    authority.names = Names(("gw.local", "localhost"), ("127.0.0.1", "10.0.0.5"))
    assert authority.server_is_due(NOW, trusted=True)
    authority.new_server(NOW)

    def due(at_s: float = NOW, *, trusted: bool = True) -> bool:
        return authority.server_is_due(at_s, trusted=trusted)

    assert not due()
    assert due(NOW + 300 * DAY_S)
    assert not due(NOW + 300 * DAY_S, trusted=False), "by a clock that may be wrong nothing ends"
    assert due(NOW - 400 * DAY_S), "it was made by a clock that was ahead"
    authority.names = Names(("gw.local", "localhost"), ("127.0.0.1", "10.0.0.6"))
    assert due()
    authority.new_server(NOW)
    authority.roll_over(NOW)
    assert due()
    authority.new_server(NOW)
    authority.names = Names(("renamed.local", "localhost"), ("127.0.0.1", "10.0.0.6"))
    assert due()
    held = authority.new_server(NOW)
    assert profile.names_of(held.certificate).hosts == ("renamed.local", "localhost")
    assert len(authority.generations()) == 3, "an issuing authority that may name it followed"
    assert len([each for each in authority._held.values() if each.role == "server"]) == 1
    assert not due()


def test_without_the_root_key_the_gateway_keeps_the_names_it_may_have(office: Office) -> None:
    authority = office.registry.authority
    authority.names = Names(("gw.local", "localhost"), ("127.0.0.1",))
    authority.new_server(NOW)
    authority.remove_root_key()
    authority.names = Names(("renamed.local", "localhost"), ("127.0.0.1",))
    held = authority.new_server(NOW)
    assert profile.names_of(held.certificate).hosts == ("localhost",)
    assert not authority.server_is_due(NOW, trusted=True)


def test_an_issuing_authority_asks_to_be_followed_in_time(office: Office) -> None:
    authority = office.registry.authority
    assert authority.warnings(NOW) == []
    authority.ensure(NOW)
    assert authority.warnings(NOW) == []
    assert "followed" in authority.warnings(NOW + 16 * YEAR_S)[0]


def test_with_another_server_key_a_new_root_is_made_and_said(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    first = office.registry.authority.ensure(NOW)
    authority = office.again(ServerKey(b"n" * 32)).authority
    second = authority.ensure(NOW)
    assert second.certificate.issuer != first.certificate.issuer
    assert "a new root is made" in caplog.text
    assert first.certificate in authority.trusted(), "what it has signed is known all the same"


def test_where_the_root_is_off_line_a_lost_issuing_key_asks_for_it(office: Office) -> None:
    office.registry.authority.ensure(NOW)
    office.registry.authority.remove_root_key()
    authority = office.again(ServerKey(b"n" * 32)).authority
    with pytest.raises(Conflict, match="bring it back"):
        authority.ensure(NOW)


def test_authorities_of_others_come_and_go(office: Office) -> None:
    authority = office.registry.authority
    theirs = profile.make_root("Plant", (), NOW).certificate
    changed: list[str] = []
    authority.on_server_change = lambda: changed.append("x")
    held = authority.add_foreign(profile.pem([theirs]), NOW)[0]
    assert changed == ["x"]
    assert authority.of_foreign(profile.der(theirs))
    with pytest.raises(Conflict):
        authority.add_foreign(profile.pem([theirs]), NOW)
    authority = office.again().authority
    assert authority.of_foreign(profile.der(theirs))
    authority.remove_foreign(held.id)
    assert not authority.of_foreign(profile.der(theirs))
    for number in (held.id, 999):
        with pytest.raises(NotFound):
            authority.remove_foreign(number)


def test_only_authorities_are_imported(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    made = office.registry.certificates.issue(office.thing, NOW, "users/u")
    for text, words in (
        ("", "no certificate"),
        ("x" * (module.MAX_PEM + 1), "at most"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no certificate"),
        (made.chain, "not that of an authority"),
    ):
        with pytest.raises(Invalid, match=words):
            authorities_of(text)
    monkeypatch.setattr(module, "MAX_FOREIGN", 0)
    with pytest.raises(Invalid, match="at most 0"):
        office.registry.authority.add_foreign(profile.pem([profile.make_root("x", (), NOW).certificate]), NOW)
    monkeypatch.setattr(module, "MAX_ISSUING", 1)
    with pytest.raises(Invalid, match="at most 1"):
        office.registry.authority.roll_over(NOW)
