"""How damaged inputs are made of valid ones: bits, bytes, pieces, lengths, and words of the protocol."""

from __future__ import annotations

import random
from collections.abc import Sequence

POOL = 512  # inputs that mutations start from
MAX_INPUT = 2048  # bytes; longer ones only cost time

INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF, 0x20, 0x30, 0x2F, 0x7B, 0x22)


class Mutator:
    """Makes inputs; the same seed and the same answers of the target make the same ones."""

    def __init__(self, seeds: Sequence[bytes], words: Sequence[bytes], seed: int) -> None:
        self._rng = random.Random(seed)
        self._pool = list(seeds)
        self._first = len(self._pool)
        self._words = tuple(words) or (b"\x00",)

    def next(self) -> bytes:
        rng = self._rng
        data = bytearray(rng.choice(self._pool))
        for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
            _MUTATIONS[rng.randrange(len(_MUTATIONS))](data, rng, self)
        return bytes(data[:MAX_INPUT])

    def keep(self, data: bytes) -> None:
        """An input that was taken: start from it, too. The given ones stay."""
        if len(self._pool) < POOL:
            self._pool.append(data)
        elif self._rng.random() < 0.1:
            self._pool[self._rng.randrange(self._first, POOL)] = data

    def other(self) -> bytes:
        return self._rng.choice(self._pool)

    def word(self) -> bytes:
        return self._rng.choice(self._words)


def _flip(data: bytearray, rng: random.Random, _mutator: Mutator) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set(data: bytearray, rng: random.Random, _mutator: Mutator) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice(INTERESTING)


def _nudge(data: bytearray, rng: random.Random, _mutator: Mutator) -> None:
    """A length, a count or a number, off by little."""
    if data:
        at = rng.randrange(min(len(data), 16)) if rng.random() < 0.5 else rng.randrange(len(data))
        data[at] = (data[at] + rng.choice((-2, -1, 1, 2, 16, 64))) & 0xFF


def _drop(data: bytearray, rng: random.Random, _mutator: Mutator) -> None:
    if data:
        at = rng.randrange(len(data))
        del data[at : at + rng.choice((1, 1, 2, 4, 16))]


def _double(data: bytearray, rng: random.Random, _mutator: Mutator) -> None:
    if data:
        at = rng.randrange(len(data))
        piece = data[at : at + rng.choice((1, 2, 8, 32))]
        data[at:at] = piece * rng.choice((1, 1, 2, 20))


def _cut(data: bytearray, rng: random.Random, _mutator: Mutator) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _splice(data: bytearray, rng: random.Random, mutator: Mutator) -> None:
    other = mutator.other()
    data[rng.randrange(len(data) + 1) :] = other[rng.randrange(len(other) + 1) :]


def _follow(data: bytearray, _rng: random.Random, mutator: Mutator) -> None:
    data += mutator.other()


def _word(data: bytearray, rng: random.Random, mutator: Mutator) -> None:
    at = rng.randrange(len(data) + 1)
    word = mutator.word()
    data[at : at + (len(word) if rng.random() < 0.5 else 0)] = word


def _noise(data: bytearray, rng: random.Random, _mutator: Mutator) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.randbytes(rng.choice((1, 2, 4, 9)))


_MUTATIONS = (
    _flip,
    _flip,
    _set,
    _set,
    _nudge,
    _nudge,
    _drop,
    _double,
    _cut,
    _splice,
    _follow,
    _word,
    _word,
    _noise,
)
