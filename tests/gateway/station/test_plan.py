"""What concentrators are told to hear, region by region."""

import json
from typing import Any

import pytest

from gateway.station.plan import MAX_CHANNELS, MAX_OFFSET_HZ, STATION_REGIONS, router_config
from radio.regions import get_region, region_names
from radio.station.codec import encode_down

# The plan that The Things Network and others use in North America (FSB 2), with its concentrator settings
US915_GROUP_2 = [903_900_000 + 200_000 * i for i in range(8)]


def config_of(region: str, **changes: Any) -> dict[str, Any]:
    text = encode_down(router_config(get_region(region), **changes))
    config: dict[str, Any] = json.loads(text)
    return config


def heard(config: dict[str, Any]) -> list[int]:
    """Frequencies of the narrow IF chains, as the concentrator computes them."""
    (chip,) = config["sx1301_conf"]
    chains = [chip[f"chan_multiSF_{i}"] for i in range(8)]
    return [chip[f"radio_{chain['radio']}"]["freq"] + chain["if"] for chain in chains if chain["enable"]]


@pytest.mark.parametrize("region", region_names())
def test_every_region_has_channels_a_concentrator_can_hear(region: str) -> None:
    config = config_of(region)
    assert config["region"] == STATION_REGIONS[region]
    assert config["hwspec"] == "sx1301/1"
    assert len(config["DRs"]) == 16
    narrow = heard(config)
    assert 1 <= len(narrow) <= MAX_CHANNELS
    assert narrow == sorted(narrow)
    assert set(narrow) <= {freq_hz for freq_hz, _, _ in config["upchannels"]}
    (chip,) = config["sx1301_conf"]
    for i in range(8):
        assert abs(chip[f"chan_multiSF_{i}"].get("if", 0)) <= MAX_OFFSET_HZ
    low_hz, high_hz = config["freq_range"]
    parameters = get_region(region)
    for freq_hz in (*narrow, parameters.rx2[0], *parameters.downlink_channels_hz):
        assert low_hz <= freq_hz <= high_hz
    for freq_hz, low_dr, high_dr in config["upchannels"]:
        assert parameters.uplink_data_rates[low_dr].bw_hz == parameters.uplink_data_rates[high_dr].bw_hz
        assert freq_hz


def test_europe_is_what_basics_stations_documents_show() -> None:
    config = config_of("EU868")
    assert config["region"] == "EU863"
    assert config["DRs"][:6] == [[12 - dr, 125, 0] for dr in range(6)]
    assert config["DRs"][6:8] == [[7, 250, 0], [-1, 0, 0]]
    assert (config["freq_range"], config["max_eirp"]) == ([863_000_000, 870_000_000], 16.0)
    assert (config["NetID"], config["JoinEui"]) == (None, None)
    assert heard(config) == [867_100_000 + 200_000 * i for i in range(8)]
    (chip,) = config["sx1301_conf"]
    assert (chip["radio_0"]["freq"], chip["radio_1"]["freq"]) == (867_500_000, 868_300_000)
    assert chip["chan_FSK"] == {"enable": False}


def test_north_america_is_the_second_group_with_its_wide_channel() -> None:
    config = config_of("US915")
    assert config["region"] == "US902"
    assert heard(config) == US915_GROUP_2
    assert config["upchannels"] == [[freq_hz, 0, 3] for freq_hz in US915_GROUP_2] + [[904_600_000, 4, 4]]
    # As in Basics Station's regression tests (US902): downlink-only rates carry a 1, unused ones -1
    unused = [-1, 0, 0]
    assert config["DRs"][:8] == [[10 - dr, 125, 0] for dr in range(4)] + [[8, 500, 0]] + [unused] * 3
    assert config["DRs"][8:] == [[12 - i, 500, 1] for i in range(6)] + [unused] * 2
    (chip,) = config["sx1301_conf"]
    assert chip["chan_Lora_std"] == {
        "enable": True,
        "radio": 0,
        "if": 300_000,
        "bandwidth": 500_000,
        "spread_factor": 8,
    }
    first = config_of("US915", uplink_channels=range(8))
    assert heard(first)[0] == 902_300_000
    assert first["upchannels"][-1] == [903_000_000, 4, 4]


def test_devices_channels_are_heard() -> None:
    assert heard(config_of("EU868", cflist_hz=(867_900_000, 868_700_000))) == [
        867_900_000,
        868_100_000,
        868_300_000,
        868_500_000,
        868_700_000,
    ]
    assert heard(config_of("EU868", uplink_channels=(1,))) == [868_300_000]
    assert heard(config_of("EU868", channels_hz=(868_500_000, 868_100_000))) == [868_100_000, 868_500_000]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels_hz": tuple(868_000_000 + 100_000 * i for i in range(9))}, "hears 8 channels"),
        ({"channels_hz": (863_100_000, 866_000_000, 869_000_000)}, "863.1, 866, 869 MHz"),
        ({"net_ids": (1 << 24,)}, "24 bits"),
    ],
)
def test_what_no_concentrator_can_do_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        config_of("EU868", **changes)


def test_filters_are_what_basics_station_compares_with() -> None:
    config = config_of("EU868", net_ids=(0x000013, 0x600001), join_euis=((5, 9),))
    # NetID 0x13 of type 0 is DevAddr prefix 0x26/7; 0x600001 of type 3 begins with 1110 and nine bits
    assert config["NetID"] == [0x13, 0xE0 >> 1]
    assert config["JoinEui"] == [[5, 9]]
