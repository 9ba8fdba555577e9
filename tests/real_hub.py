"""A real hub behind its HTTP door, on a loop in a thread: for clients that block."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from hub.http import MIGRATIONS
from hub.http.app import create_app
from hub.http.auth import require_user
from hub.http.door import HttpDoor
from hub.http.proxies import Proxies
from hub.hub import Hub


async def _status(request: Request) -> JSONResponse:
    require_user(request)
    return JSONResponse({"name": "barn", "region": "EU868"})


class RealHub:
    """Claimed by `email` with `password`."""

    def __init__(self, folder: Path, email: str, password: str, *, pages_key: str = "") -> None:
        self._folder, self._owner = folder, (email, password)
        self._proxies = Proxies(pages_key=pages_key)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="hub")
        self._thread.start()
        self.url = self.run(self._open())

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _open(self) -> str:
        self.hub = Hub.open(self._folder, migrations=MIGRATIONS)
        code = self.hub.registry.claim_code()
        assert code is not None
        await asyncio.to_thread(self.hub.registry.claim, code, *self._owner)
        self._door = HttpDoor(
            self.hub, create_app(self.hub, [Route("/gateway/status", _status)], proxies=self._proxies)
        )
        await self._door.start()
        return f"http://127.0.0.1:{self._door.port}"

    async def _close(self) -> None:
        await self._door.close()
        await self.hub.close()

    def close(self) -> None:
        self.run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
