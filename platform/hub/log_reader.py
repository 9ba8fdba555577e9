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
FETCH_BYTES = 4 << 20  # of rows fetched at once, once their size is known; alone large ones make fewer


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Message).decode

# First byte of a row that is compressed; a msgpack array, which a row is otherwise, never begins with it.
_DEFLATED = b"\x01"
# What rows have in common. Rows that are stored need it as it is: never edited, only followed by another one.
_DICTIONARY = (
    b'"sum":"vd":"vs":"vb":true,"vb":false,"ut":"bu":"bver":application/jsonapplication/octet-stream'
    b'application/senml+cborhttpcoapwsmqttunsetrestoredgnssntplat","u":"lat"lon","u":"lon"alt","u":"m"pressure",'
    b'"u":"hPa"illuminance","u":"lx"},{"n":"voltage","u":"V","v":},{"n":"snr","u":"dB","v":-},{"n":"rssi",'
    b'"u":"dBm","v":-1},{"n":"battery","u":"V","v":3.},{"n":"humidity","u":"%RH","v":'
    b'[{"bn":"urn:dev:mac:00","bt":17,"n":"temperature","u":"Cel","v":2loraapplication/senml+json'
)
_deflate = zlib.compressobj(6, zlib.DEFLATED, -12, 5, zlib.Z_DEFAULT_STRATEGY, _DICTIONARY)
_inflate = zlib.decompressobj(-12, _DICTIONARY)
_UNPACKED_BYTES = 8 << 20  # far above what a message can have


def encode_row(message: Message, *, small: bool = False) -> bytes:
    """The body of a row.

    The message as msgpack, then its CRC-32. SQLite itself does not notice a flipped bit. With `small` it is
    compressed, to about half: for who has 40 us a message to spare for the card.
    """
    packed = _pack(message)
    if small:
        deflate = _deflate.copy()
        shorter = _DEFLATED + deflate.compress(packed) + deflate.flush()
        if len(shorter) < len(packed):
            packed = shorter
    return packed + zlib.crc32(packed).to_bytes(4, "big")


def decode_row(seq: int, body: bytes | None) -> Message | None:
    """The message of row `seq`, or None where the row is damaged."""
    if body is None or len(body) < 5:  # the checksum of nothing is four zeros
        return None
    packed = body[:-4]
    if zlib.crc32(packed) != int.from_bytes(body[-4:], "big"):
        return None
    try:
        if packed[:1] == _DEFLATED:
            packed = _inflate.copy().decompress(packed[1:], _UNPACKED_BYTES)
        message = _unpack(packed)
    except (zlib.error, msgspec.MsgspecError):  # damage that the checksum happens to fit: one in 4 billion
        return None
    return message if message.seq == seq else None


class LogReader:
    """Reads messages in ascending order of their numbers.

    Passes over rows that are damaged and reports them.
    """

    def __init__(self, source: ReaderSource) -> None:
        self._conn = SourcedConnection(source)
        self._report = source.report
        self._row_bytes = 1  # of a row, on the average of the last ones read

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
            step = min(STEP, left, max(1, FETCH_BYTES // self._row_bytes))
            if not match:
                step = min(step, limit - len(found))
            rows = self._conn.rows(
                "SELECT seq, CAST(body AS BLOB) FROM log WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
                (seen, last, step),
            )
            if rows:
                self._row_bytes = 1 + sum(len(body or b"") for _, body in rows) // len(rows)
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

    def query(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Any reading statement over the log's file, other parts' tables included."""
        return self._conn.rows(sql, params)

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection itself, for who reads other parts' tables with it at once."""
        return self._conn.connection

    def close(self) -> None:
        self._conn.close()
