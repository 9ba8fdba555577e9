"""The layout of a site: what its TOML file may say, read into values, with faults by line.

Names are the identity of what a site has: two things of a layout never share one. Secrets never stand in the file:
`env:NAME` takes one from the environment.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.provisioning.errors import LayoutError
from gateway.provisioning.lines import Key, keys_of, line_of, spelled

MAX_ITEMS = 20_000  # of one kind in a file
MAX_BYTES = 16 << 20  # of a file
MARK = "site"  # in the metadata of what a site has: its name
ENVIRONMENT = "env:"

Name = Annotated[str, Meta(min_length=1, max_length=1024)]
Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{0,64}$")]
Secret = Annotated[str, Meta(pattern=r"^(env:[A-Za-z_][A-Za-z0-9_]*)?$")]
SiteName = Annotated[str, Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9 ._-]{0,63})?$")]


class Item(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all tables share: a misspelt field is an error."""


class GroupItem(Item, frozen=True, kw_only=True):
    """An organisation, or a group below another."""

    name: Name
    id: Id = ""
    description: str = ""
    parent: str = ""
    metadata: dict[str, Any] | str = {}


class UserItem(Item, frozen=True, kw_only=True):
    """A person. Without `password` one is made up and written to the key file."""

    email: Name
    role: Annotated[str, Meta(pattern="^(member|viewer|technician|admin)$")] = "viewer"
    password: Secret = ""
    groups: dict[str, Annotated[str, Meta(pattern="^(viewer|technician|admin)$")]] = {}  # name to role there


class ChannelItem(Item, frozen=True, kw_only=True):
    name: Name
    id: Id = ""
    group: str = ""
    metadata: dict[str, Any] | str = {}


class Connected(Item, frozen=True, kw_only=True):
    """What publishes to and reads from channels, by their names."""

    name: Name
    id: Id = ""
    metadata: dict[str, Any] | str = {}
    connect: tuple[str, ...] = ()  # for both
    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()

    @property
    def rights(self) -> dict[str, frozenset[str]]:
        """By channel."""
        found: dict[str, set[str]] = {}
        for names, rights in (
            (self.connect, {"publish", "subscribe"}),
            (self.publish, {"publish"}),
            (self.subscribe, {"subscribe"}),
        ):
            for name in names:
                found.setdefault(name, set()).update(rights)
        return {name: frozenset(rights) for name, rights in found.items()}


class ThingItem(Connected, frozen=True, kw_only=True):
    """A thing. Without `key` one is made up; with `certificate` it has one that is good for a month or more."""

    group: str = ""
    key: Secret = ""
    certificate: bool = False
    certificate_days: Annotated[int, Meta(ge=1, le=36_500)] = 3650


class ApplicationItem(Connected, frozen=True, kw_only=True):
    """A program of somebody else's that acts for people or for itself."""

    role: Annotated[str, Meta(pattern="^(viewer|technician|admin)?$")] = ""
    scopes: tuple[str, ...] | None = None
    redirect_uris: tuple[str, ...] = ()
    grant_types: tuple[str, ...] | None = None
    public: bool = False


class PolicyItem(Item, frozen=True, kw_only=True):
    """A document, in the file or beside it. `{{thing pump}}` in it stands for the id of the thing of that name."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    document: str = ""
    file: str = ""


class CodecItem(Item, frozen=True, kw_only=True):
    name: Name
    source: str = ""
    file: str = ""
    description: str = ""
    units: dict[str, str] = {}


class DeviceItem(Item, frozen=True, kw_only=True):
    """A LoRaWAN device; keys come from the environment. Its thing is made with it."""

    dev_eui: Annotated[str, Meta(pattern="^[0-9A-Fa-f]{16}$")]
    name: str = ""
    activation: Annotated[str, Meta(pattern="^(otaa|abp)?$")] = ""
    join_eui: str = ""
    dev_addr: str = ""
    app_key: Secret = ""
    nwk_key: Secret = ""
    nwk_s_key: Secret = ""
    app_s_key: Secret = ""
    s_nwk_s_int_key: Secret = ""
    nwk_s_enc_key: Secret = ""
    profile: str = ""
    codec: str = ""
    channel: str = ""  # a name; left out, a channel of its own
    expected_interval_s: int | None = None
    description: str = ""
    tags: dict[str, str] = {}


class ProfileItem(msgspec.Struct, frozen=True, kw_only=True):
    """A device profile: its name and, in `settings`, what differs from the defaults (docs/devices.md)."""

    name: Name
    settings: dict[str, Any] = {}


class Layout(Item, frozen=True, kw_only=True):
    """Everything. Without `site` nothing is marked, and nothing can be pruned."""

    site: SiteName = ""
    group: tuple[GroupItem, ...] = ()
    user: tuple[UserItem, ...] = ()
    channel: tuple[ChannelItem, ...] = ()
    thing: tuple[ThingItem, ...] = ()
    application: tuple[ApplicationItem, ...] = ()
    policy: tuple[PolicyItem, ...] = ()
    codec: tuple[CodecItem, ...] = ()
    profile: tuple[ProfileItem, ...] = ()
    device: tuple[DeviceItem, ...] = ()


KINDS = ("group", "user", "channel", "thing", "application", "policy", "codec", "profile", "device")
IDENTITY = {"user": "email", "device": "dev_eui"}  # of the others it is `name`


def identity(kind: str, item: Any) -> str:
    """By what an item of a layout is known, in lower case where case does not count."""
    text = str(getattr(item, IDENTITY.get(kind, "name")))
    return text.lower() if kind in IDENTITY else text


def parse(text: str, file: str = "layout") -> Layout:
    """Read a layout; `file` is only named in errors. Raises LayoutError with the first fault."""
    if len(text) > MAX_BYTES:
        raise LayoutError(file, 0, "", f"longer than {MAX_BYTES >> 20} MiB")
    try:
        tree = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        found = re.search(r"line (\d+)", str(error))
        raise LayoutError(file, int(found[1]) if found else 0, "", f"not TOML: {error}") from None
    try:
        layout = msgspec.convert(tree, Layout)
    except msgspec.ValidationError as error:
        raise _misfit(text, file, str(error)) from None
    _check(layout, text, file)
    return layout


def metadata_of(item: Any) -> dict[str, Any]:
    """Of an item whose metadata may be JSON text, which can say null. `parse` has checked that it is an object."""
    found = item.metadata
    return msgspec.json.decode(found, type=dict[str, Any]) if isinstance(found, str) else dict(found)


def marked(layout: Layout, item: Any) -> dict[str, Any]:
    """An item's metadata with the mark of its site."""
    return {**metadata_of(item), **({MARK: layout.site} if layout.site else {})}


def secrets_of(layout: Layout, environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The secrets that the layout takes from the environment, by `env:NAME`; and what is missing there."""
    found: dict[str, str] = {}
    missing = []
    for kind in KINDS:
        for item in getattr(layout, kind):
            for field in item.__struct_fields__:
                value = getattr(item, field)
                if isinstance(value, str) and value.startswith(ENVIRONMENT):
                    name = value.removeprefix(ENVIRONMENT)
                    if environment.get(name):
                        found[value] = environment[name]
                    else:
                        missing.append(
                            f"{kind} {identity(kind, item)}: {field} is to come from ${name}, which is not set"
                        )
    return found, missing


def _misfit(text: str, file: str, error: str) -> LayoutError:
    problem, _, where = error.partition(" - at `")
    keys = keys_of(where.rstrip("`"))
    unknown = re.search(r"unknown field `(.+)`", problem)
    if unknown:
        keys.append(unknown[1])
        problem = "there is no such field"
    lacking = re.search(r"missing required field `(.+)`", problem)
    if lacking:
        problem = f"{lacking[1]} is missing"
    return LayoutError(file, line_of(text, keys), spelled(keys), problem.replace("Expected", "expected"))


def _check(layout: Layout, text: str, file: str) -> None:
    """What no schema says: names that meet twice or lead nowhere. Raises LayoutError."""

    def fail(keys: Sequence[Key], problem: str) -> None:
        raise LayoutError(file, line_of(text, keys), spelled(keys), problem)

    for kind in KINDS:
        items = getattr(layout, kind)
        if len(items) > MAX_ITEMS:
            fail((kind,), f"at most {MAX_ITEMS} of a kind")
        seen: dict[str, int] = {}
        ids: set[str] = set()
        for at, item in enumerate(items):
            name = identity(kind, item)
            if name in seen:
                fail((kind, at, IDENTITY.get(kind, "name")), f"{name!r} stands twice")
            seen[name] = at
            own = getattr(item, "id", "")
            if own and own in ids:
                fail((kind, at, "id"), f"{own!r} stands twice")
            ids.add(own)
            if hasattr(item, "metadata"):
                _check_metadata(item, (kind, at, "metadata"), fail)
    _check_groups(layout, fail)
    for kind, field in (("policy", "document"), ("codec", "source")):
        for at, item in enumerate(getattr(layout, kind)):
            if bool(getattr(item, field)) == bool(item.file):
                fail((kind, at), f"give either {field} or file")


def _check_metadata(item: Any, keys: Sequence[Key], fail: Any) -> None:
    try:
        found = metadata_of(item)
    except (msgspec.MsgspecError, RecursionError):
        fail(keys, "text of metadata is a JSON object")
    else:
        if MARK in found:
            fail(keys, f"{MARK!r} is kept for the mark of the site")
        try:
            msgspec.json.encode(found)
        except (TypeError, ValueError, RecursionError):
            fail(keys, "JSON has no such value")


def _check_groups(layout: Layout, fail: Any) -> None:
    """Parents lead to the top, and not in a circle."""
    parents = {each.name: each.parent for each in layout.group}
    for at, group in enumerate(layout.group):
        met = {group.name}
        above = group.parent
        while above in parents:
            if above in met:
                fail(("group", at, "parent"), f"{group.name!r} stands below itself")
            met.add(above)
            above = parents[above]
