"""The list of broken rules: every place is in the model, and some of them are tried."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

from tests.hw_sim.chip_mutations import MUTATIONS
from tests.hw_sim.mutate_chip import ROOT, caught_by, mutated, workshop

DOCUMENT = ROOT / "docs" / "hw_sim.md"
TESTS = "".join(path.read_text() for path in Path(__file__).parent.glob("test_sx1276_*.py"))


def test_every_mutation_has_its_one_place_in_the_model() -> None:
    for mutation in MUTATIONS:
        text = (ROOT / f"hw_sim/{mutation.module}.py").read_text()
        assert mutated(text, mutation) != text
    assert len({(each.module, each.old, each.new) for each in MUTATIONS}) == len(MUTATIONS)


def test_every_rule_is_listed_with_a_directed_test_that_exists() -> None:
    listed: Counter[str] = Counter()
    for line in DOCUMENT.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 2 and cells[1].startswith("`test_"):
            listed[cells[0]] += 1
            assert f"def {cells[1].strip('`')}(" in TESTS, cells
    assert listed == Counter(mutation.rule for mutation in MUTATIONS)


def test_a_broken_rule_is_noticed_and_the_whole_model_is_not() -> None:
    with workshop() as folder:
        assert caught_by(folder, None) == ""
        for mutation in random.Random(8).sample(MUTATIONS, 2):
            assert caught_by(folder, mutation), mutation.rule
