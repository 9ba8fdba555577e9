"""Margins to data rates, channels to masks; expected masks are worked out from RP002's tables."""

import pytest

from gateway.lorawan import adr
from gateway.lorawan.mac import LinkADRReq
from radio.lora import LoRaModulation
from radio.regions import get_region

EU868, US915 = get_region("EU868"), get_region("US915")


def test_margin_is_what_is_left_after_the_demodulation_floor_and_the_installation_margin():
    assert adr.margin_db(5.0, LoRaModulation(12, 125_000), 10.0) == 15.0
    assert adr.margin_db(-7.5, LoRaModulation(7, 125_000), 10.0) == -10.0


@pytest.mark.parametrize(
    ("margin", "before", "after"),
    [
        pytest.param(2.9, (0, 0), (0, 0), id="less than a step"),
        pytest.param(3.0, (0, 0), (1, 0), id="one step is a data rate"),
        pytest.param(15.0, (0, 0), (5, 0), id="all to the data rate"),
        pytest.param(21.0, (0, 0), (5, 2), id="the rest to the power"),
        pytest.param(60.0, (5, 0), (5, 7), id="never beyond the weakest power"),
        pytest.param(-3.1, (5, 4), (5, 2), id="power comes back"),
        pytest.param(-30.0, (3, 1), (3, 0), id="data rate never goes down"),
    ],
)
def test_steps_of_3_db_raise_the_rate_first_and_then_lower_the_power(margin, before, after):
    assert adr.adapt(margin, *before, max_dr=5, max_tx_power=7) == after


@pytest.mark.parametrize(
    ("region", "channels", "expected"),
    [
        pytest.param(EU868, None, [(6, 0)], id="EU868, all"),
        pytest.param(EU868, [0], [(0, 0x0001)], id="EU868, the first channel"),
        pytest.param(EU868, [0, 2, 5], [(0, 0x0025)], id="EU868, some"),
        pytest.param(US915, None, [(6, 0x00FF)], id="US915, all"),
        pytest.param(US915, range(8, 16), [(7, 0), (0, 0xFF00)], id="US915, sub-band 2 without 500 kHz"),
        pytest.param(US915, [*range(8, 16), 65], [(7, 0x0002), (0, 0xFF00)], id="US915, sub-band 2"),
        pytest.param(US915, [15, 16], [(7, 0), (0, 0x8000), (1, 0x0001)], id="US915, across groups"),
        pytest.param(get_region("CN470"), None, [(6, 0)], id="CN470, all"),
        pytest.param(
            get_region("CN470"),
            range(80, 88),
            [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0x00FF)],
            id="CN470 names every group",
        ),
        pytest.param(get_region("CN470-20A"), [32], [(7, 0), (2, 0x0001)], id="CN470-20A, one channel"),
        pytest.param(get_region("CN470-26A"), None, [(3, 0)], id="CN470-26A, all"),
        pytest.param(get_region("CN470-26B"), [0, 47], [(4, 0), (0, 1), (2, 0x8000)], id="CN470-26B, two"),
    ],
)
def test_channels_become_one_block_of_masks(region, channels, expected):
    block = adr.link_adr_block(region, channels, 3, 1, 1)
    assert [(request.ch_mask_cntl, request.ch_mask) for request in block] == expected
    assert all(isinstance(request, LinkADRReq) and request.data_rate == 3 for request in block)


def test_a_cflist_of_frequencies_ends_in_type_0():
    extra = (867_100_000, 867_300_000, 867_500_000, 867_700_000, 867_900_000)
    # the CFList of a published join-accept of The Things Network
    assert adr.cflist(EU868, extra, None).hex() == "184f84e85684b85e84886684586e8400"
    assert adr.cflist(EU868, extra[:1], None).hex() == "184f84" + 13 * "00"
    assert adr.cflist(EU868, (), [0]) == b""


def test_a_cflist_of_masks_ends_in_type_1():
    assert adr.cflist(US915, (), [*range(8, 16), 65]).hex() == "00ff" + 3 * "0000" + "0200" + 5 * "00" + "01"
    assert adr.cflist(US915, (), None) == b""
    assert adr.cflist(get_region("CN470"), (), range(80, 88)).hex() == 10 * "00" + "ff00" + 3 * "00" + "01"
