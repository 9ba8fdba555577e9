"""What is wrong with a layout, or with bringing it onto a gateway."""

from __future__ import annotations

from collections.abc import Sequence


class LayoutError(Exception):
    """A layout that cannot be used. `line` is 0 where the file as a whole is at fault."""

    def __init__(self, file: str, line: int, place: str, problem: str) -> None:
        self.line, self.place, self.problem = line, place, problem
        where = f"{file}, line {line}" if line else file
        super().__init__(f"{where}: {place}: {problem}" if place else f"{where}: {problem}")


class CannotApply(Exception):
    """Why nothing was changed: one sentence for each fault."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)
