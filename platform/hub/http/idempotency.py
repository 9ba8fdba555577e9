"""Publishing once: what an `Idempotency-Key` has already stored (draft-ietf-httpapi-idempotency-key-header).

In: a thing, the key it sent with a message, a digest of the message. Out: the number under which that message is
stored, or a row to be written in the same transaction as it. Keys belong to the thing that sent them; the rows are
in the log's file, so a kill between the message and its key cannot happen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from hub.database import Migration
from hub.errors import HubError
from hub.http.problem import Problem
from hub.log import Log, Write

KEPT_S = 24 * 3600  # a client that repeats does so within minutes; a day covers a node that was switched off
KEPT_OF_THING = 1000  # keys of one thing; older ones may go before their day is over
KEPT = 100_000  # of all things together: about 20 MB
TIDY = 64  # keys taken between two tidyings: so much may be kept beyond the bounds
MAX_KEY = 128  # characters

MIGRATIONS = (
    Migration(
        "http: keys of messages that were published once",
        (
            "CREATE TABLE http_key(thing TEXT NOT NULL, key TEXT NOT NULL, digest BLOB NOT NULL, "
            "seq INTEGER NOT NULL, kept_s INTEGER NOT NULL, PRIMARY KEY(thing, key)) WITHOUT ROWID",
            "CREATE INDEX http_key_age ON http_key(kept_s)",
        ),
    ),
)

Done = Callable[[int, HubError | None], None]


@dataclass(slots=True)
class _UnderWay:
    digest: bytes
    waiting: list[Done] = field(default_factory=list)


class Keys:
    """The keys of one hub's log; belongs to the event loop's thread."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._under_way: dict[tuple[str, str], _UnderWay] = {}
        self._taken = 0
        self.repeats = 0  # answered without storing again

    def begin(self, thing: str, key: str, digest: bytes, now_s: float, done: Done) -> bool:
        """Whether the message is new and the caller must store it (then `row` and `end` follow).

        False: `done` is, or will be, called with the number it has. Raises Problem 422 where the key came with
        another message.
        """
        under_way = self._under_way.get((thing, key))
        if under_way is not None:
            self._compare(under_way.digest, digest)
            self.repeats += 1
            under_way.waiting.append(done)
            return False
        found = self._log.query(
            "SELECT digest, seq FROM http_key WHERE thing = ? AND key = ? AND kept_s > ?",
            (thing, key, int(now_s) - KEPT_S),
        )
        if found:
            stored, seq = found[0]
            self._compare(stored, digest)
            self.repeats += 1
            done(seq, None)
            return False
        self._under_way[thing, key] = _UnderWay(digest)
        return True

    def row(self, thing: str, key: str, digest: bytes, seq: int, now_s: float) -> list[Write]:
        """What to write beside the message that is about to get `seq`; now and then also what is too old."""
        kept_s = int(now_s)
        writes: list[Write] = [
            ("INSERT OR REPLACE INTO http_key VALUES (?, ?, ?, ?, ?)", (thing, key, digest, seq, kept_s))
        ]
        self._taken += 1
        if self._taken % TIDY == 0:
            writes += [
                ("DELETE FROM http_key WHERE kept_s <= ?", (kept_s - KEPT_S,)),
                (
                    "DELETE FROM http_key WHERE thing = ?1 AND seq <= (SELECT seq FROM http_key "
                    "WHERE thing = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)",
                    (thing, KEPT_OF_THING),
                ),
                (
                    "DELETE FROM http_key WHERE (thing, key) IN (SELECT thing, key FROM http_key "
                    "ORDER BY kept_s LIMIT max(0, (SELECT count(*) FROM http_key) - ?))",
                    (KEPT,),
                ),
            ]
        return writes

    def end(self, thing: str, key: str, seq: int, error: HubError | None) -> None:
        """The message is durable, or was not stored: tell those who sent it again meanwhile."""
        for done in self._under_way.pop((thing, key)).waiting:
            done(seq, error)

    @staticmethod
    def _compare(stored: bytes, digest: bytes) -> None:
        if stored != digest:
            raise Problem(
                422, "this Idempotency-Key came with another message before; take a new key for a new one"
            )


def parse_key(value: bytes) -> str:
    """The key in a header's value, quoted (RFC 9651, 3.3.3) or bare. Raises Problem 400."""
    text = value.decode("latin-1").strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1]
    if not 1 <= len(text) <= MAX_KEY or not all("!" <= character <= "~" for character in text):
        raise Problem(400, f"an Idempotency-Key has 1 to {MAX_KEY} visible ASCII characters without spaces")
    return text


def digest_of(channel: str, subtopic: str, content_type: str, payload: bytes) -> bytes:
    """What makes two messages the same: address, content type as sent, bytes."""
    head = "\0".join((channel, subtopic, content_type)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(head + b"\0" + payload, digest_size=16).digest()
