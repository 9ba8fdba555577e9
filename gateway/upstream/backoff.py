"""How long to wait before the next attempt: with full jitter, so that gateways do not return in step."""

from __future__ import annotations

import random


class Backoff:
    """Pauses of one outage. Times are monotonic seconds.

    The n-th pause is drawn evenly from 0 to `base_s` * 2^n, at most `cap_s`. Once an outage has lasted
    `patient_after_s`, no pause is shorter than `floor_s`: at most one attempt a second then.
    """

    def __init__(
        self,
        *,
        base_s: float = 0.5,
        cap_s: float = 30.0,
        floor_s: float = 1.0,
        patient_after_s: float = 60.0,
        rng: random.Random | None = None,
    ) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self._floor_s = floor_s
        self._patient_after_s = patient_after_s
        self._rng = rng or random.Random()
        self._attempt = 0
        self._began: float | None = None

    def reset(self) -> None:
        """The outage is over."""
        self._attempt = 0
        self._began = None

    def pause_s(self, now: float) -> float:
        """Seconds to wait after an attempt that failed at `now`."""
        if self._began is None:
            self._began = now
        ceiling = min(self._cap_s, self._base_s * 2 ** min(self._attempt, 32))
        self._attempt += 1
        pause = self._rng.uniform(0, ceiling)
        patient = now - self._began >= self._patient_after_s
        return max(pause, self._floor_s) if patient else pause
