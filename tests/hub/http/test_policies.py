"""`/policies`: documents put, shown, refused as a whole, and explained."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., None]

NO_NIGHT = """{
  "id": "night",
  "subjects": ["things/<.*>"],
  "actions": ["publish"],
  "resources": ["channels/<.*>"],
  "effect": "deny"
}"""
WRONG = NO_NIGHT.replace("publish", "publsh")


async def put(site: Any, name: str, document: str) -> Any:
    headers = {**site.user, "content-type": "application/json"}
    return await site.client.put(f"/policies/{name}", content=document, headers=headers)


def test_a_policy_is_put_shown_replaced_and_removed(run: Run) -> None:
    async def scenario(site: Any) -> None:
        made = await put(site, "site", NO_NIGHT)
        assert (made.status_code, made.headers["location"]) == (201, "/policies/site")
        assert made.json()["document"] == NO_NIGHT
        (statement,) = made.json()["statements"]
        assert (statement["name"], statement["effect"], statement["line"]) == ("site/night", "deny", 1)
        assert (await put(site, "site", NO_NIGHT.replace("deny", "allow"))).status_code == 200
        listed = (await site.get("/policies")).json()
        assert [(each["name"], each["statements"]) for each in listed["policies"]] == [("site", 1)]
        assert (await site.client.delete("/policies/site", headers=site.user)).status_code == 204
        assert (await site.client.delete("/policies/site", headers=site.user)).status_code == 404
        assert (await site.get("/policies/site")).status_code == 404

    run(scenario)


def test_a_wrong_document_is_refused_with_its_line_and_changes_nothing(run: Run) -> None:
    async def scenario(site: Any) -> None:
        await put(site, "site", NO_NIGHT)
        refused = await put(site, "site", WRONG)
        assert refused.status_code == 400
        assert "line 4" in refused.json()["detail"]
        assert "none of the actions" in refused.json()["detail"]
        assert (await site.get("/policies/site")).json()["document"] == NO_NIGHT
        for name, body in (("a b", NO_NIGHT), ("site", "{"), ("site", "[]"), ("site", b"\xff")):
            assert (await put(site, name, body)).status_code == 400

    run(scenario)


def test_a_set_of_policies_is_taken_whole_or_not_at_all(run: Run) -> None:
    async def scenario(site: Any) -> None:
        await put(site, "old", NO_NIGHT)
        good = json.loads(NO_NIGHT)
        refused = await site.client.put(
            "/policies", json={"a": good, "b": json.loads(WRONG)}, headers=site.user
        )
        assert refused.status_code == 400
        assert "policy b" in refused.json()["detail"]
        assert [each["name"] for each in (await site.get("/policies")).json()["policies"]] == ["old"]
        taken = await site.client.put("/policies", json={"a": good, "c": good}, headers=site.user)
        assert [each["name"] for each in taken.json()["policies"]] == ["a", "c"]

    run(scenario)


def test_a_document_can_be_checked_without_keeping_it(run: Run) -> None:
    async def scenario(site: Any) -> None:
        (shown,) = (await site.post("/policies/check", json.loads(NO_NIGHT))).json()
        assert shown["subjects"] == ["things/<.*>"]
        assert (await site.post("/policies/check", json.loads(WRONG))).status_code == 400
        assert (await site.get("/policies")).json()["total"] == 0

    run(scenario)


@pytest.mark.parametrize("form", ["ladon", "iam"])
def test_a_denial_outranks_the_connection_and_is_explained(run: Run, form: str) -> None:
    async def scenario(site: Any) -> None:
        assert (await site.publish()).status_code == 202
        iam = {
            "Statement": {
                "Sid": "night",
                "Effect": "Deny",
                "Principal": "things/*",
                "Action": "Publish",
                "Resource": "*",
            }
        }
        await put(site, "site", NO_NIGHT if form == "ladon" else json.dumps(iam))
        refused = await site.publish()
        assert refused.status_code == 403
        assert refused.json()["detail"] == "policy site/night denies it"
        question = {"action": "publish", "thing": site.thing_id, "channel": site.channel_id}
        answer = (await site.post("/policies/explain", question)).json()
        assert (answer["allowed"], answer["decided_by"]) == (False, "site/night")
        assert "outranks" in answer["policies"]
        await site.client.delete("/policies/site", headers=site.user)
        assert (await site.publish()).status_code == 202, "the decision is not remembered"
        answer = (await site.post("/policies/explain", question)).json()
        assert (answer["allowed"], answer["decided_by"]) == (True, None)
        assert answer["reason"] == "the thing is connected to the channel"

    run(scenario)


def test_conditions_know_what_the_door_knows(run: Run) -> None:
    async def scenario(site: Any) -> None:
        document = {
            "subjects": ["<.*>"],
            "actions": ["publish"],
            "resources": ["channels/<.*>/messages/small"],
            "effect": "deny",
            "conditions": {
                "payload_size": {"type": "NumberCondition", "options": {"min": 60}},
                "source_ip": {"type": "CIDRCondition", "options": {"cidr": "127.0.0.0/8"}},
                "protocol": {"type": "StringEqualCondition", "options": {"equals": "http"}},
            },
        }
        await put(site, "size", json.dumps(document))
        assert (await site.publish(below="/small")).status_code == 202
        assert (await site.publish(b'[{"n":"t","vs":"%s"}]' % (b"x" * 60), below="/small")).status_code == 403
        assert (await site.publish(b'[{"n":"t","vs":"%s"}]' % (b"x" * 60), below="/other")).status_code == 202
        assert (await site.publish(below="/small")).status_code == 202

    run(scenario)


def test_a_policy_allows_what_no_connection_gives(run: Run) -> None:
    async def scenario(site: Any) -> None:
        stranger = (await site.post("/things", {"name": "stranger"})).json()
        headers = {"authorization": f"Thing {stranger['key']}", "content-type": "application/senml+json"}
        pack = b'[{"n":"t","v":1}]'
        assert (await site.client.post(site.messages, content=pack, headers=headers)).status_code == 403
        allow = NO_NIGHT.replace("deny", "allow").replace("<.*>", stranger["id"], 1)
        await put(site, "guest", allow)
        assert (await site.client.post(site.messages, content=pack, headers=headers)).status_code == 202
        nowhere = await site.client.post("/channels/no-such/messages", content=pack, headers=headers)
        assert nowhere.status_code == 403, "a policy makes no channel"

    run(scenario)


def test_a_policy_cannot_lock_its_administrator_out(run: Run) -> None:
    async def scenario(site: Any) -> None:
        everything = (
            NO_NIGHT.replace("things/<.*>", "<.*>")
            .replace("publish", "<.*>")
            .replace("channels/<.*>", "<.*>")
        )
        await put(site, "all", everything)
        assert (await site.post("/things", {})).status_code == 403
        assert (await site.client.delete("/policies/all", headers=site.user)).status_code == 204
        assert (await site.post("/things", {})).status_code == 201

    run(scenario)


def test_policies_outlive_the_process(run: Run, tmp_path: Any) -> None:
    async def scenario(site: Any) -> None:
        await put(site, "site", NO_NIGHT)
        copy = tmp_path / "again"
        copy.mkdir()
        for each in site.hub.registry._file._path.parent.iterdir():
            if each.is_file():
                (copy / each.name).write_bytes(each.read_bytes())
        hub = type(site.hub).open(copy)
        assert [statement.name for statement in hub.registry.policy_set.statements] == ["site/night"]
        await hub.close()

    run(scenario)
