"""Pages of organisations against the hub's own API, as an administrator and as people who have nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real_hub import RealHub
from tests.webui.double import EMAIL, PASSPHRASE, Visitor
from webui.app import close, create_app
from webui.config import WebuiConfig

MEMBER = "grower@example.org"


@pytest.fixture
def real(tmp_path: Path) -> Iterator[RealHub]:
    hub = RealHub(tmp_path, EMAIL, PASSPHRASE)
    yield hub
    hub.close()


@pytest.fixture
def gateway_url(real: RealHub) -> str:
    return str(real.url)


@pytest.fixture
def member(config: WebuiConfig, real: RealHub) -> Iterator[Visitor]:
    """Somebody whose role on the gateway is member, signed in."""
    real.hub.registry.create_user(MEMBER, PASSPHRASE, "member")
    app = create_app(config)
    visitor = Visitor(app.test_client())
    visitor.get("/login")
    assert visitor.post("/login", {"email": MEMBER, "password": PASSPHRASE}).status_code == 303
    yield visitor
    close(app)


def send(person: Visitor, path: str, form: dict[str, str]) -> int:
    """Send a form of the list's or the group's page."""
    person.get("/".join(path.split("/")[:3]))
    return int(person.post(path, form).status_code)


def made(person: Visitor, path: str, form: dict[str, str]) -> str:
    """The id of the group that a form made."""
    person.get(path)
    answer = person.post(path, form)
    assert answer.status_code == 303, person.page
    return str(answer.headers["location"]).rpartition("/")[2]


def test_an_organisation_is_made_filled_changed_and_removed(person: Visitor, real: RealHub) -> None:
    registry = real.hub.registry
    groups = registry.groups
    person.get("/organisations")
    assert "There are none yet" in person.page
    farm = made(person, "/organisations", {"name": "<b>farm</b>", "description": "all of it"})
    person.get(f"/organisations/{farm}")
    assert "&lt;b&gt;farm&lt;/b&gt;" in person.page
    assert send(person, "/organisations", {"name": "", "description": ""}) == 422
    barn = made(person, "/organisations", {"name": "barn", "description": "", "parent_id": farm})
    person.get("/organisations")
    assert 'class="level-1"' in person.page

    send(person, f"/organisations/{barn}/things", {"name": "pump"})
    (thing_id,) = groups.held(barn, "things")
    (key,) = re.findall(r'Key</dt><dd class="mono">([\w-]{43})<', person.page)
    thing = registry.thing_by_key(key)
    assert thing is not None
    assert thing.id == thing_id
    send(person, f"/organisations/{barn}/channels", {"name": "water"})
    (channel_id,) = groups.held(barn, "channels")
    pair = {"thing": thing_id, "channel": channel_id}
    person.get(f"/organisations/{barn}")
    assert key not in person.page, "a key is shown once"
    send(person, f"/organisations/{barn}/connect", {**pair, "types": "publish"})
    assert registry.rights(channel_id, thing_id) == 1
    person.get(f"/organisations/{barn}")
    assert "Disconnect" in person.page
    send(person, f"/organisations/{barn}/disconnect", pair)
    assert not registry.connected(channel_id, thing_id)

    registry.create_user(MEMBER, PASSPHRASE, "member")
    send(person, f"/organisations/{barn}/people", {"who": MEMBER, "role": "technician"})
    (user_id,) = groups.users(barn)
    assert groups.users(barn) == {user_id: "technician"}
    send(person, f"/organisations/{barn}/people", {"who": user_id, "role": "viewer"})
    assert groups.users(barn) == {user_id: "viewer"}
    send(person, f"/organisations/{barn}/people", {"who": "nobody@example.org", "role": "viewer"})
    person.get(f"/organisations/{barn}")
    assert "No such user" in person.page
    assert send(person, f"/organisations/{barn}/people", {"who": user_id, "role": "king"}) == 400
    person.get(f"/organisations/{barn}")
    send(person, f"/organisations/{barn}/users/{user_id}/out", {})
    assert groups.users(barn) == {}

    send(person, f"/organisations/{barn}/things/{thing_id}/out", {})
    assert groups.holder("things", thing_id) == ""
    send(person, f"/organisations/{farm}/things/in", {"id": thing_id})
    assert groups.holder("things", thing_id) == farm
    send(person, f"/organisations/{barn}", {"name": "the barn", "description": "red", "parent_id": ""})
    moved = groups.get(barn)
    assert moved is not None
    assert (moved.name, moved.description, moved.parent) == ("the barn", "red", "")
    send(person, f"/organisations/{barn}", {"parent_id": farm})
    person.get(f"/organisations/{farm}")
    send(person, f"/organisations/{farm}/remove", {})
    person.get(f"/organisations/{farm}")
    assert "groups below this one" in person.page
    for group in (barn, farm):
        send(person, f"/organisations/{group}/remove", {})
    assert groups.all() == []


def test_a_member_finds_his_organisation_wherever_he_goes(member: Visitor, real: RealHub) -> None:
    registry = real.hub.registry
    user = registry.user_by_email(MEMBER)
    assert user is not None
    member.get("/organisations")
    assert "You are in no organisation yet" in member.page
    group = registry.groups.create("farm", now_s=1.0).id
    other = registry.groups.create("orchard", now_s=1.0).id
    registry.groups.assign_users(group, [user.id], "technician")
    thing, _ = registry.create_thing("pump", group=group)
    foreign, _ = registry.create_thing("their pump", group=other)
    member.get("/organisations")
    assert "farm" in member.page
    assert "orchard" not in member.page
    assert "Devices" not in member.page, "what shows the whole gateway is not offered"
    assert "data-stream" not in member.page
    member.get(f"/organisations/{group}")
    assert "pump" in member.page
    assert "Add a thing" in member.page
    assert "Change the role" not in member.page, "people are an administrator's matter"
    assert member.get(f"/organisations/{other}").status_code == 404
    member.get(f"/organisations/{group}")
    send(member, f"/organisations/{group}/things/in", {"id": foreign.id})
    assert registry.groups.holder("things", foreign.id) == other
    member.get(f"/organisations/{group}")
    assert "No such thing" in member.page
    for path in ("/", "/people", "/policies"):
        answer = member.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, "/organisations"), path
    assert member.get("/more").status_code == 200
    assert "This gateway" not in member.page
    assert member.get("/account").status_code == 200
    assert thing.id in str(registry.groups.held(group, "things"))


def test_a_viewer_of_a_group_is_offered_no_changes(member: Visitor, real: RealHub) -> None:
    registry = real.hub.registry
    user = registry.user_by_email(MEMBER)
    assert user is not None
    group = registry.groups.create("farm", now_s=1.0).id
    registry.groups.assign_users(group, [user.id], "viewer")
    registry.create_thing("pump", group=group)
    member.get(f"/organisations/{group}")
    assert "pump" in member.page
    assert re.findall(r'action="([^"]*organisations[^"]*)"', member.page) == []
