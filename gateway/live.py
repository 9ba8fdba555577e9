"""What was just heard, sent and refused: a bounded list that the pages read and follow.

It promises nothing: it is empty after a restart, and a follower that is too slow misses the oldest entries.
What must be kept is in the log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from hub.http.sse import Feed
from radio.gwmp import RxPacket, TxPacket

KEPT = 500

Entry = dict[str, Any]  # as GET /lorawan/frames gives it


class Happening(msgspec.Struct, frozen=True, gc=False):
    """Something that happened to a frame. Its details are made when somebody looks: most are never looked at."""

    n: int
    time_s: float
    kind: str
    details: Callable[[], Entry]

    def shown(self) -> Entry:
        """As people get it; details that are None or empty are left out."""
        details = {key: value for key, value in self.details().items() if value is not None and value != ""}
        return {"n": self.n, "time": self.time_s, "kind": self.kind, **details}


class LiveFrames:
    """The last frames, newest last, each numbered."""

    def __init__(self) -> None:
        self._happenings: deque[Happening] = deque(maxlen=KEPT)
        self._feeds: set[Feed[Happening]] = set()
        self._n = 0

    def add(self, kind: str, time_s: float, details: Callable[[], Entry]) -> None:
        """Note what happened at Unix time `time_s`; `details` must not change any more."""
        self._n += 1
        happening = Happening(self._n, time_s, kind, details)
        self._happenings.append(happening)
        for feed in self._feeds:
            feed.put(happening)

    def after(self, n: int, limit: int, dev_eui: str | None = None) -> list[Entry]:
        """The newest `limit` entries numbered above `n`, oldest first; of one device, or of all."""
        chosen: deque[Entry] = deque()
        for happening in reversed(self._happenings):
            if happening.n <= n or len(chosen) >= limit:
                break
            entry = happening.shown()
            if dev_eui in (None, entry.get("dev_eui")):
                chosen.appendleft(entry)
        return list(chosen)

    def follow(self, after: int) -> Feed[Happening]:
        """A feed of what is kept above `after`, then of what comes; to be given to `unfollow`."""
        feed: Feed[Happening] = Feed()
        for happening in self._happenings:
            if happening.n > after:
                feed.put(happening)
        self._feeds.add(feed)
        return feed

    def unfollow(self, feed: Feed[Happening]) -> None:
        """End a feed."""
        feed.close()
        self._feeds.discard(feed)


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
