"""What a gateway has of a site, as the planner compares it: values only, read by `look`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Found = Mapping[str, Any]  # an item as the REST API shows it


@dataclass(slots=True)
class State:
    """By name; e-mail addresses and DevEUIs in lower case. `several` are names that more than one item has."""

    group: dict[str, Found] = field(default_factory=dict)
    user: dict[str, Found] = field(default_factory=dict)
    channel: dict[str, Found] = field(default_factory=dict)
    thing: dict[str, Found] = field(default_factory=dict)
    application: dict[str, Found] = field(default_factory=dict)
    policy: dict[str, Found] = field(default_factory=dict)
    codec: dict[str, Found] = field(default_factory=dict)
    profile: dict[str, Found] = field(default_factory=dict)
    device: dict[str, Found] = field(default_factory=dict)
    rights: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)  # by ids of thing and channel
    roles: dict[tuple[str, str], str] = field(default_factory=dict)  # by ids of group and person
    # Thing's id: UTC seconds its last good one ends
    certificates: dict[str, float] = field(default_factory=dict)
    several: dict[tuple[str, str], int] = field(default_factory=dict)  # by kind and name
    # By kind and id: all of the site's mark
    marked: dict[str, dict[str, Found]] = field(default_factory=dict)

    def id_of(self, kind: str, name: str) -> str:
        """The id of what is there under that name; "" where there is none."""
        found = getattr(self, kind).get(name)
        return str(found["id"]) if found else ""
