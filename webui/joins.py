"""Joins of a device, as the API gives them."""

from __future__ import annotations

import msgspec


class Joins(msgspec.Struct, frozen=True):
    """Times are Unix seconds."""

    dev_eui: str = ""
    activation: str = ""
    version: str = ""
    rule: str = ""  # rising all
    nonces_used: int = 0
    last_nonce: int | None = None
    waiting: int = 0
    restart_until: float | None = None
