"""A slow, obvious evaluator of raw documents, against which `hub.policy` is held.

It shares nothing with it: expressions are Python's own `re`, wildcards are translated to it, conditions are written
again, and every statement is looked at for every question.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

Context = Mapping[str, Any]


def evaluate(documents: list[str], subject: str, action: str, resource: str, context: Context) -> str:
    """ "deny", "allow" or "nothing"."""
    known = {**context, "subject": subject, "subject_id": subject.partition("/")[2]}
    allowed = False
    for text in documents:
        document = json.loads(text)
        if isinstance(document, dict) and "Statement" in document:
            given = document["Statement"]
            effects = [
                statement["Effect"].lower()
                for statement in (given if isinstance(given, list) else [given])
                if _iam_matches(statement, subject, action, resource, known)
            ]
        else:
            effects = [
                policy["effect"]
                for policy in (document if isinstance(document, list) else [document])
                if _ladon_matches(policy, subject, action, resource, known)
            ]
        if "deny" in effects:
            return "deny"
        allowed = allowed or "allow" in effects
    return "allow" if allowed else "nothing"


def _ladon_matches(
    policy: Mapping[str, Any], subject: str, action: str, resource: str, known: Context
) -> bool:
    return (
        any(_ladon_text(each, action) for each in policy["actions"])
        and any(_ladon_text(each, subject) for each in policy["subjects"])
        and any(_ladon_text(each, resource) for each in policy["resources"])
        and all(
            _ladon_condition(known.get(key), each["type"], each.get("options") or {}, known)
            for key, each in (policy.get("conditions") or {}).items()
        )
    )


def _ladon_text(pattern: str, text: str) -> bool:
    if "<" not in pattern:
        return pattern == text
    made, depth, inside, outside = "", 0, "", ""
    for char in pattern:
        if char == "<":
            depth += 1
            if depth == 1:
                made, outside = made + re.escape(outside), ""
                continue
        if char == ">":
            depth -= 1
            if depth == 0:
                made, inside = f"{made}(?:{inside})", ""
                continue
        if depth:
            inside += char
        else:
            outside += char
    return re.fullmatch(made + re.escape(outside), text, re.ASCII) is not None


def _ladon_condition(value: Any, kind: str, options: Mapping[str, Any], known: Context) -> bool:
    if value is None:
        return False
    if kind == "StringEqualCondition":
        return bool(value == options["equals"])
    if kind == "StringMatchCondition":
        return isinstance(value, str) and re.search(options["matches"], value, re.ASCII) is not None
    if kind == "CIDRCondition":
        return _inside(value, options["cidr"])
    if kind == "EqualsSubjectCondition":
        return value in (known["subject"], known["subject_id"])
    if kind == "BooleanCondition":
        return value is options["value"]
    if kind == "NumberCondition":
        if isinstance(value, str):
            return False
        return bool(options.get("min", float("-inf")) <= value <= options.get("max", float("inf")))
    assert kind == "TimeOfDayCondition"
    moment = datetime.fromtimestamp(value, UTC)
    names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    days = options.get("days", names)
    clock, today, yesterday = moment.strftime("%H:%M"), names[moment.weekday()], names[moment.weekday() - 1]
    start, end = options["from"], options["to"]
    if start <= end:
        return start <= clock < end and today in days
    return (clock >= start and today in days) or (clock < end and yesterday in days)


def _iam_matches(
    statement: Mapping[str, Any], subject: str, action: str, resource: str, known: Context
) -> bool:
    for member, text in (("Principal", subject), ("Action", action), ("Resource", resource)):
        negated = f"Not{member}" in statement
        patterns = statement[f"Not{member}" if negated else member]
        if isinstance(patterns, dict):
            (patterns,) = patterns.values()
        patterns = [patterns] if isinstance(patterns, str) else patterns
        if member == "Action":
            patterns = [each.rpartition(":")[2].lower() for each in patterns]
            patterns = [
                {"receive": "deliver", "retainpublish": "publish"}.get(each, each) for each in patterns
            ]
        if any(_wild(each, text, known) for each in patterns) == negated:
            return False
    return all(
        _iam_condition(operator, known.get(key), values if isinstance(values, list) else [values], known)
        for operator, keys in statement.get("Condition", {}).items()
        for key, values in keys.items()
    )


def _substituted(pattern: str, known: Context) -> str | None:
    """The pattern as a regular expression without wildcards for what variables gave; None without a value."""
    made = ""
    for piece in re.split(r"(\$\{[^}]*\})", pattern):
        if not piece.startswith("${"):
            made += "".join(
                ".*" if each == "*" else "." if each == "?" else re.escape(each) for each in piece
            )
            continue
        inside = piece[2:-1]
        if inside in ("*", "?", "$"):
            made += re.escape(inside)
            continue
        name, _, default = inside.partition(",")
        value = known.get(name.strip())
        if value is None and not default:
            return None
        made += re.escape(str(value) if value is not None else default.strip().strip("'"))
    return made


def _wild(pattern: str, text: str, known: Context) -> bool:
    made = _substituted(pattern, known)
    return made is not None and re.fullmatch(made, text, re.DOTALL) is not None


def _iam_condition(operator: str, value: Any, wanted: list[Any], known: Context) -> bool:
    quantifier, _, name = operator.rpartition(":")
    if name == "Null":
        return (value is None) == (str(wanted[0]).lower() == "true")
    optional = name.endswith("IfExists")
    name = name.removesuffix("IfExists")
    negated = "Not" in name
    if value is None:
        if optional or quantifier == "ForAllValues":
            return True
        return negated and quantifier == ""
    given = list(value) if isinstance(value, tuple) else [value]
    fits = [any(_iam_test(name.replace("Not", ""), one, each, known) for each in wanted) for one in given]
    results = [not fit for fit in fits] if negated else fits
    return all(results) if quantifier == "ForAllValues" or (negated and not quantifier) else any(results)


def _iam_test(name: str, value: Any, wanted: Any, known: Context) -> bool:
    if name == "StringEquals":
        escaped = str(wanted).replace("*", "${*}").replace("?", "${?}")
        return _wild(escaped, str(value), known)
    if name == "StringEqualsIgnoreCase":
        return str(value).lower() == str(wanted).lower()
    if name == "StringLike":
        return _wild(str(wanted), str(value), known)
    if name == "IpAddress":
        return _inside(value, wanted)
    if name == "Bool":
        return str(value).lower() == str(wanted).lower()
    try:
        left = float(value)
    except (TypeError, ValueError):
        return False
    right = float(wanted) if name.startswith("Numeric") else datetime.fromisoformat(wanted).timestamp()
    compare = name.removeprefix("Numeric").removeprefix("Date")
    return {
        "Equals": left == right,
        "LessThan": left < right,
        "LessThanEquals": left <= right,
        "GreaterThan": left > right,
        "GreaterThanEquals": left >= right,
    }[compare]


def _inside(value: Any, network: str) -> bool:
    try:
        return ipaddress.ip_address(value) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
