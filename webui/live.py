"""The live stream of the pages: tells a browser *that* frames came, as Server-Sent Events on the event loop.

The gateway's stream carries whole frames; a page then fetches the rendered rows, so frames are rendered in
one place only. What is relayed is therefore a flag, not a queue: a slow phone costs no memory, and a burst of
frames is one event.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any

import httpx
import msgspec
from werkzeug.sansio.utils import host_is_trusted

from webui.config import WebuiConfig
from webui.renewal import Renewal
from webui.security import HEADERS, cookie_name
from webui.sessions import Session

PATH = "/live"
PER_SESSION = 2  # browsers open six connections to a host; tabs beyond the second poll
IN_ALL = 16
BEAT_S = 10.0  # the page polls when it hears nothing for twice this
LEAST_GAP_S = 0.3
RETRY_MS = 3000

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Signal:
    """What one stream has to tell next; setting twice before it is told is telling once."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self.frames = False
        self.over = ""  # "bye": a newer tab took the place; "end": the gateway closed

    def frame(self) -> None:
        self.frames = True
        self._changed.set()

    def finish(self, why: str) -> None:
        self.over = self.over or why
        self._changed.set()

    async def wait(self, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        self._changed.clear()


class Live:
    """ASGI endpoint for PATH. One instance serves all streams of this process."""

    def __init__(self, config: WebuiConfig, renewal: Renewal) -> None:
        self._config = config
        self._renewal = renewal
        self._open: list[tuple[bytes, Signal]] = []  # oldest first
        self._http: httpx.AsyncClient | None = None
        self._closed = False

    @property
    def streams(self) -> int:
        return len(self._open)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        hosts = self._config.trusted_hosts
        if hosts and not host_is_trusted(headers.get("host", ""), hosts):
            return await answer(send, 400)
        if scope["method"] != "GET":
            return await answer(send, 405)
        session = await asyncio.to_thread(self._session, headers.get("cookie", ""))
        if session is None or headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return await answer(send, 401)
        try:
            async with self._gateway_stream(session) as upstream:
                await self._serve(session, upstream, receive, send)
        except httpx.HTTPStatusError as error:
            await answer(send, 401 if error.response.status_code == 401 else 503)
        except httpx.HTTPError:
            await answer(send, 503)
        return None

    async def close(self) -> None:
        """End all streams; who asks from now on is told to come again."""
        self._closed = True
        for _, signal in self._open:
            signal.finish("end")
        if self._http is not None:
            await self._http.aclose()

    def _session(self, cookie: str) -> Session | None:
        try:
            morsel = SimpleCookie(cookie).get(cookie_name(self._config))
        except CookieError:
            return None
        return self._renewal.session(morsel.value) if morsel else None

    @contextlib.asynccontextmanager
    async def _gateway_stream(self, session: Session) -> AsyncIterator[httpx.Response]:
        """The gateway's stream from its newest frame on. Raises httpx.HTTPError when there is none."""
        self._demand_open()
        if self._http is None:
            self._http = httpx.AsyncClient(
                base_url=self._config.api_url,
                trust_env=False,
                timeout=httpx.Timeout(self._config.api_timeout_s, read=None),
            )
        headers = {"Authorization": f"Bearer {session.token}"}
        newest = await self._http.get(
            "/lorawan/frames", params={"limit": 1}, headers=headers, timeout=self._config.api_timeout_s
        )
        newest.raise_for_status()
        self._demand_open()
        after = {"after": _newest_number(newest.content)}
        async with self._http.stream(
            "GET", "/lorawan/frames/stream", params=after, headers=headers
        ) as stream:
            stream.raise_for_status()
            self._demand_open()
            yield stream

    def _demand_open(self) -> None:
        """The pages may have begun to close whenever a request was waited for."""
        if self._closed:
            raise httpx.CloseError("the pages are closing")

    async def _serve(self, session: Session, upstream: httpx.Response, receive: Receive, send: Send) -> None:
        signal = Signal()
        self._enter(session.key, signal)
        listener = asyncio.create_task(_listen(upstream, signal), name="live: frames of the gateway")
        watcher = asyncio.create_task(_watch(receive, signal), name="live: browser gone")
        try:
            await _start(send, 200, "text/event-stream; charset=utf-8")
            await _tell(send, f"retry: {RETRY_MS}\n")
            while True:
                await signal.wait(BEAT_S)
                if signal.over:
                    break
                frames, signal.frames = signal.frames, False
                await _tell(send, "event: frames\ndata: 1\n" if frames else "event: beat\ndata: 1\n")
                await asyncio.sleep(LEAST_GAP_S)
            if signal.over == "bye":
                await _tell(send, "event: bye\ndata: 1\n")
            if signal.over != "gone":
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._open = [entry for entry in self._open if entry[1] is not signal]
            for task in (listener, watcher):
                task.cancel()
            await asyncio.gather(listener, watcher, return_exceptions=True)

    def _enter(self, key: bytes, signal: Signal) -> None:
        """The newest streams win: somebody looks at them."""
        own = [entry for entry in self._open if entry[0] == key]
        leaving = own[: max(0, len(own) + 1 - PER_SESSION)]
        if not leaving and len(self._open) >= IN_ALL:
            leaving = self._open[:1]
        for entry in leaving:
            entry[1].finish("bye")
            self._open.remove(entry)
        self._open.append((key, signal))


def _newest_number(body: bytes) -> int:
    try:
        frames = msgspec.json.decode(body)["frames"]
        return max((int(frame["n"]) for frame in frames), default=0)
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
        raise httpx.DecodingError("frames not understood") from error


async def _listen(upstream: httpx.Response, signal: Signal) -> None:
    """Reads the gateway's events; only that there was one counts, so no event is ever kept."""
    try:
        async for chunk in upstream.aiter_raw():
            # A frame has `id:` and `data:` lines, a heartbeat is a comment; one of both survives any cut.
            if b"data:" in chunk or b"id:" in chunk:
                signal.frame()
    except httpx.HTTPError:
        pass
    finally:
        signal.finish("end")


async def _watch(receive: Receive, signal: Signal) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    signal.finish("gone")


async def _tell(send: Send, event: str) -> None:
    await send({"type": "http.response.body", "body": f"{event}\n".encode(), "more_body": True})


async def _start(send: Send, status: int, content_type: str) -> None:
    headers = {
        **HEADERS,
        "Content-Type": content_type,
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",  # nginx would hold events back
    }
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})


async def answer(send: Send, status: int) -> None:
    """A bare status: the page's script knows what to do with it."""
    await _start(send, status, "text/plain; charset=utf-8")
    await send({"type": "http.response.body", "body": b"", "more_body": False})
