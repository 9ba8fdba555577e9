"""Random policy sets, each asked random questions: the answers against a slow, obvious evaluator of the same documents.

python tests/torture/run.py policies [--count SETS] [--seed S]
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from torture import policy_random, policy_reference

from hub.policy.documents import read
from hub.policy.engine import PolicySet, Verdict
from hub.policy.request import Request
from hub.policy.statement import Effect

QUESTIONS = 12  # of one set


@dataclass(slots=True)
class Found:
    """What a run came to."""

    sets: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)


def run(sets: int, seed: int, *, minutes: float | None = None, allow_outranks: bool = False) -> Found:
    """`allow_outranks` is the fault of the negative control: one permission is enough, whoever denies."""
    rng = Random(seed)
    found = Found()
    ends = None if minutes is None else time.monotonic() + 60 * minutes
    for _ in range(sets):
        if ends is not None and time.monotonic() > ends:
            break
        documents = [policy_random.document(rng) for _ in range(rng.randrange(1, 5))]
        policies = PolicySet(
            statement for number, text in enumerate(documents) for statement in read(f"p{number}", text)
        )
        found.sets += 1
        for _ in range(QUESTIONS):
            subject, action, resource, context = policy_random.question(rng)
            request = Request(subject, action, resource, context)
            verdict = policies.verdict(request)
            if allow_outranks and verdict.effect is Effect.DENY:
                permissions = (each for each in policies.statements if each.effect is Effect.ALLOW)
                verdict = next(
                    (Verdict(Effect.ALLOW, each) for each in permissions if not each.failing(request)),
                    verdict,
                )
            ours = verdict.effect.value if verdict.effect else "nothing"
            theirs = policy_reference.evaluate(documents, subject, action, resource, context)
            found.answers[theirs] += 1
            if ours != theirs:
                found.differences.append(f"{ours} and not {theirs}: {request}, {documents}")
    return found
