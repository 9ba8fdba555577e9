"""The `fluxgate webui` process: pages in a few threads, live streams on the event loop, one port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import MutableMapping
from typing import Any

import uvicorn
from a2wsgi import WSGIMiddleware

from webui import live
from webui.app import MAX_FORM_BYTES, close, create_app
from webui.config import WebuiConfig

MAX_CONNECTIONS = 128  # ten phones with six connections each, and room
SHUTDOWN_S = 3
BODY_S = 10.0  # a form is below 2 KB, even over a bad link


class Webui:
    """ASGI application: Flask for pages, `Live` for streams."""

    def __init__(self, config: WebuiConfig) -> None:
        self.flask = create_app(config)
        self.live = live.Live(config, self.flask.extensions["renewal"])
        self._pages = WSGIMiddleware(self.flask, workers=config.page_threads)  # type: ignore[arg-type]

    async def __call__(self, scope: live.Scope, receive: live.Receive, send: live.Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http" and scope["path"] == live.PATH:
            await self.live(scope, receive, send)
        elif scope["type"] == "http":
            await self._page(scope, receive, send)
        # Anything else (a WebSocket) gets no answer from us: uvicorn refuses it.

    async def _page(self, scope: live.Scope, receive: live.Receive, send: live.Send) -> None:
        # The body is complete before a page thread is taken: slow senders can hold connections, not threads.
        try:
            async with asyncio.timeout(BODY_S):
                body = await _read_body(receive)
        except TimeoutError:
            return await live.answer(send, 408)
        if body is None:
            return await live.answer(send, 413)
        if not scope["query_string"].isascii():
            return await live.answer(send, 400)
        whole: MutableMapping[str, Any] = {"type": "http.request", "body": body, "more_body": False}
        events = iter((whole,))

        async def replay() -> MutableMapping[str, Any]:
            event = next(events, None)
            return await receive() if event is None else event

        await self._pages(scope, replay, send)  # type: ignore[arg-type]
        return None

    async def _lifespan(self, receive: live.Receive, send: live.Send) -> None:
        while True:
            event = (await receive())["type"]
            if event == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            elif event == "lifespan.shutdown":
                await self.live.close()
                self._pages.executor.shutdown(wait=True)
                close(self.flask)
                await send({"type": "lifespan.shutdown.complete"})
                return


async def _read_body(receive: live.Receive) -> bytes | None:
    """The whole body; None when it is larger than any form of ours."""
    body = bytearray()
    while True:
        event = await receive()
        body += event.get("body", b"")
        if len(body) > MAX_FORM_BYTES:
            return None
        if not event.get("more_body", False):
            return bytes(body)


class Server(uvicorn.Server):
    """Ends the live streams first: a shutdown would otherwise wait for browsers that never hang up."""

    def __init__(self, webui: Webui, settings: uvicorn.Config) -> None:
        super().__init__(settings)
        self._webui = webui

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._webui.live.close()
        await super().shutdown(sockets)


def make_server(config: WebuiConfig) -> Server:
    """A server that is not running yet; `run(sockets=[...])` starts it on sockets of the caller."""
    webui = Webui(config)
    settings = uvicorn.Config(
        webui,
        host=config.host,
        port=config.port,
        lifespan="on",
        ws="none",
        access_log=False,
        server_header=False,
        proxy_headers=bool(config.trusted_proxies),
        forwarded_allow_ips=list(config.trusted_proxies),
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=SHUTDOWN_S,
        log_level="warning",
    )
    return Server(webui, settings)


def run(config: WebuiConfig) -> None:
    """Serve until SIGTERM or SIGINT."""
    make_server(config).run()
