"""The configured modules as the radio process runs them: `auto` replaced by what it stands for."""

from collections.abc import Sequence

import msgspec

from gateway.settings import ModuleSection
from radio.roles import Role, default_roles


def with_roles(modules: Sequence[ModuleSection]) -> tuple[ModuleSection, ...]:
    """Every module with a role of its own (`radio.roles.default_roles`)."""
    roles = default_roles(
        [Role(module.role) for module in modules],
        [(module.freq_hz, module.sf, module.bw_hz) for module in modules],
        [bool(module.sweep_sfs) or module.kind == "rn2483" for module in modules],
        [module.sync_word == "private" for module in modules],
    )
    return tuple(
        msgspec.structs.replace(module, role=str(role)) for module, role in zip(modules, roles, strict=True)
    )
