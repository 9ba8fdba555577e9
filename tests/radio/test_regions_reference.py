"""Every value of our regions against a table gathered from five independent implementations of RP002.

`data/lorawan-regions.json` names for each value who has it, whether two sources agree (`verified`) and who
differs (`conflicts`).
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from radio.lbt import Lbt
from radio.lora import LoRaModulation
from radio.regions import Dwell, Region, get_region, region_names

TABLE: Mapping[str, Any] = json.loads((Path(__file__).parent / "data/lorawan-regions.json").read_text())
REGIONS: Mapping[str, Any] = TABLE["regions"]
NAMES = [name for name in REGIONS if name != "CN470"]
# Who says it there, and under which profile we keep it.
PROFILE_OF = {"C": "rp002-1.0.5", "T": "rp002-1.0.4", "TTS": "rp002-1.0.4", "L": "loramac-node"}


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def rows(name: str, key: str) -> Iterator[Mapping[str, Any]]:
    yield from REGIONS[name][key]


def test_every_region_of_the_table_is_there() -> None:
    plans = {"CN470", "CN470-20A", "CN470-20B", "CN470-26A", "CN470-26B"}
    assert set(region_names()) == {*NAMES, *plans, "AS923-1-JP"}


def test_channels(name: str) -> None:
    region, raw = get_region(name), REGIONS[name]
    if "default_channels_hz" in raw:
        assert list(region.uplink_channels()) == raw["default_channels_hz"]["value"]
        assert raw["default_channels_hz"]["verified"]
        assert (region.fixed_plan, region.downlink_channels_hz) == (False, ())
        low, high = raw["default_channel_dr_range"]
        assert set(range(low, high + 1)) <= set(region.uplink_data_rates)
        return
    up, down = raw["uplink_channels"], raw["downlink_channels"]
    assert up["verified"]
    assert down["verified"]
    assert list(region.uplink_channels()) == _block(up["value"]["125kHz"]) + _block(up["value"]["500kHz"])
    assert list(region.downlink_channels_hz) == _block(down["value"]["500kHz"])
    for index, freq_hz in enumerate(region.uplink_channels()):
        assert region.uplink_index(freq_hz) == index
        dr = 0 if index < 64 else region.dr_of(LoRaModulation(8, 500_000))
        assert dr is not None
        assert region.rx1(freq_hz, dr)[0] == region.downlink_channels_hz[index % 8]


def _block(raw: Mapping[str, int]) -> list[int]:
    return [raw["first_hz"] + i * raw["step_hz"] for i in range(raw["count"])]


def test_data_rates(name: str) -> None:
    """What two sources have is here; what only one has is not (SF5 and SF6 the chip cannot do anyway)."""
    region = get_region(name)
    uplink = {
        row["dr"]: _modulation(row) for row in rows(name, "data_rates") if row["verified"] and row["up"]
    }
    downlink = {
        row["dr"]: _modulation(row) for row in rows(name, "data_rates") if row["verified"] and row["down"]
    }
    assert dict(region.uplink_data_rates) == {dr: mod for dr, mod in uplink.items() if mod}
    assert dict(region.downlink_data_rates) == {dr: mod for dr, mod in downlink.items() if mod}
    assert dict(region.data_rates) == uplink | downlink


def _modulation(row: Mapping[str, Any]) -> LoRaModulation | None:
    return LoRaModulation(row["sf"], row["bw_hz"]) if row["mod"] == "lora" else None


def test_payload_sizes(name: str) -> None:
    region = get_region(name)
    for table, dwell in (
        (region.max_payload_by_dr, "nodwell"),
        (region.max_payload_by_dr_dwell, "dwell400"),
    ):
        agreed = {
            row["dr"]: row["N"]
            for row in rows(name, "max_payload")
            if row["dwell"] == dwell and row["verified"]
        }
        assert dict(table) == agreed
        assert all(row["M"] in (row["N"] + 8, 0) for row in rows(name, "max_payload")), (
            "M is the MACPayload, FHDR of 7 and FPort included"
        )
    for dr, size in region.max_payload_by_dr_dwell.items():
        assert region.max_payload(dr, dwell=True) == size
    for dr, size in region.max_payload_by_dr.items():
        assert region.max_payload(dr) == size


def test_rx1_data_rates(name: str) -> None:
    region = get_region(name)
    freq_hz = region.uplink_channels()[0]
    seen: dict[str, dict[int, tuple[int, ...]]] = {"any": {}, "nodwell": {}, "dwell400": {}}
    for row in rows(name, "rx1_dr"):
        assert row["verified"]
        seen[row["downlink_dwell"]][row["uplink_dr"]] = tuple(row["rx1_dr_by_offset"])
        for offset, dr in enumerate(row["rx1_dr_by_offset"]):
            dwell = row["downlink_dwell"] == "dwell400"
            assert region.rx1(freq_hz, row["uplink_dr"], offset, dwell=dwell)[1] == dr
    assert dict(region.rx1_dr_by_offset) == seen["any"] | seen["nodwell"]
    assert dict(region.rx1_dr_by_offset_dwell) == seen["dwell400"]


def test_windows_power_and_lists(name: str) -> None:
    region, raw = get_region(name), REGIONS[name]
    for key in ("rx2", "tx_power_offset_db", "default_max_eirp_dbm", "cflist", "tx_param_setup"):
        assert raw[key]["verified"]
    assert list(region.rx2) == raw["rx2"]["value"]
    assert list(region.tx_power_offset_db) == raw["tx_power_offset_db"]["value"]
    assert region.max_eirp_dbm == raw["default_max_eirp_dbm"]["value"]
    assert raw["cflist"]["value"].startswith(f"type {region.cflist_type} ")
    assert region.tx_param_setup == raw["tx_param_setup"]["value"]
    assert region.adr_max_dr == raw["adr_max_dr"]


def test_sub_bands_and_whether_they_are_confirmed(name: str) -> None:
    region, raw = get_region(name), REGIONS[name]["duty_cycle_subbands"]
    assert [
        {"min_hz": b.min_hz, "max_hz": b.max_hz, "duty": b.duty, "max_eirp_dbm": b.max_eirp_dbm}
        for b in region.sub_bands
    ] == raw["value"]
    assert ("sub_bands" not in region.unverified) == raw["verified"]


HOPS = tuple(923_300_000 + 600_000 * i for i in range(8))
# LoRaMac-node's region headers; EU868 also LoRaWAN 1.0.1, 16.2, EU433 and AS923 also LoRaWAN Regional Parameters 1.0.3
# rev A, 2.5.8 and 2.8.8. Where the reference differs (IN865 866.500, EU433 434.655 MHz) the other value is RX2's too.
SECOND_BEACONS = {
    "EU868": ((869_525_000,), 3),
    "US915": (HOPS, 8),
    "AU915": (HOPS, 8),
    "AS923-1": ((923_400_000,), 3),
    "AS923-2": ((921_600_000,), 3),
    "AS923-3": ((916_800_000,), 3),
    "AS923-4": ((917_500_000,), 3),
    "IN865": ((866_550_000,), 4),
    "KR920": ((923_100_000,), 3),
    "EU433": ((434_665_000,), 3),
}


def test_a_beacon_is_kept_where_a_second_source_has_it(name: str) -> None:
    region, raw = get_region(name), REGIONS[name]
    assert not raw["beacon_verified"], (
        "one source here; the second ones are beside the values in SECOND_BEACONS"
    )
    expected = SECOND_BEACONS.get(name)
    if expected is None:
        assert region.beacon is None
        return
    assert region.beacon is not None
    assert (region.beacon.channels_hz, region.beacon.dr) == expected
    agrees = (tuple(raw["beacon_hz"]), raw["beacon_dr"]) == expected
    assert agrees != (name in ("IN865", "EU433")), "these two the specification and the device stack outvote"


def conflicts() -> Iterator[Any]:
    for name in NAMES:
        for key in ("max_payload", "rx1_dr"):
            for row in rows(name, key):
                for source, value in row.get("conflicts", {}).items():
                    dr = row["dr"] if key == "max_payload" else row["uplink_dr"]
                    yield pytest.param(name, key, dr, PROFILE_OF[source], value, id=f"{name} DR{dr} {source}")
        for source, value in REGIONS[name]["tx_power_offset_db"].get("conflicts", {}).items():
            yield pytest.param(
                name, "tx_power_offset_db", 0, PROFILE_OF[source], value, id=f"{name} power {source}"
            )


@pytest.mark.parametrize(("name_", "key", "dr", "profile", "value"), list(conflicts()))
def test_what_one_source_says_differently_is_kept_under_its_profile(
    name_: str, key: str, dr: int, profile: str, value: Any
) -> None:
    region, agreed = get_region(name_, profile), get_region(name_)

    def read(region: Region) -> Any:
        match key:
            case "max_payload":
                return region.max_payload(dr)
            case "rx1_dr":
                return list(region.rx1_dr_by_offset[dr])
        return list(region.tx_power_offset_db)

    assert read(region) == value
    assert read(agreed) != value


def test_older_texts_have_profiles_too() -> None:
    assert get_region("US915").max_payload(2) == 125
    assert get_region("US915", "ts001-1.0.1").max_payload(2) == 126  # M 134 of the LoRaWAN 1.0.1 text
    assert get_region("AS923-3").max_payload(2) == 115
    assert get_region("AS923-3", "rp001").max_payload(2) == 51
    assert get_region("KR920", "rp001") == get_region("KR920")
    with pytest.raises(ValueError, match=r"profile 'rp003' is not one of .*rp001"):
        get_region("EU868", "rp003")


def test_cn470_has_the_plans_of_the_table() -> None:
    raw = REGIONS["CN470"]
    old, legacy = get_region("CN470"), raw["legacy_RP001"]
    assert list(old.uplink_channels()) == _block(legacy["up"])
    assert list(old.downlink_channels_hz) == _block(legacy["down"])
    assert old.rx2 == (legacy["rx2"]["freq_hz"], legacy["rx2"]["dr"])
    assert old.max_eirp_dbm == legacy["max_eirp_dbm"]
    assert dict(old.uplink_data_rates) == {dr: LoRaModulation(12 - dr, 125_000) for dr in range(6)}
    assert old.rx1(470_300_000 + 50 * 200_000, 5) == (500_300_000 + 2 * 200_000, 5)  # 50 modulo 48
    for plan in ("20A", "26A", "20B", "26B"):
        region, row = get_region(f"CN470-{plan}"), raw[f"RP002_{plan}"]
        assert row["verified"]
        up, down = (row.get(key, row.get("channels")) for key in ("up", "down"))
        assert list(region.uplink_channels()) == _blocks(up)
        assert list(region.downlink_channels_hz) == _blocks(down)


def _blocks(raw: Any) -> list[int]:
    return [freq for block in (raw if isinstance(raw, list) else [raw]) for freq in _block(block)]


@pytest.mark.parametrize(
    ("name_", "rx2", "all_on", "all_off"),
    [  # LoRaMac-node 4.7, RegionCN470*.h and .c
        ("CN470", (505_300_000, 0), 6, None),
        ("CN470-20A", (486_900_000, 1), 6, 7),
        ("CN470-20B", (498_300_000, 1), 6, 7),
        ("CN470-26A", (492_500_000, 1), 3, 4),
        ("CN470-26B", (502_500_000, 1), 3, 4),
    ],
)
def test_cn470_windows_and_masks(name_: str, rx2: tuple[int, int], all_on: int, all_off: int | None) -> None:
    region = get_region(name_)
    assert region.rx2 == rx2
    assert (region.channel_mask.all_on, region.channel_mask.all_off, region.channel_mask.wide) == (
        all_on,
        all_off,
        0,
    )
    assert "max_payload" in region.unverified


def test_dwell_limits() -> None:
    for name in region_names():
        region = get_region(name)
        assert region.dwell_limit_us == 400_000
        wanted = {"US915": ("always", "never"), "AU915": ("network", "never")}.get(
            name, ("network", "network") if name.startswith("AS923") else ("never", "never")
        )
        assert (region.uplink_dwell, region.downlink_dwell) == (Dwell(wanted[0]), Dwell(wanted[1]))
        assert bool(region.max_payload_by_dr_dwell) == (region.uplink_dwell is Dwell.NETWORK)


def test_listen_before_talk() -> None:
    asks = {name: get_region(name).lbt for name in region_names() if get_region(name).lbt}
    assert asks == {"KR920": Lbt(-65, 6_000_000), "AS923-1-JP": Lbt(-80, 5_000_000)}


def test_japan_is_as923_1_with_a_rule_more() -> None:
    japan, plain = get_region("AS923-1-JP"), get_region("AS923-1")
    assert japan.uplink_channels() == plain.uplink_channels()
    assert japan.rx2 == plain.rx2
    assert dict(japan.rx1_dr_by_offset) == dict(plain.rx1_dr_by_offset)


def test_the_bands_hold_all_channels() -> None:
    for name in region_names():
        region = get_region(name)
        low, high = region.band_hz
        assert all(low <= freq <= high for freq in region.uplink_channels())
        assert all(
            (low <= band.min_hz and band.max_hz <= high) or name == "KR920" for band in region.sub_bands
        )
