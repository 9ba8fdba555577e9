"""Guessing people's passwords and codes for a long simulated time: how many guesses were held against a hash.

    python tests/torture/guesses.py [guesses, 100000] [hours they take, 100]

Each way is tried on a hub of its own, in simulated time and with a hash that costs nothing: from everywhere at one
account, from one line (an IPv6 /64) at every name, from the owner's own address, from addresses that never come back,
and codes with the password known. The owner signs in every simulated hour from a browser he used before. Exit status 1
where an account had more than 100 guesses in any hour, or the owner was kept out once.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

import argon2  # noqa: E402
from pyotp.totp import TOTP  # noqa: E402

from hub import passwords  # noqa: E402
from hub.audit import Audit, audit_key  # noqa: E402
from hub.errors import HubError, TooManyTries  # noqa: E402
from hub.keys import ServerKey  # noqa: E402
from hub.message import TimeQuality  # noqa: E402
from hub.registry import Registry  # noqa: E402
from hub.sign_in import SignIn, SignInRefused  # noqa: E402

OWNER, PASSWORD = "owner@example.org", "four or five easy words"
MOST_AN_HOUR = 100
HOUR_S = 3600.0


@dataclass
class Attack:
    """A hub under attack, its two clocks moved by hand."""

    sign_in: SignIn
    registry: Registry
    wall_s: float = 1_800_000_000.0
    mono_s: float = 0.0
    device: str = ""
    by_hour: dict[int, int] = field(default_factory=dict)
    kept_out: int = 0

    def guess(self, email: str, password: str, address: str, code: str = "") -> None:
        """One guess; counted where it was held against a hash or a secret."""
        try:
            self.sign_in.sign_in(email, password, code=code, address=address)
        except TooManyTries:
            return
        except SignInRefused:
            if password != PASSWORD or code:
                hour = int(self.mono_s // HOUR_S)
                self.by_hour[hour] = self.by_hour.get(hour, 0) + 1
            return
        raise AssertionError("a guess was right")

    def owner_comes(self, code: str = "") -> None:
        """The owner signs in with the browser he has."""
        try:
            made = self.sign_in.sign_in(OWNER, PASSWORD, code=code, device=self.device, address="192.0.2.10")
            self.device = made.device or self.device
        except HubError:
            self.kept_out += 1


Way = Callable[[Attack, int], None]

WAYS: dict[str, Way] = {
    "one account, from everywhere": lambda a, n: a.guess(
        OWNER, f"guess number {n}", f"198.{n % 200}.{n // 200 % 250}.{n % 251}"
    ),
    "every name, from one line": lambda a, n: a.guess(
        f"user{n}@example.org", "guess guess", f"2001:db8:0:1::{n % 65_536:x}"
    ),
    "one account, from the owner's address": lambda a, n: a.guess(OWNER, f"guess number {n}", "192.0.2.10"),
    "one account, each address once": lambda a, n: a.guess(
        OWNER, f"guess number {n}", f"2001:db8:{n >> 16:x}:{n & 0xFFFF:x}::1"
    ),
    "codes, with the password known": lambda a, n: a.guess(
        OWNER, PASSWORD, f"198.51.100.{n % 250}", f"{n % 1_000_000:06d}" if n % 2 else ""
    ),
}


def attack(folder: Path, way: Way, guesses: int, hours: float, *, codes: bool = False) -> Attack:
    """Guess `guesses` times, evenly over `hours`; the owner comes once an hour."""
    key = ServerKey.load(folder / "server.key")
    registry = Registry.open(folder / "registry.db", key)
    under: Attack

    def clock() -> tuple[int, TimeQuality]:
        return int(under.wall_s * 1e9), TimeQuality.NTP

    audit = Audit(folder / "audit.db", audit_key(key), clock)
    under = Attack(SignIn(registry, audit, clock, lambda: under.mono_s), registry)
    owner = registry.create_user(OWNER, PASSWORD)
    app: TOTP | None = None
    if codes:
        app = TOTP(registry.totp.begin(owner.id, OWNER).secret)
        registry.totp.confirm(owner.id, app.at(int(under.wall_s)), under.wall_s, True)
        under.wall_s += 60.0
    step_s, next_s = hours * HOUR_S / guesses, 0.0
    for n in range(guesses):
        if under.mono_s >= next_s:
            under.owner_comes(app.at(int(under.wall_s)) if app else "")
            next_s += HOUR_S
        way(under, n)
        under.wall_s += step_s
        under.mono_s += step_s
    under.sign_in.close()
    audit.close()
    registry.close()
    return under


def make_hashing_cheap() -> None:
    """What is measured is how often a hash is made, not what it costs."""
    passwords._hasher = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    passwords._NOBODY = passwords._hasher.hash("nobody has this password")


def main() -> int:
    guesses = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    hours = float(sys.argv[2]) if len(sys.argv) > 2 else 100.0
    make_hashing_cheap()
    failed = False
    for name, way in WAYS.items():
        with tempfile.TemporaryDirectory() as folder:
            found = attack(Path(folder), way, guesses, hours, codes=name.startswith("codes"))
        most, total = max(found.by_hour.values(), default=0), sum(found.by_hour.values())
        wrong = most > MOST_AN_HOUR or found.kept_out > 0
        failed |= wrong
        print(
            f"{name}: {total} of {guesses} let through in {hours:g} h, at most {most} in one hour;"
            f" the owner was kept out {found.kept_out} times{': WRONG' if wrong else ''}"
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
