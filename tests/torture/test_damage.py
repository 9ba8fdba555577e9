"""Random damage to the files of a stopped gateway, in short; `python tests/torture/run.py damage` is the long run."""

from __future__ import annotations

from torture import damage


def test_damaged_files_never_keep_the_gateway_from_starting_and_losses_are_said() -> None:
    findings = damage.run(40, seed=1)
    print(findings)
    assert findings.problems == []
    assert findings.damages == 40
    assert findings.losses > 2


def test_control_without_second_copies_identity_is_lost() -> None:
    findings = damage.run(20, seed=2, careless=True)
    assert any("a thing's key did not survive" in problem for problem in findings.problems)
