"""What a gateway has promised to its clients so far, and what the clients know: both outlive any crash of it.

A process under test says each step as a mark (one line of text); whoever replays the marks has the same book. A
client says first and then acts, so that a crash between the two finds it in the state it had said.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

RETAINED_ADDRESSES = 4


@dataclass
class Book:
    """The account of one data directory over all its lives."""

    channel: str = ""
    label: str = ""  # in all bodies and subtopics, where several books are kept of one directory
    publisher: tuple[str, str] = ("", "")  # thing id and key
    subscriber: tuple[str, str] = ("", "")
    counted: int = 0  # calls to the disk that the fault shim has seen
    seen_seq: int = 0  # highest number that a listener was shown
    bodies: int = 0  # how many bodies were made; each is unique
    acknowledged: set[str] = field(default_factory=set)
    # The QoS 2 publisher with a kept session
    publisher_kept: bool = False  # it has had an answer that makes the session durable
    outgoing: dict[int, tuple[str, bool]] = field(default_factory=dict)  # packet id: body, PUBREC was there
    # The subscriber with a kept session
    subscribed: bool = False
    delivered: Counter[str] = field(default_factory=Counter)
    held: dict[int, str] = field(default_factory=dict)  # packet id of QoS 2: body, until PUBREL
    # Retained messages by address: the last value sent, the last acknowledged
    retained_sent: Counter[int] = field(default_factory=Counter)
    retained_acknowledged: Counter[int] = field(default_factory=Counter)
    keys: dict[str, str] = field(default_factory=dict)  # thing made by a user: its key, "" while replaced
    cursor: int = 0  # highest number a reader's cursor was moved to

    def apply(self, mark: str) -> None:
        """Take down one mark."""
        word, _, rest = mark.partition(" ")
        match word:
            case "seen":
                self.seen_seq = max(self.seen_seq, int(rest))
            case "body":
                self.bodies += 1
            case "ack":
                self.acknowledged.add(rest)
            case "out":  # packet id, body
                packet_id, _, body = rest.partition(" ")
                self.outgoing[int(packet_id)] = (body, False)
            case "rec":
                body, _ = self.outgoing[int(rest)]
                self.outgoing[int(rest)] = (body, True)
                self.acknowledged.add(body)
                self.publisher_kept = True
            case "comp":
                self.outgoing.pop(int(rest), None)
            case "subscribed":
                self.subscribed = True
            case "got":
                self.delivered[rest] += 1
            case "hold":  # packet id, body
                packet_id, _, body = rest.partition(" ")
                self.held[int(packet_id)] = body
                self.delivered[body] += 1
            case "free":
                self.held.pop(int(rest), None)
            case "retain":
                address, value = map(int, rest.split())
                self.retained_sent[address] = value
            case "retained":
                address, value = map(int, rest.split())
                self.retained_acknowledged[address] = value
            case "replace":
                self.keys[rest] = ""
            case "key":
                thing, key = rest.split()
                self.keys[thing] = key
            case "counted":
                self.counted = int(rest)
            case "cursor":
                self.cursor = max(self.cursor, int(rest))
            case _:
                raise ValueError(f"no mark: {mark}")


def is_clear(value: int) -> bool:
    """Every seventh retained message is empty and clears its address."""
    return value % 7 == 0
