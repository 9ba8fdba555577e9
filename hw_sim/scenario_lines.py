"""Errors of a scenario with their place: which line and key of the file is to blame."""

import re

from hw_sim.errors import SimError

_HEADER = re.compile(r"^(\[\[?)\s*([\w.\s\"'-]+?)\s*\]\]?$")


class ScenarioError(SimError):
    """A scenario that cannot be. `line` is 0 where no line is to blame."""

    def __init__(self, source: str, line: int, key: str, problem: str) -> None:
        self.source, self.line, self.key, self.problem = source, line, key, problem
        place = f"{source}, line {line}" if line else source
        super().__init__(f"{place}: {key}: {problem}" if key else f"{place}: {problem}")


def blame(source: str, text: str, path: list[str], problem: str) -> ScenarioError:
    """The error of the setting at `path`, such as ["nodes", "0", "sf"]."""
    spelled = "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in path).removeprefix(".")
    return ScenarioError(source, find_line(text, path), spelled, problem)


def find_line(text: str, path: list[str]) -> int:
    """The line that assigns the deepest part of `path` the text spells out; 0 where it spells none."""
    seen: dict[tuple[str, ...], int] = {}  # how many tables an array has so far, by its path
    here: list[str] = []
    best_line = best_depth = 0
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.split("#")[0].strip()
        header = _HEADER.match(stripped)
        if header:
            here = _place(header[2], header[1] == "[[", seen)
            spelled = here
        elif "=" in stripped:
            spelled = [*here, stripped.split("=")[0].strip().strip("\"'")]
        else:
            continue
        if best_depth < len(spelled) <= len(path) and spelled == path[: len(spelled)]:
            best_line, best_depth = number, len(spelled)
    return best_line


def _place(name: str, is_array: bool, seen: dict[tuple[str, ...], int]) -> list[str]:
    """Where a header leads: its names, with the number of the table for each that is an array of them."""
    here: list[str] = []
    words = [word.strip().strip("\"'") for word in name.split(".")]
    for word in words[:-1]:
        here.append(word)
        if tuple(here) in seen:
            here.append(str(seen[tuple(here)] - 1))
    here.append(words[-1])
    if is_array:
        count = seen[tuple(here)] = seen.get(tuple(here), 0) + 1
        here.append(str(count - 1))
    return here
