"""Which frames a network server is given. Pure.

A gateway that hears several networks must not show each of them the others' devices, and must not let two of
them answer one device. A `Filter` looks at what a frame shows without any key: the DevAddr of data, the
JoinEUI and DevEUI of a join-request, the NetID of a rejoin-request (LoRaWAN 1.1, sections 4 and 6.2), and
passes what its lists name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from radio.gwmp import RxPacket
from radio.lora import SYNC_WORD_LORAWAN

ALL: Final = "*"
MAX_ENTRIES: Final = 256  # of one list: a frame may be compared with all of them

# DevAddr blocks by type of NetID (LoRaWAN Backend Interfaces 1.1, assignment of DevAddrs): bits of the type's
# prefix, which is ones and a final zero, and bits of the NwkID; the rest of the 32 is the NwkAddr.
PREFIX_AND_NWK_ID_BITS: Final = ((1, 6), (2, 6), (3, 9), (4, 11), (5, 12), (6, 13), (7, 15), (8, 17))

JOIN_REQUEST: Final = 0b000
JOIN_ACCEPT: Final = 0b001
DATA_UP: Final = (0b010, 0b100)
DATA_DOWN: Final = (0b011, 0b101)
REJOIN_REQUEST: Final = 0b110
PROPRIETARY: Final = 0b111
MIN_DATA_LEN: Final = 12  # MHDR, DevAddr, FCtrl, FCnt, MIC
JOIN_REQUEST_LEN: Final = 23
REJOIN_LEN: Final = {0: 19, 1: 24, 2: 19}  # by its type: 0 and 2 name the NetID, 1 the JoinEUI


class Why(StrEnum):
    """Why a frame does not pass; PASSES for one that does."""

    PASSES = ""
    CRC = "crc_error"
    PROPRIETARY = "proprietary"
    DOWNLINK = "downlink"  # a join-accept or data of another gateway
    MALFORMED = "malformed"  # no frame of LoRaWAN R1
    DEV_ADDR = "dev_addr"
    JOIN = "join"


@dataclass(frozen=True, slots=True)
class Block:
    """Numbers from `low` to `high`, both included: DevAddrs or EUIs."""

    low: int
    high: int

    def __contains__(self, number: int) -> bool:
        return self.low <= number <= self.high

    def overlaps(self, other: "Block") -> bool:
        """Whether any number is in both."""
        return self.low <= other.high and other.low <= self.high


def net_id_block(net_id: int) -> Block:
    """The DevAddrs of a network (Backend Interfaces 1.1). Raises ValueError for more than 24 bits."""
    if not 0 <= net_id < 1 << 24:
        raise ValueError(f"NetID {net_id:#x} has more than 24 bits")
    prefix_bits, nwk_id_bits = PREFIX_AND_NWK_ID_BITS[net_id >> 21]
    nwk_addr_bits = 32 - prefix_bits - nwk_id_bits
    prefix = (1 << prefix_bits) - 2
    low = (prefix << nwk_id_bits | net_id & (1 << nwk_id_bits) - 1) << nwk_addr_bits
    return Block(low, low + (1 << nwk_addr_bits) - 1)


@dataclass(frozen=True, slots=True)
class Choice:
    """Numbers that are in one of `blocks`, and in none of `but`."""

    blocks: tuple[Block, ...]
    but: tuple[Block, ...] = ()

    def __contains__(self, number: int) -> bool:
        return any(number in each for each in self.blocks) and not any(number in each for each in self.but)

    def overlaps(self, block: Block) -> bool:
        """Whether any number of `block` is wanted, as far as whole blocks tell."""
        inside = any(each.low <= block.low and block.high <= each.high for each in self.but)
        return not inside and any(block.overlaps(each) for each in self.blocks)

    @classmethod
    def of(cls, *lists: tuple[str, Sequence[str], Callable[[str], Block]]) -> "Choice":
        """What several lists of a setting name together. Raises ValueError naming list and entry."""
        wanted: list[Block] = []
        but: list[Block] = []
        for name, entries, parse in lists:
            if len(entries) > MAX_ENTRIES:
                raise ValueError(f"{name} has {len(entries)} entries, {MAX_ENTRIES} are the most")
            for entry in entries:
                text = entry.strip()
                try:
                    if text == ALL:
                        wanted.append(_EVERYTHING)
                    elif text.startswith("!"):
                        but.append(parse(text[1:].strip()))
                    else:
                        wanted.append(parse(text))
                except ValueError as error:
                    raise ValueError(f"{name}: {entry!r}: {error}") from None
        return cls(tuple(wanted) if wanted or not but else (_EVERYTHING,), tuple(but))


_EVERYTHING: Final = Block(0, (1 << 64) - 1)


@dataclass(frozen=True, slots=True)
class Filter:
    """What a server is given; without any choice every uplink of LoRaWAN."""

    dev_addrs: Choice | None = None  # of data and, by NetID, of rejoin-requests; None: all
    join_euis: Choice | None = None
    dev_euis: Choice | None = None  # of joins, besides their JoinEUI
    proprietary: bool = False
    crc_errors: bool = False
    others: bool = False  # join-accepts and data that another gateway sends, and what is no LoRaWAN

    @classmethod
    def of(
        cls,
        *,
        net_ids: Sequence[str] | None = None,
        dev_addrs: Sequence[str] | None = None,
        join_euis: Sequence[str] | None = None,
        dev_euis: Sequence[str] | None = None,
        proprietary: bool = False,
        crc_errors: bool = False,
    ) -> "Filter":
        """From settings. None is "not said"; an empty list lets nothing pass, `*` in it everything.

        An entry is a hex number, `first..last`, or `number/bits` for all that begin like it; one with `!` is
        taken out of what the others name, or of everything where there are no others. `net_ids` and `dev_addrs`
        add up. Raises ValueError naming list and entry, and where only one of data and joins is said: what the
        other is to be would be a guess.
        """
        data = None
        if net_ids is not None or dev_addrs is not None:
            data = Choice.of(
                ("net_ids", net_ids or (), _parse_net_id),
                ("dev_addrs", dev_addrs or (), lambda text: parse_block(text, 8)),
            )
        joins = None if join_euis is None else Choice.of(("join_euis", join_euis, _parse_eui))
        devices = None if dev_euis is None else Choice.of(("dev_euis", dev_euis, _parse_eui))
        if data is not None and joins is None and devices is None:
            raise ValueError(
                'net_ids and dev_addrs say which data goes there; say with join_euis which joins do: ["*"] for all, '
                "[] for none"
            )
        if data is None and (joins is not None or devices is not None):
            raise ValueError(
                "join_euis and dev_euis say which joins go there; say with net_ids or dev_addrs which data does: "
                '["*"] for all, [] for none'
            )
        return cls(data, joins, devices, proprietary, crc_errors)

    def why_not(self, rx: RxPacket) -> Why:
        """PASSES, or why this frame is not for the server."""
        data = rx.data
        if rx.stat < 0:
            return Why.PASSES if self.crc_errors else Why.CRC
        if rx.sync_word != SYNC_WORD_LORAWAN:  # whatever its bytes look like
            return Why.PASSES if self.others else Why.PROPRIETARY
        mtype = data[0] >> 5 if data and data[0] & 0x03 == 0 else None  # of major version R1 only
        if mtype in DATA_UP and len(data) >= MIN_DATA_LEN:
            addr = int.from_bytes(data[1:5], "little")
            return Why.PASSES if self.dev_addrs is None or addr in self.dev_addrs else Why.DEV_ADDR
        if mtype == JOIN_REQUEST and len(data) == JOIN_REQUEST_LEN:
            return self._join(data[1:9], data[9:17])
        if mtype == REJOIN_REQUEST and len(data) > 1 and len(data) == REJOIN_LEN.get(data[1]):
            return self._rejoin(data)
        if data and data[0] >> 5 == PROPRIETARY:
            return Why.PASSES if self.proprietary else Why.PROPRIETARY
        if self.others:
            return Why.PASSES
        return Why.DOWNLINK if mtype == JOIN_ACCEPT or mtype in DATA_DOWN else Why.MALFORMED

    def takes_join(self, join_eui: int, dev_eui: int) -> bool:
        """Whether a join-request of this device passes."""
        wanted = self.join_euis is None or join_eui in self.join_euis
        return wanted and (self.dev_euis is None or dev_eui in self.dev_euis)

    def _join(self, join_eui: bytes, dev_eui: bytes) -> Why:
        taken = self.takes_join(int.from_bytes(join_eui, "little"), int.from_bytes(dev_eui, "little"))
        return Why.PASSES if taken else Why.JOIN

    def _rejoin(self, data: bytes) -> Why:
        """A rejoin-request (1.1, 6.2.4): type, then NetID or JoinEUI, then DevEUI."""
        if data[1] == 1:
            return self._join(data[2:10], data[10:18])
        network = net_id_block(int.from_bytes(data[2:5], "little"))
        wanted = self.dev_addrs is None or self.dev_addrs.overlaps(network)
        wanted = wanted and (self.dev_euis is None or int.from_bytes(data[5:13], "little") in self.dev_euis)
        return Why.PASSES if wanted else Why.JOIN


EVERYTHING: Final = Filter(proprietary=True, crc_errors=True, others=True)  # for the local gateway


def parse_block(text: str, digits: int) -> Block:
    """`number`, `first..last`, `first-last` or `number/bits`, numbers of `digits` hex digits. Raises ValueError."""
    if "/" in text:
        number, _, bits = text.partition("/")
        low = _number(number, digits)
        if not (bits.isascii() and bits.isdigit() and int(bits) <= 4 * digits):
            raise ValueError(f"/{bits} is not a number of bits from 0 to {4 * digits}")
        free = (1 << 4 * digits - int(bits)) - 1
        if low & free:
            raise ValueError(
                f"has digits beyond its {bits} bits: {low & ~free:0{digits}x}/{bits} is the block"
            )
        return Block(low, low | free)
    first, dots, last = text.partition("..")
    if not dots and text.count("-") == 1:
        first, dots, last = text.partition("-")
    low = _number(first, digits)
    high = _number(last, digits) if dots else low
    if high < low:
        raise ValueError("the first of a range is above the last")
    return Block(low, high)


def _number(text: str, digits: int) -> int:
    """A number of exactly `digits` hex digits; 0x before it and blanks, colons and dashes in it are allowed."""
    plain = text.strip().lower().removeprefix("0x")
    for separator in (" ", ":", "-"):
        plain = plain.replace(separator, "")
    if len(plain) != digits:
        raise ValueError(f"{text.strip()[:40]!r} has {len(plain)} hex digits, not {digits}")
    if not set(plain) <= set("0123456789abcdef"):
        raise ValueError(f"{text.strip()[:40]!r} has a character that is no hex digit")
    return int(plain, 16)


def _parse_net_id(text: str) -> Block:
    return net_id_block(_number(text, 6))


def _parse_eui(text: str) -> Block:
    return parse_block(text, 16)
