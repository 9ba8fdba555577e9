"""Ladon's and IAM's tables of what a request comes to, row by row, from their manuals."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hub.policy.documents import read
from hub.policy.engine import PolicySet
from hub.policy.request import Request, Value

MONDAY_9H = 1_700_470_800  # 2023-11-20T09:00:00Z
SUBJECT, RESOURCE = "things/pump", "channels/1/messages/a/b"


def ladon(effect: str = "allow", **members: Any) -> dict[str, Any]:
    return {"subjects": ["<.*>"], "actions": ["<.*>"], "resources": ["<.*>"], "effect": effect, **members}


def iam(effect: str = "Allow", **members: Any) -> dict[str, Any]:
    return {"Effect": effect, "Principal": "*", "Action": "*", "Resource": "*", **members}


def answer(*statements: dict[str, Any], action: str = "publish", **context: Value) -> str:
    found = []
    for number, each in enumerate(statements):
        document = {"Statement": each} if "Effect" in each else each
        found += read(f"p{number}", json.dumps(document))
    verdict = PolicySet(found).verdict(Request(SUBJECT, action, RESOURCE, context))
    return verdict.effect.value if verdict.effect else "nothing"


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        pytest.param([], "nothing", id="no policy"),
        pytest.param([ladon()], "allow", id="allowed"),
        pytest.param([ladon("deny")], "deny", id="forcefully denied"),
        pytest.param([ladon(), ladon("deny")], "deny", id="deny after allow"),
        pytest.param([ladon("deny"), ladon()], "deny", id="deny before allow"),
        pytest.param([iam(), ladon("deny")], "deny", id="Ladon denies what IAM allows"),
        pytest.param([ladon(), iam("Deny")], "deny", id="IAM denies what Ladon allows"),
        pytest.param([ladon(subjects=["things/pump"])], "allow", id="equal subject"),
        pytest.param([ladon(subjects=["things/Pump"])], "nothing", id="case counts"),
        pytest.param([ladon(subjects=["things/pum"])], "nothing", id="a beginning is not enough"),
        pytest.param([ladon(subjects=["things/<pum>"])], "nothing", id="anchored at the end"),
        pytest.param([ladon(subjects=["<hings/pump>"])], "nothing", id="anchored at the start"),
        pytest.param([ladon(subjects=["things.pump"])], "nothing", id="outside brackets a dot is a dot"),
        pytest.param([ladon(subjects=["things<.>pump"])], "allow", id="inside it is any character"),
        pytest.param([ladon(subjects=["users/u", "things/<p.*>"])], "allow", id="one of several"),
        pytest.param([ladon(actions=["subscribe"])], "nothing", id="another action"),
        pytest.param([ladon(actions=["<publish|subscribe>"])], "allow", id="either action"),
        pytest.param([ladon(resources=["channels/1/messages"])], "nothing", id="another resource"),
        pytest.param([ladon(resources=["channels/1/messages/<[^/]+>"])], "nothing", id="one level only"),
        pytest.param([ladon(resources=["channels/1/messages/<[^/]+>/b"])], "allow", id="the level between"),
    ],
)
def test_ladon_decides(statements: list[dict[str, Any]], expected: str) -> None:
    assert answer(*statements) == expected


def condition(kind: str, **options: Any) -> dict[str, Any]:
    return {"type": kind, "options": options}


@pytest.mark.parametrize(
    ("key", "given", "context", "holds"),
    [
        pytest.param(
            "owner", condition("StringEqualCondition", equals="me"), {"owner": "me"}, True, id="equal"
        ),
        pytest.param(
            "owner", condition("StringEqualCondition", equals="me"), {"owner": "Me"}, False, id="not equal"
        ),
        pytest.param(
            "owner", condition("StringEqualCondition", equals=""), {}, False, id="missing is not empty"
        ),
        pytest.param(
            "subtopic",
            condition("StringMatchCondition", matches="b"),
            {"subtopic": "a.b.c"},
            True,
            id="found inside",
        ),
        pytest.param(
            "subtopic",
            condition("StringMatchCondition", matches="^b"),
            {"subtopic": "a.b.c"},
            False,
            id="from the start",
        ),
        pytest.param(
            "subtopic",
            condition("StringMatchCondition", matches="b|c$"),
            {"subtopic": "a.c"},
            True,
            id="to the end",
        ),
        pytest.param(
            "source_ip",
            condition("CIDRCondition", cidr="10.0.0.0/8"),
            {"source_ip": "10.9.9.9"},
            True,
            id="in the network",
        ),
        pytest.param(
            "source_ip",
            condition("CIDRCondition", cidr="10.0.0.0/8"),
            {"source_ip": "11.9.9.9"},
            False,
            id="outside",
        ),
        pytest.param(
            "source_ip",
            condition("CIDRCondition", cidr="10.0.0.0/8"),
            {"source_ip": "::ffff:10.9.9.9"},
            True,
            id="IPv4 in IPv6",
        ),
        pytest.param(
            "source_ip",
            condition("CIDRCondition", cidr="fd00::/8"),
            {"source_ip": "10.9.9.9"},
            False,
            id="other family",
        ),
        pytest.param(
            "source_ip",
            condition("CIDRCondition", cidr="0.0.0.0/0"),
            {"source_ip": "nonsense"},
            False,
            id="no address",
        ),
        pytest.param(
            "source_ip", condition("CIDRCondition", cidr="0.0.0.0/0"), {}, False, id="no address known"
        ),
        pytest.param("owner", condition("EqualsSubjectCondition"), {"owner": "pump"}, True, id="own, by id"),
        pytest.param(
            "owner", condition("EqualsSubjectCondition"), {"owner": SUBJECT}, True, id="own, by subject"
        ),
        pytest.param(
            "owner", condition("EqualsSubjectCondition"), {"owner": "other"}, False, id="somebody else's"
        ),
        pytest.param("owner", condition("EqualsSubjectCondition"), {}, False, id="nobody's"),
        pytest.param(
            "payload_size",
            condition("NumberCondition", max=10),
            {"payload_size": 10},
            True,
            id="as large as allowed",
        ),
        pytest.param(
            "payload_size", condition("NumberCondition", max=10), {"payload_size": 11}, False, id="too large"
        ),
        pytest.param("payload_size", condition("NumberCondition", max=10), {}, False, id="size unknown"),
        pytest.param(
            "current_time",
            condition("TimeOfDayCondition", **{"from": "08:00", "to": "18:00"}),
            {"current_time": MONDAY_9H},
            True,
            id="in hours",
        ),
        pytest.param(
            "current_time",
            condition("TimeOfDayCondition", **{"from": "08:00", "to": "09:00"}),
            {"current_time": MONDAY_9H},
            False,
            id="the end is outside",
        ),
        pytest.param(
            "current_time",
            condition("TimeOfDayCondition", **{"from": "22:00", "to": "10:00", "days": ["sun"]}),
            {"current_time": MONDAY_9H},
            True,
            id="over midnight",
        ),
        pytest.param(
            "current_time",
            condition("TimeOfDayCondition", **{"from": "22:00", "to": "10:00", "days": ["mon"]}),
            {"current_time": MONDAY_9H},
            False,
            id="began a day before",
        ),
    ],
)
def test_ladon_conditions_hold(
    key: str, given: dict[str, Any], context: dict[str, Value], holds: bool
) -> None:
    assert answer(ladon(conditions={key: given}), **context) == ("allow" if holds else "nothing")
    assert answer(ladon("deny", conditions={key: given}), **context) == ("deny" if holds else "nothing")


@pytest.mark.parametrize(
    ("operator", "key", "wanted", "context", "holds"),
    [
        pytest.param("StringEquals", "owner", "me", {"owner": "me"}, True, id="equal"),
        pytest.param("StringEquals", "owner", ["you", "me"], {"owner": "me"}, True, id="one of several"),
        pytest.param("StringEquals", "owner", "m*", {"owner": "me"}, False, id="a star is a star"),
        pytest.param("StringEquals", "owner", "${subject_id}", {"owner": "pump"}, True, id="a variable"),
        pytest.param("StringEquals", "owner", "me", {}, False, id="missing is false"),
        pytest.param("StringNotEquals", "owner", ["you", "me"], {"owner": "me"}, False, id="neither nor"),
        pytest.param("StringNotEquals", "owner", "me", {"owner": "you"}, True, id="another"),
        pytest.param("StringNotEquals", "owner", "me", {}, True, id="missing is another"),
        pytest.param("StringEqualsIfExists", "owner", "me", {}, True, id="if it exists"),
        pytest.param("StringEqualsIfExists", "owner", "me", {"owner": "you"}, False, id="it exists"),
        pytest.param("StringEqualsIgnoreCase", "owner", "ME", {"owner": "me"}, True, id="any case"),
        pytest.param("StringLike", "owner", "m?*", {"owner": "me"}, True, id="like"),
        pytest.param("StringLike", "owner", "m${*}", {"owner": "me"}, False, id="a star written out"),
        pytest.param("StringNotLike", "owner", "m*", {"owner": "me"}, False, id="not like"),
        pytest.param("NumericLessThanEquals", "payload_size", "10", {"payload_size": 10}, True, id="at most"),
        pytest.param("NumericLessThan", "payload_size", 10, {"payload_size": 10}, False, id="less"),
        pytest.param("NumericNotEquals", "payload_size", 10, {"payload_size": 11}, True, id="other number"),
        pytest.param(
            "DateGreaterThan",
            "aws:CurrentTime",
            "2023-11-20T08:59:59Z",
            {"current_time": MONDAY_9H},
            True,
            id="after",
        ),
        pytest.param(
            "DateLessThan", "aws:EpochTime", MONDAY_9H, {"current_time": MONDAY_9H}, False, id="not before"
        ),
        pytest.param(
            "IpAddress", "aws:SourceIp", "10.0.0.0/8", {"source_ip": "10.0.0.1"}, True, id="address"
        ),
        pytest.param(
            "NotIpAddress",
            "aws:SourceIp",
            "10.0.0.0/8",
            {"source_ip": "10.0.0.1"},
            False,
            id="not that network",
        ),
        pytest.param("NotIpAddress", "aws:SourceIp", "10.0.0.0/8", {}, True, id="no address is not in it"),
        pytest.param("Null", "owner", "true", {}, True, id="missing"),
        pytest.param("Null", "owner", False, {}, False, id="not missing"),
        pytest.param("ForAllValues:StringEquals", "owner", "me", {}, True, id="all of none"),
        pytest.param("ForAnyValue:StringEquals", "owner", "me", {}, False, id="any of none"),
        pytest.param(
            "ForAllValues:StringLike", "role", ["a*", "b"], {"role": ("ab", "b")}, True, id="all of two"
        ),
        pytest.param("ForAllValues:StringLike", "role", ["a*"], {"role": ("ab", "b")}, False, id="not all"),
        pytest.param("ForAnyValue:StringLike", "role", ["a*"], {"role": ("ab", "b")}, True, id="any of two"),
    ],
)
def test_iam_conditions_hold(
    operator: str, key: str, wanted: Any, context: dict[str, Value], holds: bool
) -> None:
    statement = iam(Condition={operator: {key: wanted}})
    assert answer(statement, **context) == ("allow" if holds else "nothing")
    assert answer(iam("Deny", Condition={operator: {key: wanted}}), **context) == (
        "deny" if holds else "nothing"
    )


@pytest.mark.parametrize(
    ("members", "holds"),
    [
        pytest.param({"Principal": "things/*"}, True, id="wildcard"),
        pytest.param({"Principal": {"AWS": ["things/pump"]}}, True, id="as AWS writes it"),
        pytest.param({"Principal": "things/pum?"}, True, id="one character"),
        pytest.param({"Principal": "things/pump?"}, False, id="one too many"),
        pytest.param({"Action": "iot:PUBLISH"}, True, id="actions have no case"),
        pytest.param({"Action": "Receive"}, False, id="another action"),
        pytest.param({"Resource": "channels/1/*"}, True, id="a star spans levels"),
        pytest.param({"Resource": "channels/1/messages/${owner}/b"}, True, id="variable"),
        pytest.param({"Resource": "channels/1/messages/${role}/b"}, False, id="variable without value"),
        pytest.param({"Resource": "channels/1/messages/${role, 'a'}/b"}, True, id="variable with default"),
    ],
)
def test_iam_parts_match(members: dict[str, Any], holds: bool) -> None:
    assert answer(iam(**members), owner="a") == ("allow" if holds else "nothing")


@pytest.mark.parametrize("member", ["Principal", "Action", "Resource"])
def test_not_means_all_but_these(member: str) -> None:
    statement = iam()
    del statement[member]
    own = {"Principal": SUBJECT, "Action": "publish", "Resource": RESOURCE}[member]
    assert answer({**statement, f"Not{member}": own}) == "nothing"
    assert answer({**statement, f"Not{member}": "subscribe" if member == "Action" else "other"}) == "allow"


def test_a_value_with_a_star_is_no_wildcard() -> None:
    """What a variable brings is compared as it is: a thing cannot name itself into others' topics."""
    statement = iam(Resource="channels/1/messages/${owner}")
    assert answer(statement, owner="*") == "nothing"


def test_all_conditions_have_to_hold() -> None:
    both = {"StringEquals": {"owner": "me"}, "IpAddress": {"source_ip": "10.0.0.0/8"}}
    assert answer(iam(Condition=both), owner="me", source_ip="10.0.0.1") == "allow"
    assert answer(iam(Condition=both), owner="me", source_ip="11.0.0.1") == "nothing"
