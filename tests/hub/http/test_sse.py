from __future__ import annotations

import asyncio

import pytest

from hub.http.sse import Event, Feed


@pytest.mark.parametrize(
    ("event", "wire"),
    [
        pytest.param(Event('{"n":1}'), b'data: {"n":1}\n\n', id="data alone"),
        pytest.param(Event("x", id="7", name="frame"), b"event: frame\nid: 7\ndata: x\n\n", id="all fields"),
        pytest.param(
            Event("a\nb\r\nc"), b"data: a\ndata: b\ndata: c\n\n", id="line ends start a new data line"
        ),
        pytest.param(Event("", id="1\nevent: fake"), b"id: 1\ndata: \n\n", id="an id cannot smuggle a field"),
        pytest.param(Event("x\u2028y"), b"data: x\xe2\x80\xa8y\n\n", id="only CR and LF end a line"),
    ],
)
def test_events_take_the_form_the_html_standard_gives_them(event: Event, wire: bytes) -> None:
    assert event.encode() == wire


def test_a_full_feed_drops_the_oldest_and_counts_them() -> None:
    async def main() -> None:
        feed: Feed[int] = Feed(limit=3)
        for n in range(10):
            feed.put(n)
        feed.close()
        assert [item async for item in feed] == [7, 8, 9]
        assert feed.lost == 7

    asyncio.run(main())


def test_a_feed_wakes_its_reader() -> None:
    async def main() -> None:
        feed: Feed[int] = Feed()
        reader = asyncio.create_task(anext(aiter(feed)))
        await asyncio.sleep(0)
        feed.put(1)
        assert await reader == 1

    asyncio.run(main())
