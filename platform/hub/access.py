"""The one seam that says who may do what; every door asks it, none decides for itself.

In: a principal that was authenticated, an action, a resource, and what the door knows besides. Out: allowed or not,
and why. First what always holds: a thing that is gone or has a new key may nothing, and its connections give it its
channels. Then the policies: a denial outranks everything, a permission adds to what connections give. Whatever is not
allowed by either is denied. It is asked at publish, at subscribe and again at each delivery; decisions are remembered
until the registry changes, so a right that is taken away is gone with the next question.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import NamedTuple

from .policy.engine import Explanation, PolicySet
from .policy.request import Request, Value
from .policy.statement import Effect
from .registry import Change, ChangeKind, Registry, Rights, Thing, User
from .registry_items import EVENTS
from .tokens.scopes import READ, WRITE, Scope, Scopes, common, parse
from .topics import ANY_CHANNEL
from .users import ADMIN, MEMBER, TECHNICIAN, VIEWER, has_role, higher

MAX_CACHED = 100_000  # decisions remembered; then the memory starts afresh


class Action(enum.StrEnum):
    CONNECT = "connect"
    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"
    DELIVER = "deliver"
    MANAGE = "manage"
    PROXY = "proxy"  # to use another service that a reverse proxy guards with our accounts


class Principal(NamedTuple):
    """Who asks. `kind` is "thing", "user" or "internal".

    `version` is that of the key he showed, the thing's own or with a grant the grant's; None where he showed none.
    `grant` is the API key or OAuth grant through which somebody acts, whose scopes bound what he may; "" for himself.
    `scope` is what a token made under the grant is bounded to besides; "" for all that the grant has. `certificate` is
    the serial number of the certificate that a thing has shown, of the gateway's own authority.
    """

    kind: str
    id: str
    version: int | None = None
    grant: str = ""
    scope: str = ""
    certificate: str = ""

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
    """What is asked for; `channel` "+" stands for all channels, "" for none in particular.

    `upstream` is "<host>/<path>" of another service that a reverse proxy guards with our accounts.
    """

    channel: str = ""
    subtopic: str = ""
    upstream: str = ""


class Circumstances(NamedTuple):
    """What a door knows of a question beside who, what and where; policies may ask for it."""

    protocol: str = ""
    source_ip: str = ""
    payload_size: int | None = None  # bytes; None where there is no message yet
    content_type: str = ""


class Decision(NamedTuple):
    """`reason` is a sentence for a technician, also where it is allowed. `final`: no policy changes it."""

    allowed: bool
    reason: str
    final: bool = False


Denied = Callable[[Principal, Action, Resource, Circumstances, Decision], None]

# What the gateway's own parts need, and no more.
INTERNAL: Mapping[str, frozenset[Action]] = {
    "lorawan": frozenset({Action.CONNECT, Action.PUBLISH, Action.SUBSCRIBE, Action.DELIVER}),
    "upstream": frozenset({Action.CONNECT, Action.PUBLISH, Action.SUBSCRIBE, Action.DELIVER}),
    "history": frozenset({Action.SUBSCRIBE, Action.DELIVER}),
    "gateway": frozenset(Action),
}

NOTHING_KNOWN = Circumstances()
_NEEDED = {
    Action.PUBLISH: Rights.PUBLISH,
    Action.SUBSCRIBE: Rights.SUBSCRIBE,
    Action.DELIVER: Rights.SUBSCRIBE,
}
_A = {"member": "a member", "viewer": "a viewer", "technician": "a technician", "admin": "an administrator"}
_DOING = {Action.PUBLISH: "publishing", Action.SUBSCRIBE: "reading", Action.DELIVER: "reading"}
_USER_ACTIONS = frozenset({Action.CONNECT, Action.SUBSCRIBE, Action.DELIVER, Action.MANAGE})
# The scope that an action on messages needs of a grant.
_SCOPE = {Action.PUBLISH: WRITE, Action.SUBSCRIBE: READ, Action.DELIVER: READ}
_CONNECTED = Decision(True, "the thing is connected to the channel")


class Access:
    """Decides from the registry and its policies. Belongs to the event loop's thread."""

    def __init__(self, registry: Registry, now_s: Callable[[], float]) -> None:
        """`now_s` gives UTC seconds, for policies that hold at certain times only."""
        self._registry = registry
        self._now_s = now_s
        self._epoch = 0
        self._policies = registry.policy_set
        self._take_policies()
        self._decisions: dict[tuple[Principal, Action, str | Resource], Decision] = {}
        self._on_revoke: list[Callable[[], None]] = []
        self.denied = 0
        self.on_denied: Denied | None = None  # hears of each denial, for the audit log
        registry.on_change(self._registry_changed)

    def decide(
        self,
        principal: Principal,
        action: Action,
        resource: Resource,
        context: Circumstances = NOTHING_KNOWN,
    ) -> Decision:
        """Whether `principal` may do `action` to `resource`."""
        epoch = self._registry.epoch
        if epoch != self._epoch or len(self._decisions) >= MAX_CACHED:
            self._decisions.clear()
            self._epoch = epoch
            self._take_policies()
        # Without policies the channel alone decides.
        key = (principal, action, resource if self._policies else resource.channel)
        # Grants end by time alone, and so are asked for each time.
        refusal = self._refused_by_grant(principal, action, resource.channel) if principal.grant else None
        decision = refusal or self._decisions.get(key)
        if decision is None:
            decision = self._decide(principal, action, resource.channel)
            lasting = True
            if self._policies and not decision.final:
                request = self._request(principal, action, resource, context)
                decision, lasting = by_policies(self._policies, request, decision)
            if lasting:
                self._decisions[key] = decision
        if not decision.allowed:
            self.denied += 1
            if self.on_denied is not None:
                self.on_denied(principal, action, resource, context, decision)
        return decision

    def role(
        self, user_id: str, *, thing_id: str = "", channel_id: str = "", group_id: str = ""
    ) -> str | None:
        """What a person may do with one thing, channel or group: the higher of his role on the gateway, which reaches
        everything, and of that which his groups give him there. None where it is as if it were not there for him.
        """
        user = self._registry.user(user_id) or self._registry.applications.acting(user_id)
        if user is None:
            return None
        given = self._registry.groups.role_in(
            user_id, thing_id=thing_id, channel_id=channel_id, group_id=group_id
        )
        return higher(given, None if user.role == MEMBER else user.role)

    def scopes(self, principal: Principal) -> Scopes | None:
        """What bounds somebody who acts through a grant, nothing at all where it is gone or over; None for himself."""
        if not principal.grant:
            return None
        grant = self._registry.grants.get(principal.grant)
        if grant is None or not grant.good(principal.version, self._now_s()):
            return Scopes()
        return common(grant.scopes, parse(principal.scope)) if principal.scope else grant.scopes

    def _refused_by_grant(self, principal: Principal, action: Action, channel: str) -> Decision | None:
        """The refusal of a grant that is gone or lacks the scope; None where it leaves the decision to the rest."""
        scopes = self.scopes(principal)
        if not scopes:
            return Decision(False, "the key or consent was removed, replaced or has ended", final=True)
        verb = _SCOPE.get(action)
        if verb is None:
            usable = action is Action.MANAGE or scopes.reaches("messages")
            return None if usable else Decision(False, "the key has no scope of messages", final=True)
        if scopes.allows("messages", verb, channel):
            return None
        needed = Scope("messages", verb, "" if channel == ANY_CHANNEL else channel)
        return Decision(False, f"the key lacks the scope {needed}", final=True)

    def unless_denied(
        self, principal: Principal, action: Action, context: Circumstances = NOTHING_KNOWN
    ) -> Decision:
        """For what a role in a group gives, whose place no resource names: allowed unless a policy denies it."""
        refusal = self._refused_by_grant(principal, action, "") if principal.grant else None
        if refusal is not None:
            return refusal
        request = self._request(principal, action, Resource(), context)
        return by_policies(self._registry.policy_set, request, Decision(True, "a group gives it"))[0]

    def decide_proxy(
        self, principal: Principal, upstream: str, verb: str, role: str, context: Circumstances
    ) -> Decision:
        """Whether somebody may use another service: `role` or a higher one gives it, policies add and take.

        `upstream` is "<host>/<path>"; a grant needs the scope proxy:<verb>[:<host>] for it.
        """
        base = self._decide(principal, Action.PROXY, "")
        scopes = self.scopes(principal)
        host = upstream.partition("/")[0]
        if scopes is not None and not scopes.allows("proxy", verb, host):
            base = Decision(False, f"the key lacks the scope {Scope('proxy', verb, host)}", final=True)
        user = self._registry.user(principal.id) if principal.kind == "user" else None
        if user is not None and has_role(user, role) and not base.final:
            base = Decision(True, f"the user is {_A[user.role]} of the gateway")
        if base.final or not self._policies:
            return base
        request = self._request(principal, Action.PROXY, Resource(upstream=upstream), context)
        return by_policies(self._policies, request, base)[0]

    def administers(self, principal: Principal) -> bool:
        """Whether this is an administrator of the gateway, and not by a key without the scope gateway:read."""
        user = self._registry.user(principal.id) if principal.kind == "user" else None
        scopes = self.scopes(principal)
        return user is not None and user.role == ADMIN and (scopes is None or scopes.allows("gateway", READ))

    @property
    def passing(self) -> int:
        """A number that changes whenever answers that were right may have become wrong by time alone."""
        return int(self._now_s()) if self._timed else 0

    @property
    def lasting(self) -> bool:
        """Whether answers stay right until the registry changes: no policy asks for more than who, what and where."""
        return not self._registry.policy_set.conditional

    def lasting_for(self, principal: Principal) -> bool:
        """As `lasting`, for one who may act through a grant, which ends by itself."""
        return self.lasting and not principal.grant

    def _take_policies(self) -> None:
        self._policies = self._registry.policy_set
        self._timed = "current_time" in self._policies.keys

    def explain(
        self, principal: Principal, action: Action, resource: Resource, context: Circumstances = NOTHING_KNOWN
    ) -> tuple[Decision, Explanation]:
        """The decision, and what the policies have to do with it."""
        base = self._decide(principal, action, resource.channel)
        if principal.grant:
            base = self._refused_by_grant(principal, action, resource.channel) or base
        policies = self._registry.policy_set
        request = self._request(principal, action, resource, context)
        decision = base if base.final or not policies else by_policies(policies, request, base)[0]
        return decision, policies.explain(request)

    def _request(
        self, principal: Principal, action: Action, resource: Resource, context: Circumstances
    ) -> Request:
        known: dict[str, Value] = {"current_time": self._now_s()}
        if resource.channel:
            known |= {"channel": resource.channel, "subtopic": resource.subtopic}
        if context.protocol:
            known["protocol"] = context.protocol
        if context.source_ip:
            known["source_ip"] = context.source_ip
        if context.payload_size is not None:
            known["payload_size"] = context.payload_size
        if context.content_type:
            known["content_type"] = context.content_type
        channel = self._registry.channel(resource.channel)
        if channel is not None and isinstance(owner := channel.metadata.get("owner"), str):
            known["owner"] = owner
        if principal.kind == "thing" and (thing := self._registry.thing(principal.id)):
            known["subject_name"] = thing.name
        if principal.kind == "user" and (user := self._registry.user(principal.id)):
            known |= {"subject_name": user.email, "role": user.role}
        return Request(f"{principal.kind}s/{principal.id}", action.value, resource_name(resource), known)

    def _decide(self, principal: Principal, action: Action, channel: str) -> Decision:
        """What holds without policies."""
        match principal.kind:
            case "thing":
                return self._decide_thing(principal, action, channel)
            case "user":
                return self._decide_user(principal, action, channel)
            case "internal":
                if action in INTERNAL.get(principal.id, frozenset()):
                    return self._existing(channel, f"{principal.id} is a part of the gateway")._replace(
                        final=True
                    )
                return Decision(False, f"no part of the gateway {principal.id!r} may {action}", final=True)
        return Decision(False, f"unknown kind of principal {principal.kind!r}", final=True)

    def _decide_thing(self, principal: Principal, action: Action, channel: str) -> Decision:
        thing = self._registry.thing(principal.id)
        if thing is None:
            return Decision(False, "there is no such thing", final=True)
        if not principal.grant and principal.version not in (None, thing.key_version):
            return Decision(False, "the thing has a new key", final=True)
        if principal.certificate and (why := self._registry.certificates.refusal(principal.certificate)):
            return Decision(False, why, final=True)
        if action is Action.MANAGE:
            return self._decide_managing(principal)
        if action is Action.PROXY:
            return Decision(False, "other services are for people; a policy may let a thing use one")
        if action is Action.CONNECT and not channel:
            return Decision(True, "the thing is known")
        if action is Action.PUBLISH and channel == EVENTS:
            return Decision(False, "events are published by the gateway only", final=True)
        rights = self._registry.rights(channel, thing.id)
        if not rights:
            unknown = channel != ANY_CHANNEL and self._registry.channel(channel) is None
            return Decision(False, "the thing is not connected to the channel", final=unknown)
        if not rights & _NEEDED.get(action, Rights.BOTH):
            return Decision(False, f"the thing's connection to the channel is not for {_DOING[action]}")
        return _CONNECTED

    def _decide_managing(self, principal: Principal) -> Decision:
        """What a thing manages: nothing, unless it is an application that acts for itself and has a role."""
        acting = self._registry.applications.acting(principal.id) if principal.grant else None
        if acting is None:
            return Decision(False, "things do not manage the gateway", final=True)
        if not has_role(acting, TECHNICIAN):
            return Decision(False, f"an application of the role {acting.role} does not manage", final=True)
        return Decision(True, f"the application is {_A[acting.role]} of the gateway")

    def _decide_user(self, principal: Principal, action: Action, channel: str) -> Decision:
        user = self._registry.user(principal.id)
        if user is None:
            return Decision(False, "there is no such user", final=True)
        if action is Action.PROXY:
            return Decision(False, "the service wants a higher role, or a policy")
        if action not in _USER_ACTIONS:
            return Decision(False, "messages are published by things", final=True)
        if channel == EVENTS and user.role != ADMIN:
            return Decision(False, "who changed what is for administrators, or who a policy lets read it")
        if has_role(user, TECHNICIAN if action is Action.MANAGE else VIEWER):
            return self._existing(channel, f"the user is {_A[user.role]} of the gateway")
        if action is Action.CONNECT and not channel:
            return Decision(True, "the user is known")
        return self._decide_member(user, action, channel)

    def _decide_member(self, user: User, action: Action, channel: str) -> Decision:
        """What a person's groups give him, whose role on the gateway does not suffice."""
        managing = action is Action.MANAGE
        if channel in ("", ANY_CHANNEL):
            doing = "manages" if managing else "reads"
            return Decision(False, f"{_A[user.role]} {doing} what the groups he is in hold", final=managing)
        if self._registry.channel(channel) is None:
            return Decision(False, "there is no such channel", final=True)
        role = self._registry.groups.role_in(user.id, channel_id=channel)
        if role is None or (managing and role == VIEWER):
            return Decision(False, f"no group of the user's lets him {action} here", final=managing)
        return Decision(True, f"the user is {_A[role]} in the channel's group")

    def _existing(self, channel: str, reason: str) -> Decision:
        if channel in ("", ANY_CHANNEL) or self._registry.channel(channel):
            return Decision(True, reason)
        return Decision(False, "there is no such channel", final=True)

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
        self._take_policies()
        if change.kind is ChangeKind.REVOKED:
            for fn in list(self._on_revoke):
                fn()


def resource_name(resource: Resource) -> str:
    """What policies call it: `gateway`, `proxy/<host>/<path>`, or `channels/<id>/messages[/<subtopic>]` as on MQTT."""
    if not resource.channel:
        return f"proxy/{resource.upstream}" if resource.upstream else "gateway"
    below = f"/{resource.subtopic.replace('.', '/')}" if resource.subtopic else ""
    return f"channels/{resource.channel}/messages{below}"


def by_policies(policies: PolicySet, request: Request, base: Decision) -> tuple[Decision, bool]:
    """What the policies make of `base`, and whether the same question always gets the same answer."""
    (effect, statement), lasting = policies.decide(request)
    if statement is None:
        return base, lasting
    if effect is Effect.DENY:
        return Decision(False, f"policy {statement.name} denies it"), lasting
    return (base if base.allowed else Decision(True, f"policy {statement.name} allows it")), lasting
