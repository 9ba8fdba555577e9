"""The registry's file.

Its schema, durable changes, and a second copy for the day the first one is damaged.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from . import disk
from .database import (
    check,
    migrate,
    open_or_set_aside,
    open_reader,
    open_unwritten,
    open_writer,
    sync_directory,
    way_to_read,
    write_durably,
)
from .disk import DiskState, words
from .errors import HubError
from .events_outbox import Acting, Waiting, attach, begin_after, waiting
from .registry_tables import MIGRATIONS
from .users import Statement

log = logging.getLogger("hub.registry")

COPY_DELAY_S = 5.0  # from a change to its place in the copy; a burst of changes makes one copy
# The copy is of the whole file: a large one is made less often, for the card's sake
COPY_DELAY_S_PER_MB = 10.0


class RegistryFailed(HubError):
    """The registry's file could not be written; the change did not happen."""

    http_status = 503


class RegistryFile:
    """One connection that writes; callers hold the registry's lock."""

    def __init__(
        self, path: Path, load: Callable[[sqlite3.Connection], None], acting: Acting | None = None
    ) -> None:
        """Open `path`; with `acting`, each change is noted with who made it.

        `load` reads all of it and raises sqlite3.DatabaseError where something cannot be right. Where the disk
        is full or read-only it reads the file as it is; changes are refused until it can be written again.
        """
        self._path = path
        self._load = load
        self._acting = acting
        self._told = 0  # number of the last event that need not wait any longer
        self.set_aside: Path | None = None
        self.failed = False
        self._conn: sqlite3.Connection | None = None
        self._copier: threading.Timer | None = None
        self._copying = threading.Lock()
        try:
            self._conn = self._open()
        except (sqlite3.Error, OSError) as error:
            if disk.trouble(error, path.parent) is None:
                raise
            log.error("%s cannot be opened for writing: %s", path.name, error)
            with contextlib.closing(open_unwritten(way_to_read(path, MIGRATIONS), MIGRATIONS)) as conn:
                load(conn)
        else:
            self._copy_or_say()

    def write(self, statements: Sequence[Statement]) -> None:
        """Run `statements` in one durable transaction; after a failed commit no more changes are taken.

        Raises RegistryFailed; where the disk is full or read-only another time may do better.
        """
        if self.failed:
            raise RegistryFailed("the registry cannot be written; the gateway must start again")
        if not statements:
            return
        try:
            try:
                self._commit(statements)
            except sqlite3.Error as error:
                if self._conn is None or disk.trouble(error, self._path.parent) is not DiskState.READ_ONLY:
                    raise
                # A connection made while the disk was read-only stays so: see whether that has passed.
                self._conn.close()
                self._conn = None
                self._commit(statements)
        except (sqlite3.Error, OSError) as error:
            state = disk.trouble(error, self._path.parent)
            self.failed = state is None and self._conn is not None
            raise RegistryFailed(
                words(state) if state else f"the registry cannot be written: {error}"
            ) from error
        self._copy_soon()

    def _commit(self, statements: Sequence[Statement]) -> None:
        if self._conn is None:
            self._conn = self._open()
        conn = self._conn
        try:
            conn.execute("BEGIN IMMEDIATE")
            for sql, parameters in statements:
                conn.execute(sql, parameters)
            if self._told:
                conn.execute("DELETE FROM event WHERE seq <= ?", (self._told,))
            conn.execute("COMMIT")
        except BaseException:
            if conn.in_transaction:
                conn.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close with a fresh copy beside the file, or with the earlier one where there is no room for it."""
        if self._copier:
            self._copier.cancel()
        try:
            if not self.failed and self._conn is not None:
                self._copy_or_say()
        finally:
            with self._copying:  # a copy under way reads the file
                if self._conn is not None:
                    self._conn.close()

    # Events (`hub.events`)

    def begin_events(self, after: int) -> None:
        """Give new events numbers above `after`; where the disk cannot be written now, say so."""
        try:
            if self._conn is not None:
                begin_after(self._conn, after)
        except sqlite3.Error as error:
            log.warning("numbers of events may repeat: %s", error)

    def events_after(self, after: int, limit: int) -> list[Waiting]:
        return waiting(self._conn, after, limit) if self._conn is not None else []

    def events_are_in(self, last: int) -> None:
        """Events up to the number `last` are safe elsewhere; the next change takes them from the file."""
        self._told = last

    # The second copy

    def _copy_soon(self) -> None:
        """Have the copy made again, in a thread of its own, a while after the first change it lacks."""
        if self._copier is None or not self._copier.is_alive():
            self._copier = threading.Timer(self._copy_delay_s(), self._copy_or_say)
            self._copier.name, self._copier.daemon = "hub-registry-copy", True
            self._copier.start()

    def _copy_delay_s(self) -> float:
        try:
            return COPY_DELAY_S + COPY_DELAY_S_PER_MB * (self._path.stat().st_size >> 20)
        except OSError:
            return COPY_DELAY_S

    def _copy_or_say(self) -> None:
        try:
            with self._copying:
                self._copy()
        except (sqlite3.Error, OSError) as error:
            log.warning("the copy of the registry stays as it was: %s", error)

    def _copy(self) -> None:
        """Keep a second copy beside the file.

        It is renamed into place, so that there is always a whole one. Reads through a connection of its own:
        nobody who changes or asks the registry waits for it.
        """
        target = self._copy_path()
        temporary = target.with_name(target.name + ".new")
        temporary.unlink(missing_ok=True)
        with (
            contextlib.closing(open_reader(self._path)) as conn,
            contextlib.closing(sqlite3.connect(temporary)) as copy,
        ):
            conn.backup(copy)
        temporary.chmod(0o600)
        temporary.replace(target)
        sync_directory(target.parent)

    # Opening

    def _open(self) -> sqlite3.Connection:
        """The file; where it is damaged or gone, its copy; where that is damaged as well, a fresh one."""
        if not self._path.exists() or not self._path.stat().st_size:
            self._take_copy()
        conn, aside = open_or_set_aside(self._path, self._open_checked, between=self._take_copy)
        self.set_aside = aside or self.set_aside
        return conn

    def _take_copy(self) -> None:
        """Put the copy, if there is one, in the place of the file: whole, or not at all."""
        copy = self._copy_path()
        if not copy.exists():
            return
        log.error("taking the copy of the registry: the last seconds' changes may be missing")
        for suffix in ("-wal", "-shm"):  # of the lost file; they would be played into the copy
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        write_durably(self._path, copy.read_bytes())

    def _open_checked(self) -> sqlite3.Connection:
        conn = open_writer(self._path)
        try:
            check(conn, self._path, thorough=True, patient=True)
            tables = {name for (name,) in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            if tables - {"migration"} and "thing" not in tables:
                raise sqlite3.DatabaseError("it is some other database")
            migrate(conn, MIGRATIONS)
            if conn.execute("PRAGMA foreign_key_check").fetchone():
                raise sqlite3.DatabaseError("a row points to one that is not there")
            self._load(conn)
            if self._acting is not None:
                attach(conn, self._acting)
        except BaseException:
            conn.close()
            raise
        return conn

    def _copy_path(self) -> Path:
        return self._path.with_name(self._path.name + ".copy")
