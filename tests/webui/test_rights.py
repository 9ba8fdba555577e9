"""Pages of people and policies, against the hub's own API: what they show is what it decides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real_hub import RealHub
from tests.webui.double import EMAIL, PASSPHRASE, Visitor

WRONG = (
    '{\n  "subjects": ["<.*>"],\n  "actions": ["publsh"],\n  "resources": ["<.*>"],\n  "effect": "deny"\n}'
)
RIGHT = WRONG.replace("publsh", "publish")


@pytest.fixture
def real(tmp_path: Path) -> Iterator[RealHub]:
    hub = RealHub(tmp_path, EMAIL, PASSPHRASE)
    yield hub
    hub.close()


@pytest.fixture
def gateway_url(real: RealHub) -> str:
    return real.url


def test_somebody_is_added_given_a_role_and_removed(person: Visitor, real: RealHub) -> None:
    person.get("/people")
    assert f"{EMAIL}</bdi> (you), admin" in person.page
    new = {"email": "helper@example.org", "password": "a long passphrase", "role": "viewer"}
    assert person.post("/people", new).status_code == 303, person.page
    (added,) = (user for user in real.hub.registry.users() if user.email == "helper@example.org")
    person.get("/people")
    assert "helper@example.org</bdi>, viewer" in person.page
    assert person.post(f"/people/{added.id}/role", {"role": "technician"}).status_code == 303
    user = real.hub.registry.user(added.id)
    assert user is not None
    assert user.role == "technician"
    person.get("/people")
    person.post(f"/people/{added.id}/passphrase", {"password": "another long one"})
    person.get("/people")
    assert "signed out everywhere" in person.page
    person.post(f"/people/{added.id}/remove")
    assert real.hub.registry.user(added.id) is None


def test_what_cannot_be_is_said(person: Visitor, real: RealHub) -> None:
    person.get("/people")
    new = {"email": EMAIL, "password": "a long passphrase", "role": "viewer"}
    assert person.post("/people", new).status_code == 422
    assert "has an account" in person.page
    assert person.post("/people", {**new, "password": "short"}).status_code == 422
    assert "at least 12" in person.page
    me = real.hub.registry.users()[0]
    person.post(f"/people/{me.id}/role", {"role": "viewer"})
    person.get("/people")
    assert "The last administrator stays one" in person.page
    assert person.post("/people", {**new, "role": "king"}).status_code == 400


def test_a_policy_is_written_refused_with_its_line_corrected_and_removed(
    person: Visitor, real: RealHub
) -> None:
    person.get("/policies")
    assert "connections alone decide" in person.page
    person.get("/policies/new")
    assert person.post("/policies/new", {"name": "night", "document": WRONG}).status_code == 422
    assert "line 3" in person.page
    assert "publsh" in person.page
    assert person.post("/policies/new", {"name": "a b", "document": RIGHT}).status_code == 422
    assert person.post("/policies/new", {"name": "night", "document": RIGHT}).status_code == 303
    assert real.hub.registry.policy_set.statements[0].name == "night/1"
    person.get("/policies/night")
    assert "night/1</bdi>, line 1" in person.page
    assert person.post("/policies/night", {"document": WRONG}).status_code == 422
    assert person.post("/policies/new", {"name": "night", "document": RIGHT}).status_code == 422
    person.get("/policies/night")
    assert person.post("/policies/night/remove").status_code == 303
    assert not real.hub.registry.policy_set


def test_a_decision_is_explained(person: Visitor, real: RealHub) -> None:
    async def prepare() -> tuple[str, str]:
        registry = real.hub.registry
        thing, _ = registry.create_thing("pump")
        channel = registry.create_channel("field")
        registry.connect([channel.id], [thing.id])
        registry.change_policies({"night": RIGHT}, 0)
        return thing.id, channel.id

    thing, channel = real.run(prepare())
    person.get("/policies")
    asked = {"who": "thing", "id": thing, "action": "publish", "channel": channel}
    assert person.post("/policies/explain", asked).status_code == 200
    assert "<b>No:</b> policy night/1 denies it." in person.page
    assert "outranks" in person.page
    person.post("/policies/explain", {**asked, "action": "subscribe"})
    assert "<b>Yes:</b> the thing is connected to the channel." in person.page
    assert person.post("/policies/explain", {**asked, "payload_size": "big"}).status_code == 422
    assert person.post("/policies/explain", {**asked, "id": ""}).status_code == 422
    assert person.post("/policies/explain", {**asked, "action": "fly"}).status_code == 400
