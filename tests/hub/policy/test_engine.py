"""The evaluator: what it remembers is right, has a bound, and an explanation names what decided."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hub.policy import engine
from hub.policy.documents import read
from hub.policy.engine import PolicySet
from hub.policy.request import Request


def policies(*statements: dict[str, Any]) -> PolicySet:
    return PolicySet(read("site", json.dumps(list(statements))))


def rule(effect: str, subject: str = "<.*>", action: str = "publish", **more: Any) -> dict[str, Any]:
    return {
        "subjects": [subject],
        "actions": [action],
        "resources": ["channels/<.*>"],
        "effect": effect,
        **more,
    }


def ask(asked: PolicySet, subject: str = "things/a", action: str = "publish", **context: Any) -> str:
    verdict = asked.verdict(Request(subject, action, "channels/1/messages", context))
    return verdict.effect.value if verdict.effect else "nothing"


def test_a_remembered_answer_still_asks_conditions() -> None:
    day = {"source_ip": {"type": "CIDRCondition", "options": {"cidr": "10.0.0.0/8"}}}
    asked = policies(rule("allow"), rule("deny", conditions=day))
    assert [ask(asked, source_ip=each) for each in ("11.0.0.1", "10.0.0.1", "11.0.0.1")] == [
        "allow",
        "deny",
        "allow",
    ]


def test_statements_for_others_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = policies(*(rule("allow", f"things/{n}") for n in range(900)), rule("deny", "users/<.*>"))
    looked = []
    concerns = engine.Statement.concerns
    monkeypatch.setattr(
        engine.Statement, "concerns", lambda self, request: looked.append(self.sid) or concerns(self, request)
    )
    assert ask(asked, "things/17") == "allow"
    assert looked == ["18", "901"]
    looked.clear()
    assert ask(asked, "things/17") == "allow"
    assert looked == []


def test_what_is_remembered_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MAX_REMEMBERED", 10)
    asked = policies(rule("allow", "things/<[0-9]+>"))
    assert {ask(asked, f"things/{n}") for n in range(35)} == {"allow"}
    assert len(asked._chosen) <= 10


def test_an_explanation_names_the_statement_that_decided() -> None:
    asked = policies(rule("allow"), rule("deny", "things/a", id="no-a"))
    found = asked.explain(Request("things/a", "publish", "channels/1/messages"))
    assert found.verdict.statement is asked.statements[1]
    assert "site/no-a" in found.words
    assert "outranks" in found.words


def test_an_explanation_of_nothing_names_what_is_missing() -> None:
    size = {"payload_size": {"type": "NumberCondition", "options": {"max": 10}}}
    asked = policies(rule("allow", "users/x", "subscribe"), rule("allow", conditions=size, id="small"))
    found = asked.explain(Request("things/a", "publish", "channels/1/messages", {"payload_size": 11}))
    assert found.verdict.effect is None
    assert "site/small" in found.words
    assert "payload_size is at most 10; payload_size is 11" in found.words
    assert [other.statement.sid for other in found.others] == ["small", "1"]


def test_no_statement_at_all_is_said_too() -> None:
    assert "write one" in PolicySet().explain(Request("things/a", "publish", "gateway")).words
