"""What all statements together come to: a denial before any permission, and without either nothing.

A question costs one look-up: which statements concern (subject, action, resource) is worked out once and remembered.
Only those with conditions or variables are asked again each time, and there are seldom any.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hub.policy.documents import ACTIONS
from hub.policy.patterns import Exact, Wildcard
from hub.policy.request import Request
from hub.policy.statement import Effect, Part, Statement

MAX_REMEMBERED = 100_000  # triples; then the memory starts afresh
MAX_EXPLAINED = 10  # statements that an explanation names beside the one that decided


class Verdict(NamedTuple):
    """`effect` None: no statement says anything."""

    effect: Effect | None = None
    statement: Statement | None = None


@dataclass(frozen=True, slots=True)
class NotThis:
    """A statement that did not decide, and what of it does not fit."""

    statement: Statement
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a question is answered as it is, and what would change the answer."""

    verdict: Verdict
    words: str
    others: tuple[NotThis, ...]  # the ones that come nearest first


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The statements that concern one triple: `sure` decides by itself, the others have to be asked."""

    sure: Verdict
    asked: tuple[
        tuple[Statement, bool], ...
    ]  # denials first; True: it has variables, so that its parts count anew


class PolicySet:
    """All statements in force. Never changed: another set takes its place."""

    def __init__(self, statements: Iterable[Statement] = ()) -> None:
        self.statements = tuple(statements)
        self.keys = frozenset(
            condition.key for statement in self.statements for condition in statement.conditions
        ) | frozenset(name for statement in self.statements for name in _variables(statement))
        self.conditional = any(
            statement.conditions or _has_variables(statement) for statement in self.statements
        )
        self._index = {action: _Index(self.statements, action) for action in ACTIONS}
        self._chosen: dict[tuple[str, str, str], _Chosen] = {}

    def __bool__(self) -> bool:
        return bool(self.statements)

    def verdict(self, request: Request) -> Verdict:
        """What the statements say."""
        return self.decide(request)[0]

    def decide(self, request: Request) -> tuple[Verdict, bool]:
        """The same, and whether every question of this subject, action and resource is answered so."""
        key = (request.subject, request.action, request.resource)
        chosen = self._chosen.get(key)
        if chosen is None:
            if len(self._chosen) >= MAX_REMEMBERED:
                self._chosen.clear()
            chosen = self._chosen[key] = self._choose(request)
        for statement, varies in chosen.asked:
            if all(condition.holds(request) for condition in statement.conditions) and (
                not varies or statement.concerns(request)
            ):
                return Verdict(statement.effect, statement), False
        return chosen.sure, not chosen.asked

    def _choose(self, request: Request) -> _Chosen:
        denials: list[tuple[Statement, bool]] = []
        permissions: list[tuple[Statement, bool]] = []
        permitted = Verdict()
        for statement in (
            self._index[request.action].candidates(request.subject) if request.action in self._index else ()
        ):
            varies = _has_variables(statement)
            if not varies and not statement.concerns(request):
                continue
            if varies or statement.conditions:
                (denials if statement.effect is Effect.DENY else permissions).append((statement, varies))
            elif statement.effect is Effect.DENY:
                return _Chosen(Verdict(Effect.DENY, statement), ())
            elif permitted.effect is None:
                permitted = Verdict(Effect.ALLOW, statement)
        # Once something allows for sure, further permissions change nothing.
        return _Chosen(permitted, (*denials, *(() if permitted.effect else permissions)))

    def explain(self, request: Request) -> Explanation:
        """The same, with the reasons. Looks at every statement: for people, not for messages."""
        verdict = self.verdict(request)
        statement = verdict.statement
        ranked = sorted(
            (
                NotThis(other, tuple(reasons))
                for other in self.statements
                if other is not statement and (reasons := other.failing(request))
            ),
            key=lambda each: (len(each.reasons), each.statement.effect is Effect.DENY),
        )
        others = tuple(ranked[:MAX_EXPLAINED])
        return Explanation(verdict, _words(request, verdict, others), others)


class _Index:
    """The statements that may concern one action: by subject where they name one exactly, and the rest."""

    def __init__(self, statements: Sequence[Statement], action: str) -> None:
        self._by_subject: dict[str, list[tuple[int, Statement]]] = {}
        self._rest: list[tuple[int, Statement]] = []
        nobody = Request("", action, "")
        for place in enumerate(statements):
            statement = place[1]
            if not _part_varies(statement.actions) and not statement.actions.matches(action, nobody):
                continue
            subjects = statement.subjects
            exact = [each.text for each in subjects.patterns if isinstance(each, Exact)]
            if subjects.negated or len(exact) < len(subjects.patterns):
                self._rest.append(place)
            else:
                for subject in dict.fromkeys(exact):
                    self._by_subject.setdefault(subject, []).append(place)

    def candidates(self, subject: str) -> list[Statement]:
        """In the order of the documents."""
        named = self._by_subject.get(subject)
        found = self._rest if named is None else sorted((*named, *self._rest), key=lambda place: place[0])
        return [statement for _, statement in found]


def _words(request: Request, verdict: Verdict, others: Sequence[NotThis]) -> str:
    asked = f"{request.subject} may {request.action} {request.resource}"
    statement = verdict.statement
    if statement is not None:
        place = f"statement {statement.name} (line {statement.line})"
        if verdict.effect is Effect.ALLOW:
            return f"{asked}: {place} allows it, and none denies it"
        return (
            f"{asked}: no, {place} denies it, and a denial outranks every permission; take this subject, action or "
            "resource out of it, or give it a condition"
        )
    nearest = next((each for each in others if each.statement.effect is Effect.ALLOW), None)
    if nearest is None:
        return f"{asked}: no statement says so; write one with effect allow"
    reasons = "; and ".join(nearest.reasons)
    return f"{asked}: no statement says so; the nearest is {nearest.statement.name}, but {reasons}"


def _has_variables(statement: Statement) -> bool:
    return any(_part_varies(part) for part in (statement.subjects, statement.actions, statement.resources))


def _part_varies(part: Part) -> bool:
    return any(isinstance(pattern, Wildcard) and pattern.variables for pattern in part.patterns)


def _variables(statement: Statement) -> set[str]:
    return {
        name
        for part in (statement.subjects, statement.actions, statement.resources)
        for pattern in part.patterns
        if isinstance(pattern, Wildcard)
        for name in pattern.variables
    }
