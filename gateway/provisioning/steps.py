"""A plan: steps, each one request, with places left open for what only earlier steps or the environment know."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

_NAMED = re.compile(r"\{\{\s*(thing|channel|group|user|application)\s+([^{}]+?)\s*\}\}")


@dataclass(frozen=True, slots=True)
class Ref:
    """The id of an item, which may only be known when an earlier step has made it."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Env:
    """A secret of the environment, as `env:NAME`."""

    name: str


@dataclass(frozen=True, slots=True)
class Made:
    """A secret that is made up when its step is due, and written to the key file before it is sent."""

    kind: str
    name: str
    field: str


@dataclass(frozen=True, slots=True)
class Text:
    """A document whose `{{thing pump}}` stand for ids."""

    text: str

    def refs(self) -> Iterator[Ref]:
        """What it names."""
        for kind, name in _NAMED.findall(self.text):
            yield Ref(kind, name.lower() if kind == "user" else name)

    def filled(self, id_of: Callable[[Ref], str]) -> str:
        """The text with ids in place of names."""
        return _NAMED.sub(
            lambda found: id_of(Ref(found[1], found[2].lower() if found[1] == "user" else found[2])),
            self.text,
        )


@dataclass(frozen=True, slots=True)
class Step:
    """One change. `sign` is + for what is made, ~ for what is changed, - for what is removed."""

    sign: str
    says: str
    method: str
    path: tuple[str | Ref, ...]  # joined without anything between
    body: Any = field(default=None, repr=False)  # JSON with Ref, Env and Made in it; a Text as it stands
    makes: tuple[Ref, ...] = ()  # whose ids the answer tells; of a list in the order of `each`
    each: str = ""  # under which the answer has the list
    keeps: tuple[str, ...] = ()  # secrets of the answer that go into the key file

    def __str__(self) -> str:
        return f"{self.sign} {self.says}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done, in order; `problems` say why none of it can be; `notes` are for the reader."""

    steps: tuple[Step, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def needs_administrator(self) -> bool:
        """Whether a technician's rights will not do."""
        return any(
            str(step.path[0]).startswith(("/users", "/policies", "/applications", "/groups"))
            for step in self.steps
        )
