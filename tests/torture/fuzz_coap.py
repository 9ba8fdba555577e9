"""Damaged datagrams at the CoAP door: admission, deduplication, block-wise, observe, and the inside of OSCORE.

An input that begins with 0xC0 or above, which no version of CoAP does, is what a thing with the key says inside OSCORE:
the rest of it, protected as RFC 8613 has it, whatever it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import cbor2
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from hub.coap import CoapDoor
from hub.coap.admission import Address
from hub.coap.oscore import SERVER_ID, Context, Parameters
from hub.coap.packets import ACK, CON, RST, Opt, encode, encode_empty

from .fuzz import Door
from .fuzz_seeds import CHANNEL, COAP_SEEDS, COAP_WORDS, KEY, SENML
from .fuzz_world import World, opened_world

STEP_S = 0.01  # of the door's clock between two inputs
KNOWN = 8  # addresses that have shown that they receive what is sent to them
STRANGERS = 5000
ASKING = "203.0.113.1"
PROTECTED = 0xC0
ALGORITHM = 10  # AES-CCM-16-64-128 (RFC 9053, table 5)
PATH = ((11, b"channels"), (11, CHANNEL.encode()), (11, b"messages"))
AUTH = (15, b"auth=" + KEY.encode())
BLOCKS = tuple(  # of one upload: each is the answer to a 2.31 Continue
    encode(CON, 2, 0x2000 + number, b"bl", (*PATH, (11, b"up"), AUTH, (27, block)), b"0123456789abcdef")
    for number, block in enumerate((b"\x08", b"\x18", b"\x20"))
)
CHANGED, CONTINUE, CONTENT = 0x44, 0x5F, 0x45


class Thing:
    """The other end of an OSCORE context, which protects whatever it is given (RFC 8613, 5)."""

    def __init__(self, given: Parameters) -> None:
        mirrored = Context(
            *(SERVER_ID, given.thing, given.master_secret, given.master_salt, 0),
            fresh=True,
            sender_id=given.sender_id,
        )
        self._kid = given.sender_id
        self._common_iv = int.from_bytes(mirrored.common_iv, "big")
        self._cipher = AESCCM(mirrored.sender_key, tag_length=8)
        self._number = 0

    def protect(self, inside: bytes, mid: int) -> bytes:
        """A datagram with `inside` as its plaintext: code, options, marker and payload, where they are such."""
        self._number += 1
        iv = self._number.to_bytes((self._number.bit_length() + 7) // 8, "big")
        plain = bytes((len(self._kid),)) + self._kid.rjust(7, b"\0") + iv.rjust(5, b"\0")
        nonce = (int.from_bytes(plain, "big") ^ self._common_iv).to_bytes(13, "big")
        aad = cbor2.dumps(["Encrypt0", b"", cbor2.dumps([1, [ALGORITHM], self._kid, iv, b""])])
        option = (int(Opt.OSCORE), bytes((8 | len(iv),)) + iv + self._kid)
        return encode(CON, 2, mid, b"os", (option,), self._cipher.encrypt(nonce, inside, aad))


def inside(code: int, options: tuple[tuple[int, bytes], ...], payload: bytes = b"") -> bytes:
    """An input that `Datagrams` protects."""
    return bytes((PROTECTED, code)) + encode(CON, code, 0, b"", options, payload)[4:]


class Datagrams(Door):
    """Datagrams from a few addresses that are real, and from many that are forged."""

    def __init__(self, world: World) -> None:
        super().__init__(world.loop)
        self._world = world
        self._now_s = 0.0
        self._inputs = self._sealed = 0
        self._door = CoapDoor(world.hub, port=0, clock=lambda: self._now_s)
        self._known = [Address((f"198.51.100.{n + 1}", 5683)) for n in range(KNOWN)]
        self._fed: dict[Address, bytes] = {}  # the last input of each, since the last turn but some
        self._follow_ups: list[tuple[bytes, Address]] = []  # of clients that do what the door asks
        self._heard: list[bytes] = []  # by who asks for something valid
        self._thing: Thing
        self.words = COAP_WORDS
        self.seeds = (
            COAP_SEEDS[0],
            COAP_SEEDS[1],
            encode(CON, 1, 7, b"t", (*PATH, AUTH, (17, b"\x6e")), b""),
            inside(2, (*PATH, (11, b"in"), (12, b"\x6e")), SENML),
            inside(1, (*PATH, (11, b"in"))),
            inside(1, ((6, b""), *PATH, (11, b"in"))),
            BLOCKS[0],
        )
        self.starts = (
            *COAP_SEEDS[2:],
            *BLOCKS[1:],
            encode(CON, 1, 8, b"n", ((6, b"\x01"), *PATH, AUTH, (23, b"\x12")), b""),
            inside(2, (*PATH, (27, b"\x08")), b"0123456789abcdef"),
            inside(5, ((6, b"\x01"), *PATH, (23, b"\x06"), (252, b"12345678"))),
        )

    async def start(self) -> None:
        await self._door.start()
        self._thing = Thing(await self._door.contexts.create(self._world.thing))
        self._door.endpoint.send = self._door.endpoint.outgoing._send = self._hear
        self._prove()

    async def close(self) -> None:
        await self._door.close()

    def feed(self, data: bytes) -> None:
        self._inputs += 1
        self._now_s += STEP_S
        address = self._known[self._inputs % KNOWN]
        if self._inputs % 2 and data[:1] < bytes((PROTECTED,)):
            port = sum(data[:8]) % STRANGERS + 1
            address = Address((f"192.0.2.{port % 250}", port))
        self._fed[address] = data
        if data[:1] >= bytes((PROTECTED,)):
            data = self._thing.protect(data[1:], self._inputs & 0xFFFF)
        self._door.receive(data, address)

    async def turn(self) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        follow_ups, self._follow_ups = self._follow_ups, []
        for data, address in follow_ups:
            self._door.receive(data, address)

    async def settle(self) -> None:
        await self._world.durable()
        await self.turn()
        self._door.tick()
        self._prove()
        await self._ask()
        self._fed.clear()
        self.problems += self._world.found()

    def _prove(self) -> None:
        for address in self._known[::2]:
            self._door.endpoint.admission.prove(address, self._now_s)

    def _hear(self, data: bytes, to: Address) -> None:
        kind, code, mid = data[0] >> 4 & 3, data[1], int.from_bytes(data[2:4], "big")
        if to.ip == ASKING:
            self._heard.append(data)
        if code >> 5 == 2 and to in self._fed:
            self._take(self._fed.pop(to))
        if kind == CON and mid % 4:  # a client that is there, is not interested any more, or is gone
            self._follow_ups.append((encode_empty(ACK if mid % 3 else RST, mid), to))
        if code == CONTINUE:
            self._follow_ups.append((BLOCKS[1 + mid % 2], to))

    def _take(self, data: bytes) -> None:
        """Of what a thing says inside OSCORE one in four: who has the key is mostly understood."""
        sealed = data[:1] >= bytes((PROTECTED,))  # an observer's last datagram may be an empty one
        self._sealed += sealed
        if not sealed or data in self.seeds or self._sealed % 4 == 0:
            self.taken(data)

    async def _ask(self) -> None:
        """A thing that does nothing wrong is answered, in clear and under OSCORE."""
        self._now_s += 1.0
        mid = 0xF000 | self._inputs // 500 & 0xFF
        address = Address((ASKING, 9000 + self._inputs // 500 % 999))
        self._door.endpoint.admission.prove(address, self._now_s)
        self._door.receive(encode(CON, 2, mid, b"p", (*PATH, (11, b"asks"), AUTH), b"21.5"), address)
        sealed = self._thing.protect(inside(2, (*PATH, (11, b"asks")), b"21.5")[1:], mid + 256)
        self._door.receive(sealed, address)
        await self._world.durable()
        self._door.receive(encode(CON, 1, mid + 512, b"g", (*PATH, (11, b"asks"), AUTH), b""), address)
        await self._world.durable()
        heard, self._heard = self._heard, []
        codes = [data[1] for data in heard]
        if codes != [CHANGED, CHANGED, CONTENT]:
            self.problems.append(f"a thing that does nothing wrong heard {heard}")


@contextmanager
def coap_door() -> Iterator[Door]:
    with opened_world() as world:
        door = Datagrams(world)
        world.loop.run_until_complete(door.start())
        yield door
        world.loop.run_until_complete(door.close())
