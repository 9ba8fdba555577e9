"""Passwords of people: what may be one, and argon2id with a bound on hashes at a time.

How often one may guess is another matter: `hub.lockout`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from .errors import Busy, Invalid

T = TypeVar("T")

MIN_LENGTH = 8  # as Mainflux; NIST SP 800-63B-4 and ASVS 6.2.1 ask for at least that
MAX_LENGTH = 256  # bounds the work of one try
MAX_HASHES = 2  # at a time: 38 MiB and two cores' worth
HASHING_NICE = 10  # of 19: a flood of sign-ins slows sign-ins down, not messages
MAX_WAITING = 8  # further callers in line for a hash; then Busy

# What guessers try first, among passwords long enough for us; compared without case, digits and marks at the ends,
# and with the usual figures for letters. Our own choice, of things that every such list begins with.
_COMMON = """password passphrase passwort motdepasse contrasena qwertyui qwertyuiop qwertzui qwertzuiop azertyui
    azertyuiop asdfghjk asdfghjkl zxcvbnm yxcvbnm qazwsx qazwsxedc iloveyou letmein welcome willkommen sunshine princess
    football baseball basketball superman batman starwars trustno michelle jennifer charlie dragon monkey shadow master
    computer internet whatever administrator admin root raspberry raspberrypi fluxgate lorawan mainflux gateway
    changeme changeit default secret supersecret secretpassword mypassword adminadmin testtest guestguest access
    hallo hello helloworld helloworlds abcdefgh abcdefghi abcabc abcd qwer asdf zxcv"""
COMMON = frozenset(_COMMON.split())

# OWASP password storage: 19 MiB, two passes, one lane; about 30 ms on a laptop, 300 ms on a Pi 3.
_hasher = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
# Checked for accounts that do not exist, so that they take as long as others.
_NOBODY = _hasher.hash("no account has this password")

_FIGURES = str.maketrans("013457@$", "oleastas")

_line = threading.BoundedSemaphore(MAX_HASHES + MAX_WAITING)
# Threads of their own: the C library keeps what a thread has used once, and many threads would keep 19 MiB each.
_workers = ThreadPoolExecutor(MAX_HASHES, thread_name_prefix="hub-argon2", initializer=lambda: _give_way())


def _give_way() -> None:
    """Have this thread hash in what time messages leave over; Linux keeps a priority for each thread."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), HASHING_NICE)


def _hashed(work: Callable[[], T]) -> T:
    """What `work` gives, in one of the MAX_HASHES threads. Raises Busy where the line before them is full."""
    if not _line.acquire(blocking=False):
        raise Busy("too many passwords are being checked")
    try:
        return _workers.submit(work).result()
    finally:
        _line.release()


def check_new(password: str, email: str = "") -> None:
    """Raises Invalid, with what is wrong, for what may not become a password of `email`'s account."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise Invalid(f"a password has {MIN_LENGTH} to {MAX_LENGTH} characters")
    folded = password.casefold()
    if len(set(folded)) < 4 or _is_row(folded):
        raise Invalid("this password is one of the first to be guessed: take four or five words")
    plain = folded.strip("0123456789!.?*#$%&+-_ ")
    core = plain.translate(_FIGURES)
    if core in COMMON or plain in COMMON:
        raise Invalid("this password is one of the first to be guessed: take four or five words")
    name = email.casefold().partition("@")[0]
    if folded == email.casefold() or (len(name) >= 4 and plain == name):
        raise Invalid("the e-mail address is no password")


def _is_row(text: str) -> bool:
    """Whether each character is the next or the previous one's neighbour: 12345678, hgfedcba; 0 follows 9."""
    steps = {(ord(b) - ord(a)) for a, b in itertools.pairwise(text) if (a, b) != ("9", "0")}
    return steps in ({1}, {-1})


def hash_password(password: str, email: str = "") -> str:
    """The encoded argon2id hash. Raises Invalid for what `check_new` refuses; takes tens of ms."""
    check_new(password, email)
    return _hashed(lambda: _hasher.hash(password))


def check_password(encoded: str | None, password: str) -> bool:
    """True where `password` made `encoded`.

    None stands for an account that does not exist, and takes as long.
    """
    if len(password) > MAX_LENGTH:
        return False
    return _hashed(lambda: _is_right(encoded, password))


def _is_right(encoded: str | None, password: str) -> bool:
    try:
        return _hasher.verify(encoded or _NOBODY, password) and encoded is not None
    except (VerificationError, InvalidHashError):
        return False
