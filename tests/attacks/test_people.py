"""Attacks on people's accounts: guessing, stolen and fixed sessions, codes played in again, who tells what exists."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import aiomqtt
import pytest

from hub.sessions import KNOWN_AFTER_S
from tests.attacks.clocks import Time, moved_by, sign_in

RunSite = Callable[..., None]

WRONG = "this is not the password"
HOUR_S = 3600.0


# Sessions


def test_a_session_is_never_one_that_was_there_before_the_sign_in(site: RunSite, cheap: list[str]) -> None:
    async def scenario(s: Any) -> None:
        chosen = "c" * 43
        made = await s.client.post(
            "/tokens", json=s.owner.login, headers={"authorization": f"Bearer {chosen}"}
        )
        assert made.json()["token"] not in (chosen, s.owner.token)
        async with s.refused_once("access"):
            answer = await s.client.get("/users/profile", headers={"authorization": f"Bearer {chosen}"})
            assert answer.status_code == 401

    site(scenario)


@pytest.mark.parametrize("how", ["sign-out", "password", "role", "removal", "ended", "all ended"])
def test_a_session_that_was_ended_is_of_no_use(site: RunSite, cheap: list[str], how: str) -> None:
    async def scenario(s: Any) -> None:
        victim = s.people["technician"]
        assert (await s.request("GET", "/things", victim)).status_code == 200  # the probe works before
        about = f"/users/{victim.user.id}"
        match how:
            case "sign-out":
                await s.request("DELETE", "/tokens", victim)
            case "password":
                change = {"old_password": victim.login["password"], "password": "another long password"}
                assert (await s.request("PATCH", "/password", victim, json=change)).status_code == 201
            case "role":
                assert (await s.request("PATCH", about, s.owner, json={"role": "viewer"})).status_code == 200
            case "removal":
                assert (await s.request("DELETE", about, s.owner)).status_code == 204
            case "ended":
                listed = (await s.request("GET", "/sessions", victim)).json()["sessions"]
                assert [each["current"] for each in listed] == [True]
                ended = await s.request("DELETE", f"/sessions/{listed[0]['id']}", s.owner)
                assert ended.status_code == 204
            case _:
                ended = await s.request("DELETE", f"/sessions?user_id={victim.user.id}", s.owner)
                assert ended.json() == {"ended": 1}
        async with s.refused_once("access"):
            assert (await s.request("GET", "/things", victim)).status_code == 401

    site(scenario)


def test_ending_a_session_ends_what_it_holds_open(site: RunSite, cheap: list[str]) -> None:
    async def scenario(s: Any) -> None:
        watcher, kept = s.people["viewer"], s.people["technician"]
        channel = s.device.channel
        url = f"/channels/{channel}/messages?authorization={watcher.token}"
        ended = asyncio.Event()

        async def follow() -> None:
            async with s.client.stream(
                "GET", url, headers={"accept": "text/event-stream"}, timeout=30
            ) as answer:
                assert answer.status_code == 200
                following.set()
                async for _ in answer.aiter_raw():
                    pass
            ended.set()

        following = asyncio.Event()
        stream = asyncio.create_task(follow())
        async with (
            aiomqtt.Client(
                "127.0.0.1", s.mqtt.port, username=watcher.user.email, password=watcher.token
            ) as theirs,
            aiomqtt.Client("127.0.0.1", s.mqtt.port, username=kept.user.email, password=kept.token) as other,
        ):
            await theirs.subscribe(f"channels/{channel}/messages")
            await asyncio.wait_for(following.wait(), 10)
            (session,) = (await s.request("GET", "/sessions", watcher)).json()["sessions"]
            assert (await s.request("DELETE", f"/sessions/{session['id']}", watcher)).status_code == 204
            await asyncio.wait_for(ended.wait(), 10)
            with pytest.raises(aiomqtt.MqttError):
                await asyncio.wait_for(anext(theirs.messages), 10)
            await other.subscribe(f"channels/{channel}/messages")  # nobody else's has ended
            await stream

    site(scenario)


def test_nobody_sees_or_ends_anothers_session(site: RunSite, cheap: list[str]) -> None:
    async def scenario(s: Any) -> None:
        (owners,) = s.hub.registry.sessions.of_user(s.owner.user.id, s.hub.clock()[0] / 1e9)
        for role in ("member", "viewer", "technician"):
            person = s.people[role]
            assert (await s.request("DELETE", f"/sessions/{owners.id}", person)).status_code == 404
            for path in ("/sessions?all=true", f"/sessions?user_id={s.owner.user.id}"):
                async with s.refused_once("access"):
                    assert (await s.request("GET", path, person)).status_code == 403
            async with s.refused_once("access"):
                answer = await s.request("DELETE", f"/sessions?user_id={s.owner.user.id}", person)
                assert answer.status_code == 403
        assert (await s.request("GET", "/users/profile", s.owner)).status_code == 200

    site(scenario)


# Guessing


def guesses_let_through(
    s: Any, time: Time, checked: list[str], count: int, seconds: float, address: Any
) -> int:
    """Guess the owner's password `count` times over `seconds`; how many were held against the hash."""
    before = len(checked)
    for n in range(count):
        with pytest.raises(Exception, match=r"wrong"):
            s.hub.sign_in.sign_in(s.owner.user.email, f"guess number {n}", address=address(n))
        time.passes(seconds / count)
    return len(checked) - before


def test_a_thousand_guesses_an_hour_from_everywhere_are_a_hundred_at_most(
    site: RunSite, cheap: list[str], time: Time
) -> None:
    async def scenario(s: Any) -> None:
        moved_by(s, time)
        for _ in range(3):
            let_through = guesses_let_through(
                s, time, cheap, 1000, HOUR_S, lambda n: f"198.51.{n % 250}.{n % 251}"
            )
            assert 10 < let_through <= 100

    site(scenario, clock=time.clock)


def test_without_the_lockout_every_guess_would_count(
    site: RunSite, cheap: list[str], time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe of the test above gets through where the check is taken away."""
    monkeypatch.setattr("hub.lockout._Counter.wait_s", lambda *_: 0.0)

    async def scenario(s: Any) -> None:
        moved_by(s, time)
        assert guesses_let_through(s, time, cheap, 300, HOUR_S, lambda n: f"198.51.100.{n % 250}") == 300

    site(scenario, clock=time.clock)


def test_one_address_that_tries_every_account_is_slowed_down_too(
    site: RunSite, cheap: list[str], time: Time
) -> None:
    async def scenario(s: Any) -> None:
        moved_by(s, time)
        before = len(cheap)
        for n in range(1000):
            with pytest.raises(Exception, match=r"wrong"):
                s.hub.sign_in.sign_in(f"user{n}@example.org", WRONG, address=f"2001:db8:0:1::{n:x}")
            time.passes(3.6)
        assert len(cheap) - before <= 100

    site(scenario, clock=time.clock)


def test_the_owner_gets_in_whatever_an_attacker_does(site: RunSite, cheap: list[str], time: Time) -> None:
    async def scenario(s: Any) -> None:
        moved_by(s, time)
        first = s.hub.sign_in.sign_in(s.owner.user.email, s.owner.login["password"], address="192.0.2.10")
        time.passes(KNOWN_AFTER_S)
        for n in range(2000):  # from everywhere, and from the owner's own address as well
            with pytest.raises(Exception, match=r"wrong"):
                s.hub.sign_in.sign_in(
                    s.owner.user.email, WRONG, address="192.0.2.10" if n % 2 else f"198.51.100.{n % 250}"
                )
        with pytest.raises(Exception, match="too many"):
            s.hub.sign_in.sign_in(s.owner.user.email, s.owner.login["password"], address="203.0.113.9")
        again = s.hub.sign_in.sign_in(
            s.owner.user.email, s.owner.login["password"], device=first.device, address="203.0.113.9"
        )
        assert again.user == s.owner.user
        # A device of one account says nothing to another.
        assert s.hub.registry.sessions.device(s.people["viewer"].user.id, first.device, time.wall_s) == ""

    site(scenario, clock=time.clock)


def test_the_owners_own_address_is_not_shut_by_guesses_from_elsewhere(
    site: RunSite, cheap: list[str], time: Time
) -> None:
    async def scenario(s: Any) -> None:
        moved_by(s, time)
        login = (s.owner.user.email, s.owner.login["password"])
        s.hub.sign_in.sign_in(*login, address="192.0.2.10")
        time.passes(KNOWN_AFTER_S)
        for n in range(500):
            with pytest.raises(Exception, match=r"wrong"):
                s.hub.sign_in.sign_in(s.owner.user.email, WRONG, address=f"198.51.100.{n % 250}")
        assert s.hub.sign_in.sign_in(*login, address="192.0.2.10").user == s.owner.user
        with pytest.raises(Exception, match="too many"):
            s.hub.sign_in.sign_in(*login, address="192.0.2.11")
        s.hub.sign_in.lift(s.owner.user.id)  # what the command at the machine does
        assert s.hub.sign_in.sign_in(*login, address="192.0.2.11").user == s.owner.user

    site(scenario, clock=time.clock)


def test_guesses_side_by_side_do_not_slip_past(site: RunSite, cheap: list[str]) -> None:
    async def scenario(s: Any) -> None:
        wrong = {**s.owner.login, "password": WRONG}
        answers = await asyncio.gather(*(sign_in(s, wrong) for _ in range(30)))
        counts = Counter(answer.status_code for answer in answers)
        assert counts[401] <= 5
        assert counts[401] + counts[429] + counts[503] == 30

    site(scenario)


def test_guesses_are_in_the_audit_log_once_with_their_number(site: RunSite, cheap: list[str]) -> None:
    async def scenario(s: Any) -> None:
        before = len(s.audited())
        wrong = {**s.owner.login, "password": WRONG}
        for _ in range(8):
            await sign_in(s, wrong)
        found = [(line.kind, line.who, line.detail, line.count) for line in s.refusals(before)]
        who = f"users/{s.owner.user.id}"
        assert found == [
            ("sign-in", who, "e-mail address or password is wrong", 1),
            ("sign-in", who, "too many tries", 1),
            ("sign-in", who, "e-mail address or password is wrong", 4),
            ("sign-in", who, "too many tries", 2),
        ]
        async with s.refused_once("sign-in", who="thief@example.org"):
            await sign_in(s, {"email": "thief@example.org", "password": "a secret of his own"})
        async with s.refused_once("sign-in", who="an unknown name"):
            await sign_in(s, {"email": "hunter2 the password in the wrong field", "password": "x"})
        text = b"".join(path.read_bytes() for path in s.hub.audit.path.parent.glob("audit.db*"))
        for secret in (WRONG, "a secret of his own", "hunter2", s.owner.token):
            assert secret.encode() not in text

    site(scenario)


# Who exists


def test_an_unknown_address_costs_the_same_work_and_gets_the_same_words(
    site: RunSite, cheap: list[str], time: Time
) -> None:
    async def scenario(s: Any) -> None:
        moved_by(s, time)
        heard: dict[str, list[tuple[int, Any, Any]]] = {}
        for email in (s.owner.user.email, "nobody@example.org"):
            s.hub.sign_in.lift()
            heard[email] = []
            before = len(cheap)
            for n in range(30):
                answer = await sign_in(s, {"email": email, "password": WRONG if n % 3 else ""})
                after = answer.headers.get("retry-after")
                heard[email].append((answer.status_code, answer.json(), after))
                time.passes(7)
            heard[email].append((len(cheap) - before, None, None))  # the work that was done
        known, unknown = heard.values()
        assert known == unknown
        assert {status for status, _, _ in known[:-1]} == {401, 429}

    site(scenario, clock=time.clock)


def test_nobody_but_an_administrator_learns_who_has_an_account(site: RunSite, cheap: list[str]) -> None:
    async def scenario(s: Any) -> None:
        taken = {"email": s.owner.user.email, "password": "long enough", "role": "viewer"}
        for as_ in (None, s.device, *(s.people[role] for role in ("member", "viewer", "technician"))):
            answers = [
                await s.request("POST", "/users", as_, json=taken),
                await s.request("POST", "/users", as_, json={**taken, "email": "nobody@example.org"}),
            ]
            for user_id in (s.owner.user.id, "nobody"):
                answers.append(await s.request("GET", f"/users/{user_id}", as_))
                answers.append(await s.request("PATCH", f"/users/{user_id}", as_, json={"role": "viewer"}))
            assert {answer.status_code for answer in answers} <= {401, 403}
            assert len({answer.text for answer in answers}) == 1
        claim = {"code": "0000-0000", "email": s.owner.user.email, "password": "long enough"}
        async with s.refused_once("claim"):
            assert (await s.request("POST", "/claim", json=claim)).status_code == 409

    site(scenario)
