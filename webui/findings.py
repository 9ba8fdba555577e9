"""The diagnosis as the API gives it: what is wrong with whom and what to do."""

from __future__ import annotations

from typing import Any

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """Something that is or was wrong. Times are Unix seconds."""

    reason: str = ""
    weight: str = "note"  # stops, hurts, note
    words: str = ""
    remedy: str = ""
    first: float = 0.0
    last: float = 0.0
    count: int = 1
    dev_eui: str | None = None
    dev_addr: str | None = None
    name: str | None = None
    resolved: float | None = None
    evidence: dict[str, Any] = {}


class Findings(msgspec.Struct, frozen=True):
    findings: list[Finding] = []
