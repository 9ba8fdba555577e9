"""Some thousand random policy sets against the reference; `run.py policies` takes a hundred thousand."""

from torture import policies


def test_random_policies_decide_as_the_reference_says() -> None:
    found = policies.run(1200, 6)
    assert found.differences == []
    assert min(found.answers.values()) > 500  # all three answers


def test_a_permission_that_outranks_a_denial_is_found() -> None:
    assert policies.run(300, 6, allow_outranks=True).differences
