"""Which frames a server is given: NetIDs and DevAddrs, joins, and what is no uplink.

The DevAddr blocks are those of the LoRaWAN Backend Interfaces 1.1; the pairs of NetID and DevAddr are the test
data of the helium/router project (lora_subnet, "CP data"), which covers all eight types.
"""

import random
from collections.abc import Sequence
from typing import Any

import pytest

from radio.filters import EVERYTHING, MAX_ENTRIES, Block, Filter, Why, net_id_block, parse_block
from radio.gwmp import RxPacket
from radio.lora import LoRaModulation

LEFT = bytes(4)  # MIC


def rx(data: bytes, stat: int = 1) -> RxPacket:
    return RxPacket(0, 868_100_000, 0, 0, stat, LoRaModulation(7, 125_000), -50, 7.0, data)


def data_up(dev_addr: int, mhdr: int = 0x40) -> RxPacket:
    return rx(bytes((mhdr,)) + dev_addr.to_bytes(4, "little") + b"\x00\x01\x00" + LEFT)


def join(join_eui: int, dev_eui: int = 5) -> RxPacket:
    return rx(b"\x00" + join_eui.to_bytes(8, "little") + dev_eui.to_bytes(8, "little") + b"\x01\x00" + LEFT)


@pytest.mark.parametrize(
    ("net_id", "dev_addr"),
    [
        pytest.param(0x00002D, bytes((91, 255, 255, 255)), id="type 0"),
        pytest.param(0x20002D, bytes((173, 255, 255, 255)), id="type 1"),
        pytest.param(0x40016D, bytes((214, 223, 255, 255)), id="type 2"),
        pytest.param(0x6005B7, bytes((235, 111, 255, 255)), id="type 3"),
        pytest.param(0x800B6D, bytes((245, 182, 255, 255)), id="type 4"),
        pytest.param(0xA016DB, bytes((250, 219, 127, 255)), id="type 5"),
        pytest.param(0xC05B6D, bytes((253, 109, 183, 255)), id="type 6"),
        pytest.param(0xE16DB6, bytes((254, 182, 219, 127)), id="type 7"),
        pytest.param(0x000013, bytes.fromhex("26123456"), id="The Things Network, 26000000/7"),
        pytest.param(0x000013, bytes.fromhex("27ffffff"), id="The Things Network, its last"),
        pytest.param(0x000000, bytes(4), id="private"),
    ],
)
def test_a_net_id_names_its_dev_addrs(net_id: int, dev_addr: bytes) -> None:
    addr = int.from_bytes(dev_addr, "big")
    assert addr in net_id_block(net_id)
    passes = Filter.of(net_ids=[f"{net_id:06x}"], join_euis=[])
    assert passes.why_not(data_up(addr)) is Why.PASSES
    assert passes.why_not(data_up(addr ^ 1 << 31)) is Why.DEV_ADDR


def test_the_blocks_of_all_types_share_no_dev_addr_and_leave_only_the_reserved_ones() -> None:
    blocks = []
    for kind, (prefix_bits, nwk_id_bits) in enumerate(
        ((1, 6), (2, 6), (3, 9), (4, 11), (5, 12), (6, 13), (7, 15), (8, 17))
    ):
        first, last = net_id_block(kind << 21), net_id_block(kind << 21 | (1 << nwk_id_bits) - 1)
        assert (first.high + 1 - first.low) == 1 << (32 - prefix_bits - nwk_id_bits)
        blocks.append(Block(first.low, last.high))
    assert [each.low for each in blocks[1:]] == [each.high + 1 for each in blocks[:-1]]
    assert blocks[-1].high == 0xFEFFFFFF


def test_a_net_id_of_more_than_24_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="24 bits"):
        net_id_block(1 << 24)


TTN = Filter.of(net_ids=["000013"], dev_addrs=["fc00ac00..fc00ac03"], join_euis=["70b3d57ed0000000/36"])


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        pytest.param(data_up(0x26000001), Why.PASSES, id="data of the network"),
        pytest.param(data_up(0x26000001, 0x80), Why.PASSES, id="confirmed data"),
        pytest.param(data_up(0x01020304), Why.DEV_ADDR, id="data of another network"),
        pytest.param(data_up(0xFC00AC02), Why.PASSES, id="in the range"),
        pytest.param(data_up(0xFC00AC04), Why.DEV_ADDR, id="behind the range"),
        pytest.param(join(0x70B3D57ED0001234), Why.PASSES, id="join of the network"),
        pytest.param(join(0x70B3D57EE0000000), Why.JOIN, id="join of another"),
        pytest.param(rx(b"\xc0\x00" + b"\x13\x00\x00" + bytes(14)), Why.PASSES, id="rejoin type 0"),
        pytest.param(rx(b"\xc0\x02" + b"\x14\x00\x00" + bytes(14)), Why.JOIN, id="rejoin of another network"),
        pytest.param(
            rx(b"\xc0\x01" + (0x70B3D57ED0000001).to_bytes(8, "little") + bytes(14)),
            Why.PASSES,
            id="rejoin type 1",
        ),
        pytest.param(rx(b"\xc0\x01" + bytes(22)), Why.JOIN, id="rejoin type 1 of another JoinEUI"),
        pytest.param(rx(b"\xc0\x03" + bytes(17)), Why.MALFORMED, id="rejoin of no known type"),
        pytest.param(rx(b"\x20" + bytes(16)), Why.DOWNLINK, id="join-accept"),
        pytest.param(data_up(0x26000001, 0x60), Why.DOWNLINK, id="downlink data"),
        pytest.param(data_up(0x26000001, 0xA0), Why.DOWNLINK, id="confirmed downlink data"),
        pytest.param(rx(b"\xe0hello"), Why.PROPRIETARY, id="proprietary"),
        pytest.param(rx(b""), Why.MALFORMED, id="empty"),
        pytest.param(rx(b"\x40\x01\x00\x00\x26"), Why.MALFORMED, id="cut"),
        pytest.param(data_up(0x26000001, 0x41), Why.MALFORMED, id="another major version"),
        pytest.param(rx(data_up(0x26000001).data, stat=-1), Why.CRC, id="CRC error"),
        pytest.param(rx(data_up(0x26000001).data, stat=0), Why.PASSES, id="no CRC"),
    ],
)
def test_a_network_gets_only_its_own(frame: RxPacket, why: Why) -> None:
    assert TTN.why_not(frame) is why
    assert EVERYTHING.why_not(frame) is Why.PASSES


def test_without_lists_every_uplink_passes_and_nothing_else() -> None:
    plain = Filter.of()
    assert plain.why_not(data_up(1)) is plain.why_not(join(1)) is Why.PASSES
    assert plain.why_not(rx(b"\xe0x")) is Why.PROPRIETARY
    assert plain.why_not(rx(b"\x20" + bytes(16))) is Why.DOWNLINK
    assert plain.why_not(rx(data_up(1).data, -1)) is Why.CRC
    assert Filter.of(proprietary=True).why_not(rx(b"\xe0x")) is Why.PASSES
    assert Filter.of(crc_errors=True).why_not(rx(b"", -1)) is Why.PASSES


def test_an_empty_list_lets_nothing_pass_and_a_star_everything() -> None:
    joins_only = Filter.of(dev_addrs=[], join_euis=["*"])
    assert joins_only.why_not(data_up(1)) is Why.DEV_ADDR
    assert joins_only.why_not(join(1)) is Why.PASSES


def test_an_exclamation_mark_takes_out_of_the_others_or_of_everything() -> None:
    all_but_mine = Filter.of(net_ids=["!000000"], join_euis=["!70b3d57ed0000000/36"])
    assert all_but_mine.why_not(data_up(0x01000001)) is Why.DEV_ADDR
    assert all_but_mine.why_not(data_up(0x26000001)) is Why.PASSES
    assert all_but_mine.why_not(join(0x70B3D57ED0000001)) is Why.JOIN
    assert all_but_mine.why_not(join(1)) is Why.PASSES
    assert all_but_mine.why_not(rx(b"\xc0\x00" + b"\x00\x00\x00" + bytes(14))) is Why.JOIN
    part = Filter.of(net_ids=["000013"], dev_addrs=["!26011000/20"], join_euis=[])
    assert part.why_not(data_up(0x26011FFF)) is Why.DEV_ADDR
    assert part.why_not(data_up(0x26012000)) is Why.PASSES


def test_dev_euis_narrow_the_joins() -> None:
    one = Filter.of(net_ids=["*"], join_euis=["*"], dev_euis=["00-00-00-00-00-00-00-07"])
    assert one.why_not(join(1, 7)) is Why.PASSES
    assert one.why_not(join(1, 8)) is Why.JOIN
    assert one.takes_join(1, 7)
    assert not one.takes_join(1, 8)


@pytest.mark.parametrize(
    ("text", "digits", "block"),
    [
        ("26000000/7", 8, Block(0x26000000, 0x27FFFFFF)),
        ("00000000/0", 8, Block(0, 0xFFFFFFFF)),
        ("26012345", 8, Block(0x26012345, 0x26012345)),
        ("0x26012345/32", 8, Block(0x26012345, 0x26012345)),
        ("70:B3:D5:7E:D0:00:00:00", 16, Block(0x70B3D57ED0000000, 0x70B3D57ED0000000)),
        ("70B3D57ED0000000..70B3D57ED0FFFFFF", 16, Block(0x70B3D57ED0000000, 0x70B3D57ED0FFFFFF)),
        ("70B3D57ED0000000-70B3D57ED0FFFFFF", 16, Block(0x70B3D57ED0000000, 0x70B3D57ED0FFFFFF)),
        (" 26000000 .. 27ffffff ", 8, Block(0x26000000, 0x27FFFFFF)),
    ],
)
def test_the_forms_of_an_entry(text: str, digits: int, block: Block) -> None:
    assert parse_block(text, digits) == block


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"net_ids": ["13"], "join_euis": []}, r"net_ids: '13': .* has 2 hex digits, not 6"),
        ({"net_ids": ["00001g"], "join_euis": []}, r"net_ids: '00001g': .* no hex digit"),
        ({"dev_addrs": ["26012345/7"], "join_euis": []}, r"dev_addrs: .* beyond its 7 bits: 26000000/7"),
        ({"dev_addrs": ["26000000/33"], "join_euis": []}, r"/33 is not a number of bits from 0 to 32"),
        ({"dev_addrs": ["26000000/\u0667"], "join_euis": []}, "not a number of bits"),
        ({"join_euis": ["2..1"], "dev_addrs": []}, "has 1 hex digits, not 16"),
        ({"join_euis": ["f" * 16 + ".." + "0" * 16], "net_ids": []}, "above the last"),
        ({"join_euis": ["0" * 16] * (MAX_ENTRIES + 1), "net_ids": []}, "257 entries, 256 are the most"),
        ({"net_ids": ["000013"]}, "say with join_euis which joins"),
        ({"dev_euis": ["*"]}, "say with net_ids or dev_addrs which data"),
    ],
)
def test_what_cannot_be_used_is_said_with_its_list_and_entry(
    settings: dict[str, Sequence[str]], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        Filter.of(**settings)  # type: ignore[arg-type]


def test_damaged_entries_raise_only_value_error() -> None:
    rng = random.Random(0xF117)
    seeds = ["26000000/7", "70B3D57ED0000000..70B3D57ED0FFFFFF", "!0x000013", "*", "00-00-00-00-00-00-00-07"]
    taken = 0
    for _ in range(4000):
        text = list(rng.choice(seeds))
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(text) + 1)
            text[at : at + rng.randrange(3)] = rng.choice(
                ["", "/", "-", "..", "!", "f", "\u0660", "0x", " ", "*"]
            )
        entry = "".join(text)
        name = rng.choice(("net_ids", "dev_addrs", "join_euis"))
        lists: dict[str, Any] = {"dev_addrs": ["*"], "join_euis": ["*"], name: [entry]}
        try:
            Filter.of(**lists)
            taken += 1
        except ValueError:
            pass
    assert taken > 100


def test_frames_of_noise_are_judged_without_an_error() -> None:
    rng = random.Random(0xF118)
    for _ in range(5000):
        frame = bytes((rng.choice((0x00, 0x20, 0x40, 0x60, 0x80, 0xA0, 0xC0, 0xE0, 0x41)),)) + rng.randbytes(
            rng.choice((0, 1, 11, 16, 18, 22, 23))
        )
        for one in (TTN, EVERYTHING, Filter.of()):
            assert isinstance(one.why_not(rx(frame[: rng.randrange(len(frame) + 1)] or frame)), Why)


def test_frames_built_and_read_by_another_implementation_show_their_addresses() -> None:
    """Built, and the rejoin-requests read, by npm lora-packet 0.9: it names the same addresses."""
    data = rx(bytes.fromhex("40da1b0126000100016fb489bfd2"))  # DevAddr 26011bda
    request = rx(bytes.fromhex("00010000d07ed5b37030051c000ba30400010000449f35"))
    rejoin_0 = rx(bytes.fromhex("c00013000030051c000ba30400010001020304"))  # NetID 000013
    rejoin_1 = rx(bytes.fromhex("c001010000d07ed5b37030051c000ba30400010001020304"))
    for frame in (data, request, rejoin_0, rejoin_1):
        assert TTN.why_not(frame) is Why.PASSES
    other = Filter.of(net_ids=["000014"], join_euis=["70b3d57ed0000001"], dev_euis=["0004a30b001c0530"])
    assert other.why_not(data) is Why.DEV_ADDR
    assert other.why_not(rejoin_0) is Why.JOIN
    assert other.why_not(request) is other.why_not(rejoin_1) is Why.PASSES
    elsewhere = Filter.of(net_ids=["000013"], join_euis=["70b3d57ed0000001"], dev_euis=["!0004a30b001c0530"])
    for frame in (request, rejoin_0, rejoin_1):
        assert elsewhere.why_not(frame) is Why.JOIN
