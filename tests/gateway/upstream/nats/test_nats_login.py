"""Logging in to a real nats-server: passwords, tokens, keys, credentials, TLS; and what is said when it fails."""

import asyncio
import base64
import binascii
import json
import re
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway import nats_place
from gateway.nats_source import NatsSource, NatsSourceConfig
from gateway.upstream import nats_link
from gateway.upstream.errors import SinkError, SinkOffline, SinkRefused
from gateway.upstream.nats_config import NatsServers, NatsSinkConfig, StreamSettings
from gateway.upstream.nats_keys import NatsKey, read_creds
from gateway.upstream.refusals import MIGRATIONS
from hub import wire
from hub.hub import Hub
from hub.message import TimeQuality

GATEWAY = "0102030405060708"

# An example of the NATS documentation ("Nkeys"): seed and public key of a user
SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
PUBLIC = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"


def key_text(kind: int, secret: bytes, *, seed: bool) -> str:
    """A key as NATS writes it: what it is, 32 bytes, check sum, in base32."""
    first = bytes([18 << 3 | kind >> 5, (kind & 31) << 3]) if seed else bytes([kind])
    body = first + secret
    return base64.b32encode(body + binascii.crc_hqx(body, 0).to_bytes(2, "little")).decode().rstrip("=")


async def outcome(sink) -> SinkError | None:
    try:
        await sink.open(lambda: None)
    except SinkError as error:
        return error
    finally:
        await sink.close()
    return None


def test_a_published_seed_has_the_published_key() -> None:
    assert NatsKey(SEED).public == PUBLIC
    assert SEED not in repr(NatsKey(SEED))


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param("", id="empty"),
        pytest.param(SEED[:-1] + "A", id="check sum"),
        pytest.param(SEED[:-8], id="short"),
        pytest.param("SU0!", id="no base32"),
        pytest.param(key_text(0, bytes(32), seed=True), id="of an account"),
        pytest.param(PUBLIC, id="a public key"),
    ],
)
def test_what_is_no_seed_of_a_user_is_refused(seed: str) -> None:
    with pytest.raises(ValueError, match="no NATS seed"):
        NatsKey(seed)


LOGINS = {
    "password": (
        'authorization { users = [ {user: gw, password: "right"} ] }',
        {"username": "gw", "password": "right"},
        {"username": "gw", "password": "wrong"},
    ),
    "token": ('authorization { token: "right" }', {"token": "right"}, {"token": "wrong"}),
}


@pytest.mark.parametrize("way", LOGINS)
def test_the_right_login_is_admitted_and_the_wrong_one_is_said(start_nats, sink_to, way) -> None:
    setting, right, wrong = LOGINS[way]
    server = start_nats(setting)
    assert asyncio.run(outcome(sink_to(server, cluster=right))) is None
    for login in (wrong, {}):
        error = asyncio.run(outcome(sink_to(server, cluster=login)))
        assert isinstance(error, SinkRefused)
        assert "does not accept this user" in error.words


def test_a_user_with_a_key_signs_what_the_server_asks(start_nats, sink_to, tmp_path) -> None:
    server = start_nats(f"authorization {{ users = [ {{nkey: {PUBLIC}}} ] }}")
    for seed, admitted in ((SEED, True), (key_text(20 << 3, bytes(32), seed=True), False)):
        path = tmp_path / "user.nk"
        path.write_text(seed + "\n")
        error = asyncio.run(outcome(sink_to(server, cluster={"nkey_file": str(path)})))
        assert (error is None) is admitted
    error = asyncio.run(outcome(sink_to(server, cluster={"nkey_file": str(tmp_path / "none")})))
    assert error is not None
    assert "none cannot be used" in error.words


class Signer:
    """An operator or account that signs JWTs the way NATS 2 does (alg ed25519-nkey)."""

    def __init__(self, kind: int) -> None:
        self.private = Ed25519PrivateKey.generate()
        raw = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.public = key_text(kind, raw, seed=False)

    def sign(self, subject: str, claims: dict, exp: int = 0) -> str:
        body = {"jti": "1", "iat": 1_700_000_000, "iss": self.public, "sub": subject, "nats": claims}
        if exp:
            body["exp"] = exp
        parts = [encoded({"typ": "JWT", "alg": "ed25519-nkey"}), encoded(body)]
        signature = self.private.sign(".".join(parts).encode())
        return ".".join([*parts, base64.urlsafe_b64encode(signature).decode().rstrip("=")])


def encoded(value: dict) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def account_claims(*, jetstream: bool) -> dict:
    limits = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
    if jetstream:
        limits |= dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)
    return {"type": "account", "version": 2, "limits": limits | {"wildcards": True}}


@pytest.mark.parametrize("expired", [False, True])
def test_a_creds_file_logs_in_until_it_expires(start_nats, sink_to, tmp_path, expired) -> None:
    operator, account, system, user = (Signer(kind << 3) for kind in (14, 0, 0, 20))
    server = start_nats(
        f"operator: {operator.sign(operator.public, {'type': 'operator', 'version': 2})}",
        "resolver: MEMORY",
        f"system_account: {system.public}",
        "resolver_preload: {",
        f"{account.public}: {operator.sign(account.public, account_claims(jetstream=True))}",
        f"{system.public}: {operator.sign(system.public, account_claims(jetstream=False))}",
        "}",
    )
    jwt = account.sign(
        user.public,
        {"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1},
        exp=1_700_000_001 if expired else 0,
    )
    seed = key_text(20 << 3, user.private.private_bytes_raw(), seed=True)
    path = tmp_path / "gateway.creds"
    path.write_text(
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
    assert read_creds(str(path))[1].public == user.public
    error = asyncio.run(outcome(sink_to(server, cluster={"creds_file": str(path)})))
    assert (error is not None) is expired
    if error is not None:
        assert isinstance(error, SinkRefused)


def test_a_creds_file_without_a_key_is_said(nats_server, sink_to, tmp_path) -> None:
    path = tmp_path / "broken.creds"
    path.write_text("-----BEGIN NATS USER JWT-----\nabc\n")
    error = asyncio.run(outcome(sink_to(nats_server, cluster={"creds_file": str(path)})))
    assert isinstance(error, SinkRefused)
    assert "JWT and its seed" in error.words


@pytest.fixture
def certificates(tmp_path):
    """An authority, a server's and a client's certificate, made by openssl."""

    def run(*words: str) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=tmp_path)

    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    run(*new, "-x509", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2")
    for name in ("server", "client"):
        run(*new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (tmp_path / "names").write_text("subjectAltName=IP:127.0.0.1\n")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
        run("x509", "-req", "-in", f"{name}.csr", *signed, "-extfile", "names", "-out", f"{name}.pem")
    return tmp_path


def tls_setting(folder, more: str = "") -> str:
    return f'tls {{ cert_file: "{folder}/server.pem", key_file: "{folder}/server.key", {more} }}'


@pytest.mark.parametrize("first", [False, True], ids=["after INFO", "at once"])
def test_tls_is_spoken_with_a_server_of_a_known_authority(
    start_nats, sink_to, certificates, open_log, relay_to, running, until, message, first
) -> None:
    server = start_nats(tls_setting(certificates, "handshake_first: true" if first else ""))
    cluster = {"tls": True, "tls_first": first, "ca_file": f"{certificates}/ca.pem"}

    async def main() -> None:
        log = open_log()
        relay = relay_to(log, sink_to(server, cluster=cluster))
        async with running(relay):
            seqs = await log.append([message(n) for n in range(100)])
            await until(lambda: log.cursor("upstream/fleet") == seqs[-1])
        await log.close()

    asyncio.run(main())


def test_a_server_of_an_unknown_authority_is_refused(start_nats, sink_to, certificates) -> None:
    server = start_nats(tls_setting(certificates))
    error = asyncio.run(outcome(sink_to(server, cluster={"tls": True})))
    assert isinstance(error, SinkRefused)
    assert "certificate not trusted" in error.words


def test_a_client_certificate_is_shown_where_it_is_asked_for(start_nats, sink_to, certificates) -> None:
    server = start_nats(tls_setting(certificates, f'ca_file: "{certificates}/ca.pem", verify: true'))
    trusted = {"tls": True, "ca_file": f"{certificates}/ca.pem"}
    shown = {"cert_file": f"{certificates}/client.pem", "key_file": f"{certificates}/client.key"}
    assert asyncio.run(outcome(sink_to(server, cluster=trusted | shown))) is None
    assert asyncio.run(outcome(sink_to(server, cluster=trusted))) is not None


def test_no_password_goes_to_a_server_that_offers_no_tls() -> None:
    heard = bytearray()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.10.0","max_payload":1048576,"headers":true}\r\n')
        heard.extend(await reader.read())
        writer.close()

    async def main() -> SinkError | None:
        server = await asyncio.start_server(listen, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        cluster = NatsServers((f"127.0.0.1:{port}",), username="gw", password="secret")
        link = nats_link.NatsLink(cluster, GATEWAY, on_lost=lambda: None)
        with pytest.raises(SinkRefused, match="does not speak TLS"):
            await link.open("127.0.0.1", port)
        server.close()
        await server.wait_closed()

    asyncio.run(main())
    assert b"secret" not in heard


def test_nobody_listening_and_something_else_listening_are_said(cluster_of, sink_to, unused_port) -> None:
    async def something_else(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2p1\r\n")
        writer.close()

    async def main() -> None:
        link = nats_link.NatsLink(NatsServers(("x",), tls=False), GATEWAY, on_lost=lambda: None)
        with pytest.raises(SinkOffline, match=f"nothing answers at 127.0.0.1 port {unused_port}"):
            await link.open("127.0.0.1", unused_port)
        server = await asyncio.start_server(something_else, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        link = nats_link.NatsLink(NatsServers(("x",), tls=False), GATEWAY, on_lost=lambda: None)
        with pytest.raises(SinkRefused, match="nothing that a NATS server says"):
            await link.open("127.0.0.1", port)
        server.close()
        await server.wait_closed()

    asyncio.run(main())


RIGHTS = """authorization {{ users = [
  {{user: admin, password: admin}}
  {{user: gw, password: gw, permissions: {{
    publish: {{allow: [{publish}]}}, subscribe: {{allow: ["_INBOX.{gateway}.>"]}} }} }}
] }}"""
ADMIN = {"user": "admin", "password": "admin"}


def rights(*publish: str) -> str:
    return RIGHTS.format(publish=", ".join(f'"{each}"' for each in publish), gateway=GATEWAY)


def test_the_fewest_rights_that_serve_are_one_channel_and_its_own_inbox(
    start_nats, sink_to, open_log, relay_to, running, until, message, plain_client, stream_of
) -> None:
    server = start_nats(rights("channels.mine.>", "channels.mine"))

    async def main() -> None:
        log = open_log()
        async with plain_client(server, **ADMIN) as client:
            await client.jetstream().add_stream(name="channels", subjects=["channels.>"])
        login = {"username": "gw", "password": "gw"}
        async with running(relay_to(log, sink_to(server, cluster=login))):
            seqs = await log.append([message(n, channel="mine", subtopic="a") for n in range(20)])
            await until(lambda: log.cursor("upstream/fleet") == seqs[-1])
        assert len(await stream_of(server, **ADMIN)) == 20
        await log.close()

    asyncio.run(main())


def test_the_rights_in_the_documentation_serve_to_send_and_to_receive(
    start_nats, sink_to, cluster_of, open_log, relay_to, running, until, message, plain_client, tmp_path
) -> None:
    page = (Path(__file__).parents[4] / "docs" / "scale.md").read_text()
    block = page[page.index("permissions: {") :].partition("```")[0].replace("0016c001f10a0b0c", GATEWAY)
    (mine, theirs) = dict.fromkeys(re.findall(r'"channels\.([0-9a-f-]{36})"', block))
    server = start_nats(
        f"authorization {{ users = [ {{user: admin, password: admin}}\n{{user: gw, password: gw\n{block}}} ] }}"
    )
    login = {"username": "gw", "password": "gw"}

    async def main() -> None:
        hub = Hub.open(tmp_path / "hub", migrations=(*nats_place.MIGRATIONS, *MIGRATIONS))
        for each in (mine, theirs):
            hub.registry.create_channel(each, id=each)
        config = NatsSourceConfig("fleet", cluster_of(server, **login))
        source = NatsSource(hub, config, GATEWAY)
        async with plain_client(server, **ADMIN) as client:
            await client.jetstream().add_stream(name="channels", subjects=["channels.>"])
            relay = relay_to(hub.log, sink_to(server, cluster=login))
            hub.log.correct("b-1", 1, TimeQuality.NTP)
            async with running(relay), running(source):
                await hub.log.append([message(n, channel=mine, subtopic="a") for n in range(10)])
                command = wire.encode(message(99, channel=theirs, seq=1), "another")
                await client.jetstream().publish(f"channels.{theirs}", command)
                await until(lambda: relay.status().delivered == 10 and source.status().stored == 1)
            again = NatsSource(hub, config, GATEWAY)  # goes on with the consumer there is
            async with running(again):
                await until(lambda: again.status().state.value == "connected")
            info = await client.jetstream().stream_info("channels")
            assert info.state.messages == 12
        await hub.close()

    asyncio.run(main())


def test_a_channel_without_rights_holds_the_queue_for_a_while_and_is_then_passed_over(
    start_nats, sink_to, open_log, relay_to, running, until, message, plain_client, stream_of
) -> None:
    server = start_nats(rights("channels.Mine"))

    async def main() -> None:
        log = open_log()
        async with plain_client(server, **ADMIN) as client:
            await client.jetstream().add_stream(name="channels", subjects=["channels.>"])
        login = {"username": "gw", "password": "gw"}
        names = ["Mine", "Theirs", "Mine", "Theirs", "Mine"]
        seqs = await log.append([message(n, channel=name) for n, name in enumerate(names)])
        holding = relay_to(log, sink_to(server, cluster=login))
        async with running(holding):
            await until(lambda: holding.status().state.value == "refused")
            words = "does not let this user publish to channels.Theirs"
            assert words in holding.status().detail
            assert holding.status().rejected == 0
        passing = relay_to(log, sink_to(server, cluster=login, refusal_hold_s=0))
        async with running(passing):
            await until(lambda: log.cursor("upstream/fleet") == seqs[-1])
            assert passing.status().rejected == 2
            assert words in passing.status().rejected_detail
        stored = [each.id for each in await stream_of(server, **ADMIN)]
        assert stored == [f"{GATEWAY}/{seqs[n]}" for n in (0, 2, 4)]
        await log.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "settings",
    [
        {"servers": ()},
        {"servers": ("http://x",)},
        {"servers": ("x:0",)},
        {"servers": ("x:65536",)},
        {"cert_file": "a"},
        {"tls": False, "ca_file": "a"},
        {"password": "a"},
        {"token": "a", "username": "b"},
        {"domain": "a b"},
        {"keepalive_s": 1},
    ],
)
def test_servers_that_cannot_work_are_refused(settings) -> None:
    with pytest.raises(ValueError, match=" "):
        NatsServers(**({"servers": ("x",)} | settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"stream": "a.b"},
        {"replicas": 2},
        {"max_age_s": -1},
        {"duplicate_window_s": 0},
        {"max_age_s": 60, "duplicate_window_s": 61},
    ],
)
def test_a_stream_that_cannot_work_is_refused(settings) -> None:
    with pytest.raises(ValueError, match=" "):
        StreamSettings(**settings)


@pytest.mark.parametrize("settings", [{"subject": "a.>"}, {"inflight": 0}, {"refusal_hold_s": -1}])
def test_a_sink_that_cannot_work_is_refused(settings) -> None:
    with pytest.raises(ValueError, match=" "):
        NatsSinkConfig("fleet", NatsServers(("x",)), **settings)


def test_addresses_may_be_written_in_several_ways() -> None:
    servers = NatsServers(("a", "b:1", "nats://c:2", "tls://d", "[::1]:3"))
    assert servers.addresses() == [("a", 4222), ("b", 1), ("c", 2), ("d", 4222), ("::1", 3)]
