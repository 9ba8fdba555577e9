"""What it costs to remember every DevNonce a device has used: in memory, and in the store's rows."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.lorawan.device import DevNonces

MOST = 8192 + 256  # bytes: a bit for each value, and what Python keeps beside them


@dataclass(frozen=True, slots=True)
class Measured:
    """One device that has used so many DevNonces."""

    nonces: int
    memory_bytes: int  # in the end
    most_bytes: int  # on the way there
    rows_bytes: int


def measured(nonces: Iterable[int] | None = None) -> Measured:
    """Of one device after these nonces; None: all 65,536, in an order as good as random."""
    order = list(range(1 << 16)) if nonces is None else list(nonces)
    if nonces is None:
        random.Random(1).shuffle(order)
    device = DevNonces()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        most = 0
        for number, nonce in enumerate(order):
            device.add(nonce)
            if number % 64 == 0:
                most = max(most, tracemalloc.get_traced_memory()[0] - before)
        memory = tracemalloc.get_traced_memory()[0] - before
        most = max(most, memory)
    finally:
        tracemalloc.stop()
    assert all(nonce in device for nonce in order)
    return Measured(len(order), memory, most, sum(len(page) for _, page in device.pages()))


def report() -> list[str]:
    """A line for each of a few devices."""
    rng = random.Random(2)
    devices = (
        ("all there are, in any order", None),
        ("2,000 at random", rng.sample(range(1 << 16), 2000)),
        ("100 at random", rng.sample(range(1 << 16), 100)),
        ("a counter to 1,000", range(1000)),
    )
    found = [(words, measured(nonces)) for words, nonces in devices]
    return [
        f"DevNonces, {words}: {each.memory_bytes} bytes of memory ({each.most_bytes} at most on the way), "
        f"{each.rows_bytes} in rows"
        for words, each in found
    ]
