"""The channels a device has, as it counts them."""

import pytest

from gateway.lorawan.channels import MAX_DYNAMIC, ChannelTable, in_ranges
from radio.regions import get_region

EU868, US915 = get_region("EU868"), get_region("US915")


def test_a_table_without_a_region_is_empty():
    table = ChannelTable()
    assert (table.index(868_100_000), table.freq_hz(0), table.enabled, list(table)) == (None, None, 0, [])


def test_default_channels_are_counted_as_the_region_does():
    table = ChannelTable(EU868)
    assert [table.index(hz) for hz in (868_100_000, 868_300_000, 868_500_000)] == [0, 1, 2]
    assert table.index(867_100_000) is None
    assert table.enabled == 0b111
    wide = ChannelTable(US915)
    assert (wide.index(902_300_000), wide.index(903_000_000)) == (
        0,
        64,
    )  # the first narrow and the first wide one
    assert wide.enabled == (1 << 72) - 1


def test_an_added_channel_is_enabled_at_once_and_leaves_with_its_mask_bit():
    table = ChannelTable(EU868)
    table.add(5, 867_300_000, 0, 5)
    assert (table.index(867_300_000), table.freq_hz(5), list(table)) == (5, 867_300_000, [0, 1, 2, 5])
    assert table.enabled == 0b100111
    table.enable(0b000001)
    table.add(6, 867_500_000, 0, 5)
    assert table.enabled == 0b1000001
    table.remove(6)
    table.remove(7)
    assert table.enabled == 0b1


def test_the_mask_of_every_channel_stays_so_when_one_is_added():
    table = ChannelTable(EU868)
    table.enable(0b111)
    table.add(3, 867_100_000, 0, 5)
    assert table.enabled == table.all_on == 0b1111


@pytest.mark.parametrize("index", [0, 2, MAX_DYNAMIC])
def test_default_channels_and_numbers_beyond_the_last_cannot_be_defined(index):
    with pytest.raises(ValueError, match=f"channel {index} is not one of 3 to 15"):
        ChannelTable(EU868).add(index, 867_100_000, 0, 5)


def test_rx1_of_a_channel_can_be_moved_and_comes_back_when_the_channel_is_defined_anew():
    table = ChannelTable(EU868)
    table.add(3, 867_100_000, 0, 5)
    table.move_rx1(3, 869_525_000)
    assert (table.rx1_hz(867_100_000), table.rx1_hz(868_100_000), table.rx1_hz(1)) == (
        869_525_000,
        None,
        None,
    )
    table.add(3, 867_300_000, 0, 5)
    assert table.rx1_hz(867_300_000) is None
    table.move_rx1(3, 869_525_000)
    table.remove(3)
    assert table.dl_freq == {}


def test_tables_share_nothing_they_change():
    one, other = ChannelTable(EU868), ChannelTable(EU868)
    one.add(3, 867_100_000, 0, 5)
    one.move_rx1(0, 869_525_000)
    assert (list(other), other.dl_freq) == ([0, 1, 2], {})


def test_channel_numbers_are_shown_in_ranges():
    assert in_ranges([8, 9, 10, 65]) == "8-10, 65"
    assert in_ranges([]) == ""
