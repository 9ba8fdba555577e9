"""Ids of another organisation, in paths and bodies, on every request: refused as if they were nobody's, logged once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.hub.http.world import idor

RunSite = Callable[..., None]

# Requests to end what there is not: a connection of one's own thing or channel, a membership in one's own group.
UNMADE = 3


@pytest.fixture(autouse=True)
def _room_for_all_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each refusal in a line of its own: these are many in a minute."""
    monkeypatch.setattr("hub.audit.MAX_REFUSED_BURST", 1000)


def requests_for(site: Any, attacker: Any, **named: str) -> list[tuple[str, str, Any]]:
    """What somebody of one organisation may try with the ids `named`."""
    below = site.hub.registry.groups.create("below", parent=attacker.id, now_s=1.0).id
    mine = {"my thing": attacker.device.id, "my channel": attacker.device.channel, "my group": below}
    return idor({**mine, **named})


async def refusals_of(site: Any, attacker: Any, tried: list[tuple[str, str, Any]]) -> list[Any]:
    """The refused lines that these requests leave; each of them is answered 404."""
    before = len(site.audited())
    for method, path, body in tried:
        more = {} if body is None else {"json": body}
        answer = await site.client.request(method, path, headers=attacker.person.headers, **more)
        assert answer.status_code == 404, (method, path, answer.text)
    await asyncio.to_thread(site.hub.audit.flush)
    found: list[Any] = site.refusals(before)
    return found


@pytest.mark.parametrize("inside_out", [False, True])
def test_each_request_with_a_foreign_id_is_refused_and_logged_once(site: RunSite, inside_out: bool) -> None:
    async def scenario(s: Any) -> None:
        attacker, victim = (s.home, s.foreign) if inside_out else (s.foreign, s.home)
        tried = requests_for(
            s,
            attacker,
            thing=victim.device.id,
            channel=victim.device.channel,
            group=victim.id,
            user=victim.person.user.id,
        )
        lines = await refusals_of(s, attacker, tried)
        assert {(line.kind, line.count, line.who) for line in lines} == {
            ("access", 1, f"users/{attacker.person.user.id}")
        }
        assert len(lines) == len(tried) - UNMADE

    site(scenario)


def test_ids_that_nobody_has_are_no_attack(site: RunSite) -> None:
    """The negative control: the same answers, and nothing in the log, but of doors that were asked for a channel."""

    async def scenario(s: Any) -> None:
        nobody = dict.fromkeys(("thing", "channel", "group", "user"), "0" * 36)
        lines = await refusals_of(s, s.home, requests_for(s, s.home, **nobody))
        assert all(line.resource.startswith("subscribe channels/") for line in lines)
        assert len(lines) == 3

    site(scenario)
