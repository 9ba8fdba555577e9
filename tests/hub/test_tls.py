"""Who may come in over TLS, the first and the second time, and what a bad file is told."""

from __future__ import annotations

import socket
import ssl
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from hub.authority.judge import thing_of
from hub.tls import TlsError, server_context
from tests.hub.pki import Authority, Pair

VERSIONS = [
    pytest.param(ssl.TLSVersion.TLSv1_2, id="TLS 1.2"),
    pytest.param(ssl.TLSVersion.TLSv1_3, id="TLS 1.3"),
]
Certify = Callable[[Authority, Authority], Pair | None]


class Outcome(NamedTuple):
    thing: str | None  # as the server sees it
    resumed: bool
    session: ssl.SSLSession | None  # the client's, for the next time


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "stranger")


def client_context(
    authority: Authority, pair: Pair | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority.cert)
    context.maximum_version = version
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # so that it can hold what the server is to refuse
    if pair is not None:
        context.load_cert_chain(pair.cert, pair.key)
    return context


def named(encoded: bytes | None) -> str | None:
    return thing_of(x509.load_der_x509_certificate(encoded)) if encoded else None


def meet(
    server: ssl.SSLContext, client: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> Outcome | None:
    """One connection with one byte each way; None where the server did not let the client in."""
    near, far = socket.socketpair()
    seen: list[tuple[str | None, bool]] = []

    def serve() -> None:
        try:
            with server.wrap_socket(far, server_side=True) as wrapped:
                wrapped.recv(1)
                seen.append((named(wrapped.getpeercert(True)), bool(wrapped.session_reused)))
                wrapped.send(b"s")
                wrapped.recv(1)
        except (ssl.SSLError, ConnectionError):
            far.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(near, server_hostname="127.0.0.1", session=session) as wrapped:
            wrapped.send(b"c")
            wrapped.recv(1)
            session = wrapped.session
    except (ssl.SSLError, ConnectionError):
        near.close()
    thread.join()
    return Outcome(*seen[0], session) if seen else None


@pytest.mark.parametrize("version", VERSIONS)
def test_a_certificate_of_the_authority_names_its_thing_each_time(
    authority: Authority, version: ssl.TLSVersion
) -> None:
    gateway, thing = authority.server(), authority.issue("thing-1")
    server = server_context(
        gateway.cert, gateway.key, client_ca_file=authority.cert, client_cert_required=True
    )
    client = client_context(authority, thing, version)
    first = meet(server, client)
    assert first is not None
    second = meet(server, client, first.session)
    assert second is not None
    assert (first.thing, second.thing) == ("thing-1", "thing-1")
    assert (first.resumed, second.resumed) == (False, False)


@pytest.mark.parametrize("version", VERSIONS)
def test_sessions_are_resumed_where_no_certificate_is_looked_at(
    authority: Authority, version: ssl.TLSVersion
) -> None:
    """The negative control of the test above: the same client does resume where the server lets it."""
    gateway = authority.server()
    server = server_context(gateway.cert, gateway.key)
    client = client_context(authority, None, version)
    first = meet(server, client)
    assert first is not None
    second = meet(server, client, first.session)
    assert second is not None
    assert (first.resumed, second.resumed) == (False, True)


def namesake(ours: Authority) -> Authority:
    folder = ours.folder / "namesake"
    folder.mkdir(exist_ok=True)
    return Authority(folder)


def self_signed(theirs: Authority) -> Pair:
    return Pair(theirs.cert, theirs.key_file())


def weak_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 1024)


BAD: list[Any] = [
    pytest.param(lambda ours, theirs: None, id="no certificate"),
    pytest.param(lambda ours, theirs: ours.issue("t", from_days=-9, to_days=-1), id="expired"),
    pytest.param(lambda ours, theirs: ours.issue("t", from_days=1, to_days=9), id="not yet valid"),
    pytest.param(lambda ours, theirs: theirs.issue("t"), id="of another authority"),
    pytest.param(lambda ours, theirs: ours.issue("t", server=True), id="made for servers"),
    pytest.param(
        lambda ours, theirs: namesake(ours).issue("t"), id="of another authority with the same name"
    ),
    pytest.param(lambda ours, theirs: self_signed(theirs), id="self-signed"),
    pytest.param(lambda ours, theirs: ours.issue_beyond_rights("t"), id="signed by a client"),
    pytest.param(lambda ours, theirs: ours.issue("t", key=weak_key()), id="RSA of 1024 bits"),
]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("certify", BAD)
def test_a_bad_certificate_is_refused_the_first_and_the_second_time(
    authority: Authority, stranger: Authority, certify: Certify, version: ssl.TLSVersion
) -> None:
    gateway = authority.server()
    server = server_context(
        gateway.cert, gateway.key, client_ca_file=authority.cert, client_cert_required=True
    )
    client = client_context(authority, certify(authority, stranger), version)
    assert meet(server, client) is None
    assert meet(server, client) is None


@pytest.mark.parametrize("certify", BAD[1:])
def test_a_bad_certificate_is_refused_where_none_would_have_done(
    authority: Authority, stranger: Authority, certify: Certify
) -> None:
    gateway = authority.server()
    server = server_context(gateway.cert, gateway.key, client_ca_file=authority.cert)
    assert meet(server, client_context(authority, certify(authority, stranger))) is None
    without = meet(server, client_context(authority, None))
    assert without is not None
    assert without.thing is None


def test_a_session_of_one_context_opens_no_other(authority: Authority, stranger: Authority) -> None:
    """Whoever came in where no certificate is asked for cannot carry that over to where one is."""
    gateway = authority.server()
    lax = server_context(gateway.cert, gateway.key)
    strict = server_context(
        gateway.cert, gateway.key, client_ca_file=authority.cert, client_cert_required=True
    )
    client = client_context(authority, None)
    first = meet(lax, client)
    assert first is not None
    assert meet(strict, client, first.session) is None


@pytest.mark.parametrize("name", ["TLSv1", "TLSv1_1"])
def test_older_tls_is_refused(authority: Authority, name: str) -> None:
    gateway = authority.server()
    server = server_context(gateway.cert, gateway.key)
    client = client_context(authority, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        client.minimum_version = client.maximum_version = ssl.TLSVersion[name]
    client.set_ciphers("ALL:@SECLEVEL=0")
    assert meet(server, client) is None
    lax = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    lax.load_cert_chain(gateway.cert, gateway.key)
    lax.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        lax.minimum_version = ssl.TLSVersion[name]
    assert meet(lax, client) is not None  # the client is able to; it is our context that refuses


def test_openssl_negotiates_a_cipher_with_forward_secrecy(authority: Authority) -> None:
    gateway = authority.server()
    weak = [
        cipher["name"]
        for cipher in server_context(gateway.cert, gateway.key).get_ciphers()
        if not cipher["name"].startswith(("TLS_", "ECDHE", "DHE"))
    ]
    assert weak == []


def test_a_uri_in_a_real_certificate_names_the_thing(authority: Authority) -> None:
    gateway = authority.server()
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier("urn:fluxgate:thing:thing-7")]
    pair = authority.issue("", names=names)
    server = server_context(gateway.cert, gateway.key, client_ca_file=authority.cert)
    outcome = meet(server, client_context(authority, pair))
    assert outcome is not None
    assert outcome.thing == "thing-7"


def test_bad_files_are_named(authority: Authority, tmp_path: Path) -> None:
    gateway, other = authority.server(), authority.server("other")
    text, missing, sealed = tmp_path / "text.pem", tmp_path / "missing.pem", tmp_path / "sealed.key"
    text.write_text("no PEM here\n")
    sealed.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
        )
    )
    for cert, key, more, words in (
        (missing, gateway.key, {}, "missing.pem cannot be read: No such file"),
        (gateway.cert, missing, {}, "missing.pem cannot be read"),
        (tmp_path, gateway.key, {}, "cannot be read: Is a directory"),
        (text, gateway.key, {}, "text.pem holds no certificate"),
        (gateway.cert, text, {}, "text.pem holds no private key"),
        (gateway.cert, sealed, {}, "sealed.key: the key is encrypted"),
        (gateway.cert, other.key, {}, "is not the key of the certificate"),
        (gateway.cert, gateway.key, {"client_ca_file": missing}, "missing.pem cannot be read"),
        (gateway.cert, gateway.key, {"client_ca_file": text}, "text.pem holds no certificate"),
        (gateway.cert, gateway.key, {"client_cert_required": True}, "no file names their authorities"),
    ):
        with pytest.raises(TlsError, match=words):
            server_context(cert, key, **more)  # type: ignore[arg-type]


def test_a_key_too_weak_for_openssl_is_named(authority: Authority) -> None:
    weak = authority.issue("weak", server=True, key=weak_key())
    with pytest.raises(TlsError, match=r"weak\.pem cannot be used for TLS"):
        server_context(weak.cert, weak.key)
