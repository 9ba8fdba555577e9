"""How long a codec may run, and when it is put on hold. Pure; times are CPU time of its process."""

from __future__ import annotations

from dataclasses import dataclass

# With the grace of the child and the gateway's own watch: stopped within 300 ms, whatever happens
CEILING_S = 0.2
FLOOR_S = 0.02
ROOM = 20.0  # times the slowest call of late
ENOUGH = 16  # calls, until the history says something
QUICK_AFTER = 64
QUICK_SHARE = 1 / 200  # of the limit, that a usual call takes: so many together are well within it
FORGET = 0.99  # what is left of the slowest call after each further one
# The floor is this many times what the child's measuring loop took: 25 ms on a desktop machine
WORK_TIMES = 10.0
GUILTY_S, GUILTY_TIMES = 0.03, 5.0
HOLD_AFTER = 5  # strikes
FORGIVE = 1_000  # good calls that take one strike away


@dataclass(slots=True)
class TimeLimit:
    """The limit of one codec, from its own history and from how fast this machine is."""

    calls: int = 0
    slowest_s: float = 0.0  # of late
    usual_s: float = 0.0

    def took(self, seconds: float) -> None:
        """Note a call that ended by itself."""
        self.calls += 1
        self.slowest_s = max(seconds, self.slowest_s * FORGET)
        self.usual_s += (seconds - self.usual_s) / 16

    def limit_s(self, work_s: float) -> float:
        """For the next call; `work_s` is what the measuring loop took."""
        if self.calls < ENOUGH:
            return CEILING_S
        floor = max(FLOOR_S, WORK_TIMES * work_s)
        return min(max(floor, ROOM * self.slowest_s), CEILING_S)

    def quick(self, limit_s: float) -> bool:
        """Whether many calls may share one entry into the engine, and the limit of one."""
        return self.calls >= QUICK_AFTER and self.usual_s < limit_s * QUICK_SHARE


def guilty_s(limit_s: float, work_s: float) -> float:
    """CPU time from which a call that was cut short by the clock on the wall is to blame itself.

    One that had less was kept waiting by a busy machine, and is tried again.
    """
    return min(limit_s / 2, max(GUILTY_S, GUILTY_TIMES * work_s))


@dataclass(slots=True)
class Strikes:
    """What a codec has done to its process. Held: it is not run any more until somebody lifts it."""

    count: int = 0
    held: str = ""  # why; "" where it runs
    _good: int = 0

    def strike(self, words: str) -> None:
        """The codec had to be stopped."""
        self.count += 1
        if self.count >= HOLD_AFTER:
            self.held = (
                f"on hold, as it had to be stopped {self.count} times (last: {words}): "
                "mend its source, or lift the hold"
            )

    def good(self) -> None:
        """A call ended by itself."""
        if self.count:
            self._good += 1
            if self._good >= FORGIVE:
                self.count -= 1
                self._good = 0

    def lift(self) -> None:
        """Let it run again."""
        self.count, self.held, self._good = 0, "", 0
