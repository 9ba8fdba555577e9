"""Long runs of the harnesses: as many crashes, faults, damages and hostile inputs as one has time for.

python tests/torture/run.py [cuts|kills|faults|damage|fuzz|gwmp|station|chip|diagnosis|policies|replays|flood ...]
                            [--count N] [--seed S] [--minutes M] [--only TARGET ...]
python tests/torture/run.py again <folder>      one failing power cut once more

Each harness ends with one line: counts, seed, and how many problems. The exit status is 1 where there was one. Its
control, the same run against a fault put in on purpose, comes first and must find something.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CONTROLS = 3  # tried at most, until one has lost something
sys.path[:0] = [str(ROOT), str(ROOT / "platform"), str(ROOT / "tests")]


def cuts(count: int, seed: int, minutes: float | None) -> bool:
    from torture import cuts

    for synchronous in ("NORMAL", "OFF"):
        for other in range(CONTROLS):  # a life may lose its sessions and nothing that was acknowledged
            control = cuts.run(300, seed + other, synchronous)
            print(
                f"control, synchronous={synchronous}: {control.cuts} cuts, {dict(control.problems)}",
                flush=True,
            )
            if control.problems["lost"]:
                break
        else:
            print("the control found nothing: the harness is blind")
            return False
    began = time.monotonic()
    findings = cuts.run_on_all_cores(count, seed, minutes)
    spent = time.monotonic() - began
    print("\n".join(findings.examples))
    print(
        f"cuts: {findings.cuts} power cuts in {findings.lives} lives, {findings.with_clients} with clients coming "
        f"back, {findings.cuts / spent:.0f}/s, seed {seed}: {dict(findings.problems) or 'no problem'}"
    )
    return not findings.problems


def kills(count: int, seed: int, minutes: float | None) -> bool:
    from torture import kills

    control = kills.run(10, seed, early=True)
    print(f"control, acknowledged before the commit: {control}", flush=True)
    if not control.problems:
        print("the control found nothing: the harness is blind")
        return False
    findings = kills.run(count, seed, minutes=minutes, say=lambda line: print(line, flush=True))
    print("\n".join(findings.problems))
    print(f"kills: {findings}, seed {seed}")
    return not findings.problems


def faults(count: int, seed: int, minutes: float | None) -> bool:
    from torture import faults

    control = faults.run(300, seed, early=True)
    print(f"control, acknowledged before the commit: {control}", flush=True)
    if not control.problems:
        print("the control found nothing: the harness is blind")
        return False
    findings = faults.run(count or None, seed, minutes=minutes, say=lambda line: print(line, flush=True))
    print("\n".join(findings.problems))
    print(f"faults: {findings}, seed {seed}")
    return not findings.problems


def damage(count: int, seed: int, minutes: float | None) -> bool:
    from torture import damage

    control = damage.run(100, seed, careless=True)
    print(f"control, without second copies: {control}", flush=True)
    if not control.problems:
        print("the control found nothing: the harness is blind")
        return False
    findings = damage.run(count, seed, minutes=minutes)
    print("\n".join(findings.problems))
    print(f"damage: {findings}, seed {seed}")
    return not findings.problems


def fuzz(count: int, seed: int, minutes: float | None, only: Sequence[str] = ()) -> bool:
    from torture import fuzz
    from torture.fuzz_targets import TARGETS

    unknown = set(only) - set(TARGETS)
    if unknown:
        print(f"no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
        return False
    names = [*only] or [*TARGETS]
    name = "mqtt 3.1.1 decoder"
    control = fuzz.run(name, fuzz.sabotaged(TARGETS[name]), 200_000, seed)
    print(f"control, with an error put in: {control}", flush=True)
    if not control.problems:
        print("the control found nothing: the harness is blind")
        return False
    good, total = True, 0
    for result in fuzz.run_on_all_cores(names, count, seed, minutes):
        print(result, flush=True)
        for problem in result.problems:
            print(problem)
        good &= not result.problems
        total += result.inputs
    print(
        f"fuzz: {total} inputs for {len(names)} targets, seed {seed}: {'no problem' if good else 'problems above'}"
    )
    return good


def chip(count: int, seed: int, minutes: float | None) -> bool:
    from torture import chip_faults

    control = chip_faults.run(200, seed, checks=False)
    print(f"control, a driver without its checks: {control}", flush=True)
    if not control.problems:
        print("the control found nothing: the harness is blind")
        return False
    findings = chip_faults.run(count, seed, minutes=minutes, say=lambda line: print(line, flush=True))
    print("\n".join(findings.problems))
    print(f"chip: {findings}, seed {seed}")
    return not findings.problems


def policies(count: int, seed: int, minutes: float | None) -> bool:
    from torture import policies

    control = policies.run(300, seed, allow_outranks=True)
    print(f"control, permissions that outrank denials: {len(control.differences)} differences", flush=True)
    if not control.differences:
        print("the control found nothing: the harness is blind")
        return False
    found = policies.run(count, seed, minutes=minutes)
    print("\n".join(found.differences[:10]))
    print(
        f"policies: {found.sets} sets, {dict(found.answers)}, seed {seed}: {len(found.differences)} differences"
    )
    return not found.differences


def replays(count: int, seed: int, minutes: float | None) -> bool:
    from torture import noncememory, replays

    control = replays.run(20_000, seed, forgets=True)
    print(f"control, a store that forgets: {control.accepted_twice} frames accepted twice", flush=True)
    if not control.accepted_twice:
        print("the control found nothing: the harness is blind")
        return False
    began = time.monotonic()
    result = replays.run(count, seed)
    print("\n".join(result.problems))
    print(f"replays: {result}, {result.frames / (time.monotonic() - began):.0f}/s, seed {seed}")
    print("\n".join(noncememory.report()))
    return not result.problems


def flood(count: int, seed: int, minutes: float | None) -> bool:
    from torture import joinflood

    result = joinflood.run(count, seed)
    print(f"flood: {result}, seed {seed}")
    return result.good


def gwmp(count: int, seed: int, minutes: float | None) -> bool:
    from torture import gwmp_damage

    return _link("gwmp", gwmp_damage, count, seed, minutes)


def station(count: int, seed: int, minutes: float | None) -> bool:
    from torture import station_damage

    return _link("station", station_damage, count, seed, minutes)


def diagnosis(count: int, seed: int, minutes: float | None) -> bool:
    from torture import diagnosis, diagnosis_air

    control = diagnosis.run(max(1, count // 10), seed, hypotheses=False)
    print(f"control, no mistake tried: {100 * control.share:.1f} % right", flush=True)
    if control.share >= diagnosis.RIGHT:
        print("the control is as good: the harness is blind")
        return False
    result = diagnosis.run(count, seed)
    print(f"{result.table()}, seed {seed}", flush=True)
    good = result.share >= diagnosis.RIGHT
    for world in range(max(1, count // 10)):  # two hours each, of which a world takes half a minute
        found = diagnosis_air.run(seed + world)
        told = "; ".join(found.wrong + found.false_alarms) or "no false alarm"
        print(f"on the air: {100 * found.share:.0f} % of {len(found.said)} named right, {told}", flush=True)
        good = good and not found.false_alarms and found.share >= diagnosis.RIGHT
    return good


def _link(link: str, harness: Any, count: int, seed: int, minutes: float | None) -> bool:
    """Damage for both ends of a link to gateways, after its two controls."""
    for name, control in (("errors let out", harness.careless_run), ("no bound", harness.talkative_run)):
        found = control(20_000, seed)
        print(f"control, {name}: {found}", flush=True)
        if not found.problems:
            print("the control found nothing: the harness is blind")
            return False
    result = harness.run(count, seed, minutes)
    print("\n".join(result.problems))
    print(f"{link}: {result}, seed {seed}")
    return not result.problems


LISTENING = ("damage", "fuzz", "gwmp", "station")  # what the hub logs is part of what they check
HARNESSES: dict[str, tuple[Callable[[int, int, float | None], bool], int]] = {
    "cuts": (cuts, 100_000),
    "kills": (kills, 10_000),
    "faults": (faults, 0),
    "damage": (damage, 1000),
    "fuzz": (fuzz, 10_000_000),
    "gwmp": (gwmp, 1_000_000),
    "station": (station, 1_000_000),
    "chip": (chip, 10_000),
    "diagnosis": (diagnosis, 20),
    "policies": (policies, 100_000),
    "replays": (replays, 1_000_000),
    "flood": (flood, 300),
}


def main() -> int:
    if sys.argv[1:2] == ["again"]:
        from torture.cuts import again

        problems = again(Path(sys.argv[2]))
        print("\n".join(f"{kind}: {text}" for kind, text in problems) or "no problem")
        return 1 if problems else 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("harness", nargs="*", help=", ".join(HARNESSES))
    parser.add_argument("--count", type=int, help="how many; each harness has a default of its own")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--minutes", type=float, help="stop after this long")
    parser.add_argument(
        "--only", action="append", default=[], help="a target of fuzz, instead of all of them"
    )
    given = parser.parse_args()
    unknown = set(given.harness) - set(HARNESSES)
    if unknown:
        parser.error(f"no harness {', '.join(sorted(unknown))}; there are {', '.join(HARNESSES)}")
    good = True
    for name in given.harness or HARNESSES:
        run, count = HARNESSES[name]
        if name == "fuzz":
            run = partial(fuzz, only=given.only)
        logging.disable(logging.NOTSET if name in LISTENING else logging.CRITICAL)
        print(f"=== {name}, seed {given.seed}", flush=True)
        good &= run(count if given.count is None else given.count, given.seed, given.minutes)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
