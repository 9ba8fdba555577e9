"""Reading the log: committed messages after a sequence number, over a read-only connection.

Each thread that reads has a reader of its own; `Log` holds one for the event loop.
"""

from __future__ import annotations

import logging
import sqlite3
import zlib
from collections.abc import Callable
from typing import Any

import msgspec

from .log_source import ReaderSource, SourcedConnection
from .message import Message

log = logging.getLogger("hub.log")

STEP = 256  # rows fetched at once: about 64 KiB of bodies


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Message).decode


def encode_row(message: Message) -> bytes:
    """The body of a row.

    The message as msgpack, then its CRC-32. SQLite itself does not notice a flipped bit.
    """
    packed = _pack(message)
    return packed + zlib.crc32(packed).to_bytes(4, "big")


def decode_row(seq: int, body: bytes | None) -> Message | None:
    """The message of row `seq`, or None where the row is damaged."""
    if body is None:
        return None
    packed = body[:-4]
    if zlib.crc32(packed) != int.from_bytes(body[-4:], "big"):
        return None
    message = _unpack(packed)
    return message if message.seq == seq else None


class LogReader:
    """Reads messages in ascending order of their numbers.

    Passes over rows that are damaged and counts them.
    """

    def __init__(self, source: ReaderSource) -> None:
        self._conn = SourcedConnection(source)
        self.damaged = 0

    def scan(
        self,
        after_seq: int,
        match: Callable[[Message], bool] | None,
        limit: int,
        *,
        max_rows: int | None = None,
        up_to: int | None = None,
    ) -> tuple[list[Message], int]:
        """Up to `limit` messages that match, and the number up to which the log has been looked through.

        Looks at no more than `max_rows` rows and not beyond `up_to`, so that a rare match cannot hold a
        caller up.
        """
        found: list[Message] = []
        seen = after_seq
        left = max_rows if max_rows is not None else (1 << 62)
        last = up_to if up_to is not None else (1 << 62)
        while len(found) < limit and left > 0:
            step = min(STEP, left) if match else min(STEP, left, limit - len(found))
            rows = self._conn.rows(
                "SELECT seq, CAST(body AS BLOB) FROM log WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
                (seen, last, step),
            )
            for seq, body in rows:
                message = decode_row(seq, body)
                seen = seq
                if message is None:
                    self._report(seq)
                elif match is None or match(message):
                    found.append(message)
                    if len(found) == limit:
                        break
            left -= len(rows)
            if len(rows) < step:
                break
        else:
            return found, seen
        if len(found) < limit and up_to is not None:
            seen = max(seen, up_to)  # nothing more up to there
        return found, seen

    def read_one(self, seq: int) -> Message | None:
        """The message with this number, or None where it is not (or no longer) there."""
        rows = self._conn.rows("SELECT CAST(body AS BLOB) FROM log WHERE seq = ?", (seq,))
        if not rows:
            return None
        message = decode_row(seq, rows[0][0])
        if message is None:
            self._report(seq)
        return message

    def _report(self, seq: int) -> None:
        self.damaged += 1
        log.error("row %d of the log is damaged and passed over", seq)

    def query(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Any reading statement over the log's file, other parts' tables included."""
        return self._conn.rows(sql, params)

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection itself, for who reads other parts' tables with it at once."""
        return self._conn.connection

    def close(self) -> None:
        self._conn.close()
