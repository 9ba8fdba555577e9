"""The one error a policy document may raise."""

from __future__ import annotations

from hub.errors import Invalid


class PolicyError(Invalid):
    """A document that cannot be used. `line` counts from 1; 0 where no line is to blame."""

    def __init__(self, reason: str, path: str = "", line: int = 0) -> None:
        self.reason, self.path, self.line = reason, path, line
        place = ", ".join(each for each in (f"line {line}" if line else "", path) if each)
        super().__init__(f"{place}: {reason}" if place else reason)
