"""Faults of devices and gateways, injected one by one, and what the diagnosis makes of each.

Frames are built as a device builds them and go through the real LoRaWAN server; the gateway's radio is told to
behave as the fault asks (`diagnosis_site`). Each fault has variants, chosen by its seed. `run` counts what was said
against what was wrong: the confusion table of `run.py diagnosis`.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

from gateway.diagnosis.reasons import Kind

from . import diagnosis_data, diagnosis_joins, diagnosis_rest  # they note their faults in FAULTS
from .diagnosis_site import FAULTS

__all__ = ["FAULTS", "RIGHT", "Result", "diagnosis_data", "diagnosis_joins", "diagnosis_rest", "run"]

RIGHT = 0.95  # of the faults have to be named


@dataclass
class Result:
    """What was said of what was wrong."""

    said: dict[Kind, Counter[str]] = field(default_factory=dict)

    @property
    def injected(self) -> int:
        return sum(said.total() for said in self.said.values())

    @property
    def right(self) -> int:
        return sum(said[kind.value] for kind, said in self.said.items())

    @property
    def share(self) -> float:
        return self.right / self.injected if self.injected else 0.0

    def table(self) -> str:
        """One line a fault: how often it was named, and what was said instead."""
        lines = [f"{'injected':26} {'times':>6} {'right':>6}  said instead"]
        for kind, said in self.said.items():
            wrong = ", ".join(f"{name} {n}" for name, n in said.most_common() if name != kind.value)
            lines.append(f"{kind.value:26} {said.total():6} {said[kind.value]:6}  {wrong}")
        lines.append(
            f"{len(self.said)} kinds, {self.injected} faults, {self.right} diagnosed right:"
            f" {100 * self.share:.1f} %"
        )
        return "\n".join(lines)


def run(seeds: int, first_seed: int = 1, *, hypotheses: bool = True) -> Result:
    """Inject each variant of each fault with so many seeds."""
    result = Result()
    for kind, variants in FAULTS.items():
        said = result.said[kind] = Counter()
        for variant in variants:
            for seed in range(first_seed, first_seed + seeds):
                rng = random.Random(f"{kind} {variant.__name__} {seed}")
                site, subject = variant(rng, hypotheses)
                found = site.diagnoser.verdict(subject)
                if found is None:  # it is over already: what was it?
                    found = next(iter(site.diagnoser.search(dev_eui=subject)), None) if subject else None
                said[found.kind.value if found is not None else "nothing"] += 1
    return result
