"""Decisions a second with 10, 1,000 and 10,000 statements: remembered, met for the first time, with conditions, and
against looking at every statement each time.

    python tests/bench/bench_policies.py
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

from hub.policy.documents import read  # noqa: E402
from hub.policy.engine import PolicySet  # noqa: E402
from hub.policy.request import Request  # noqa: E402

THINGS = 200
SECONDS = 0.5
DAY = {"current_time": {"type": "TimeOfDayCondition", "options": {"from": "00:00", "to": "23:59"}}}


def statements(count: int, conditions: bool) -> PolicySet:
    """One statement a thing, and each hundredth for a pattern of things."""
    made = [
        {
            "subjects": [f"things/{n}" if n % 100 else f"things/<{n}.*>"],
            "actions": ["publish"],
            "resources": [f"channels/{n % 7}/messages<(/.*)?>"],
            "effect": "allow" if n % 3 else "deny",
            **({"conditions": DAY} if conditions else {}),
        }
        for n in range(count)
    ]
    found = [read("p", json.dumps(made[at : at + 500])) for at in range(0, count, 500)]
    return PolicySet(each for part in found for each in part)


def rate(ask: Callable[[Request], object], requests: list[Request]) -> float:
    """Calls a second."""
    asked, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < SECONDS:
        for request in requests:
            ask(request)
        asked += len(requests)
    return asked / spent


def every_one(policies: PolicySet, request: Request) -> int:
    """What an evaluator without index and memory does: it looks at all, as the last one may deny."""
    return sum(statement.concerns(request) for statement in policies.statements)


def main() -> None:
    requests = [
        Request(f"things/{n}", "publish", f"channels/{n % 7}/messages/a", {"current_time": 1.7e9})
        for n in range(THINGS)
    ]
    names = ("remembered", "with conditions", "first time", "every one", "ratio")
    print(f"{'statements':>10} " + " ".join(f"{name:>15}" for name in names))
    for count in (10, 1_000, 10_000):
        plain, conditional = statements(count, False), statements(count, True)

        def first(request: Request, plain: PolicySet = plain) -> None:
            plain._chosen.clear()
            plain.verdict(request)

        remembered = rate(plain.verdict, requests)
        slow = rate(partial(every_one, plain), requests[:5])
        rates = (remembered, rate(conditional.verdict, requests), rate(first, requests), slow)
        print(
            f"{count:>10,} "
            + " ".join(f"{each:>13,.0f}/s" for each in rates)
            + f" {remembered / slow:>14,.0f}x"
        )


if __name__ == "__main__":
    main()
