"""Regular expressions that cannot be slow: an automaton walks the text once, and never goes back.

The syntax is the part of RE2's that has such an automaton: literals, `.`, classes, groups, `|`, `* + ? {m,n}`.
Look-around and back-references have none and are refused. Expressions match the whole text, so that `^` and `$` at
the ends change nothing, or any part of it. A pattern's automaton has a bounded size, and the states met while matching
are kept, up to a bound, so that a text costs one table look-up a character.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MAX_PATTERN = 1024  # characters
MAX_STATES = 2000  # of the automaton; a{1000} has that many
MAX_DEPTH = 50  # of groups
MAX_REPEAT = 1000
MAX_KEPT = 500  # sets of states remembered for one expression; then the memory starts afresh
MAX_KEPT_STATES = 20_000  # in all of them together: about 1 MB

Ranges = tuple[tuple[int, int], ...]  # code points, both ends included

_LAST = 0x10FFFF
_ANY: Ranges = ((0, _LAST),)
_DOT: Ranges = ((0, 9), (11, _LAST))  # all but a line's end
_DIGIT: Ranges = ((48, 57),)
_WORD: Ranges = ((48, 57), (65, 90), (95, 95), (97, 122))
_SPACE: Ranges = ((9, 10), (12, 13), (32, 32))
_CONTROL = {"n": 10, "t": 9, "r": 13, "f": 12, "v": 11, "a": 7}
_PUNCTUATION = frozenset("\\.+*?()|[]{}^$-/<>:,;!\"'#%&=@_`~ ")


class BadExpression(ValueError):
    """The text says what cannot be used, and where."""


@dataclass(frozen=True, slots=True)
class _Set:
    ranges: Ranges


@dataclass(frozen=True, slots=True)
class _Join:
    parts: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Either:
    ways: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Repeat:
    what: _Node
    low: int
    high: int | None  # None: any number


_Node = _Set | _Join | _Either | _Repeat

ANYTHING: _Node = _Repeat(_Set(_ANY), 0, None)


def literal(text: str) -> _Node:
    """Exactly `text`."""
    return _Join(tuple(_Set(((ord(char), ord(char)),)) for char in text))


def parse(pattern: str, *, anywhere: bool = False) -> _Node:
    """The tree of an expression; `anywhere`: for texts of which a part matches, so that ^ and $ count.

    Raises BadExpression.
    """
    if len(pattern) > MAX_PATTERN:
        raise BadExpression(f"an expression has at most {MAX_PATTERN} characters")
    return _Parser(pattern, anywhere).whole()


def join(*parts: _Node) -> _Node:
    """One after the other."""
    return _Join(parts)


class _Parser:
    """Recursive descent over one expression."""

    def __init__(self, text: str, anywhere: bool) -> None:
        self._text = text
        self._anywhere = anywhere
        self._at = 0

    def whole(self) -> _Node:
        node = self._either(0)
        if self._at < len(self._text):
            raise self._wrong("a closing parenthesis without an opening one")
        return node

    def _either(self, depth: int) -> _Node:
        if depth > MAX_DEPTH:
            raise self._wrong(f"groups nest at most {MAX_DEPTH} deep")
        ways = [self._join(depth)]
        while self._take("|"):
            ways.append(self._join(depth))
        return ways[0] if len(ways) == 1 else _Either(tuple(ways))

    def _join(self, depth: int) -> _Node:
        parts: list[_Node] = []
        begins = not depth and self._take("^")
        ends = False
        while self._at < len(self._text) and self._text[self._at] not in "|)" and not ends:
            if (
                not depth
                and self._text[self._at] == "$"
                and self._text[self._at + 1 : self._at + 2] in ("", "|")
            ):
                self._at += 1
                ends = True
            else:
                parts.append(self._repeated(depth))
        if self._anywhere and not depth:
            parts = [*(() if begins else (ANYTHING,)), *parts, *(() if ends else (ANYTHING,))]
        return _Join(tuple(parts))

    def _repeated(self, depth: int) -> _Node:
        node = self._one(depth)
        if self._at < len(self._text) and (counts := self._counts()) is not None:
            node = _Repeat(node, *counts)
            self._take("?")  # as few as possible: the same texts match
            if self._text[self._at : self._at + 1] in ("*", "+", "?", "{"):
                raise self._wrong("a repetition of a repetition; put the first into a group")
        return node

    def _counts(self) -> tuple[int, int | None] | None:
        for sign, counts in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(sign):
                return counts
        if self._text[self._at] != "{":
            return None
        end = self._text.find("}", self._at)
        low, comma, high = self._text[self._at + 1 : max(end, self._at + 1)].partition(",")
        if (
            end < 0
            or not (low.isascii() and low.isdigit())
            or (high and not (high.isascii() and high.isdigit()))
        ):
            raise self._wrong("a { that begins no {m,n}; write \\{ for the character")
        first, last = int(low[:5]), (int(high[:5]) if high else None) if comma else int(low[:5])
        if max(first, last or 0) > MAX_REPEAT or (last is not None and last < first):
            raise self._wrong(f"{{m,n}} with m up to n, both up to {MAX_REPEAT}")
        self._at = end + 1
        return first, last

    def _one(self, depth: int) -> _Node:
        char = self._text[self._at]
        self._at += 1
        if char == "(":
            return self._group(depth)
        if char == "[":
            return _Set(self._class())
        if char == ".":
            return _Set(_DOT)
        if char == "\\":
            return _Set(self._escaped())
        if char in "*+?{":
            self._at -= 1
            raise self._wrong(f"{char} repeats nothing")
        if char in "^$":
            self._at -= 1
            raise self._wrong(f"{char} inside an expression, which is about the whole text anyway")
        return _Set(((ord(char), ord(char)),))

    def _group(self, depth: int) -> _Node:
        if self._take("?") and not self._take(":"):
            raise self._wrong("(? ...) other than (?:...): look-around, flags and names are not supported")
        node = self._either(depth + 1)
        if not self._take(")"):
            raise self._wrong("a group that is not closed")
        return node

    def _escaped(self) -> Ranges:
        if self._at >= len(self._text):
            raise self._wrong("a backslash at the end")
        char = self._text[self._at]
        self._at += 1
        kind = {"d": _DIGIT, "w": _WORD, "s": _SPACE}.get(char.lower())
        if kind is not None:
            return kind if char.islower() else _outside(kind)
        if char in _CONTROL:
            return ((_CONTROL[char], _CONTROL[char]),)
        if char in _PUNCTUATION:
            return ((ord(char), ord(char)),)
        self._at -= 1
        raise self._wrong(f"\\{char} is not supported")

    def _class(self) -> Ranges:
        negated = self._take("^")
        ranges: list[tuple[int, int]] = []
        first = True
        while first or not self._take("]"):
            if self._at >= len(self._text):
                raise self._wrong("a [ that is not closed")
            low = self._member()
            first = False
            if _is_one(low) and self._range_follows():
                self._at += 1
                high = self._member()
                if not _is_one(high) or high[0][0] < low[0][0]:
                    raise self._wrong("a range that ends before it begins")
                low = ((low[0][0], high[0][0]),)
            ranges += low
        found = tuple(sorted(ranges))
        return _outside(found) if negated else found

    def _member(self) -> Ranges:
        if self._at >= len(self._text):
            raise self._wrong("a [ that is not closed")
        char = self._text[self._at]
        self._at += 1
        if char == "\\":
            return self._escaped()
        if char == "[" and self._text[self._at : self._at + 1] == ":":
            raise self._wrong("[: :] classes are not supported")
        return ((ord(char), ord(char)),)

    def _range_follows(self) -> bool:
        return self._text[self._at : self._at + 1] == "-" and self._text[self._at + 1 : self._at + 2] not in (
            "]",
            "",
        )

    def _take(self, char: str) -> bool:
        if self._text[self._at : self._at + 1] != char:
            return False
        self._at += 1
        return True

    def _wrong(self, what: str) -> BadExpression:
        return BadExpression(f"character {self._at + 1} of the expression: {what}")


def _is_one(ranges: Ranges) -> bool:
    """Whether they hold one character only."""
    return len(ranges) == 1 and ranges[0][0] == ranges[0][1]


def _outside(ranges: Ranges) -> Ranges:
    """All code points that are in none of the ranges, which are sorted."""
    found: list[tuple[int, int]] = []
    at = 0
    for low, high in sorted(ranges):
        if low > at:
            found.append((at, low - 1))
        at = max(at, high + 1)
    if at <= _LAST:
        found.append((at, _LAST))
    return tuple(found)


@dataclass(slots=True)
class _State:
    """One state of the automaton: with `ranges` it takes a character and goes to `then[0]`, without any it goes on."""

    ranges: Ranges | None
    then: tuple[int, ...]


class Expression:
    """An automaton for one tree; `matches` is about the whole text."""

    __slots__ = ("_end", "_kept", "_size", "_start", "_states")

    def __init__(self, tree: _Node) -> None:
        """Raises BadExpression where it would grow too large."""
        self._states: list[_State] = []
        self._end = self._add(None, ())
        first = self._build(tree, self._end)
        self._start = self._reached((first,))
        self._kept: dict[tuple[frozenset[int], str], frozenset[int]] = {}
        self._size = 0  # states in `_kept`

    def matches(self, text: str) -> bool:
        kept = self._kept
        here = self._start
        for char in text:
            after = kept.get((here, char))
            if after is None:
                after = self._step(here, ord(char))
                if len(kept) >= MAX_KEPT or self._size + len(after) > MAX_KEPT_STATES:
                    kept.clear()
                    self._size = 0
                kept[here, char] = after
                self._size += len(after)
            here = after
            if not here:
                return False
        return self._end in here

    def _step(self, here: frozenset[int], code: int) -> frozenset[int]:
        states = self._states
        return self._reached(
            state.then[0]
            for number in here
            if (state := states[number]).ranges and any(low <= code <= high for low, high in state.ranges)
        )

    def _reached(self, numbers: Iterator[int] | tuple[int, ...]) -> frozenset[int]:
        """These states and all to which they go without a character."""
        found: set[int] = set()
        ahead = list(numbers)
        while ahead:
            number = ahead.pop()
            if number not in found:
                found.add(number)
                if self._states[number].ranges is None:
                    ahead += self._states[number].then
        return frozenset(found)

    def _add(self, ranges: Ranges | None, then: tuple[int, ...]) -> int:
        if len(self._states) >= MAX_STATES:
            raise BadExpression(f"the expression needs more than {MAX_STATES} states: repeat less")
        self._states.append(_State(ranges, then))
        return len(self._states) - 1

    def _build(self, node: _Node, then: int) -> int:
        """The first state of an automaton for `node` that ends in `then`."""
        match node:
            case _Set(ranges):
                return self._add(ranges, (then,))
            case _Join(parts):
                for part in reversed(parts):
                    then = self._build(part, then)
                return then
            case _Either(ways):
                return self._add(None, tuple(self._build(way, then) for way in ways))
            case _Repeat(what, low, high):
                return self._repeat(what, low, high, then)

    def _repeat(self, what: _Node, low: int, high: int | None, then: int) -> int:
        if high is None:
            loop = self._add(None, ())
            self._states[loop] = _State(None, (self._build(what, loop), then))
            then = loop
        else:
            end = then
            for _ in range(high - low):
                then = self._add(None, (self._build(what, then), end))
        for _ in range(low):
            then = self._build(what, then)
        return then
