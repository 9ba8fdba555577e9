"""Groups of people, things and channels: organisations and what is below them (Mainflux 0.13, groups).

A thing or a channel belongs to one group at most, a person to any number, with a role in each that reaches down to
the groups below it. Part of `registry`; who may change groups is decided by the doors, what a role lets somebody do
by `access`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from .errors import Conflict, Invalid, NotFound
from .registry_items import (
    Change,
    ChangeKind,
    Metadata,
    checked_id,
    checked_metadata,
    checked_name,
    from_json,
    to_json,
)
from .registry_part import Desk, Directory
from .users import ADMIN, TECHNICIAN, VIEWER, Statement, higher

MAX_GROUPS = 1000
MAX_DEPTH = 5  # levels of a tree, as in Mainflux
MAX_DESCRIPTION = 1024  # characters

GROUP_ROLES = (VIEWER, TECHNICIAN, ADMIN)  # of a person in a group
Kind = Literal["things", "channels"]
KINDS: tuple[Kind, ...] = ("things", "channels")


class Group(msgspec.Struct, frozen=True):
    """One group; `parent` is "" for an organisation, which is a group below no other."""

    id: str
    name: str = ""
    description: str = ""
    parent: str = ""
    metadata: Metadata = {}
    created_s: float = 0.0  # UTC seconds
    updated_s: float = 0.0


class Groups:
    """All groups and who and what is in them; changed in a thread, since each change is a durable transaction."""

    def __init__(self, desk: Desk, directory: Directory) -> None:
        self._desk = desk
        self._directory = directory
        self._clear()

    def _clear(self) -> None:
        self._groups: dict[str, Group] = {}
        self._below: dict[str, dict[str, None]] = {}  # ids of the children; "" has the organisations
        self._roles: dict[str, dict[str, str]] = {}  # by group, then by person
        self._groups_of_user: dict[str, dict[str, None]] = {}
        self._held: dict[Kind, dict[str, dict[str, None]]] = {kind: {} for kind in KINDS}  # by group
        self._holder: dict[Kind, dict[str, str]] = {kind: {} for kind in KINDS}  # by thing or channel

    # Part

    def load(self, conn: sqlite3.Connection) -> None:
        """Read everything anew. Raises sqlite3.DatabaseError for what can only be damage."""
        self._clear()
        try:
            for group_id, parent, name, description, metadata, created_s, updated_s in conn.execute(
                "SELECT id, parent, name, description, metadata, created_s, updated_s FROM organisation ORDER BY rowid"
            ):
                self._keep(
                    Group(
                        group_id, name, description, parent or "", from_json(metadata), created_s, updated_s
                    )
                )
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise sqlite3.DatabaseError(f"metadata of a group: {error}") from error
        if any(len(self._chain(group_id)) > MAX_DEPTH for group_id in self._groups):
            raise sqlite3.DatabaseError("groups lie deeper than they can, or in a circle")
        for group_id, user_id, role in conn.execute(
            "SELECT organisation, user, role FROM organisation_user ORDER BY rowid"
        ):
            self._keep_user(group_id, user_id, role)
        for kind in KINDS:
            for item_id, group_id in conn.execute(
                f"SELECT {kind[:-1]}, organisation FROM organisation_{kind[:-1]} ORDER BY rowid"
            ):
                self.keep_held(kind, item_id, group_id)

    def follow(self, change: Change) -> None:
        """Forget who and what is gone; their rows went by the schema."""
        for thing_id in change.things:
            if self._directory.thing(thing_id) is None:
                self._forget_held("things", thing_id)
        for channel_id in change.channels:
            if self._directory.channel(channel_id) is None:
                self._forget_held("channels", channel_id)
        for user_id in change.users:
            if self._directory.user(user_id) is None:
                for group_id in self._groups_of_user.pop(user_id, {}):
                    self._roles[group_id].pop(user_id, None)

    # What is asked

    def get(self, group_id: str) -> Group | None:
        return self._groups.get(group_id)

    def all(self) -> list[Group]:
        """In the order they were made."""
        return list(self._groups.values())

    def children(self, group_id: str) -> list[Group]:
        """The groups one level below; of "", the organisations."""
        return [self._groups[each] for each in list(self._below.get(group_id, ()))]

    def descendants(self, group_id: str) -> list[Group]:
        """All groups below, each after the one above it."""
        found: list[Group] = []
        for child in self.children(group_id):
            found += [child, *self.descendants(child.id)]
        return found

    def ancestors(self, group_id: str) -> list[Group]:
        """The groups above, from the organisation down to the parent."""
        return [self._groups[each] for each in reversed(self._chain(group_id)[1:])]

    def level(self, group_id: str) -> int:
        """1 for an organisation, at most MAX_DEPTH."""
        return len(self._chain(group_id))

    def users(self, group_id: str) -> dict[str, str]:
        """People and their roles in this very group."""
        return dict(self._roles.get(group_id, {}))

    def held(self, group_id: str, kind: Kind) -> list[str]:
        """Ids of the things or channels of this very group, in the order they came."""
        return list(self._held[kind].get(group_id, ()))

    def holder(self, kind: Kind, item_id: str) -> str:
        """The group that a thing or channel belongs to; "" for none."""
        return self._holder[kind].get(item_id, "")

    def groups_of_user(self, user_id: str) -> list[Group]:
        """The groups in which a person has a role of his own, those below them not included."""
        return [self._groups[each] for each in list(self._groups_of_user.get(user_id, ()))]

    def role_in(
        self, user_id: str, *, thing_id: str = "", channel_id: str = "", group_id: str = ""
    ) -> str | None:
        """The highest role that a person's groups give him over one thing, channel or group; None for none."""
        if thing_id:
            group_id = self.holder("things", thing_id)
        elif channel_id:
            group_id = self.holder("channels", channel_id)
        best: str | None = None
        if user_id in self._groups_of_user:
            for each in self._chain(group_id):
                best = higher(best, self._roles.get(each, {}).get(user_id))
        return best

    def reach(self, user_id: str, role: str = VIEWER) -> dict[str, str]:
        """Every group that a person reaches with `role` or a higher one, and his role in it."""
        reached: dict[str, str] = {}
        for group in self.groups_of_user(user_id):
            for each in (group, *self.descendants(group.id)):
                mine = self.role_in(user_id, group_id=each.id)
                if mine is not None and higher(mine, role) == mine:
                    reached[each.id] = mine
        return reached

    def _chain(self, group_id: str) -> list[str]:
        """The group and those above it, from below; broken off beyond MAX_DEPTH."""
        chain: list[str] = []
        while group_id in self._groups and len(chain) <= MAX_DEPTH:
            chain.append(group_id)
            group_id = self._groups[group_id].parent
        return chain

    # Groups

    def create(
        self,
        name: str,
        description: str = "",
        parent: str = "",
        metadata: Metadata | None = None,
        id: str | None = None,  # noqa: A002
        *,
        now_s: float,
    ) -> Group:
        """Add a group below `parent`, or an organisation. Raises NotFound, Conflict where the id is taken, Invalid."""
        group = Group(
            checked_id(id),
            _checked_group_name(name),
            _checked_description(description),
            parent,
            checked_metadata(metadata),
            now_s,
            now_s,
        )
        with self._desk.lock:
            if group.id in self._groups:
                raise Conflict("a group has that id")
            if len(self._groups) >= MAX_GROUPS:
                raise Invalid(f"at most {MAX_GROUPS} groups")
            self._check_place(parent, 1)
            row = (
                group.id,
                parent or None,
                group.name,
                group.description,
                to_json(group.metadata),
                now_s,
                now_s,
            )
            self._desk.write(
                [
                    (
                        "INSERT INTO organisation(id, parent, name, description, metadata, created_s, updated_s)"
                        " VALUES (?, ?, ?, ?, ?, ?, ?)",
                        row,
                    )
                ]
            )
            self._keep(group)
            self._desk.changed(Change(ChangeKind.GRANTED, groups=frozenset({group.id})))
        return group

    def update(
        self,
        group_id: str,
        *,
        name: str | None = None,
        description: str | None = None,
        metadata: Metadata | None = None,
        parent: str | None = None,
        now_s: float,
    ) -> Group:
        """Change what is given; another `parent` moves the group with all that is below it, "" to the top.

        Raises NotFound, Invalid where it would lie in itself or too deep.
        """
        with self._desk.lock:
            old = self._found(group_id)
            moved = parent is not None and parent != old.parent
            if moved and parent is not None:
                if group_id in self._chain(parent):
                    raise Invalid("a group cannot lie in itself")
                self._check_place(parent, self._height(group_id))
            group = msgspec.structs.replace(
                old,
                name=old.name if name is None else _checked_group_name(name),
                description=old.description if description is None else _checked_description(description),
                parent=old.parent if parent is None else parent,
                metadata=old.metadata if metadata is None else checked_metadata(metadata),
                updated_s=now_s,
            )
            row = (
                group.parent or None,
                group.name,
                group.description,
                to_json(group.metadata),
                now_s,
                group_id,
            )
            self._desk.write(
                [
                    (
                        "UPDATE organisation SET parent = ?, name = ?, description = ?, metadata = ?, updated_s = ?"
                        " WHERE id = ?",
                        row,
                    )
                ]
            )
            if moved:
                del self._below[old.parent][group_id]
            self._keep(group)
            kind = ChangeKind.REVOKED if moved else ChangeKind.EDITED
            self._desk.changed(Change(kind, groups=frozenset({group_id})))
        return group

    def remove(self, group_id: str) -> None:
        """Remove a group that has none below it; what it held passes to the group above, if there is one.

        Raises NotFound, Conflict.
        """
        with self._desk.lock:
            group = self._found(group_id)
            if self._below.get(group_id):
                raise Conflict("there are groups below this one: move or remove them first")
            held: list[tuple[Kind, str]] = [
                (kind, item_id) for kind in KINDS for item_id in self._held[kind].get(group_id, ())
            ]
            passed = [self.holding(*each, group.parent) for each in held] if group.parent else []
            self._desk.write([*passed, ("DELETE FROM organisation WHERE id = ?", (group_id,))])
            del self._below[group.parent][group_id], self._groups[group_id]
            self._below.pop(group_id, None)
            for user_id in self._roles.pop(group_id, {}):
                self._forget_user(group_id, user_id)
            for kind, item_id in held:
                self._forget_held(kind, item_id)
                if group.parent:
                    self.keep_held(kind, item_id, group.parent)
            self._desk.changed(Change(ChangeKind.REVOKED, groups=frozenset({group_id})))

    # Who and what is in them

    def assign_users(self, group_id: str, user_ids: Iterable[str], role: str) -> None:
        """Give people `role` in a group, in place of the one they had. All or nothing. Raises NotFound, Invalid."""
        if role not in GROUP_ROLES:
            raise Invalid(f"a role in a group is one of {', '.join(GROUP_ROLES)}")
        with self._desk.lock:
            self._found(group_id)
            users = list(dict.fromkeys(user_ids))
            for user_id in users:
                if self._directory.user(user_id) is None:
                    raise NotFound("no such user")
            self._desk.write(
                [
                    (
                        "INSERT INTO organisation_user(organisation, user, role) VALUES (?, ?, ?)"
                        " ON CONFLICT(organisation, user) DO UPDATE SET role = excluded.role",
                        (group_id, user_id, role),
                    )
                    for user_id in users
                ]
            )
            for user_id in users:
                self._keep_user(group_id, user_id, role)
            # A lower role takes something away.
            self._desk.changed(
                Change(ChangeKind.REVOKED, users=frozenset(users), groups=frozenset({group_id}))
            )

    def unassign_users(self, group_id: str, user_ids: Iterable[str]) -> None:
        """Take people out of a group. All or nothing. Raises NotFound where one is not in it."""
        with self._desk.lock:
            self._found(group_id)
            users = list(dict.fromkeys(user_ids))
            if not all(user_id in self._roles.get(group_id, {}) for user_id in users):
                raise NotFound("no such member")
            self._desk.write(
                [
                    ("DELETE FROM organisation_user WHERE organisation = ? AND user = ?", (group_id, user_id))
                    for user_id in users
                ]
            )
            for user_id in users:
                del self._roles[group_id][user_id]
                self._forget_user(group_id, user_id)
            self._desk.changed(
                Change(ChangeKind.REVOKED, users=frozenset(users), groups=frozenset({group_id}))
            )

    def assign(self, group_id: str, kind: Kind, item_ids: Iterable[str]) -> None:
        """Let things or channels belong to a group, and no longer to another. All or nothing. Raises NotFound."""
        with self._desk.lock:
            self._found(group_id)
            items = list(dict.fromkeys(item_ids))
            for item_id in items:
                self._check_item(kind, item_id)
            self._desk.write([self.holding(kind, item_id, group_id) for item_id in items])
            for item_id in items:
                self.keep_held(kind, item_id, group_id)
            self._desk.changed(_of_items(kind, items, group_id))

    def unassign(self, group_id: str, kind: Kind, item_ids: Iterable[str]) -> None:
        """Let things or channels belong to no group. All or nothing. Raises NotFound where one is not in this one."""
        with self._desk.lock:
            self._found(group_id)
            items = list(dict.fromkeys(item_ids))
            if not all(self.holder(kind, item_id) == group_id for item_id in items):
                raise NotFound("no such member")
            table, column = f"organisation_{kind[:-1]}", kind[:-1]
            self._desk.write([(f"DELETE FROM {table} WHERE {column} = ?", (item_id,)) for item_id in items])
            for item_id in items:
                self._forget_held(kind, item_id)
            self._desk.changed(_of_items(kind, items, group_id))

    # For who makes things and channels inside a group, in a transaction of his own

    def check(self, group_id: str) -> None:
        """Raises NotFound where there is no such group; "" is none and right."""
        if group_id:
            self._found(group_id)

    def holding(self, kind: Kind, item_id: str, group_id: str) -> Statement:
        """What lets one thing or channel belong to a group."""
        table, column = f"organisation_{kind[:-1]}", kind[:-1]
        return (
            f"INSERT INTO {table}({column}, organisation) VALUES (?, ?)"
            f" ON CONFLICT({column}) DO UPDATE SET organisation = excluded.organisation",
            (item_id, group_id),
        )

    def keep_held(self, kind: Kind, item_id: str, group_id: str) -> None:
        """As `holding`, in memory."""
        self._forget_held(kind, item_id)
        self._holder[kind][item_id] = group_id
        self._held[kind].setdefault(group_id, {})[item_id] = None

    # Details

    def _found(self, group_id: str) -> Group:
        group = self._groups.get(group_id)
        if group is None:
            raise NotFound("no such group")
        return group

    def _check_place(self, parent: str, height: int) -> None:
        """Whether a tree of `height` levels may lie below `parent`. Raises NotFound, Invalid."""
        if parent:
            self._found(parent)
        if len(self._chain(parent)) + height > MAX_DEPTH:
            raise Invalid(f"groups lie at most {MAX_DEPTH} levels deep")

    def _height(self, group_id: str) -> int:
        return 1 + max((self._height(child) for child in self._below.get(group_id, ())), default=0)

    def _check_item(self, kind: Kind, item_id: str) -> None:
        look_up: Callable[[str], object] = (
            self._directory.thing if kind == "things" else self._directory.channel
        )
        if look_up(item_id) is None:
            raise NotFound(f"no such {kind[:-1]}")

    def _keep(self, group: Group) -> None:
        self._groups[group.id] = group
        self._below.setdefault(group.parent, {})[group.id] = None

    def _keep_user(self, group_id: str, user_id: str, role: str) -> None:
        self._roles.setdefault(group_id, {})[user_id] = role
        self._groups_of_user.setdefault(user_id, {})[group_id] = None

    def _forget_user(self, group_id: str, user_id: str) -> None:
        mine = self._groups_of_user[user_id]
        del mine[group_id]
        if not mine:
            del self._groups_of_user[user_id]

    def _forget_held(self, kind: Kind, item_id: str) -> None:
        group_id = self._holder[kind].pop(item_id, None)
        if group_id is not None:
            del self._held[kind][group_id][item_id]


def _of_items(kind: Kind, items: list[str], group_id: str) -> Change:
    ids, groups = frozenset(items), frozenset({group_id})
    if kind == "things":
        return Change(ChangeKind.REVOKED, things=ids, groups=groups)
    return Change(ChangeKind.REVOKED, channels=ids, groups=groups)


def _checked_group_name(name: str) -> str:
    if not name.strip():
        raise Invalid("a group has a name")
    return checked_name(name)


def _checked_description(description: str) -> str:
    if len(description) > MAX_DESCRIPTION:
        raise Invalid(f"a description has at most {MAX_DESCRIPTION} characters")
    return description
