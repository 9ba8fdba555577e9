"""Which node a frame is from, whether it is new, and what to answer.

Pure: time is an argument (monotonic nanoseconds). Unknown senders leave a line in a bounded list and nothing else.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count

import msgspec

from gateway.rawlora.frames import (
    BROADCAST,
    HEADER_SIZE,
    Datagram,
    RawFrameError,
    acknowledgement,
    build_datagram,
    parse_datagram,
    split_plain,
)
from gateway.rawlora.node import Header, Node, NodeError, NodeExists, UnknownNode
from radio.gwmp import RxPacket, TxPacket
from radio.lora import SYNC_WORD_PRIVATE

MAX_NODES = 512  # a byte of address, on a few channels
MAX_STRANGERS = 64
SAME_NS = 10_000_000_000  # RadioHead repeats within a second or so; an ID comes round after 256 frames
SAME_FRAMES = 8  # remembered of a node
BURST = 20  # frames of one node at once ...
PER_S = 1.0  # ... and in the long run: more than a node may send under a duty cycle
DEFAULT_POWER_DBM = 14


class Stranger(msgspec.Struct):
    """A sender that is not registered, as far as its frames tell."""

    freq_hz: int
    first_bytes: str  # hex: TO, FROM, ID, FLAGS of a RadioHead node
    last_ns: int  # UTC
    rssi_dbm: int
    snr_db: float
    sf: int
    size: int
    count: int = 0


class Reading(msgspec.Struct, frozen=True):
    """A payload of a registered node that is new."""

    node: Node
    payload: bytes
    rx: RxPacket
    datagram: Datagram | None


class Taken(msgspec.Struct, frozen=True):
    """What came of a frame."""

    reading: Reading | None  # None: nothing to publish, see `why`
    answer: TxPacket | None = None  # to be sent at once
    why: str = ""  # for a technician


@dataclass(slots=True)
class RawCounters:
    """Since the start of the process."""

    frames: int = 0
    readings: int = 0
    duplicates: int = 0  # the same ID and payload within a few seconds
    acks: int = 0  # answered
    unknown: int = 0  # of nobody who is registered
    too_many: int = 0  # beyond what one node may send
    damaged: int = 0  # CRC
    own: int = 0  # sent by this gateway, and heard by another module of it
    not_for_us: int = 0  # RadioHead: sent to another address, or an ACK


@dataclass(slots=True)
class _State:
    """What is remembered of a node."""

    seen: deque[tuple[int, int, bytes]] = field(default_factory=lambda: deque(maxlen=SAME_FRAMES))
    allowance: float = BURST
    at_ns: int = 0
    last: RxPacket | None = None
    gateway: bytes = b""
    last_seen_ns: int | None = None  # UTC
    readings: int = 0


class Receiver:
    """All registered nodes. `rx_limit` and the like are constants: these nodes are few and slow."""

    def __init__(self, nodes: Iterable[Node] = (), power_dbm: int = DEFAULT_POWER_DBM) -> None:
        self.counters = RawCounters()
        self._nodes: dict[str, Node] = {}
        self._states: dict[str, _State] = {}
        self._by_key: dict[tuple[Header, int, int, int | None], Node] = {}
        self._places: tuple[int, ...] = ()
        self._strangers: OrderedDict[tuple[int, str], Stranger] = OrderedDict()
        self._ids = count(1)
        self._power_dbm = power_dbm
        for node in nodes:
            self.add(node)

    # Nodes

    def __len__(self) -> int:
        return len(self._nodes)

    def nodes(self) -> list[Node]:
        return list(self._nodes.values())

    def node(self, node_id: str) -> Node:
        """Raises UnknownNode."""
        node = self._nodes.get(node_id)
        if node is None:
            raise UnknownNode(f"no node {node_id} is registered")
        return node

    def state(self, node_id: str) -> _State:
        """Raises UnknownNode."""
        self.node(node_id)
        return self._states[node_id]

    def check(self, node: Node) -> None:
        """Raises NodeExists or NodeError where it cannot be added."""
        if node.id in self._nodes:
            raise NodeExists(f"{node.id} is registered already, as {self._nodes[node.id].name or 'a node'}")
        if len(self._nodes) >= MAX_NODES:
            raise NodeError(f"{MAX_NODES} nodes are registered, and no more fit")

    def add(self, node: Node) -> None:
        """Raises NodeExists or NodeError."""
        self.check(node)
        self._nodes[node.id] = node
        self._states[node.id] = _State()
        self._index()

    def remove(self, node_id: str) -> Node:
        """Raises UnknownNode."""
        node = self.node(node_id)
        del self._nodes[node_id]
        del self._states[node_id]
        self._index()
        return node

    def strangers(self) -> list[Stranger]:
        """Those heard last first."""
        return list(reversed(self._strangers.values()))

    def not_stored(self, reading: Reading) -> None:
        """It was refused by the log: its repetition is new, and not merely acknowledged."""
        state, datagram = self._states.get(reading.node.id), reading.datagram
        if state is not None and datagram is not None:
            kept = [each for each in state.seen if each[1:] != (datagram.id, datagram.payload)]
            state.seen.clear()
            state.seen.extend(kept)

    # Frames

    def take(self, rx: RxPacket, gateway: bytes, now_ns: int, wall_ns: int) -> Taken:
        """Take a frame that a private module heard. Never raises because of the frame."""
        self.counters.frames += 1
        if rx.stat < 0:
            self.counters.damaged += 1
            return Taken(None, why="heard with errors (CRC)")
        node, payload, datagram = self._whose(rx)
        if node is None and self._our_own(rx):
            self.counters.own += 1
            return Taken(None, why="our own frame, heard by another module")
        if node is None:
            self.counters.unknown += 1
            self._note(rx, wall_ns)
            return Taken(None, why="no node is registered that sends such frames")
        if datagram is not None and not _for_us(node, datagram):
            self.counters.not_for_us += 1
            what = "an acknowledgement" if datagram.is_ack else f"sent to address {datagram.to}"
            return Taken(None, why=f"{what}, not to this gateway")
        state = self._states[node.id]
        if not _allowed(state, now_ns):
            self.counters.too_many += 1
            return Taken(None, why=f"{node.name or node.id} sends more than {PER_S:g} frames a second")
        state.last, state.gateway, state.last_seen_ns = rx, gateway, wall_ns
        answer = self._answer(node, datagram, rx)
        if datagram is not None and _again(state, datagram, now_ns):
            self.counters.duplicates += 1
            return Taken(None, answer, f"frame {datagram.id} heard again")
        state.readings += 1
        self.counters.readings += 1
        return Taken(Reading(node, payload, rx, datagram), answer)

    def order(self, node_id: str, payload: bytes) -> tuple[TxPacket, bytes]:
        """A frame to send to a node at once, and the gateway that heard it last. Raises UnknownNode, NodeError."""
        node, state = self.node(node_id), self.state(node_id)
        if state.last is None:
            raise NodeError(
                f"{node.name or node.id} was not heard since the start: nobody knows how to reach it"
            )
        try:
            data = payload
            if node.header is Header.RADIOHEAD:
                number = next(self._ids) & 0xFF
                data = build_datagram(Datagram(node.address, node.own_address, number, 0, payload))
            elif node.header is Header.BYTE:
                data = bytes((node.address,)) + payload
        except RawFrameError as error:
            raise NodeError(str(error)) from None
        if not 0 < len(data) <= 255:
            raise NodeError(f"a frame has 1 to 255 bytes, not {len(data)}")
        return self._packet(state.last, data), state.gateway

    def _whose(self, rx: RxPacket) -> tuple[Node | None, bytes, Datagram | None]:
        """The node by RadioHead's header, by an address byte, or by the frequency, in this order."""
        try:
            datagram = parse_datagram(rx.data)
        except RawFrameError:
            datagram = None
        overheard: tuple[Node | None, bytes, Datagram | None] = None, b"", None
        if datagram is not None and (node := self._find(Header.RADIOHEAD, 0, datagram.sender, rx.freq_hz)):
            if _for_us(node, datagram):
                return node, datagram.payload, datagram
            overheard = node, b"", datagram  # unless it is a plain frame that looks like one
        for place in self._places:
            try:
                address, payload = split_plain(rx.data, place)
            except RawFrameError:
                continue
            if node := self._find(Header.BYTE, place, address, rx.freq_hz):
                return node, payload, None
        if rx.data and (node := self._by_key.get((Header.SINGLE, 0, 0, rx.freq_hz))):
            return node, rx.data, None
        return overheard

    def _our_own(self, rx: RxPacket) -> bool:
        """With IQ that is not inverted the modules of a gateway hear each other."""
        if len(rx.data) < HEADER_SIZE:
            return False
        node = self._find(Header.RADIOHEAD, 0, rx.data[0], rx.freq_hz)
        return node is not None and rx.data[1] == node.own_address

    def _find(self, header: Header, place: int, address: int, freq_hz: int) -> Node | None:
        return self._by_key.get((header, place, address, freq_hz)) or self._by_key.get(
            (header, place, address, None)
        )

    def _answer(self, node: Node, datagram: Datagram | None, rx: RxPacket) -> TxPacket | None:
        if datagram is None or not node.acknowledge or datagram.to == BROADCAST:
            return None
        self.counters.acks += 1
        return self._packet(rx, acknowledgement(datagram))

    def _packet(self, rx: RxPacket, data: bytes) -> TxPacket:
        """At once, as the node sends itself: its frequency and modulation, a CRC, and no inverted IQ."""
        return TxPacket(
            tmst=None,
            imme=True,
            freq_hz=rx.freq_hz,
            rfch=0,
            powe_dbm=self._power_dbm,
            modulation=rx.modulation,
            ipol=False,
            data=data,
            ncrc=False,
            sync_word=SYNC_WORD_PRIVATE,
        )

    def _note(self, rx: RxPacket, wall_ns: int) -> None:
        head = rx.data[:4]
        # The ID changes with each frame; the rest of a RadioHead header, or of a plain one, is the sender's.
        key = rx.freq_hz, (head[:2] + head[3:]).hex()
        stranger = self._strangers.pop(key, None)
        if stranger is None:
            stranger = Stranger(rx.freq_hz, "", 0, 0, 0.0, 0, 0)
            if len(self._strangers) >= MAX_STRANGERS:
                self._strangers.popitem(last=False)
        stranger.first_bytes, stranger.last_ns, stranger.size = head.hex(), wall_ns, len(rx.data)
        stranger.rssi_dbm, stranger.snr_db, stranger.sf = rx.rssi_dbm, rx.lsnr_db, rx.modulation.sf
        stranger.count += 1
        self._strangers[key] = stranger

    def _index(self) -> None:
        self._by_key = {
            (
                node.header,
                node.place if node.header is Header.BYTE else 0,
                0 if node.header is Header.SINGLE else node.address,
                node.freq_hz,
            ): node
            for node in self._nodes.values()
        }
        self._places = tuple(
            sorted({node.place for node in self._nodes.values() if node.header is Header.BYTE})
        )


def _for_us(node: Node, datagram: Datagram) -> bool:
    return not datagram.is_ack and datagram.to in (node.own_address, BROADCAST)


def _allowed(state: _State, now_ns: int) -> bool:
    """A bucket of tokens: whoever sends as this node cannot fill the store."""
    state.allowance = min(BURST, state.allowance + (now_ns - state.at_ns) / 1e9 * PER_S)
    state.at_ns = now_ns
    if state.allowance < 1:
        return False
    state.allowance -= 1
    return True


def _again(state: _State, datagram: Datagram, now_ns: int) -> bool:
    """Whether this ID came with the same payload a moment ago."""
    for at_ns, number, payload in state.seen:
        if number == datagram.id and payload == datagram.payload and now_ns - at_ns < SAME_NS:
            return True
    state.seen.append((now_ns, datagram.id, datagram.payload))
    return False
