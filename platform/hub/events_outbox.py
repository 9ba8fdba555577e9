"""What changes in the registry, noted in the transaction that changes it, so that neither is ever without the other.

The notes are made by triggers of the one connection that writes the registry: whoever changes a row, and however, its
event is there. They wait in the table `event` until `hub.events` has put them into the log. No key, password or secret
is in them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

MAX_WAITING = 100_000  # events that could not be put into the log yet; then the oldest go, and that is told

# Who changes something now, and the time of it: "users/<id>", and UTC in nanoseconds.
Acting = Callable[[], tuple[str, int]]


@dataclass(frozen=True, slots=True)
class _Watched:
    """One change of one table: the event's operation, and its fields with where they come from."""

    operation: str
    table: str
    change: str  # INSERT, DELETE or UPDATE OF <columns>
    fields: Mapping[str, str] = field(default_factory=dict)
    when: str = ""


_THING = {"id": "NEW.id", "name": "NEW.name", "metadata": "NEW.metadata"}
_USER = {"id": "NEW.id", "email": "NEW.email", "role": "NEW.role"}
_GROUP = {"id": "NEW.id", "name": "NEW.name", "parent_id": "NEW.parent", "metadata": "NEW.metadata"}
_CONNECTION = {"chan_id": "NEW.channel", "thing_id": "NEW.thing"}
# What goes with its thing, channel or group is in that one's own event.
_BOTH_STAY = "EXISTS(SELECT 1 FROM thing WHERE id = OLD.thing) AND EXISTS(SELECT 1 FROM channel WHERE id = OLD.channel)"
_GROUP_STAYS = "EXISTS(SELECT 1 FROM organisation WHERE id = OLD.organisation)"
_GRANT = {
    "id": "NEW.id",
    "name": "NEW.name",
    "user_id": "NEW.user",
    "thing_id": "NEW.thing",
    "scopes": "NEW.scopes",
    "application_id": "NEW.application",
}
_CERTIFICATE = {"serial": "NEW.serial", "thing_id": "NEW.thing"}

WATCHED = (
    _Watched("thing.create", "thing", "INSERT", _THING),
    _Watched("thing.update", "thing", "UPDATE OF name, metadata", _THING),
    _Watched("thing.key", "thing", "UPDATE OF key_hash", {"id": "NEW.id"}),
    _Watched("thing.remove", "thing", "DELETE", {"id": "OLD.id"}),
    _Watched("channel.create", "channel", "INSERT", _THING),
    _Watched("channel.update", "channel", "UPDATE OF name, metadata", _THING),
    _Watched("channel.remove", "channel", "DELETE", {"id": "OLD.id"}),
    _Watched("thing.connect", "connection", "INSERT", {**_CONNECTION, "types": "NEW.rights"}),
    _Watched(
        "thing.connect",
        "connection",
        "UPDATE OF rights",
        {**_CONNECTION, "types": "NEW.rights & ~OLD.rights"},
        "NEW.rights & ~OLD.rights",
    ),
    _Watched(
        "thing.disconnect",
        "connection",
        "UPDATE OF rights",
        {**_CONNECTION, "types": "OLD.rights & ~NEW.rights"},
        "OLD.rights & ~NEW.rights",
    ),
    _Watched(
        "thing.disconnect",
        "connection",
        "DELETE",
        {"chan_id": "OLD.channel", "thing_id": "OLD.thing", "types": "OLD.rights"},
        _BOTH_STAY,
    ),
    _Watched("user.create", "user", "INSERT", _USER),
    _Watched("user.update", "user", "UPDATE OF email, role", _USER),
    _Watched("user.password", "user", "UPDATE OF password", {"id": "NEW.id"}),
    _Watched("user.remove", "user", "DELETE", {"id": "OLD.id"}),
    _Watched("group.create", "organisation", "INSERT", _GROUP),
    _Watched("group.update", "organisation", "UPDATE", _GROUP),
    _Watched("group.remove", "organisation", "DELETE", {"id": "OLD.id"}),
    *(
        each
        for kind in ("user", "thing", "channel")
        for each in (
            _Watched(
                "group.assign",
                f"organisation_{kind}",
                change,
                {"id": "NEW.organisation", "type": f"'{kind}s'", "member_id": f"NEW.{kind}"}
                | ({"role": "NEW.role"} if kind == "user" else {}),
            )
            for change in ("INSERT", "UPDATE")
        )
    ),
    *(
        _Watched(
            "group.unassign",
            f"organisation_{kind}",
            "DELETE",
            {"id": "OLD.organisation", "type": f"'{kind}s'", "member_id": f"OLD.{kind}"},
            f"{_GROUP_STAYS} AND EXISTS(SELECT 1 FROM {kind} WHERE id = OLD.{kind})",
        )
        for kind in ("user", "thing", "channel")
    ),
    _Watched("application.create", "application", "INSERT", {"id": "NEW.id", "role": "NEW.role"}),
    _Watched("application.update", "application", "UPDATE", {"id": "NEW.id", "role": "NEW.role"}),
    _Watched("application.remove", "application", "DELETE", {"id": "OLD.id"}),
    _Watched("policy.create", "policy", "INSERT", {"id": "NEW.name"}),
    _Watched("policy.update", "policy", "UPDATE", {"id": "NEW.name"}),
    _Watched("policy.remove", "policy", "DELETE", {"id": "OLD.name"}),
    *(
        each
        for noun, kind in (("key", "key"), ("consent", "oauth"))
        for each in (
            _Watched(f"{noun}.create", "grants", "INSERT", _GRANT, f"NEW.kind = '{kind}'"),
            _Watched(
                f"{noun}.update",
                "grants",
                "UPDATE OF hash, version, scopes, name, expires_s",
                _GRANT,
                f"NEW.kind = '{kind}'",
            ),
            _Watched(f"{noun}.remove", "grants", "DELETE", {"id": "OLD.id"}, f"OLD.kind = '{kind}'"),
        )
    ),
    _Watched("certificate.create", "certificate", "INSERT", _CERTIFICATE),
    _Watched(
        "certificate.revoke",
        "certificate",
        "UPDATE OF revoked_s",
        {**_CERTIFICATE, "reason": "NEW.reason"},
        "NEW.revoked_s IS NOT NULL AND OLD.revoked_s IS NULL",
    ),
)


@dataclass(frozen=True, slots=True)
class Waiting:
    """One event that is durable with its change; `body` is a JSON object, its metadata still a text."""

    seq: int
    at_ns: int  # UTC
    who: str
    operation: str
    body: str


def attach(conn: sqlite3.Connection, acting: Acting) -> None:
    """Have every change that `conn` makes from now on noted."""
    conn.create_function("acting_who", 0, lambda: acting()[0])
    conn.create_function("acting_ns", 0, lambda: acting()[1])
    for sql in _triggers():
        conn.execute(sql)


def _triggers() -> Iterable[str]:
    for number, each in enumerate(WATCHED):
        fields = ", ".join(f"'{name}', {source}" for name, source in each.fields.items())
        when = f" WHEN {each.when}" if each.when else ""
        yield (
            f"CREATE TEMP TRIGGER event_{number} AFTER {each.change} ON main.{each.table}{when} BEGIN"
            f" INSERT INTO event(at_ns, who, operation, body)"
            f" VALUES (acting_ns(), acting_who(), '{each.operation}', json_object({fields})); END"
        )
    yield (
        "CREATE TEMP TRIGGER event_bound AFTER INSERT ON main.event BEGIN"
        f" DELETE FROM event WHERE seq <= NEW.seq - {MAX_WAITING}; END"
    )


def waiting(conn: sqlite3.Connection, after: int, limit: int) -> list[Waiting]:
    """Events after the number `after`, the oldest first."""
    rows = conn.execute(
        "SELECT seq, at_ns, who, operation, body FROM event WHERE seq > ? ORDER BY seq LIMIT ?",
        (after, limit),
    )
    return [Waiting(*row) for row in rows]


def begin_after(conn: sqlite3.Connection, seq: int) -> None:
    """Let new numbers be above `seq`: a registry that was taken from its copy has given the same ones before."""
    with_number = conn.execute("SELECT seq FROM sqlite_sequence WHERE name = 'event'").fetchone()
    if with_number is None:
        conn.execute("INSERT INTO sqlite_sequence(name, seq) VALUES ('event', ?)", (seq,))
    elif with_number[0] < seq:
        conn.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'event'", (seq,))
