"""What subjects, actions and resources are compared with: Ladon's patterns and the wildcards of IAM.

Ladon: without `<` a text that has to be equal; otherwise the text outside `<...>` is literal and the text inside is
an expression (`hub.policy.regex`). IAM: `*` stands for any characters, `?` for one, `${name}` for a value of the
request; `${*}`, `${?}` and `${$}` are those characters themselves. Either matches the whole text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from hub.policy.regex import BadExpression, Expression, join, literal, parse

MAX_TEXT = 2048  # characters of a pattern
MAX_REMEMBERED = 256  # patterns with expressions, read again by who edits policies; a large one takes 1.5 MB

Lookup = Callable[[str], str | None]  # a variable's value; None where the request has none

_VARIABLE = re.compile(r"\$\{([^{}]*)\}")
_DEFAULT = re.compile(r"\s*([^,\s]+)\s*(?:,\s*'([^']*)'\s*)?")
_ITSELF = frozenset("*?$")


class BadPattern(ValueError):
    """The text says what cannot be used."""


@dataclass(frozen=True, slots=True)
class Exact:
    """One text."""

    text: str

    def matches(self, text: str, lookup: Lookup) -> bool:
        return text == self.text


@dataclass(frozen=True, slots=True)
class Ladon:
    """A pattern with expressions in it."""

    text: str
    expression: Expression

    def matches(self, text: str, lookup: Lookup) -> bool:
        return self.expression.matches(text)


class _Star:
    """Any characters, also none."""


class _One:
    """Any one character."""


@dataclass(frozen=True, slots=True)
class _Variable:
    name: str
    default: str | None


_Token = str | _Variable | type[_Star] | type[_One]


@dataclass(frozen=True, slots=True)
class Wildcard:
    """A pattern of IAM's; a variable without a value makes it match nothing."""

    text: str
    tokens: tuple[_Token, ...]

    @property
    def variables(self) -> frozenset[str]:
        """Their names."""
        return frozenset(token.name for token in self.tokens if isinstance(token, _Variable))

    def matches(self, text: str, lookup: Lookup) -> bool:
        tokens: list[_Token] = []
        for token in self.tokens:
            if isinstance(token, _Variable):
                value = lookup(token.name)
                value = token.default if value is None else value
                if value is None:
                    return False
                tokens.extend(value)  # its characters are no wildcards
            else:
                tokens.append(token)
        return _fits(tokens, text)


Pattern = Exact | Ladon | Wildcard


@lru_cache(maxsize=MAX_REMEMBERED)
def ladon(text: str) -> Exact | Ladon:
    """Raises BadPattern for brackets that do not close and for expressions that cannot be used."""
    _bounded(text)
    if "<" not in text:
        return Exact(text)
    parts, at = [], 0
    while (start := text.find("<", at)) >= 0:
        end = _closing(text, start)
        parts.append(literal(text[at:start]))
        try:
            parts.append(parse(text[start + 1 : end]))
        except BadExpression as error:
            raise BadPattern(f"{text!r}: {error}") from None
        at = end + 1
    parts.append(literal(text[at:]))
    try:
        return Ladon(text, Expression(join(*parts)))
    except BadExpression as error:
        raise BadPattern(f"{text!r}: {error}") from None


@lru_cache(maxsize=4096)
def wildcard(text: str) -> Exact | Wildcard:
    """Raises BadPattern for a variable that is not closed or has no name."""
    return _of_tokens(text, {"*": _Star, "?": _One})


@lru_cache(maxsize=4096)
def exactly(text: str) -> Exact | Wildcard:
    """A text in which only variables have a meaning. Raises BadPattern as `wildcard`."""
    return _of_tokens(text, {})


def matches_any(patterns: Sequence[Pattern], text: str, lookup: Lookup) -> bool:
    """Whether one of them matches; an empty list never does."""
    return any(pattern.matches(text, lookup) for pattern in patterns)


def _of_tokens(text: str, wild: Mapping[str, _Token]) -> Exact | Wildcard:
    _bounded(text)
    tokens: list[_Token] = []
    at = 0
    while at < len(text):
        char = text[at]
        if char == "$" and text[at + 1 : at + 2] == "{":
            found = _VARIABLE.match(text, at)
            if found is None:
                raise BadPattern(f"{text!r}: a variable is not closed")
            tokens.append(_variable(found[1], text))
            at = found.end()
        else:
            tokens.append(wild.get(char, char))
            at += 1
    if all(isinstance(token, str) for token in tokens):
        return Exact("".join(str(token) for token in tokens))
    return Wildcard(text, tuple(tokens))


def _variable(inside: str, text: str) -> _Token:
    if inside in _ITSELF:
        return inside
    found = _DEFAULT.fullmatch(inside)
    if found is None:
        raise BadPattern(f"{text!r}: ${{{inside}}} is no variable; write ${{name}} or ${{name, 'default'}}")
    return _Variable(found[1], found[2])


def _fits(tokens: Sequence[_Token], text: str) -> bool:
    """A star takes as little as will do; going back is only ever to the last star, so no work grows beyond
    tokens times characters."""
    at = position = 0
    star, resume = -1, 0
    while position < len(text):
        token = tokens[at] if at < len(tokens) else None
        if token is _Star:
            star, resume = at, position
            at += 1
        elif token is _One or (isinstance(token, str) and token == text[position]):
            at += 1
            position += 1
        elif star >= 0:
            resume += 1
            at, position = star + 1, resume
        else:
            return False
    return all(token is _Star for token in tokens[at:])


def _closing(text: str, start: int) -> int:
    depth = 0
    for at in range(start, len(text)):
        depth += (text[at] == "<") - (text[at] == ">")
        if not depth:
            return at
    raise BadPattern(f"{text!r}: a < is not closed")


def _bounded(text: str) -> None:
    if len(text) > MAX_TEXT:
        raise BadPattern(f"a pattern has at most {MAX_TEXT} characters")
