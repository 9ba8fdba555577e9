"""The host key in its file and the data keys in the database: opened at start, made where there are none, and how the
host key is replaced.

A new host key first lies beside the old one. Then the data keys are committed as wrapped by it, then it takes the old
one's place. Whenever that is cut short, the next start sees by which of the two the data keys open.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway.lorawan import groupstore, store
from gateway.lorawan.outcome import Writes
from gateway.lorawan.seal import DATA_KEYS, SEAL_KEY_SIZE, HostKey, Sealer, new_data_key, opened
from hub.database import write_durably
from hub.hub import Hub
from hub.keys import load_secret
from hub.log_copy import copied_rows

HOST_KEY_FILE = "lorawan.key"
NEXT_KEY_FILE = "lorawan.key.next"

log = logging.getLogger("gateway.keyring")

_OF_DEVICE = ("lorawan_device", "dev_eui", ("app_key", "nwk_key"))
_OF_SESSION = (
    "lorawan_session",
    "id",
    ("nwk_s_key", "app_s_key", "s_nwk_s_int_key", "nwk_s_enc_key"),
)
_OF_GROUP = ("lorawan_group", "name", ("nwk_s_key", "app_s_key"))
# Every table that holds sealed keys: its primary key, the columns, whose they are, and what they are sealed for.
_SEALED: tuple[tuple[str, str, tuple[str, ...], str, Callable[[Any, str], bytes]], ...] = (
    (*_OF_DEVICE, "dev_eui", store.context),
    (*_OF_SESSION, "dev_eui", store.context),
    (*_OF_GROUP, "name", groupstore.context),
)


async def opened_sealer(folder: Path, hub: Hub) -> Sealer:
    """What seals and opens the keys of devices. Raises OSError where the folder cannot be used."""
    with contextlib.closing(hub.log.reader()) as reader:
        rows = reader.connection.execute(f"SELECT id, wrapped FROM {DATA_KEYS}").fetchall()
    _finish_replacing(folder, rows)
    host = HostKey(load_secret(folder / HOST_KEY_FILE, SEAL_KEY_SIZE, "register every device again"))
    keys = opened(host, rows)
    if lost := {key_id for key_id, _ in rows}.difference(keys):
        from_copy = opened(host, _rows(copied_rows(hub.log.path)))
        found = {key_id: from_copy[key_id] for key_id in lost if key_id in from_copy}
        await hub.log.write([host.wrap(key_id, key) for key_id, key in found.items()])
        keys |= found
        words = "are taken from the log's copy" if found.keys() == lost else "cannot be opened"
        log.error("data keys %s %s", ", ".join(map(str, sorted(lost))), words)
    if not keys:
        key_id = max((key_id for key_id, _ in rows), default=0) + 1
        keys[key_id] = new_data_key()
        await hub.log.write([host.wrap(key_id, keys[key_id])])
    return Sealer(keys, host)


async def seal_anew(hub: Hub, sealer: Sealer) -> None:
    """Seal as they are now those keys that an earlier version has sealed, or an earlier data key."""
    with contextlib.closing(hub.log.reader()) as reader:
        writes = sealed_anew(reader.connection, sealer)
    if writes:
        await hub.log.write(writes)


def sealed_anew(conn: sqlite3.Connection, sealer: Sealer) -> Writes:
    """What to write so that no sealed key is stale; those that cannot be opened stay as they are."""
    writes: Writes = []
    for table, key, columns, owner, context in _SEALED:
        rows = conn.execute(f"SELECT {key}, {owner}, {', '.join(columns)} FROM {table}")
        for number, name, *blobs in rows:
            for column, sealed in zip(columns, blobs, strict=True):
                if sealed is None or not sealer.stale(sealed):
                    continue
                with contextlib.suppress(ValueError):
                    fresh = sealer.seal(sealer.unseal(sealed, context(name, column)), context(name, column))
                    writes.append((f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (fresh, number)))
    return writes


async def replace_host_key(folder: Path, hub: Hub, sealer: Sealer) -> None:
    """Make a new host key and wrap the data keys by it. Nothing else may have the data directory open."""
    key = secrets.token_bytes(SEAL_KEY_SIZE)
    write_durably(folder / NEXT_KEY_FILE, key)
    rows = sealer.wrapped_by(HostKey(key))
    await hub.log.write(rows)
    _finish_replacing(folder, [(key_id, wrapped) for _, (key_id, wrapped) in rows])


def _finish_replacing(folder: Path, rows: Sequence[tuple[int, bytes]]) -> None:
    """Put a new host key into its place if the data keys are wrapped by it already; else it never counted."""
    following = folder / NEXT_KEY_FILE
    if not following.exists():
        return
    key = following.read_bytes()
    if len(key) == SEAL_KEY_SIZE and opened(HostKey(key), rows):
        place = folder / HOST_KEY_FILE
        copy = place.with_name(place.name + ".copy")
        copy.unlink(missing_ok=True)  # else it would be taken for the whole one of two
        write_durably(place, key)
        load_secret(place, SEAL_KEY_SIZE, "")  # gives both files their checksum
    following.unlink()


def _rows(copied: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterable[tuple[int, bytes]]:
    return [(row["id"], row["wrapped"]) for row in copied.get(DATA_KEYS, ())]
