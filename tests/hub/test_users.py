"""People: the claim, passwords and their guard, tokens and their end. Time is an argument everywhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from hub import passwords, sessions, users
from hub.errors import Busy, Conflict, Invalid, NotFound, TooManyTries
from hub.keys import CROCKFORD, ServerKey, new_code, normal_code
from hub.registry import Registry, User
from hub.registry_file import RegistryFailed

PASSWORD = "correct horse"
NOW = 1_700_000_000.0


def reopen(folder: Path) -> Registry:
    return Registry.open(folder / "registry.db", ServerKey.load(folder / "server.key"))


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = reopen(tmp_path)
    yield registry
    registry.close()


@pytest.fixture
def owner(registry: Registry) -> User:
    code = registry.claim_code()
    assert code
    return registry.claim(code, "owner@example.org", PASSWORD)


# The claim


def test_the_code_makes_its_holder_the_owner_once(registry: Registry) -> None:
    assert not registry.claimed
    code = registry.claim_code()
    assert code is not None
    assert code == registry.claim_code()
    user = registry.claim(code, "owner@example.org", PASSWORD)
    assert registry.claimed
    assert registry.claim_code() is None
    assert (user.email, user.role) == ("owner@example.org", "admin")
    with pytest.raises(Conflict):
        registry.claim(code, "thief@example.org", PASSWORD)


def test_a_code_has_eight_characters_that_nobody_mistakes() -> None:
    codes = {new_code() for _ in range(200)}
    assert len(codes) == 200
    for code in codes:
        assert len(normal_code(code)) == 8
        assert set(normal_code(code)) <= set(CROCKFORD)


def test_a_code_is_read_as_people_type_it(registry: Registry) -> None:
    code = registry.claim_code()
    assert code
    typed = " " + code.lower().replace("-", " ").replace("0", "o").replace("1", "l") + " "
    assert registry.claim(typed, "owner@example.org", PASSWORD)


def test_five_wrong_codes_use_the_code_up(registry: Registry) -> None:
    code = registry.claim_code()
    assert code
    wrong = "0000-0000" if code != "0000-0000" else "1111-1111"
    for _ in range(users.CLAIM_TRIES):
        with pytest.raises(Invalid):
            registry.claim(wrong, "thief@example.org", PASSWORD)
    with pytest.raises(TooManyTries):
        registry.claim(code, "owner@example.org", PASSWORD)
    fresh = registry.claim_code()
    assert fresh
    assert fresh != code
    with pytest.raises(Invalid):
        registry.claim(code, "thief@example.org", PASSWORD)
    assert registry.claim(fresh, "owner@example.org", PASSWORD)


def test_tries_are_counted_across_a_restart(tmp_path: Path) -> None:
    registry = reopen(tmp_path)
    code = registry.claim_code()
    assert code
    for _ in range(users.CLAIM_TRIES):
        with pytest.raises(Invalid):
            registry.claim("0000-0000", "thief@example.org", PASSWORD)
    registry.close()
    registry = reopen(tmp_path)
    with pytest.raises(TooManyTries):
        registry.claim(code, "owner@example.org", PASSWORD)
    assert registry.claim_code() != code
    registry.close()


def test_a_code_on_paper_outlives_a_restart_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    registry = reopen(tmp_path)
    code = registry.claim_code()
    assert code
    registry.close()
    for file in tmp_path.iterdir():
        assert code.encode() not in file.read_bytes()
        assert normal_code(code).encode() not in file.read_bytes()
    registry = reopen(tmp_path)
    assert registry.claim_code() is None  # nobody here knows it any more
    assert registry.claim_code("AAAA-AAAA") is None
    assert registry.claim_code(code) == registry.claim_code() == code
    registry.close()
    registry = reopen(tmp_path)
    assert registry.claim(code, "owner@example.org", PASSWORD)
    registry.close()


def test_a_new_code_makes_the_one_before_void(registry: Registry) -> None:
    code = registry.claim_code()
    new = registry.new_claim_code()
    assert code
    assert new
    assert new != code
    with pytest.raises(Invalid):
        registry.claim(code, "thief@example.org", PASSWORD)
    assert registry.claim(new, "owner@example.org", PASSWORD)
    assert registry.new_claim_code() is None


def test_nobody_claims_before_a_code_was_shown(registry: Registry) -> None:
    with pytest.raises(TooManyTries):
        registry.claim("", "thief@example.org", PASSWORD)


def test_a_bad_address_or_password_does_not_use_the_gateway_up(registry: Registry) -> None:
    code = registry.claim_code()
    assert code
    with pytest.raises(Invalid):
        registry.claim(code, "owner@example.org", "short")
    with pytest.raises(Invalid):
        registry.claim(code, "no address", PASSWORD)
    assert registry.claim(code, "owner@example.org", PASSWORD)


# Passwords


def test_a_password_is_checked_by_argon2id_and_its_address_in_any_case(
    registry: Registry, owner: User
) -> None:
    assert registry.verify_password("OWNER@example.org", PASSWORD) == owner
    assert registry.verify_password(owner.email, PASSWORD + "x") is None
    assert registry.verify_password("nobody@example.org", PASSWORD) is None
    assert registry.verify_password(owner.email, "x" * 10_000) is None
    encoded = registry._users._passwords[owner.id]
    assert encoded.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


@pytest.mark.parametrize("password", ["", "seven77", "x" * (passwords.MAX_LENGTH + 1)])
def test_passwords_have_lengths(registry: Registry, password: str) -> None:
    with pytest.raises(Invalid):
        registry.create_user("a@example.org", password)


@pytest.mark.parametrize(
    "password",
    [
        *(
            "password",
            "Password1!",
            "P4$$w0rd",
            "pa55word123",
            "12345678",
            "87654321",
            "1234567890",
            "abcdefgh",
        ),
        *(
            "aaaaaaaa",
            "abababab",
            "QWERTYuiop",
            "raspberry",
            "Fluxgate2026",
            "letmein123",
            "owner@example.org",
        ),
        "owner2026!",
    ],
)
def test_what_is_guessed_first_is_no_password(registry: Registry, password: str) -> None:
    with pytest.raises(Invalid):
        registry.create_user("owner@example.org", password)


def test_words_with_a_common_one_among_them_are_a_password() -> None:
    for password in ("correct horse", "my password is long", "another password", "tr0ub4dor&3x"):
        passwords.check_new(password, "owner@example.org")


def test_hashes_at_a_time_and_callers_in_line_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = most = 0
    lock = threading.Lock()
    gate = threading.Event()

    class Hasher:
        def hash(self, password: str) -> str:
            nonlocal at_once, most
            with lock:
                at_once += 1
                most = max(most, at_once)
            gate.wait(30)
            with lock:
                at_once -= 1
            return "encoded"

    monkeypatch.setattr(passwords, "_hasher", Hasher())
    allowed = passwords.MAX_HASHES + passwords.MAX_WAITING
    answers: list[str] = []

    def work() -> None:
        try:
            answers.append(passwords.hash_password(PASSWORD))
        except Busy:
            answers.append("busy")
            gate.set()  # the line is full; let it go on

    workers = [threading.Thread(target=work) for _ in range(allowed + 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert answers.count("busy") == 1
    assert answers.count("encoded") == allowed
    assert most <= passwords.MAX_HASHES


def test_another_password_ends_all_tokens(registry: Registry, owner: User) -> None:
    token = registry.issue_token(owner.id, NOW)
    registry.change_password(owner.id, "another password")
    assert registry.user_by_token(token, NOW) is None
    assert registry.verify_password(owner.email, PASSWORD) is None
    assert registry.verify_password(owner.email, "another password") == owner


# Tokens


def test_a_token_lives_until_unused_or_old(registry: Registry, owner: User) -> None:
    token = registry.issue_token(owner.id, NOW)
    assert len(token) == 43
    assert registry.user_by_token(token, NOW + sessions.IDLE_S) == owner
    assert registry.user_by_token(token, NOW + 2 * sessions.IDLE_S) == owner  # used in between
    assert registry.user_by_token(token, NOW + 3 * sessions.IDLE_S + 1) is None
    token = registry.issue_token(owner.id, NOW)
    steps = int(sessions.ABSOLUTE_S / sessions.IDLE_S)
    for step in range(steps + 1):
        assert registry.user_by_token(token, NOW + step * sessions.IDLE_S) == owner
    assert registry.user_by_token(token, NOW + sessions.ABSOLUTE_S + 1) is None
    for wrong in ("", "x", token + "x", "\ud800"):
        assert registry.user_by_token(wrong, NOW) is None


def test_a_revoked_token_is_over(registry: Registry, owner: User) -> None:
    token, other = registry.issue_token(owner.id, NOW), registry.issue_token(owner.id, NOW)
    assert registry.revoke_token(token)
    assert not registry.revoke_token(token)
    assert registry.user_by_token(token, NOW) is None
    assert registry.user_by_token(other, NOW) == owner


def test_tokens_of_a_user_are_bounded_and_the_longest_unused_goes(registry: Registry, owner: User) -> None:
    tokens = [registry.issue_token(owner.id, NOW + n) for n in range(sessions.MAX_SESSIONS)]
    registry.user_by_token(tokens[0], NOW + 100)
    registry.issue_token(owner.id, NOW + 101)
    assert registry.user_by_token(tokens[0], NOW + 102) == owner
    assert registry.user_by_token(tokens[1], NOW + 102) is None
    assert len(registry.sessions._sessions) == sessions.MAX_SESSIONS


def test_tokens_and_their_last_use_survive_a_restart(tmp_path: Path) -> None:
    registry = reopen(tmp_path)
    code = registry.claim_code()
    assert code
    owner = registry.claim(code, "owner@example.org", PASSWORD)
    token = registry.issue_token(owner.id, NOW)
    registry.user_by_token(token, NOW + sessions.IDLE_S)
    registry.close()
    registry = reopen(tmp_path)
    assert registry.user_by_token(token, NOW + 2 * sessions.IDLE_S) == owner
    assert registry.claimed
    registry.close()


# Accounts


def test_accounts_are_unique_bounded_and_the_last_one_stays(
    registry: Registry, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Conflict):
        registry.create_user("Owner@Example.org", PASSWORD)
    with pytest.raises(Invalid):
        registry.remove_user(owner.id)
    second = registry.create_user("second@example.org", PASSWORD)
    token = registry.issue_token(second.id, NOW)
    assert registry.users() == [owner, second]
    registry.remove_user(second.id)
    assert registry.user(second.id) is None
    assert registry.user_by_email(second.email) is None
    assert registry.user_by_token(token, NOW) is None
    with pytest.raises(NotFound):
        registry.remove_user(second.id)
    with pytest.raises(NotFound):
        registry.issue_token(second.id, NOW)
    with pytest.raises(NotFound):
        registry.change_password(second.id, PASSWORD)
    monkeypatch.setattr(users, "MAX_USERS", 1)
    with pytest.raises(Invalid):
        registry.create_user("third@example.org", PASSWORD)


@pytest.mark.parametrize("email", ["", "a", "@", "a@", "@b", "a b@c", "a@b\n", "a@b@c", "a" * 65 + "@b"])
def test_addresses_are_checked(registry: Registry, email: str) -> None:
    with pytest.raises(Invalid):
        registry.create_user(email, PASSWORD)


def test_who_signs_in_while_nothing_can_be_written_is_known_until_the_next_start(
    registry: Registry, owner: User, tmp_path: Path, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    mocker.patch.object(registry._file, "write", side_effect=RegistryFailed("the disk is read-only"))
    token = registry.issue_token(owner.id, NOW)
    assert registry.user_by_token(token, NOW) == owner
    assert "until the next start only: the disk is read-only" in caplog.text
    with pytest.raises(RegistryFailed):
        registry.create_thing("something that has to last")
    mocker.stopall()
    registry.close()
    again = reopen(tmp_path)
    assert again.user_by_token(token, NOW) is None
    again.close()
