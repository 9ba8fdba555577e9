"""A statement: what both forms of documents come to, and what the evaluator works on."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from hub.policy.conditions import Condition
from hub.policy.patterns import Pattern, matches_any
from hub.policy.request import Request


class Effect(enum.StrEnum):
    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Part:
    """Subjects, actions or resources. `negated`: all but these (NotPrincipal, NotAction, NotResource)."""

    patterns: tuple[Pattern, ...]
    negated: bool = False

    def matches(self, text: str, request: Request) -> bool:
        return matches_any(self.patterns, text, request.text) != self.negated


@dataclass(frozen=True, slots=True)
class Statement:
    """Who (subjects) may or must not do what (actions) to what (resources), where all conditions hold."""

    policy: str  # the document's name
    sid: str  # the statement's own name, or its number
    effect: Effect
    subjects: Part
    actions: Part
    resources: Part
    conditions: tuple[Condition, ...] = ()
    line: int = 0  # of the document, from 1

    @property
    def name(self) -> str:
        return f"{self.policy}/{self.sid}"

    def concerns(self, request: Request) -> bool:
        """Whether action, subject and resource match; the conditions are not asked."""
        return (
            self.actions.matches(request.action, request)
            and self.subjects.matches(request.subject, request)
            and self.resources.matches(request.resource, request)
        )

    def failing(self, request: Request) -> list[str]:
        """What of this statement does not fit the request, in words; empty where all does."""
        reasons = [
            f"its {noun} do not include {text!r}"
            for noun, part, text in (
                ("subjects", self.subjects, request.subject),
                ("actions", self.actions, request.action),
                ("resources", self.resources, request.resource),
            )
            if not part.matches(text, request)
        ]
        for condition in self.conditions:
            if not condition.holds(request):
                value = request.value(condition.key)
                known = "is not known" if value is None else f"is {value!r}"
                reasons.append(f"it asks that {condition.words}; {condition.key} {known}")
        return reasons
