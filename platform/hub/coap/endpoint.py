"""The message layer (RFC 7252, 4): acknowledgements, duplicates, Resets, and what an unproven address may be sent.

In: datagrams with their address. Out: an `Exchange` for each request, to be answered now or later, and datagrams
to `send`. Why not aiocoap's own message layer: it keeps state for every stranger without a bound, and takes a new
message whose number came around for a copy of an old one.

Pure but for the clock handed in.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from hub.access import Principal
from hub.coap.admission import AMPLIFICATION, Address, Admission, Refused
from hub.coap.blocks import MAX_SZX, Block
from hub.coap.exchanges import Exchanges, Seen
from hub.coap.limits import Limits
from hub.coap.outgoing import TRANSMISSIONS, Answer, Outgoing
from hub.coap.packets import ACK, CON, NON, RST, Code, Opt, Option, Packet, encode, encode_empty

if TYPE_CHECKING:
    from hub.coap.oscore import Secured

PROCESSING_S = 1.0  # after which a request is acknowledged without its answer; clients wait at least 2 s
MAX_PAYLOAD = 1024  # of one message: with its options it fits the smallest IPv6 packet (RFC 7252, 4.6)
MAX_OPTIONS_BYTES = 48  # of our responses: Observe, ETag, format, Max-Age, Block2, Size2
OSCORE_BYTES = 24  # what protection adds: tag, partial IV, code, option


class Response(NamedTuple):
    """What a request is answered with. `options` in rising order of their numbers."""

    code: int
    options: tuple[Option, ...] = ()
    payload: bytes = b""


class Exchange:
    """One request on its way to its answer.

    `packet` is the request to work on: with OSCORE the inner one. `principal` is None until somebody is
    authenticated; `secured` is what protects the answer.
    """

    __slots__ = (
        "_endpoint",
        "acked",
        "address",
        "budget",
        "data",
        "outer",
        "over",
        "packet",
        "principal",
        "secured",
        "seen",
    )

    def __init__(self, endpoint: Endpoint, packet: Packet, data: bytes, address: Address) -> None:
        self._endpoint = endpoint
        self.packet = self.outer = packet
        self.data = data
        self.address = address
        self.budget = AMPLIFICATION * len(data)
        self.principal: Principal | None = None
        self.secured: Secured | None = None
        self.seen: Seen | None = None
        # An empty acknowledgement has been sent, so the answer comes in a message of its own
        self.acked = False
        self.over = False

    def remember(self) -> None:
        """Recognise copies of this request from now on. For requests of things, that are not without effect."""
        self._endpoint.remember(self)

    def reply(self, response: Response) -> None:
        """Answer, once; a second answer is not sent."""
        self._endpoint.reply(self, response)

    def room(self) -> int:
        """Payload bytes that may be answered at once."""
        return self._endpoint.room(self)


class Endpoint:
    """One per door. `handle` takes each new request."""

    def __init__(
        self,
        admission: Admission,
        limits: Limits,
        counters: dict[str, int],
        send: Callable[[bytes, Address], None],
        handle: Callable[[Exchange], None],
        on_reset: Callable[[Address, int], bool],
        clock: Callable[[], float],
    ) -> None:
        self.admission = admission
        self.exchanges = Exchanges(limits, counters)
        self.outgoing = Outgoing(send, counters)
        self.clock = clock
        self._counters = counters
        self.send = send
        self._handle = handle
        self._on_reset = on_reset
        self._unanswered: deque[tuple[float, Exchange]] = deque()  # until when they may stay so

    def receive(self, data: bytes, address: Address) -> None:
        """Take one datagram."""
        counters = self._counters
        counters["datagrams"] += 1
        admitted = self.admission.admit(data, address, self.clock())
        if isinstance(admitted, Refused):
            counters[admitted.counter] += 1
            if admitted.answer is not None:
                self.send(admitted.answer, address)
        elif admitted.is_request and admitted.type in (CON, NON):
            self._request(admitted, data, address)
        elif admitted.type in (ACK, RST):
            self._answered(admitted, address)
        elif admitted.type == CON and self.admission.stranger(address, self.clock()):
            # A ping (4.3), or a response to a question that was never asked.
            self.send(encode_empty(RST, admitted.mid), address)

    def too_long(self, head: bytes, address: Address) -> None:
        """A datagram began with `head` and is longer than the door takes: ask for blocks (RFC 7959, 2.9.3)."""
        kind, length = head[0] >> 4 & 3, head[0] & 15
        is_request = head[0] >> 6 == 1 and 0 < head[1] < 32 and kind == CON and length <= 8
        if is_request and self.admission.stranger(address, self.clock()):
            mid = head[2] << 8 | head[3]
            hint = ((Opt.BLOCK1, Block(0, False, MAX_SZX).encode()),)
            self.send(encode(ACK, Code.TOO_LARGE, mid, head[4 : 4 + length], hint), address)

    def tick(self) -> None:
        """Do what is due; called a few times a second."""
        now = self.clock()
        self.outgoing.tick(now)
        while self._unanswered and self._unanswered[0][0] <= now:
            _, exchange = self._unanswered.popleft()
            if not exchange.over:
                self._acknowledge(exchange)
        self.exchanges.expire(now)

    def new_mid(self) -> int:
        """A message ID that nobody can foresee."""
        return secrets.randbits(16)

    def _request(self, packet: Packet, data: bytes, address: Address) -> None:
        seen = self.exchanges.find(address, packet.mid, data)
        if seen is not None:
            self._counters["duplicates"] += 1
            if packet.type == CON and seen.answer is not None:
                self.send(seen.answer, address)
            return
        exchange = Exchange(self, packet, data, address)
        echo = packet.first(Opt.ECHO)
        if echo is not None:
            self.check_echo(echo, address)
        self._handle(exchange)
        if not exchange.over and packet.type == CON:
            self._unanswered.append((self.clock() + PROCESSING_S, exchange))

    def check_echo(self, value: bytes, address: Address) -> None:
        """A request came with an Echo option: its address is real if the value is one of ours."""
        now = self.clock()
        if self.admission.check_echo(value, address, now):
            self._counters["addresses_proven"] += 1
            self.admission.prove(address, now)

    def _answered(self, packet: Packet, address: Address) -> None:
        answer = Answer.RESET if packet.type == RST else Answer.ACK
        if self.outgoing.answered(address, packet.mid, answer):
            self._counters["addresses_proven"] += not self.admission.proven(address, self.clock())
            self.admission.prove(address, self.clock())
        elif packet.type == RST:
            self._on_reset(address, packet.mid)

    def remember(self, exchange: Exchange) -> None:
        exchange.seen = self.exchanges.begin(
            exchange.address, exchange.outer.mid, exchange.data, self.clock()
        )

    def _acknowledge(self, exchange: Exchange) -> None:
        """The answer takes longer: say that the request is here (5.2.2)."""
        exchange.acked = True
        wire = encode_empty(ACK, exchange.outer.mid)
        exchange.budget -= len(wire)
        self.send(wire, exchange.address)
        if exchange.seen is not None:
            self.exchanges.answered(exchange.seen, wire)

    # Answers

    def room(self, exchange: Exchange) -> int:
        """Payload bytes of one answer to `exchange`."""
        if self.admission.proven(exchange.address, self.clock()):
            return MAX_PAYLOAD
        overhead = 5 + len(exchange.outer.token) + MAX_OPTIONS_BYTES
        if exchange.secured is not None:
            overhead += OSCORE_BYTES
        copies = TRANSMISSIONS if exchange.acked else 1
        return max(0, min(MAX_PAYLOAD, exchange.budget // copies - overhead))

    def reply(self, exchange: Exchange, response: Response) -> None:
        """Send the answer, or as much of it as an unproven address may get."""
        if exchange.over:
            return
        exchange.over = True
        now = self.clock()
        address = exchange.address
        if exchange.principal is None and not self.admission.stranger(address, now):
            self._counters["dropped_strangers"] += 1
            return
        mid = self.new_mid()
        wire = self._frame(exchange, mid, response)
        if wire is None:
            self._counters["oscore_refused"] += 1
            return
        if not self.admission.proven(address, now) and not self._affordable(exchange, wire):
            wire = self._smaller(exchange, mid, response)
        if wire is None:
            self._counters["dropped_amplification"] += 1
        elif exchange.acked:
            self.outgoing.confirm(address, mid, wire, now, lambda _answer: None)
        else:
            self.send(wire, address)
            if exchange.seen is not None:
                self.exchanges.answered(exchange.seen, wire)

    def _affordable(self, exchange: Exchange, wire: bytes | None) -> bool:
        return wire is not None and len(wire) * (TRANSMISSIONS if exchange.acked else 1) <= exchange.budget

    def _smaller(self, exchange: Exchange, mid: int, response: Response) -> bytes | None:
        """An answer that an unproven address may get instead: a challenge, or the code alone; None for silence."""
        if response.code == Code.CONTENT:
            self._counters["echo_challenges"] += 1
            echo = self.admission.echo(exchange.address, self.clock())
            # Of one moment, so no cache may keep it (RFC 7252, 5.10.5).
            response = Response(Code.UNAUTHORIZED, ((Opt.MAX_AGE, b""), (Opt.ECHO, echo)))
        else:
            response = response._replace(payload=b"")
        wire = self._frame(exchange, mid, response)
        if not self._affordable(exchange, wire):
            wire = self._frame(exchange, mid, Response(response.code))
        return wire if self._affordable(exchange, wire) else None

    def _frame(self, exchange: Exchange, mid: int, response: Response) -> bytes | None:
        """The datagram; None where it cannot be protected now."""
        outer = exchange.outer
        if exchange.secured is not None:
            protected = exchange.secured.protect(response)
            if protected is None:
                return None
            response = protected
        if outer.type == NON:
            kind = NON
        elif exchange.acked:
            kind = CON
        else:
            kind, mid = ACK, outer.mid
        return encode(kind, response.code, mid, outer.token, response.options, response.payload)
