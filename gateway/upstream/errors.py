"""Why a destination takes nothing at the moment, in words a technician can act on."""

from __future__ import annotations


class SinkError(Exception):
    """A destination that cannot be used now; the relay tries again later. `words` are shown as they are."""

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.words = words


class SinkOffline(SinkError):
    """Nobody answered, or the connection ended: waiting may be all it takes."""


class SinkRefused(SinkError):
    """The other side answered and said no, or a setting cannot work: somebody has to change something."""


class SinkHeld(SinkRefused):
    """It takes other messages, or none just now, and said why: the queue waits, the connection is not to blame."""
