"""A registered node: how its frames are recognised, and what becomes of their payloads."""

from __future__ import annotations

import enum
from dataclasses import dataclass

MAX_NAME = 64  # characters
MAX_PLACE = 31  # of the address in a plain frame
FPORT = 1  # what codecs are told, as these frames have no port
_BAND_HZ = (137_000_000, 1_020_000_000)  # what an SX127x tunes to


class Header(enum.StrEnum):
    """How a frame names its sender."""

    RADIOHEAD = "radiohead"  # FROM of TO, FROM, ID, FLAGS
    BYTE = "byte"  # a byte of a plain payload; what follows it is the payload
    SINGLE = "single"  # not at all: it is the only node on its frequency


class NodeError(Exception):
    """A node that cannot be registered or reached; the text says why and what to do."""


class UnknownNode(NodeError):
    """No node with this id is registered."""


class NodeExists(NodeError):
    """A node that is recognised in the same way is registered already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Raises NodeError, in words for the person who wrote it, for a value outside its range."""

    header: Header
    address: int = 0  # one byte; of SINGLE unused
    place: int = 0  # of BYTE: where the address is, from 0
    freq_hz: int | None = None  # on this frequency only; SINGLE needs it
    own_address: int = 0  # RADIOHEAD: what the node calls the gateway
    acknowledge: bool = True  # RADIOHEAD: answer with an ACK
    name: str = ""
    codec: str = "raw"
    thing_id: str = ""
    channel_id: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.address <= 0xFF or not 0 <= self.own_address <= 0xFF:
            raise NodeError("an address is one byte: 0 to 255")
        if self.header is Header.RADIOHEAD and self.address == 0xFF:
            raise NodeError("255 is RadioHead's broadcast address: no node has it")
        if not 0 <= self.place <= MAX_PLACE:
            raise NodeError(f"the address is in byte 0 to {MAX_PLACE}")
        if self.freq_hz is not None and not _BAND_HZ[0] <= self.freq_hz <= _BAND_HZ[1]:
            raise NodeError(f"{self.freq_hz} Hz is outside what a module tunes to")
        if self.header is Header.SINGLE and self.freq_hz is None:
            raise NodeError("a node without an address needs the frequency that it has for itself")
        if len(self.name) > MAX_NAME or not self.name.isprintable():
            raise NodeError(f"a name has at most {MAX_NAME} printable characters")

    @property
    def id(self) -> str:
        """Names the node in the API and in subtopics: letters, digits and dashes."""
        where = "" if self.freq_hz is None else f"-{self.freq_hz}"
        match self.header:
            case Header.RADIOHEAD:
                return f"raw-radiohead-{self.address}{where}"
            case Header.BYTE:
                return f"raw-byte{self.place}-{self.address}{where}"
            case Header.SINGLE:
                return f"raw-single{where}"

    @property
    def base_name(self) -> str:
        """Of its SenML records: its thing's, as it has no identifier of its own in the world (RFC 9562 URN)."""
        return f"urn:uuid:{self.thing_id}:"
