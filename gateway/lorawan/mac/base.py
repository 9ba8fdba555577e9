"""What all MAC commands share: a CID, a size that never varies, bytes to values and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self


@dataclass(frozen=True, slots=True)
class Command:
    """One MAC command; the base class is a command without fields."""

    CID: ClassVar[int]
    SIZE: ClassVar[int] = 0  # bytes after the CID
    SINCE: ClassVar[str] = "1.0.0"  # the first version whose text has it
    CLASS_B: ClassVar[bool] = False  # only for devices that open ping slots

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """From exactly SIZE bytes."""
        return cls()

    @property
    def payload(self) -> bytes:
        return b""

    def encode(self) -> bytes:
        return bytes((self.CID,)) + self.payload

    @property
    def name(self) -> str:
        return type(self).__name__


def freq_of(field: bytes) -> int:
    """Hz from three bytes in steps of 100 Hz."""
    return int.from_bytes(field, "little") * 100


def freq_bytes(freq_hz: int) -> bytes:
    return (freq_hz // 100).to_bytes(3, "little")
