"""Two organisations on one gateway, with people in every role, things, channels and every kind of credential."""

from __future__ import annotations

from typing import Any

import httpx

from hub.applications import ITSELF, Wanted
from hub.tokens.bearer import AUDIENCE
from hub.tokens.scopes import EVERYTHING, Scopes
from hub.tokens.verifier import ACCESS_TOKEN


class Person:
    """Somebody with a token, who asks over HTTP."""

    def __init__(self, site: Any, name: str, role: str = "member") -> None:
        self._site = site
        registry = site.hub.registry
        self.email = f"{name}@example.org"
        self.id: str = registry.create_user(self.email, "correct horse", role).id
        self.header = f"Bearer {registry.issue_token(self.id, site.hub.now_s())}"
        self.headers = {"authorization": self.header}

    async def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        more = {} if body is None else {"json": body}
        answer: httpx.Response = await self._site.client.request(method, path, headers=self.headers, **more)
        assert answer.status_code < 500, answer.text
        return answer

    async def get(self, path: str) -> Any:
        answer = await self.ask("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def status(self, method: str, path: str, body: Any = None) -> int:
        return (await self.ask(method, path, body)).status_code


class World:
    """Two organisations with a channel and a thing each, and people in every role of the first."""

    def __init__(self, site: Any) -> None:
        registry = site.hub.registry
        self.registry = registry
        make = registry.groups.create
        self.ours, self.theirs = make("ours", now_s=1.0).id, make("theirs", now_s=1.0).id
        self.below = make("below", parent=self.ours, now_s=1.0).id
        self.people = {role: Person(site, role) for role in ("viewer", "technician", "admin")}
        for role, person in self.people.items():
            registry.groups.assign_users(self.ours, [person.id], role)
        self.foreigner = Person(site, "foreigner")
        registry.groups.assign_users(self.theirs, [self.foreigner.id], "admin")
        self.nobody = Person(site, "nobody")
        self.thing, self.key = registry.create_thing("pump", group=self.below)
        self.channel = registry.create_channel("water", group=self.below)
        registry.connect([self.channel.id], [self.thing.id])
        self.their_thing, self.their_key = registry.create_thing("their pump", group=self.theirs)
        self.their_channel = registry.create_channel("their water", group=self.theirs)
        registry.connect([self.their_channel.id], [self.their_thing.id])

    @property
    def viewer(self) -> Person:
        return self.people["viewer"]

    @property
    def technician(self) -> Person:
        return self.people["technician"]

    @property
    def admin(self) -> Person:
        return self.people["admin"]


# Every request that names a foreign thing, channel or group, in its path or its body: method, path, body.
Ids = dict[str, str]


def idor(ids: Ids) -> list[tuple[str, str, Any]]:
    thing, channel, group = ids["thing"], ids["channel"], ids["group"]
    mine_thing, mine_channel, mine_group = ids["my thing"], ids["my channel"], ids["my group"]
    return [
        ("GET", f"/things/{thing}", None),
        ("PUT", f"/things/{thing}", {"name": "x"}),
        ("DELETE", f"/things/{thing}", None),
        ("PATCH", f"/things/{thing}/key", {}),
        ("GET", f"/things/{thing}/channels", None),
        ("GET", f"/devices/{thing}", None),
        ("PUT", f"/devices/{thing}", {"name": "x"}),
        ("DELETE", f"/devices/{thing}", None),
        ("POST", f"/devices/{thing}/plug", [mine_channel]),
        ("POST", f"/devices/{thing}/unplug", [mine_channel]),
        ("POST", f"/devices/{mine_thing}/plug", [channel]),
        ("POST", f"/devices/{mine_thing}/unplug", [channel]),
        ("GET", f"/channels/{channel}", None),
        ("PUT", f"/channels/{channel}", {"name": "x"}),
        ("DELETE", f"/channels/{channel}", None),
        ("GET", f"/channels/{channel}/things", None),
        ("GET", f"/channels/{channel}/messages", None),
        ("GET", f"/channels/{channel}/messages/a", None),
        ("GET", f"/channels/{channel}/msg", None),
        ("POST", f"/channels/{channel}/plug", [mine_thing]),
        ("POST", f"/channels/{channel}/unplug", [mine_thing]),
        ("POST", f"/channels/{mine_channel}/plug", [thing]),
        ("POST", f"/channels/{mine_channel}/unplug", [thing]),
        ("GET", f"/channels/{channel}/things/{thing}", None),
        ("PUT", f"/channels/{channel}/things/{mine_thing}", None),
        ("PUT", f"/channels/{mine_channel}/things/{thing}", None),
        ("DELETE", f"/channels/{channel}/things/{thing}", None),
        ("POST", "/connect", {"channel_ids": [channel], "thing_ids": [mine_thing]}),
        ("POST", "/connect", {"channel_ids": [mine_channel], "thing_ids": [mine_thing, thing]}),
        ("PUT", "/disconnect", {"channel_ids": [channel], "thing_ids": [thing]}),
        ("POST", "/things", {"group_id": group}),
        ("POST", "/channels", {"group_id": group}),
        ("POST", "/things/bulk", [{"group_id": mine_group}, {"group_id": group}]),
        ("POST", "/channels/bulk", [{"group_id": mine_group}, {"group_id": group}]),
        ("GET", f"/groups/{group}", None),
        ("PUT", f"/groups/{group}", {"name": "x"}),
        ("DELETE", f"/groups/{group}", None),
        ("GET", f"/groups/{group}/children", None),
        ("GET", f"/groups/{group}/parents", None),
        ("GET", f"/groups/{group}/members", None),
        ("GET", f"/groups/things/{group}", None),
        ("GET", f"/groups/channels/{group}", None),
        ("POST", f"/groups/{group}/members", {"type": "things", "members": [mine_thing]}),
        ("DELETE", f"/groups/{group}/members", {"type": "things", "members": [thing]}),
        ("POST", f"/groups/{mine_group}/members", {"type": "things", "members": [thing]}),
        ("POST", f"/groups/{mine_group}/members", {"type": "channels", "members": [channel]}),
        ("DELETE", f"/groups/{mine_group}/members", {"type": "things", "members": [thing]}),
        ("POST", "/groups", {"name": "x", "parent_id": group}),
        ("PUT", f"/groups/{mine_group}", {"parent_id": group}),
        ("GET", f"/members/{thing}/groups", None),
        ("GET", f"/members/{ids['user']}/groups", None),
        ("POST", "/certs", {"thing_id": thing}),
        ("GET", f"/certs?thing_id={thing}", None),
        ("DELETE", f"/things/{thing}/certs", None),
        ("POST", "/keys", {"thing_id": thing}),
        ("GET", f"/keys?thing_id={thing}", None),
    ]


class Credentials:
    """Headers of whoever may come to a door: of each person, thing, application, key and token of a world."""

    def __init__(self, site: Any, world: World) -> None:
        self._site = site
        registry = site.hub.registry
        self.staff = {role: Person(site, f"staff-{role}", role) for role in ("viewer", "technician", "admin")}
        _, idle_key = registry.create_thing("idle", group=world.ours)
        self.things = {
            "connected": f"Thing {world.key}",
            "not connected": f"Thing {idle_key}",
            "foreign": f"Thing {world.their_key}",
        }
        self.wrong = {
            "none": "",
            "wrong key": "Thing " + "x" * 43,
            "wrong token": "Bearer " + "x" * 43,
            "wrong API key": "Bearer fgk_" + "x" * 43,
            "wrong signed token": f"Bearer {'e30.' * 2}x",
            "key as token": f"Bearer {world.key}",
            "unknown scheme": f"Digest {world.key}",
        }
        wanted = Wanted("app", role="", scopes=tuple(sorted(EVERYTHING)), grant_types=(ITSELF,))
        application, secret = registry.applications.create(wanted, site.hub.now_s())
        self.application, self.application_id = f"Thing {secret}", application.id
        self.managing = {
            role: self._managing(registry.applications, role) for role in ("viewer", "technician", "admin")
        }
        self.application_token = self.signed("thing", application.id, application.id, EVERYTHING)

    def _managing(self, applications: Any, role: str) -> str:
        """The token of an application that acts for itself and has a role on the gateway."""
        wanted = Wanted(role, role=role, scopes=tuple(sorted(EVERYTHING)), grant_types=(ITSELF,))
        made, _ = applications.create(wanted, self._site.hub.now_s())
        return self.signed("thing", made.id, made.id, EVERYTHING)

    def key(self, owner_kind: Any, owner_id: str, scopes: Scopes) -> str:
        """An API key."""
        _, value = self._site.hub.registry.grants.add(
            owner_kind, owner_id, name="k", scopes=scopes, now_s=self._site.hub.now_s()
        )
        return f"Bearer {value}"

    def signed(self, owner_kind: Any, owner_id: str, application_id: str, scopes: Scopes) -> str:
        """An access token, as the token endpoint gives."""
        registry, now = self._site.hub.registry, self._site.hub.now_s()
        grant, _ = registry.grants.add(
            *(owner_kind, owner_id),
            name="app",
            scopes=scopes,
            now_s=now,
            kind="oauth",
            application_id=application_id,
        )
        claims = {
            "iss": self._site.hub.bearers.issuer,
            "aud": AUDIENCE,
            "sub": f"{owner_kind}s/{owner_id}",
            "client_id": application_id,
            "scope": str(scopes),
            "grant": grant.id,
            "jti": grant.id,
            "iat": int(now),
            "exp": int(now) + 600,
        }
        return f"Bearer {registry.signing.sign(claims, ACCESS_TOKEN)}"
