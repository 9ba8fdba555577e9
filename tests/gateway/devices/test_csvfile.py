"""Delivery lists as others write them, and damaged ones."""

from __future__ import annotations

import random

import pytest

from gateway.devices.csvfile import MAX_BYTES, MAX_LINES, FileError, read

EUI, JOIN, KEY = "a84041035660e3aa", "a840410000000107", "a66a89b6606c1bd125b54e7ca4b10dd4"
# The documented columns of The Things Stack's CSV import.
THINGS_STACK = (
    "id;dev_eui;join_eui;name;frequency_plan_id;lorawan_version;lorawan_phy_version;brand_id;model_id;"
    "hardware_version;firmware_version;band_id;app_key;nwk_key;supports_class_c\n"
    f"dev-1;{EUI};{JOIN};Shed;EU_863_870_TTN;MAC_V1_0_3;PHY_V1_0_3_REV_A;;;;;;{KEY};;true\n"
)
CHIRPSTACK = (
    f"dev_eui,join_eui,name,description,device_profile_id,nwk_key\n{EUI},{JOIN},Shed,by the door,7f0e,{KEY}\n"
)
SPREADSHEET = f"SN,Device EUI,App EUI,App Key,Model\n6136D1,{EUI.upper()},{JOIN},{KEY},EM300\n"


@pytest.mark.parametrize("text", [THINGS_STACK, CHIRPSTACK, SPREADSHEET])
def test_lists_of_others_are_read(text: str) -> None:
    (row,) = read(text.encode()).rows
    assert row.line == 2
    assert row.values["dev_eui"].lower() == EUI
    assert row.values["join_eui"] == JOIN
    assert KEY in (row.values.get("app_key"), row.values.get("nwk_key"))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_delimiter_and_encoding_are_found(delimiter: str, encoding: str, end: str) -> None:
    text = end.join(
        [delimiter.join(["DevEUI", "AppKey", "Name"]), delimiter.join([EUI, KEY, "Kühlraum"]), ""]
    )
    table = read(text.encode(encoding))
    assert table.delimiter == delimiter
    assert table.rows[0].values == {"dev_eui": EUI, "app_key": KEY, "name": "Kühlraum"}


def test_cells_may_be_quoted_and_hold_the_delimiter() -> None:
    table = read(f'"dev_eui","name"\n"{EUI}","Door, ""east"""\n'.encode())
    assert table.rows[0].values["name"] == 'Door, "east"'


def test_a_spreadsheets_word_on_its_delimiter_and_remarks_are_passed_over() -> None:
    table = read(f"sep=;\n# delivered in May\ndev_eui;app_key\n\n{EUI};{KEY}\n".encode())
    assert [row.line for row in table.rows] == [5]


def test_a_list_without_header_is_read_where_it_is_plain() -> None:
    table = read(f"{EUI},{JOIN},{KEY},Shed\n{EUI[:-1]}b,{JOIN},{KEY},Barn\n".encode())
    assert [row.values["name"] for row in table.rows] == ["Shed", "Barn"]
    assert table.rows[0].values["join_eui"] == JOIN


def test_columns_nobody_knows_are_named() -> None:
    table = read(f"dev_eui,app_key,favourite colour,model\n{EUI},{KEY},red,x\n".encode())
    assert table.ignored == ["favourite colour"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"dev_eui,app_key\n", "no devices"),
        (b"sep=;\n", "no devices"),
        (b"name,colour\nx,y\n", "no column is called dev_eui"),
        (b"dev_eui,DevEUI\nx,y\n", "both are dev_eui"),
        (b"PK\x03\x04\0\0", "no text file"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b'dev_eui,name\n"' + b"x" * 2000, "far too long"),
        (b"dev_eui" + b"," * 100 + b"\n" + EUI.encode(), "far too long"),
        (b"x" * (MAX_BYTES + 1), "4 MB"),
        (b"dev_eui\n" + EUI.encode() * 1 + b"\nx" * (MAX_LINES + 1), "more than 10000 devices"),
    ],
)
def test_what_is_no_list_is_told_in_words(data: bytes, words: str) -> None:
    with pytest.raises(FileError, match=words):
        read(data)


def test_ten_thousand_lines_are_read() -> None:
    data = b"dev_eui,app_key\n" + b"".join(
        b"%016x,%s\n" % (number, KEY.encode()) for number in range(MAX_LINES)
    )
    assert len(read(data).rows) == MAX_LINES


def test_keys_are_in_no_repr() -> None:
    assert KEY not in repr(read(SPREADSHEET.encode()))


def test_only_its_own_error_comes_out_of_damaged_lists() -> None:
    rng = random.Random(7)
    whole = [
        text.encode(code) for text in (THINGS_STACK, CHIRPSTACK, SPREADSHEET) for code in ("utf-8", "utf-16")
    ]
    read_well = refused = 0
    for _ in range(4000):
        data = bytearray(rng.choice(whole))
        for _ in range(rng.randrange(1, 5)):
            at = rng.randrange(len(data) + 1)
            match rng.randrange(3):
                case 0:
                    data[at:at] = rng.choice(
                        (b'"', b";", b",", b"\n", b"\r", b"\0", b"\xff", b"\xe9", b"dev_eui")
                    )
                case 1:
                    del data[at : at + rng.randrange(1, 30)]
                case _:
                    data[at : at + 1] = rng.randbytes(1)
        try:
            read(bytes(data))
            read_well += 1
        except FileError:
            refused += 1
    assert read_well > 300
    assert refused > 300
