"""Identifiers and keys of LoRaWAN: small frozen values that own their byte order and their hex form.

Identifiers are integers (so they hash and compare at full speed). People write them most significant digit
first; the air carries them least significant byte first (`wire`, `from_wire`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Self

_SEPARATORS = re.compile(r"[\s:.-]")


def _hex_bytes(text: str, size: int, what: str) -> bytes:
    """The bytes of a hex number of exactly `size` bytes; blanks, colons, dots and dashes may separate
    digits."""
    digits = _SEPARATORS.sub("", text).removeprefix("0x")
    if len(digits) != 2 * size:
        raise ValueError(f"{what} needs {2 * size} hex digits, not {len(digits)}")
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise ValueError(f"{what} has a character that is no hex digit") from None


class _Identifier(int):
    """An unsigned integer of SIZE bytes."""

    __slots__ = ()
    SIZE: ClassVar[int]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the form people write, most significant digit first. Raises ValueError."""
        return cls.from_bytes(_hex_bytes(text, cls.SIZE, cls.__name__), "big")

    @classmethod
    def from_wire(cls, data: bytes) -> Self:
        """Read SIZE bytes as the air carries them, least significant first."""
        return cls.from_bytes(data, "little")

    @property
    def wire(self) -> bytes:
        return self.to_bytes(self.SIZE, "little")

    def __str__(self) -> str:
        return f"{int(self):0{2 * self.SIZE}x}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class _Eui(_Identifier):
    __slots__ = ()
    SIZE = 8

    @property
    def reversed(self) -> Self:
        """The same bytes the other way round: the classic mistake when an EUI is typed in."""
        return type(self).from_bytes(self.wire, "big")


class DevEUI(_Eui):
    """EUI-64 of an end device."""

    __slots__ = ()


class JoinEUI(_Eui):
    """EUI-64 of a join server (AppEUI in LoRaWAN 1.0.0 to 1.0.3)."""

    __slots__ = ()


class DevAddr(_Identifier):
    """32-bit address of a session; several devices may share one, the MIC tells them apart."""

    __slots__ = ()
    SIZE = 4


class NetID(_Identifier):
    """24-bit identifier of a network. 0 and 1 are free for private and experimental networks."""

    __slots__ = ()
    SIZE = 3

    @property
    def dev_addr_prefix(self) -> int:
        """The 7 leading bits of this network's DevAddrs, for NetIDs of type 0: a zero and the NwkID.

        Raises ValueError for another type, whose longer prefixes private networks do not have.
        """
        if self >> 6:
            raise ValueError(f"NetID {self} is not of type 0")
        return self & 0x3F

    def dev_addr(self, nwk_addr: int) -> DevAddr:
        """The DevAddr of a 25-bit NwkAddr in this network (LoRaWAN back-end interfaces, NetID type 0)."""
        return DevAddr(self.dev_addr_prefix << 25 | nwk_addr & 0x1FF_FFFF)

    def owns(self, dev_addr: int) -> bool:
        return dev_addr >> 25 == self.dev_addr_prefix


@dataclass(frozen=True, slots=True, repr=False)
class AES128Key:
    """A 128-bit key. Neither repr nor str shows it; `value` is the only way to the bytes."""

    value: bytes

    def __post_init__(self) -> None:
        if len(self.value) != 16:
            raise ValueError(f"an AES-128 key has 16 bytes, not {len(self.value)}")

    @classmethod
    def parse(cls, text: str) -> AES128Key:
        """Read 32 hex digits. Raises ValueError, whose text never holds the key."""
        return cls(_hex_bytes(text, 16, "an AES-128 key"))

    def __repr__(self) -> str:
        return "AES128Key(hidden)"
