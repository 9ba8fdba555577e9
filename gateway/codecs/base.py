"""What every codec is, and the one error it may raise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from hub.senml import Record

Value = Mapping[str, Any] | Sequence[Record]  # what a downlink is to say: named values, or SenML records

FIRST_PORT, LAST_PORT = 1, 223  # application ports (LoRaWAN 1.0.2, 4.3.2)


class CodecError(Exception):
    """The payload is not what this codec reads, or the value not one it can write; the text says where it fails."""


class Codec(Protocol):
    """A codec of our own: it answers at once."""

    name: str

    def decode(self, fport: int, payload: bytes, time_s: float, base_name: str) -> list[Record]:
        """Every value in `payload`, named `base_name` and more, at `time_s` (UTC) unless it says otherwise.

        Never empty. Raises CodecError.
        """
        ...

    def encode(self, fport: int | None, value: Value) -> tuple[int, bytes]:
        """The port and payload of a downlink that says `value`; without a port the codec's own is taken.

        Raises CodecError.
        """
        ...


@dataclass(slots=True)
class Decoded:
    """What became of a payload: records, or the problem for which it stays bytes."""

    records: list[Record] = field(default_factory=list)
    problem: str = ""
    notes: tuple[str, ...] = ()  # warnings of the codec, and values that could not be kept


class LaterCodec(Protocol):
    """A codec that runs elsewhere: it answers later, in the order in which it was asked."""

    name: str

    def decode_later(
        self, fport: int, payload: bytes, time_s: float, base_name: str, done: Callable[[Decoded], None]
    ) -> None:
        """As `Codec.decode`; `done` is called exactly once, on the event loop, perhaps before this returns."""
        ...

    async def encode(self, fport: int | None, value: Value) -> tuple[int, bytes]:
        """As `Codec.encode`."""
        ...


def port_of(fport: int | None, default: int) -> int:
    """The port to send to. Raises CodecError for one that is not for applications."""
    port = default if fport is None else fport
    if not FIRST_PORT <= port <= LAST_PORT:
        raise CodecError(f"port {port} is not one of {FIRST_PORT} to {LAST_PORT}")
    return port
