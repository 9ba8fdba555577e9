"""Codes of an authenticator app: as RFC 6238 and pyotp make them, each good once, also where nobody knows the time."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pyotp
import pytest
from pyotp.totp import TOTP

from hub import totp as totps
from hub.errors import Conflict, Invalid, NotFound
from hub.keys import ServerKey
from hub.registry import Registry, User
from hub.totp import STEP_S, _code, _find_pair

NOW = 1_800_000_000.0


def reopen(folder: Path) -> Registry:
    return Registry.open(folder / "registry.db", ServerKey.load(folder / "server.key"))


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = reopen(tmp_path)
    yield registry
    registry.close()


@pytest.fixture
def owner(registry: Registry) -> User:
    return registry.create_account("owner@example.org", "no hash", "admin")


@pytest.fixture
def app(registry: Registry, owner: User) -> TOTP:
    """The app of the owner, who has shown a code of a minute ago."""
    begun = registry.totp.begin(owner.id, owner.email)
    made = pyotp.parse_uri(begun.uri)
    assert isinstance(made, TOTP)
    registry.totp.confirm(owner.id, made.at(int(NOW - 90)), NOW - 90, True)
    return made


# RFC 6238, appendix B, SHA-1; its eight digits cut to our six, as RFC 4226, 5.3 defines them.
@pytest.mark.parametrize(
    ("time_s", "code"),
    [
        (59, "94287082"),
        (1111111109, "07081804"),
        (1111111111, "14050471"),
        (1234567890, "89005924"),
        (2000000000, "69279037"),
        (20000000000, "65353130"),
    ],
)
def test_codes_are_those_of_the_rfc(time_s: int, code: str) -> None:
    assert f"{_code(b'12345678901234567890', time_s // STEP_S):06d}" == code[-6:]


def test_codes_are_those_of_another_implementation() -> None:
    for n in range(50):
        secret = pyotp.random_base32()
        at = int(NOW) + 1_000_003 * n
        assert f"{_code(base64.b32decode(secret), at // STEP_S):06d}" == TOTP(secret).at(at)


def test_a_code_is_good_once_for_its_time_and_its_neighbours(
    registry: Registry, owner: User, app: TOTP
) -> None:
    check = registry.totp.check
    for offset, good in (
        (-60, False),
        (60, False),
        (-30, True),
        (-30, False),
        (30, True),
        (0, False),
        (30, False),
    ):
        assert check(owner.id, app.at(int(NOW + offset)), NOW, True) is good, offset
    later = NOW + 90
    code = app.at(int(later))
    assert check(owner.id, f" {code[:3]} {code[3:]} ", later, True)
    for text in ("", "abc", code + "0", code[:5], "\u0661" * 6, "0" * 100, "12 34 56 78"):
        assert not check(owner.id, text, later, True), text


def test_what_was_taken_stays_taken_over_a_restart(tmp_path: Path) -> None:
    registry = reopen(tmp_path)
    owner = registry.create_account("owner@example.org", "no hash", "admin")
    begun = registry.totp.begin(owner.id, owner.email)
    app = TOTP(begun.secret)
    recovery = registry.totp.confirm(owner.id, app.at(int(NOW)), NOW, True)
    assert registry.totp.check(owner.id, recovery[0], NOW, True)
    registry.close()
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for secret in (begun.secret, recovery[0], recovery[1]):
        assert secret.encode() not in files
        assert base64.b32decode(begun.secret) not in files
    registry = reopen(tmp_path)
    assert not registry.totp.check(owner.id, app.at(int(NOW)), NOW, True)
    assert not registry.totp.check(owner.id, recovery[0], NOW, True)
    assert registry.totp.check(owner.id, recovery[1].lower().replace("-", " "), NOW, True)
    assert registry.totp.recovery_left(owner.id) == 8
    registry.close()


def test_it_counts_only_once_a_code_was_shown(registry: Registry, owner: User) -> None:
    with pytest.raises(NotFound):
        registry.totp.confirm(owner.id, "123456", NOW, True)
    begun = registry.totp.begin(owner.id, owner.email)
    app = TOTP(begun.secret)
    assert not registry.totp.on(owner.id)
    assert not registry.totp.check(owner.id, app.at(int(NOW)), NOW, True)
    with pytest.raises(Invalid):
        registry.totp.confirm(owner.id, "000000", NOW, True)
    again = registry.totp.begin(owner.id, owner.email)
    assert again.secret != begun.secret
    with pytest.raises(Invalid):
        registry.totp.confirm(owner.id, app.at(int(NOW)), NOW, True)
    codes = registry.totp.confirm(owner.id, TOTP(again.secret).at(int(NOW)), NOW, True)
    assert len(set(codes)) == totps.RECOVERY_CODES
    assert registry.totp.on(owner.id)
    with pytest.raises(Conflict):
        registry.totp.begin(owner.id, owner.email)
    with pytest.raises(Conflict):
        registry.totp.confirm(owner.id, TOTP(again.secret).at(int(NOW + 30)), NOW + 30, True)
    assert again.secret not in repr(again)


@pytest.mark.parametrize("late_s", [0, 45, 30 * 3600, -3600])
def test_without_the_time_two_codes_in_a_row_are_taken(
    registry: Registry, owner: User, app: TOTP, late_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(totps, "STEPS_AHEAD", 4000)  # 33 h; the test is of no other kind with 120 days
    phone = int(NOW + 2 * 3600 + late_s)  # the right time; the gateway's is late by `late_s`
    first, second, third = (app.at(phone + each) for each in (0, 30, 60))
    gateway = NOW + 2 * 3600
    check = registry.totp.check
    assert not check(owner.id, f"{first} {second}", gateway, True), "a gateway that knows the time takes one"
    assert not check(owner.id, f"{second} {first}", gateway, False)
    assert not check(owner.id, f"{first} {third}", gateway, False)
    assert check(owner.id, f"{first} {second}", gateway, False)
    assert not check(owner.id, f"{first} {second}", gateway, False), "played in again"
    assert check(owner.id, third + app.at(phone + 90), gateway, False)


def test_a_pair_is_looked_for_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totps, "STEPS_AHEAD", 100)
    monkeypatch.setattr(totps, "STEPS_BACK", 10)
    key, now = b"12345678901234567890", 1000

    def pair(step: int) -> tuple[str, str]:
        return f"{_code(key, step):06d}", f"{_code(key, step + 1):06d}"

    assert _find_pair(key, *pair(now + 99), now, 0) == now + 100
    assert _find_pair(key, *pair(now + 101), now, 0) is None
    assert _find_pair(key, *pair(now - 10), now, 0) == now - 9
    assert _find_pair(key, *pair(now - 11), now, 0) is None
    assert _find_pair(key, *pair(now - 5), now, now - 4) is None, "older than the last one taken"


def test_it_goes_with_its_account_and_can_be_turned_off(registry: Registry, owner: User, app: TOTP) -> None:
    assert registry.totp.turn_off(owner.id)
    assert not registry.totp.turn_off(owner.id)
    assert not registry.totp.check(owner.id, app.at(int(NOW)), NOW, True)
    second = registry.create_account("second@example.org", "no hash", "admin")
    registry.totp.begin(second.id, second.email)
    registry.remove_user(second.id)
    assert second.id not in registry.totp._totps
    with pytest.raises(NotFound):
        registry.totp.begin(second.id, second.email)


def test_who_must_have_it_looks_only_until_he_has(registry: Registry, owner: User) -> None:
    registry.second_factor_for = frozenset({"admin"})
    seen = registry.user(owner.id)
    assigned = registry.assigned(owner.id)
    assert seen
    assert assigned
    assert (seen.role, assigned.role) == ("viewer", "admin")
    app = TOTP(registry.totp.begin(owner.id, owner.email).secret)
    registry.totp.confirm(owner.id, app.at(int(NOW)), NOW, True)
    assert registry.user(owner.id) == owner
