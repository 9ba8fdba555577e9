"""What each module of a gateway is for, and what those are for whose owner has not said. Pure."""

from collections.abc import Hashable, Sequence
from enum import StrEnum


class Role(StrEnum):
    """What a module is for."""

    AUTO = "auto"  # whatever suits the others: `default_roles`
    RX = "rx"
    TX = "tx"
    RXTX = "rxtx"

    @property
    def receives(self) -> bool:
        """Whether the module listens."""
        return self is not Role.TX

    @property
    def transmits(self) -> bool:
        """Whether the module may be asked to send."""
        return self is not Role.RX


def default_roles(
    roles: Sequence[Role],
    channels: Sequence[Hashable] = (),
    must_listen: Sequence[bool] = (),
    private: Sequence[bool] = (),
) -> tuple[Role, ...]:
    """The roles with every AUTO replaced.

    A lone module does everything. Of several, one sends for all and the others listen, so that a downlink deafens
    no receiver; a module whose role is given and that sends is this one already. The sender is the last module that
    would have listened where another one listens as well (`channels`: where each would), or else the last of all.
    Modules that `must_listen` come last; one of these sends and listens. Those that are `private` hear another kind
    of nodes, so they listen beside the others, which are seen for themselves; any of them sends to any node.
    """
    if any(private):
        return _beside_private(roles, channels, must_listen, private)
    plan = list(roles)
    unsaid = [i for i, role in enumerate(roles) if role is Role.AUTO]
    for i in unsaid:
        plan[i] = Role.RX
    if not unsaid or any(role.transmits and role is not Role.AUTO for role in roles):
        return tuple(plan)

    def suits(i: int) -> tuple[bool, bool, int]:
        free = not (i < len(must_listen) and must_listen[i])
        doubled = i < len(channels) and channels.count(channels[i]) > 1
        return free, doubled, i

    sender = max(unsaid, key=suits)
    plan[sender] = Role.TX if suits(sender)[0] and len(roles) > 1 else Role.RXTX
    return tuple(plan)


def _beside_private(
    roles: Sequence[Role],
    channels: Sequence[Hashable],
    must_listen: Sequence[bool],
    private: Sequence[bool],
) -> tuple[Role, ...]:
    ordinary = [i for i in range(len(roles)) if not (i < len(private) and private[i])]
    plan: list[Role] = [Role.RX if role is Role.AUTO else role for role in roles]
    found = default_roles(
        [roles[i] for i in ordinary],
        [channels[i] for i in ordinary if i < len(channels)],
        [must_listen[i] for i in ordinary if i < len(must_listen)],
    )
    for i, role in zip(ordinary, found, strict=True):
        plan[i] = role
    if not any(role.transmits for role in plan):
        unsaid = [i for i, role in enumerate(roles) if role is Role.AUTO]
        if unsaid:
            plan[unsaid[-1]] = Role.RXTX
    return tuple(plan)
