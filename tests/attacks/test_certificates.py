"""Wrong client certificates at every door over TLS, at the first and the second connection: none gets in.

The attacker has what he can have at worst: the issuing authority's key, a device's key, authorities of his own with
our names, a certificate that was taken back. Each refusal is in the audit log once, with a reason a technician
understands.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from hub.authority import doorkeeper
from hub.authority.judge import Shown
from hub.authority.profile import DAY_S, Names, Pair, make_issuing, make_root, new_organisation
from hub.http.door import HttpDoor
from hub.message import TimeQuality
from hub.tls import door_context, load_pem
from tests.attacks.wrong_certificates import (
    CODE,
    SERVER,
    Hand,
    Recipe,
    Signer,
    altered,
    by_openssl,
    key,
    key_identifier,
    key_pem,
    name,
    public_address,
)

DOORS = ("mqtt", "mqtt 5", "https", "wss", "mqtt over wss")
NOW = 1_800_000_000.0  # 2027
THEN = datetime.datetime.fromtimestamp(NOW, datetime.UTC)


@dataclass
class Scene:
    """A site with TLS doors, and what the attacker knows and holds."""

    site: Any
    folder: Path
    context: ssl.SSLContext
    ports: dict[str, int]
    thing: str  # what he would like to be
    real: Hand  # a certificate of this thing that counts
    mine: str  # a thing of his own
    own: Hand  # with a certificate of its own
    issuing: Pair
    configured: Pair  # a foreign authority that the settings name
    now_s: float = NOW
    made: int = 0

    @property
    def organisation(self) -> str:
        root = self.issuing.certificate.issuer
        return str(root.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)[0].value)

    def recipe(self, *common_names: str, **more: Any) -> Recipe:
        """A certificate for the thing he wants to be, in the authority's own form."""
        subject = name(self.organisation, *(common_names or (self.thing,)))
        more.setdefault("things", (self.thing,))
        return Recipe(subject, **more)

    def forged(self, recipe: Recipe, signer: Signer | None = None, *more: x509.Certificate) -> Hand:
        """Signed with the stolen key of the issuing authority, unless `signer` says otherwise."""
        return Hand([recipe.signed_by(signer or Signer.of(self.issuing), THEN), *more], recipe.key)

    def self_signed(self, recipe: Recipe) -> Hand:
        return Hand([recipe.signed_by(None, THEN)], recipe.key)

    def foreign(self, *more: x509.Certificate, signer: Signer | None = None, **recipe: Any) -> Hand:
        """Of the authority that the settings name."""
        subject = recipe.pop("subject", None) or name("", self.thing)
        made = Recipe(subject, **recipe)
        return Hand([made.signed_by(signer or Signer.of(self.configured), THEN), *more], made.key)

    async def issued(self, thing: str, **more: Any) -> tuple[str, Hand]:
        certificates = self.site.hub.registry.certificates
        made = await asyncio.to_thread(certificates.issue, thing, more.pop("now_s", NOW), "users/x", **more)
        return made.certificate.serial, hand_of(made)


def hand_of(made: Any) -> Hand:
    loaded = serialization.load_pem_private_key(made.key.encode(), None)
    return Hand(x509.load_pem_x509_certificates(made.chain.encode()), loaded)


def authority_of(common_name: str) -> Pair:
    """An authority as others have it, without name constraints."""
    made = Recipe(name("", common_name), usage="key_cert_sign", authority=True, uses=(), key=key("P-256", 9))
    return Pair(made.signed_by(None, THEN), made.key)


@asynccontextmanager
async def scene_of(site: Any, folder: Path) -> AsyncIterator[Scene]:
    """TLS doors beside the site's own, by a clock that is right."""
    hub = site.hub
    hub.clock = lambda: (int(scene.now_s * 1e9), TimeQuality.NTP)
    registry, device = hub.registry, site.device
    registry.authority.names = Names(("gateway.local", "localhost"), ("127.0.0.1",))
    registry.authority.new_server(NOW)
    configured = authority_of("Plant authority")
    file = folder / "configured.pem"
    file.write_bytes(configured.certificate.public_bytes(Encoding.PEM))
    context = door_context(registry.authority.trusted(), client_ca_file=file)
    server, issuing = registry.authority.server, registry.authority.issuing
    pair = registry.authority.key_of(server)
    encoded = [each.certificate.public_bytes(Encoding.PEM) for each in (server, issuing)]
    load_pem(context, b"".join(encoded).decode() + key_pem(pair.key).decode())
    https = HttpDoor(hub, site.app, ssl=context)
    await https.start()
    port = await site.mqtt.listen("127.0.0.1", 0, ssl=context)
    ports = {door: port if door in ("mqtt", "mqtt 5") else https.port for door in DOORS}
    mine, _ = registry.create_thing("mine")
    stolen = registry.authority.key_of(issuing)
    empty = Hand([], key())
    scene = Scene(site, folder, context, ports, device.id, empty, mine.id, empty, stolen, configured)
    _, scene.real = await scene.issued(device.id)
    _, scene.own = await scene.issued(mine.id)
    try:
        yield scene
    finally:
        await https.close()


# Clients. Each answers whether it got in; they block, and run in a thread.


def client_of(scene: Scene, hand: Hand, version: ssl.TLSVersion) -> ssl.SSLContext:
    scene.made += 1
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = version
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # so that it can hold what the doors are to refuse
    context.load_cert_chain(hand.write(scene.folder / f"client-{scene.made}.pem"))
    return context


def enters(
    scene: Scene, door: str, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[bool, ssl.SSLSession | None]:
    """Connect, say who one is, and see whether the door takes it; and the session for the next time."""
    with socket.create_connection(("127.0.0.1", scene.ports[door]), timeout=20) as plain:
        try:
            with context.wrap_socket(plain, session=session) as secured:
                secured.sendall(_words(scene, door))
                answer = _answer(secured, door)
                return answer, secured.session
        except OSError:
            return False, None


def _words(scene: Scene, door: str) -> bytes:
    channel = scene.site.device.channel
    match door:
        case "mqtt":
            return _connect(4, b"")
        case "mqtt 5":
            return _connect(5, b"\x00")
        case "https":
            body = b'[{"n":"a","v":1}]'
            return (
                f"POST /channels/{channel}/messages HTTP/1.1\r\nHost: a\r\n"
                f"Content-Type: application/senml+json\r\nContent-Length: {len(body)}\r\n\r\n"
            ).encode() + body
    path, protocol = f"/channels/{channel}/messages", ""
    if door == "mqtt over wss":
        path, protocol = "/mqtt", "Sec-WebSocket-Protocol: mqtt\r\n"
    nonce = base64.b64encode(b"0123456789abcdef").decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {nonce}\r\nSec-WebSocket-Version: 13\r\n{protocol}\r\n"
    ).encode()


def _connect(level: int, properties: bytes) -> bytes:
    body = b"\x00\x04MQTT" + bytes([level, 2]) + b"\x00\x3c" + properties + b"\x00\x01c"
    return b"\x10" + bytes([len(body)]) + body


def _answer(secured: ssl.SSLSocket, door: str) -> bool:
    answer = secured.recv(4096)
    if door.startswith("mqtt") and door != "mqtt over wss":
        flags = 2 if answer[1:2] < b"\x80" else 3  # the length before them has one byte or two
        return answer[:1] == b"\x20" and answer[flags + 1 : flags + 2] == b"\0"
    status = answer.split(b" ")[1:2]
    if door == "mqtt over wss" and status == [b"101"]:
        packet = _connect(4, b"")
        masked = bytes(byte ^ b"\x01\x02\x03\x04"[at % 4] for at, byte in enumerate(packet))
        secured.sendall(b"\x82" + bytes([0x80 | len(packet)]) + b"\x01\x02\x03\x04" + masked)
        frame = answer.partition(b"\r\n\r\n")[2] or secured.recv(4096)
        return len(frame) >= 6 and frame[2:3] == b"\x20" and frame[5] == 0
    return status in ([b"202"], [b"101"])


Forge = Callable[[Scene], Any]  # a Hand, or what becomes one


def intermediate(s: Scene, signer: Signer | None = None, **more: Any) -> Signer:
    """An authority below the issuing one, or below `signer`."""
    given = {"usage": "key_cert_sign", "authority": True, "uses": (), "things": ()} | more
    recipe = s.recipe("below", key=key("P-256", 7), **given)
    return Signer(recipe.subject, recipe.key, recipe.signed_by(signer or Signer.of(s.issuing), THEN))


def below(s: Scene, between: Signer, **more: Any) -> Hand:
    assert between.certificate is not None
    return s.forged(s.recipe(**more), between, between.certificate)


def namesake(s: Scene, *, key_id: bool = False) -> Signer:
    """An authority of the attacker's with our issuing authority's name, and where asked for its key identifier."""
    given: dict[str, Any] = {"usage": "key_cert_sign", "authority": True, "uses": (), "key": key("P-256", 8)}
    if key_id:
        given["key_id"] = key_identifier(s.issuing.key)
    recipe = Recipe(s.issuing.certificate.subject, **given)
    return Signer(recipe.subject, recipe.key, recipe.signed_by(None, THEN))


def other_gateway(s: Scene) -> Hand:
    """Everything right, of another gateway."""
    root = make_root(new_organisation(), (), NOW)
    issuing = make_issuing(root, 1, (), NOW)
    recipe = Recipe(name("", s.thing), things=(s.thing,))
    return Hand([recipe.signed_by(Signer.of(issuing), THEN), issuing.certificate], recipe.key)


def as_itself(s: Scene, role: str) -> Hand:
    authority = s.site.hub.registry.authority
    pair = authority.key_of(getattr(authority, role))
    return Hand([pair.certificate], pair.key)


async def revoked(s: Scene) -> Hand:
    serial, hand = await s.issued(s.thing)
    await asyncio.to_thread(s.site.hub.registry.certificates.revoke, [serial], NOW, "the pump was stolen")
    return hand


async def of_removed_thing(s: Scene) -> Hand:
    thing, _ = s.site.hub.registry.create_thing("gone", id="gone-and-back")
    _, hand = await s.issued(thing.id)
    await asyncio.to_thread(s.site.hub.registry.remove_thing, thing.id)
    s.site.hub.registry.create_thing("its namesake", id=thing.id)
    return hand


async def over(s: Scene) -> Hand:
    return (await s.issued(s.thing, now_s=NOW - 10 * DAY_S, life_s=DAY_S))[1]


async def renewed_long_ago(s: Scene) -> Hand:
    """The old certificate, 31 days after the new one was used first."""
    certificates = s.site.hub.registry.certificates
    serial, old = await s.issued(s.thing)
    follower, _ = await s.issued(s.thing, renews=serial)
    await asyncio.to_thread(certificates.note_use, follower, NOW - 31 * DAY_S, trusted=True)
    await asyncio.to_thread(certificates.look, NOW)
    return old


async def of_authority_removed(s: Scene) -> Hand:
    authority = s.site.hub.registry.authority
    imported = authority_of("Imported")
    text = imported.certificate.public_bytes(Encoding.PEM).decode()
    held = await asyncio.to_thread(authority.add_foreign, text, NOW)
    s.context.load_verify_locations(cadata=text)
    await asyncio.to_thread(authority.remove_foreign, held[0].id)
    return s.foreign(signer=Signer.of(imported))


def flipped(encoded: bytes) -> bytes:
    """One bit of the signature."""
    return encoded[:-3] + bytes([encoded[-3] ^ 1]) + encoded[-2:]


# What it is, words of the reason (one of those between bars), and how it is made.
CASES: list[tuple[str, str, Forge]] = [
    *(
        # Made with the stolen key of the issuing authority
        ("unknown serial", "not known here", lambda s: s.forged(s.recipe())),
        ("Ed25519, unknown serial", "not known here", lambda s: s.forged(s.recipe(key=key("Ed25519")))),
        (
            "known serial, another key",
            "another certificate has its serial",
            lambda s: s.forged(s.recipe(serial=s.real.chain[0].serial_number)),
        ),
        (
            "known serial and key, another thing",
            "another certificate has its serial",
            lambda s: s.forged(s.recipe(serial=s.own.chain[0].serial_number, key=s.own.key)),
        ),
        (
            "same subject and key, later end",
            "another certificate has its serial",
            lambda s: s.forged(
                s.recipe(serial=s.real.chain[0].serial_number, key=s.real.key, to_days=9000)
            ),
        ),
        ("serial number 1", "not known here", lambda s: s.forged(s.recipe(serial=1))),
        ("no thing named", "not known here", lambda s: s.forged(s.recipe(things=()))),
        (
            "two things named",
            "more than one thing",
            lambda s: s.forged(s.recipe(things=(s.thing, s.mine))),
        ),
        (
            "two common names",
            "more than one thing",
            lambda s: s.forged(s.recipe(s.thing, s.mine, things=())),
        ),
        ("no end to it", "not known here", lambda s: s.forged(s.recipe(to_days=365 * 900))),
        ("expired forgery", "not known here", lambda s: s.forged(s.recipe(to_days=-1))),
        ("for servers", "not made for clients", lambda s: s.forged(s.recipe(uses=(SERVER,)))),
        ("for code", "not made for clients", lambda s: s.forged(s.recipe(uses=(CODE,)))),
        ("an authority", "authority's certificate", lambda s: s.forged(s.recipe(authority=True))),
        (
            "an authority that signs only",
            "not made for clients|authority's certificate|is refused",
            lambda s: s.forged(s.recipe(authority=True, usage="key_cert_sign")),
        ),
        (
            "below an authority of its own",
            "may not have another authority below",
            lambda s: below(s, intermediate(s)),
        ),
        (
            "below an authority without basicConstraints",
            "is no authority",
            lambda s: below(s, intermediate(s, authority=None)),
        ),
        (
            "below an authority that may not sign",
            "may not sign|is no authority|another authority below",
            lambda s: below(s, intermediate(s, usage="digital_signature")),
        ),
        (
            "signed by a thing",
            "is no authority",
            lambda s: below(s, Signer(s.own.chain[0].subject, s.own.key, s.own.chain[0])),
        ),
        (
            "a host of somebody else",
            "must not name",
            lambda s: s.forged(s.recipe(more_names=(x509.DNSName("example.com"),))),
        ),
        (
            "an address of somebody else",
            "must not name",
            lambda s: s.forged(s.recipe(more_names=(public_address(),))),
        ),
        (
            "another organisation",
            "must not name",
            lambda s: s.forged(Recipe(name("Somebody else", s.thing), things=(s.thing,))),
        ),
        (
            "an extension that nobody knows",
            "is refused",
            lambda s: s.forged(s.recipe(critical=True)),
        ),
        (
            "a key for encryption only",
            "not made for clients|is refused",
            lambda s: s.forged(s.recipe(usage="key_encipherment")),
        ),
        (
            "20 KB",
            "too long",
            lambda s: s.forged(
                s.recipe(more_names=[x509.DNSName(f"{'a' * 50}{i}.gateway.local") for i in range(300)])
            ),
        ),
        (
            "400 KB",
            "too long",
            lambda s: s.forged(
                s.recipe(more_names=[x509.DNSName(f"{'a' * 50}{i}.gateway.local") for i in range(6000)])
            ),
        ),
        ("RSA of 1024 bits", "too weak", lambda s: s.forged(s.recipe(key=key("RSA 1024")))),
        ("P-192", "too weak", lambda s: s.forged(s.recipe(key=key("P-192")))),
        (
            "signed with SHA-1",
            "can be forged|too weak",
            lambda s: Hand(
                [by_openssl(s.folder, s.issuing, key(), f"/O={s.organisation}/CN={s.thing}", "-sha1")], key()
            ),
        ),
        (
            "version 1",
            "not known here",
            lambda s: Hand(
                [by_openssl(s.folder, s.issuing, key(), f"/O={s.organisation}/CN={s.thing}")], key()
            ),
        ),
        # Certificates that were good
        ("revoked", "revoked: the pump was stolen", revoked),
        ("of a thing that was removed and came back", "revoked: the thing was removed", of_removed_thing),
        ("over", "valid until", over),
        ("renewed long ago", "renewed", renewed_long_ago),
        (
            "altered signature",
            "signature is wrong|cannot be read",
            lambda s: Hand([altered(s.real.chain[0], flipped)], s.real.key),
        ),
        (
            "altered name",
            "signature is wrong",
            lambda s: Hand(
                [
                    altered(
                        s.own.chain[0], lambda der: der.replace(s.mine.encode(), s.thing.encode())
                    )
                ],
                s.own.key,
            ),
        ),
        # Certificates of the gateway itself
        ("the issuing authority itself", "is refused", lambda s: as_itself(s, "issuing")),
        ("the root itself", "is refused", lambda s: as_itself(s, "root")),
        ("the gateway's own", "not made for clients", lambda s: as_itself(s, "server")),
        # Authorities of the attacker's
        ("self-signed", "signed by itself", lambda s: s.self_signed(s.recipe())),
        (
            "self-signed with the authority's name",
            "signed by itself|signature is wrong|not among those",
            lambda s: s.self_signed(Recipe(s.issuing.certificate.subject, things=(s.thing,))),
        ),
        (
            "self-signed with the root's name",
            "signed by itself|signature is wrong|not among those",
            lambda s: s.self_signed(Recipe(s.issuing.certificate.issuer, things=(s.thing,))),
        ),
        (
            "of an authority with our name",
            "signature is wrong|not among those|does not trust",
            lambda s: below(s, namesake(s)),
        ),
        (
            "of an authority with our name and key identifier",
            "signature is wrong|not among those|does not trust",
            lambda s: below(
                s,
                namesake(s, key_id=True),
                issuer_key_id=key_identifier(s.issuing.key),
            ),
        ),
        ("of another gateway", "not among those|does not trust", other_gateway),
        ("of an authority that is trusted no longer", "trusted no longer", of_authority_removed),
        # Of the foreign authority that the settings name
        ("foreign, over", "valid until", lambda s: s.foreign(to_days=-1)),
        ("foreign, not yet", "valid from", lambda s: s.foreign(from_days=1)),
        ("foreign, two things", "more than one thing", lambda s: s.foreign(things=(s.thing, s.mine))),
        (
            "foreign, two common names",
            "more than one thing",
            lambda s: s.foreign(subject=name("", s.thing, s.mine)),
        ),
        ("foreign, for servers", "not made for clients", lambda s: s.foreign(uses=(SERVER,))),
        ("foreign, an authority", "authority's certificate", lambda s: s.foreign(authority=True)),
        (
            "foreign, below an authority that is over",
            "an authority in its chain was valid until|an authority in its chain",
            lambda s: below(s, intermediate(s, Signer.of(Pair(s.configured.certificate, s.configured.key)),
                                            to_days=-1)),
        ),
        ("foreign, RSA of 1024 bits", "too weak", lambda s: s.foreign(key=key("RSA 1024"))),
    )
]  # fmt: skip


VERSIONS = {  # in the other version a client does not show such a certificate at all
    "Ed25519, unknown serial": ssl.TLSVersion.TLSv1_3,
    "P-192": ssl.TLSVersion.TLSv1_2,
    "signed with SHA-1": ssl.TLSVersion.TLSv1_2,
}


async def hand_for(scene: Scene, forge: Forge) -> Hand:
    made = forge(scene)
    found = await made if asyncio.iscoroutine(made) else made
    assert isinstance(found, Hand)
    return found


@pytest.mark.parametrize("door", DOORS)
def test_no_wrong_certificate_opens_a_door(site: Any, tmp_path: Path, door: str) -> None:
    async def scenario(s: Any) -> None:
        async with scene_of(s, tmp_path) as scene:
            for number, (title, words, forge) in enumerate(CASES):
                hand = await hand_for(scene, forge)
                version = VERSIONS.get(title, (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2)[number % 2])
                context = client_of(scene, hand, version)
                session = None
                for turn in ("first", "second"):
                    before = len(s.audited())
                    async with s.refused_once("certificate"):
                        entered, session = await asyncio.to_thread(enters, scene, door, context, session)
                        assert not entered, (title, turn)
                    why = s.refusals(before)[-1].detail
                    assert why.startswith("the client certificate is refused: "), (title, why)
                    assert any(word in why for word in words.split("|")), (title, why)

    site(scenario)


def test_there_are_enough_wrong_certificates() -> None:
    assert len(CASES) >= 40
    assert len({title for title, _, _ in CASES}) == len(CASES)


def test_a_right_certificate_opens_every_door_each_time(site: Any, tmp_path: Path) -> None:
    """The negative control: the same clients get in with what is right."""

    async def scenario(s: Any) -> None:
        async with scene_of(s, tmp_path) as scene:
            for hand in (scene.real, scene.foreign(), Hand(scene.real.chain[:1], scene.real.key)):
                for door in DOORS:
                    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                        context = client_of(scene, hand, version)
                        async with s.accepted():
                            entered, session = await asyncio.to_thread(enters, scene, door, context)
                            again, _ = await asyncio.to_thread(enters, scene, door, context, session)
                            assert (entered, again) == (True, True), (door, version)

    site(scenario)


@pytest.mark.parametrize("title", ["unknown serial", "two things named", "revoked"])
def test_without_the_judgement_forgeries_would_get_in(
    site: Any, tmp_path: Path, title: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of what OpenSSL cannot know: take our own check away, and the same hands open doors."""
    thing = ""
    monkeypatch.setattr(doorkeeper, "judge", lambda *_given: Shown(thing))

    async def scenario(s: Any) -> None:
        nonlocal thing
        async with scene_of(s, tmp_path) as scene:
            thing = scene.thing
            forge = next(forge for known, _, forge in CASES if known == title)
            context = client_of(scene, await hand_for(scene, forge), ssl.TLSVersion.TLSv1_3)
            for door in DOORS:
                entered, _ = await asyncio.to_thread(enters, scene, door, context)
                assert entered, door

    site(scenario)


def test_where_its_authority_is_trusted_the_attackers_certificate_would_get_in(
    site: Any, tmp_path: Path
) -> None:
    """The negative control of OpenSSL's part."""

    async def scenario(s: Any) -> None:
        async with scene_of(s, tmp_path) as scene:
            theirs = authority_of("Attacker")
            hand = scene.foreign(signer=Signer.of(theirs))
            context = client_of(scene, hand, ssl.TLSVersion.TLSv1_3)
            assert not (await asyncio.to_thread(enters, scene, "https", context))[0]
            text = theirs.certificate.public_bytes(Encoding.PEM).decode()
            await asyncio.to_thread(s.hub.registry.authority.add_foreign, text, NOW)
            scene.context.load_verify_locations(cadata=text)
            assert (await asyncio.to_thread(enters, scene, "https", context))[0]

    site(scenario)


def test_a_denied_certificate_ends_what_it_has_opened_within_the_same_turn(site: Any, tmp_path: Path) -> None:
    async def scenario(s: Any) -> None:
        async with scene_of(s, tmp_path) as scene:
            registry = s.hub.registry
            serial = f"{scene.real.chain[0].serial_number:032x}"
            context = client_of(scene, scene.real, ssl.TLSVersion.TLSv1_3)
            reader, writer = await asyncio.open_connection("127.0.0.1", scene.ports["mqtt"], ssl=context)
            writer.write(_connect(4, b""))
            assert await reader.readexactly(4) == b"\x20\x02\x00\x00"
            web, web_writer = await asyncio.open_connection("127.0.0.1", scene.ports["wss"], ssl=context)
            web_writer.write(_words(scene, "wss"))
            assert b" 101 " in await web.readuntil(b"\r\n\r\n")
            kept, kept_writer = await asyncio.open_connection("127.0.0.1", scene.ports["https"], ssl=context)
            kept_writer.write(_words(scene, "https"))
            assert b" 202 " in await kept.readuntil(b"\r\n")
            await asyncio.to_thread(registry.certificates.revoke, [serial], NOW, "lost")
            async with asyncio.timeout(10):
                assert await reader.read() == b""
                assert await web.read(1) in (b"", b"\x88")  # closed
            kept_writer.write(_words(scene, "https"))
            rest = await kept.readuntil(b"}")
            while b"HTTP/1.1" not in rest:
                rest += await kept.readuntil(b"\r\n")
            assert b" 401 " in rest + await kept.readuntil(b"\r\n")
            for each in (writer, web_writer, kept_writer):
                each.close()

    site(scenario)


def test_a_request_of_somebody_else_renews_nothing(site: Any, tmp_path: Path) -> None:
    """Only the public key of a request counts, and only with the proof that the private one is there."""

    async def scenario(s: Any) -> None:
        async with scene_of(s, tmp_path) as scene:
            named = name(scene.organisation, scene.thing)  # of somebody else's thing
            request = x509.CertificateSigningRequestBuilder(named).sign(key("P-256", 3), SHA256())
            text = request.public_bytes(Encoding.PEM).decode()
            stolen = bytearray(request.public_bytes(Encoding.DER))
            stolen[-3] ^= 1  # the signature is not that of the key
            unproved = x509.load_der_x509_csr(bytes(stolen)).public_bytes(Encoding.PEM).decode()
            for csr, status in ((text, 201), (unproved, 400)):
                answer = await renewal(scene, scene.own, csr)
                assert answer[0] == status, answer
                if status == 201:
                    made = x509.load_pem_x509_certificate(answer[1]["certificate"].encode())
                    common = made.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
                    assert common == scene.mine == answer[1]["thing_id"], "he gets one for himself only"
            assert (await renewal(scene, scene.foreign(), text))[0] == 400
            assert (await renewal(scene, await revoked(scene), text))[0] == 401

    site(scenario)


async def renewal(scene: Scene, hand: Hand, csr: str) -> tuple[int, dict[str, Any]]:
    context = client_of(scene, hand, ssl.TLSVersion.TLSv1_3)
    reader, writer = await asyncio.open_connection("127.0.0.1", scene.ports["https"], ssl=context)
    body = json.dumps({"csr": csr}).encode()
    writer.write(
        b"POST /certs/renew HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    answer = await reader.read()
    writer.close()
    head, _, rest = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(rest)
