"""Server-side sessions: expiry, revocation, bounds, and nothing to steal from the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from webui import sessions as module
from webui.sessions import Sessions, form_token, is_id, new_id

TOKEN = "gateway-token"


@pytest.fixture
def sessions() -> Iterator[Sessions]:
    store = Sessions(":memory:", idle_s=3600, max_s=86_400)
    yield store
    store.close()


def test_a_session_gives_back_its_token(sessions: Sessions) -> None:
    session_id = sessions.open("tech@example.org", TOKEN, 100.0)
    found = sessions.find(session_id, 101.0)
    assert found is not None
    assert (found.email, found.token) == ("tech@example.org", TOKEN)


def test_every_session_has_its_own_id(sessions: Sessions) -> None:
    assert sessions.open("a@b.c", TOKEN, 0) != sessions.open("a@b.c", TOKEN, 0)


@pytest.mark.parametrize("wrong", ["", "x", "A" * 43, "é" * 43, "A" * 44, "../../etc/passwd"])
def test_an_unknown_id_is_nobody(sessions: Sessions, wrong: str) -> None:
    assert sessions.find(wrong, 0) is None


def test_unused_sessions_end(sessions: Sessions) -> None:
    session_id = sessions.open("a@b.c", TOKEN, 0)
    assert sessions.find(session_id, 3600) is not None
    assert sessions.find(session_id, 3600 + 3600) is not None, "use prolongs it"
    assert sessions.find(session_id, 7200 + 3601) is None
    assert sessions.find(session_id, 7200) is None, "ended is ended, whatever the clock says"


def test_no_session_lives_for_ever(sessions: Sessions) -> None:
    session_id = sessions.open("a@b.c", TOKEN, 0)
    for now in range(0, 86_400, 1800):
        assert sessions.find(session_id, now) is not None
    assert sessions.find(session_id, 86_401) is None


def test_signing_out_ends_it(sessions: Sessions) -> None:
    session_id = sessions.open("a@b.c", TOKEN, 0)
    sessions.end(session_id)
    assert sessions.find(session_id, 1) is None


def test_the_longest_unused_session_makes_room(sessions: Sessions) -> None:
    first = sessions.open("a@b.c", TOKEN, 0)
    others = [sessions.open("a@b.c", TOKEN, 1 + at) for at in range(module.MAX_SESSIONS)]
    assert sessions.find(first, 300) is None
    assert all(sessions.find(other, 300) for other in others)


def test_the_file_holds_neither_ids_nor_tokens(tmp_path: Path) -> None:
    path = tmp_path / "sessions"
    store = Sessions(str(path), 3600, 86_400)
    session_id = store.open("a@b.c", TOKEN, 0)
    store.close()
    content = path.read_bytes()
    assert session_id.encode() not in content
    assert TOKEN.encode() not in content


def test_a_restart_keeps_people_signed_in(tmp_path: Path) -> None:
    path = str(tmp_path / "sessions")
    store = Sessions(path, 3600, 86_400)
    session_id = store.open("a@b.c", TOKEN, 0)
    store.close()
    again = Sessions(path, 3600, 86_400)
    found = again.find(session_id, 1)
    again.close()
    assert found is not None
    assert found.token == TOKEN


def test_a_token_moved_to_another_session_does_not_open(tmp_path: Path) -> None:
    path = str(tmp_path / "sessions")
    store = Sessions(path, 3600, 86_400)
    mine, theirs = store.open("me@b.c", "mine", 0), store.open("you@b.c", "theirs", 0)
    db = sqlite3.connect(path)
    sealed = dict(db.execute("SELECT email, sealed_token FROM session"))
    with db:
        db.execute("UPDATE session SET sealed_token = ? WHERE email = 'me@b.c'", (sealed["you@b.c"],))
    db.close()
    assert store.find(mine, 1) is None
    assert store.find(theirs, 1) is not None
    store.close()


def test_a_notice_is_shown_once(sessions: Sessions) -> None:
    found = sessions.find(sessions.open("a@b.c", TOKEN, 0), 1)
    assert found is not None
    sessions.leave_notice(found, "Done. " * 200)
    assert sessions.take_notice(found).startswith("Done. ")
    assert sessions.take_notice(found) == ""


def test_form_tokens_differ_by_session() -> None:
    one, two = new_id(), new_id()
    assert is_id(one)
    assert form_token(one) == form_token(one) != form_token(two)
    assert one not in form_token(one)
