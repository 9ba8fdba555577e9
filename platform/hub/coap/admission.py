"""In front of everything: which datagrams are looked at, and how much an unproven address may be sent.

A UDP source address can be forged, so an answer may hit somebody who never asked. Until an address has proved
itself (RFC 9175, 2.4: an Echo value that only its owner can have received; or a reply to a message of ours with
a number nobody else saw) it is sent at most three bytes for each byte that came from it. Strangers cost no
memory: their rates are kept in tables of fixed size, and the Echo value needs none.

Pure: datagram, address and monotonic seconds in; a packet, an answer or nothing out.
"""

from __future__ import annotations

import hmac
import ipaddress
import struct
from array import array
from collections import OrderedDict
from hashlib import blake2b
from typing import NamedTuple

from hub.coap.limits import Limits
from hub.coap.packets import PAYLOAD_MARKER, BadPacket, Option, Packet, decode

AMPLIFICATION = 3  # RFC 9175, 2.4; the factor QUIC uses too (RFC 9000, 8.1)
ECHO_LIFETIME_S = 60  # a challenge is answered within a round trip; clients that sleep ask again
PROVEN_S = 600.0  # after its last sign of life an address must prove itself anew
MAX_HEADS = 4096  # of things' requests remembered, about one for each thing and subtopic; then afresh
MAX_HEAD = 512  # bytes of one
SLOTS = 4096  # of a rate table: 64 KiB for two; strangers that share a slot share its rate
_ECHO_HEAD = struct.Struct("!I")
_MAC_BYTES = 8
_ROUNDING_S = 1e-6


class Address(NamedTuple):
    """Where a datagram came from and at which address of ours: the endpoint of RFC 7252, 1.2.

    `local` is the packet information that lets an answer leave from the address that was asked; b"" where the
    socket has only one.
    """

    remote: tuple[str, int] | tuple[str, int, int, int]
    local: bytes = b""

    @property
    def ip(self) -> str:
        """The client's IP address."""
        return self.remote[0]

    @property
    def text(self) -> str:
        host = self.remote[0]
        return f"[{host}]:{self.remote[1]}" if ":" in host else f"{host}:{self.remote[1]}"


class Refused(NamedTuple):
    """A datagram that goes no further. `answer` is None where it is dropped; `counter` is the one that rises."""

    answer: bytes | None
    counter: str


class Rates:
    """Token buckets in a table of fixed size; what hashes to the same place shares a bucket."""

    def __init__(self, rate: float, burst: float, key: bytes) -> None:
        self._interval = 1.0 / rate
        self._ahead = burst / rate
        self._key = key
        self._free_at = array("d", bytes(8 * SLOTS))  # when the bucket will be full again

    def take(self, who: bytes, now: float) -> bool:
        """Take one token of `who`; False where there is none left."""
        slot = int.from_bytes(blake2b(who, key=self._key, digest_size=2).digest(), "big") % SLOTS
        free_at = max(self._free_at[slot], now)
        if free_at - now > self._ahead - self._interval + _ROUNDING_S:
            return False
        self._free_at[slot] = free_at + self._interval
        return True


class Admission:
    """One per door. `secret` are 32 random bytes of this run; with them Echo values are made and read."""

    def __init__(self, limits: Limits, secret: bytes) -> None:
        self._limits = limits
        self._secret = secret
        self._addresses = Rates(limits.address_rate, limits.address_burst, secret)
        self._strangers = Rates(limits.stranger_rate, limits.stranger_burst, secret)
        self._proven: OrderedDict[Address, float] = OrderedDict()  # until when
        self._known: dict[bytes, tuple[Option, ...]] = {}

    def admit(self, data: bytes, address: Address, now: float) -> Packet | Refused:
        """Look at one datagram."""
        if not self._addresses.take(_network(address), now):
            return Refused(None, "dropped_rate")
        try:
            return decode(data, self._known)
        except BadPacket as fault:
            if fault.reset is None:
                return Refused(None, "malformed")
            return Refused(fault.reset if self.stranger(address, now) else None, "malformed")

    def learn(self, data: bytes, packet: Packet) -> bool:
        """Remember how the options of a thing's request were parsed; it will send the same ones again.

        False where they are not remembered. Only for requests with a valid key, so that strangers put nothing here.
        """
        end = len(data) - len(packet.payload) - 1
        head = data[4 + len(packet.token) : end]
        if not packet.payload or PAYLOAD_MARKER in head or len(head) > MAX_HEAD:
            return False
        if len(self._known) >= MAX_HEADS:
            self._known.clear()
        self._known[head] = packet.options
        return True

    def stranger(self, address: Address, now: float) -> bool:
        """Whether one more answer may go to an address that showed no valid key."""
        return self._strangers.take(_network(address), now)

    def proven(self, address: Address, now: float) -> bool:
        """Whether `address` is known to receive what is sent to it."""
        until = self._proven.get(address)
        return until is not None and until > now

    def prove(self, address: Address, now: float) -> None:
        """`address` has shown that it receives what is sent to it."""
        self._proven[address] = now + PROVEN_S
        self._proven.move_to_end(address)
        if len(self._proven) > self._limits.proven_addresses:
            self._proven.popitem(last=False)

    def echo(self, address: Address, now: float) -> bytes:
        """A challenge for `address` that is checked without having been remembered (RFC 9175, Appendix A, 2)."""
        head = _ECHO_HEAD.pack(int(now) & 0xFFFFFFFF)
        return head + self._mac(head, address)

    def check_echo(self, value: bytes, address: Address, now: float) -> bool:
        """Whether `value` is a challenge that was sent to `address` lately."""
        if len(value) != _ECHO_HEAD.size + _MAC_BYTES:
            return False
        head = value[: _ECHO_HEAD.size]
        age_s = (int(now) - _ECHO_HEAD.unpack(head)[0]) & 0xFFFFFFFF
        return hmac.compare_digest(value[4:], self._mac(head, address)) and age_s <= ECHO_LIFETIME_S

    def _mac(self, head: bytes, address: Address) -> bytes:
        who = repr(address).encode()
        return blake2b(head + who, key=self._secret, digest_size=_MAC_BYTES).digest()


def _network(address: Address) -> bytes:
    """Whose rate an address counts against: the host, or the /64 that one IPv6 host may use as it likes."""
    host = address.remote[0]
    if ":" not in host:
        return host.encode()
    return ipaddress.IPv6Address(host.partition("%")[0]).packed[:8]
