"""Attacks on the gateway behind the real nginx, and past it: forged headers, requests cut in two ways, paths and hosts.

Each is refused, or does only what its sender may anyway, and what is refused leaves one line in the audit log. The
negative control is an nginx without the lines of the shipped configuration that guard against it: there the probes get
through.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from hub.http import enforce
from tests.proxy.conftest import Front, Nginx, services

ATTACKER = "127.0.0.66"
PACK = b'[{"n":"t","v":1}]'


class Attacked(Front):
    """A front, and beside it a careless one: the same files without what takes foreign headers out."""

    def __init__(self, folder: Any) -> None:
        super().__init__(folder)
        beside = folder / "careless"
        beside.mkdir()
        self.careless = Nginx(beside, self.authority)

    def start(self, adjust: Any = None) -> None:
        super().start(adjust)
        self.careless.write({"fluxgate_api": [self.site.http.port]})
        self.careless.change(
            "parts/hygiene.conf",
            ('proxy_set_header Client-ID "";', ""),
            ("proxy_set_header X-Fluxgate-Outside $fluxgate_outside;", ""),
            ("X-Forwarded-For $remote_addr;", "X-Forwarded-For $http_x_forwarded_for;"),
        )
        self.careless.start()

    def stop(self) -> None:
        self.careless.stop()
        super().stop()


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    opened = Attacked(tmp_path_factory.mktemp("attacked"))
    try:
        opened.start(services)
        yield opened
    finally:
        opened.stop()


async def spoken(front: Front, wire: bytes, port: int | None = None, *, tls: bool = True) -> bytes:
    """Send exactly this from the attacker's address and read until the other side closes, or says nothing more."""
    context = front.trust if tls else None
    port = front.nginx.ports["https"] if port is None else port
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, local_addr=(ATTACKER, 0))
    writer.write(wire)
    answer = b""
    with contextlib.suppress(TimeoutError, ConnectionError):  # it may wait for more of us
        while chunk := await asyncio.wait_for(reader.read(65536), 4 if answer else 30):
            answer += chunk
    writer.close()
    return answer


async def past(front: Front, wire: bytes) -> bytes:
    """The same at the gateway's own door, past nginx."""
    return await spoken(front, wire, front.site.http.port, tls=False)


def statuses(answer: bytes) -> list[int]:
    """The status of each answer that came."""
    return [int(each) for each in re.findall(rb"(?:^|\r\n\r\n|\}|\n)HTTP/1\.[01] (\d{3}) ", answer)]


def publication(front: Front, *headers: bytes, close: bool = True) -> bytes:
    """The attacker's own thing publishes, with these header lines more."""
    device = front.site.device
    lines = [
        b"POST %b HTTP/1.1" % device.messages.encode(),
        b"Host: localhost",
        b"Authorization: Thing %b" % device.key.encode(),
        b"Content-Type: application/senml+json",
        b"Content-Length: %d" % len(PACK),
        *headers,
    ]
    if close:
        lines.append(b"Connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n" + PACK


def publisher(front: Front) -> str:
    """Who is said to have published last."""
    log = front.site.hub.log
    return log.read(log.committed_seq - 1)[-1].publisher


# Headers by which somebody would be somebody else. {} is the victim's id.
FORGED = [
    pytest.param([b"Client-ID: {}"], id="Client-ID"),
    pytest.param([b"client-id: {}"], id="small letters"),
    pytest.param([b"CLIENT-ID:{}"], id="capitals, no space"),
    pytest.param([b"Client-ID: \t {} \t"], id="tabs"),
    pytest.param([b"Client-ID: {}", b"Client-ID: {}"], id="twice"),
    pytest.param([b"X-Fluxgate-Client-Certificate: -----BEGIN"], id="certificate"),
    pytest.param([b"X-Fluxgate-Subject: things/{}"], id="subject"),
    pytest.param([b"X-Fluxgate-Role: admin"], id="role"),
    pytest.param([b"X-Fluxgate-Whatever: {}"], id="a name that nobody has heard of"),
    pytest.param([b"X-Fluxgate-Pages: guess 127.0.0.1"], id="the word of the pages"),
    pytest.param([b"X-Original-URI: /health"], id="X-Original-URI"),
    pytest.param([b"X-Original-Method: GET"], id="X-Original-Method"),
    pytest.param([b"x-fluxgate-outside: 0"], id="the mark itself"),
]


@pytest.mark.parametrize("lines", FORGED)
def test_a_forged_identity_is_refused_behind_nginx_and_past_it(front: Attacked, lines: list[bytes]) -> None:
    async def scenario() -> None:
        site = front.site
        forged = [line.replace(b"{}", site.foreign.device.id.encode()) for line in lines]
        before = site.hub.log.committed_seq
        async with site.refused_once("proxy"):
            assert statuses(await spoken(front, publication(front, *forged))) == [403]
        async with site.refused_once("proxy"):
            assert statuses(await past(front, publication(front, *forged)))[0] in (400, 403)
        assert site.hub.log.committed_seq == before
        assert {line.address for line in site.refusals() if line.kind == "proxy"} == {ATTACKER}

    front.run(scenario())


# What nginx itself refuses, or takes for nothing: a wrong name is no name.
@pytest.mark.parametrize(
    ("lines", "code"),
    [
        pytest.param([b"Client-ID : {}"], 400, id="space before the colon"),
        pytest.param([b"X-A: b\r\n Client-ID: {}"], 400, id="folded"),
        pytest.param([b"Client-ID\x00: {}"], 400, id="NUL in the name"),
        pytest.param([b"Client\x0b-ID: {}"], 400, id="control character"),
        pytest.param([b"Client_ID: {}"], 202, id="underscore"),
        pytest.param([b"CLIENT_id: {}"], 202, id="underscore in capitals"),
        pytest.param([b"Client-ID:"], 202, id="empty"),
        pytest.param([b"X_Fluxgate_Subject: things/{}"], 202, id="underscores"),
        pytest.param([b"Connection: close, X-Fluxgate-Outside, X-Forwarded-For"], 202, id="hop by hop"),
    ],
)
def test_a_damaged_name_is_nobodys_name(front: Attacked, lines: list[bytes], code: int) -> None:
    async def scenario() -> None:
        site = front.site
        forged = [line.replace(b"{}", site.foreign.device.id.encode()) for line in lines]
        before = site.hub.log.committed_seq
        answer = await spoken(front, publication(front, *forged, close=b"Connection" not in forged[0]))
        assert statuses(answer) == [code]
        assert site.hub.log.committed_seq - before == (code == 202)
        if code == 202:
            assert publisher(front) == site.device.id, "the thing whose key it was"
        past_it = statuses(await past(front, publication(front, *forged)))
        assert past_it[:1] != [202] or publisher(front) == site.device.id

    front.run(scenario())


@pytest.mark.parametrize(
    "line",
    [
        b"X-Forwarded-For: 127.0.0.1",
        b"X-Forwarded-For: 10.0.0.1, 127.0.0.1",
        b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-For: 127.0.0.1",
        b"X_Forwarded_For: 127.0.0.1",
        b"Forwarded: for=127.0.0.1;host=evil.example;proto=http",
        b"X-Real-IP: 127.0.0.1",
        b"X-Forwarded-Host: evil.example",
        b"True-Client-IP: 127.0.0.1",
    ],
)
def test_nobody_has_another_address_than_his_own(front: Attacked, line: bytes) -> None:
    async def scenario() -> None:
        site = front.site
        wire = publication(front, line).replace(site.device.key.encode(), b"x" * 43)
        for way in (spoken, past):
            before = len(site.audited())
            assert statuses(await way(front, wire)) == [401]
            lines = site.refusals(before)
            assert [each.address for each in lines][:1] in ([ATTACKER], [])
            assert "127.0.0.1" not in {each.address for each in lines}

    front.run(scenario())


def test_the_negative_control_lets_the_same_probes_through(front: Attacked) -> None:
    async def scenario() -> None:
        site, port = front.site, front.careless.ports["https"]
        victim = site.foreign.device
        wire = publication(front, b"Client-ID: %b" % victim.id.encode())
        wire = wire.replace(b"Authorization: Thing %b\r\n" % site.device.key.encode(), b"")
        wire = wire.replace(site.device.channel.encode(), victim.channel.encode())
        assert statuses(await spoken(front, wire)) == [403]
        assert statuses(await spoken(front, wire, port)) == [202]
        assert publisher(front) == victim.id, "somebody else's name, without his key"
        before = len(site.audited())
        spoof = publication(front, b"X-Forwarded-For: 203.0.113.5").replace(
            site.device.key.encode(), b"y" * 43
        )
        assert statuses(await spoken(front, spoof, port)) == [401]
        assert statuses(await spoken(front, publication(front, b"X-Original-URI: /"), port)) == [202]
        assert {each.address for each in site.refusals(before)} <= {"203.0.113.5"}

    front.run(scenario())


def cut(front: Front, *headers: bytes, body: bytes = b"0\r\n\r\n") -> bytes:
    """A POST of which two servers may see different ends; behind it stands a request that only one of them may see."""
    device = front.site.device
    lines = [b"POST %b HTTP/1.1" % device.messages.encode(), b"Host: localhost", *headers]
    lines += [b"Authorization: Thing %b" % device.key.encode(), b"Content-Type: application/octet-stream"]
    return (
        b"\r\n".join(lines)
        + b"\r\n\r\n"
        + body
        + b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )


def seen(front: Front) -> int:
    """Requests that the gateway has seen."""
    app = front.site.app
    numbers = app.counters()
    return int(sum(count for name, count in numbers.items() if "_answers_total" in name))


CHUNKED = b"Transfer-Encoding: chunked"
SMUGGLED = [
    pytest.param([b"Content-Length: 5", CHUNKED], id="both"),
    pytest.param([CHUNKED, b"Content-Length: 5"], id="both, the other way round"),
    pytest.param([b"Content-Length: 5", b"Content-Length: 6"], id="two lengths"),
    pytest.param([b"Content-Length: 5, 6"], id="two lengths in one"),
    pytest.param([b"Content-Length: +5"], id="signed length"),
    pytest.param([b"Content-Length: 0x5"], id="hexadecimal length"),
    pytest.param([b"Content-Length: 5 5"], id="length with a space"),
    pytest.param([b"Content-Length: -1"], id="negative length"),
    pytest.param([b"Content-Length: 99999999999999999999999"], id="length beyond 64 bits"),
    pytest.param([b"Content-Length: 5", b"Transfer-Encoding : chunked"], id="space before the colon"),
    pytest.param([b"Content-Length: 5", b"Transfer-Encoding:\x0bchunked"], id="vertical tab"),
    pytest.param([b"Content-Length: 5", b"Transfer-Encoding: xchunked"], id="unknown coding"),
    pytest.param([b"Content-Length: 5", b"X: y\r\n Transfer-Encoding: chunked"], id="folded"),
    pytest.param([b"Transfer-Encoding: chunked, identity"], id="chunked is not last"),
    pytest.param([b"Transfer-Encoding: identity, chunked, chunked"], id="chunked twice"),
    pytest.param([CHUNKED, b"Transfer-Encoding: cow"], id="two codings"),
    pytest.param([b"Content-Length: 5\nTransfer-Encoding: chunked"], id="a bare line feed"),
]


@pytest.mark.parametrize("headers", SMUGGLED)
def test_no_request_hides_behind_another(front: Attacked, headers: list[bytes]) -> None:
    async def scenario() -> None:
        before = seen(front)
        answer = await spoken(front, cut(front, *headers))
        assert statuses(answer) in ([400], [501]), answer
        assert seen(front) == before, "the gateway hears nothing of it"
        assert statuses(await past(front, cut(front, *headers))) in ([400], []), "and takes none of it itself"

    front.run(scenario())


def test_two_requests_on_one_connection_are_two_for_both_servers(front: Attacked) -> None:
    """The positive control: what `seen` counts, and that the request behind the other is a good one."""

    async def scenario() -> None:
        for way in (spoken, past):
            before = seen(front)
            assert statuses(await way(front, cut(front, CHUNKED))) == [202, 200]
            assert seen(front) == before + 2

    front.run(scenario())


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"5;x=\r\n1\r\n\r\nhello\r\n0\r\n\r\n", id="line end in an extension"),
        pytest.param(b"5\nhello\n0\n\n", id="bare line feeds"),
        pytest.param(b"-1\r\nhello\r\n0\r\n\r\n", id="negative chunk"),
        pytest.param(b"0x5\r\nhello\r\n0\r\n\r\n", id="hexadecimal prefix"),
        pytest.param(b"FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n", id="chunk beyond 64 bits"),
        pytest.param(b"5\r\nhelloXX0\r\n\r\n", id="no end of chunk"),
    ],
)
def test_damaged_chunks_end_the_connection_or_mean_the_same_to_both(front: Attacked, body: bytes) -> None:
    """nginx takes a bare line feed for a line end; what it passes on has a length of its own making."""

    async def scenario() -> None:
        for way in (spoken, past):
            before = seen(front)
            codes = statuses(await way(front, cut(front, CHUNKED, body=body)))
            if way is spoken and codes == [202, 200]:
                assert seen(front) == before + 2
            else:
                assert codes in ([], [400], [413]), codes

    front.run(scenario())


def test_each_request_on_a_kept_connection_is_asked_for_itself(front: Attacked) -> None:
    async def scenario() -> None:
        token = front.site.owner.token.encode()
        mine = b"GET /things HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n\r\n" % token
        nobodys = b"GET /things HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        for way in (spoken, past):
            assert statuses(await way(front, mine + nobodys)) == [200, 401]
            old = b"GET /things HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n"
            assert set(statuses(await way(front, old + nobodys))) == {401}

    front.run(scenario())


PATHS = [
    "/solver/../solver/admin",
    "/solver/x/../admin",
    "/solver/x/%2e%2e/admin",
    "/solver/x/.%2E/admin",
    "/solver/./admin",
    "/solver/%2e/admin",
    "//solver/admin",
    "/solver//admin",
    "/solver/%2fadmin",
    "/solver%2fadmin",
    "/solver/x/..%2fadmin",
    "/solver/..;/solver/admin",
    "/solver/;/admin",
    "/solver/admin;x=y",
    "/solver/%61dmin",
    "/solver/%2561dmin",
    "/solver/admin%00",
    "/solver/admin%20",
    "/solver/admin.",
    "/solver/admin%2e",
    "/solver/admin/.",
    "/solver/admin/%2e%2e/admin",
    "/solver/\\admin",
    "/solver/%5cadmin",
    "/solver/admin%0d%0aX:%20y",
    "/solver/x?/../admin/../../solver/admin",
    "/solver/%c0%ae%c0%ae/admin",
    "/solver/%ef%bc%8fadmin",
]


def test_no_spelling_of_a_path_opens_what_a_policy_closes(
    front: Attacked, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = {
        "subjects": ["users/<.*>"],
        "actions": ["proxy"],
        "resources": ["proxy/solver.example/solver/admin<.*>"],
        "effect": "deny",
    }

    async def passed(path: str) -> bytes:
        """The request line that reached the service; b"" where none did."""
        token = front.site.owner.token.encode()
        wire = b"GET %b HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\nConnection: close\r\n\r\n"
        answer = await spoken(front, wire % (path.encode("latin-1"), token))
        found = re.search(rb"\r\n\r\n(GET \S* HTTP/1\.1)\r\n", answer)
        return found[1] if found else b""

    async def scenario() -> None:
        site = front.site
        change = site.hub.registry.change_policies
        assert await passed("/solver/admin") == b"GET /solver/admin HTTP/1.1"
        await asyncio.to_thread(change, {"closed": json.dumps(policy)}, site.hub.now_s())
        try:
            assert await passed("/solver/open?x=/admin") == b"GET /solver/open?x=/admin HTTP/1.1"
            for path in ("/solver/admin", *PATHS):
                line = await passed(path)
                assert b"admin" not in line.partition(b"?")[0], f"{path}: {line!r}"
            async with site.refused_once("proxy"):
                assert await passed("/solver/x/%2e%2e/admin") == b""
            monkeypatch.setattr(enforce, "read_foreign", lambda uri: uri.partition("?")[0].removeprefix("/"))
            monkeypatch.setattr(enforce, "read_target", lambda uri: enforce.Target(uri.partition("?")[0], ""))
            got = await passed("/solver/x/%2e%2e/admin")
            assert got == b"GET /solver/x/%2e%2e/admin HTTP/1.1", "without the look at the path it would pass"
        finally:
            await asyncio.to_thread(change, {"closed": None}, site.hub.now_s())

    front.run(scenario())


def test_a_host_is_the_one_that_nginx_has_decided_by(front: Attacked) -> None:
    async def head_at_service(first: bytes, *hosts: bytes) -> bytes:
        lines = b"".join(b"Host: %b\r\n" % host for host in hosts)
        token = front.site.owner.token.encode()
        wire = b"GET %b HTTP/1.1\r\n%bAuthorization: Bearer %b\r\nConnection: close\r\n\r\n" % (
            first,
            lines,
            token,
        )
        return await spoken(front, wire)

    async def scenario() -> None:
        port = front.nginx.ports["https"]
        assert statuses(await head_at_service(b"/health", b"evil.example")) == [421]
        assert statuses(await head_at_service(b"https://evil.example/health", b"localhost")) == [421]
        assert statuses(await head_at_service(b"/health", b"localhost", b"evil.example")) == [400]
        assert statuses(await head_at_service(b"/health")) == [400]
        assert statuses(await head_at_service(b"/health", b"localhost\x00.evil.example")) == [400]
        absolute = await head_at_service(b"https://localhost/solver/x", b"evil.example")
        assert b"\r\nHost: localhost\r\n" in absolute
        assert b"evil" not in absolute
        assert b"\r\nHost: localhost:%d\r\n" % port in await head_at_service(
            b"/solver/x", b"localhost:%d" % port
        )

    front.run(scenario())


@pytest.mark.parametrize(
    "lines",
    [
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 777\r\nSec-WebSocket-Key: x",
        b"Connection: Upgrade\r\nUpgrade: websocket, h2c",
    ],
)
def test_no_upgrade_opens_a_tunnel_to_the_gateway(front: Attacked, lines: bytes) -> None:
    async def scenario() -> None:
        hidden = (
            b"GET /auth/check HTTP/1.1\r\nHost: localhost\r\nX-Original-URI: /\r\nX-Original-Method: GET\r\n"
        )
        hidden += b"Connection: close\r\n\r\n"
        wire = b"GET /things HTTP/1.1\r\nHost: localhost\r\n%b\r\n\r\n" % lines + hidden
        codes = statuses(await spoken(front, wire))
        assert 101 not in codes
        assert 200 not in codes

    front.run(scenario())


def test_a_proxy_header_within_mqtt_is_nobodys_address(front: Attacked) -> None:
    async def scenario() -> None:
        site = front.site
        spoof = b"PROXY TCP4 127.0.0.1 127.0.0.1 4711 1883\r\n"
        async with site.refused_once("proxy"):
            assert await spoken(front, spoof + b"\x10\x00", front.nginx.ports["mqtt"], tls=False) == b""
        assert site.refusals()[-1].address == ATTACKER
        async with site.refused_once("proxy"):
            assert await spoken(front, spoof, front.mqtt_port, tls=False) == b""
        async with site.refused_once("proxy"):
            assert await spoken(front, spoof, site.mqtt.port, tls=False) == b""

    front.run(scenario())
