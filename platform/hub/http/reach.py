"""What the person who asks reaches: everything with a role on the gateway, else what his groups hold.

What is not his is for him as if it were not there: 404, in the words of an id that nobody has. `guard` in
`hub.http.table` asks for what a path names, handlers for what a body names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from starlette.requests import Request

from hub.access import Action, Circumstances, Decision, Principal, Resource
from hub.groups import Group, Kind
from hub.http.auth import address_of, demand, hub_of, require, require_user
from hub.http.problem import Problem
from hub.hub import Hub
from hub.registry import Channel, Thing
from hub.registry_items import EVENTS
from hub.users import ADMIN, MEMBER, ROLES, TECHNICIAN, VIEWER, has_role

# What a parameter of a path names.
_NAMED = {"thing_id": "thing", "device_id": "thing", "channel_id": "channel", "group_id": "group"}


class Reach:
    """What one person reaches, asked anew for each request."""

    def __init__(self, request: Request) -> None:
        """Raises Problem 401 or 403 where nobody, or no person, asks."""
        self.user = require_user(request, MEMBER)
        self._request = request
        self._access = hub_of(request).access
        self._registry = hub_of(request).registry

    @property
    def everything(self) -> bool:
        """Whether his role on the gateway shows him all there is."""
        return has_role(self.user, VIEWER)

    def role(self, *, thing_id: str = "", channel_id: str = "", group_id: str = "") -> str | None:
        """His role there; None where it is as if it were not there."""
        return self._access.role(self.user.id, thing_id=thing_id, channel_id=channel_id, group_id=group_id)

    def demand(self, role: str, *, thing_id: str = "", channel_id: str = "", group_id: str = "") -> None:
        """Raises Problem 404 for what he does not reach, 403 where his role there is lower than `role`."""
        if channel_id == EVENTS and role != VIEWER:
            role = ADMIN  # who is connected to it learns who changed what
        mine = self.role(thing_id=thing_id, channel_id=channel_id, group_id=group_id)
        if mine is None:
            noun = "thing" if thing_id else "channel" if channel_id else "group"
            raise self.not_there(noun, thing_id or channel_id or group_id)
        if ROLES.index(mine) < ROLES.index(role):
            raise Problem(
                403, f"this needs the role {role}, on the gateway or in the group, and yours is {mine}"
            )
        if role != VIEWER:
            self.demand_management()

    def not_there(self, noun: str, named: str) -> Problem:
        """The 404 for what he does not reach. Where it is there for others, the audit log tells that he asked."""
        registry = self._registry
        if (
            registry.thing(named)
            or registry.channel(named)
            or registry.groups.get(named)
            or registry.user(named)
        ):
            principal = require(self._request)
            hub_of(self._request).audit.record(
                "access",
                "refused",
                who=f"{principal.kind}s/{principal.id}",
                detail=f"{noun} {named} is not in a group of his",
            )
        return Problem(404, f"no such {noun}")

    def keeps(self, *, thing_id: str = "", channel_id: str = "") -> bool:
        """Whether he manages it, policies aside."""
        mine = self.role(thing_id=thing_id, channel_id=channel_id)
        return mine is not None and ROLES.index(mine) >= ROLES.index(TECHNICIAN)

    def demand_named(self, role: str, path_params: Mapping[str, str]) -> None:
        """As `demand`, for each thing, channel and group that a path names."""
        for parameter, noun in _NAMED.items():
            if parameter in path_params:
                self.demand(role, **{f"{noun}_id": path_params[parameter]})

    def demand_all(
        self, role: str, *, thing_ids: Iterable[str] = (), channel_ids: Iterable[str] = ()
    ) -> None:
        """As `demand`, for each of several."""
        for thing_id in thing_ids:
            self.demand(role, thing_id=thing_id)
        for channel_id in channel_ids:
            self.demand(role, channel_id=channel_id)

    def demand_management(self) -> None:
        """Raises Problem 403 where a policy takes from a person what his role gives him."""
        principal = require(self._request)
        if has_role(self.user, TECHNICIAN):
            demand(self._request, principal, Action.MANAGE, Resource())
            return
        decision = self._access.unless_denied(principal, Action.MANAGE)
        if not decision.allowed:
            raise Problem(403, f"denied: {decision.reason}")

    def place(self, group_id: str | None) -> str:
        """The group in which something new of his is made; "" for none, which is for the gateway's technicians.

        Left out, it is the one group that he manages. Raises Problem 400, 403 or 404.
        """
        if group_id:
            self.demand(TECHNICIAN, group_id=group_id)
            return group_id
        if has_role(self.user, TECHNICIAN):
            self.demand_management()
            return ""
        groups = self._registry.groups
        mine = groups.reach(self.user.id, TECHNICIAN)
        highest = [each for each in mine if getattr(groups.get(each), "parent", "") not in mine]
        if not highest:
            raise Problem(
                403, "this needs the role technician, on the gateway or in the group that it is made in"
            )
        if len(highest) > 1:
            raise Problem(400, "you manage several groups: name the one that it is made in as group_id")
        self.demand_management()
        return highest[0]

    def things(self) -> list[Thing]:
        """The things that his groups hold, group by group."""
        found = (self._registry.thing(each) for each in self._held("things"))
        return [thing for thing in found if thing is not None]

    def channels(self) -> list[Channel]:
        """The channels that his groups hold, group by group."""
        found = (self._registry.channel(each) for each in self._held("channels"))
        return [channel for channel in found if channel is not None]

    def groups(self) -> list[Group]:
        """The groups he reaches, in the order they were made."""
        groups = self._registry.groups
        if self.everything:
            return groups.all()
        reached = groups.reach(self.user.id)
        return [group for group in groups.all() if group.id in reached]

    def _held(self, kind: Kind) -> Iterable[str]:
        for group_id in self._registry.groups.reach(self.user.id):
            yield from self._registry.groups.held(group_id, kind)


def demand_channel(request: Request, principal: Principal, action: Action, resource: Resource) -> None:
    """Ask the access seam about a channel. Raises Problem 403 with its reason, or 404."""
    context = Circumstances("http", address_of(request.scope))
    hub = hub_of(request)
    decision = hub.access.decide(principal, action, resource, context)
    if not decision.allowed:
        raise refused(hub, principal, resource.channel, decision)


def refused(hub: Hub, principal: Principal, channel_id: str, decision: Decision) -> Problem:
    """The answer to a refusal: to a person whose the channel is not, as if there were none.

    A thing is told that it is not connected, whether there is such a channel or not.
    """
    known = hub.registry.channel(channel_id) is not None
    if principal.kind == "user" and not (known and hub.access.role(principal.id, channel_id=channel_id)):
        return Problem(404, "no such channel")
    return Problem(403, f"denied: {decision.reason}")
