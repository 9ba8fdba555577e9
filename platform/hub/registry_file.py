"""The registry's file.

Its schema, durable changes, and a second copy for the day the first one is damaged.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from .database import Migration, check, migrate, open_or_set_aside, open_writer, primary_code, sync_directory
from .errors import HubError
from .users import Statement

log = logging.getLogger("hub.registry")

_MIGRATIONS = (
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
)


class RegistryFailed(HubError):
    """The registry's file could not be written; the change did not happen."""

    http_status = 503


class RegistryFile:
    """One connection; callers hold the registry's lock."""

    def __init__(self, path: Path, load: Callable[[sqlite3.Connection], None]) -> None:
        """Open `path`.

        `load` reads all of it and raises sqlite3.DatabaseError where something cannot be right.
        """
        self._path = path
        self._load = load
        self.set_aside: Path | None = None
        self.failed = False
        self.conn = self._open()

    def write(self, statements: Sequence[Statement]) -> None:
        """Run `statements` in one durable transaction; after a failed commit no more changes are taken.

        Raises RegistryFailed.
        """
        if self.failed:
            raise RegistryFailed("the registry cannot be written; the gateway must start again")
        if not statements:
            return
        conn = self.conn
        try:
            conn.execute("BEGIN IMMEDIATE")
            for sql, parameters in statements:
                conn.execute(sql, parameters)
            conn.execute("COMMIT")
        except sqlite3.Error as error:
            self.failed = primary_code(error) != sqlite3.SQLITE_FULL
            if conn.in_transaction:
                conn.execute("ROLLBACK")
            raise RegistryFailed(f"the registry cannot be written: {error}") from error

    def copy(self) -> None:
        """Keep a second copy beside the file.

        It is renamed into place, so that there is always a whole one.
        """
        target = self._copy_path()
        temporary = target.with_name(target.name + ".new")
        temporary.unlink(missing_ok=True)
        copy = sqlite3.connect(temporary)
        try:
            self.conn.backup(copy)
        finally:
            copy.close()
        temporary.chmod(0o600)
        temporary.replace(target)
        sync_directory(target.parent)

    def close(self) -> None:
        """Close with a fresh copy beside the file, or with the earlier one where there is no room for it."""
        try:
            if not self.failed:
                self.copy()
        except (sqlite3.Error, OSError) as error:
            log.warning("the copy of the registry stays as it was: %s", error)
        finally:
            self.conn.close()

    def _open(self) -> sqlite3.Connection:
        """The file; where it is damaged or gone, its copy; where that is damaged as well, a fresh one."""
        copy = self._copy_path()
        gone = not self._path.exists()
        conn, self.set_aside = open_or_set_aside(self._path, self._open_checked)
        if (gone or self.set_aside) and copy.exists():
            conn.close()
            log.error("taking the copy of the registry: changes since the last start may be missing")
            shutil.copyfile(copy, self._path)
            conn, _ = open_or_set_aside(self._path, self._open_checked)
        return conn

    def _open_checked(self) -> sqlite3.Connection:
        conn = open_writer(self._path)
        try:
            check(conn, self._path, thorough=True)
            migrate(conn, _MIGRATIONS)
            if conn.execute("PRAGMA foreign_key_check").fetchone():
                raise sqlite3.DatabaseError("a row points to one that is not there")
            self._load(conn)
        except BaseException:
            conn.close()
            raise
        return conn

    def _copy_path(self) -> Path:
        return self._path.with_name(self._path.name + ".copy")
