"""Attacks on people's accounts: guessing, stolen and fixed sessions, codes played in again, who tells what exists."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiomqtt
import httpx
import pytest
from pyotp.totp import TOTP

from hub.http import MIGRATIONS
from hub.http.app import ENDPOINTS, create_app
from hub.http.door import HttpDoor
from hub.http.table import BEFORE_CLAIM, Needs
from hub.hub import Hub
from hub.lockout import Lockout
from hub.message import TimeQuality
from hub.sessions import KNOWN_AFTER_S
from tests.webui.double import Visitor
from webui import app as webui
from webui.config import WebuiConfig

RunSite = Callable[..., None]

WRONG = "this is not the password"
HOUR_S = 3600.0


@dataclasses.dataclass
class Time:
    """Both clocks of the site, moved by hand."""

    wall_s: float = 1_800_000_000.0
    mono_s: float = 0.0
    quality: TimeQuality = TimeQuality.NTP

    def clock(self) -> tuple[int, TimeQuality]:
        return int(self.wall_s * 1e9), self.quality

    def passes(self, seconds: float) -> None:
        self.wall_s += seconds
        self.mono_s += seconds


@pytest.fixture
def time() -> Time:
    return Time()


def moved_by(s: Any, time: Time) -> None:
    """Let the site's pauses run on `time`."""
    s.hub.sign_in.monotonic = lambda: time.mono_s


async def sign_in(s: Any, login: dict[str, str], **headers: str) -> httpx.Response:
    answer: httpx.Response = await s.client.post("/tokens", json=login, headers=headers)
    return answer


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


# Codes


def with_codes(s: Any, time: Time) -> TOTP:
    """Have the owner sign in with a code from now on."""
    totp = TOTP(s.hub.registry.totp.begin(s.owner.user.id, s.owner.user.email).secret)
    s.recovery = s.hub.registry.totp.confirm(s.owner.user.id, totp.at(int(time.wall_s)), time.wall_s, True)
    time.passes(60)
    return totp


def test_a_code_is_good_once(site: RunSite, cheap: list[str], time: Time) -> None:
    async def scenario(s: Any) -> None:
        moved_by(s, time)
        totp = with_codes(s, time)
        asked = await sign_in(s, s.owner.login)
        assert (asked.status_code, asked.json()["totp"]) == (401, True)
        code, earlier = totp.at(int(time.wall_s)), totp.at(int(time.wall_s) - 30)
        answers = await asyncio.gather(*(sign_in(s, {**s.owner.login, "code": code}) for _ in range(4)))
        assert sorted(answer.status_code for answer in answers) == [201, 401, 401, 401]
        s.hub.sign_in.lift()
        for replayed in (code, earlier):
            async with s.refused_once("totp"):
                answer = await sign_in(s, {**s.owner.login, "code": replayed})
                assert (answer.status_code, answer.json()["totp"]) == (401, True)
        time.passes(30)
        again = await sign_in(s, {**s.owner.login, "code": totp.at(int(time.wall_s))})
        assert again.status_code == 201  # the negative control: a fresh one is taken
        for expected in (201, 401):
            answer = await sign_in(s, {**s.owner.login, "code": s.recovery[0]})
            assert answer.status_code == expected

    site(scenario, clock=time.clock)


def test_guessing_codes_with_the_right_password_is_slow(site: RunSite, cheap: list[str], time: Time) -> None:
    async def scenario(s: Any) -> None:
        moved_by(s, time)
        with_codes(s, time)
        tried = 0
        login = (s.owner.user.email, s.owner.login["password"])
        for n in range(1000):
            with pytest.raises(Exception, match=r"code|wrong") as refused:
                s.hub.sign_in.sign_in(*login, code=f"{n:06d}" if n % 2 else "", address="198.51.100.7")
            tried += refused.typename == "SignInRefused" and n % 2
            time.passes(3.6)
        assert 10 < tried <= 100

    site(scenario, clock=time.clock)


def test_a_code_without_the_password_says_nothing(site: RunSite, cheap: list[str], time: Time) -> None:
    async def scenario(s: Any) -> None:
        moved_by(s, time)
        totp = with_codes(s, time)
        for code in (totp.at(int(time.wall_s)), "000000"):
            answer = await sign_in(s, {**s.owner.login, "password": WRONG, "code": code})
            assert (answer.status_code, "totp" in answer.json()) == (401, False)

    site(scenario, clock=time.clock)


def test_a_stolen_session_cannot_turn_codes_on_or_off(site: RunSite, cheap: list[str], time: Time) -> None:
    async def scenario(s: Any) -> None:
        moved_by(s, time)
        async with s.refused_once("sign-in"):
            answer = await s.request("POST", "/users/totp", s.owner, json={"password": WRONG})
            assert answer.status_code == 401
        totp = with_codes(s, time)
        proof = {"password": WRONG, "code": totp.at(int(time.wall_s))}
        for method, path in (("DELETE", "/users/totp"), ("POST", "/users/totp/recovery")):
            async with s.refused_once("sign-in"):
                assert (await s.request(method, path, s.owner, json=proof)).status_code == 401
        proof = {**proof, "password": s.owner.login["password"], "code": "000000"}
        async with s.refused_once("totp"):
            assert (await s.request("DELETE", "/users/totp", s.owner, json=proof)).status_code == 401
        assert s.hub.registry.totp.on(s.owner.user.id)

    site(scenario, clock=time.clock)


def test_who_must_have_a_code_only_looks_until_he_has(site: RunSite, cheap: list[str], time: Time) -> None:
    async def scenario(s: Any) -> None:
        moved_by(s, time)
        s.hub.registry.second_factor_for = frozenset({"admin"})
        s.hub.registry.epoch += 1
        async with s.refused_once("access"):
            assert (await s.request("GET", "/users", s.owner)).status_code == 403
        profile = (await s.request("GET", "/users/profile", s.owner)).json()
        assert (profile["role"], profile["totp_needed"]) == ("admin", True)
        begun = await s.request("POST", "/users/totp", s.owner, json={"password": s.owner.login["password"]})
        code = TOTP(begun.json()["secret"]).at(int(time.wall_s))
        assert (
            await s.request("POST", "/users/totp/confirm", s.owner, json={"code": code})
        ).status_code == 201
        assert (await s.request("GET", "/users", s.owner)).status_code == 200
        proof = {"password": s.owner.login["password"], "code": "000000"}
        assert (await s.request("DELETE", "/users/totp", s.owner, json=proof)).status_code == 403

    site(scenario, clock=time.clock)


# The claim


async def with_unclaimed(folder: Path, scenario: Callable[[Hub, httpx.AsyncClient], Any]) -> None:
    hub = Hub.open(folder, migrations=MIGRATIONS)
    door = HttpDoor(hub, create_app(hub))
    await door.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{door.port}", trust_env=False) as client:
            await scenario(hub, client)
    finally:
        await door.close()
        await hub.close()


def test_fifty_who_hold_the_code_make_one_owner(tmp_path: Path, cheap: list[str]) -> None:
    async def scenario(hub: Hub, client: httpx.AsyncClient) -> None:
        hub.sign_in.lockout = Lockout()
        code = hub.registry.claim_code()

        def claim(n: int) -> Any:
            body = {"code": code, "email": f"racer{n}@example.org", "password": "four or five words"}
            return client.post("/claim", json=body, timeout=30)

        answers = await asyncio.gather(*(claim(n) for n in range(50)))
        counts = Counter(answer.status_code for answer in answers)
        assert counts[201] == 1
        assert set(counts) <= {201, 409, 429, 503}
        assert len(hub.registry.users()) == 1
        hub.audit.flush()
        with hub.audit.reader() as reader:
            assert len(reader.lines("kind = 'claim' AND outcome = 'done'", (), 100)) == 1

    asyncio.run(with_unclaimed(tmp_path, scenario))


def test_before_the_claim_only_the_claim_and_the_health_answer(tmp_path: Path) -> None:
    async def scenario(hub: Hub, client: httpx.AsyncClient) -> None:
        answered = set()
        for row in ENDPOINTS:
            if row.needs in (Needs.ANY, Needs.THING):
                continue  # for things, of which there are none
            path = row.path.replace(":path", "").replace("{", "").replace("}", "")
            answer = await client.request(
                row.method, path, content=b"{}", headers={"content-type": "application/json"}
            )
            if answer.status_code not in (401, 403):
                answered.add(row.path)
        assert answered == BEFORE_CLAIM

    asyncio.run(with_unclaimed(tmp_path, scenario))


def test_before_the_claim_the_pages_lead_to_the_claim_and_show_nothing_else(tmp_path: Path) -> None:
    async def scenario(hub: Hub, client: httpx.AsyncClient) -> None:
        app = webui.create_app(WebuiConfig(api_url=str(client.base_url).rstrip("/")))

        def walk() -> None:
            visitor = Visitor(app.test_client())
            shown = set()
            for rule in app.url_map.iter_rules():
                path = re.sub(r"<[^<>]+>", "1", rule.rule)
                for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                    answer = visitor.client.open(path, method=method)
                    if answer.status_code == 200:
                        shown.add(path)
                    elif answer.status_code == 303:
                        assert urlsplit(answer.location).path in ("/login", "/claim"), path
                    else:
                        assert answer.status_code in (401, 403, 404), (method, path)
            assert shown == {"/claim"}
            assert urlsplit(visitor.get("/login").location).path == "/claim"
            visitor.get("/claim")
            login = {"email": "a@example.org", "password": "four or five words"}
            assert visitor.post("/login", login).status_code == 403

        await asyncio.to_thread(walk)
        webui.close(app)

    asyncio.run(with_unclaimed(tmp_path, scenario))


def test_guessing_the_claim_code_is_slow_and_uses_it_up(tmp_path: Path, cheap: list[str], time: Time) -> None:
    async def scenario(hub: Hub, client: httpx.AsyncClient) -> None:
        hub.sign_in.monotonic = lambda: time.mono_s
        code = hub.registry.claim_code()
        for n in range(20):
            body = {"code": f"0000-{n:04d}", "email": "thief@example.org", "password": "four or five words"}
            await client.post("/claim", json=body)
            time.passes(HOUR_S)
        assert not hub.registry.claimed
        body = {"code": code, "email": "thief@example.org", "password": "four or five words"}
        assert (await client.post("/claim", json=body)).status_code == 429, "used up"
        time.passes(HOUR_S)
        body["code"] = hub.registry.claim_code()
        assert body["code"] != code
        assert (await client.post("/claim", json=body)).status_code == 201

    asyncio.run(with_unclaimed(tmp_path, scenario))
