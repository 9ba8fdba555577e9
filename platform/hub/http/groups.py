"""Organisations and the groups below them (Mainflux 0.13, auth service): the tree, and who and what is in it.

People see the groups they have a role in and those below; their administrators change them. Organisations, which lie
below no other, are the gateway's administrators' to make, to move and to remove.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import enum
from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from hub.errors import NotFound
from hub.groups import MAX_DEPTH, Group, Groups, Kind
from hub.http.auth import now_s
from hub.http.body import read_json
from hub.http.listing import LIST, NEXT_LINK, listed, search_of
from hub.http.problem import Problem
from hub.http.reach import Reach
from hub.http.service import json_response
from hub.http.shapes import Channels, Nothing, Things
from hub.http.table import Endpoint, Needs, Parameter
from hub.http.things import registry_of, shown
from hub.registry import Registry
from hub.registry_items import Metadata, Page, page
from hub.users import ADMIN, TECHNICIAN, has_role

MAX_MEMBERS = 1000  # people, things or channels that one request puts in or takes out


class MemberType(enum.StrEnum):
    USERS = "users"
    THINGS = "things"
    CHANNELS = "channels"


class RoleThere(enum.StrEnum):
    """Of a person in a group and in those below it."""

    VIEWER = "viewer"
    TECHNICIAN = "technician"
    ADMIN = "admin"


class NewGroup(Struct):
    """A group to be made; without `parent_id` an organisation."""

    name: str
    description: str = ""
    parent_id: str = ""
    metadata: Metadata | None = None
    id: str | None = None


class GroupEdit(Struct):
    """What PUT changes; what is left out stays. `parent_id` moves the group, "" to the top."""

    name: str | None = None
    description: str | None = None
    parent_id: str | None = None
    metadata: Metadata | None = None


class Members(Struct):
    """Who or what to put in or take out: ids, and of people e-mail addresses too. `role` is people's."""

    type: MemberType
    members: list[str]
    role: RoleThere = RoleThere.VIEWER


class ShownGroup(Struct):
    """A group. `path` has the ids from the highest group that the caller sees; `role` is the caller's own there."""

    id: str
    name: str
    description: str
    parent_id: str
    metadata: Metadata
    level: int
    path: str
    role: str
    members: dict[str, int]  # how many users, things and channels are in this very group
    created_at: str
    updated_at: str
    children: list[ShownGroup] = []


class GroupPage(Struct):
    total: int
    offset: int
    limit: int
    order: str
    direction: str
    groups: list[ShownGroup]
    next: str = ""


class Member(Struct):
    """Of a group; people have a role there, `name` is their e-mail address."""

    id: str
    type: MemberType
    name: str
    role: str = ""


class MemberPage(Struct):
    """`members` has the ids, as in Mainflux."""

    total: int
    offset: int
    limit: int
    members: list[str]
    items: list[Member]


class _Depth(Struct):
    """How many levels of a tree, and whether as one."""

    level: Annotated[int, Meta(ge=1, le=MAX_DEPTH)] = MAX_DEPTH
    tree: bool = False


# The tree


async def create_group(request: Request) -> Response:
    """`POST /groups`: a group below another, or an organisation."""
    wanted = await read_json(request, NewGroup)
    reach = Reach(request)
    _demand_place(reach, wanted.parent_id)
    groups, now = _groups(request), now_s(request)

    def make() -> Group:
        return groups.create(
            wanted.name, wanted.description, wanted.parent_id, wanted.metadata, wanted.id, now_s=now
        )

    group = await asyncio.to_thread(make)
    return json_response(_View(reach, groups).show(group), 201, {"location": f"/groups/{group.id}"})


async def list_groups(request: Request) -> Response:
    """`GET /groups`: those that the caller sees, `level` levels of them, with `tree` below one another."""
    reach, groups = Reach(request), _groups(request)
    depth, view = _depth(request), _View(reach, groups)
    visible = [group for group in view.visible if view.level(group) <= depth.level]
    return await _listed(request, view, visible, depth)


async def get_group(request: Request) -> Response:
    """`GET /groups/<id>`: one group."""
    group = _group(request)
    return json_response(_View(Reach(request), _groups(request)).show(group))


async def edit_group(request: Request) -> Response:
    """`PUT /groups/<id>`: name, description, metadata, or another place in the tree."""
    edit = await read_json(request, GroupEdit)
    reach, groups, group, now = Reach(request), _groups(request), _group(request), now_s(request)
    if edit.parent_id is not None and edit.parent_id != group.parent:
        _demand_place(reach, group.parent)
        _demand_place(reach, edit.parent_id)

    def change() -> Group:
        return groups.update(
            group.id,
            name=edit.name,
            description=edit.description,
            metadata=edit.metadata,
            parent=edit.parent_id,
            now_s=now,
        )

    changed = await asyncio.to_thread(change)
    return json_response(_View(reach, groups).show(changed))


async def remove_group(request: Request) -> Response:
    """`DELETE /groups/<id>`: one without groups below it; what it held passes to the group above. 204 also where
    there was none.
    """
    groups = _groups(request)
    group = groups.get(request.path_params["group_id"])
    if group is not None:
        if not group.parent:
            _demand_place(Reach(request), "")
        with contextlib.suppress(NotFound):
            await asyncio.to_thread(groups.remove, group.id)
    return Response(status_code=204)


async def children(request: Request) -> Response:
    """`GET /groups/<id>/children`: the groups below, `level` levels of them."""
    groups, group, depth = _groups(request), _group(request), _depth(request)
    above = groups.level(group.id)
    below = [each for each in groups.descendants(group.id) if groups.level(each.id) - above <= depth.level]
    return await _listed(request, _View(Reach(request), groups), below, depth)


async def parents(request: Request) -> Response:
    """`GET /groups/<id>/parents`: the groups above that the caller sees, from the highest down."""
    groups, group, depth = _groups(request), _group(request), _depth(request)
    view = _View(Reach(request), groups)
    above = [each for each in groups.ancestors(group.id) if each.id in view.ids][-depth.level :]
    return await _listed(request, view, above, depth)


# Who and what is in them


async def list_members(request: Request) -> Response:
    """`GET /groups/<id>/members`: the people, things and channels of this very group, or those of one `type`."""
    groups, group, registry = _groups(request), _group(request), registry_of(request)
    text = request.query_params.get("type", "")
    if text and text not in list(MemberType):
        raise Problem(400, f"type is one of {', '.join(MemberType)}")
    search = search_of(request)
    members: list[Member] = []
    if text in ("", MemberType.USERS):
        for user_id, role in groups.users(group.id).items():
            user = registry.user(user_id)
            members.append(Member(user_id, MemberType.USERS, user.email if user else "", role))
    for kind in (MemberType.THINGS, MemberType.CHANNELS):
        if text in ("", kind):
            members += [
                Member(each, kind, _name(registry, kind, each)) for each in groups.held(group.id, _kind(kind))
            ]
    chosen = [each for each in members if search.name.casefold() in each.name.casefold()]
    part = chosen[search.offset : search.offset + search.limit]
    return json_response(
        MemberPage(len(chosen), search.offset, search.limit, [each.id for each in part], part)
    )


async def put_members(request: Request) -> Response:
    """`POST /groups/<id>/members`: all or none. A thing or channel leaves the group it was in."""
    wanted = await _wanted(request)
    reach, groups, group_id = Reach(request), _groups(request), _group(request).id
    if wanted.type is MemberType.USERS:
        reach.demand(ADMIN, group_id=group_id)
        users = _user_ids(request, wanted.members)
        await asyncio.to_thread(groups.assign_users, group_id, users, wanted.role.value)
        return json_response({})
    if wanted.type is MemberType.THINGS:
        reach.demand_all(TECHNICIAN, thing_ids=wanted.members)
    else:
        reach.demand_all(TECHNICIAN, channel_ids=wanted.members)
    await asyncio.to_thread(groups.assign, group_id, _kind(wanted.type), wanted.members)
    return json_response({})


async def remove_members(request: Request) -> Response:
    """`DELETE /groups/<id>/members`: all or none; things and channels then belong to no group."""
    wanted = await _wanted(request)
    groups, group_id = _groups(request), _group(request).id
    if wanted.type is MemberType.USERS:
        Reach(request).demand(ADMIN, group_id=group_id)
        users = _user_ids(request, wanted.members)
        await asyncio.to_thread(groups.unassign_users, group_id, users)
    else:
        await asyncio.to_thread(groups.unassign, group_id, _kind(wanted.type), wanted.members)
    return Response(status_code=204)


async def things_of_group(request: Request) -> Response:
    """`GET /groups/things/<id>`: a page of the things of this very group."""
    groups, group, registry = _groups(request), _group(request), registry_of(request)
    held = [thing for each in groups.held(group.id, "things") if (thing := registry.thing(each))]
    return await listed(request, "things", lambda: held, search_of(request), lambda one: shown(registry, one))


async def channels_of_group(request: Request) -> Response:
    """`GET /groups/channels/<id>`: a page of the channels of this very group."""
    groups, group, registry = _groups(request), _group(request), registry_of(request)
    held = [channel for each in groups.held(group.id, "channels") if (channel := registry.channel(each))]
    return await listed(
        request, "channels", lambda: held, search_of(request), lambda one: shown(registry, one)
    )


async def groups_of_member(request: Request) -> Response:
    """`GET /members/<id>/groups`: the groups that a person, thing or channel is in, as far as the caller sees them."""
    reach, groups, registry = Reach(request), _groups(request), registry_of(request)
    member_id = request.path_params["member_id"]
    view = _View(reach, groups)
    if registry.user(member_id) is not None:
        found = groups.groups_of_user(member_id)
    else:
        holders = (groups.holder("things", member_id), groups.holder("channels", member_id))
        found = [group for each in holders if (group := groups.get(each)) is not None]
        if not found and reach.everything and not (registry.thing(member_id) or registry.channel(member_id)):
            raise Problem(404, "no such member")
    visible = [group for group in found if group.id in view.ids]
    if not visible and not reach.everything and member_id != reach.user.id:
        raise reach.not_there("member", member_id)
    return await _listed(request, view, visible, _Depth())


# Details


class _View:
    """The tree as one person sees it: groups above those he reaches are not there."""

    def __init__(self, reach: Reach, groups: Groups) -> None:
        self._reach = reach
        self._groups = groups
        self.visible = reach.groups()
        self.ids = {group.id for group in self.visible}

    def level(self, group: Group) -> int:
        return len(self._path(group))

    def show(self, group: Group) -> dict[str, Any]:
        path = self._path(group)
        return {
            "id": group.id,
            "name": group.name,
            "description": group.description,
            "parent_id": group.parent if group.parent in self.ids else "",
            "metadata": group.metadata,
            "level": len(path),
            "path": ".".join(path),
            "role": self._reach.role(group_id=group.id) or "",
            "members": {
                "users": len(self._groups.users(group.id)),
                "things": len(self._groups.held(group.id, "things")),
                "channels": len(self._groups.held(group.id, "channels")),
            },
            "created_at": _time(group.created_s),
            "updated_at": _time(group.updated_s),
        }

    def trees(self, chosen: Iterable[Group]) -> list[dict[str, Any]]:
        """`chosen` below one another; those whose parent is not among them stand at the top."""
        bodies = {group.id: {**self.show(group), "children": []} for group in chosen}
        tops: list[dict[str, Any]] = []
        for body in bodies.values():
            above = bodies.get(body["parent_id"])
            (tops if above is None else above["children"]).append(body)
        return tops

    def _path(self, group: Group) -> list[str]:
        above = [each.id for each in self._groups.ancestors(group.id) if each.id in self.ids]
        return [*above, group.id]


def _groups(request: Request) -> Groups:
    return registry_of(request).groups


def _group(request: Request) -> Group:
    group = _groups(request).get(request.path_params["group_id"])
    if group is None:
        raise Problem(404, "no such group")
    return group


def _demand_place(reach: Reach, parent: str) -> None:
    """Whether the caller may put groups below `parent`, or for "" make organisations. Raises Problem 403 or 404."""
    if parent:
        reach.demand(ADMIN, group_id=parent)
    elif not has_role(reach.user, ADMIN):
        raise Problem(403, "organisations are made, moved and removed by an administrator of the gateway")


def _depth(request: Request) -> _Depth:
    """Raises Problem 400."""
    given = {name: text for name in ("level", "tree") if (text := request.query_params.get(name))}
    try:
        return msgspec.convert(given, _Depth, strict=False)
    except msgspec.ValidationError as error:
        raise Problem(400, f"the query does not fit: {error}") from None


async def _listed(request: Request, view: _View, groups: list[Group], depth: _Depth) -> Response:
    """A page of groups; as trees, all that match at once."""
    search = search_of(request)
    if not depth.tree:
        return await listed(request, "groups", lambda: groups, search, view.show)
    chosen: Page[Group] = page(
        groups, 0, len(groups) or 1, search.name, search.metadata, search.order, search.dir == "desc"
    )
    return json_response(
        {
            "total": chosen.total,
            "offset": 0,
            "limit": chosen.total,
            "order": search.order,
            "direction": search.dir,
            "groups": view.trees(chosen.items),
        }
    )


async def _wanted(request: Request) -> Members:
    wanted = await read_json(request, Members)
    if not 1 <= len(wanted.members) <= MAX_MEMBERS:
        raise Problem(400, f"name 1 to {MAX_MEMBERS} members in one request")
    return wanted


def _user_ids(request: Request, names: Iterable[str]) -> list[str]:
    """Ids of people who are named by id or e-mail address. Raises Problem 404."""
    registry = registry_of(request)
    users = [registry.user_by_email(name) if "@" in name else registry.user(name) for name in names]
    if None in users:
        raise Problem(404, "no such user")
    return [user.id for user in users if user is not None]


def _kind(member_type: MemberType) -> Kind:
    return "things" if member_type is MemberType.THINGS else "channels"


def _name(registry: Registry, kind: MemberType, item_id: str) -> str:
    item = registry.thing(item_id) if kind is MemberType.THINGS else registry.channel(item_id)
    return item.name if item else ""


def _time(seconds: float) -> str:
    """RFC 3339."""
    return (
        datetime.datetime.fromtimestamp(seconds, datetime.UTC)
        .isoformat(timespec="seconds")
        .replace("+00:00", "Z")
    )


_DEPTH = (
    Parameter("level", "levels of the tree at most", {"type": "integer", "minimum": 1, "maximum": MAX_DEPTH}),
    Parameter("tree", "groups below one another, all at once", {"type": "boolean"}),
)
_TYPE = Parameter("type", "of the members; all if left out", {"type": "string", "enum": list(MemberType)})
_MEMBERS = (*(each for each in LIST if each.name in ("offset", "limit", "name")), _TYPE)


def _lists(path: str, handler: Any, needs: Needs) -> Endpoint:
    return Endpoint(
        "GET", path, handler, needs, answers={200: GroupPage}, parameters=(*LIST, *_DEPTH), headers=NEXT_LINK
    )


ENDPOINTS = [
    Endpoint(
        "POST",
        "/groups",
        create_group,
        Needs.MEMBER,
        body=NewGroup,
        answers={201: ShownGroup},
        headers={"Location": "of what was made"},
        refuses=(404, 409),
    ),
    _lists("/groups", list_groups, Needs.MEMBER),
    Endpoint(
        "GET",
        "/groups/things/{group_id}",
        things_of_group,
        Needs.SEE,
        answers={200: Things},
        parameters=LIST,
        headers=NEXT_LINK,
    ),
    Endpoint(
        "GET",
        "/groups/channels/{group_id}",
        channels_of_group,
        Needs.SEE,
        answers={200: Channels},
        parameters=LIST,
        headers=NEXT_LINK,
    ),
    Endpoint("GET", "/groups/{group_id}", get_group, Needs.SEE, answers={200: ShownGroup}),
    Endpoint("PUT", "/groups/{group_id}", edit_group, Needs.LEAD, body=GroupEdit, answers={200: ShownGroup}),
    Endpoint("DELETE", "/groups/{group_id}", remove_group, Needs.LEAD, answers={204: None}, refuses=(409,)),
    _lists("/groups/{group_id}/children", children, Needs.SEE),
    _lists("/groups/{group_id}/parents", parents, Needs.SEE),
    Endpoint(
        "GET",
        "/groups/{group_id}/members",
        list_members,
        Needs.SEE,
        answers={200: MemberPage},
        parameters=_MEMBERS,
    ),
    Endpoint(
        "POST", "/groups/{group_id}/members", put_members, Needs.KEEP, body=Members, answers={200: Nothing}
    ),
    Endpoint(
        "DELETE", "/groups/{group_id}/members", remove_members, Needs.KEEP, body=Members, answers={204: None}
    ),
    _lists("/members/{member_id}/groups", groups_of_member, Needs.MEMBER),
]
