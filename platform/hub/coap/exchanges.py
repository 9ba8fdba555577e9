"""Requests recognised when they come again (RFC 7252, 4.2 and 4.5): the same answer, and nothing stored twice.

A retransmission has the message ID, the endpoint and every byte of its first copy. All three are compared, because
fast clients come around the 65,536 numbers within the time a number must rest: taking the number alone for the
request would acknowledge a message that was never stored. What was stored is remembered on disk too, in the
transaction of the message, for a client whose acknowledgement was cut off by a restart.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b

from hub.coap.admission import Address
from hub.coap.limits import Limits
from hub.coap.store import keep_exchange
from hub.log import Write

EXCHANGE_LIFETIME_S = 247.0  # RFC 7252, 4.8.2
_WALL_SLACK_S = 5.0  # of the clock between the last run and this one


class Seen:
    """One request. `answer` is what was sent for it, None while it is being worked on."""

    __slots__ = ("answer", "at", "same")

    def __init__(self, same: int, at: float) -> None:
        self.same = same
        self.at = at
        self.answer: bytes | None = None


class Exchanges:
    """What came lately from things, by endpoint and message ID, the oldest first."""

    def __init__(self, limits: Limits, counters: dict[str, int]) -> None:
        self._limits = limits
        self._counters = counters
        self._seen: OrderedDict[tuple[Address, int], Seen] = OrderedDict()
        self._bytes = 0
        self._restored: set[int] = set()
        self._restored_until = 0.0
        self._slot = 0

    def __len__(self) -> int:
        return len(self._seen)

    def find(self, address: Address, mid: int, data: bytes) -> Seen | None:
        """The request whose copy this is, or None."""
        seen = self._seen.get((address, mid))
        return seen if seen is not None and seen.same == hash(data) else None

    def begin(self, address: Address, mid: int, data: bytes, now: float) -> Seen:
        """Remember a request that is being worked on."""
        key = (address, mid)
        self.forget(address, mid)
        seen = self._seen[key] = Seen(hash(data), now)
        if len(self._seen) > self._limits.exchanges:
            self._drop_oldest()
            self._counters["forgotten_exchanges"] += 1
        return seen

    def answered(self, seen: Seen, answer: bytes) -> None:
        """Remember what was answered."""
        self._bytes += len(answer) - len(seen.answer or b"")
        seen.answer = answer
        while self._bytes > self._limits.exchanges_bytes:
            self._drop_oldest()
            self._counters["forgotten_exchanges"] += 1

    def forget(self, address: Address, mid: int) -> None:
        """Let the request be worked on anew when it comes again."""
        seen = self._seen.pop((address, mid), None)
        if seen is not None:
            self._bytes -= len(seen.answer or b"")

    def expire(self, now: float) -> None:
        """Forget what no client sends again any more."""
        while self._seen:
            seen = next(iter(self._seen.values()))
            if seen.at + EXCHANGE_LIFETIME_S > now:
                break
            self._drop_oldest()
        if self._restored and now >= self._restored_until:
            self._restored.clear()

    def _drop_oldest(self) -> None:
        _, seen = self._seen.popitem(last=False)
        self._bytes -= len(seen.answer or b"")

    # Over a restart

    def restore(self, rows: Iterable[tuple[int, int, float]], now: float, wall_s: float) -> None:
        """Take over (slot, fingerprint, wall seconds) of the last run.

        A row from the future stays: the clock was set back, as a Pi's is at each boot.
        """
        latest = -1.0
        for slot, fingerprint, at_s in rows:
            if at_s >= latest:
                latest = at_s
                self._slot = (slot + 1) % self._limits.restored_exchanges
            if at_s > wall_s - EXCHANGE_LIFETIME_S - _WALL_SLACK_S:
                self._restored.add(fingerprint)
        self._restored_until = now + EXCHANGE_LIFETIME_S

    def stored_before(self, address: Address, data: bytes) -> bool:
        """Whether the last run stored this very request."""
        return bool(self._restored) and _fingerprint(address, data) in self._restored

    def row(self, address: Address, data: bytes, wall_s: float) -> Write:
        """The write that goes with the message into the log."""
        slot = self._slot
        self._slot = (slot + 1) % self._limits.restored_exchanges
        return keep_exchange(slot, _fingerprint(address, data), wall_s)


def _fingerprint(address: Address, data: bytes) -> int:
    """64 bits, signed as SQLite keeps integers; by remote address only, ours may change with a restart."""
    digest = blake2b(data, key=repr(address.remote).encode()[:64], digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
