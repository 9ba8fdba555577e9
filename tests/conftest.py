"""What holds for all tests: with `--no-skips`, as `make test` asks, a test that is skipped has failed.

Properties are tried on the same examples in each run, so that a version passes or does not; to look for new ones:
`pytest -m hypothesis --hypothesis-profile=default --hypothesis-seed=<number>`.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Generator

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")

# httpcore tries to import sniffio four times a request, and Python does not remember a search that found nothing:
# that was nearly half of what a request cost.
if importlib.util.find_spec("sniffio") is None:
    sys.modules["sniffio"] = None  # type: ignore[assignment]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a skipped test is a failed one")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and item.config.getoption("no_skips"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and nothing may be: {report.longreprtext}"
    return report
