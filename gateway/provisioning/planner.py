"""The plan that brings a gateway to a layout: what is there and fits is left alone. Pure: values in, values out.

Order: organisations, profiles, codecs, channels, things, applications, connections, people, policies, devices,
certificates; then, with `prune`, what has the site's mark and is not in the layout, the other way round. What the
layout does not say of an item stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gateway.provisioning.layout import (
    KINDS,
    MARK,
    DeviceItem,
    Layout,
    identity,
    marked,
)
from gateway.provisioning.state import Found, State
from gateway.provisioning.steps import Env, Made, Plan, Ref, Step, Text

BULK = 100  # things or channels of one request
RENEW_S = 30 * 86_400.0  # a certificate that ends earlier than this is replaced
RIGHTS = ("publish", "subscribe")
_KEYS = ("app_key", "nwk_key", "nwk_s_key", "app_s_key", "s_nwk_s_int_key", "nwk_s_enc_key")


def plan(
    layout: Layout,
    state: State,
    files: Mapping[str, str],
    *,
    now_s: float,
    prune: bool = False,
    kept: frozenset[tuple[str, str]] = frozenset(),
    rekey: bool = False,
) -> Plan:
    """What is to be done. `files` are the texts of the files that the layout names.

    `kept` are the kind and name of each secret in the key file; with `rekey` things whose key is not there get a new
    one.
    """
    work = _Planner(layout, state, files, now_s)
    problems = [*work.ambiguous(), *work.dangling()]
    if prune and not layout.site:
        problems.append('only what a site has marked can be pruned: give the layout a name by `site = "..."`')
    if problems:
        return Plan(problems=tuple(problems))
    steps = [*work.steps(), *(work.rekeyed(kept) if rekey else ()), *(work.pruned() if prune else ())]
    without = [] if rekey else [name for name in state.thing if work.lacks_key(name, kept)]
    notes = [
        f"the key of thing {name} is not in the key file; --rekey gives it a new one" for name in without
    ]
    return Plan(tuple(steps), (), (*notes, *(() if prune else work.leftover())))


class _Planner:
    def __init__(self, layout: Layout, state: State, files: Mapping[str, str], now_s: float) -> None:
        self._layout, self._state, self._files, self._now_s = layout, state, files, now_s
        self._wanted = {
            kind: {identity(kind, item): item for item in getattr(layout, kind)} for kind in KINDS
        }

    # What cannot be

    def ambiguous(self) -> Iterator[str]:
        for (kind, name), count in sorted(self._state.several.items()):
            yield f'{kind} {name}: the gateway has {count} of that name; say which by `id = "..."`'

    def dangling(self) -> Iterator[str]:
        """Names that lead to nothing in the layout or on the gateway."""
        for group in self._layout.group:
            yield from self._lost("group", group.name, "group", group.parent)
        for kind in ("channel", "thing"):
            for item in getattr(self._layout, kind):
                yield from self._lost(kind, item.name, "group", item.group)
        for kind in ("thing", "application"):
            for item in getattr(self._layout, kind):
                for channel in sorted(item.rights):
                    yield from self._lost(kind, item.name, "channel", channel)
        for user in self._layout.user:
            for group_name in user.groups:
                yield from self._lost("user", user.email, "group", group_name)
        for policy in self._layout.policy:
            for ref in self._text(policy).refs():
                yield from self._lost("policy", policy.name, ref.kind, ref.name)
        for device in self._layout.device:
            yield from self._lost("device", device.dev_eui, "channel", device.channel)

    def _lost(self, kind: str, name: str, of: str, wanted: str) -> Iterator[str]:
        if wanted and wanted not in self._wanted[of] and not self._state.id_of(of, wanted):
            yield f"{kind} {name}: there is no {of} {wanted!r}, in the layout or on the gateway"

    # What is to be done

    def steps(self) -> Iterator[Step]:
        yield from self._groups()
        yield from self._profiles()
        yield from self._codecs()
        yield from self._items("channel")
        yield from self._items("thing")
        yield from self._applications()
        yield from self._connections()
        yield from self._users()
        yield from self._policies()
        yield from self._devices()
        yield from self._certificates()

    def _ref(self, kind: str, name: str) -> Ref | str:
        """The id where it is known, else a place for it."""
        return self._state.id_of(kind, name) or Ref(kind, name)

    def _groups(self) -> Iterator[Step]:
        for item in _parents_first(self._layout.group):
            body: dict[str, Any] = {"name": item.name, "metadata": marked(self._layout, item)}
            if item.description:
                body["description"] = item.description
            if item.parent:
                body["parent_id"] = self._ref("group", item.parent)
            found = self._state.group.get(item.name)
            if found is None:
                made = {**body, **({"id": item.id} if item.id else {})}
                yield Step("+", f"group {item.name}", "POST", ("/groups",), made, (Ref("group", item.name),))
            elif changed := _differences(body, found):
                says = f"group {item.name}: {', '.join(changed)}"
                yield Step("~", says, "PUT", ("/groups/", str(found["id"])), _changes(body, found, changed))

    def _items(self, kind: str) -> Iterator[Step]:
        """Channels or things: new ones many at a time, those that differ one by one."""
        fresh = []
        for item in getattr(self._layout, kind):
            found = getattr(self._state, kind).get(item.name)
            if found is None:
                fresh.append(item)
                continue
            body = {"name": item.name, "metadata": marked(self._layout, item)}
            if changed := _differences(body, found):
                says = f"{kind} {item.name}: {', '.join(changed)}"
                yield Step("~", says, "PUT", (f"/{kind}s/", str(found["id"])), _changes(body, found, changed))
            if item.group and found.get("group_id", "") != self._ref("group", item.group):
                yield self._placed(kind, item.name, item.group, str(found["id"]))
        for part in _parts(fresh, BULK):
            names = ", ".join(item.name for item in part[:5]) + (
                f" and {len(part) - 5} more" if len(part) > 5 else ""
            )
            refs = tuple(Ref(kind, item.name) for item in part)
            says = f"{kind}{'s' if len(part) > 1 else ''} {names}"
            yield Step(
                "+",
                says,
                "POST",
                (f"/{kind}s/bulk",),
                [self._new(kind, item) for item in part],
                refs,
                f"{kind}s",
            )

    def _new(self, kind: str, item: Any) -> dict[str, Any]:
        body: dict[str, Any] = {"name": item.name, "metadata": marked(self._layout, item)}
        if item.id:
            body["id"] = item.id
        if item.group:
            body["group_id"] = self._ref("group", item.group)
        if kind == "thing":
            body["key"] = Env(item.key) if item.key else Made("thing", item.name, "key")
        return body

    def _placed(self, kind: str, name: str, group: str, item_id: str) -> Step:
        body = {"type": f"{kind}s", "members": [item_id]}
        path = ("/groups/", self._ref("group", group), "/members")
        return Step("~", f"{kind} {name}: in group {group}", "POST", path, body)

    def _applications(self) -> Iterator[Step]:
        for item in self._layout.application:
            body: dict[str, Any] = {
                "name": item.name,
                "metadata": marked(self._layout, item),
                "role": item.role,
            }
            body["redirect_uris"] = list(item.redirect_uris)
            if item.scopes is not None:
                body["scopes"] = sorted(item.scopes)
            if item.grant_types is not None:
                body["grant_types"] = sorted(item.grant_types)
            found = self._state.application.get(item.name)
            if found is None:
                made = {**body, "public": item.public, **({"id": item.id} if item.id else {})}
                keeps = () if item.public else ("secret",)
                ref = Ref("application", item.name)
                yield Step(
                    "+", f"application {item.name}", "POST", ("/applications",), made, (ref,), keeps=keeps
                )
                continue
            shown = {**found, **{key: sorted(found[key]) for key in ("scopes", "grant_types")}}
            if changed := _differences(body, shown):
                says = f"application {item.name}: {', '.join(changed)}"
                path = ("/applications/", str(found["id"]))
                yield Step("~", says, "PUT", path, _changes(body, found, changed))

    def _connections(self) -> Iterator[Step]:
        """For each channel and right, all that it is new for in one request; then what is too much."""
        more: dict[tuple[str, tuple[str, ...]], list[tuple[str, str]]] = {}
        less: dict[tuple[str, tuple[str, ...]], list[tuple[str, str]]] = {}
        for kind in ("thing", "application"):
            for item in getattr(self._layout, kind):
                for channel, rights in item.rights.items():
                    pair = (self._state.id_of(kind, item.name), self._state.id_of("channel", channel))
                    now = self._state.rights.get(pair, frozenset())
                    for wanted, place in ((rights - now, more), (now - rights, less)):
                        if wanted:
                            place.setdefault((channel, _ordered(wanted)), []).append((kind, item.name))
        for place, sign, method, path, verb in (
            (more, "+", "POST", "/connect", "to"),
            (less, "-", "PUT", "/disconnect", "from"),
        ):
            for (channel, types), names in place.items():
                says = f"connection of {_some([name for _, name in names])} {verb} {channel}: {' and '.join(types)}"
                body = {
                    "channel_ids": [self._ref("channel", channel)],
                    "thing_ids": [self._ref(kind, name) for kind, name in names],
                    "types": list(types),
                }
                yield Step(sign, says, method, (path,), body)

    def _users(self) -> Iterator[Step]:
        for item in self._layout.user:
            email = identity("user", item)
            found = self._state.user.get(email)
            if found is None:
                password = Env(item.password) if item.password else Made("user", email, "password")
                body = {"email": item.email, "password": password, "role": item.role}
                yield Step(
                    "+", f"user {item.email}: {item.role}", "POST", ("/users",), body, (Ref("user", email),)
                )
            elif found["role"] != item.role:
                path = ("/users/", str(found["id"]))
                yield Step("~", f"user {item.email}: {item.role}", "PATCH", path, {"role": item.role})
            for group, role in item.groups.items():
                pair = (self._state.id_of("group", group), self._state.id_of("user", email))
                if self._state.roles.get(pair) != role:
                    members = ("/groups/", self._ref("group", group), "/members")
                    put = {"type": "users", "members": [self._ref("user", email)], "role": role}
                    sign = "~" if pair in self._state.roles else "+"
                    yield Step(sign, f"user {item.email}: {role} in group {group}", "POST", members, put)

    def _policies(self) -> Iterator[Step]:
        for item in self._layout.policy:
            text = self._text(item)
            found = self._state.policy.get(item.name)
            known = all(self._state.id_of(ref.kind, ref.name) for ref in text.refs())
            if (
                found
                and known
                and found["document"] == text.filled(lambda ref: self._state.id_of(ref.kind, ref.name))
            ):
                continue
            sign = "~" if found else "+"
            yield Step(sign, f"policy {item.name}", "PUT", ("/policies/", item.name), text)

    def _text(self, policy: Any) -> Text:
        return Text(policy.document or self._files[policy.file])

    def _profiles(self) -> Iterator[Step]:
        for item in self._layout.profile:
            found = self._state.profile.get(item.name)
            if found is None or _differences(item.settings, found["body"]):
                path = ("/lorawan/profiles/", item.name)
                yield Step("~" if found else "+", f"profile {item.name}", "PUT", path, dict(item.settings))

    def _codecs(self) -> Iterator[Step]:
        for item in self._layout.codec:
            body = {
                "source": item.source or self._files[item.file],
                "description": item.description,
                "units": item.units,
            }
            found = self._state.codec.get(item.name)
            if found is None:
                yield Step("+", f"codec {item.name}", "POST", ("/codecs",), {"name": item.name, **body})
            elif changed := _differences(body, found):
                # What a PUT leaves out is gone: samples that people have added stay.
                whole = {**body, "samples": found.get("samples", [])}
                says = f"codec {item.name}: {', '.join(changed)}"
                yield Step("~", says, "PUT", ("/codecs/", item.name), whole)

    def _devices(self) -> Iterator[Step]:
        for item in self._layout.device:
            eui = identity("device", item)
            body = self._device(item)
            found = self._state.device.get(eui)
            if found is None:
                keys = {key: Env(getattr(item, key)) for key in _KEYS if getattr(item, key)}
                made = {
                    "dev_eui": eui,
                    **body,
                    **keys,
                    **({"activation": item.activation} if item.activation else {}),
                }
                says = f"device {eui}" + (f" ({item.name})" if item.name else "")
                ref = Ref("device", eui)
                yield Step(
                    "+", says, "POST", ("/lorawan/devices",), made, (ref,), keeps=("thing_id", "thing_key")
                )
            elif changed := _differences(body, _device_shown(found)):
                says = f"device {eui}: {', '.join(changed)}"
                yield Step("~", says, "PUT", ("/lorawan/devices/", eui), _changes(body, found, changed))

    def _device(self, item: DeviceItem) -> dict[str, Any]:
        """What can be compared of a device: all but its keys."""
        fields = ("name", "profile", "codec", "description", "expected_interval_s")
        body = {field: getattr(item, field) for field in fields if getattr(item, field) not in ("", None)}
        for field in ("join_eui", "dev_addr"):
            if getattr(item, field):
                body[field] = getattr(item, field).lower()
        tags = {**item.tags, **({MARK: self._layout.site} if self._layout.site else {})}
        if tags:
            body["tags"] = tags
        if item.channel:
            body["channel_id"] = self._ref("channel", item.channel)
        return body

    def _certificates(self) -> Iterator[Step]:
        for item in self._layout.thing:
            ends_s = self._state.certificates.get(self._state.id_of("thing", item.name), 0.0)
            if item.certificate and ends_s < self._now_s + min(RENEW_S, item.certificate_days * 43_200.0):
                body = {"thing_id": self._ref("thing", item.name), "ttl_s": item.certificate_days * 86_400}
                ref = Ref("certificate", item.name)
                keeps = ("serial", "certificate", "private_key", "authority")
                yield Step("+", f"certificate of {item.name}", "POST", ("/certs",), body, (ref,), keeps=keeps)

    # Keys that are lost, and what is too much

    def lacks_key(self, name: str, kept: frozenset[tuple[str, str]]) -> bool:
        item = self._wanted["thing"].get(name)
        return item is not None and not item.key and ("thing", name) not in kept

    def rekeyed(self, kept: frozenset[tuple[str, str]]) -> Iterator[Step]:
        for name, found in self._state.thing.items():
            if self.lacks_key(name, kept):
                body = {"key": Made("thing", name, "key")}
                path = ("/things/", str(found["id"]), "/key")
                yield Step("~", f"thing {name}: a new key", "PATCH", path, body, (Ref("thing", name),))

    def _too_much(self) -> Iterator[tuple[str, Found]]:
        """What bears the site's mark and is not in the layout, children before their parents."""
        for kind in ("device", "application", "thing", "channel", "group"):
            wanted = self._wanted[kind]
            ids = {str(self._state.id_of(kind, name)) for name in wanted}
            if kind == "thing":  # an application is a thing too, and goes as an application
                ids |= self._state.marked.get("application", {}).keys()
            known_by = "dev_eui" if kind == "device" else "name"
            extra = [
                found
                for item_id, found in self._state.marked.get(kind, {}).items()
                if item_id not in ids and str(found[known_by]) not in wanted
            ]
            yield from (
                (kind, found) for found in sorted(extra, key=lambda found: -int(found.get("level", 0)))
            )

    def pruned(self) -> Iterator[Step]:
        yield from self._disconnected()
        for kind, found in self._too_much():
            item_id = str(found["dev_eui"] if kind == "device" else found["id"])
            says = f"{kind} {found.get('name') or item_id}"
            base = {"device": "/lorawan/devices/"}.get(kind, f"/{kind}s/")
            yield Step("-", says, "DELETE", (base, item_id))

    def _disconnected(self) -> Iterator[Step]:
        """Connections of the layout's things and applications that it does not name."""
        for kind in ("thing", "application"):
            for item in getattr(self._layout, kind):
                item_id = self._state.id_of(kind, item.name)
                named = {self._state.id_of("channel", channel) for channel in item.rights}
                for (thing_id, channel_id), rights in sorted(self._state.rights.items()):
                    if thing_id == item_id and item_id and channel_id not in named:
                        says = f"connection of {item.name} from {self._channel_name(channel_id)}"
                        body = {
                            "channel_ids": [channel_id],
                            "thing_ids": [thing_id],
                            "types": list(_ordered(rights)),
                        }
                        yield Step("-", says, "PUT", ("/disconnect",), body)

    def _channel_name(self, channel_id: str) -> str:
        known = [*self._state.channel.values(), *self._state.marked.get("channel", {}).values()]
        return next((str(found["name"]) for found in known if found["id"] == channel_id), channel_id)

    def leftover(self) -> Iterator[str]:
        count = sum(1 for _ in self._too_much())
        if count:
            yield f"{count} more bear the mark of {self._layout.site!r} and are not in the layout; --prune removes them"


def _differences(body: Mapping[str, Any], found: Found) -> list[str]:
    """The fields of `body` that the gateway has otherwise; of metadata and tags, only the keys that are named count."""
    return [field for field, wanted in body.items() if not _same(field, wanted, found.get(field))]


def _same(field: str, wanted: Any, have: Any) -> bool:
    if field in ("metadata", "tags"):
        return isinstance(have, Mapping) and all(
            key in have and have[key] == value for key, value in wanted.items()
        )
    if isinstance(wanted, list | tuple) and isinstance(have, list | tuple):
        return list(wanted) == list(have)
    return bool(wanted == have)


def _changes(body: Mapping[str, Any], found: Found, changed: Iterable[str]) -> dict[str, Any]:
    """What to send: the changed fields, metadata with the keys that others have put there."""
    sent = {}
    for field in changed:
        both = field in ("metadata", "tags") and isinstance(found.get(field), Mapping)
        sent[field] = {**found[field], **body[field]} if both else body[field]
    return sent


def _device_shown(found: Found) -> dict[str, Any]:
    return {**found, "codec": found["codec"] if found.get("own_codec") else ""}


def _ordered(rights: Iterable[str]) -> tuple[str, ...]:
    return tuple(right for right in RIGHTS if right in set(rights))


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _parts(items: list[Any], size: int) -> Iterator[list[Any]]:
    for at in range(0, len(items), size):
        yield items[at : at + size]


def _parents_first(groups: Iterable[Any]) -> list[Any]:
    """Each group after the one above it; the layout has no circle."""
    by_name = {each.name: each for each in groups}
    depth: dict[str, int] = {}

    def level(name: str) -> int:
        if name not in depth:
            above = by_name[name].parent
            depth[name] = level(above) + 1 if above in by_name else 0
        return depth[name]

    return sorted(by_name.values(), key=lambda each: level(each.name))
