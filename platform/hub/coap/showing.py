"""Answering with a representation: whole where it fits, else block by block (RFC 7959, 2.4).

`Downloads` keeps what the first block was cut from; how much an unproven address may be sent the exchange knows.
"""

from __future__ import annotations

from collections.abc import Hashable

from hub.coap.blocks import MAX_SZX, Block, Downloads, Shown, szx_for
from hub.coap.endpoint import MAX_PAYLOAD, Exchange, Response
from hub.coap.packets import Code, Opt, Option, uint
from hub.coap.request import Refusal

# Max-Age 0: the next message may come at any time, so a cache asks whether the ETag still holds (RFC 7252, 5.10.5).
STALE: Option = (int(Opt.MAX_AGE), b"")
OBSERVE_MASK = 0xFFFFFF  # RFC 7641, 4.4: 24 bits, that come around
MIN_BLOCK = 64  # bytes; an unproven address that could get less is asked to prove itself first


def answer(
    exchange: Exchange,
    downloads: Downloads,
    key: Hashable,
    shown: Shown,
    block: Block,
    observe: tuple[int, int] | None = None,
) -> None:
    """Answer with the block that was asked for; of what `key` began with, where that is kept. Raises Refusal.

    `observe`: as for `first_block`.
    """
    if block.num:
        _show_block(exchange, downloads.find(key) or shown, block)
    else:
        _show_first(exchange, downloads, key, shown, block, observe)


def _show_first(
    exchange: Exchange,
    downloads: Downloads,
    key: Hashable,
    shown: Shown,
    block: Block,
    observe: tuple[int, int] | None,
) -> None:
    """The whole, or its first block: as large as was asked for, and as an unproven address may get."""
    room = exchange.room()
    szx = block.szx
    if len(shown.payload) > min(room, block.size):
        if room >= MIN_BLOCK:
            szx = min(szx, szx_for(room) or 0)
        downloads.keep(key, shown)
    options, payload = first_block(shown, observe=observe, room=max(room, MIN_BLOCK), szx=szx)
    exchange.reply(Response(Code.CONTENT, options, payload))


def _show_block(exchange: Exchange, shown: Shown, block: Block) -> None:
    if block.start >= len(shown.payload):
        raise Refusal(Code.BAD_REQUEST, "there is no such block")
    room = exchange.room()
    if block.size > room >= MIN_BLOCK:
        szx = min(block.szx, szx_for(room) or 0)
        block = Block(block.start >> (szx + 4), False, szx)
    end = block.start + block.size
    options: tuple[Option, ...] = (
        (int(Opt.ETAG), shown.etag),
        (int(Opt.CONTENT_FORMAT), uint(shown.content_format)),
        STALE,
        (int(Opt.BLOCK2), block._replace(more=end < len(shown.payload)).encode()),
    )
    exchange.reply(Response(Code.CONTENT, options, shown.payload[block.start : end]))


def first_block(
    shown: Shown, *, observe: tuple[int, int] | None = None, room: int = MAX_PAYLOAD, szx: int = MAX_SZX
) -> tuple[tuple[Option, ...], bytes]:
    """Options and payload of a 2.05 with all of `shown` where it fits, else with its first block.

    `observe`, of a notification: its number, and for how many seconds it holds unless another one comes.
    """
    options: list[Option] = [(Opt.ETAG, shown.etag)] if shown.etag else []
    if observe is not None:
        options.append((Opt.OBSERVE, uint(observe[0] & OBSERVE_MASK)))
    options.append((Opt.CONTENT_FORMAT, uint(shown.content_format)))
    options.append(STALE if observe is None else (int(Opt.MAX_AGE), uint(observe[1])))
    size = 16 << szx
    if len(shown.payload) <= min(room, size):
        return tuple(options), shown.payload
    options.append((Opt.BLOCK2, Block(0, True, szx).encode()))
    options.append((Opt.SIZE2, uint(len(shown.payload))))
    return tuple(options), shown.payload[:size]
