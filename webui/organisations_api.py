"""Organisations, the groups below them, and their things and channels, as the API gives them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import msgspec

from webui.client import Gateway, decode

_DISK = (507, 503)  # the gateway says in words what its disk will not take
PAGE = 100  # items asked for at once
MAX_SHOWN = 300  # things or channels of one page; who has more asks the API or the command line


class Group(msgspec.Struct, frozen=True):
    id: str
    name: str = ""
    description: str = ""
    parent_id: str = ""
    level: int = 1
    role: str = ""  # of the person who asks
    members: dict[str, int] = {}
    children: list[Group] = []

    @property
    def keeps(self) -> bool:
        return self.role in ("technician", "admin")

    @property
    def leads(self) -> bool:
        return self.role == "admin"


class _Groups(msgspec.Struct, frozen=True):
    groups: list[Group] = []


class Member(msgspec.Struct, frozen=True):
    id: str
    name: str = ""
    role: str = ""


class _Members(msgspec.Struct, frozen=True):
    items: list[Member] = []


class Item(msgspec.Struct, frozen=True):
    """A thing or a channel."""

    id: str
    name: str = ""
    key: str = ""  # of a thing that was just made
    group_id: str = ""


class _Items(msgspec.Struct, frozen=True):
    total: int = 0
    things: list[Item] = []
    channels: list[Item] = []


@dataclass(frozen=True, slots=True)
class Organisations:
    """Raises what `Gateway` raises."""

    gateway: Gateway

    def tree(self) -> list[Group]:
        """All groups that the person reaches, below one another."""
        return decode(_Groups, self._answer("GET", "/groups?tree=true&order=name")).groups

    def group(self, group_id: str) -> Group:
        return decode(Group, self._answer("GET", f"/groups/{group_id}"))

    def above(self, group_id: str) -> list[Group]:
        return decode(_Groups, self._answer("GET", f"/groups/{group_id}/parents")).groups

    def below(self, group_id: str) -> list[Group]:
        query = urlencode({"level": 1, "order": "name", "limit": PAGE})
        return decode(_Groups, self._answer("GET", f"/groups/{group_id}/children?{query}")).groups

    def people(self, group_id: str) -> list[Member]:
        query = urlencode({"type": "users", "limit": PAGE})
        return decode(_Members, self._answer("GET", f"/groups/{group_id}/members?{query}")).items

    def things(self, group_id: str) -> tuple[int, list[Item]]:
        """How many the group has, and the first of them by name."""
        return self._items("things", group_id)

    def channels(self, group_id: str) -> tuple[int, list[Item]]:
        return self._items("channels", group_id)

    def connected(self, channel_id: str) -> list[Item]:
        """The things of a channel."""
        return decode(_Items, self._answer("GET", f"/channels/{channel_id}/things?limit={PAGE}")).things

    def add(self, name: str, description: str, parent_id: str = "") -> Group:
        body = {"name": name, "description": description, "parent_id": parent_id}
        return decode(Group, self._answer("POST", "/groups", body))

    def change(self, group_id: str, change: Mapping[str, str]) -> None:
        """`name`, `description` or `parent_id`."""
        self._answer("PUT", f"/groups/{group_id}", change)

    def remove(self, group_id: str) -> None:
        self._answer("DELETE", f"/groups/{group_id}")

    def put_in(self, group_id: str, kind: str, members: Sequence[str], role: str = "viewer") -> None:
        """`kind` is users, things or channels; people may be named by e-mail address."""
        body = {"type": kind, "members": list(members), "role": role}
        self._answer("POST", f"/groups/{group_id}/members", body)

    def take_out(self, group_id: str, kind: str, member: str) -> None:
        self._answer("DELETE", f"/groups/{group_id}/members", {"type": kind, "members": [member]})

    def add_thing(self, group_id: str, name: str) -> Item:
        return decode(Item, self._answer("POST", "/things", {"name": name, "group_id": group_id}))

    def add_channel(self, group_id: str, name: str) -> Item:
        return decode(Item, self._answer("POST", "/channels", {"name": name, "group_id": group_id}))

    def connect(self, channel_id: str, thing_id: str, types: Sequence[str]) -> None:
        body = {"channel_ids": [channel_id], "thing_ids": [thing_id], "types": list(types)}
        self._answer("POST", "/connect", body)

    def disconnect(self, channel_id: str, thing_id: str) -> None:
        self._answer("PUT", "/disconnect", {"channel_ids": [channel_id], "thing_ids": [thing_id]})

    def _items(self, kind: str, group_id: str) -> tuple[int, list[Item]]:
        found: list[Item] = []
        total = 0
        for offset in range(0, MAX_SHOWN, PAGE):
            query = urlencode({"order": "name", "limit": PAGE, "offset": offset})
            page = decode(_Items, self._answer("GET", f"/groups/{kind}/{group_id}?{query}"))
            total = page.total
            found += page.things or page.channels
            if len(found) >= total:
                break
        return total, found

    def _answer(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        return self.gateway.answer(method, path, body, refused=_DISK).content


def flat(tree: Sequence[Group], depth: int = 0) -> Iterator[tuple[int, Group]]:
    """Each group of a tree with how deep it lies."""
    for group in tree:
        yield depth, group
        yield from flat(group.children, depth + 1)
