"""The harnesses of this folder are imported as `torture.*`, by the tests and by run.py alike."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub import database, disk, history_tail, log_writer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


@pytest.fixture(autouse=True)
def _bounds_of_small_disks_stay_here() -> Iterator[None]:
    """A harness makes the bounds of the process small that looks at a disk; other tests want them as they are."""
    whole = {module: dict(vars(module)) for module in (database, disk, history_tail, log_writer)}
    yield
    for module, values in whole.items():
        for name, value in values.items():
            if name.isupper():
                setattr(module, name, value)
