"""What people type, as values or as one sentence per field."""

from __future__ import annotations

import random

import pytest

from webui.device_forms import device_body, read_device
from webui.forms import maybe_hex, read_claim, read_downlink, read_sign_in

OTAA = {
    "dev_eui": "A8:40:41:FF:FF:1C:3D:5E",
    "name": "  Cold   room 1 ",
    "activation": "otaa",
    "join_eui": "70b3d57ed0001a2b",
    "app_key": "2B7E1516 28AED2A6 ABF71588 09CF4F3C",
    "codec": "cayenne",
}
ABP = {
    "dev_eui": "a84041ffff1c3d5e",
    "name": "Cellar",
    "activation": "abp",
    "dev_addr": "2601-1BDA",
    "nwk_s_key": "00112233445566778899aabbccddeeff",
    "app_s_key": "0x00112233445566778899aabbccddeeff",
    "codec": "raw",
}
PASSPHRASE = "four or five words"


@pytest.mark.parametrize(
    ("typed", "octets", "found"),
    [
        ("A8 40-41:ff", 4, "a84041ff"),
        ("0xA84041FF", 4, "a84041ff"),
        ("a84041f", 4, None),
        ("a84041fg", 4, None),
        ("", None, ""),
        ("٣٤", 1, None),  # digits of another script are not hex
    ],
)
def test_hex_as_labels_print_it(typed: str, octets: int | None, found: str | None) -> None:
    assert maybe_hex(typed, octets) == found


def test_a_joining_device_needs_join_eui_and_key() -> None:
    form = read_device(OTAA)
    assert form.errors == {}
    assert device_body(form) == {
        "dev_eui": "a84041ffff1c3d5e",
        "name": "Cold room 1",
        "activation": "otaa",
        "join_eui": "70b3d57ed0001a2b",
        "app_key": "2b7e151628aed2a6abf7158809cf4f3c",
        "codec": "cayenne",
    }


def test_fields_of_the_other_activation_are_not_asked_for_and_not_sent() -> None:
    form = read_device({**ABP, "join_eui": "nonsense", "app_key": "nonsense"})
    assert form.errors == {}
    assert set(device_body(form)) == {
        "dev_eui",
        "name",
        "activation",
        "dev_addr",
        "nwk_s_key",
        "app_s_key",
        "codec",
    }


@pytest.mark.parametrize(
    ("field", "typed"),
    [
        ("dev_eui", "a84041ffff1c3d"),
        ("dev_eui", ""),
        ("name", "   "),
        ("name", "x" * 65),
        ("name", "Cold\x00room"),
        ("join_eui", "70b3d57ed0001a2z"),
        ("app_key", "2b7e"),
        ("nwk_key", "2b7e"),
        ("interval", "soon"),
        ("interval", "99999999"),
        ("description", "x" * 501),
    ],
)
def test_a_bad_field_is_named_and_what_was_typed_is_kept(field: str, typed: str) -> None:
    form = read_device({**OTAA, field: typed})
    assert set(form.errors) == {field}
    assert form.values["app_key" if field != "app_key" else "dev_eui"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"code": " "}, "code"),
        ({"email": "nobody"}, "email"),
        ({"email": "a b@example.org"}, "email"),
        ({"password": "short", "again": "short"}, "password"),
        ({"password": "x" * 257, "again": "x" * 257}, "password"),
        ({"again": "something else"}, "again"),
    ],
)
def test_claim_form(change: dict[str, str], field: str) -> None:
    good = {"code": "K7QM-2XVD", "email": "tech@example.org", "password": PASSPHRASE, "again": PASSPHRASE}
    assert read_claim(good).errors == {}
    assert set(read_claim({**good, **change}).errors) == {field}


def test_a_passphrase_is_kept_exactly_as_typed() -> None:
    spaced = "  four or five words  "
    assert read_sign_in({"email": " tech@example.org ", "password": spaced}).values == {
        "email": "tech@example.org",
        "password": spaced,
    }


@pytest.mark.parametrize("port", ["0", "224", "-1", "1.5", "²", "", "9" * 400])
def test_downlink_port_is_one_of_the_application(port: str) -> None:
    assert set(read_downlink({"fport": port, "payload": "01"}).errors) == {"fport"}


def test_downlink_payload_is_hex() -> None:
    form = read_downlink({"fport": "223", "payload": "01 00 FF", "confirmed": "yes"})
    assert (form.fport, form.payload, form.confirmed, form.errors) == (223, b"\x01\x00\xff", True, {})
    assert set(read_downlink({"fport": "1", "payload": "xyz"}).errors) == {"payload"}
    assert set(read_downlink({"fport": "1", "payload": "00" * 243}).errors) == {"payload"}
    assert read_downlink({"fport": "1", "payload": ""}).payload == b""


def test_no_input_whatever_breaks_a_form() -> None:
    """Seeded damage: each reader gives values or sentences, and never raises."""
    rng = random.Random(20_250_101)
    alphabet = "0123456789abcdefABCDEF :-.@xX\x00\u202e\ud83d\ude00é\n\t<>'\"%"
    for _ in range(3000):
        posted = dict(rng.choice((OTAA, ABP)))
        for _ in range(rng.randint(1, 4)):
            field = rng.choice([*posted, "fport", "payload", "email", "password", "again", "code"])
            posted[field] = "".join(rng.choices(alphabet, k=rng.choice((0, 1, 8, 16, 32, 300))))
        form = read_device(posted)
        if not form.errors:
            assert len(form.values["dev_eui"]) == 16
        read_claim(posted)
        read_sign_in(posted)
        read_downlink(posted)
