"""A gateway's state as a layout that, applied to the same gateway, finds nothing to do. Secrets are not in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from gateway.provisioning.layout import MARK
from gateway.provisioning.look import DEVICES
from gateway.rest.client import Api, ApiError

_BARE = re.compile(r"[A-Za-z0-9_-]+")
HEAD = "# Written by `fluxgate provision export`. Secrets are not in it: see docs/provision.md.\n"


def export(api: Api, site: str = "") -> str:
    """Everything, or with `site` what bears its mark, as TOML. Raises ApiError."""
    tables = [HEAD]
    if site:
        tables.append(f"site = {toml(site)}\n")
    groups = _marked(api, "group", site)
    channels, things = _marked(api, "channel", site), _marked(api, "thing", site)
    devices = _devices(api, site)
    of_devices = {str(each["thing_id"]) for each in devices}
    things = [each for each in things if str(each["id"]) not in of_devices]
    applications = _marked(api, "application", site)
    programs = {str(each["id"]) for each in applications}
    things = [each for each in things if str(each["id"]) not in programs]
    names = _unique(channels)
    group_names = {str(each["id"]): str(each["name"]) for each in groups}
    for group in groups:
        parent = group_names.get(str(group["parent_id"]), "")
        tables.append(
            _table(
                "group",
                name=group["name"],
                id=group["id"],
                description=group["description"],
                parent=parent,
                metadata=_own(group),
            )
        )
    for user in api.get("/users")["users"] if not site else ():
        roles = _roles(api, groups, user["id"])
        tables.append(_table("user", email=user["email"], role=user["role"], groups=roles))
    for channel in channels:
        group_name = group_names.get(str(channel.get("group_id", "")), "")
        tables.append(
            _table(
                "channel",
                name=names[str(channel["id"])],
                id=channel["id"],
                group=group_name,
                metadata=_own(channel),
            )
        )
    for kind, items in (("thing", things), ("application", applications)):
        own = _unique(items)
        tables += [
            _table(kind, **_connected(api, item, own[str(item["id"])], names, group_names)) for item in items
        ]
    if not site:
        tables += _documents(api)
    for device in devices:
        tables.append(_table("device", **_device(device, names)))
    return "\n".join(tables)


def toml(value: Any) -> str:
    """A value as TOML writes it. Raises TypeError for what TOML does not have, such as null."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list() | tuple():
            return f"[{', '.join(toml(each) for each in value)}]"
        case Mapping():
            return "{ " + ", ".join(f"{_key(key)} = {toml(each)}" for key, each in value.items()) + " }"
    raise TypeError(f"TOML has no {type(value).__name__}")


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else toml(key)


def _table(kind: str, **fields: Any) -> str:
    lines = [f"[[{kind}]]"]
    for name, value in fields.items():
        if value in ("", None, [], {}, (), False):
            continue
        lines.append(f"{name} = {_written(name, value)}")
    return "\n".join(lines) + "\n"


def _written(name: str, value: Any) -> str:
    if (
        isinstance(value, str)
        and "\n" in value
        and "'''" not in value
        and value.isprintable() is False
        and _plain(value)
    ):
        return f"'''\n{value}'''"
    try:
        return toml(value)
    except TypeError:
        if name != "metadata":
            raise
        return toml(json.dumps(value, ensure_ascii=False))


def _plain(text: str) -> bool:
    """Whether TOML's literal text may hold it: printable, with tabs and line ends of one character."""
    return all(each in "\n\t" or each.isprintable() for each in text)


def _marked(api: Api, kind: str, site: str) -> list[Mapping[str, Any]]:
    items, _ = api.every(f"/{kind}s", f"{kind}s", metadata=json.dumps({MARK: site}) if site else "")
    return items


def _own(item: Mapping[str, Any]) -> dict[str, Any]:
    return {key: each for key, each in item["metadata"].items() if key != MARK}


def _unique(items: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """A name for each id: its own, or where that is empty or somebody else's too, one with the id in it."""
    taken: set[str] = set()
    names = {}
    for item in items:
        name = str(item["name"])
        if not name or name in taken:
            name = f"{name} {item['id']}".strip()
        taken.add(name)
        names[str(item["id"])] = name
    return names


def _roles(api: Api, groups: Iterable[Mapping[str, Any]], user_id: str) -> dict[str, str]:
    roles = {}
    for group in groups:
        for member in api.every(f"/groups/{group['id']}/members", "items", type="users")[0]:
            if member["id"] == user_id:
                roles[str(group["name"])] = str(member["role"])
    return roles


def _connected(
    api: Api,
    item: Mapping[str, Any],
    name: str,
    channels: Mapping[str, str],
    groups: Mapping[str, str],
) -> dict[str, Any]:
    rights: dict[str, list[str]] = {"connect": [], "publish": [], "subscribe": []}
    for channel in api.every(f"/things/{item['id']}/channels", "channels")[0]:
        types = api.get(f"/channels/{channel['id']}/things/{item['id']}")["types"]
        if str(channel["id"]) in channels:
            rights["connect" if len(types) == 2 else types[0]].append(channels[str(channel["id"])])
    more = {
        key: item[key] for key in ("role", "scopes", "redirect_uris", "grant_types", "public") if key in item
    }
    return {
        "name": name,
        "id": item["id"],
        "group": groups.get(str(item.get("group_id", "")), ""),
        "metadata": _own(item),
        **more,
        **rights,
    }


def _documents(api: Api) -> list[str]:
    """Policies, and what a gateway has of codecs and profiles; a bare hub has neither."""
    tables = []
    for policy in api.get("/policies")["policies"]:
        found = api.get(f"/policies/{policy['name']}")
        tables.append(_table("policy", name=found["name"], document=found["document"]))
    for codec in _list(api, "/codecs", "codecs"):
        if codec["kind"] == "javascript":
            found = api.get(f"/codecs/{codec['name']}")
            told = {key: found[key] for key in ("name", "description", "units", "source")}
            tables.append(_table("codec", **told))
    for profile in _list(api, "/lorawan/profiles", "profiles"):
        if not profile["built_in"]:
            settings = {key: each for key, each in profile["body"].items() if each is not None}
            tables.append(_table("profile", name=profile["name"], settings=settings))
    return tables


def _devices(api: Api, site: str) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = _list(api, f"/lorawan/devices?limit={DEVICES}", "")
    return [each for each in found if not site or each["tags"].get(MARK) == site]


def _list(api: Api, path: str, noun: str) -> list[Any]:
    try:
        found = api.get(path)
    except ApiError as error:
        if error.http_status != 404:
            raise
        return []
    return list(found[noun] if noun else found)


def _device(device: Mapping[str, Any], channels: Mapping[str, str]) -> dict[str, Any]:
    same = ("dev_eui", "name", "activation", "join_eui", "profile", "description")
    return {
        **{field: device[field] for field in same},
        "dev_addr": device["dev_addr"] if device["activation"] == "abp" else "",
        "codec": device["codec"] if device["own_codec"] else "",
        "channel": channels.get(str(device["channel_id"]), ""),
        "expected_interval_s": device["expected_interval_s"] if device["own_interval"] else None,
        "tags": {key: each for key, each in device["tags"].items() if key != MARK},
    }
