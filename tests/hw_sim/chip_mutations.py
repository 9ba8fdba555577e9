"""The rules of the SX1276 and how each is broken: read from `chip_mutations.toml`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import NamedTuple


class Mutation(NamedTuple):
    """One rule broken: in `module` of hw_sim, `old` becomes `new`. `old` stands there once."""

    chapter: str
    rule: str
    module: str
    old: str
    new: str


_LIST = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())

MUTATIONS = tuple(Mutation(**each) for each in _LIST["mutation"])
