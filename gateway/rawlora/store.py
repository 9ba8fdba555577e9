"""Registered nodes in SQLite: the schema, writes as values, and reading them back at start."""

from __future__ import annotations

import sqlite3

from gateway.rawlora.node import Header, Node, NodeError
from hub.database import Migration
from hub.log import Write

_SCHEMA = (
    """CREATE TABLE raw_node (
        id TEXT PRIMARY KEY,
        header TEXT NOT NULL,            -- radiohead, byte, single
        address INTEGER NOT NULL,
        place INTEGER NOT NULL,          -- of the address in a plain frame
        freq_hz INTEGER,                 -- NULL: on any
        own_address INTEGER NOT NULL,    -- what a RadioHead node calls the gateway
        acknowledge INTEGER NOT NULL,
        name TEXT NOT NULL,
        codec TEXT NOT NULL,
        thing_id TEXT NOT NULL,
        channel_id TEXT NOT NULL
    ) WITHOUT ROWID""",
)

MIGRATIONS = (Migration("rawlora: simple nodes", _SCHEMA, {"raw_node": 60.0}),)


def added(node: Node) -> Write:
    return (
        "INSERT OR REPLACE INTO raw_node VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            node.id,
            node.header.value,
            node.address,
            node.place,
            node.freq_hz,
            node.own_address,
            int(node.acknowledge),
            node.name,
            node.codec,
            node.thing_id,
            node.channel_id,
        ),
    )


def gone(node_id: str) -> Write:
    return "DELETE FROM raw_node WHERE id = ?", (node_id,)


def load(connection: sqlite3.Connection) -> list[Node]:
    """All nodes; a damaged row is left out."""
    found = []
    for (
        header,
        address,
        place,
        freq_hz,
        own,
        acknowledge,
        name,
        codec,
        thing_id,
        channel_id,
    ) in connection.execute(
        "SELECT header, address, place, freq_hz, own_address, acknowledge, name, codec, thing_id, channel_id"
        " FROM raw_node ORDER BY id"
    ):
        try:
            found.append(
                Node(
                    header=Header(header),
                    address=address,
                    place=place,
                    freq_hz=freq_hz,
                    own_address=own,
                    acknowledge=bool(acknowledge),
                    name=name,
                    codec=codec,
                    thing_id=thing_id,
                    channel_id=channel_id,
                )
            )
        except (ValueError, TypeError, NodeError):
            continue
    return found
