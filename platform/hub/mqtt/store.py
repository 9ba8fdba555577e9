"""The rows of the MQTT door in the log's database: kept sessions, retained messages, wills, shared
subscriptions.

Statements only; the log's writer runs them, in the transaction of the messages they belong to.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from hub.database import Migration
from hub.message import Message
from hub.mqtt.session import Session
from hub.mqtt.sharing import Group

Write: TypeAlias = tuple[str, tuple[Any, ...]]

MIGRATIONS = (
    Migration(
        "mqtt: kept sessions and retained messages",
        (
            "CREATE TABLE mqtt_session("
            "thing TEXT NOT NULL, client TEXT NOT NULL, state TEXT NOT NULL, PRIMARY KEY(thing, client)"
            ") WITHOUT ROWID",
            "CREATE TABLE mqtt_retained("  # message: hub.message.Message as a msgpack array
            "channel TEXT NOT NULL, subtopic TEXT NOT NULL, message BLOB NOT NULL, "
            "PRIMARY KEY(channel, subtopic)) WITHOUT ROWID",
        ),
    ),
    Migration(
        "mqtt: shared subscriptions",
        ("CREATE TABLE mqtt_group(key TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID",),
    ),
    Migration(
        "mqtt: wills of connections that leave no session",
        # will: hub.mqtt.wills.Left as msgpack
        ("CREATE TABLE mqtt_will(id INTEGER PRIMARY KEY, will BLOB NOT NULL)",),
    ),
)

SELECT_SESSIONS = "SELECT thing, client, state FROM mqtt_session"
SELECT_GROUPS = "SELECT key, state FROM mqtt_group"
SELECT_WILLS = "SELECT id, will FROM mqtt_will ORDER BY id"
SELECT_RETAINED = "SELECT channel, subtopic, message FROM mqtt_retained"


def save_session(session: Session) -> Write:
    """Write the state of a kept session as it is now."""
    return (
        "INSERT INTO mqtt_session(thing, client, state) VALUES (?, ?, ?) "
        "ON CONFLICT(thing, client) DO UPDATE SET state = excluded.state",
        (session.identity, session.client_id, session.state().decode()),
    )


def delete_session(identity: str, client_id: str) -> Write:
    """Forget a kept session."""
    return "DELETE FROM mqtt_session WHERE thing = ? AND client = ?", (identity, client_id)


def save_group(group: Group) -> Write:
    """Write the state of a shared subscription as it is now."""
    return (
        "INSERT INTO mqtt_group(key, state) VALUES (?, ?) "
        "ON CONFLICT(key) DO UPDATE SET state = excluded.state",
        (group.key, group.state().decode()),
    )


def delete_group(key: str) -> Write:
    """Forget a shared subscription."""
    return "DELETE FROM mqtt_group WHERE key = ?", (key,)


def save_will(number: int, will: bytes) -> Write:
    """Keep the will of a connection."""
    return "INSERT OR REPLACE INTO mqtt_will(id, will) VALUES (?, ?)", (number, will)


def delete_will(number: int) -> Write:
    """The will is published, or was taken back."""
    return "DELETE FROM mqtt_will WHERE id = ?", (number,)


def save_retained(message: Message) -> Write:
    """Keep `message` as the retained one of its address."""
    return (
        "INSERT INTO mqtt_retained(channel, subtopic, message) VALUES (?, ?, ?) "
        "ON CONFLICT(channel, subtopic) DO UPDATE SET message = excluded.message",
        (message.channel, message.subtopic, msgspec.msgpack.encode(message)),
    )


def delete_retained(channel: str, subtopic: str) -> Write:
    """Clear the retained message of an address."""
    return "DELETE FROM mqtt_retained WHERE channel = ? AND subtopic = ?", (channel, subtopic)
