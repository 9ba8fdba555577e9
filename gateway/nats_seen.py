"""Which messages of other gateways were stored here lately, so that a copy in the stream is not stored again.

After an interruption a gateway sends again what nobody had acknowledged. The stream drops the copies by their ids, but
only within its duplicate window; after a longer one it holds both. They carry the same identity, `<gateway>/<number>`,
and come soon after one another in that gateway's own order. So a window of its numbers in each channel is enough: the
highest, and which of those below it were stored, as against replays in RFC 4303, 3.4.3. What is older than the window
is taken for new: nothing is lost to this. By channel, because a sender's rights are: nobody can use up the numbers of
a channel he may not publish to. Pure.
"""

from __future__ import annotations

from collections import OrderedDict

from hub import wire
from hub.message import Message

WINDOW = 8192  # numbers below the highest: 16 times what a gateway has in flight
MAX_WINDOWS = 4096  # of a gateway in a channel; the one heard longest ago is forgotten; up to 1 KB each


class Seen:
    """Belongs to one source."""

    def __init__(self) -> None:
        # By channel and gateway: the highest number; bit n says that the one n below it is stored.
        self._windows: OrderedDict[tuple[str, str], tuple[int, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._windows)

    def __contains__(self, message: Message) -> bool:
        """Whether a message of this identity was stored. Raises WireError where it has none."""
        key, number = _key(message)
        highest, bits = self._windows.get(key, (0, 0))
        return number <= highest and bool(bits >> (highest - number) & 1)

    def add(self, message: Message) -> None:
        """It is stored now. Raises WireError where it has no identity."""
        key, number = _key(message)
        highest, bits = self._windows.pop(key, (number, 0))
        if number > highest:
            ahead = number - highest
            bits = bits << ahead & _MASK if ahead < WINDOW else 0
            highest = number
        if highest - number < WINDOW:
            bits |= 1 << (highest - number)
        self._windows[key] = highest, bits
        if len(self._windows) > MAX_WINDOWS:
            self._windows.popitem(last=False)


def _key(message: Message) -> tuple[tuple[str, str], int]:
    gateway, number = wire.parse_origin(message.origin)
    return (message.channel, gateway), number


_MASK = (1 << WINDOW) - 1
