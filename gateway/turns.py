"""What belongs to one device is done in the order in which it came, though some of it is ready later.

A frame whose codec runs in another process takes a turn; whatever else concerns that device's state waits behind it.
Pure: nothing here waits or reads a clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

Action = Callable[[], None]

MAX_TURNS = 4_096  # of all devices: 20 s of the fullest 8-channel gateway; the oldest is given up first


@dataclass(slots=True, eq=False)
class Turn:
    """A place in a device's order. `give_up` does, in time, what is possible without the answer."""

    dev_eui: int
    give_up: Action | None
    action: Action | None = None
    over: bool = False


@dataclass(slots=True)
class Turns:
    """The devices that have something waiting; empty almost always."""

    given_up: int = 0  # as too many waited
    _queues: dict[int, deque[Turn]] = field(default_factory=dict)  # by DevEUI
    _all: dict[int, Turn] = field(default_factory=dict)  # by identity, oldest first

    def __len__(self) -> int:
        return len(self._all)

    def take(self, dev_eui: int, give_up: Action) -> Turn:
        """A turn of this device that will be `ready` later; the oldest of all is given up where too many wait."""
        turn = Turn(dev_eui, give_up)
        self._append(turn)
        if len(self._all) > MAX_TURNS:
            self.given_up += 1
            self._give_up_oldest()
        return turn

    def ready(self, turn: Turn, action: Action) -> None:
        """Do `action` when it is its turn: now, unless something of the device is before it. Once given up: never."""
        if not turn.over and turn.action is None:
            turn.action = action
            self._go_on(turn.dev_eui)

    def run(self, dev_eui: int, action: Action) -> None:
        """Do `action` behind all that waits of this device; at once where nothing does."""
        if dev_eui in self._queues:
            self._append(Turn(dev_eui, None, action))
        else:
            action()

    def close(self) -> None:
        """Give up all that waits, the oldest first."""
        while self._all:
            self._give_up_oldest()

    def _append(self, turn: Turn) -> None:
        self._queues.setdefault(turn.dev_eui, deque()).append(turn)
        self._all[id(turn)] = turn

    def _give_up_oldest(self) -> None:
        """The oldest of all is the first of its device."""
        turn = next(iter(self._all.values()))
        if turn.action is None:
            turn.action = turn.give_up
        self._go_on(turn.dev_eui)

    def _go_on(self, dev_eui: int) -> None:
        """Do what stands at the head of the device's queue and is ready."""
        queue = self._queues.get(dev_eui)
        while queue and (action := queue[0].action) is not None:
            turn = queue.popleft()
            turn.over = True
            del self._all[id(turn)]
            if not queue:
                del self._queues[dev_eui]
            action()
            queue = self._queues.get(dev_eui)
