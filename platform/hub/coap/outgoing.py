"""Confirmable messages of ours: sent again until the peer answers (RFC 7252, 4.2).

Pure: time is an argument, bytes go to `send`.
"""

from __future__ import annotations

import enum
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from hub.coap.admission import Address

ACK_TIMEOUT_S = 2.0  # RFC 7252, 4.8
ACK_RANDOM_FACTOR = 1.5
MAX_RETRANSMIT = 4
TRANSMISSIONS = 1 + MAX_RETRANSMIT
# Wrong guesses of a number after which an address proves nothing: 1 in 8,192 for a blind attacker
STRIKES = 8


class Answer(enum.Enum):
    """How a confirmable message ended."""

    ACK = "acknowledged"
    RESET = "reset"
    LOST = "unanswered"


@dataclass(slots=True)
class _Sent:
    data: bytes
    due: float
    timeout_s: float
    left: int
    done: Callable[[Answer], None]


class Outgoing:
    """All confirmable messages under way, by endpoint and message ID."""

    def __init__(self, send: Callable[[bytes, Address], None], counters: dict[str, int]) -> None:
        self._send = send
        self._counters = counters
        self._sent: dict[tuple[Address, int], _Sent] = {}
        self._busy: Counter[Address] = Counter()
        self._strikes: Counter[Address] = Counter()

    def __len__(self) -> int:
        return len(self._sent)

    def confirm(
        self, address: Address, mid: int, data: bytes, now: float, done: Callable[[Answer], None]
    ) -> None:
        """Send a confirmable message; `done` is called once."""
        timeout_s = ACK_TIMEOUT_S * random.uniform(1, ACK_RANDOM_FACTOR)
        self._finish((address, mid), Answer.LOST)  # a number of ours that came around
        self._sent[address, mid] = _Sent(data, now + timeout_s, timeout_s, MAX_RETRANSMIT, done)
        self._busy[address] += 1
        self._send(data, address)

    def answered(self, address: Address, mid: int, answer: Answer) -> bool:
        """The peer answered a number; False where none of ours was waiting for that."""
        if (address, mid) in self._sent:
            self._finish((address, mid), answer)
            return True
        if address in self._busy:
            self._strikes[address] += 1
            if self._strikes[address] >= STRIKES:
                self.drop(address)
        return False

    def drop(self, address: Address) -> None:
        """Give up everything under way to `address`."""
        for key in [key for key in self._sent if key[0] == address]:
            self._finish(key, Answer.LOST)

    def tick(self, now: float) -> None:
        """Send again what is due, give up what was sent often enough."""
        for key, sent in [item for item in self._sent.items() if item[1].due <= now]:
            if not sent.left:
                self._finish(key, Answer.LOST)
                continue
            sent.left -= 1
            sent.timeout_s *= 2
            sent.due = now + sent.timeout_s
            self._counters["resent"] += 1
            self._send(sent.data, key[0])

    def _finish(self, key: tuple[Address, int], answer: Answer) -> None:
        sent = self._sent.pop(key, None)
        if sent is None:
            return
        self._busy[key[0]] -= 1
        if not self._busy[key[0]]:
            del self._busy[key[0]]
            self._strikes.pop(key[0], None)
        sent.done(answer)
