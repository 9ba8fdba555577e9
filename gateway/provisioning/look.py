"""What a gateway has of a site, asked over its REST API: only what the layout names or what bears its mark."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

from gateway.provisioning.layout import MARK, Layout, identity
from gateway.provisioning.state import Found, State
from gateway.rest.client import Api, ApiError

NAMED = ("group", "channel", "thing", "application")  # kinds whose names are not unique by themselves
DEVICES = 10_000  # the gateway lists no more


def look(api: Api, layout: Layout, *, prune: bool = False) -> State:
    """Raises ApiError."""
    state = State()
    for kind in NAMED:
        wanted = {identity(kind, item): item.id for item in getattr(layout, kind)}
        wanted |= dict.fromkeys(set(_mentioned(layout, kind)) - wanted.keys(), "")
        if layout.site:
            _marked(api, state, kind, layout.site)
        _named(api, state, kind, wanted)
    if layout.user:
        state.user = {each["email"].lower(): each for each in api.get("/users")["users"]}
        _roles(api, state, layout)
    for policy in layout.policy:
        _one(api, state.policy, policy.name, f"/policies/{policy.name}")
    for codec in layout.codec:
        _one(api, state.codec, codec.name, f"/codecs/{quote(codec.name, safe='')}")
    if layout.profile:
        state.profile = {each["name"]: each for each in api.get("/lorawan/profiles")["profiles"]}
    if layout.device or (prune and layout.site):
        _devices(api, state, layout)
    _connections(api, state, layout)
    _certificates(api, state, layout)
    return state


def _mentioned(layout: Layout, kind: str) -> Iterator[str]:
    """Names that the layout leads to, its own or the gateway's."""
    if kind == "group":
        for item in (*layout.group, *layout.channel, *layout.thing):
            yield getattr(item, "parent", "") or getattr(item, "group", "")
        for user in layout.user:
            yield from user.groups
    if kind == "channel":
        for connected in (*layout.thing, *layout.application):
            yield from connected.rights
        yield from (device.channel for device in layout.device)


def _marked(api: Api, state: State, kind: str, site: str) -> None:
    """All that bear the mark of the site."""
    items, _ = api.every(f"/{kind}s", f"{kind}s", metadata=json.dumps({MARK: site}))
    state.marked[kind] = {str(each["id"]): each for each in items if each["metadata"].get(MARK) == site}


def _named(api: Api, state: State, kind: str, wanted: dict[str, str]) -> None:
    """Those of these names, or of these ids where they are given; marked ones before others."""
    known: dict[str, Found] = getattr(state, kind)
    marked = state.marked.get(kind, {})
    names = set()
    for name, item_id in wanted.items():
        if not name:
            continue
        if item_id:
            _one(api, known, name, f"/{kind}s/{item_id}")
        else:
            names.add(name)
    candidates = _by_name(marked.values(), names)
    missing = names - candidates.keys()
    candidates |= _by_name(_searched(api, kind, missing), missing)
    for name, items in candidates.items():
        if len(items) == 1:
            known[name] = items[0]
        else:
            state.several[kind, name] = len(items)


def _by_name(items: Iterable[Found], names: set[str]) -> dict[str, list[Found]]:
    found: dict[str, dict[str, Found]] = {}
    for each in items:
        if each["name"] in names:
            found.setdefault(each["name"], {})[str(each["id"])] = each
    return {name: list(those.values()) for name, those in found.items()}


def _searched(api: Api, kind: str, names: set[str]) -> list[Found]:
    """Items that may have one of these names: asked name by name, or where that is longer, all there are."""
    if not names:
        return []
    _, total = api.every(f"/{kind}s", f"{kind}s", limit=1)
    if total // 100 <= len(names):
        return api.every(f"/{kind}s", f"{kind}s")[0]
    return [each for name in sorted(names) for each in api.every(f"/{kind}s", f"{kind}s", name=name)[0]]


def _one(api: Api, place: dict[str, Found], name: str, path: str) -> None:
    try:
        place[name] = api.get(path)
    except ApiError as error:
        if error.http_status not in (400, 404):
            raise


def _roles(api: Api, state: State, layout: Layout) -> None:
    for group in {name for user in layout.user for name in user.groups}:
        group_id = state.id_of("group", group)
        if group_id:
            members, _ = api.every(f"/groups/{group_id}/members", "items", type="users")
            state.roles |= {(group_id, str(each["id"])): str(each["role"]) for each in members}


def _devices(api: Api, state: State, layout: Layout) -> None:
    devices = api.get("/lorawan/devices", limit=DEVICES)
    state.device = {each["dev_eui"].lower(): {**each, "id": each["dev_eui"]} for each in devices}
    state.marked["device"] = {
        eui: each
        for eui, each in state.device.items()
        if layout.site and each["tags"].get(MARK) == layout.site
    }


def _connections(api: Api, state: State, layout: Layout) -> None:
    for kind in ("thing", "application"):
        for item in getattr(layout, kind):
            item_id = state.id_of(kind, item.name)
            if not item_id:
                continue
            channels, _ = api.every(f"/things/{item_id}/channels", "channels")
            for channel in channels:
                joined = api.get(f"/channels/{channel['id']}/things/{item_id}")
                state.rights[item_id, str(channel["id"])] = frozenset(joined["types"])


def _certificates(api: Api, state: State, layout: Layout) -> None:
    for item in layout.thing:
        thing_id = state.id_of("thing", item.name)
        if item.certificate and thing_id:
            good = api.get("/certs", thing_id=thing_id, state="good")["certs"]
            state.certificates[thing_id] = max((_seconds(each["expires_at"]) for each in good), default=0.0)


def _seconds(text: Any) -> float:
    return datetime.datetime.fromisoformat(str(text)).timestamp()
