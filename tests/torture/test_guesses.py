"""The long attack of guesses.py, for a moment."""

from __future__ import annotations

from pathlib import Path

import argon2
import pytest
from torture.guesses import MOST_AN_HOUR, WAYS, attack

from hub import passwords


@pytest.mark.parametrize("name", WAYS)
def test_guesses_are_few_and_the_owner_gets_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    hasher = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", hasher)
    monkeypatch.setattr(passwords, "_NOBODY", hasher.hash("nobody has this password"))
    found = attack(tmp_path, WAYS[name], 1500, 3.0, codes=name.startswith("codes"))
    assert 0 < max(found.by_hour.values()) <= MOST_AN_HOUR
    assert found.kept_out == 0
