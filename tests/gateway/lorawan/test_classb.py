"""Beacon frames and ping slots against the specification's examples and other implementations."""

from __future__ import annotations

import shutil
import subprocess
from itertools import islice, pairwise
from random import Random

import pytest

from gateway.lorawan.classb import slots
from gateway.lorawan.classb.beacon import (
    FIRST_ANTENNA,
    RFU_BY_SF,
    BeaconFrame,
    decode,
    gateway_info,
    place_info,
    precision_of,
)
from gateway.lorawan.classb.plan import ClassBPlan
from gateway.lorawan.errors import FrameError
from radio.lora import LoRaModulation, airtime_us
from radio.regions import get_region, region_names

# LoRaWAN 1.0.3, 15.2 and 1.0.4, 13.4: "a valid EU868 beacon frame (SF9)", octets in the order they are sent.
EU868_EXAMPLE = bytes.fromhex("00000000 02CC A27E 00 012000 008103 DE55")
# Of the US915 example beside it (SF12) the text prints 3 and 1 RFU bytes where its own table has 5 and 3; its second
# CRC, D450 over one RFU byte, holds for the shape below.
ONE_RFU_BYTE = bytes.fromhex("00 012000 008103 00")


def by_division(data: bytes) -> int:
    """CRC-16 of x^16 + x^12 + x^5 + 1 by long division of the whole message: no table, no register."""
    number = int.from_bytes(data, "big") << 16
    polynomial = 0x11021
    for bit in range(8 * len(data) + 15, 15, -1):
        if number >> bit & 1:
            number ^= polynomial << (bit - 16)
    return number


def aes_by_node(blocks: list[bytes]) -> list[bytes]:
    """AES-128-ECB under zeros by Node's crypto (OpenSSL), all blocks in one call."""
    script = (
        "const c=require('crypto').createCipheriv('aes-128-ecb',Buffer.alloc(16),null);c.setAutoPadding(false);"
        "process.stdout.write(c.update(Buffer.from(process.argv[1],'hex')))"
    )
    node = shutil.which("node")
    assert node is not None, "another AES is asked: install Node.js, as tests/node needs it"
    out = subprocess.run(
        [node, "-e", script, b"".join(blocks).hex()], capture_output=True, check=True, timeout=30
    ).stdout
    return [out[at : at + 16] for at in range(0, len(out), 16)]


# --- the frame --------------------------------------------------------------------------------------


def test_the_specification_s_beacon_runs_both_ways() -> None:
    frame = BeaconFrame(0xCC020000, 0, FIRST_ANTENNA, bytes.fromhex("012000008103"))
    assert frame.encode(9) == EU868_EXAMPLE
    assert decode(EU868_EXAMPLE, 9) == frame
    assert frame.place == pytest.approx((0x002001 / 2**23 * 90, 0x038100 / 2**23 * 180))


def test_the_second_crc_covers_the_rfu_behind_the_place() -> None:
    assert by_division(ONE_RFU_BYTE) == 0xD450
    frame = BeaconFrame(0xCC020000, 0, FIRST_ANTENNA, bytes.fromhex("012000008103"))
    assert frame.encode(10)[-2:] == bytes.fromhex("50D4")  # SF10 has one such byte


@pytest.mark.parametrize(("sf", "size"), [(8, 19), (9, 17), (10, 19), (11, 21), (12, 23)])
def test_sizes_are_those_of_other_stacks_and_both_crcs_are_independent_ones(sf: int, size: int) -> None:
    rng = Random(sf)
    for _ in range(200):
        frame = BeaconFrame(rng.getrandbits(32), rng.randrange(4), rng.randrange(4), rng.randbytes(6))
        wire = frame.encode(sf)
        split = RFU_BY_SF[sf][0] + 4
        assert len(wire) == size
        assert int.from_bytes(wire[split : split + 2], "little") == by_division(wire[:split])
        assert int.from_bytes(wire[-2:], "little") == by_division(wire[split + 2 : -2])
        assert decode(wire, sf) == frame


def test_time_on_air_of_the_beacon_is_the_one_others_give() -> None:
    sf9 = LoRaModulation(9, 125_000)
    assert airtime_us(sf9, len(EU868_EXAMPLE), preamble=10, crc=False, implicit_header=True) == 152_576


def test_every_byte_of_the_first_part_is_protected_and_the_second_costs_only_the_place() -> None:
    for at in range(17):
        for bit in range(8):
            damaged = bytearray(EU868_EXAMPLE)
            damaged[at] ^= 1 << bit
            if at < 8:
                with pytest.raises(FrameError, match="CRC"):
                    decode(bytes(damaged), 9)
            else:
                assert decode(bytes(damaged), 9).place is None


def test_damaged_beacons_raise_only_frame_error() -> None:
    rng = Random(3)
    for _ in range(5000):
        sf = rng.randrange(6, 14)
        data = bytearray(BeaconFrame(rng.getrandbits(32)).encode(rng.randrange(8, 13)))
        for _ in range(rng.randrange(4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        data = data[: rng.randrange(len(data) + 1)] + rng.randbytes(rng.choice((0, 0, 3)))
        try:
            decode(bytes(data), sf)
        except FrameError:
            continue


@pytest.mark.parametrize(
    ("place", "close"),
    [((52.52, 13.405), 3e-5), ((-33.9, -179.9999), 3e-5), ((90.0, 180.0), 3e-5), ((-90.0, -180.0), 1e-9)],
)
def test_places_come_back_within_three_metres(place: tuple[float, float], close: float) -> None:
    frame = BeaconFrame(0, 0, FIRST_ANTENNA, place_info(*place))
    assert decode(frame.encode(9), 9).place == pytest.approx(place, abs=close)


def test_a_gateway_without_place_tells_network_and_number() -> None:
    assert gateway_info(0x123456, bytes.fromhex("aabbccddee010203")) == bytes.fromhex("563412030201")
    assert BeaconFrame(0).place is None


@pytest.mark.parametrize(
    ("error_us", "precision"),
    [(0.3, 0), (1.0, 0), (1.1, 1), (38.0, 2), (101.0, 3), (1000.0, 3), (1001.0, None), (None, None)],
)
def test_precision_is_the_power_of_ten_that_holds_the_error(
    error_us: float | None, precision: int | None
) -> None:
    assert precision_of(error_us) == precision


# --- slots ------------------------------------------------------------------------------------------


def test_ping_offsets_are_those_of_another_aes() -> None:
    rng = Random(5)
    cases = [(rng.getrandbits(25) * 128, rng.getrandbits(32), rng.randrange(8)) for _ in range(300)]
    cases += [(0, 0, 7), ((1 << 32) - 128, 0xFFFFFFFF, 0), (10_000 * 128, 0x01340729, 4)]
    blocks = [t.to_bytes(4, "little") + a.to_bytes(4, "little") + bytes(8) for t, a, _ in cases]
    for (beacon_s, dev_addr, periodicity), rand in zip(cases, aes_by_node(blocks), strict=True):
        expected = (rand[0] + 256 * rand[1]) % (32 << periodicity)
        assert slots.ping_offset(beacon_s, dev_addr, periodicity) == expected


def test_the_zero_block_s_offset_is_the_standard_s() -> None:
    # FIPS 197 / NIST AESAVS: AES-128 of zeros under zeros is 66e94bd4ef8a2c3b884cfa59ca342b2e.
    assert slots.ping_offset(0, 0, 7) == (0x66 + 256 * 0xE9) % 4096


@pytest.mark.parametrize("periodicity", range(8))
def test_a_beacon_period_has_as_many_slots_as_asked_for_each_a_period_apart(periodicity: int) -> None:
    dev_addr, beacon_s = 0x26011BDA, 1_400_000_000 // 128 * 128
    count = 1 << (7 - periodicity)
    found = list(islice(slots.slots_from(beacon_s * 1000, dev_addr, periodicity), 2 * count))
    here, following = found[:count], found[count:]
    assert {beacon for _, beacon in here} == {beacon_s}
    assert {beacon for _, beacon in following} == {beacon_s + 128}
    starts = [start - beacon_s * 1000 for start, _ in here]
    assert all(later - earlier == (32 << periodicity) * 30 for earlier, later in pairwise(starts))
    assert starts[0] >= slots.BEACON_RESERVED_MS
    assert starts[-1] <= 124_970 + 1  # "the latest ping slot starts at 124 970 ms" (1.0.3, 13.1)
    offset = slots.ping_offset(beacon_s, dev_addr, periodicity)
    assert starts[0] == 2120 + offset * 30 + 1  # of the 1.5 ms of TBeaconDelay


def test_slots_begin_at_the_moment_asked_for_or_later() -> None:
    rng = Random(8)
    for _ in range(300):
        now_ms, dev_addr = 1_400_000_000_000 + rng.randrange(10**9), rng.getrandbits(32)
        periodicity = rng.randrange(8)
        first, beacon_s = next(slots.slots_from(now_ms, dev_addr, periodicity))
        assert first >= now_ms
        assert first - now_ms < 256_000
        assert slots.beacon_before(first) == beacon_s
        assert next(slots.slots_from(first, dev_addr, periodicity))[0] == first
        assert next(slots.slots_from(first + 1, dev_addr, periodicity))[0] > first


def test_a_long_downlink_leaves_out_the_slots_before_the_beacon() -> None:
    every = list(islice(slots.slots_from(0, 7, 0), 256))
    long = list(islice(slots.slots_from(0, 7, 0, shortest_ms=9_000), 200))
    left_out = sorted({start for start, _ in every} - {start for start, _ in long})
    assert left_out
    assert all(start % 128_000 > 119_000 for start in left_out if start < long[-1][0])


def test_what_is_sent_without_a_slot_leaves_the_beacon_alone() -> None:
    assert not slots.clear_of_beacon(1, 50)
    assert not slots.clear_of_beacon(2_100, 50)
    assert slots.clear_of_beacon(2_121, 50)
    assert slots.clear_of_beacon(127_000, 900)
    assert not slots.clear_of_beacon(127_500, 900)


# --- channels ---------------------------------------------------------------------------------------


def test_beacons_and_slots_hop_where_the_region_hops() -> None:
    plan = ClassBPlan.of(get_region("US915"))
    assert plan is not None
    assert [plan.beacon_freq_hz(128 * n) for n in (0, 1, 7, 8)] == [
        923_300_000,
        923_900_000,
        927_500_000,
        923_300_000,
    ]
    assert plan.ping_slot(0x26011BDA, 128 * 5)[0] == 923_300_000 + 600_000 * ((0x26011BDA + 5) % 8)
    assert plan.modulation == LoRaModulation(12, 500_000)


def test_a_fixed_frequency_ends_the_hopping() -> None:
    plan = ClassBPlan.of(get_region("AU915"), beacon_hz=924_500_000)
    assert plan is not None
    assert {plan.beacon_freq_hz(128 * n) for n in range(9)} == {924_500_000}
    assert plan.ping_slot(5, 128, (925_100_000, 10)) == (925_100_000, LoRaModulation(10, 500_000))
    assert plan.ping_slot(5, 128, (0, 9))[0] == 923_300_000 + 600_000 * 6


def test_every_beacon_has_a_spreading_factor_that_beacons_have() -> None:
    plans = {name: ClassBPlan.of(get_region(name)) for name in region_names()}
    assert {name for name, plan in plans.items() if plan is None} == {
        name for name in plans if name.startswith("CN470")
    }
    for plan in plans.values():
        if plan is not None:
            assert plan.modulation.sf in RFU_BY_SF
    europe = plans["EU868"]
    assert europe is not None
    assert europe.power_dbm(869_525_000, europe.modulation, 27) == 27
    assert europe.power_dbm(869_300_000, europe.modulation, 27) is None
