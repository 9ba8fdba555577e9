"""A small double of the gateway's REST API, in memory and on a real port, and a browser without a screen."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from flask.testing import FlaskClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

CODE = "K7QM-2XVD"
EMAIL = "tech@example.org"
PASSPHRASE = "four or five easy words"
TOKEN = "token-that-must-never-reach-a-browser"
HOSTILE = "<script>alert(1)</script>\u202egnp.exe \"'&"


def problem(status: int, detail: str) -> Response:
    body = {"type": "about:blank", "title": "Refused", "status": status, "detail": detail, "error": detail}
    return JSONResponse(body, status, media_type="application/problem+json")


class GatewayDouble:
    """The contract of the API, as far as the pages use it. Tests read and set its state directly."""

    def __init__(self) -> None:
        self.claimed = True
        self.tokens: set[str] = {TOKEN}
        self.devices: dict[str, dict[str, Any]] = {}
        self.frames: list[dict[str, Any]] = []
        self.downlinks: list[dict[str, Any]] = []
        self.upstream: list[dict[str, Any]] = []
        self.nats: list[dict[str, Any]] = []
        self.findings: list[dict[str, Any]] = []
        self.gateways: list[dict[str, Any]] = [
            {
                "eui": "b827ebfffe12cd34",
                "last_seen_s_ago": 4.2,
                "rx_ok": 42,
                "tx": 3,
            }
        ]
        self.warnings: list[str] = []
        self.station: list[dict[str, Any]] = []
        self.hardware: dict[str, Any] = {"reachable": False, "problem": "the radio process is not running"}
        self.scanned: dict[str, Any] | None = None  # None: refused
        self.scans: list[dict[str, Any]] = []
        self.set_aside: list[str] = []
        self.broken = False
        self.streams = 0
        self._followers: list[asyncio.Queue[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._n = 0

    # -- state

    def add_device(self, dev_eui: str, name: str, **more: Any) -> dict[str, Any]:
        self.devices[dev_eui] = {
            "dev_eui": dev_eui,
            "name": name,
            "activation": "otaa",
            "dev_addr": None,
            "codec": "cayenne",
            "thing_id": "3f0d8f6e-8f3b-4f6e-9f55-1c2d3e4f5a6b",
            "channel_id": "5b1c9a8e-2d77-4c1a-8e0f-7a6b5c4d3e2f",
            "last_seen": None,
            "rssi_dbm": None,
            "snr_db": None,
            "sf": None,
            "fcnt_up": None,
            "uplinks": 0,
            "battery": None,
            "margin_db": None,
            **more,
        }
        return self.devices[dev_eui]

    def heard(self, kind: str, **fields: Any) -> dict[str, Any]:
        """A frame came or went; followers of the stream are told."""
        self._n += 1
        frame = {"n": self._n, "time": time.time(), "kind": kind, **fields}
        self.frames.append(frame)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake)
        return frame

    def restart(self) -> None:
        self.frames.clear()
        self._n = 0

    def _wake(self) -> None:
        for follower in self._followers:
            follower.put_nowait(None)

    # -- the API

    def app(self) -> Starlette:
        def route(path: str, view: Callable[..., Any], *methods: str) -> Route:
            return Route(path, view, methods=list(methods or ("GET",)))

        return Starlette(
            routes=[
                route("/claim", self._claim, "GET", "POST"),
                route("/tokens", self._tokens, "POST", "DELETE"),
                route("/gateway/status", self._closed(self._status)),
                route("/gateway/radio", self._closed(lambda request: JSONResponse(self.hardware))),
                route("/gateway/radio/scan", self._closed(self._scan), "POST"),
                route("/upstream", self._closed(lambda request: JSONResponse(self.upstream))),
                route("/lorawan/devices", self._closed(self._devices), "GET", "POST"),
                route("/lorawan/devices/{eui}", self._closed(self._device), "GET", "DELETE"),
                route("/lorawan/devices/{eui}/downlinks", self._closed(self._downlink), "POST"),
                route("/lorawan/diagnosis", self._closed(self._diagnosis)),
                route("/lorawan/frames", self._closed(self._frames)),
                route("/lorawan/frames/stream", self._closed(self._stream)),
            ]
        )

    def _closed(self, view: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def guarded(request: Request) -> Response:
            if self.broken:
                return problem(503, "not now")
            if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
                return problem(401, "a user token is needed")
            answer = view(request)
            found: Response = await answer if asyncio.iscoroutine(answer) else answer
            return found

        return guarded

    async def _claim(self, request: Request) -> Response:
        if self.broken:
            return problem(503, "not now")
        if request.method == "GET":
            return JSONResponse({"claimed": self.claimed})
        body = await request.json()
        if self.claimed or body["code"] != CODE:
            return problem(403, "This is not the code.")
        self.claimed = True
        return JSONResponse({"token": TOKEN}, 201)

    async def _tokens(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.tokens.discard(request.headers["authorization"].removeprefix("Bearer "))
            return Response(status_code=204)
        body = await request.json()
        if (body["email"], body["password"]) != (EMAIL, PASSPHRASE):
            return problem(401, "wrong")
        token = f"{TOKEN}-{len(self.tokens)}"
        self.tokens.add(token)
        return JSONResponse({"token": token}, 201)

    def _status(self, _request: Request) -> Response:
        kinds = [frame["kind"] for frame in self.frames]
        return JSONResponse(
            {
                "version": "0.1.0",
                "uptime_s": 7200.0,
                "name": "north barn",
                "region": "EU868",
                "radio": {
                    "connected": bool(self.gateways or self.station),
                    "gateways": self.gateways,
                    "warnings": self.warnings,
                    "modules": [{"freq_hz": 868_100_000, "sf": 7, "bw_hz": 125_000, "role": "rxtx"}],
                },
                "station": self.station,
                "store": {
                    "messages": 1234,
                    "committed_seq": 1234,
                    "first_seq": 1,
                    "bytes": 4_700_000,
                    "set_aside": self.set_aside,
                },
                "upstream": self.upstream,
                "nats": self.nats,
                "counters": {
                    "uplinks": kinds.count("uplink"),
                    "joins": kinds.count("join"),
                    "downlinks_sent": kinds.count("downlink"),
                    "rejected": {"bad_mic": kinds.count("rejected")} if "rejected" in kinds else {},
                    "senml_records": 2 * kinds.count("uplink"),
                },
            }
        )

    async def _devices(self, request: Request) -> Response:
        if request.method == "GET":
            return JSONResponse(list(self.devices.values()))
        body = await request.json()
        if body["dev_eui"] in self.devices:
            return problem(409, "A device with this DevEUI is registered already.")
        made = self.add_device(body["dev_eui"], body["name"], activation=body["activation"])
        found = {key: made[key] for key in ("dev_eui", "thing_id", "channel_id")}
        return JSONResponse({**found, "thing_key": "a-thing-key-shown-once"}, 201)

    def _device(self, request: Request) -> Response:
        eui = request.path_params["eui"]
        if eui not in self.devices:
            return problem(404, "No such device.")
        if request.method == "DELETE":
            del self.devices[eui]
            return Response(status_code=204)
        return JSONResponse(self.devices[eui])

    async def _downlink(self, request: Request) -> Response:
        body = await request.json()
        if len(body["payload"]) > 100:
            return problem(422, "At most 51 bytes at this data rate.")
        self.downlinks.append({"dev_eui": request.path_params["eui"], **body})
        return JSONResponse({"id": str(len(self.downlinks))}, 202)

    async def _scan(self, request: Request) -> Response:
        self.scans.append(await request.json())
        if self.scanned is None:
            return problem(503, "the radio process is not running")
        return JSONResponse(self.scanned)

    def found(self, reason: str, words: str, **more: Any) -> None:
        """Something is wrong."""
        self.findings.append(
            {
                "reason": reason,
                "weight": "stops",
                "words": words,
                "remedy": "compare the AppKey with the label",
                "meaning": "",
                "first": time.time() - 60,
                "last": time.time(),
                "count": 2,
                "dev_eui": None,
                "dev_addr": None,
                "name": None,
                "resolved": None,
                "evidence": {},
                **more,
            }
        )

    def _diagnosis(self, request: Request) -> Response:
        asked = request.query_params
        chosen = [
            each
            for each in self.findings
            if asked.get("dev_eui") in (None, each["dev_eui"])
            and asked.get("q", "") in each["words"]
            and (asked.get("open") != "1" or each["resolved"] is None)
            and each["last"] >= float(asked.get("since", 0))
        ]
        return JSONResponse({"findings": chosen})

    def _frames(self, request: Request) -> Response:
        after = int(request.query_params.get("after", 0))
        limit = int(request.query_params.get("limit", 100))
        dev_eui = request.query_params.get("dev_eui")
        found = [
            frame for frame in self.frames if frame["n"] > after and dev_eui in (None, frame.get("dev_eui"))
        ]
        return JSONResponse({"frames": found[-limit:]})

    def _stream(self, request: Request) -> Response:
        after = int(request.query_params.get("after", 0))
        self._loop = asyncio.get_running_loop()

        async def events() -> AsyncIterator[str]:
            told = after
            follower: asyncio.Queue[None] = asyncio.Queue()
            self._followers.append(follower)
            self.streams += 1
            try:
                yield ": here\n\n"
                while True:
                    for frame in [frame for frame in self.frames if frame["n"] > told]:
                        told = frame["n"]
                        yield f"id: {told}\ndata: {json.dumps(frame)}\n\n"
                    await follower.get()
            finally:
                self._followers.remove(follower)
                self.streams -= 1

        return StreamingResponse(events(), media_type="text/event-stream")


@contextmanager
def served(server: uvicorn.Server) -> Iterator[str]:
    """Run a server in a thread on a port of the system; gives its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="server")
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
        assert not thread.is_alive(), "the server did not stop"


def api_server(double: GatewayDouble) -> uvicorn.Server:
    settings = uvicorn.Config(double.app(), log_level="warning", ws="none", timeout_graceful_shutdown=1)
    return uvicorn.Server(settings)


class Visitor:
    """A browser without a screen: follows forms and carries their tokens."""

    def __init__(self, client: FlaskClient) -> None:
        self.client = client
        self.page = ""

    def get(self, path: str, **more: Any) -> Any:
        answer = self.client.get(path, **more)
        self.page = answer.get_data().decode(errors="replace")
        return answer

    def post(self, path: str, data: dict[str, str] | None = None, **more: Any) -> Any:
        """Send a form of the page shown last."""
        found = re.search(r'name="form_token" value="([0-9a-f]+)"', self.page)
        token = {"form_token": found[1]} if found else {}
        answer = self.client.post(path, data={**token, **(data or {})}, **more)
        self.page = answer.get_data(as_text=True)
        return answer

    def sign_in(self) -> None:
        self.get("/login")
        answer = self.post("/login", {"email": EMAIL, "password": PASSPHRASE})
        assert answer.status_code == 303, self.page
