"""The second factor: codes of an authenticator app (TOTP, RFC 6238), and recovery codes for the day it is lost.

A code is good once, for its 30 s and those before and after. The app's clock and the gateway's must agree for that;
where the gateway's may be wrong (no network, no battery clock) two codes in a row are taken instead, wherever in the
120 days after that clock they stand: a guessed pair of six digits has one chance in three million.
"""

from __future__ import annotations

import contextlib
import hmac
import re
import secrets
import sqlite3
import struct
from collections.abc import Callable

import msgspec
import pyotp
from pyotp.totp import TOTP

from .errors import Conflict, HubError, Invalid, NotFound
from .keys import CROCKFORD, Unreadable, normal_code
from .registry_items import Change, ChangeKind
from .registry_part import Desk
from .users import Statement

ISSUER = "Fluxgate"
STEP_S = 30
DIGITS = 6
WINDOW = 1  # steps to either side that are taken, for a clock that is a little off
# 120 days: how far a clock may be late for a pair of codes; half a second of work on a laptop
STEPS_AHEAD = 345_600
STEPS_BACK = 2_880  # a day: how far it may be early
RECOVERY_CODES = 10
SECRET_BYTES = 20  # RFC 4226, 4, R6
MAX_CODE = 64  # characters of what is typed

_ONE, _TWO = re.compile(r"[0-9]{6}", re.ASCII), re.compile(r"[0-9]{12}", re.ASCII)
_GAPS = re.compile(r"[\s-]+")


class Totp(msgspec.Struct):
    """An account's second factor. `step` is that of the last code taken: no code counts twice."""

    sealed: bytes
    confirmed: bool = False
    step: int = 0


class Begun(msgspec.Struct, frozen=True):
    """What the authenticator app needs, shown once. Its repr is of no use to anybody."""

    secret: str
    uri: str

    def __repr__(self) -> str:
        return "Begun(...)"


class Totps:
    """A part of the registry."""

    def __init__(self, desk: Desk, exists: Callable[[str], object]) -> None:
        self._desk, self._exists = desk, exists
        self._totps: dict[str, Totp] = {}
        self._recovery: dict[str, set[bytes]] = {}

    def load(self, conn: sqlite3.Connection) -> None:
        self._totps = {
            user_id: Totp(sealed, bool(confirmed), step)
            for user_id, sealed, confirmed, step in conn.execute(
                "SELECT user, sealed, confirmed, step FROM totp"
            )
        }
        self._recovery = {}
        for user_id, digest in conn.execute("SELECT user, hash FROM recovery_code"):
            self._recovery.setdefault(user_id, set()).add(digest)

    def follow(self, change: Change) -> None:
        """Forget accounts that are gone."""
        for user_id in change.users:
            if self._exists(user_id) is None:
                self._totps.pop(user_id, None)
                self._recovery.pop(user_id, None)

    def on(self, user_id: str) -> bool:
        """Whether signing in takes a code."""
        found = self._totps.get(user_id)
        return found is not None and found.confirmed

    def recovery_left(self, user_id: str) -> int:
        """Recovery codes that were not used yet."""
        return len(self._recovery.get(user_id, ()))

    def begin(self, user_id: str, email: str) -> Begun:
        """A new secret, which counts once a code of it was shown. Raises Conflict where there is one that counts."""
        with self._desk.lock:
            if self._exists(user_id) is None:
                raise NotFound("no such user")
            if self.on(user_id):
                raise Conflict("signing in takes a code already; turn that off first")
            secret = pyotp.random_base32(SECRET_BYTES * 8 // 5)
            sealed = self._desk.key.seal("totp", secret.encode())
            self._desk.write(
                [
                    (
                        "INSERT OR REPLACE INTO totp(user, sealed, confirmed, step) VALUES (?, ?, 0, 0)",
                        (user_id, sealed),
                    )
                ]
            )
            self._totps[user_id] = Totp(sealed)
        return Begun(secret, TOTP(secret).provisioning_uri(name=email, issuer_name=ISSUER))

    def confirm(self, user_id: str, code: str, now_s: float, trusted: bool) -> list[str]:
        """The code shows that the app has the secret: from now on it is asked for. Returns recovery codes, once.

        Raises Invalid, NotFound where nothing was begun, Conflict where it counts already.
        """
        found = self._totps.get(user_id)
        if found is None:
            raise NotFound("begin first: POST /users/totp")
        # Without the lock: a pair takes a while to find
        step = self._step(found, code[:MAX_CODE], now_s, trusted)
        with self._desk.lock:
            if found.confirmed or self._totps.get(user_id) is not found:
                raise Conflict("signing in takes a code already, or somebody began anew")
            if step is None:
                raise Invalid(_ask_again(trusted))
            codes = [_new_recovery_code() for _ in range(RECOVERY_CODES)]
            digests = {self._digest(user_id, each) for each in codes}
            self._desk.write(
                [
                    ("UPDATE totp SET confirmed = 1, step = ? WHERE user = ?", (step, user_id)),
                    *_recovery_writes(user_id, digests),
                ]
            )
            found.confirmed, found.step = True, step
            self._recovery[user_id] = digests
            self._desk.changed(Change(ChangeKind.REVOKED, users=frozenset({user_id})))
        return codes

    def check(self, user_id: str, code: str, now_s: float, trusted: bool) -> bool:
        """Take a code, or a recovery code, so that it never counts again. Blocks for a commit."""
        found = self._totps.get(user_id)
        if found is None or not found.confirmed or len(code) > MAX_CODE:
            return False
        step = self._step(found, code, now_s, trusted)  # without the lock, as above
        with self._desk.lock:
            if self._totps.get(user_id) is not found:
                return False
            if step is not None and step > found.step:
                self._keep(("UPDATE totp SET step = ? WHERE user = ?", (step, user_id)))
                found.step = step
                return True
            digest = self._digest(user_id, code)
            if digest in self._recovery.get(user_id, ()):
                self._keep(("DELETE FROM recovery_code WHERE user = ? AND hash = ?", (user_id, digest)))
                self._recovery[user_id].discard(digest)
                return True
        return False

    def renew(self, user_id: str) -> list[str]:
        """New recovery codes in place of those there were. Raises RegistryFailed."""
        codes = [_new_recovery_code() for _ in range(RECOVERY_CODES)]
        digests = {self._digest(user_id, each) for each in codes}
        with self._desk.lock:
            self._desk.write(_recovery_writes(user_id, digests))
            self._recovery[user_id] = digests
        return codes

    def turn_off(self, user_id: str) -> bool:
        """No code is asked for any more; False where none was. Raises RegistryFailed."""
        with self._desk.lock:
            was_on = self.on(user_id)
            if self._totps.pop(user_id, None) is not None:
                self._desk.write(
                    [
                        ("DELETE FROM totp WHERE user = ?", (user_id,)),
                        ("DELETE FROM recovery_code WHERE user = ?", (user_id,)),
                    ]
                )
                self._recovery.pop(user_id, None)
                self._desk.changed(Change(ChangeKind.REVOKED, users=frozenset({user_id})))
            return was_on

    def _keep(self, statement: Statement) -> None:
        """On a full disk it is remembered until this process ends: who comes to see to the disk must get in."""
        with contextlib.suppress(HubError):
            self._desk.write([statement])

    def _step(self, totp: Totp, code: str, now_s: float, trusted: bool) -> int | None:
        """The step of a good code that is later than the last one taken; None for any other."""
        try:
            secret = self._desk.key.unseal("totp", totp.sealed)
        except Unreadable:
            return None
        key = TOTP(secret.decode()).byte_secret()
        digits = _GAPS.sub("", code)
        now = int(now_s) // STEP_S
        if _ONE.fullmatch(digits):
            steps = range(max(now - WINDOW, totp.step + 1), now + WINDOW + 1)
            return next((step for step in steps if _is_code(key, step, digits)), None)
        if _TWO.fullmatch(digits) and not trusted:
            return _find_pair(key, digits[:DIGITS], digits[DIGITS:], now, totp.step)
        return None

    def _digest(self, user_id: str, code: str) -> bytes:
        return self._desk.key.digest("recovery", f"{user_id}\0{normal_code(code)}")


def _recovery_writes(user_id: str, digests: set[bytes]) -> list[Statement]:
    """What makes the kept codes those of `digests`."""
    return [
        ("DELETE FROM recovery_code WHERE user = ?", (user_id,)),
        *(("INSERT INTO recovery_code(user, hash) VALUES (?, ?)", (user_id, each)) for each in digests),
    ]


def _find_pair(key: bytes, first: str, second: str, now: int, after: int) -> int | None:
    """The step of `second` where both stand side by side after the step `after`, the nearest to `now` first."""
    wanted = int(first)
    for away in range(STEPS_AHEAD):
        for step in (now + away, now - away) if 0 < away <= STEPS_BACK else (now + away,):
            if step > after and _code(key, step) == wanted and _is_code(key, step + 1, second):
                return step + 1
    return None


def _code(key: bytes, step: int) -> int:
    """HOTP of RFC 4226, 5.3: pyotp's own takes ten times as long, and a year of them are looked through."""
    digest = hmac.digest(key, struct.pack(">Q", step), "sha1")
    offset = digest[-1] & 0xF
    return (int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF) % 1_000_000


def _is_code(key: bytes, step: int, code: str) -> bool:
    return hmac.compare_digest(f"{_code(key, step):06d}", code)


def _ask_again(trusted: bool) -> str:
    if trusted:
        return "the code is wrong or was used: take the next one, and look whether the phone's time is right"
    return (
        "the gateway does not know the time, so its code may differ from the phone's: wait for the next code and type"
        " both, the earlier one first"
    )


def _new_recovery_code() -> str:
    """50 bits, as a person reads them: `XXXXX-XXXXX`."""
    code = "".join(secrets.choice(CROCKFORD) for _ in range(10))
    return f"{code[:5]}-{code[5:]}"
