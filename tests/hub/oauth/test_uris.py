"""Redirect URIs: what may be registered, and that a request's is compared as text."""

from __future__ import annotations

import random

import pytest

from hub.errors import HubError, Invalid
from hub.oauth.uris import MAX_URI, checked_uri, host_of, matches

GOOD = [
    ("https://app.example.org/callback", False),
    ("https://app.example.org/", False),
    ("https://app.example.org:8443/a/b-c_d~e", False),
    ("https://app.example.org/cb?tenant=7&x=%20", False),
    ("https://192.168.1.20/cb", False),
    ("https://[2001:db8::1]:8443/cb", False),
    ("http://127.0.0.1/cb", True),
    ("http://127.0.0.1:51004/cb", True),
    ("http://[::1]/cb", True),
    ("http://localhost:3000/cb", True),
    ("http://127.0.0.1:3000/cb", False),
    ("com.example.app:/oauth2redirect/example-provider", True),  # RFC 8252, 7.1
]
BAD = [
    "",
    "/callback",
    "app.example.org/cb",
    "http://app.example.org/cb",
    "http://192.168.1.20/cb",
    "http://127.0.0.2/cb",
    "http://127.1/cb",
    "http://2130706433/cb",
    "http://0x7f.1/cb",
    "https://0x7f.1/cb",
    "https://127.1/cb",
    "https://0177.0.0.1/cb",
    "https://app.example.org",
    "https://app.example.org?x=1",
    "https://app.example.org/cb#part",
    "https://app.example.org/cb#",
    "https://user@app.example.org/cb",
    "https://user:pass@app.example.org/cb",
    "https://app.example.org@evil.example/cb",
    "https://*.example.org/cb",
    "https://app.example.org/*",
    "https://App.example.org/cb",
    "HTTPS://app.example.org/cb",
    "https://app.example.org\\@evil.example/cb",
    "https://app.example.org/a/../cb",
    "https://app.example.org/./cb",
    "https://app.example.org/a/%2e%2e/cb",
    "https://app.example.org/a%2fcb",
    "https://app.example.org/a%5ccb",
    "https://app.example.org/a%252fcb",
    "https://app.example.org/cb%0d%0aLocation:x",
    "https://app.example.org/cb%00",
    "https://app.example.org/cb%",
    "https://app.example.org/cb%zz",
    "https://app.example.org/c b",
    "https://app.example.org/c\tb",
    "https://app.example.org/cb\n",
    "https://app.example.org/cb\x00",
    "https://app.example.org:0/cb",
    "https://app.example.org:65536/cb",
    "https://app.example.org:08443/cb",
    "https://app.example.org:/cb",
    "https:///cb",
    "https:app.example.org/cb",
    "https://-app.example.org/cb",
    "https://app..example.org/cb",
    "https://\uff41pp.example.org/cb",
    "https://\u0430pp.example.org/cb",
    "https://[::1/cb",
    "https://[v1.x]/cb",
    "https://app.example.org/cb?code=1",
    "https://app.example.org/cb?x=1&state=2",
    "https://app.example.org/cb?iss",
    "javascript:alert(1)",
    "javascript://app.example.org/%0aalert(1)",
    "data:text/html,x",
    "file:///etc/passwd",
    "vbscript:x",
    "about:blank",
    "blob:https://app.example.org/x",
    "urn:ietf:wg:oauth:2.0:oob",
    "ftp://app.example.org/cb",
    "ws://app.example.org/cb",
    "myapp:/cb",
    "com.example.app://host/cb",
    "com.example.app:cb",
    "com.example.app:/../cb",
    "https://app.example.org/" + "a" * MAX_URI,
]
REGISTERED = (
    "https://app.example.org/cb",
    "http://127.0.0.1/cb",
    "http://[::1]:4000/cb",
    "http://localhost/cb",
)


@pytest.mark.parametrize(("uri", "public"), GOOD)
def test_an_address_of_ones_own_may_be_registered(uri: str, public: bool) -> None:
    assert checked_uri(uri, public=public) == uri
    assert matches(uri, (uri,), public=public)


@pytest.mark.parametrize("uri", BAD)
def test_an_address_that_could_lead_elsewhere_may_not(uri: str) -> None:
    with pytest.raises(Invalid):
        checked_uri(uri, public=True)


def test_a_scheme_of_its_own_is_for_public_applications_only() -> None:
    with pytest.raises(Invalid):
        checked_uri("com.example.app:/cb", public=False)


@pytest.mark.parametrize(
    "uri",
    [
        "https://app.example.org/cb/",
        "https://app.example.org/cb?",
        "https://app.example.org/cb?x=1",
        "https://app.example.org/cb#",
        "https://app.example.org/CB",
        "https://app.example.org/c%62",
        "https://app.example.org:443/cb",
        "https://app.example.org./cb",
        "https://APP.example.org/cb",
        "http://app.example.org/cb",
        "https://app.example.org/cb/../evil",
        "https://app.example.org/x/../cb",
        "https://sub.app.example.org/cb",
        "https://app.example.org.evil.example/cb",
        "https://evil.example/cb",
        "https://app.example.org@evil.example/cb",
        "https://evil.example/?https://app.example.org/cb",
        " https://app.example.org/cb",
        "https://app.example.org/cb\n",
        "http://127.0.0.1:80@evil.example/cb",
        "http://127.0.0.1:99999/cb",
        "http://127.0.0.1:0/cb",
        "http://127.0.0.1:080/cb",
        "http://127.0.0.1:/cb",
        "http://127.0.0.1.evil.example:80/cb",
        "http://127.0.0.2:80/cb",
        "http://127.0.0.1:80/other",
        "http://127.0.0.1:80/cb?x=1",
        "https://127.0.0.1:80/cb",
        "http://[::1]:80/other",
        "http://localhost:80/cb",  # RFC 8252, 8.3: the port is free for addresses, not for names
        "http://127.1:80/cb",
        "",
    ],
)
def test_nearly_the_same_is_not_the_same(uri: str) -> None:
    assert not matches(uri, REGISTERED, public=True)


def test_an_app_on_somebodys_computer_listens_on_any_port() -> None:
    for uri in (
        "http://127.0.0.1:1/cb",
        "http://127.0.0.1:65535/cb",
        "http://[::1]:80/cb",
        "http://[::1]/cb",
    ):
        assert matches(uri, REGISTERED, public=True)
        assert not matches(uri, REGISTERED, public=False)


def test_damaged_addresses_let_only_their_own_error_out() -> None:
    chance = random.Random(8252)
    alphabet = "abz09:/?#[]@!$&'()*+,;=%-._~\\ \n\x00\xe9\u0410\u202e{}<>\"|^`"
    passed = 0
    for _ in range(20_000):
        text = list(chance.choice(GOOD)[0])
        for _ in range(chance.randint(1, 4)):
            where = chance.randrange(len(text) + 1)
            match chance.randrange(3):
                case 0:
                    text.insert(where, chance.choice(alphabet))
                case 1 if text:
                    del text[min(where, len(text) - 1)]
                case _ if text:
                    text[min(where, len(text) - 1)] = chance.choice(alphabet)
        uri = "".join(text)
        host_of(uri)
        matches(uri, REGISTERED, public=True)
        try:
            checked_uri(uri, public=True)
        except HubError:
            continue
        passed += 1
        assert uri.isascii()
        assert not set(uri) & set('\\#* \n\x00"<>{}|^`')
        assert "@" not in uri.partition("//")[2].partition("/")[0]
    assert passed


def test_what_a_person_is_shown_is_where_it_leads() -> None:
    assert host_of("https://app.example.org:8443/cb?x=https://other.example/") == "app.example.org:8443"
    assert host_of("com.example.app:/cb") == "com.example.app:"
