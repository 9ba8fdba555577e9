"""How far each stream of a cluster has been read: the table, apart from the client, which few gateways load."""

from __future__ import annotations

from hub.database import Migration

MIGRATIONS = (
    Migration(
        "nats: how far each stream has been read",
        (
            "CREATE TABLE nats_source("  # a stream that is deleted and made again begins anew: another `created`
            "source TEXT NOT NULL, stream TEXT NOT NULL, created TEXT NOT NULL, seq INTEGER NOT NULL, "
            "PRIMARY KEY(source, stream, created)) WITHOUT ROWID",
        ),
    ),
)
SELECT = "SELECT seq FROM nats_source WHERE source = ? AND stream = ? AND created = ?"
UPSERT = (
    "INSERT INTO nats_source(source, stream, created, seq) VALUES (?, ?, ?, ?) "
    "ON CONFLICT(source, stream, created) DO UPDATE SET seq = excluded.seq"
)
