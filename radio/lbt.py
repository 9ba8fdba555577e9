"""Listen before talk: whether a channel was quiet long enough before a frame. Pure.

In: the level of the channel, sampled by the module that is about to send, and the time of each sample. Out: a
verdict at the moment the module has to decide. A receiver that was not looked at for a while counts as not
having listened. Who asks for it and with which figures is the region's matter (`radio.regions`).
"""

import random
from dataclasses import dataclass
from typing import Final

MS: Final = 1_000_000
SAMPLE_NS: Final = 500_000  # between two looks at RegRssiValue
MAX_GAP_NS: Final = 2 * MS  # two looks further apart leave a hole in the listening
SETTLE_NS: Final = 1 * MS  # after its mode change a receiver's level is not one yet
DECIDE_NS: Final = 3 * MS  # before the start: what it takes to load and arm the frame
SPARE_NS: Final = 3 * MS  # listened longer than asked, so that one sample of noise does not decide
BACKOFF_MS: Final = (20, 200)  # until a deferred frame is tried again, at random
MAX_DEFERRALS: Final = 5  # then the order is given up; by then others had a second of air


@dataclass(frozen=True, slots=True)
class Lbt:
    """What the region asks for before each frame."""

    threshold_dbm: int  # the channel is busy at this level and above
    listen_ns: int  # and must be below it for so long

    @property
    def lead_ns(self) -> int:
        """How long before its start a module leaves everything else for a frame."""
        return SETTLE_NS + SPARE_NS + self.listen_ns + DECIDE_NS


class Listening:
    """One listening, from the receiver's start to the verdict."""

    def __init__(self, lbt: Lbt, now_ns: int) -> None:
        self.peak_dbm: int | None = None
        self._lbt = lbt
        self._settled_ns = now_ns + SETTLE_NS
        self._quiet_since_ns: int | None = None
        self._last_ns = now_ns

    def sample(self, rssi_dbm: int, now_ns: int) -> None:
        """The channel's level at this moment."""
        gap_ns, self._last_ns = now_ns - self._last_ns, now_ns
        if now_ns < self._settled_ns:
            return
        self.peak_dbm = rssi_dbm if self.peak_dbm is None else max(self.peak_dbm, rssi_dbm)
        if rssi_dbm >= self._lbt.threshold_dbm:
            self._quiet_since_ns = None
        elif self._quiet_since_ns is None or gap_ns > MAX_GAP_NS:
            self._quiet_since_ns = now_ns

    def clear(self, now_ns: int) -> bool:
        """Whether the channel has been quiet, without a hole, for all of the time asked."""
        since_ns = self._quiet_since_ns
        if since_ns is None or now_ns - self._last_ns > MAX_GAP_NS:
            return False
        return now_ns - since_ns >= self._lbt.listen_ns

    def verdict(self, now_ns: int) -> str:
        """Empty where the channel is clear, else why the frame must not leave, for a technician."""
        if self.clear(now_ns):
            return ""
        if self.peak_dbm is not None and self.peak_dbm >= self._lbt.threshold_dbm:
            return f"channel busy: {self.peak_dbm} dBm, the limit is {self._lbt.threshold_dbm} dBm"
        return f"the processor was too busy to listen for {self._lbt.listen_ns / MS:g} ms"


def backoff_ns(deferrals: int, source: random.Random) -> int | None:
    """How long after its intended start to try again, or None: enough."""
    if deferrals >= MAX_DEFERRALS:
        return None
    return source.randint(*BACKOFF_MS) * MS
