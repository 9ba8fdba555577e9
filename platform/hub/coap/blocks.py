"""Block-wise transfer (RFC 7959): a body larger than a datagram, in pieces, both ways.

`Uploads` gathers what a thing sends with Block1, `Downloads` keeps what is fetched with Block2 as it was when the
first piece left. Only things that showed their key get here, and both are bounded by number, bytes and time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import NamedTuple

from hub.coap.limits import Limits
from hub.coap.packets import uint

MAX_SZX = 6  # 1024 bytes; 7 means something else over TCP (RFC 8323) and nothing over UDP


class Block(NamedTuple):
    """A Block1 or Block2 value (RFC 7959, 2.2). `num` counts blocks of this size from 0."""

    num: int
    more: bool
    szx: int  # 0..6

    @property
    def size(self) -> int:
        """Bytes of a block."""
        return 16 << self.szx

    @property
    def start(self) -> int:
        """Bytes before this block."""
        return self.num << (self.szx + 4)

    def encode(self) -> bytes:
        return uint(self.num << 4 | self.more << 3 | self.szx)


def decode_block(value: bytes) -> Block | None:
    """A Block option's value, or None where it is none (longer than 3 bytes, or the reserved size)."""
    number = int.from_bytes(value, "big")
    if len(value) > 3 or number & 7 > MAX_SZX:
        return None
    return Block(number >> 4, bool(number & 8), number & 7)


def szx_for(size: int) -> int | None:
    """The largest block that fits into `size` bytes; None where not even 16 do."""
    if size < 16:
        return None
    return min(MAX_SZX, size.bit_length() - 5)


class UploadFault(Exception):
    """Blocks that do not belong together (RFC 7959, 2.9): `too_large`, `too_many`, or else incomplete."""

    def __init__(self, reason: str, *, too_large: bool = False, too_many: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.too_large = too_large
        self.too_many = too_many


@dataclass(slots=True)
class _Upload:
    thing: str
    last_s: float
    body: bytearray = field(default_factory=bytearray)


class Uploads:
    """Bodies that are coming in; `key` says which blocks belong together (address, path, Request-Tag)."""

    def __init__(self, limits: Limits, max_body: int) -> None:
        self._limits = limits
        self._max_body = max_body
        self._uploads: OrderedDict[Hashable, _Upload] = OrderedDict()  # the longest silent first
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._uploads)

    def take(self, key: Hashable, thing: str, block: Block, payload: bytes, now: float) -> bytes | None:
        """Take one block; the whole body with the last one, else None. Raises UploadFault."""
        self.expire(now)
        if block.more and len(payload) != block.size:
            raise UploadFault(f"a block that is not the last has {block.size} bytes")
        if block.start + len(payload) > self._max_body:
            self.drop(key)
            raise UploadFault(f"a payload has at most {self._max_body} bytes", too_large=True)
        if block.num == 0:
            self.drop(key)
            if not block.more:
                return payload
            self._begin(key, thing, len(payload), now)
        upload = self._uploads.get(key)
        if upload is None:
            raise UploadFault("the blocks before this one are not here, or no longer: begin again")
        if block.start != len(upload.body):
            if block.start + len(payload) == len(upload.body) and upload.body.endswith(payload):
                return None  # sent again in a message of its own
            self.drop(key)
            raise UploadFault("a block is missing: begin again")
        if self._bytes + len(payload) > self._limits.upload_bytes:
            self.drop(key)
            raise UploadFault("too many uploads at a time", too_many=True)
        upload.body += payload
        upload.last_s = now
        self._bytes += len(payload)
        self._uploads.move_to_end(key)
        if block.more:
            return None
        body = bytes(upload.body)
        self.drop(key)
        return body

    def _begin(self, key: Hashable, thing: str, size: int, now: float) -> None:
        same = [other for other, upload in self._uploads.items() if upload.thing == thing]
        if len(same) >= self._limits.uploads_per_thing:
            self.drop(same[0])
        if len(self._uploads) >= self._limits.uploads or self._bytes + size > self._limits.upload_bytes:
            raise UploadFault("too many uploads at a time", too_many=True)
        self._uploads[key] = _Upload(thing, now)

    def drop(self, key: Hashable) -> None:
        """Forget an upload, if there is one."""
        upload = self._uploads.pop(key, None)
        if upload is not None:
            self._bytes -= len(upload.body)

    def expire(self, now: float) -> None:
        """Forget what has been silent for too long."""
        while self._uploads:
            key, upload = next(iter(self._uploads.items()))
            if upload.last_s + self._limits.upload_timeout_s > now:
                break
            self.drop(key)


class Shown(NamedTuple):
    """A representation: what is sent, whole or in blocks."""

    payload: bytes
    content_format: int
    etag: bytes


class Downloads:
    """What is being fetched in blocks, by who fetches what; the longest unused goes."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._kept: OrderedDict[Hashable, Shown] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, key: Hashable, shown: Shown) -> None:
        """Remember what the first block was cut from."""
        self._drop(key)
        self._kept[key] = shown
        self._bytes += len(shown.payload)
        while len(self._kept) > self._limits.downloads or self._bytes > self._limits.downloads_bytes:
            self._drop(next(iter(self._kept)))

    def find(self, key: Hashable) -> Shown | None:
        """What the first block was cut from, or None where that is forgotten."""
        shown = self._kept.get(key)
        if shown is not None:
            self._kept.move_to_end(key)
        return shown

    def _drop(self, key: Hashable) -> None:
        shown = self._kept.pop(key, None)
        if shown is not None:
            self._bytes -= len(shown.payload)
