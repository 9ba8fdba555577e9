"""The registry's tables: every step of its schema in order, those of its parts included."""

from __future__ import annotations

from .database import Migration

MIGRATIONS = (
    Migration(
        "registry/1",
        (
            """CREATE TABLE thing(
                id TEXT PRIMARY KEY, name TEXT NOT NULL, metadata TEXT NOT NULL,
                key_hash BLOB NOT NULL UNIQUE, key_version INTEGER NOT NULL)""",
            "CREATE TABLE channel(id TEXT PRIMARY KEY, name TEXT NOT NULL, metadata TEXT NOT NULL)",
            """CREATE TABLE connection(
                channel TEXT NOT NULL REFERENCES channel ON DELETE CASCADE,
                thing TEXT NOT NULL REFERENCES thing ON DELETE CASCADE,
                PRIMARY KEY (channel, thing)) WITHOUT ROWID""",
            "CREATE INDEX connection_by_thing ON connection(thing)",
            """CREATE TABLE user(
                id TEXT PRIMARY KEY, email TEXT NOT NULL UNIQUE, role TEXT NOT NULL, password TEXT NOT
                NULL)""",
            """CREATE TABLE token(
                hash BLOB PRIMARY KEY, user TEXT NOT NULL REFERENCES user ON DELETE CASCADE,
                issued_s REAL NOT NULL, used_s REAL NOT NULL) WITHOUT ROWID""",
            "CREATE TABLE claim(id INTEGER PRIMARY KEY, code BLOB NOT NULL, tries INTEGER NOT NULL)",
        ),
    ),
    Migration(
        "registry/2",
        (
            """CREATE TABLE policy(
                name TEXT PRIMARY KEY, document TEXT NOT NULL, updated_s REAL NOT NULL) WITHOUT ROWID""",
        ),
    ),
    # 1: publish, 2: subscribe, 3: both, as all connections were before.
    Migration("registry/3", ("ALTER TABLE connection ADD COLUMN rights INTEGER NOT NULL DEFAULT 3",)),
)
