"""What a person may have meant: numbers and keys that differ from others by an everyday mistake.

Hex digits are counted from 1, most significant first, as they stand on a label. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.lorawan.types import AES128Key
from radio.filters import PREFIX_AND_NWK_ID_BITS

_THE_THINGS_NETWORK = 0x000013
_PRIVATE = (0x000000, 0x000001)


def digits_off(number: int, digits: int) -> Iterator[tuple[int, str]]:
    """Every number that is one wrong digit, or one pair of swapped neighbours, away, with words for the mistake."""
    for place in range(digits):
        shift = 4 * (digits - 1 - place)
        digit = number >> shift & 0xF
        for other in range(16):
            if other != digit:
                yield number ^ (digit ^ other) << shift, f"digit {place + 1}"
    for place in range(digits - 1):
        shift = 4 * (digits - 2 - place)
        left, right = number >> shift + 4 & 0xF, number >> shift & 0xF
        if left != right:
            yield number ^ (left ^ right) * 0x11 << shift, f"digits {place + 1} and {place + 2} swapped"


def keys_off(key: AES128Key) -> Iterator[tuple[AES128Key, str]]:
    """The same of a key: 480 with a wrong digit and up to 31 with two swapped."""
    for number, mistake in digits_off(int.from_bytes(key.value, "big"), 32):
        yield AES128Key(number.to_bytes(16, "big")), mistake


def keys_reversed(key: AES128Key) -> Iterator[tuple[AES128Key, str]]:
    """The key with its bytes, and with its digits, in reverse order; and with the digits of each byte swapped."""
    yield AES128Key(key.value[::-1]), "its bytes"
    turned = bytes((each << 4 | each >> 4) & 0xFF for each in key.value)
    yield AES128Key(turned[::-1]), "its digits"
    yield AES128Key(turned), "the two digits of each byte"


def reversed_bytes(number: int, size: int) -> int:
    return int.from_bytes(number.to_bytes(size, "big"), "little")


# Keys of manuals and examples: FIPS-197, NIST SP 800-38A (which Semtech's sources use), counts, and none at all.
EXAMPLE_KEYS = tuple(
    AES128Key(bytes.fromhex(each))
    for each in (
        "2b7e151628aed2a6abf7158809cf4f3c",
        "000102030405060708090a0b0c0d0e0f",
        "00112233445566778899aabbccddeeff",
        "0102030405060708090a0b0c0d0e0f10",
        "01020304050607080910111213141516",
        "00000000000000000000000000000000",
        "ffffffffffffffffffffffffffffffff",
        "11111111111111111111111111111111",
    )
)


def net_id_of(dev_addr: int) -> int | None:
    """The NetID that a DevAddr belongs to (Backend Interfaces 1.1, assignment of DevAddrs); None: to none."""
    for kind, (prefix_bits, nwk_id_bits) in enumerate(PREFIX_AND_NWK_ID_BITS):
        if dev_addr >> 32 - prefix_bits == (1 << prefix_bits) - 2:
            nwk_id = dev_addr >> 32 - prefix_bits - nwk_id_bits & (1 << nwk_id_bits) - 1
            return kind << 21 | nwk_id
    return None


def network_words(dev_addr: int) -> str:
    """Whose a DevAddr may be, for a technician."""
    net_id = net_id_of(dev_addr)
    if net_id is None:
        return "no network's"
    if net_id in _PRIVATE:
        return f"a private or experimental network's (NetID {net_id:06x}), as ours"
    operator = "The Things Network's" if net_id == _THE_THINGS_NETWORK else "a network operator's"
    return f"{operator} (NetID {net_id:06x}, type {net_id >> 21})"


def private(dev_addr: int) -> bool:
    """Whether a DevAddr is of the range that every private network may use."""
    return net_id_of(dev_addr) in _PRIVATE
