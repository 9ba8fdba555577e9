"""Random documents of both forms, and random questions that they have something to say about."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

SUBJECTS = ["things/a", "things/b", "things/ab", "users/u", "internal/lorawan"]
ACTIONS = ["connect", "publish", "subscribe", "deliver", "manage"]
RESOURCES = [
    "gateway",
    "channels/1/messages",
    "channels/1/messages/a/b",
    "channels/2/messages/x",
    "channels/12/messages/a",
]
ADDRESSES = ["10.0.0.7", "10.1.2.3", "192.168.1.9", "fd00::5"]
NETWORKS = ["10.0.0.0/8", "10.0.0.0/24", "192.168.0.0/16", "fd00::/8"]
OWNERS = ["a", "u", "somebody", "things/b"]


def context(rng: Random) -> dict[str, Any]:
    """Some of what a door may know."""
    whole: dict[str, Any] = {
        "source_ip": rng.choice(ADDRESSES),
        "protocol": rng.choice(["mqtt", "http", "coap"]),
        "subtopic": rng.choice(["", "a.b", "x"]),
        "payload_size": rng.choice([0, 10, 1000]),
        "content_type": "application/json",
        "current_time": rng.randrange(1_700_000_000, 1_700_000_000 + 14 * 86_400),
        "owner": rng.choice(OWNERS),
        "subject_name": rng.choice(["pump", "Pump", "p*mp"]),
        "role": "admin",
    }
    return {key: value for key, value in whole.items() if rng.random() < 0.8}


def question(rng: Random) -> tuple[str, str, str, dict[str, Any]]:
    """Subject, action, resource, context."""
    return rng.choice(SUBJECTS), rng.choice(ACTIONS), rng.choice(RESOURCES), context(rng)


def document(rng: Random) -> str:
    """One document as text."""
    if rng.random() < 0.5:
        policies = [_ladon(rng) for _ in range(rng.randrange(1, 4))]
        return json.dumps(
            policies if len(policies) > 1 or rng.random() < 0.5 else policies[0], indent=rng.choice([None, 2])
        )
    statements = [_statement(rng, number) for number in range(rng.randrange(1, 4))]
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=rng.choice([None, 1]))


def _some(rng: Random, texts: list[str]) -> list[str]:
    return [rng.choice(texts) for _ in range(rng.randrange(1, 3))]


def _ladon(rng: Random) -> dict[str, Any]:
    conditions = {}
    for _ in range(rng.choice([0, 0, 1, 2])):
        key, kind, options = rng.choice(_LADON)(rng)
        conditions[key] = {"type": kind, "options": options}
    return {
        "subjects": _some(rng, [*SUBJECTS, "<.*>", "things/<[ab]+>", "<things|users>/<.>"]),
        "actions": _some(rng, [*ACTIONS, "<publish|subscribe>", "<.*>"]),
        "resources": _some(
            rng, [*RESOURCES, "<.*>", "channels/<\\d+>/messages<(/.*)?>", "channels/1/messages/<[^/]+>/b"]
        ),
        "effect": rng.choice(["allow", "allow", "deny"]),
        **({"conditions": conditions} if conditions else {}),
    }


_LADON: list[Callable[[Random], tuple[str, str, Any]]] = [
    lambda rng: ("owner", "StringEqualCondition", {"equals": rng.choice(OWNERS)}),
    lambda rng: ("subtopic", "StringMatchCondition", {"matches": rng.choice(["a", "^a", "[xy]", "b$"])}),
    lambda rng: ("source_ip", "CIDRCondition", {"cidr": rng.choice(NETWORKS)}),
    lambda rng: ("owner", "EqualsSubjectCondition", {}),
    lambda rng: ("payload_size", "NumberCondition", {rng.choice(["min", "max"]): rng.choice([0, 10, 500])}),
    lambda rng: (
        "current_time",
        "TimeOfDayCondition",
        {
            "from": rng.choice(["08:00", "22:30"]),
            "to": rng.choice(["06:15", "18:00"]),
            "days": rng.choice([["mon"], ["sat", "sun", "wed"]]),
        },
    ),
]


def _statement(rng: Random, number: int) -> dict[str, Any]:
    conditions: dict[str, dict[str, Any]] = {}
    for _ in range(rng.choice([0, 0, 1, 2])):
        operator, key, values = rng.choice(_IAM)(rng)
        prefix = rng.choice(["", "", "", "ForAllValues:", "ForAnyValue:"]) if operator != "Null" else ""
        suffix = rng.choice(["", "", "IfExists"]) if operator != "Null" else ""
        conditions.setdefault(prefix + operator + suffix, {})[key] = values
    return {
        "Sid": f"s{number}",
        "Effect": rng.choice(["Allow", "Allow", "Deny"]),
        rng.choice(["Principal", "Principal", "NotPrincipal"]): rng.choice(
            [{"AWS": _some(rng, _PRINCIPALS)}, rng.choice(_PRINCIPALS)]
        ),
        rng.choice(["Action", "Action", "NotAction"]): _some(
            rng, [*ACTIONS, "fluxgate:Publish", "iot:Receive", "*", "*sub*"]
        ),
        rng.choice(["Resource", "Resource", "NotResource"]): _some(rng, _RESOURCES),
        **({"Condition": conditions} if conditions else {}),
    }


_PRINCIPALS = [*SUBJECTS, "*", "things/*", "things/?"]
_RESOURCES = [
    *RESOURCES,
    "*",
    "channels/*/messages",
    "channels/?/messages*",
    "channels/1/messages/${subject_id}/b",
    "channels/*/${owner, 'x'}",
]
_COMPARISONS = ["Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals"]
_IAM: list[Callable[[Random], tuple[str, str, Any]]] = [
    lambda rng: (
        rng.choice(["StringEquals", "StringNotEquals"]),
        "owner",
        _some(rng, [*OWNERS, "${subject_id}"]),
    ),
    lambda rng: (
        rng.choice(["StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase"]),
        "subject_name",
        ["PUMP"],
    ),
    lambda rng: (
        rng.choice(["StringLike", "StringNotLike"]),
        "subject_name",
        rng.choice(["p*", "?ump", "p${*}mp"]),
    ),
    lambda rng: (
        "Numeric" + rng.choice(_COMPARISONS),
        "payload_size",
        rng.choice([10, "10", 500]),
    ),
    lambda rng: (
        f"Date{rng.choice(['LessThan', 'GreaterThanEquals', 'NotEquals'])}",
        "current_time",
        "2023-11-20T12:00:00+00:00",
    ),
    lambda rng: (rng.choice(["IpAddress", "NotIpAddress"]), "source_ip", _some(rng, NETWORKS)),
    lambda rng: ("Null", rng.choice(["owner", "source_ip"]), rng.choice([True, "false"])),
    lambda rng: ("Bool", "role", "true"),
]
