"""Identifiers own byte order and hex form; keys show nothing."""

import pytest

from gateway.lorawan.types import AES128Key, DevAddr, DevEUI, NetID


@pytest.mark.parametrize(
    "text", ["70b3d57ed0000001", "70B3D57ED0000001", "70:B3:D5:7E:D0:00:00:01", "70-b3-d5-7e-d0-00-00-01"]
)
def test_an_eui_is_read_in_every_usual_spelling(text):
    eui = DevEUI.parse(text)
    assert str(eui) == "70b3d57ed0000001"
    assert eui.wire == bytes.fromhex("010000d07ed5b370")
    assert DevEUI.from_wire(eui.wire) == eui


def test_a_reversed_eui_is_the_same_bytes_the_other_way_round():
    assert str(DevEUI.parse("0011223344556677").reversed) == "7766554433221100"


@pytest.mark.parametrize("text", ["", "70b3", "70b3d57ed00000011", "70b3d57ed000000g"])
def test_what_is_no_eui_is_refused(text):
    with pytest.raises(ValueError, match="DevEUI"):
        DevEUI.parse(text)


def test_a_private_network_prefixes_its_addresses():
    assert NetID(0).dev_addr(0x1FF_FFFF) == DevAddr.parse("01ffffff")
    assert NetID(1).dev_addr(0) == DevAddr.parse("02000000")
    assert NetID(0x13).dev_addr(0x12E43) == DevAddr.parse("26012e43")  # the address TTN gave in a known join
    assert NetID(1).owns(DevAddr.parse("03ffffff"))
    assert not NetID(1).owns(DevAddr.parse("04000000"))


def test_a_net_id_of_another_type_has_no_short_prefix():
    with pytest.raises(ValueError, match="type 0"):
        _ = NetID.parse("600001").dev_addr_prefix


def test_a_key_shows_itself_to_nobody():
    key = AES128Key.parse("2B7E151628AED2A6ABF7158809CF4F3C")
    assert "2b7e" not in f"{key} {key!r} {[key]}".lower()
    with pytest.raises(ValueError, match="32 hex digits") as caught:
        AES128Key.parse("2B7E151628AED2A6ABF7158809CF4F")
    assert "2B7E" not in str(caught.value)
