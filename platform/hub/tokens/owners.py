"""The most that a key of somebody can be for: his role's rights in the words of scopes.

A key is asked anew at each use and gets the lesser of its scopes and its owner's rights; this keeps a key from being
made for what he may not, so that a role he is given later does not reach keys that were made before.
"""

from __future__ import annotations

from hub.tokens.scopes import EVERYTHING, READ, VERBS, Scopes
from hub.users import ADMIN, MEMBER, TECHNICIAN, User


def _scopes(verbs: tuple[str, ...], *nouns: str) -> Scopes:
    return Scopes(f"{noun}:{verb}" for noun in nouns for verb in verbs)


_OWN = _scopes(VERBS, "keys")
_IN_GROUPS = Scopes(_OWN | _scopes(VERBS, "messages", "things", "channels", "groups", "certs"))
_VIEWER = Scopes(_OWN | _scopes((READ,), "messages", "things", "channels", "groups", "certs", "gateway"))
_TECHNICIAN = Scopes(_VIEWER | _scopes(VERBS, "messages", "things", "channels", "groups", "certs", "gateway"))


def most_of(user: User, *, in_groups: bool) -> Scopes:
    """All scopes that a key of this account may have; `in_groups`: it belongs to a group, which may give it more."""
    if user.role == ADMIN:
        return EVERYTHING
    if user.role == TECHNICIAN:
        return _TECHNICIAN
    own = _OWN if user.role == MEMBER else _VIEWER
    return Scopes(own | _IN_GROUPS) if in_groups else own
