"""What modules are for where nobody has said."""

from __future__ import annotations

import pytest

from radio.config import ModuleConfig, RadioConfig
from radio.roles import Role, default_roles

A, R, T, B = Role.AUTO, Role.RX, Role.TX, Role.RXTX


@pytest.mark.parametrize(
    ("given", "plan"),
    [
        pytest.param([A], [B], id="a lone module does everything"),
        pytest.param([A, A], [R, T], id="of two, one sends for both"),
        pytest.param([A, A, A, A], [R, R, R, T], id="of four, three listen"),
        pytest.param([T, A, A], [T, R, R], id="a sender is there already"),
        pytest.param([A, B, A], [R, B, R], id="one that does both sends"),
        pytest.param([R, A], [R, T], id="the one that nobody spoke of sends"),
        pytest.param([R, R], [R, R], id="a gateway that only listens is left so"),
        pytest.param([B, B], [B, B], id="what is said is kept"),
        pytest.param([], [], id="no modules"),
    ],
)
def test_roles_nobody_gave(given: list[Role], plan: list[Role]) -> None:
    assert default_roles(given) == tuple(plan)


def test_the_sender_is_one_whose_channel_another_hears_as_well() -> None:
    assert default_roles([A, A, A], ["868.1", "868.1", "868.3"]) == (R, T, R)


def test_a_module_that_must_listen_sends_only_if_no_other_can() -> None:
    assert default_roles([A, A], must_listen=[False, True]) == (T, R)
    assert default_roles([A, A], must_listen=[True, True]) == (R, B)


def test_a_configuration_has_no_role_left_open() -> None:
    modules = tuple(
        ModuleConfig("fluxgate-sim-4", i, freq_hz=868_100_000 + 200_000 * (i % 3)) for i in range(4)
    )
    config = RadioConfig(modules=modules, gateway_eui=bytes(8))
    assert [module.role for module in config.modules] == [R, R, R, T]
    assert [module.role for module in RadioConfig(modules=modules[:1], gateway_eui=bytes(8)).modules] == [B]
