"""Break one rule of the chip model at a time and see whether its directed tests notice.

python tests/hw_sim/mutate_chip.py [--only WORDS] [--table]      the table is the one of docs/hw_sim.md

The model, its tests and what they import are copied to a folder in memory; each mutation is written there and the
directed tests (`test_sx1276_*.py`) run until one fails. The exit status is 1 where fewer than 95 % are caught.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from tests.hw_sim.chip_mutations import MUTATIONS, Mutation  # noqa: E402

GOAL = 0.95
NEEDED = ("hw_sim", "radio", "gateway", "platform/hub", "tests/hw_sim")
DIRECTED = "test_sx1276_*.py"


@contextmanager
def workshop() -> Iterator[Path]:
    """A copy of all that the directed tests need."""
    shm = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="chip-", dir=shm if shm.is_dir() else None))
    try:
        for name in NEEDED:
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        yield folder
    finally:
        shutil.rmtree(folder)


def mutated(text: str, mutation: Mutation) -> str:
    """The module with one rule broken. Raises ValueError where the place is not found once."""
    if text.count(mutation.old) != 1:
        raise ValueError(f"{mutation.module}: {mutation.old!r} stands there {text.count(mutation.old)} times")
    return text.replace(mutation.old, mutation.new)


def caught_by(folder: Path, mutation: Mutation | None) -> str:
    """The name of the first test that fails; empty where all pass. None: with the model as it is."""
    path = folder / f"hw_sim/{mutation.module}.py" if mutation else None
    whole = path.read_text() if path else ""
    if path and mutation:
        path.write_text(mutated(whole, mutation))
    tests = sorted(str(each.relative_to(folder)) for each in (folder / "tests/hw_sim").glob(DIRECTED))
    command = [
        sys.executable,
        "-B",
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "--timeout=120",
        *tests,
    ]
    try:
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    finally:
        if path:
            path.write_text(whole)
    if run.returncode == 0:
        return ""
    found = re.search(r"^(?:FAILED|ERROR) \S*/(\w+\.py)(?:::(\w+))?", run.stdout, re.MULTILINE)
    return (found[2] or found[1]) if found else "the tests did not start"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default="", help="mutations whose rule holds these words")
    parser.add_argument("--table", action="store_true", help="print the table of the documentation")
    options = parser.parse_args()
    chosen = [each for each in MUTATIONS if options.only in each.rule]
    missed = []
    with workshop() as folder:
        if failing := caught_by(folder, None):
            sys.exit(f"the model as it is fails {failing}")
        chapter = ""
        for mutation in chosen:
            if options.table and mutation.chapter != chapter:
                chapter = mutation.chapter
                print(f"\n### {chapter}\n\n| rule | noticed by |\n|---|---|")
            test = caught_by(folder, mutation)
            if not test:
                missed.append(mutation)
            if options.table:
                print(f"| {mutation.rule} | {f'`{test}`' if test else 'nothing'} |", flush=True)
            else:
                print(f"{mutation.chapter}: {mutation.rule}: {test or 'NOT NOTICED'}", flush=True)
    caught = len(chosen) - len(missed)
    print(f"\n{caught} of {len(chosen)} mutations noticed, {caught / len(chosen):.1%}", file=sys.stderr)
    sys.exit(caught < GOAL * len(chosen))


if __name__ == "__main__":
    main()
