"""The socket protocol's words: requests in, replies out, without a socket.

Layout and meaning are in docs/hw_sim.md. Both are lines of ASCII; numbers are decimal, bytes are hexadecimal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hw_sim.edges import PinEdge, Trigger
from hw_sim.errors import ProtocolError

VERSION: Final = 1
MAX_LINE: Final = 16_384  # bytes with the line end: an SPI transfer of 4096 bytes and some words
MAX_TRANSFER: Final = 4096
MAX_NS: Final = 1 << 62
_NAME_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


@dataclass(frozen=True, slots=True)
class Hello:
    """Take part in virtual time under this name."""

    name: str


@dataclass(frozen=True, slots=True)
class Spi:
    """One chip-select assertion."""

    bus: int
    device: int
    data: bytes
    speed_hz: int


@dataclass(frozen=True, slots=True)
class Read:
    """A line's level."""

    line: int


@dataclass(frozen=True, slots=True)
class Write:
    """Drive a line."""

    line: int
    level: bool


@dataclass(frozen=True, slots=True)
class WatchLine:
    """Report a line's edges with every reply from now on."""

    line: int
    trigger: Trigger


@dataclass(frozen=True, slots=True)
class Time:
    """What time is it?"""


@dataclass(frozen=True, slots=True)
class Delay:
    """Let time pass."""

    ns: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Until an edge, a wake, or a time (None: no limit)."""

    until_ns: int | None


@dataclass(frozen=True, slots=True)
class Yield:
    """Let others have a turn."""


@dataclass(frozen=True, slots=True)
class Wake:
    """End another client's wait."""

    name: str


@dataclass(frozen=True, slots=True)
class Bye:
    """Leave."""


Request = Hello | Spi | Read | Write | WatchLine | Time | Delay | Wait | Yield | Wake | Bye

_TRIGGERS: Final = {trigger.value: trigger for trigger in Trigger}


def parse_request(line: bytes) -> Request:
    """One request, without its line end. Raises ProtocolError."""
    try:
        words = line.decode("ascii").split(" ")
    except UnicodeDecodeError:
        raise ProtocolError("a request is ASCII") from None
    match words:
        case ["hello", version, name]:
            if _number(version, 999) != VERSION:
                raise ProtocolError(f"this is version {VERSION}")
            return Hello(_name(name))
        case ["spi", bus, device, data]:
            return Spi(_number(bus, 99), _number(device, 99), _bytes(data), 8_000_000)
        case ["spi", bus, device, data, speed]:
            return Spi(_number(bus, 99), _number(device, 99), _bytes(data), _number(speed, 10**9, 1000))
        case ["read", pin]:
            return Read(_number(pin, 999))
        case ["write", pin, ("0" | "1") as level]:
            return Write(_number(pin, 999), level == "1")
        case ["watch", pin, direction] if direction in _TRIGGERS:
            return WatchLine(_number(pin, 999), _TRIGGERS[direction])
        case ["time"]:
            return Time()
        case ["delay", ns]:
            return Delay(_number(ns, MAX_NS))
        case ["wait", "-"]:
            return Wait(None)
        case ["wait", until]:
            return Wait(_number(until, MAX_NS))
        case ["yield"]:
            return Yield()
        case ["wake", name]:
            return Wake(_name(name))
        case ["bye"]:
            return Bye()
    raise ProtocolError(f"no such request: {' '.join(words)[:60]!r}")


def format_reply(now_ns: int, result: str, edges: Sequence[PinEdge] = ()) -> bytes:
    """`ok <time> <result> <count> {<line> <level> <time>}`."""
    words = ["ok", str(now_ns), result or "-", str(len(edges))]
    for edge in edges:
        words += [str(edge.line), str(int(edge.rising)), str(edge.t_ns)]
    return " ".join(words).encode("ascii") + b"\n"


def format_error(now_ns: int, reason: str) -> bytes:
    """`err <time> <words to the end of the line>`."""
    printable = "".join(c if " " <= c <= "~" else "?" for c in reason)
    return f"err {now_ns} {printable}".encode("ascii") + b"\n"


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply as the client's side reads it."""

    now_ns: int
    result: str
    edges: tuple[tuple[int, bool, int], ...]  # line, level, time


def parse_reply(line: bytes) -> Reply:
    """One reply, without its line end. Raises ProtocolError, for an error reply with its words."""
    try:
        text = line.decode("ascii")
    except UnicodeDecodeError:
        raise ProtocolError("a reply is ASCII") from None
    if text.startswith("err "):
        raise ProtocolError(text.split(" ", 2)[-1])
    words = text.split(" ")
    if len(words) < 4 or words[0] != "ok":
        raise ProtocolError(f"not a reply: {text[:60]!r}")
    count = _number(words[3], 10_000)
    numbers = [_number(word, MAX_NS) for word in words[4:]]
    if len(numbers) != 3 * count:
        raise ProtocolError("edges are triples")
    edges = tuple((numbers[i], bool(numbers[i + 1]), numbers[i + 2]) for i in range(0, len(numbers), 3))
    return Reply(_number(words[1], MAX_NS), "" if words[2] == "-" else words[2], edges)


def _number(word: str, highest: int, lowest: int = 0) -> int:
    if not (0 < len(word) <= 20 and word.isascii() and word.isdigit()) or not lowest <= int(word) <= highest:
        raise ProtocolError(f"{word[:24]!r} is not a number from {lowest} to {highest}")
    return int(word)


def _bytes(word: str) -> bytes:
    if len(word) % 2 or not 2 <= len(word) <= 2 * MAX_TRANSFER:
        raise ProtocolError(f"a transfer is 1 to {MAX_TRANSFER} bytes in hexadecimal")
    try:
        return bytes.fromhex(word)
    except ValueError:
        raise ProtocolError(f"{word[:24]!r} is not hexadecimal") from None


def _name(word: str) -> str:
    if not 1 <= len(word) <= 32 or not set(word) <= _NAME_CHARACTERS:
        raise ProtocolError("a name is 1 to 32 letters, digits, dots, dashes or underscores")
    return word
