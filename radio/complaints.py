"""Trouble with others, said in the log without filling it: at most one line a minute of each kind."""

import logging
from typing import Final

log = logging.getLogger("radio.servers")

SAY_AGAIN_NS: Final = 60_000_000_000  # between two lines about the same trouble


class Complaints:
    """What is said about one server. Kinds are few and named by the code, never by what came in."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._said_ns: dict[str, int] = {}

    def __call__(self, now_ns: int, kind: str, words: str, *args: object) -> None:
        """A warning of this kind, unless one was given less than a minute ago."""
        said_ns = self._said_ns.get(kind)
        if said_ns is None or now_ns - said_ns >= SAY_AGAIN_NS:
            self._said_ns[kind] = now_ns
            log.warning("server %s: " + words, self._server, *args)
