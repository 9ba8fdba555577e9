"""SQLite as the hub uses it: one connection writes and checkpoints, readers open read-only, damage is set
aside.

Two connections that write or checkpoint at the same instant can corrupt a WAL database in SQLite 3.7.0 to
3.51.2, Debian's versions among them. So each file has one writing connection, in one process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from . import wal

log = logging.getLogger("hub.database")

BUSY_TIMEOUT_S = 5.0  # readers of WAL do not block; this covers a recovery by the writer at start
WAL_BYTES = 4 << 20  # of pages, after which they are moved into the file; also what the WAL is filled up to
KEPT_DAMAGED = 3  # damaged files kept for a technician; the oldest goes
CHECK_S = 5.0  # a start takes no longer for looking through a file
CHECK_TURNS = 10_000  # of SQLite's machine between two looks at the clock
FULL_CHECK_BYTES = 64 << 20  # a file up to this size is checked page by page at each start (about 0.3 s)


# Answers that blame the machine and not the file: another start may do better, a fresh file would not.
_ENVIRONMENT = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
    }
)

_NOTHING = "file::memory:"  # an empty database, where a file cannot be read at all

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of a schema: `statements` run in one transaction together with the record that they ran.

    A name is never reused and the statements never edited. Of tables in the log's file that hold identity or
    counters, `copied` says within how many seconds a change must be in the copy beside it, and `after_copy` how
    their counters jump forward where the copy had to be taken.
    """

    name: str
    statements: Sequence[str]
    copied: Mapping[str, float] = field(default_factory=dict)
    after_copy: Sequence[str] = ()


def open_writer(
    path: Path,
    *,
    page_size: int = 4096,
    connection: type[sqlite3.Connection] = sqlite3.Connection,
    incremental_vacuum: bool = False,
    relaxed: bool = False,
    on_loss: Callable[[int], None] = lambda commits: None,
) -> sqlite3.Connection:
    """The one connection that writes `path`: WAL, synchronous=FULL, transactions begun and ended by hand.

    With `incremental_vacuum` a new file can give free pages back in steps. `on_loss` is told how many durable
    transactions at least went with a damaged WAL; nobody is where `relaxed`, for who lowers `synchronous` at times, so
    that a power cut takes commits as well. The connection may be handed to another thread but used by one at a
    time. Raises sqlite3.DatabaseError where the file is no database or damaged.
    """
    before = wal.Wal() if relaxed else wal.look(path)
    conn = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=256, factory=connection
    )
    try:
        conn.execute(f"PRAGMA page_size = {page_size}")
        if incremental_vacuum:
            conn.execute("PRAGMA auto_vacuum = INCREMENTAL")  # counts only before the first table
        conn.execute("PRAGMA journal_mode = WAL")
        conn.execute("PRAGMA synchronous = FULL")
        conn.execute("PRAGMA foreign_keys = ON")
        conn.execute(f"PRAGMA wal_autocheckpoint = {WAL_BYTES // page_size}")
        # A reader that held up checkpoints leaves a long WAL; cut it back to twice its usual length.
        conn.execute(f"PRAGMA journal_size_limit = {2 * WAL_BYTES}")
    except BaseException:
        conn.close()
        raise
    if not relaxed and (commits := wal.lost(path, before)):
        log.error("%s-wal was damaged: the newest changes are lost, at least %d of them", path.name, commits)
        on_loss(commits)
    return conn


def open_reader(path: Path) -> sqlite3.Connection:
    """A read-only connection that never checkpoints. The writer must have opened the file before."""
    conn = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode=ro",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=BUSY_TIMEOUT_S,
    )
    conn.execute("PRAGMA wal_autocheckpoint = 0")
    return conn


def way_to_read(path: Path, schema: Sequence[Migration]) -> str:
    """How a database can be read on a disk where nothing can be written, as a URI for `open_unwritten`.

    The index of its WAL, which readers usually share in a file, is then kept in memory. Right only as long as
    nobody writes. Where the file is damaged, gone or older than `schema`, an empty one in memory takes its place.
    """
    file = f"file:{quote(str(path.absolute()))}"
    ways = [f"{file}?mode=ro&vfs=unix-none"]  # without locks, which a read-only file system may not give
    log_ahead = path.with_name(path.name + "-wal")
    if not log_ahead.exists() or not log_ahead.stat().st_size:
        ways.append(f"{file}?mode=ro&immutable=1")
    reason = ""
    for way in ways:
        try:
            with contextlib.closing(_connect_unwritten(way)) as conn:
                check(conn, path)
                known = {name for (name,) in conn.execute("SELECT name FROM migration")}
            if all(migration.name in known for migration in schema):
                return way
        except (sqlite3.Error, OSError) as error:
            reason = str(error)
        else:
            reason = "a newer version would have to change it first"
    log.error("%s cannot be read either: %s", path.name, reason)
    return _NOTHING


def open_unwritten(way: str, schema: Sequence[Migration]) -> sqlite3.Connection:
    """A reading connection of its own, as `way_to_read` found it."""
    conn = _connect_unwritten(way)
    if way == _NOTHING:
        migrate(conn, schema)
    return conn


def _connect_unwritten(uri: str) -> sqlite3.Connection:
    conn = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    conn.execute("PRAGMA locking_mode = EXCLUSIVE")  # no file for the WAL's index
    return conn


def check(conn: sqlite3.Connection, path: Path, *, thorough: bool = False, patient: bool = False) -> None:
    """Raise sqlite3.DatabaseError where the file is damaged.

    Page by page if small or `thorough`, else its schema. Unless `patient` that ends after CHECK_S: a large file
    in which damage was met (`thorough`) then counts as damaged, any other as whole as far as anybody knows.
    """
    large = path.stat().st_size > FULL_CHECK_BYTES
    if large and not thorough:
        conn.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        return
    deadline = time.monotonic() + CHECK_S
    if not patient:
        conn.set_progress_handler(lambda: time.monotonic() > deadline, CHECK_TURNS)
    try:
        (answer,) = conn.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if primary_code(error) != sqlite3.SQLITE_INTERRUPT:
            raise
        if large:
            raise sqlite3.DatabaseError("damage was met in it, and looking for it takes too long") from error
        answer = "ok"
    finally:
        conn.set_progress_handler(None, 0)
    if answer != "ok":
        raise sqlite3.DatabaseError(f"quick_check: {answer}")


def migrate(conn: sqlite3.Connection, migrations: Sequence[Migration]) -> list[str]:
    """Run the migrations that have not run yet, in order, one transaction each. Returns their names."""
    conn.execute("CREATE TABLE IF NOT EXISTS migration(name TEXT PRIMARY KEY) WITHOUT ROWID")
    known = {name for (name,) in conn.execute("SELECT name FROM migration")}
    done = []
    for migration in migrations:
        if migration.name in known:
            continue
        conn.execute("BEGIN IMMEDIATE")
        try:
            for statement in migration.statements:
                conn.execute(statement)
            conn.execute("INSERT INTO migration(name) VALUES (?)", (migration.name,))
        except BaseException:
            conn.execute("ROLLBACK")
            raise
        conn.execute("COMMIT")
        done.append(migration.name)
    return done


def open_or_set_aside(
    path: Path, opener: Callable[[], T], between: Callable[[], None] = lambda: None
) -> tuple[T, Path | None]:
    """What `opener` makes of the database at `path`; if that is damaged, what it makes of another one.

    `between` may put a copy in its place; where there is none, or the copy is damaged as well, a fresh one is
    begun. Also returns the name the damaged file was given. Start equals recovery: nothing in a file keeps us
    from it.
    """
    aside: Path | None = None
    for recover in (between, lambda: None):
        try:
            return opener(), aside
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if is_environment(error):
                raise
            log.error("%s does not open: %s", path.name, error)
        aside = set_aside(path)
        recover()
    return opener(), aside


def primary_code(error: Exception) -> int:
    """SQLite's primary result code; -1 where the error did not come from SQLite itself."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else -1


def is_environment(error: Exception) -> bool:
    """True where the disk, its rights or its room are to blame, and not what the file holds."""
    return primary_code(error) in _ENVIRONMENT


def is_damage(error: Exception) -> bool:
    """True where SQLite found the file itself damaged."""
    return primary_code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def grow_wal(path: Path, page_size: int) -> None:
    """Fill the WAL up to its full length once, so that no later commit pays for a file that grows.

    ext4 journals each new size: a growing WAL costs two flushes a commit instead of one. Zeros are never
    taken for a frame, which names a page above 0 and carries the salt and checksum of its file (SQLite file
    format, 4.2). Called by the writer, between its transactions, after the first one of this start.
    """
    full = 32 + WAL_BYTES // page_size * (24 + page_size)
    with path.with_name(path.name + "-wal").open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size < full:
            file.write(bytes(full - size))
            file.flush()
            os.fsync(file.fileno())


def set_aside(path: Path) -> Path:
    """Rename a damaged database and its WAL so that a fresh one can start; returns the new name."""
    pattern = re.compile(re.escape(path.name) + r"\.damaged-(\d+)")
    earlier = [int(found[1]) for part in path.parent.iterdir() if (found := pattern.fullmatch(part.name))]
    number = max(earlier, default=0) + 1
    target = path.with_name(f"{path.name}.damaged-{number}")
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(target.with_name(target.name + suffix))
    sync_directory(path.parent)
    for old in sorted([*earlier, number])[:-KEPT_DAMAGED]:
        for suffix in ("", "-wal", "-shm"):
            path.with_name(f"{path.name}.damaged-{old}{suffix}").unlink(missing_ok=True)
    log.error("%s is damaged: kept as %s, starting with an empty one", path.name, target.name)
    return target


def sync_directory(folder: Path) -> None:
    """Make renames and new names in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_durably(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace `path` by `content` so that after a crash either the old or the new content is there."""
    temporary = path.with_name(path.name + ".new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        left = memoryview(content)
        while left:  # a disk that becomes full takes a part first
            left = left[os.write(handle, left) :]
        os.fsync(handle)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    finally:
        os.close(handle)
    temporary.replace(path)
    sync_directory(path.parent)
