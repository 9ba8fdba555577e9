"""Who is told what happens in the log: messages taken, messages committed, the clock set, the disk gone and back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from .disk import DiskState
from .log_batch import LogCounters
from .message import Message
from .timekeeping import Correction

T = TypeVar("T")
Listener = Callable[[Sequence[Message]], None]


class LogListeners:
    """The telling half of `Log`. What a listener raises is its bug, and keeps nobody else from hearing."""

    counters: LogCounters

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._on_append: list[Listener] = []
        self._on_commit: list[Listener] = []
        self._on_correction: list[Callable[[Correction], None]] = []
        self._on_state: list[Callable[[DiskState], None]] = []

    def on_append(self, fn: Listener) -> Callable[[], None]:
        """Have `fn` called at once with messages that have a number but are not durable.

        Returns an unsubscriber.
        """
        return _subscribe(self._on_append, fn)

    def on_commit(self, fn: Listener) -> Callable[[], None]:
        """Have `fn` called with durable messages, in order of their numbers. Returns an unsubscriber."""
        return _subscribe(self._on_commit, fn)

    def on_correction(self, fn: Callable[[Correction], None]) -> Callable[[], None]:
        """Have `fn` called with each new correction. Returns an unsubscriber."""
        return _subscribe(self._on_correction, fn)

    def on_state(self, fn: Callable[[DiskState], None]) -> Callable[[], None]:
        """Have `fn` called with each change of `state`. Returns an unsubscriber."""
        return _subscribe(self._on_state, fn)

    def _tell(self, listeners: list[Callable[[T], None]], news: T) -> None:
        for listener in listeners[:] if len(listeners) > 1 else listeners:
            self._call(listener, news)

    def _call(self, fn: Callable[[Any], None], argument: Any) -> None:
        """Call somebody else's code: what it raises is its bug and must not keep others from their answer."""
        try:
            fn(argument)
        except Exception as error:
            self._failed_call(fn, error)

    def _failed_call(self, fn: Callable[[Any], None], error: Exception) -> None:
        self.counters.listener_errors += 1
        self._loop.call_exception_handler({"message": f"{fn!r} failed", "exception": error})


def _subscribe(listeners: list[Callable[[T], None]], fn: Callable[[T], None]) -> Callable[[], None]:
    listeners.append(fn)

    def unsubscribe() -> None:
        if fn in listeners:
            listeners.remove(fn)

    return unsubscribe
