"""The polyline of Cayenne LPP (type 240): a first point, then steps of a nibble each way.

size u8 (of all, itself included), factor u8, latitude i24, longitude i24, then a byte a step: low nibble latitude, high
nibble longitude, signed. Numbers count `factor` ten-thousandths of a degree. ElectronicCats/CayenneLPP defines it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

SCALE = 10_000  # units a degree
HEADER = 8  # bytes
MAX_STEP = 7
MAX_SIZE = 240
PLAIN_FACTORS = 200  # smaller ones are themselves
FACTORS = {227: 1, 228: 2, 229: 5, 230: 10, 231: 20, 232: 50, 233: 100, 234: 200, 235: 500, 236: 1000,
           237: 2000, 238: 5000, 239: 10_000}  # fmt: skip

Point = tuple[float, float]  # latitude, longitude, degrees


def read(data: bytes) -> tuple[list[Point], int]:
    """The points, and how many bytes they took. Raises ValueError."""
    size = data[0] if data else 0
    if not data or len(data) < max(size, HEADER):
        raise ValueError("is cut short")
    if size < HEADER:
        raise ValueError(f"has a length of {size}, less than a first point takes")
    factor = data[1] if data[1] < PLAIN_FACTORS else FACTORS.get(data[1], 0)
    if not factor:
        raise ValueError(f"has a precision that is not defined ({data[1]})")
    lat = int.from_bytes(data[2:5], "big", signed=True) * factor
    lon = int.from_bytes(data[5:8], "big", signed=True) * factor
    points = [(lat / SCALE, lon / SCALE)]
    for step in data[HEADER:size]:
        lat += _signed(step & 15) * factor
        lon += _signed(step >> 4) * factor
        points.append((lat / SCALE, lon / SCALE))
    return points, size


def write(points: Sequence[Point]) -> bytes:
    """With the finest precision at which each step fits its nibble. Raises ValueError."""
    if not points or not all(
        math.isfinite(lat) and math.isfinite(lon) and abs(lat) <= 90 and abs(lon) <= 180
        for lat, lon in points
    ):
        raise ValueError("is a list of [latitude, longitude]")
    if HEADER + len(points) - 1 > MAX_SIZE:
        raise ValueError(f"has more than {MAX_SIZE - HEADER + 1} points")
    for code, factor in _precisions():
        grid = [(round(lat * SCALE / factor), round(lon * SCALE / factor)) for lat, lon in points]
        steps = [(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(grid)]
        if all(abs(lat) <= MAX_STEP and abs(lon) <= MAX_STEP for lat, lon in steps):
            head = b"".join(each.to_bytes(3, "big", signed=True) for each in grid[0])
            tail = bytes((lat & 15) | (lon & 15) << 4 for lat, lon in steps)
            return bytes((HEADER + len(tail), code)) + head + tail
    raise ValueError("has points too far apart: 7 degrees are the most between two")


def _precisions() -> list[tuple[int, int]]:
    """(code, factor), the finest first."""
    return [(factor, factor) for factor in range(1, PLAIN_FACTORS)] + [
        (code, factor) for code, factor in FACTORS.items() if factor >= PLAIN_FACTORS
    ]


def _signed(nibble: int) -> int:
    return nibble - 16 if nibble > 7 else nibble
