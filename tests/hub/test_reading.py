"""Parameters of readers: what each may say, in whichever form; whatever comes, only Invalid gets out."""

from __future__ import annotations

import random

import pytest

from hub.errors import Invalid
from hub.history_model import Place, Query, check, write_token
from hub.reading import PARAMETERS, duration, number, read_query

TOKEN = write_token(Place(1.5, 2, 3))


def test_what_is_not_given_is_any_value_and_what_is_empty_is_only_for_texts() -> None:
    assert read_query("c", "", []) == (Query("c"), {})
    empty = [(name, "") for name in sorted(PARAMETERS)]
    query, echoed = read_query("c", "", empty)
    assert query == Query("c", name="", subtopic="", publisher="", protocol="", vs="", vd="")
    assert echoed == dict.fromkeys(("subtopic", "publisher", "protocol", "name", "vs", "vd"), "")


def test_zero_and_false_are_values() -> None:
    zeros = [("v", "0"), ("vb", "false"), ("from", "0"), ("to", "0"), ("offset", "0")]
    query, echoed = read_query("c", "", zeros)
    assert (query.v, query.vb, query.from_s, query.to_s, query.offset) == (0.0, False, 0.0, 0.0, 0)
    assert echoed == {"v": 0.0, "vb": False, "from": 0.0, "to": 0.0}


def test_path_names_the_subtopic_where_the_parameter_does_not_say_otherwise() -> None:
    for given in ([], [("subtopic", "")], [("subtopic", "a.b")], [("subtopic", "a/b")]):
        assert read_query("c", "a.b", given)[0].subtopic == "a.b"
    with pytest.raises(Invalid, match="different subtopics"):
        read_query("c", "a.b", [("subtopic", "a.c")])


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("-0.5", -0.5), (".5", 0.5), ("5.", 5), ("+1", 1), ("1e3", 1000), ("1E-2", 0.01)],
)
def test_numbers(text: str, value: float) -> None:
    assert number(text) == value


@pytest.mark.parametrize(
    "text", ["", "x", "nan", "inf", "-Infinity", "1e999", "1_000", " 1", "1 ", "0x10", "\u0661", "1e", "--1"]
)
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match="is a number"):
        number(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172_800), ("5ms", 0.005)]
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["h", "1x", "1h30", "\u0661h", "1 h", "9" * 33])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"is a duration|at most 32"):
        duration(text)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ([("limit", "1"), ("limit", "2")], "limit"),
        ([("next", TOKEN), ("previous", TOKEN)], "next or previous"),
        ([("next", TOKEN[:-1])], "next"),
        ([("previous", TOKEN + "A")], "previous"),
        ([("vb", "yes")], "vb"),
        ([("offset", "-1")], "offset"),
    ],
)
def test_refusals_name_the_parameter(given: list[tuple[str, str]], named: str) -> None:
    with pytest.raises(Invalid, match=named):
        read_query("c", "", given)


def test_the_same_twice_is_said_once_and_what_is_unknown_is_passed_over() -> None:
    assert read_query("c", "", [("limit", "3"), ("limit", "3"), ("x", "1"), ("x", "2")])[0].limit == 3


def test_damaged_parameters_raise_nothing_but_invalid() -> None:
    rng = random.Random(8428)
    seeds = ["1", "-1.5e3", "true", "1h30m", "eq", "avg", TOKEN, "a/b", "AP8-_w", "\U0001f33f", "\0", "%", ""]
    names = [*sorted(PARAMETERS), "auth", ""]
    outcomes = set()
    for _ in range(20_000):
        given = []
        for _ in range(rng.randrange(1, 6)):
            text = list(rng.choice(seeds))
            for _ in range(rng.randrange(3)):
                text[rng.randrange(len(text) + 1) : rng.randrange(len(text) + 1)] = rng.choice(seeds)
            given.append((rng.choice(names), "".join(text)))
        try:
            check(read_query("c", rng.choice(("", "a.b")), given)[0])
            outcomes.add("taken")
        except Invalid:
            outcomes.add("refused")
    assert outcomes == {"taken", "refused"}
