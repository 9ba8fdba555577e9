"""Documents of either form to statements, or one error that says on which line and why not.

Ladon: one policy, or a list of them, with subjects, actions, resources, effect and conditions. IAM: `Statement`, an
object or a list, with Effect, Principal, Action, Resource and Condition. A member that is not known is an error:
what is misspelt must not silently allow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hub.policy.conditions import BadCondition, Condition, iam, ladon
from hub.policy.patterns import BadPattern, Pattern, wildcard
from hub.policy.patterns import ladon as ladon_pattern
from hub.policy.request import Request
from hub.policy.source import Source
from hub.policy.statement import Effect, Part, Statement

MAX_STATEMENTS = 1000  # of one document
MAX_PATTERNS = 256  # of one part of a statement
ACTIONS = ("connect", "publish", "subscribe", "deliver", "manage", "proxy")

_LADON_MEMBERS = frozenset(
    {"id", "description", "subjects", "resources", "actions", "effect", "conditions", "meta"}
)
_IAM_MEMBERS = frozenset(
    {
        "Sid",
        "Effect",
        "Principal",
        "NotPrincipal",
        "Action",
        "NotAction",
        "Resource",
        "NotResource",
        "Condition",
    }
)
# IAM's own words for our actions, in lower case as its actions have no case
_IAM_ACTIONS = {"receive": "deliver", "retainpublish": "publish"}
_VERSIONS = ("2012-10-17", "2008-10-17")

Path = tuple[str | int, ...]


def read(name: str, text: str) -> tuple[Statement, ...]:
    """The statements of the document `name`. Raises PolicyError."""
    source = Source(text)
    document = source.value
    if isinstance(document, dict) and ("Statement" in document or "Version" in document):
        return _of_iam(name, source, document)
    policies = document if isinstance(document, list) else [document]
    if not policies or len(policies) > MAX_STATEMENTS:
        raise source.wrong(f"one to {MAX_STATEMENTS} policies")
    places: list[Path] = [(index,) for index in range(len(policies))] if isinstance(document, list) else [()]
    return tuple(
        _of_ladon(name, source, policy, place, number)
        for number, (policy, place) in enumerate(zip(policies, places, strict=True), start=1)
    )


def _of_ladon(name: str, source: Source, policy: Any, at: Path, number: int) -> Statement:
    _object(source, policy, at, _LADON_MEMBERS, "a policy")
    effect = policy.get("effect")
    if effect not in ("allow", "deny"):
        raise source.wrong("effect is allow or deny", *at, "effect")
    sid = policy.get("id", str(number))
    if not isinstance(sid, str) or not sid:
        raise source.wrong("id is a text", *at, "id")
    subjects, actions, resources = (
        Part(_patterns(source, policy.get(part), (*at, part), ladon_pattern))
        for part in ("subjects", "actions", "resources")
    )
    conditions = policy.get("conditions") or {}
    _object(source, conditions, (*at, "conditions"), None, "conditions")
    return Statement(
        name,
        sid,
        Effect(effect),
        subjects,
        actions,
        resources,
        tuple(
            _ladon_condition(source, key, each, (*at, "conditions", key)) for key, each in conditions.items()
        ),
        source.line(*at),
    )


def _ladon_condition(source: Source, key: str, given: Any, at: Path) -> Condition:
    _object(source, given, at, frozenset({"type", "options"}), "a condition")
    options = given.get("options") or {}
    if not isinstance(given.get("type"), str) or not isinstance(options, dict):
        raise source.wrong("a condition has a type and options", *at)
    try:
        return ladon(key, given["type"], options)
    except BadCondition as error:
        raise source.wrong(str(error), *at) from None


def _of_iam(name: str, source: Source, document: Mapping[str, Any]) -> tuple[Statement, ...]:
    _object(source, document, (), frozenset({"Version", "Id", "Statement"}), "the document")
    version = document.get("Version", _VERSIONS[0])
    if version not in _VERSIONS:
        raise source.wrong(f"Version is {' or '.join(_VERSIONS)}", "Version")
    given = document.get("Statement")
    statements = given if isinstance(given, list) else [given]
    if given is None or not statements or len(statements) > MAX_STATEMENTS:
        raise source.wrong(f"one to {MAX_STATEMENTS} statements", "Statement")
    found: list[Statement] = []
    for index, each in enumerate(statements):
        at: Path = ("Statement", index) if isinstance(given, list) else ("Statement",)
        statement = _iam_statement(name, source, each, at, str(index + 1))
        if any(statement.sid == other.sid for other in found):
            raise source.wrong(f"Sid {statement.sid!r} stands twice", *at, "Sid")
        found.append(statement)
    return tuple(found)


def _iam_statement(name: str, source: Source, given: Any, at: Path, number: str) -> Statement:
    _object(source, given, at, _IAM_MEMBERS, "a statement")
    effect = given.get("Effect")
    if effect not in ("Allow", "Deny"):
        raise source.wrong("Effect is Allow or Deny", *at, "Effect")
    sid = given.get("Sid") or number
    if not isinstance(sid, str):
        raise source.wrong("Sid is a text", *at, "Sid")
    conditions = []
    blocks = given.get("Condition", {})
    _object(source, blocks, (*at, "Condition"), None, "Condition")
    for operator, keys in blocks.items():
        _object(source, keys, (*at, "Condition", operator), None, "what stands below an operator")
        for key, values in keys.items():
            try:
                conditions.append(iam(operator, key, values))
            except BadCondition as error:
                raise source.wrong(str(error), *at, "Condition", operator, key) from None
    return Statement(
        name,
        sid,
        Effect(effect.lower()),
        _iam_part(source, given, at, "Principal", _principal),
        _iam_part(source, given, at, "Action", _action),
        _iam_part(source, given, at, "Resource", wildcard),
        tuple(conditions),
        source.line(*at),
    )


def _iam_part(
    source: Source, given: Mapping[str, Any], at: Path, member: str, make: Callable[[str], Pattern]
) -> Part:
    plain, negated = member in given, f"Not{member}" in given
    if plain == negated:
        raise source.wrong(f"either {member} or Not{member}", *at)
    name = f"Not{member}" if negated else member
    value = given[name]
    place: Path = (*at, name)
    if member == "Principal" and isinstance(value, dict):  # {"AWS": [...]} as IAM writes it
        if len(value) != 1:
            raise source.wrong("one kind of principals", *place)
        ((kind, value),) = value.items()
        place = (*place, kind)
    return Part(_patterns(source, [value] if isinstance(value, str) else value, place, make), negated)


def _principal(text: str) -> Pattern:
    return wildcard(text)


def _action(text: str) -> Pattern:
    """`fluxgate:Publish`, `iot:Publish`, `Publish` and `publish` are the same."""
    plain = text.rpartition(":")[2].lower()
    return wildcard(_IAM_ACTIONS.get(plain, plain))


def _patterns(source: Source, given: Any, at: Path, make: Callable[[str], Pattern]) -> tuple[Pattern, ...]:
    if not isinstance(given, list) or not given or len(given) > MAX_PATTERNS:
        raise source.wrong(f"a list of one to {MAX_PATTERNS} texts", *at)
    found = []
    for index, text in enumerate(given):
        if not isinstance(text, str) or not text:
            raise source.wrong("a text", *at, index)
        try:
            pattern = make(text)
        except BadPattern as error:
            raise source.wrong(str(error), *at, index) from None
        if at[-1] in ("actions", "Action", "NotAction") and not any(
            pattern.matches(each, _nothing) for each in ACTIONS
        ):
            raise source.wrong(f"{text!r} is none of the actions {', '.join(ACTIONS)}", *at, index)
        found.append(pattern)
    return tuple(found)


_nothing = Request("", "", "").text


def _object(source: Source, given: Any, at: Path, known: frozenset[str] | None, noun: str) -> None:
    if not isinstance(given, dict):
        raise source.wrong(f"{noun} is an object", *at)
    if known is not None and (more := sorted(set(given) - known)):
        raise source.wrong(f"{noun} has no {more[0]!r}; it has {', '.join(sorted(known))}", *at, more[0])
