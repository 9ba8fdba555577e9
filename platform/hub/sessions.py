"""Sessions of people: each sign-in is one, kept here and not in what the browser holds, so that ending it ends it.

A session is named by a secret of 256 random bits of which only the keyed hash is kept. Beside them the devices that
signed in: such a device keeps an allowance of its own for wrong passwords (`hub.lockout`), and nothing else.
"""

from __future__ import annotations

import logging
import re
import secrets
import sqlite3
from collections.abc import Callable

import msgspec

from .errors import HubError, NotFound
from .keys import new_secret
from .registry_items import Change, ChangeKind
from .registry_part import Desk
from .users import Statement

log = logging.getLogger("hub.sessions")

MAX_SESSIONS = 32  # of one user: sign-ins on as many devices; the one used longest ago goes
MAX_DEVICES = 16  # of one user that keep an allowance of their own; the one used longest ago goes
MAX_AGENT = 80  # characters about the device
IDLE_S = 10 * 3600.0  # a session unused for this long ends; Mainflux's login tokens live as long
ABSOLUTE_S = 7 * 24 * 3600.0  # and any session after this
DEVICE_S = 365 * 24 * 3600.0  # without a sign-in, then a device is a stranger again
KNOWN_AFTER_S = 600.0  # a session this old vouches for its address


class Session(msgspec.Struct):
    """One sign-in. `id` names it in lists; the secret that is it is known to its holder only."""

    id: str
    user_id: str
    opened_s: float  # UTC
    used_s: float
    address: str = ""  # where it was signed in from
    agent: str = ""  # the device, in words

    def over(self, now_s: float) -> bool:
        """Whether it has ended by itself."""
        return now_s - self.used_s > IDLE_S or now_s - self.opened_s > ABSOLUTE_S


class _Device(msgspec.Struct):
    user_id: str
    used_s: float


class Sessions:
    """A part of the registry."""

    def __init__(self, desk: Desk, exists: Callable[[str], object]) -> None:
        """`exists` gives something for the id of an account, None where there is none."""
        self._desk, self._exists = desk, exists
        self._sessions: dict[bytes, Session] = {}
        self._devices: dict[bytes, _Device] = {}

    def load(self, conn: sqlite3.Connection) -> None:
        self._sessions = {
            digest: Session(*rest)
            for digest, *rest in conn.execute(
                "SELECT hash, id, user, opened_s, used_s, address, agent FROM session"
            )
        }
        self._devices = {
            digest: _Device(*rest)
            for digest, *rest in conn.execute("SELECT hash, user, used_s FROM device_known")
        }

    def follow(self, change: Change) -> None:
        """Forget accounts that are gone."""
        for user_id in change.users:
            if self._exists(user_id) is None:
                self._forget(lambda each, gone=user_id: each.user_id == gone)  # type: ignore[misc]
                self._devices = {
                    digest: each for digest, each in self._devices.items() if each.user_id != user_id
                }

    # Sessions

    def open(self, user_id: str, now_s: float, *, address: str = "", agent: str = "") -> tuple[str, Session]:
        """Begin a session: its secret, which can never be read again, and what is kept. Raises NotFound."""
        with self._desk.lock:
            if self._exists(user_id) is None:
                raise NotFound("no such user")
            ended = [digest for digest, each in self._sessions.items() if each.over(now_s)]
            mine = sorted(
                (each.used_s, digest)
                for digest, each in self._sessions.items()
                if each.user_id == user_id and digest not in ended
            )
            ended += [digest for _, digest in mine[: max(0, len(mine) - MAX_SESSIONS + 1)]]
            secret = new_secret()
            digest = self._desk.key.digest("token", secret)
            session = Session(secrets.token_hex(8), user_id, now_s, now_s, address[:64], agent[:MAX_AGENT])
            statements: list[Statement] = [("DELETE FROM session WHERE hash = ?", (old,)) for old in ended]
            row = (digest, *msgspec.structs.astuple(session))
            statements.append(
                (
                    "INSERT INTO session(hash, id, user, opened_s, used_s, address, agent)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    row,
                )
            )
            try:
                self._desk.write(statements)
            except HubError as error:
                # Who comes to see what is wrong with the disk must get in; such a session ends with this process.
                log.warning("a sign-in is remembered until the next start only: %s", error.reason)
            for old in ended:
                del self._sessions[old]
            self._sessions[digest] = session
        return secret, session

    def by_secret(self, secret: str, now_s: float) -> Session | None:
        """The live session that `secret` is; notes that it was used."""
        session = self._sessions.get(self._desk.key.digest("token", secret))
        if session is None or session.over(now_s):
            return None
        session.used_s = now_s
        return session

    def of_user(self, user_id: str, now_s: float) -> list[Session]:
        """The live ones, the one used last first."""
        found = [
            each for each in list(self._sessions.values()) if each.user_id == user_id and not each.over(now_s)
        ]
        return sorted(found, key=lambda each: each.used_s, reverse=True)

    def all(self, now_s: float) -> list[Session]:
        """Everybody's live ones, the one used last first."""
        found = [each for each in list(self._sessions.values()) if not each.over(now_s)]
        return sorted(found, key=lambda each: each.used_s, reverse=True)

    def end_secret(self, secret: str) -> bool:
        """End the session that `secret` is; False where there is none. Raises RegistryFailed."""
        session = self._sessions.get(self._desk.key.digest("token", secret))
        return session is not None and bool(self.end(lambda each: each is session))

    def end(self, which: Callable[[Session], bool]) -> int:
        """End sessions, which reaches what they hold open; returns how many. Raises RegistryFailed."""
        with self._desk.lock:
            digests = [digest for digest, each in self._sessions.items() if which(each)]
            if digests:
                users = frozenset(self._sessions[digest].user_id for digest in digests)
                self._desk.write([("DELETE FROM session WHERE hash = ?", (digest,)) for digest in digests])
                self._forget(which)
                self._desk.changed(Change(ChangeKind.REVOKED, users=users))
            return len(digests)

    def ended_with(self, user_id: str) -> list[Statement]:
        """What ends all sessions of an account, for a transaction that changes its password or role; then `drop`."""
        return [("DELETE FROM session WHERE user = ?", (user_id,))]

    def drop(self, user_id: str) -> None:
        """Forget what `ended_with` ended."""
        self._forget(lambda each: each.user_id == user_id)

    def last_uses(self) -> list[Statement]:
        """What brings the kept times of use up to date; written when the registry closes."""
        return [
            ("UPDATE session SET used_s = ? WHERE hash = ?", (each.used_s, digest))
            for digest, each in self._sessions.items()
        ]

    def _forget(self, which: Callable[[Session], bool]) -> None:
        self._sessions = {digest: each for digest, each in self._sessions.items() if not which(each)}

    # Devices

    def knows_address(
        self, user_id: str, network: str, now_s: float, network_of: Callable[[str], str]
    ) -> bool:
        """Whether the account has a session from there that was opened well before."""
        return any(
            each.user_id == user_id
            and now_s - each.opened_s >= KNOWN_AFTER_S
            and network_of(each.address) == network
            and not each.over(now_s)
            for each in list(self._sessions.values())
        )

    def remember_device(self, user_id: str, now_s: float) -> str:
        """A new secret by which the account knows a device again; "" where it cannot be kept."""
        with self._desk.lock:
            secret = new_secret()
            digest = self._desk.key.digest("device", secret)
            mine = sorted(
                (each.used_s, old) for old, each in self._devices.items() if each.user_id == user_id
            )
            gone = [old for _, old in mine[: max(0, len(mine) - MAX_DEVICES + 1)]]
            try:
                self._desk.write(
                    [
                        *(("DELETE FROM device_known WHERE hash = ?", (old,)) for old in gone),
                        (
                            "INSERT INTO device_known(hash, user, used_s) VALUES (?, ?, ?)",
                            (digest, user_id, now_s),
                        ),
                    ]
                )
            except HubError as error:
                log.warning("a device is not remembered: %s", error.reason)
                return ""
            for old in gone:
                del self._devices[old]
            self._devices[digest] = _Device(user_id, now_s)
        return secret

    def device(self, user_id: str, secret: str, now_s: float) -> str:
        """A name for the device that shows `secret`, where the account knows it; else ""."""
        if not secret or len(secret) > 64:
            return ""
        digest = self._desk.key.digest("device", secret)
        known = self._devices.get(digest)
        if known is None or known.user_id != user_id or now_s - known.used_s > DEVICE_S:
            return ""
        return digest.hex()[:16]

    def use_device(self, secret: str, now_s: float) -> None:
        """Note that the device signed in."""
        known = self._devices.get(self._desk.key.digest("device", secret))
        if known is not None:
            known.used_s = now_s


_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)
_BROWSERS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("CriOS/", "Chrome"),
    ("Safari/", "Safari"),
)
_PRODUCT = re.compile(r"[A-Za-z][A-Za-z0-9 ._-]{0,30}")


def agent_words(user_agent: str) -> str:
    """What a User-Agent says of a device, as people call it; the first product's name where it is no browser."""
    browser = next((word for mark, word in _BROWSERS if mark in user_agent), "")
    if browser and user_agent.startswith("Mozilla/"):
        system = next((word for mark, word in _SYSTEMS if mark in user_agent), "")
        return f"{browser} on {system}" if system else browser
    found = _PRODUCT.match(user_agent)
    return found[0].strip() if found else ""
