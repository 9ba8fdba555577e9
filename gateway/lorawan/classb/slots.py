"""When beacons and ping slots are (LoRaWAN 1.0.3, 13; 1.0.4, 11). Times are GPS milliseconds since 6 January 1980.

    beacon          reserved 2.120 s        4096 slots of 30 ms              guard 3 s          beacon
    |------|-------------------|------------------------------------------|-----------------|------|
    0                        2.120                                     125.000             128 s

A slot begins with its downlink. The specification counts from the start of the beacon, which is 1.5 ms behind the
second (TBeaconDelay). GWMP names whole milliseconds; of the two beside it the earlier one is taken, because a
receiver that is on already misses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

BEACON_PERIOD_MS: Final = 128_000
BEACON_RESERVED_MS: Final = 2_120
BEACON_GUARD_MS: Final = 3_000
BEACON_WINDOW_MS: Final = 122_880
SLOT_MS: Final = 30
SLOTS: Final = 4096
BEACON_DELAY_MS: Final = 1  # of 1.5
MAX_PERIODICITY: Final = 7  # a slot each 2**7 seconds, about

_ZERO_KEY: Final = Cipher(algorithms.AES(bytes(16)), modes.ECB())


def beacon_before(gps_ms: int) -> int:
    """The time (GPS seconds) of the latest beacon at or before a moment; a multiple of 128."""
    return gps_ms // BEACON_PERIOD_MS * (BEACON_PERIOD_MS // 1000)


def beacon_start_ms(beacon_s: int) -> int:
    """When that beacon's first symbol leaves, to be ordered in whole milliseconds."""
    return beacon_s * 1000 + BEACON_DELAY_MS


def ping_period(periodicity: int) -> int:
    """Slots from one ping slot to the next, 2**5 to 2**12. Raises ValueError beyond MAX_PERIODICITY."""
    if not 0 <= periodicity <= MAX_PERIODICITY:
        raise ValueError(f"a ping slot periodicity is 0 to {MAX_PERIODICITY}, not {periodicity}")
    return 1 << (5 + periodicity)


@lru_cache(maxsize=4096)
def ping_offset(beacon_s: int, dev_addr: int, periodicity: int) -> int:
    """The first slot of an address in a beacon period: as good as random, so that addresses do not keep colliding.

    AES-128 under a key of zeros over beacon time and DevAddr, both little-endian (1.0.3, 13.2).
    """
    block = (beacon_s % (1 << 32)).to_bytes(4, "little") + dev_addr.to_bytes(4, "little") + bytes(8)
    rand = _ZERO_KEY.encryptor().update(block)
    return (rand[0] + rand[1] * 256) % ping_period(periodicity)


def slots_from(
    gps_ms: int, dev_addr: int, periodicity: int, shortest_ms: int = 0
) -> Iterator[tuple[int, int]]:
    """An address's ping slots from a moment on, without end: (start in GPS ms, its beacon's time in GPS s).

    A downlink that begins in the last slots ends within the guard time. One of more than 3 s would not: with its time
    on air in `shortest_ms`, slots are left out that are too near to the next beacon for it.
    """
    period = ping_period(periodicity)
    beacon_s = beacon_before(gps_ms)
    while True:
        first_ms = beacon_start_ms(beacon_s) + BEACON_RESERVED_MS
        latest_ms = beacon_start_ms(beacon_s) + BEACON_PERIOD_MS - shortest_ms
        offset = ping_offset(beacon_s, dev_addr, periodicity)
        for slot in range(offset, SLOTS, period):
            start_ms = first_ms + slot * SLOT_MS
            if gps_ms <= start_ms <= latest_ms:
                yield start_ms, beacon_s
        beacon_s += BEACON_PERIOD_MS // 1000


def clear_of_beacon(gps_ms: int, airtime_ms: int) -> bool:
    """Whether a downlink without a slot (class C) at that moment leaves the beacon alone: it would end before the next
    one, and does not begin in the time reserved for the last."""
    into_ms = (gps_ms - BEACON_DELAY_MS) % BEACON_PERIOD_MS
    return into_ms >= BEACON_RESERVED_MS and into_ms + airtime_ms <= BEACON_PERIOD_MS
