"""What was just heard, sent and refused: a bounded list that the pages read and follow.

It promises nothing: it is empty after a restart, and a follower that is too slow misses the oldest entries.
What must be kept is in the log.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from hub.http.sse import Feed
from radio.gwmp import RxPacket, TxPacket

KEPT = 500

Entry = dict[str, Any]  # as GET /lorawan/frames gives it


class LiveFrames:
    """The last frames, newest last, each numbered."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=KEPT)
        self._feeds: set[Feed[Entry]] = set()
        self._n = 0

    def add(self, kind: str, time_s: float, **details: Any) -> None:
        """Append an entry; `time_s` is Unix time. Details that are None or empty are not shown."""
        self._n += 1
        details["n"], details["time"], details["kind"] = self._n, time_s, kind
        entry: Entry = details
        self._entries.append(entry)
        for feed in self._feeds:
            feed.put(entry)

    def after(self, n: int, limit: int) -> list[Entry]:
        """The newest `limit` entries numbered above `n`, oldest first."""
        fresh = [entry for entry in self._entries if entry["n"] > n]
        return [shown(entry) for entry in (fresh[-limit:] if limit else [])]

    def follow(self, after: int) -> Feed[Entry]:
        """A feed of the entries above `after` that are still kept, then of new ones; to be given to `unfollow`."""
        feed: Feed[Entry] = Feed()
        for entry in self.after(after, KEPT):
            feed.put(entry)
        self._feeds.add(feed)
        return feed

    def unfollow(self, feed: Feed[Entry]) -> None:
        """End a feed."""
        feed.close()
        self._feeds.discard(feed)


def shown(entry: Entry) -> Entry:
    """An entry as people get it. Left to the few that are looked at, as one is made for every frame."""
    return {key: value for key, value in entry.items() if value is not None and value != ""}


def heard(rx: RxPacket) -> Entry:
    """The radio's part of an entry for a received frame."""
    return {
        "freq_hz": rx.freq_hz,
        "datr": rx.modulation.datr,
        "rssi_dbm": rx.rssi_dbm,
        "snr_db": rx.lsnr_db,
        "size": len(rx.data),
    }


def spoken(tx: TxPacket) -> Entry:
    """The radio's part of an entry for a transmitted frame."""
    return {"freq_hz": tx.freq_hz, "datr": tx.modulation.datr, "size": len(tx.data)}
