"""Passwords of people: argon2id, a bound on hashes at a time, and a growing pause after wrong ones.

Time is an argument. Nothing is kept for accounts that do not exist.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from .errors import Busy, Invalid, TooManyTries

MIN_LENGTH = 8  # as Mainflux; NIST SP 800-63B-4 and ASVS 6.2.1 ask for at least that
MAX_LENGTH = 256  # bounds the work of one try
MAX_HASHES = 2  # at a time: 38 MiB and two cores' worth
MAX_WAITING = 8  # further callers in line for a hash; then Busy

FREE_TRIES = 3  # wrong passwords before the first pause
FIRST_PAUSE_S = 1.0  # doubled by each further wrong one
LONGEST_PAUSE_S = 300.0  # an attacker on the network can lock the owner out for no longer than this
FORGET_AFTER_S = 3600.0  # without a try

# OWASP password storage: 19 MiB, two passes, one lane; about 30 ms on a laptop, 300 ms on a Pi 3.
_hasher = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
# Checked for accounts that do not exist, so that they take as long as others.
_NOBODY = _hasher.hash("no account has this password")

_slots = threading.BoundedSemaphore(MAX_HASHES)
_line = threading.BoundedSemaphore(MAX_HASHES + MAX_WAITING)


@contextmanager
def _hashing() -> Iterator[None]:
    """Wait in line for one of the MAX_HASHES. Raises Busy where the line is full."""
    if not _line.acquire(blocking=False):
        raise Busy("too many passwords are being checked")
    try:
        with _slots:
            yield
    finally:
        _line.release()


def hash_password(password: str) -> str:
    """The encoded argon2id hash. Raises Invalid for a length outside the limits; takes tens of ms."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise Invalid(f"a password has {MIN_LENGTH} to {MAX_LENGTH} characters")
    with _hashing():
        return _hasher.hash(password)


def check_password(encoded: str | None, password: str) -> bool:
    """True where `password` made `encoded`.

    None stands for an account that does not exist, and takes as long.
    """
    if len(password) > MAX_LENGTH:
        return False
    with _hashing():
        try:
            return _hasher.verify(encoded or _NOBODY, password) and encoded is not None
        except (VerificationError, InvalidHashError):
            return False


class Guard:
    """Counts wrong passwords per account and says how long to wait.

    A try counts as wrong until it was right.
    """

    def __init__(self) -> None:
        self._tries: dict[str, tuple[int, float]] = {}  # account: tries in a row, time of the last

    def begin(self, account: str, now_s: float) -> None:
        """Take note of a try. Raises TooManyTries while the account's pause lasts."""
        count, last = self._tries.get(account, (0, now_s))
        if not 0 <= now_s - last <= FORGET_AFTER_S:
            count = 0  # long ago, or the clock was set back
        left = last + self._pause(count) - now_s
        if count and left > 0:
            raise TooManyTries("too many wrong passwords; wait a little", left)
        self._tries[account] = (count + 1, now_s)

    def succeeded(self, account: str) -> None:
        self._tries.pop(account, None)

    @staticmethod
    def _pause(count: int) -> float:
        return (
            0.0 if count < FREE_TRIES else min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (count - FREE_TRIES))
        )
