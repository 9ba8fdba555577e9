"""A real browser on the door: EventSource that comes back by itself, WebSocket both ways."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from playwright.async_api import async_playwright

from tests.webui.browsing import CHROMIUM

Run = Callable[..., None]

FOLLOW = """([path, key]) => {
  window.seen = [];
  window.source = new EventSource(`${path}?after=0&authorization=${key}`);
  source.onmessage = event => seen.push([event.lastEventId, event.data]);
}"""
TALK = """([path, key]) => new Promise((resolve, reject) => {
  const answers = [];
  const socket = new WebSocket(`ws://${location.host}${path}?envelope=1&authorization=${key}`);
  socket.onerror = reject;
  socket.onopen = () => socket.send(JSON.stringify({id: "a", payload: [{n: "button", vb: true}]}));
  socket.onmessage = event => {
    answers.push(JSON.parse(event.data));
    if (answers.length == 2) { socket.close(); resolve(answers); }
  };
})"""


def test_a_browser_follows_over_a_break_and_publishes(run: Run) -> None:
    async def scenario(site: Any) -> None:
        registry = site.hub.registry
        other, other_key = registry.create_thing("browser")
        registry.connect([site.channel_id], [other.id])
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = await browser.new_page()
            await page.goto(f"http://127.0.0.1:{site.door.port}/version")
            await site.publish(b"1", "", "application/json")
            await page.evaluate(FOLLOW, [site.messages, site.token])
            await page.wait_for_function("seen.length == 1")
            for connection in list(site.door._server.server_state.connections):
                if connection.cycle is not None and not connection.cycle.response_complete:
                    connection.transport.abort()
            for n in (2, 3):
                await site.publish(str(n).encode(), "", "application/json")
            await page.wait_for_function("seen.length >= 3")
            assert await page.evaluate("seen") == [["1", "1"], ["2", "2"], ["3", "3"]]

            talk = asyncio.create_task(page.evaluate(TALK, [site.messages, other_key]))
            await page.wait_for_function("seen.length >= 4")
            await site.publish(b'"thanks"', "", "application/json")
            ack, message = await talk
            assert ack == {"type": "ack", "id": "a", "seq": 4}
            assert (message["seq"], message["payload"]) == (5, "thanks")
            await browser.close()
        assert site.hub.log.read_one(4).publisher == other.id

    run(scenario)
