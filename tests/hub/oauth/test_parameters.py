"""Reading requests: strictly, and with one kind of error each."""

from __future__ import annotations

import base64
import random
from pathlib import Path

import pytest
from authlib.oauth2.rfc6749 import OAuth2Error

from hub.keys import ServerKey
from hub.oauth.parameters import Malformed, check_authorization, once, read
from hub.oauth.protocol import basic
from hub.registry import Registry

# RFC 6749, 4.1.1 and RFC 7636, appendix B, with what RFC 9700 demands besides.
REQUEST = (
    b"response_type=code&client_id=s6BhdRkqt3&state=xyz&redirect_uri=https%3A%2F%2Fclient%2Eexample%2Ecom%2Fcb"
    b"&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256"
    b"&scope=openid+things%3Aread&nonce=n-0S6_WzA2Mj&max_age=60&prompt=consent"
)


def test_the_specifications_request_is_read_as_it_stands() -> None:
    given = read(REQUEST)
    assert given["redirect_uri"] == "https://client.example.com/cb"
    assert given["scope"] == "openid things:read"
    check_authorization(given)


def test_empty_values_count_as_left_out() -> None:
    assert read(b"a=&b=1&c") == {"b": "1"}


@pytest.mark.parametrize(
    "text", [b"a=1&a=2", b"a=1&a=", b"a=%ff", b"\xff", b"a=" + b"x" * 5000, b"&".join([b"a=1"] * 70)]
)
def test_what_could_be_read_in_two_ways_is_not_read(text: bytes) -> None:
    with pytest.raises(Malformed):
        read(text)


def test_a_pair_that_stands_twice_is_refused_even_with_one_value() -> None:
    with pytest.raises(Malformed):
        once([("a", "1"), ("a", "1")])


def test_damaged_requests_let_only_the_declared_errors_out() -> None:
    chance = random.Random(6749)
    passed = refused = 0
    for _ in range(5_000):
        text = bytearray(REQUEST)
        for _ in range(chance.randint(1, 4)):
            where = chance.randrange(len(text))
            match chance.randrange(4):
                case 0:
                    text[where] = chance.randrange(256)
                case 1:
                    del text[where : where + chance.randrange(8)]
                case 2:
                    text[where:where] = bytes(chance.choice(b"&=%+;#\x00\n\xff0aZ") for _ in range(3))
                case _:
                    text[where:where] = text[: chance.randrange(40)]
        try:
            check_authorization(read(bytes(text)))
        except (Malformed, OAuth2Error):
            refused += 1
        else:
            passed += 1
    assert passed > 50
    assert refused > 50


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (
            "Basic czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3",
            ("s6BhdRkqt3", "7Fjfp0ZBr1KtDRbnfVdmIw"),
        ),  # 2.3.1
        ("basic " + base64.b64encode(b"a%20b:c+d%3A").decode(), ("a b", "c d:")),
        ("Basic " + base64.b64encode(b"nocolon").decode(), ("", "")),
        ("Basic " + base64.b64encode(b"\xff:\xff").decode(), ("", "")),
        ("Basic !!!", ("", "")),
        ("Basic", ("", "")),
        ("Bearer abc", ("", "")),
        ("", ("", "")),
        ("Basic " + "A" * 10_000, ("", "")),
    ],
)
def test_names_and_secrets_in_headers(header: str, found: tuple[str, str]) -> None:
    assert basic(header) == found


def test_only_tokens_of_this_gateway_name_a_grant(tmp_path: Path) -> None:
    registry = Registry.open(tmp_path / "registry.db", ServerKey(b"k" * 32))
    chance = random.Random(7009)
    for _ in range(2_000):
        text = "fgr_" + "".join(
            chance.choice("abzAZ019-_=+/ \x00é") for _ in range(chance.choice((0, 1, 86, 87, 88, 200)))
        )
        assert registry.oauth.refresh(text) is None
        assert registry.oauth.refresh(text[4:]) is None
        assert registry.oauth.code(text) is None
    registry.close()
