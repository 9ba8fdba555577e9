"""What strangers say of themselves and what they want: headers of proxies, paths, queries, policies; damaged files."""

from __future__ import annotations

import ipaddress
import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from hub import proxy_protocol, reading, wal
from hub.errors import Invalid, ProxyProtocolError
from hub.history_model import check
from hub.http.enforce import BadPath, read_foreign, read_target
from hub.http.proxies import ForwardingError, Proxies
from hub.policy import documents
from hub.policy.engine import PolicySet
from hub.policy.errors import PolicyError
from hub.policy.request import Request

from .cuts import memory_folder
from .fuzz import Opener, Target, plain
from .fuzz_seeds import CHANNEL

NOW_S = 1_800_000_000.0


# PROXY protocol


def proxy_header(data: bytes) -> None:
    """Read as it arrives: at once, and in two pieces, of which the first may only say that more is needed."""
    found = proxy_protocol.parse(data)
    assert found is None or found.used <= len(data)
    half = proxy_protocol.parse(data[: found.used - 1]) if found and found.used > 1 else None
    assert half is None, "a part of the header is taken for all of it"
    if found is not None and found.address is not None:
        ipaddress.ip_address(found.address)


PROXY_SEEDS = [
    b"PROXY TCP4 192.0.2.7 10.0.0.1 50123 1883\r\n\x10\x10",
    b"PROXY TCP6 2001:db8::7 ::1 50123 1883\r\n",
    b"PROXY UNKNOWN ffff:f...f:ffff\r\nx",
    proxy_protocol.SIGNATURE + b"\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x01\xc3\xcb\x07\x5bGET",
    proxy_protocol.SIGNATURE + b"\x21\x21\0\x2b" + bytes(range(32)) + b"\x01\x02\x03\x04\x04\0\x04abcd\x10",
    proxy_protocol.SIGNATURE + b"\x20\0\0\0PING",
]
PROXY_WORDS = (
    b"PROXY ",
    b"TCP4 ",
    b"TCP6 ",
    b"::ffff:1.2.3.4",
    b"65536",
    b"\r\n",
    b"%eth0",
    proxy_protocol.SIGNATURE,
)


# Headers of proxies


def forwarded(data: bytes) -> None:
    """Header lines of a request as three doors see them: with no trusted proxy, and one of each way of telling."""
    headers = [
        (name.strip().lower(), value.strip())
        for name, _, value in (line.partition(b":") for line in data.split(b"\n"))
    ]
    refused = 0
    for proxies in _PROXIES:
        scope: dict[str, Any] = {
            "type": "http",
            "client": ("10.0.0.9", 1),
            "scheme": "http",
            "headers": list(headers),
        }
        try:
            proxies.settle(scope)
        except ForwardingError:
            refused += 1
        else:
            client = scope["client"][0]
            assert not client or ipaddress.ip_address(client)
            told = proxies.way(headers) if proxies.trusts("10.0.0.9") else ""
            assert not told or told == client, "the short way and the usual one differ"
    if refused == len(_PROXIES):
        raise ForwardingError("by all")


_PROXIES = (
    Proxies(),
    Proxies(["10.0.0.0/8"]),
    Proxies(["10.0.0.9", "2001:db8::/32"], "forwarded", pages_key="k" * 32),
)
FORWARDED_SEEDS = [
    b"x-forwarded-for: 192.0.2.7, 10.0.0.2\nx-forwarded-proto: https\nx-forwarded-host: gw.example.org:8443",
    b'forwarded: for=192.0.2.60;proto=https;host=a.example, for="[2001:db8::1]:80";by=_x',
    b"x-original-method: GET\nx-original-uri: /things?limit=1\nx-fluxgate-upstream: grafana\nx-fluxgate-role: viewer",
    b"x-fluxgate-pages: " + b"k" * 32 + b" 192.0.2.9",
    b"client-id: a3f6\nx-fluxgate-client-certificate: -----BEGIN%20CERTIFICATE-----",
    b"x-real-ip: 1.2.3.4\nx_forwarded_for: 1.1.1.1\nhost: a",
]
FORWARDED_WORDS = (
    *(
        b"unknown",
        b"_hidden",
        b"::ffff:10.0.0.1",
        b"[::1]:80",
        b"127.0.0.1",
        b"10.0.0.3",
        b'for="',
        b'\\"',
        b";host=",
    ),
    *(
        b"\nx-forwarded-for: ",
        b"\nforwarded: for=",
        b"client_id: ",
        b"x-fluxgate-outside: 1\n",
        b"\x85",
        b"\xa0",
        b",",
    ),
)


def asked_uri(data: bytes) -> None:
    """`X-Original-URI`: what is let through is understood in one way only."""
    uri = data.decode("latin-1")
    path = read_target(uri).path
    assert "//" not in path
    assert "\\" not in path
    assert path.isprintable()
    assert not {".", ".."} & set(path.split("/"))
    read_foreign(uri)


URI_SEEDS = [b"/things?limit=1", b"/channels/a%C3%A4/messages/x.y", b"/grafana/d/1?orgId=1&q=%2F", b"/"]
URI_WORDS = (
    b"%2e%2e",
    b"/../",
    b"//",
    b"%2f",
    b"%5c",
    b"%00",
    b"%252e",
    b"%ef%bc%8f",
    b"%e2%80%ae",
    b";a=b",
    b"?",
    b"#",
)


# Queries and policies


def query(data: bytes) -> None:
    """The query string of a reader."""
    pairs = parse_qsl(data.decode("latin-1"), keep_blank_values=True)
    found, echoed = reading.read_query(CHANNEL, "a.b" if len(data) % 2 else "", pairs)
    check(found)
    json.dumps(echoed)


QUERY_SEEDS = [
    b"offset=1&limit=5&subtopic=a/b&publisher=p&protocol=mqtt&name=t&v=1.5&comparator=le&from=1&to=2e9",
    b"aggregation=avg&interval=1h30m&from=1.6e9",
    b"vs=x&vb=true&vd=AQI&format=json",
]
QUERY_WORDS = (
    *(
        b"&limit=",
        b"&offset=999999999",
        b"nan",
        b"inf",
        b"-0",
        b"1e400",
        b"1_000",
        b"\xd9\xa3",
        b"%00",
        b"%D9%A3",
    ),
    *(
        b"&next=AAAA",
        b"&previous=",
        b"&interval=1d",
        b"9" * 40,
        b"&v=",
        b"&vb=0",
        b"\xb5s",
        b"+",
        b"&from=1&from=1",
    ),
)


def policy(data: bytes) -> None:
    """A document, and twelve questions to what it says."""
    found = PolicySet(documents.read("fuzzed", data.decode("utf-8", "replace")))
    for request in _QUESTIONS:
        found.decide(request)


_QUESTIONS = tuple(
    Request(
        subject,
        action,
        resource,
        {"source_ip": "192.0.2.1", "current_time": NOW_S, "payload_size": 3, "owner": "o"},
    )
    for subject in ("things/1", "users/a" + "a" * 200)
    for action in ("publish", "deliver")
    for resource in ("channels/c/messages", "channels/c/messages/" + "a/" * 60, "gateway")
)
POLICY_SEEDS = [
    b'{"id":"p","subjects":["things/<[a-z0-9]+>"],"actions":["publish"],"resources":["channels/<.*>"],"effect":"allow"}',
    b'[{"subjects":["<.*>"],"actions":["<pub|sub>lish"],"resources":["channels/c/messages<(/a)*>"],"effect":"deny",'
    b'"conditions":{"source_ip":{"type":"CIDRCondition","options":{"cidr":"192.0.2.0/24"}}}}]',
    b'{"Version":"2012-10-17","Statement":[{"Sid":"s","Effect":"Allow","Principal":"*","Action":["publish","deliver"],'
    b'"Resource":"channels/${subject_id}/*","Condition":{"IpAddress":{"source_ip":["192.0.2.0/24"]}}}]}',
    b'{"Statement":{"Effect":"Deny","NotPrincipal":"things/?","NotAction":"connect","NotResource":"gateway",'
    b'"Condition":{"NumericLessThan":{"payload_size":"10"},"StringLike":{"owner":"o*"}}}}',
]
POLICY_WORDS = (
    *(
        b"<(a+)+$>",
        b"<(a|a)*b>",
        b"<[^",
        b"<a{1,999}>",
        b"<.*.*.*.*x>",
        b"${owner}",
        b"${",
        b"*" * 20,
        b"?",
        b"\\\\",
    ),
    *(
        b'"NotAction":',
        b'"DateLessThan":',
        b'"Bool":',
        b'"Null":',
        b"null",
        b"[" * 60,
        b"{",
        b'"conditions":{}',
        b"\\u0000",
    ),
)


# Files


@contextmanager
def write_ahead_log() -> Iterator[Target]:
    """A database's WAL and the index beside it, as a start finds them: 140 bytes of the index, then the WAL."""
    folder = memory_folder()
    try:
        source, target = folder / "source.db", folder / "target.db"
        with closing(sqlite3.connect(source, isolation_level=None)) as conn:
            conn.execute("PRAGMA page_size=512")
            conn.execute("PRAGMA journal_mode=WAL")
            conn.execute("CREATE TABLE t(a)")
            conn.execute("INSERT INTO t VALUES (zeroblob(9))")
            parts = [Path(f"{source}-{name}").read_bytes() for name in ("shm", "wal")]
            shutil.copy(source, target)
        files = [Path(f"{target}-{name}") for name in ("shm", "wal")]

        def feed(data: bytes) -> bool:
            for file, content in zip(files, (data[:140], data[140:]), strict=True):
                file.write_bytes(content)
            before = wal.look(target)
            lost = wal.lost(target, before)
            assert 0 <= lost <= max(len(before.commits), 1)
            return before.durable > 0

        yield Target(
            [parts[0][:140] + parts[1]], feed, (b"\x37\x7f\x06\x82", b"\0\0\0\0", b"\xff\xff\xff\xff")
        )
    finally:
        shutil.rmtree(folder)


STRANGERS: dict[str, Opener] = {
    "proxy protocol": plain(PROXY_SEEDS, proxy_header, ProxyProtocolError, PROXY_WORDS),
    "forwarded": plain(FORWARDED_SEEDS, forwarded, ForwardingError, FORWARDED_WORDS),
    "auth check": plain(URI_SEEDS, asked_uri, BadPath, URI_WORDS),
    "reader query": plain(QUERY_SEEDS, query, Invalid, QUERY_WORDS),
    "policy": plain(POLICY_SEEDS, policy, PolicyError, POLICY_WORDS),
    "wal": write_ahead_log,
}
