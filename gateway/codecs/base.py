"""What every codec is, and the one error it may raise."""

from __future__ import annotations

from typing import Protocol

from hub.senml import Record


class CodecError(Exception):
    """The payload is not what this codec reads; the text says where it fails."""


class Codec(Protocol):
    name: str

    def decode(self, fport: int, payload: bytes, time_s: float, base_name: str) -> list[Record]:
        """Every value in `payload`, named `base_name` and more, at `time_s` (UTC) unless it says otherwise.

        Never empty. Raises CodecError.
        """
        ...
