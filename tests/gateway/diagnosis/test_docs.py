"""docs/diagnosis.md names every refusal and every kind of finding with its remedy, and the bounds as they are."""

import re
from pathlib import Path

from gateway.diagnosis import book, diagnoser, heard, keys
from gateway.diagnosis.explanations import EXPLANATIONS
from gateway.diagnosis.reasons import Kind, Weight
from gateway.lorawan.outcome import Reason

TEXT = (Path(__file__).parents[3] / "docs" / "diagnosis.md").read_text()
REFUSALS = TEXT.split("## Why a frame was refused\n")[1].split("\n## ")[0]
WEIGHTS = {Weight.NOTE: "note", Weight.HURTS: "hurts", Weight.STOPS: "stops"}


def test_every_kind_of_finding_is_explained_as_the_gateway_does():
    rows = re.findall(r"^\| `(\w+)` \| (note|hurts|stops) \| (.+) \| (.+) \|$", TEXT, flags=re.MULTILINE)
    told = [
        (kind.value, WEIGHTS[each.weight], each.meaning, each.remedy) for kind, each in EXPLANATIONS.items()
    ]
    assert rows == told


def test_every_refusal_has_a_remedy():
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", REFUSALS, flags=re.MULTILINE)
    assert [reason for reason, _, _ in rows] == [reason.value for reason in Reason]


def test_every_kind_has_an_explanation():
    assert list(EXPLANATIONS) == list(Kind)


def test_the_bounds_are_those_of_the_code():
    for number in (
        book.MAX_PER_DEVICE,
        book.MAX_OWN,
        book.MAX_STRANGERS,
        diagnoser.STRANGERS_A_MINUTE,
        heard.MAX_LASTING + heard.MAX_ON_PROBATION,
        diagnoser.REFUSED_A_SECOND,
        keys.TESTS_PER_S,
        keys.MORE_ROLL_OVERS,
    ):
        assert re.search(rf"\b{number}\b", TEXT), number
