"""Who may connect, and how a gateway shows that it is one of them."""

from typing import Any

import pytest

from gateway.station.registry import KnownGateway, Registry

EUI = bytes.fromhex("b827ebfffe123456")
TOKEN, OLD = "a-token-of-sixteen-or-more", "the-token-before-that-one"


def registry() -> Registry:
    return Registry([KnownGateway(EUI, "roof", TOKEN, OLD), KnownGateway(bytes(7) + b"\x01")])


@pytest.mark.parametrize(
    ("header", "known"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer {TOKEN}", True),
        (f"  Bearer   {TOKEN} ", True),
        (TOKEN, True),
        (f"Bearer {OLD}", True),
        ("", False),
        ("Bearer", False),
        ("Bearer ", False),
        (f"Basic {TOKEN}", False),
        (f"Bearer {TOKEN}x", False),
        (f"Bearer {TOKEN[:-1]}", False),
        (f"Bearer {TOKEN} {TOKEN}", False),
        ("Bearer \udcff", False),
    ],
)
def test_a_token_is_known_whole_or_not_at_all(header: str, known: bool) -> None:
    found = registry().of_token(header)
    assert (found is not None) is known
    assert found is None or found.eui == EUI


@pytest.mark.parametrize(
    ("names", "known"),
    [
        (["b827ebfffe123456"], True),
        (["B8-27-EB-FF-FE-12-34-56"], True),
        (["b827:ebff:fe12:3456"], True),
        (["router-b827:ebff:fe12:3456"], True),
        (["b827ebfffe123457"], False),
        (["b827ebfffe123456", "b827ebfffe123456"], False),
        (["b827ebfffe123456.example.org"], False),
        ([], False),
    ],
)
def test_a_certificate_names_one_gateway(names: list[str], known: bool) -> None:
    peercert: dict[str, Any] = {"subject": tuple((("commonName", name),) for name in names)}
    assert (registry().of_certificate(peercert) is not None) is known
    assert registry().of_certificate(None) is None
    assert registry().of_certificate({}) is None


@pytest.mark.parametrize(
    ("gateways", "words"),
    [
        ([("00" * 8, "short", "")], "16 characters"),
        ([("00" * 8, "with spaces in it, and long enough", "")], "without spaces"),
        ([("00" * 8, "", "short")], "token_before"),
        ([("00" * 7, TOKEN, "")], "8 bytes"),
        ([("00" * 8, TOKEN, ""), ("00" * 8, OLD, "")], "listed twice"),
        ([("00" * 8, TOKEN, ""), ("01" * 8, TOKEN, "")], "another one's"),
        ([("00" * 8, TOKEN, ""), ("01" * 8, OLD, TOKEN)], "another one's"),
    ],
)
def test_lists_that_would_let_in_the_wrong_one_are_refused(
    gateways: list[tuple[str, str, str]], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        Registry([KnownGateway(bytes.fromhex(eui), "", token, before) for eui, token, before in gateways])
