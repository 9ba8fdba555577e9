"""The one seam that says who may do what; every door asks it, none decides for itself.

In: a principal that was authenticated, an action, a resource. Out: allowed or not, and why. Whatever is not
allowed here is denied. It is asked at publish, at subscribe and again at each delivery; decisions are
remembered until the registry changes, so a right that is taken away is gone with the next question.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .registry import Change, ChangeKind, Registry, Thing, User
from .topics import ANY_CHANNEL

MAX_CACHED = 100_000  # decisions remembered; then the memory starts afresh


class Action(enum.StrEnum):
    CONNECT = "connect"
    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"
    DELIVER = "deliver"
    MANAGE = "manage"


class Principal(NamedTuple):
    """Who asks. `kind` is "thing", "user" or "internal".

    `version` is the thing's key version at the time it showed its key; None where it did not show one.
    """

    kind: str
    id: str
    version: int | None = None

    @classmethod
    def of_thing(cls, thing: Thing) -> Principal:
        """A thing that has just shown its key."""
        return cls("thing", thing.id, thing.key_version)

    @classmethod
    def of_user(cls, user: User) -> Principal:
        return cls("user", user.id)

    @classmethod
    def internal(cls, part: str) -> Principal:
        """A part of the gateway, one of INTERNAL."""
        return cls("internal", part)


class Resource(NamedTuple):
    """What is asked for; `channel` "+" stands for all channels, "" for none in particular."""

    channel: str = ""
    subtopic: str = ""


class Decision(NamedTuple):
    """`reason` is a sentence for a technician, also where it is allowed."""

    allowed: bool
    reason: str


# What the gateway's own parts need, and no more.
INTERNAL: Mapping[str, frozenset[Action]] = {
    "lorawan": frozenset({Action.CONNECT, Action.PUBLISH, Action.SUBSCRIBE, Action.DELIVER}),
    "upstream": frozenset({Action.CONNECT, Action.PUBLISH, Action.SUBSCRIBE, Action.DELIVER}),
    "history": frozenset({Action.SUBSCRIBE, Action.DELIVER}),
    "gateway": frozenset(Action),
}

_USER_ACTIONS = frozenset({Action.CONNECT, Action.SUBSCRIBE, Action.DELIVER, Action.MANAGE})
_CONNECTED = Decision(True, "the thing is connected to the channel")


class Access:
    """Decides from the registry. Belongs to the event loop's thread."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._epoch = 0
        self._decisions: dict[tuple[Principal, Action, str], Decision] = {}
        self._on_revoke: list[Callable[[], None]] = []
        self.denied = 0
        registry.on_change(self._registry_changed)

    def decide(
        self,
        principal: Principal,
        action: Action,
        resource: Resource,
        context: Mapping[str, Any] | None = None,
        now: float = 0,
    ) -> Decision:
        """Whether `principal` may do `action` to `resource`.

        `context` (address, protocol) and `now` (UTC seconds) are for rules that ask for them; today none
        does.
        """
        epoch = self._registry.epoch
        if epoch != self._epoch or len(self._decisions) >= MAX_CACHED:
            self._decisions.clear()
            self._epoch = epoch
        key = (principal, action, resource.channel)
        decision = self._decisions.get(key)
        if decision is None:
            decision = self._decisions[key] = self._decide(principal, action, resource.channel)
        if not decision.allowed:
            self.denied += 1
        return decision

    def _decide(self, principal: Principal, action: Action, channel: str) -> Decision:
        match principal.kind:
            case "thing":
                return self._decide_thing(principal, action, channel)
            case "user":
                return self._decide_user(principal, action, channel)
            case "internal":
                if action in INTERNAL.get(principal.id, frozenset()):
                    return self._existing(channel, f"{principal.id} is a part of the gateway")
                return Decision(False, f"no part of the gateway {principal.id!r} may {action}")
        return Decision(False, f"unknown kind of principal {principal.kind!r}")

    def _decide_thing(self, principal: Principal, action: Action, channel: str) -> Decision:
        thing = self._registry.thing(principal.id)
        if thing is None:
            return Decision(False, "there is no such thing")
        if principal.version is not None and principal.version != thing.key_version:
            return Decision(False, "the thing has a new key")
        if action is Action.MANAGE:
            return Decision(False, "things do not manage the gateway")
        if action is Action.CONNECT and not channel:
            return Decision(True, "the thing is known")
        if not self._registry.connected(channel, thing.id):
            return Decision(False, "the thing is not connected to the channel")
        return _CONNECTED

    def _decide_user(self, principal: Principal, action: Action, channel: str) -> Decision:
        if self._registry.user(principal.id) is None:
            return Decision(False, "there is no such user")
        if action not in _USER_ACTIONS:
            return Decision(False, "messages are published by things")
        return self._existing(channel, "the user administers the gateway")

    def _existing(self, channel: str, reason: str) -> Decision:
        if channel in ("", ANY_CHANNEL) or self._registry.channel(channel):
            return Decision(True, reason)
        return Decision(False, "there is no such channel")

    def on_revoke(self, fn: Callable[[], None]) -> Callable[[], None]:
        """Have `fn` called on the loop whenever a right was taken away, so that live sessions are asked for
        again.

        Returns an unsubscriber.
        """
        self._on_revoke.append(fn)

        def unsubscribe() -> None:
            if fn in self._on_revoke:
                self._on_revoke.remove(fn)

        return unsubscribe

    def _registry_changed(self, change: Change) -> None:
        if change.kind is ChangeKind.REVOKED:
            for fn in list(self._on_revoke):
                fn()
