"""What the gateway process raises on purpose."""

from __future__ import annotations


class StartFailed(Exception):
    """The process cannot start; the text says what to mend."""
