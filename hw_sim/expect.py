"""What a scenario must lead to: expectations a person writes, and the judgement on a run.

`received = ">= 95 %"`, `lost = 0`, `joined = "all"`, `missed = "<= 2"`, `downlinks = "10 to 20"`. A share is one of
the frames, uplinks or devices that its metric is counted among.
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

# Each metric with what it is counted among, which a share refers to, and its meaning for documentation.
METRICS: Final[dict[str, tuple[str, str]]] = {
    "frames": ("", "frames of the devices: join-requests, uplinks, repetitions"),
    "received": ("frames", "of those, received well by a module of any gateway"),
    "crc_error": ("frames", "heard damaged"),
    "collided": ("frames", "drowned by other frames"),
    "jammed": ("frames", "drowned by noise"),
    "below_sensitivity": ("frames", "too weak"),
    "deaf": ("frames", "nobody listened, or its own mast was sending"),
    "not_matched": ("frames", "on a channel or spreading factor no module listens to"),
    "truncated": ("frames", "cut off by a device that was switched off"),
    "lost": ("frames", "received by a module, and never seen by the network server"),
    "devices": ("", "in the scenario"),
    "joined": ("devices", "with a session at the end"),
    "uplinks": ("", "new uplinks of the devices, repetitions not counted"),
    "delivered": ("uplinks", "that reached the network server"),
    "repetitions": ("uplinks", "sent again for want of an answer"),
    "confirmed": ("uplinks", "that ask for an acknowledgement"),
    "acknowledged": ("confirmed", "and got it"),
    "unacknowledged": ("confirmed", "given up after all repetitions"),
    "downlinks": ("", "sent by the gateways"),
    "missed": ("downlinks", "that the device they were for did not get"),
    "refused": ("downlinks", "that the radio would not send"),
    "late_us": ("", "the largest distance of a downlink's start from its aim, microseconds"),
    "wrong": ("downlinks", "of those, on a frequency, spreading factor or polarity that nobody had ordered"),
    "ordered": ("", "downlinks that an application ordered, one for each device"),
    "arrived": ("ordered", "that reached their device"),
    "arrival_s": ("", "the longest that one of them took, seconds"),
    "faults": ("", "injected into modules"),
    "noticed": ("", "faults that the radio noticed, by its own count"),
    "broken": ("", "modules that did not work at the end"),
}
_COMPARE: Final[dict[str, Callable[[float, float], bool]]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
_NUMBER: Final = r"(\d+(?:\.\d+)?)"
_ONE: Final = re.compile(rf"(>=|<=|>|<|=)?\s*{_NUMBER}\s*(%)?")
_TWO: Final = re.compile(rf"{_NUMBER}\s+to\s+{_NUMBER}\s*(%)?")


@dataclass(frozen=True, slots=True)
class Expectation:
    """One line of `[expect]`: bounds on a metric, on its count or (`share`) its percentage."""

    metric: str
    words: str
    bounds: tuple[tuple[str, float], ...]
    share: bool

    @classmethod
    def parse(cls, metric: str, value: Any) -> "Expectation":
        """Raises ValueError for a metric or a value that nobody can judge."""
        if metric not in METRICS:
            raise ValueError(f"there is no such count; there are {', '.join(METRICS)}")
        words = str(value).strip()
        bounds: tuple[tuple[str, float], ...]
        if words == "all":
            bounds, share = (("=", 100.0),), True
        elif isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError('write a number, ">= 95 %", "<= 3", "10 to 20" or "all"')
        elif two := _TWO.fullmatch(words):
            bounds, share = ((">=", float(two[1])), ("<=", float(two[2]))), bool(two[3])
        elif one := _ONE.fullmatch(words):
            bounds, share = ((one[1] or "=", float(one[2])),), bool(one[3])
        else:
            raise ValueError(f'{words!r} is not a number, ">= 95 %", "<= 3", "10 to 20" or "all"')
        if share and not METRICS[metric][0]:
            raise ValueError(f"{metric} is counted among nothing a share could refer to: write a number")
        return cls(metric, words, bounds, share)

    def judge(self, counts: Mapping[str, float]) -> "Verdict":
        """Against the counts of a run. A share of nothing is 100 %."""
        measured = counts[self.metric]
        shown = f"{measured:g}"
        if self.share:
            among = counts[METRICS[self.metric][0]]
            measured = 100.0 * measured / among if among else 100.0
            shown = f"{measured:.4g} % ({shown} of {among:g})"
        holds = all(_COMPARE[sign](measured, bound) for sign, bound in self.bounds)
        return Verdict(self, shown, holds)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an expectation held, and what was measured."""

    expectation: Expectation
    measured: str
    holds: bool

    def __str__(self) -> str:
        sign = "ok  " if self.holds else "FAIL"
        return f"{sign} {self.expectation.metric}: expected {self.expectation.words}, got {self.measured}"
