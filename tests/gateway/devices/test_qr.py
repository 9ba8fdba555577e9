"""Labels: the forms that standards, other servers and makers print, and thousands of damaged ones."""

from __future__ import annotations

import random

import pytest

from gateway.devices.qr import MAX_TEXT, Label, LabelError, checksum, parse
from gateway.lorawan.types import AES128Key, DevEUI, JoinEUI

# The example of TR005 (LoRa Alliance, 2020) with every field, and its checksum.
TR005 = "LW:D0:1122334455667788:AABBCCDDEEFF0011:AABB1122:OAABBCCDDEEFF:SYYWWNNNNNN:PFOOBAR:CAF2C"
# From the tests of The Things Stack (pkg/qrcodegenerator, Apache-2.0).
THINGS_STACK = [
    "LW:D0:42FFFFFFFFFFFFFF:4242FFFFFFFFFFFF:42FFFF42",
    "LW:D0:42FFFFFFFFFFFFFF:4242FFFFFFFFFFFF:42FFFF42:O0102:SSERIAL:PPROPRIETARY",
    "URN:LW:DP:42FFFFFFFFFFFFFF:4242FFFFFFFFFFFF:42FFFF42",
    "URN:LW:DP:42FFFFFFFFFFFFFF:4242FFFFFFFFFFFF:42FFFF42:%V0102",
    "URN:DEV:LW:42FFFFFFFFFFFFFF_4242FFFFFFFFFFFF_42FFFF42",
    "URN:DEV:LW:42FFFFFFFFFFFFFF_4242FFFFFFFFFFFF_42FFFF42_V0102",
]
# As makers print them.
MAKERS = {
    "list": "DS026349738;A84041035660E3AA;A840410000000107;A66A89B6606C1BD125B54E7CA4B10DD4",
    "json": '{"DevEUI":"A84041035660E3AA","AppEUI":"A840410000000107","AppKey":"A66A89B6606C1BD125B54E7CA4B10DD4"}',
    "lines": "DevEUI=A84041035660E3AA\nAppEUI=A840410000000107\nAppKey=A66A89B6606C1BD125B54E7CA4B10DD4",
    "commas": "DevEUI:A84041035660E3AA,AppKey:A66A89B6606C1BD125B54E7CA4B10DD4,AppEUI:A840410000000107",
    "grouped": (
        "dev_eui: a8-40-41-03-56-60-e3-aa\nJoinEUI: A8 40 41 00 00 00 01 07\n"
        "App Key = A6:6A:89:B6:60:6C:1B:D1:25:B5:4E:7C:A4:B1:0D:D4"
    ),
    "mail": "Here is the DevEUI A84041035660E3AA with its AppKey A66A89B6606C1BD125B54E7CA4B10DD4 and AppEUI"
    " A840410000000107.",
    "address": "https://maker.example/q?devEUI=A84041035660E3AA&joinEUI=A840410000000107"
    "&appKey=A66A89B6606C1BD125B54E7CA4B10DD4",
}


def test_every_field_of_a_published_example_is_read() -> None:
    label = parse(TR005)
    assert label == Label(
        "LoRaWAN label (TR005)",
        DevEUI(0xAABBCCDDEEFF0011),
        JoinEUI(0x1122334455667788),
        vendor_id="AABB",
        vendor_profile_id="1122",
        owner_token="AABBCCDDEEFF",
        serial="YYWWNNNNNN",
        proprietary="FOOBAR",
        checked=True,
    )


def test_the_checksum_is_that_of_a_published_example() -> None:
    assert checksum(TR005.rpartition(":")[0]) == 0xAF2C


def test_a_label_typed_in_small_letters_keeps_its_checksum() -> None:
    assert parse(TR005.lower()).checked


@pytest.mark.parametrize("at", range(6, len(TR005) - 6))
def test_a_wrong_character_anywhere_does_not_pass_the_checksum(at: int) -> None:
    wrong = "1" if TR005[at] != "1" else "7"
    if TR005[at] == ":":
        return
    with pytest.raises(LabelError):
        parse(TR005[:at] + wrong + TR005[at + 1 :])


@pytest.mark.parametrize("text", THINGS_STACK)
def test_labels_of_another_server_are_read_as_it_reads_them(text: str) -> None:
    label = parse(text)
    assert (label.join_eui, label.dev_eui) == (JoinEUI(0x42FFFFFFFFFFFFFF), DevEUI(0x4242FFFFFFFFFFFF))
    assert (label.vendor_id, label.vendor_profile_id) == ("42FF", "FF42")
    assert label.owner_token == ("0102" if "0102" in text else "")
    assert label.app_key is None


@pytest.mark.parametrize("text", MAKERS.values(), ids=MAKERS)
def test_makers_labels_bring_the_key_too(text: str) -> None:
    label = parse(text)
    assert (label.dev_eui, label.join_eui) == (DevEUI(0xA84041035660E3AA), JoinEUI(0xA840410000000107))
    assert label.app_key == AES128Key.parse("A66A89B6606C1BD125B54E7CA4B10DD4")
    assert "a66a89b6" not in repr(label).lower()


@pytest.mark.parametrize(
    "text",
    ["A84041035660E3AA", "a8:40:41:03:56:60:e3:aa", "A8-40-41-03-56-60-E3-AA", " A8 40 41 03 56 60 E3 AA\n"],
)
def test_a_bare_dev_eui_is_enough(text: str) -> None:
    assert parse(text) == Label("DevEUI", DevEUI(0xA84041035660E3AA))


def test_a_list_tells_which_eui_was_taken_for_which() -> None:
    label = parse(MAKERS["list"])
    assert label.serial == "DS026349738"
    assert "first EUI" in label.notes[0]


def test_the_form_of_one_maker_names_the_join_eui_first() -> None:
    label = parse("URN:LWDP:58A0CB0000210000:58A0CBFFFFFEFFFF:tbms100915:4D4483B1")
    assert (label.dev_eui, label.join_eui) == (DevEUI(0x58A0CBFFFFFEFFFF), JoinEUI(0x58A0CB0000210000))
    assert (label.proprietary, label.owner_token) == ("tbms100915", "4D4483B1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no text"),
        ("\ufeff \n", "no text"),
        ("x" * (MAX_TEXT + 1), "longer than"),
        ("hello world", "no DevEUI"),
        ("LW:D1:1122334455667788:AABBCCDDEEFF0011:AABB1122", "schema 'D1'"),
        ("LW:D0:1122334455667788:AABBCCDDEEFF0011", "too early"),
        ("LW:D0:1122334455667788:AABBCCDDEEFF00XX:AABB1122", "DevEUI 'AABBCCDDEEFF00XX'"),
        ("LW:D0:11223344:AABBCCDDEEFF0011:AABB1122", "JoinEUI '11223344'"),
        (TR005[:-1] + "D", "checksum is AF2D"),
        ('{"DevEUI":"A84041035660E3AA"', "JSON"),
        ('{"AppKey":"A66A89B6606C1BD125B54E7CA4B10DD4"}', "no DevEUI"),
        ('{"DevEUI":"A84041035660E3AA","AppKey":"A66A"}', "AppKey is not 32"),
        ("A84041035660E3AA;A84041035660E3AB;A84041035660E3AC", "3 EUIs"),
        ("URN:LW:DP:42FFFFFFFFFFFFFF", "too early"),
        ("URN:LWDP:58A0CB0000210000:E8E1E1XXXXXXXXXX:x:y", "DevEUI"),
    ],
)
def test_what_is_no_label_is_told_in_words(text: str, words: str) -> None:
    with pytest.raises(LabelError, match=words):
        parse(text)


def test_words_about_a_wrong_key_do_not_show_it() -> None:
    with pytest.raises(LabelError) as error:
        parse('{"DevEUI":"A84041035660E3AA","AppKey":"A66A89B6606C1BD125B54E7CA4B10DD4FF"}')
    assert "A66A89B6" not in str(error.value)


def test_only_its_own_error_comes_out_of_damaged_labels() -> None:
    rng = random.Random(5)
    whole = [TR005, *THINGS_STACK, *MAKERS.values(), "A84041035660E3AA"]
    alphabet = ':;_%{}[]"\\,=|\n\t 0123456789ABCDEFabcdefLWURNPSOC\ud800\u0000é'
    read = refused = 0
    for _ in range(6000):
        text = list(rng.choice(whole))
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(text) + 1)
            match rng.randrange(4):
                case 0:
                    text.insert(at, rng.choice(alphabet))
                case 1:
                    del text[at : at + rng.randrange(1, 20)]
                case 2 if at < len(text):
                    text[at] = rng.choice(alphabet)
                case _:
                    text[at:at] = text[: rng.randrange(30)]
        try:
            parse("".join(text))
            read += 1
        except LabelError:
            refused += 1
    assert read > 500
    assert refused > 500


def test_deep_and_long_texts_are_refused_soon() -> None:
    for text in ("[" * 4000, '{"a":' * 800, "DevEUI " * 600, "A" * 4200, "a " * 2000, "-" * 4200):
        with pytest.raises(LabelError):
            parse(text)
