"""What a site keeps of a device beside what the network server needs: its rhythm, notes, tags and moves.

One row of `lorawan_record` for each device. The server works without them; a device whose row is lost keeps the
codec it has.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from gateway.lorawan.errors import OrderError
from gateway.lorawan.profile import MAX_INTERVAL_S, Profile
from gateway.lorawan.types import DevEUI
from hub.database import Migration
from hub.log import Write

MAX_TAGS = 16
MAX_TAG = 64  # characters of a tag's name or value
MAX_DESCRIPTION = 500

MIGRATIONS = (
    Migration(
        "devices: expected interval, notes, tags and moves of each",
        (
            """CREATE TABLE lorawan_record (
                dev_eui TEXT PRIMARY KEY,
                own_codec INTEGER NOT NULL,      -- 0: the codec is the profile's
                interval_s INTEGER,              -- between reports; NULL: as the profile says
                description TEXT NOT NULL,
                tags TEXT NOT NULL,              -- JSON object of texts
                registered_ns INTEGER NOT NULL,  -- UTC, as the next ones
                exported_ns INTEGER,             -- its session was copied to another gateway
                moved_ns INTEGER                 -- another gateway serves it since
            ) WITHOUT ROWID""",
        ),
        {"lorawan_record": 60.0},
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Raises OrderError for what does not fit."""

    own_codec: bool = True
    interval_s: int | None = None
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    registered_ns: int = 0
    exported_ns: int | None = None
    moved_ns: int | None = None

    def __post_init__(self) -> None:
        if self.interval_s is not None and not 0 <= self.interval_s <= MAX_INTERVAL_S:
            raise OrderError(f"the expected interval is 0 to {MAX_INTERVAL_S} seconds")
        if len(self.description) > MAX_DESCRIPTION:
            raise OrderError(f"a description has at most {MAX_DESCRIPTION} characters")
        if len(self.tags) > MAX_TAGS:
            raise OrderError(f"a device has at most {MAX_TAGS} tags")
        for name, value in self.tags.items():
            if not 0 < len(name) <= MAX_TAG or len(value) > MAX_TAG:
                raise OrderError(f"name and value of a tag have at most {MAX_TAG} characters")

    def expected_s(self, profile: Profile) -> int:
        """Seconds between reports; 0: nobody knows."""
        return profile.expected_interval_s if self.interval_s is None else self.interval_s


UNKNOWN = Record()


class Records:
    """The records of all registered devices, by DevEUI; as many as there are devices."""

    def __init__(self, records: Mapping[int, Record] | None = None) -> None:
        self._records = dict(records or {})

    @classmethod
    def load(cls, conn: sqlite3.Connection) -> Records:
        """What was kept; a row that cannot be read is as if it were not there."""
        records: dict[int, Record] = {}
        for eui, own_codec, interval_s, description, tags, *times in conn.execute(
            "SELECT dev_eui, own_codec, interval_s, description, tags, registered_ns, exported_ns, moved_ns"
            " FROM lorawan_record"
        ):
            try:
                records[DevEUI.parse(eui)] = Record(
                    own_codec=bool(own_codec),
                    interval_s=interval_s,
                    description=description,
                    tags=msgspec.json.decode(tags, type=dict[str, str]),
                    registered_ns=times[0],
                    exported_ns=times[1],
                    moved_ns=times[2],
                )
            except (ValueError, TypeError, OrderError):
                continue
        return cls(records)

    def get(self, dev_eui: int) -> Record:
        return self._records.get(dev_eui, UNKNOWN)

    def put(self, dev_eui: int, record: Record) -> None:
        self._records[dev_eui] = record

    def remove(self, dev_eui: int) -> None:
        self._records.pop(dev_eui, None)

    @staticmethod
    def write(dev_eui: DevEUI, record: Record) -> Write:
        """What keeps a record; `put` once it is durable."""
        return (
            "INSERT OR REPLACE INTO lorawan_record VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                str(dev_eui),
                int(record.own_codec),
                record.interval_s,
                record.description,
                msgspec.json.encode(dict(record.tags)).decode(),
                record.registered_ns,
                record.exported_ns,
                record.moved_ns,
            ),
        )

    @staticmethod
    def gone(dev_eui: DevEUI) -> Write:
        return "DELETE FROM lorawan_record WHERE dev_eui = ?", (str(dev_eui),)
