"""A caller's address, scheme and host come from a trusted proxy's word, and from nobody else's."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from hub.http.proxies import (
    MAX_FORWARDED,
    MAX_HOPS,
    ForwardingError,
    Proxies,
    Vouched,
    concerns,
    parse_address,
    parse_chain,
    parse_forwarded,
    vouched,
)

SENML = b'[{"n":"temperature","u":"Cel","v":21.5}]'
TRUSTED = ("10.0.0.0/24", "2001:db8:1::/48", "127.0.0.1")


def settled(peer: str, *headers: tuple[str, str], proxies: Proxies | None = None, kind: str = "http") -> Any:
    """The scope of a request from `peer` with these headers, settled."""
    scope: dict[str, Any] = {
        "type": kind,
        "scheme": "http" if kind == "http" else "ws",
        "client": (peer, 4711),
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
    }
    (proxies or Proxies(TRUSTED)).settle(scope)
    return scope


@pytest.mark.parametrize(
    ("peer", "told", "found"),
    [
        pytest.param("10.0.0.1", "192.0.2.7", "192.0.2.7", id="one proxy"),
        pytest.param("10.0.0.1", "192.0.2.7:50123", "192.0.2.7", id="with a port"),
        pytest.param("10.0.0.1", "[2001:db8::7]:443", "2001:db8::7", id="IPv6 with a port"),
        pytest.param("10.0.0.1", "2001:DB8::7", "2001:db8::7", id="IPv6"),
        pytest.param("::ffff:10.0.0.1", "::ffff:192.0.2.7", "192.0.2.7", id="IPv4 written as IPv6"),
        pytest.param("10.0.0.1", "6.6.6.6, 192.0.2.7", "192.0.2.7", id="what was made up stands on the left"),
        pytest.param(
            "10.0.0.1", "rubbish, 192.0.2.7", "192.0.2.7", id="rubbish on the left is not looked at"
        ),
        pytest.param("10.0.0.1", "192.0.2.7, 10.0.0.2", "192.0.2.7", id="through two trusted proxies"),
        pytest.param("10.0.0.1", "6.6.6.6,192.0.2.7,10.0.0.2,2001:db8:1::2", "192.0.2.7", id="through three"),
        pytest.param("10.0.0.1", "10.0.0.9, 10.0.0.2", "10.0.0.9", id="nobody but proxies"),
        pytest.param("10.0.0.1", "unknown", "", id="the proxy does not know"),
        pytest.param("192.0.2.66", "10.0.0.7", "192.0.2.66", id="not a trusted proxy"),
        pytest.param("10.0.1.1", "192.0.2.7", "10.0.1.1", id="the network next to the trusted one"),
    ],
)
def test_the_address_is_the_first_from_the_right_that_is_no_trusted_proxys(
    peer: str, told: str, found: str
) -> None:
    assert settled(peer, ("x-forwarded-for", told))["client"][0] == found


def test_lines_of_one_header_are_one_list() -> None:
    scope = settled("10.0.0.1", ("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "192.0.2.7, 10.0.0.2"))
    assert scope["client"][0] == "192.0.2.7"


@pytest.mark.parametrize(
    "told", ["", "192.0.2.7,", "localhost", "192.0.2.300", "fe80::1%eth0", "010.0.0.1", "1.2.3.4:x"]
)
def test_what_a_trusted_proxy_names_last_is_an_address_or_the_request_is_refused(told: str) -> None:
    with pytest.raises(ForwardingError):
        settled("10.0.0.1", ("x-forwarded-for", told))


def test_scheme_and_host_are_the_ones_of_the_browser() -> None:
    headers = (("host", "inner:8080"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "barn.example"))
    scope = settled("10.0.0.1", *headers)
    assert scope["scheme"] == "https"
    assert scope["headers"] == [(b"host", b"barn.example")]
    assert settled("10.0.0.1", *headers, kind="websocket")["scheme"] == "wss"
    strange = settled("192.0.2.9", *headers)
    assert strange["scheme"] == "http"
    assert strange["headers"] == [(b"host", b"inner:8080")]


@pytest.mark.parametrize(
    "header",
    [
        ("x-forwarded-proto", "gopher"),
        ("x-forwarded-proto", "https, http"),
        ("x-forwarded-host", "a.example/../b"),
        ("x-forwarded-host", "a.example\x00"),
        ("x-forwarded-host", "user@a.example"),
    ],
)
def test_odd_schemes_and_hosts_are_refused(header: tuple[str, str]) -> None:
    with pytest.raises(ForwardingError):
        settled("10.0.0.1", header)


# RFC 7239, 4, 6 and 7.1: its own examples, with the address that the last element names.
FORWARDED = [
    ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
    ("for=192.0.2.43, for=198.51.100.17", "198.51.100.17"),
    ('for="[2001:db8:cafe::17]:4711"', "2001:db8:cafe::17"),
    ('For="[2001:db8:cafe::17]:4711"', "2001:db8:cafe::17"),
    ('for=192.0.2.43, for="[2001:db8:cafe::17]"', "2001:db8:cafe::17"),
    ('for=192.0.2.43,for="[2001:db8:cafe::17]",for=unknown', ""),
    ("for=_gazonk", ""),
    ('for="_gazonk"', ""),
    ("for=_hidden, for=_SEVKISEK", ""),
    ('for="192.0.2.43:47011"', "192.0.2.43"),
]


@pytest.mark.parametrize(("told", "found"), FORWARDED)
def test_forwarded_of_rfc_7239_is_read_where_the_proxy_writes_it(told: str, found: str) -> None:
    proxies = Proxies(TRUSTED, "forwarded")
    assert settled("10.0.0.1", ("forwarded", told), proxies=proxies)["client"][0] == found


def test_only_the_header_that_the_proxy_writes_is_read() -> None:
    both = (("x-forwarded-for", "192.0.2.7"), ("forwarded", "for=6.6.6.6;proto=https;host=evil.example"))
    scope = settled("10.0.0.1", *both)
    assert (scope["client"][0], scope["scheme"], scope["headers"]) == ("192.0.2.7", "http", [])
    scope = settled("10.0.0.1", ("x-forwarded-proto", "http"), *both, proxies=Proxies(TRUSTED, "forwarded"))
    assert (scope["client"][0], scope["scheme"], scope["headers"]) == (
        "6.6.6.6",
        "https",
        [(b"host", b"evil.example")],
    )


@pytest.mark.parametrize(
    "told", ['for="192.0.2.1', "for=1.2.3.4;for=5.6.7.8", "for", "for=1.2.3.4 for=5.6.7.8", ";"]
)
def test_a_damaged_forwarded_is_refused_so_that_nobody_hides_in_its_quotes(told: str) -> None:
    with pytest.raises(ForwardingError):
        parse_forwarded(told)


def test_more_hops_or_characters_than_any_site_has_are_refused() -> None:
    with pytest.raises(ForwardingError, match=str(MAX_HOPS)):
        parse_chain(",".join(["10.0.0.1"] * (MAX_HOPS + 1)))
    for parse in (parse_chain, parse_forwarded):
        with pytest.raises(ForwardingError, match=str(MAX_FORWARDED)):
            parse("a" * (MAX_FORWARDED + 1))


NAMING = [
    "client-id",
    "x-fluxgate-client-certificate",
    "x-fluxgate-anything",
    "x-original-uri",
    "x-original-method",
]


@pytest.mark.parametrize(
    "name", [*NAMING, "client_id", "x_fluxgate_role", "x-fluxgate_role", "x_original_uri"]
)
def test_who_is_no_trusted_proxy_names_nobody(name: str) -> None:
    for proxies in (Proxies(), Proxies(TRUSTED)):
        with pytest.raises(ForwardingError, match=r"http\.trusted_proxies"):
            settled("192.0.2.9", (name, "x"), proxies=proxies)


def test_what_a_trusted_proxy_vouches_for_is_in_the_state_and_no_longer_a_header() -> None:
    scope = settled(
        "127.0.0.1",
        ("client-id", "sensor"),
        ("x-original-method", "POST"),
        ("x-original-uri", "/things?a=b"),
        ("accept", "*/*"),
    )
    assert scope["headers"] == [(b"accept", b"*/*")]
    assert vouched(scope) == Vouched(publisher="sensor", method="POST", uri="/things?a=b")
    assert vouched(settled("127.0.0.1", ("accept", "*/*"))) is None
    assert vouched(settled("192.0.2.9", ("x-forwarded-for", "10.0.0.1"))) is None


@pytest.mark.parametrize(
    "headers",
    [
        [("client-id", "a"), ("client-id", "b")],
        [("client-id", "a\tb")],
        [("client-id", "sensor\xe9")],
        [("client_id", "a")],
        [("x-fluxgate-upsream", "misspelt")],
        [("x-fluxgate-outside", "1")],
    ],
    ids=str,
)
def test_a_trusted_proxy_that_hands_on_what_it_was_sent_is_refused(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(ForwardingError):
        settled("127.0.0.1", *headers)


def test_other_headers_are_left_as_they_are() -> None:
    for name in (b"content-type", b"x-request-id", b"forward", b"clientele", b"x-fluxgat"):
        assert not concerns(name)


def test_networks_that_are_none_are_errors() -> None:
    for text in ("10.0.0.1/24", "proxy.example", "10.0.0.0/40"):
        with pytest.raises(ValueError, match=r"network|Octet|netmask|host bits"):
            Proxies([text])


def test_only_its_own_error_escapes_from_damaged_headers() -> None:
    chance = random.Random(7239)
    seeds = [told for told, _ in FORWARDED] + ["192.0.2.7, 10.0.0.2", "[2001:db8::7]:443", "unknown"]
    proxies = (Proxies(TRUSTED), Proxies(TRUSTED, "forwarded"))
    for _ in range(4000):
        text = list(chance.choice(seeds))
        for _ in range(chance.randrange(1, 5)):
            match chance.randrange(3):
                case 0:
                    text.insert(chance.randrange(len(text) + 1), chr(chance.randrange(256)))
                case 1 if text:
                    text.pop(chance.randrange(len(text)))
                case 2 if text:
                    text[chance.randrange(len(text))] = chance.choice('";,=\\[]:%_ 1a')
        for each in proxies:
            try:
                found = settled(
                    "10.0.0.1", ("x-forwarded-for", "".join(text)), ("forwarded", "".join(text)), proxies=each
                )
            except ForwardingError:
                continue
            address = found["client"][0]
            assert address == "" or str(parse_address(address)) == address


def test_a_direct_request_with_client_id_publishes_nothing(run: Any) -> None:
    async def scenario(site: Any) -> None:
        for _ in range(2):  # also where the head of the thing's usual request is known
            assert (await site.publish()).status_code == 202
        for name in ("Client-ID", "client_id", "X-Fluxgate-Subject"):
            refused = await site.publish(**{name: site.thing_id})
            assert refused.status_code == 400
            assert "trusted" in refused.json()["detail"]
        assert len(site.stored()) == 2

    run(scenario)


@pytest.mark.parametrize(
    ("trusted", "answer"), [(("127.0.0.1",), 403), ((), 202)], ids=["trusted", "not trusted"]
)
def test_policies_see_the_callers_address_and_none_that_he_made_up(
    run: Any, trusted: tuple[str, ...], answer: int
) -> None:
    policy = {
        "subjects": ["things/<.*>"],
        "resources": ["<.*>"],
        "actions": ["publish"],
        "effect": "deny",
        "conditions": {"source_ip": {"type": "CIDRCondition", "options": {"cidr": "192.0.2.0/24"}}},
    }

    async def scenario(site: Any) -> None:
        put = await site.client.put("/policies/far", content=json.dumps(policy), headers=site.user)
        assert put.status_code == 201
        assert (await site.publish()).status_code == 202
        for _ in range(2):
            assert (await site.publish(**{"X-Forwarded-For": "192.0.2.8"})).status_code == answer

    run(scenario, proxies=Proxies(trusted))


def test_an_address_counts_the_same_when_the_head_of_a_request_is_known(run: Any) -> None:
    policy = {
        "subjects": ["things/<.*>"],
        "resources": ["<.*>"],
        "actions": ["publish"],
        "effect": "deny",
        "conditions": {"source_ip": {"type": "CIDRCondition", "options": {"cidr": "127.0.0.0/8"}}},
    }

    async def scenario(site: Any) -> None:
        for _ in range(2):
            assert (await site.publish()).status_code == 202
        await site.client.put("/policies/here", content=json.dumps(policy), headers=site.user)
        for _ in range(2):
            assert (await site.publish()).status_code == 403

    run(scenario)


def test_pages_and_apps_reach_the_api_under_its_prefixes(run: Any) -> None:
    async def scenario(site: Any) -> None:
        for prefix in ("/api", "/http"):
            answer = await site.client.post(
                f"{prefix}{site.messages}",
                content=SENML,
                headers={**site.thing, "content-type": "application/senml+json"},
            )
            assert answer.status_code == 202
        assert (await site.get("/api/things")).json()["total"] == 1
        assert (await site.get("/api/api/things")).status_code == 404

    run(scenario)


def test_a_refused_header_is_in_the_audit_log_once(run: Any) -> None:
    async def scenario(site: Any) -> None:
        for _ in range(3):
            refused = await site.publish(**{"Client-ID": site.thing_id})
            assert refused.status_code == 400
        await asyncio.to_thread(site.hub.audit.flush)
        with site.hub.audit.reader() as reader:
            lines = reader.lines("kind = ?", ["proxy"], 10)
        assert [(line.outcome, line.address, line.door) for line in lines] == [
            ("refused", "127.0.0.1", "http")
        ]

    run(scenario)


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([("host", "a"), ("accept", "*/*")], ""),
        ([("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "https")], "192.0.2.7"),
        ([("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "192.0.2.7, 10.0.0.2")], "192.0.2.7"),
        ([("x-forwarded-for", "rubbish")], None),
        ([("x-forwarded-for", "unknown")], None),
        ([("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "gopher")], None),
        ([("x-forwarded-for", "192.0.2.7"), ("x-forwarded-host", "a.example")], None),
        ([("x-forwarded-for", "192.0.2.7"), ("client-id", "a")], None),
        ([("x_forwarded_for", "192.0.2.7")], None),
    ],
)
def test_a_head_is_known_by_the_address_it_names_or_looked_at_anew_each_time(
    headers: list[tuple[str, str]], found: str | None
) -> None:
    wire = [(name.encode(), value.encode()) for name, value in headers]
    assert Proxies(TRUSTED).way(wire) == found


@pytest.mark.parametrize("trusted", [("127.0.0.1",), ()], ids=["trusted", "not trusted"])
def test_known_heads_of_a_proxy_keep_each_callers_address(run: Any, trusted: tuple[str, ...]) -> None:
    policy = {
        "subjects": ["things/<.*>"],
        "resources": ["<.*>"],
        "actions": ["publish"],
        "effect": "deny",
        "conditions": {"source_ip": {"type": "CIDRCondition", "options": {"cidr": "192.0.2.8/32"}}},
    }

    async def scenario(site: Any) -> None:
        near, far = {"X-Forwarded-For": "192.0.2.7"}, {"X-Forwarded-For": "192.0.2.8"}
        for _ in range(3):
            assert (await site.publish(**near)).status_code == 202
            assert (await site.publish(**far)).status_code == 202
        assert site.door.wire.direct == 4, "the first of each was looked at"
        await site.client.put("/policies/far", content=json.dumps(policy), headers=site.user)
        for _ in range(2):
            assert (await site.publish(**near)).status_code == 202
            assert (await site.publish(**far)).status_code == (403 if trusted else 202)
        assert site.door.wire.direct == 8

    run(scenario, proxies=Proxies(trusted))
