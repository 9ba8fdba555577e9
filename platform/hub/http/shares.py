"""Bounds that callers share: so many of something at a time, and so many of them for one caller.

Without the second bound a single key or token could take all there is and hold it, reading slowly. Pure: counts only.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from starlette.requests import Request

from hub.access import Principal
from hub.http.auth import address_of, principal_of
from hub.http.problem import Problem


@dataclass
class Shares:
    """`limit` in all, `each` for one caller. `what` ends the sentence of a refusal, `retry_s` goes with it."""

    limit: int
    each: int
    what: str
    retry_s: int = 1
    open: int = 0
    refused: int = 0
    by_caller: Counter[str] = field(default_factory=Counter)

    def admit(self, caller: str) -> None:
        """Raises Problem 503 where there are as many as allowed, 429 where they are the caller's own."""
        status, most, whose = 0, 0, ""
        if self.open >= self.limit:
            status, most = 503, self.limit
        elif self.by_caller[caller] >= self.each:
            status, most, whose = 429, self.each, " of yours"
        if status:
            self.refused += 1
            self._tidy(caller)
            headers = {"retry-after": str(self.retry_s)}
            raise Problem(status, f"{most} {self.what}{whose}; end one, or try again later", headers=headers)

    @contextlib.contextmanager
    def taken(self, caller: str) -> Iterator[None]:
        """One of them, while the block runs. It is not asked for here, see `admit`."""
        self.open += 1
        self.by_caller[caller] += 1
        try:
            yield
        finally:
            self.open -= 1
            self.by_caller[caller] -= 1
            self._tidy(caller)

    def _tidy(self, caller: str) -> None:
        if not self.by_caller[caller]:
            del self.by_caller[caller]


def name_of(principal: Principal) -> str:
    """Whose share it is: all keys and tokens of one thing or person share it."""
    return f"{principal.kind}s/{principal.id}"


def caller_of(request: Request) -> str:
    """Whose share a request takes; who shows nothing has that of his address."""
    principal = principal_of(request)
    return name_of(principal) if principal is not None else address_of(request.scope)
