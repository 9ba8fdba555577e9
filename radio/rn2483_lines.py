"""What an RN2483 says, line by line (Microchip DS40001784G, chapter 2). Pure.

One type a kind of answer; a number or word that a `get` returns is a `Value`. Damaged lines are the normal case on
a wire without a checksum: `parse` raises ModemLineError for whatever the module cannot have meant.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from radio.errors import ModemLineError

MAX_PAYLOAD: Final = 255

_BANNER = re.compile(r"(RN2483A?|RN2903A?) (\d{1,2})\.(\d{1,2})\.(\d{1,2}) .{4,32}", re.ASCII)
_VALUE = re.compile(r"-?\d{1,10}|[a-z0-9/]{1,16}", re.ASCII)


class Answer(Enum):
    """Answers that are one word."""

    OK = "ok"
    INVALID = "invalid_param"
    BUSY = "busy"
    SENT = "radio_tx_ok"
    FAILED = "radio_err"  # nothing came, a frame came damaged, or the watchdog ended the wait


@dataclass(frozen=True, slots=True)
class Frame:
    """`radio_rx`: a frame with a good CRC, or without one; the module does not say which."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Banner:
    """What the module is; it says so when asked, and unasked after a reset."""

    model: str
    version: tuple[int, int, int]

    def __str__(self) -> str:
        return f"{self.model} {'.'.join(map(str, self.version))}"


@dataclass(frozen=True, slots=True)
class Value:
    """What a `get` returns."""

    text: str


Reply = Answer | Frame | Banner | Value

_WORDS: Final = {answer.value: answer for answer in Answer}


def parse(line: bytes) -> Reply:
    """The meaning of a line without its CR LF. Raises ModemLineError."""
    try:
        text = line.decode("ascii")
    except UnicodeDecodeError:
        raise ModemLineError("bytes outside ASCII") from None
    if (answer := _WORDS.get(text)) is not None:
        return answer
    if text.startswith("radio_rx"):
        return _frame(text)
    if (banner := _BANNER.fullmatch(text)) is not None:
        major, minor, patch = map(int, banner.group(2, 3, 4))
        return Banner(banner[1], (major, minor, patch))
    if _VALUE.fullmatch(text) is None:
        raise ModemLineError(f"no answer of an RN2483: {text[:40]!r}")
    return Value(text)


def _frame(text: str) -> Frame:
    """`radio_rx  <hex>`; firmware writes two spaces where its manual shows one."""
    words = text.split()
    if len(words) != 2 or words[0] != "radio_rx" or len(words[1]) % 2 or len(words[1]) > 2 * MAX_PAYLOAD:
        raise ModemLineError(f"a frame without a payload of 1 to {MAX_PAYLOAD} bytes: {text[:40]!r}")
    if re.fullmatch(r"[0-9A-Fa-f]+", words[1], re.ASCII) is None:
        raise ModemLineError(f"a payload that is not hexadecimal: {text[:40]!r}")
    return Frame(bytes.fromhex(words[1]))
