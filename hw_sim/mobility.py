"""Where a device is that does not stay where it was put: a way of straight lines at one speed."""

import math
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from hw_sim.propagation import Place


class AtEnd(StrEnum):
    """What a traveller does at the last point of its way."""

    STAY = "stay"
    RETURN = "return"  # back the way it came, and so on
    CIRCLE = "circle"  # straight to the first point, and round again


@dataclass(frozen=True, slots=True)
class Way:
    """Points in metres, left at `leaves_s`. Raises ValueError for a way nobody can go."""

    points: tuple[Place, ...]
    speed_m_s: float
    at_end: AtEnd = AtEnd.STAY
    leaves_s: float = 0.0

    def __post_init__(self) -> None:
        if len(self.points) < 2:
            raise ValueError("a way has at least two points")
        if self.speed_m_s <= 0:
            raise ValueError("speed_m_s is more than 0 for a device that moves")

    def at(self, t_s: float) -> Place:
        """The place at this time."""
        points = self.points
        if self.at_end is AtEnd.CIRCLE:
            points = (*points, points[0])
        legs = [math.dist(a, b) for a, b in pairwise(points)]
        length = sum(legs)
        gone = max(0.0, t_s - self.leaves_s) * self.speed_m_s
        if length == 0:
            return points[0]
        if self.at_end is AtEnd.CIRCLE:
            gone %= length
        elif self.at_end is AtEnd.RETURN:
            gone %= 2 * length
            gone = min(gone, 2 * length - gone)
        for (a, b), leg in zip(pairwise(points), legs, strict=True):
            if gone < leg:
                share = gone / leg
                return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share
            gone -= leg
        return points[-1]
