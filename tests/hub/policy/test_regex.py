"""Expressions mean what Python's own mean, refuse what has no automaton, and are never slow."""

from __future__ import annotations

import re
from random import Random

import pytest

from hub.policy.regex import MAX_KEPT, MAX_KEPT_STATES, MAX_STATES, BadExpression, Expression, parse


def expression(pattern: str) -> Expression:
    return Expression(parse(pattern))


def some_pattern(rng: Random, depth: int = 0) -> str:
    kind = rng.random()
    if depth > 3 or kind < 0.4:
        return rng.choice(
            [
                "a",
                "b",
                "c",
                ".",
                "[ab]",
                "[^a]",
                r"\d",
                r"\W",
                "[a-c]",
                r"\.",
                "ab",
                "x?",
                "[]a]",
                "[a-]",
                r"[\s1]",
                r"\n",
            ]
        )
    if kind < 0.6:
        return some_pattern(rng, depth + 1) + some_pattern(rng, depth + 1)
    if kind < 0.75:
        return f"({some_pattern(rng, depth + 1)}|{some_pattern(rng, depth + 1)})"
    if kind < 0.9:
        return f"(?:{some_pattern(rng, depth + 1)})" + rng.choice(
            ["*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}", "*?"]
        )
    return f"{some_pattern(rng, depth + 1)}|{some_pattern(rng, depth + 1)}"


def test_random_expressions_match_what_python_says() -> None:
    rng = Random(7)
    for _ in range(3000):
        pattern = some_pattern(rng)
        ours, theirs = expression(pattern), re.compile(pattern, re.ASCII)
        for _ in range(6):
            text = "".join(rng.choice("abc.1x \n") for _ in range(rng.randrange(7)))
            assert ours.matches(text) == (theirs.fullmatch(text) is not None), (pattern, text)


def test_a_part_of_a_text_may_be_looked_for() -> None:
    rng = Random(9)
    for _ in range(500):
        inside = some_pattern(rng, 2)
        pattern = (
            rng.choice(["", "^"]) + (inside if "|" not in inside else f"({inside})") + rng.choice(["", "$"])
        )
        ours, theirs = (
            Expression(parse(pattern, anywhere=True)),
            re.compile(pattern.replace("$", r"\Z"), re.ASCII),
        )
        for _ in range(6):
            text = "".join(rng.choice("abc.1x") for _ in range(rng.randrange(7)))
            assert ours.matches(text) == (theirs.search(text) is not None), (pattern, text)


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param("(a+)+b", id="nested repetition"),
        pytest.param("(a|a)*b", id="the same twice"),
        pytest.param("(a|aa)*(a|aa)*b", id="many ways to share"),
        pytest.param("a{0,400}a{0,400}b", id="counted"),
    ],
)
def test_what_kills_a_backtracking_engine_costs_one_step_a_character(pattern: str) -> None:
    """Steps are counted, not timed: each character is one look-up or one step."""
    made = expression(pattern)
    steps = 0
    step = Expression._step

    def counting(self: Expression, here: frozenset[int], code: int) -> frozenset[int]:
        nonlocal steps
        steps += 1
        return step(self, here, code)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Expression, "_step", counting)
        assert not made.matches("a" * 5000)
        assert made.matches("a" * 300 + "b")
    assert steps <= 5301


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        pytest.param("(?=a)", "look-around", id="look-ahead"),
        pytest.param("(?<!a)b", "look-around", id="look-behind"),
        pytest.param("(?i)a", "flags", id="flags"),
        pytest.param(r"(a)\1", r"\1 is not supported", id="back-reference"),
        pytest.param("(a", "not closed", id="group"),
        pytest.param("a)", "closing parenthesis", id="parenthesis"),
        pytest.param("[a", "not closed", id="class"),
        pytest.param("[b-a]", "ends before it begins", id="range"),
        pytest.param("*a", "repeats nothing", id="star"),
        pytest.param("a**", "repetition of a repetition", id="twice"),
        pytest.param("a{2,1}", "up to", id="counts"),
        pytest.param("a{1001}", "1000", id="too often"),
        pytest.param("a{x}", "write", id="brace"),
        pytest.param("a^b", "whole text", id="anchor inside"),
        pytest.param("a\\", "at the end", id="backslash"),
        pytest.param("(a{900}){900}", f"{MAX_STATES} states", id="too large"),
        pytest.param("(" * 60 + ")" * 60, "deep", id="too deep"),
        pytest.param("a" * 1025, "1024", id="too long"),
    ],
)
def test_what_cannot_be_used_is_said(pattern: str, says: str) -> None:
    with pytest.raises(BadExpression, match=re.escape(says)):
        expression(pattern)


def test_what_is_remembered_has_a_bound() -> None:
    made = expression("(.*)(x.{20})(.*)")
    rng = Random(3)
    for _ in range(200):
        made.matches("".join(rng.choice("abcdefghijklmnopx") for _ in range(60)))
    assert len(made._kept) <= MAX_KEPT


def test_damaged_expressions_raise_one_error_only() -> None:
    rng = Random(11)
    alphabet = "ab()[]{}|*+?\\^$.-,12<>:=!dws"
    for _ in range(20_000):
        pattern = "".join(rng.choice(alphabet) for _ in range(rng.randrange(12)))
        try:
            expression(pattern).matches("aab1")
        except BadExpression:
            continue


def test_what_is_remembered_of_a_large_expression_is_bounded() -> None:
    made = Expression(parse("(.{0,400}x){0,2}"))
    for char in "abc":
        made.matches(char * 1000)
        assert sum(map(len, made._kept.values())) <= MAX_KEPT_STATES
    assert made._kept
