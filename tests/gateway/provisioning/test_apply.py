"""Layouts on a real gateway: applied, applied again, interrupted, drifted, pruned, exported."""

from __future__ import annotations

import asyncio
import json
import re
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.cli import app
from gateway.rest.client import REFUSED, USAGE, Api, ApiError

PAGE = Path(__file__).resolve().parents[3] / "docs" / "provision.md"
EXAMPLE = re.findall(r"^```toml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)[0]
SECRETS = {
    "BARN_OWNER_PASSPHRASE": "a passphrase of your own",
    "TROUGH_APP_KEY": "0123456789ABCDEF0123456789ABCDEF",
}
NOTHING = "nothing to do: the gateway is as the layout says\n"


class Terminal:
    """Somebody who provisions a gateway, and what the gateway has."""

    def __init__(self, site: Any, folder: Path) -> None:
        self.site, self.folder = site, folder
        self.layout = folder / "barn.toml"
        self.keys = folder / "barn.keys.json"
        self.layout.write_text(EXAMPLE)

    @property
    def registry(self) -> Any:
        return self.site.gateway.core.hub.registry

    async def __call__(self, *words: str, status: int = 0, **env: str) -> Result:
        environment = {
            "FLUXGATE_URL": f"http://127.0.0.1:{self.site.gateway.http.port}",
            "FLUXGATE_TOKEN": self.site.api.headers["authorization"].removeprefix("Bearer "),
            "XDG_CONFIG_HOME": str(self.folder / "home"),
            **SECRETS,
            **env,
        }
        answer = await asyncio.to_thread(CliRunner().invoke, app, ["provision", *words], env=environment)
        assert answer.exit_code == status, (answer.output, answer.exception)
        return answer

    async def apply(self, *options: str, status: int = 0, **env: str) -> str:
        answer = await self("apply", str(self.layout), *options, status=status, **env)
        return answer.output

    def edit(self, old: str, new: str) -> None:
        text = self.layout.read_text()
        assert old in text
        self.layout.write_text(text.replace(old, new, 1))

    def thing(self, name: str) -> Any:
        (found,) = [each for each in self.registry.things(limit=1000).items if each.name == name]
        return found


Run = Callable[[Callable[[Terminal], Any]], None]


@pytest.fixture
def run(site: Any, tmp_path: Path) -> Run:
    def go(scenario: Callable[[Terminal], Any]) -> None:
        async def main() -> None:
            async with site() as s:
                await s.claim()
                await scenario(Terminal(s, tmp_path))

        asyncio.run(main())

    return go


def test_the_example_is_brought_onto_a_gateway_and_the_second_time_there_is_nothing_to_do(run: Run) -> None:
    async def scenario(terminal: Terminal) -> None:
        planned = await terminal.apply("--dry-run", status=REFUSED)
        assert not terminal.registry.things().items
        assert not terminal.keys.exists()
        said = await terminal.apply()
        steps = [line for line in said.splitlines() if line[:2] in ("+ ", "~ ", "- ")]
        assert steps == [line for line in planned.splitlines() if line[:2] in ("+ ", "~ ", "- ")]
        assert "+ thing weather station, fan" in said.replace("things", "thing")
        assert not any(secret in said for secret in SECRETS.values())
        assert await terminal.apply("--dry-run", "--prune") == NOTHING
        assert await terminal.apply() == NOTHING

        registry = terminal.registry
        station, fan = terminal.thing("weather station"), terminal.thing("fan")
        assert station.metadata == {"site": "north barn"}
        keys = json.loads(terminal.keys.read_text())
        assert stat.S_IMODE(terminal.keys.stat().st_mode) == 0o600
        assert registry.thing_by_key(keys["thing"]["fan"]["key"]).id == fan.id
        assert "BEGIN" in keys["certificate"]["fan"]["private_key"]
        assert keys["application"]["dashboard"]["secret"]
        assert keys["device"]["70b3d57ed00000ee"]["thing_key"]
        assert "user" not in keys, "the passphrase came from the environment"
        channels = {each.name: each for each in registry.channels().items}
        groups = {each.name: each for each in registry.groups.all()}
        assert groups["Stables"].parent == groups["Farm"].id
        assert registry.groups.holder("things", fan.id) == groups["Stables"].id
        keeper = registry.user_by_email("keeper@example.org")
        assert registry.groups.users(groups["Stables"].id) == {keeper.id: "technician"}
        policy = registry.policy("night").document
        assert fan.id in policy
        assert channels["climate"].id in policy
        device = (await terminal.site.api.get("/lorawan/devices/70b3d57ed00000ee")).json()
        assert (device["channel_id"], device["profile"]) == (channels["climate"].id, "slow-sensors")
        assert device["tags"] == {"site": "north barn"}

    run(scenario)


def test_what_somebody_changed_by_hand_is_seen_and_set_right_and_the_rest_is_left(run: Run) -> None:
    async def scenario(terminal: Terminal) -> None:
        await terminal.apply()
        registry, fan = terminal.registry, terminal.thing("fan")
        climate, commands = (
            next(each.id for each in registry.channels().items if each.name == name)
            for name in ("climate", "commands")
        )

        def by_hand() -> None:
            registry.connect([commands], [fan.id])  # also for publishing
            registry.update_thing(fan.id, None, {"note": "loud"})
            registry.disconnect([climate], [fan.id])
            registry.set_role(registry.user_by_email("keeper@example.org").id, "viewer")

        await asyncio.to_thread(by_hand)
        assert (await terminal.site.api.delete("/policies/night")).status_code == 204
        drift = await terminal.apply("--dry-run", status=REFUSED)
        assert [line for line in drift.splitlines() if line[:2] in ("+ ", "~ ", "- ")] == [
            "~ thing fan: metadata",
            "+ connection of fan to climate: subscribe",
            "- connection of fan from commands: publish",
            "~ user keeper@example.org: member",
            "+ policy night",
        ]
        await terminal.apply()
        assert terminal.thing("fan").metadata == {"note": "loud", "site": "north barn"}
        assert await terminal.apply() == NOTHING

    run(scenario)


def test_a_layout_that_has_shrunk_removes_what_bears_its_mark_and_nothing_else(run: Run) -> None:
    async def scenario(terminal: Terminal) -> None:
        await terminal.apply()
        stranger, _ = await asyncio.to_thread(terminal.registry.create_thing, "stranger")
        text = terminal.layout.read_text()
        terminal.layout.write_text('site = "north barn"\n[[thing]]\nname = "fan"\n[[thing]]\nname = "new"\n')
        assert "--prune removes them" in await terminal.apply("--dry-run", status=REFUSED)
        said = await terminal.apply("--prune")
        assert "- thing weather station" in said
        assert "- connection of fan from climate" in said
        assert "- device" in said
        assert "- application dashboard" in said
        names = {each.name for each in terminal.registry.things().items}
        assert names == {"fan", "new", stranger.name}
        assert not terminal.registry.groups.all()
        assert not terminal.registry.channels().items
        assert await terminal.apply("--prune") == NOTHING
        terminal.layout.write_text(text)
        assert "1 more bear the mark" in await terminal.apply()
        await terminal.apply("--prune")
        assert await terminal.apply() == NOTHING

    run(scenario)


def test_every_fault_is_told_before_anything_is_changed(run: Run) -> None:
    async def scenario(terminal: Terminal) -> None:
        terminal.edit('publish = ["climate"]', 'publish = ["weather"]')
        assert "no channel 'weather'" in await terminal.apply(status=REFUSED)
        terminal.edit('publish = ["weather"]', 'publish = ["climate"]')
        terminal.edit('"effect": "deny"', '"effect": "perhaps"')
        terminal.edit('profile = "slow-sensors"', 'codec = "unheard of\\u0000"')
        terminal.edit("expected_interval_s = 3600", "expected_interval_s = -1")
        said = await terminal.apply(status=REFUSED, TROUGH_APP_KEY="xyz", BARN_OWNER_PASSPHRASE="")
        assert "nothing was changed" in said
        assert "policy night: " in said
        assert "AppKey" in said
        assert "profile slow-sensors" in said
        assert "user keeper@example.org: password is to come from $BARN_OWNER_PASSPHRASE" in said
        assert "xyz" not in said
        assert not terminal.registry.things().items
        assert not terminal.registry.groups.all()
        for name in ("twin", "twin"):
            await asyncio.to_thread(terminal.registry.create_thing, name)
        terminal.layout.write_text("[[thing]]\nname = 'twin'\n")
        assert "the gateway has 2 of that name" in await terminal.apply(status=REFUSED)
        terminal.layout.write_text("[[thing]]\nname = 'x'\nfoo = 1\n")
        assert "line 3" in await terminal.apply(status=USAGE)
        assert (
            "No such file"
            in (await terminal("apply", str(terminal.folder / "none.toml"), status=USAGE)).output
        )
        terminal.layout.write_text("[[policy]]\nname = 'x'\nfile = 'none.json'\n")
        assert "none.json" in await terminal.apply(status=USAGE)
        terminal.layout.write_text("")
        assert "give the layout a name" in await terminal.apply("--prune", status=REFUSED)
        terminal.keys.write_text("[")
        assert "cannot be read" in await terminal.apply(status=REFUSED)
        assert terminal.keys.read_text() == "[", "a key file is never written over"

    run(scenario)


def test_an_interrupted_command_goes_on_where_it_ended_and_no_key_is_lost(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(terminal: Terminal) -> None:
        send = Api.send
        count = {"sent": 0, "ends": 0}

        def failing(self: Api, method: str, path: str, *args: Any, **given: Any) -> Any:
            if method != "GET" and path != "/policies/check":
                count["sent"] += 1
                lives = count["sent"] < count["ends"]
                answer = send(self, method, path, *args, **given) if lives or count["sent"] % 2 else None
                if not lives:  # every second time the gateway has done it, and the answer was lost
                    raise ApiError("the line broke", 3)
                return answer
            return send(self, method, path, *args, **given)

        monkeypatch.setattr(Api, "send", failing)
        done = set()
        for ends in range(1, 40):
            count.update(sent=0, ends=ends)
            answer = await asyncio.to_thread(_again, terminal)
            done.add(answer.exit_code)
            if answer.exit_code == 0:
                break
            assert "the same command goes on from here" in answer.output
        assert done == {0, 3}
        monkeypatch.undo()
        said = await terminal.apply()
        assert said.endswith(NOTHING)
        keys = json.loads(terminal.keys.read_text())
        for name in ("fan", "weather station"):
            assert terminal.registry.thing_by_key(keys["thing"][name]["key"]).id == terminal.thing(name).id
        assert len(terminal.registry.channels().items) == 2

    run(scenario)


def _again(terminal: Terminal) -> Result:
    environment = {
        "FLUXGATE_URL": f"http://127.0.0.1:{terminal.site.gateway.http.port}",
        "FLUXGATE_TOKEN": terminal.site.api.headers["authorization"].removeprefix("Bearer "),
        **SECRETS,
    }
    return CliRunner().invoke(app, ["provision", "apply", str(terminal.layout)], env=environment)


def test_a_lost_key_file_is_told_and_made_anew_on_request(run: Run) -> None:
    async def scenario(terminal: Terminal) -> None:
        terminal.layout.write_text("[[thing]]\nname = 'fan'\n")
        await terminal.apply()
        before = json.loads(terminal.keys.read_text())["thing"]["fan"]["key"]
        terminal.keys.unlink()
        said = await terminal.apply()
        assert "the key of thing fan is not in the key file" in said
        await terminal.apply("--rekey")
        after = json.loads(terminal.keys.read_text())["thing"]["fan"]["key"]
        assert after != before
        assert terminal.registry.thing_by_key(after).name == "fan"
        assert await terminal.apply("--rekey") == NOTHING

    run(scenario)


def test_a_technician_may_provision_what_needs_no_administrator(run: Run) -> None:
    async def scenario(terminal: Terminal) -> None:
        registry = terminal.registry
        user = await asyncio.to_thread(
            registry.create_user, "t@example.org", "a passphrase of his", "technician"
        )
        token = registry.issue_token(user.id, terminal.site.gateway.core.hub.clock()[0] / 1e9)
        said = await terminal.apply(status=REFUSED, FLUXGATE_TOKEN=token)
        assert "administrator" in said or "role admin" in said
        terminal.layout.write_text("[[thing]]\nname = 'fan'\nconnect = ['air']\n[[channel]]\nname = 'air'\n")
        assert "made" in await terminal.apply(FLUXGATE_TOKEN=token)
        assert await terminal.apply(FLUXGATE_TOKEN=token) == NOTHING

    run(scenario)


def test_an_exported_gateway_applied_to_itself_finds_nothing_to_do(run: Run) -> None:
    async def scenario(terminal: Terminal) -> None:
        await terminal.apply()
        registry = terminal.registry
        for name in ("twin", "twin", ""):
            await asyncio.to_thread(
                registry.create_thing, name, {"owner": None, "läst": [1, {"a b": "x\x7f\n"}]}
            )
        out = terminal.folder / "out.toml"
        await terminal("export", "--output", str(out))
        assert stat.S_IMODE(out.stat().st_mode) == 0o600
        tree = tomllib.loads(out.read_text())
        assert {each["name"] for each in tree["channel"]} == {"climate", "commands"}
        assert len(tree["thing"]) == 5
        terminal.layout.write_text(out.read_text())
        renamed = await terminal.apply("--dry-run", status=REFUSED)
        # Names that were empty or twice there have become ones of their own; all else is as it was.
        steps = [line for line in renamed.splitlines() if line[:2] in ("+ ", "~ ", "- ")]
        assert len(steps) == 2
        assert all(line.startswith("~ thing") and line.endswith(": name") for line in steps)
        terminal.layout.write_text((await terminal("export", "--site", "north barn")).stdout)
        assert (await terminal.apply("--dry-run")).endswith(NOTHING)

    run(scenario)


def test_a_hundred_things_and_more_are_made_in_few_requests(run: Run) -> None:
    async def scenario(terminal: Terminal) -> None:
        tables = [f"[[thing]]\nname = 'lamp {n}'\nconnect = ['light']\n" for n in range(230)]
        terminal.layout.write_text("site = 'many'\n[[channel]]\nname = 'light'\n" + "".join(tables))
        said = await terminal.apply()
        assert len([line for line in said.splitlines() if line.startswith("+ ")]) == 5
        keys = json.loads(terminal.keys.read_text())["thing"]
        assert len({each["key"] for each in keys.values()}) == 230
        for name in ("lamp 0", "lamp 229"):
            assert terminal.registry.thing_by_key(keys[name]["key"]).name == name

    run(scenario)
