"""Clocks that go as told, for attacks that take hours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from hub.message import TimeQuality


@dataclass
class Time:
    """Both clocks of the site, moved by hand."""

    wall_s: float = 1_800_000_000.0
    mono_s: float = 0.0
    quality: TimeQuality = TimeQuality.NTP

    def clock(self) -> tuple[int, TimeQuality]:
        return int(self.wall_s * 1e9), self.quality

    def passes(self, seconds: float) -> None:
        self.wall_s += seconds
        self.mono_s += seconds


def moved_by(s: Any, time: Time) -> None:
    """Let the site's pauses run on `time`."""
    s.hub.sign_in.monotonic = lambda: time.mono_s


async def sign_in(s: Any, login: dict[str, str], **headers: str) -> httpx.Response:
    answer: httpx.Response = await s.client.post("/tokens", json=login, headers=headers)
    return answer
