"""A small double of the gateway's REST API, in memory and on a real port, and a browser without a screen."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl

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
        self.access: dict[str, str] = {}  # access tokens, each of the sign-in that it ends with
        self.refresh: dict[str, str] = {}  # the refresh token that is good, of each sign-in
        self.codes: dict[str, str] = {}
        self.oauth_calls: list[dict[str, str]] = []  # forms at the token endpoint
        self.no_tokens = False  # as on a full disk
        self.checked: list[dict[str, str]] = []  # questions of a reverse proxy, as headers
        self.applications: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, dict[str, Any]] = {}  # API keys
        self.consents: list[dict[str, Any]] = []
        self.authorization: dict[str, Any] = {}
        self.decisions: list[dict[str, Any]] = []
        self.devices: dict[str, dict[str, Any]] = {}
        self.frames: list[dict[str, Any]] = []
        self.downlinks: list[dict[str, Any]] = []
        self.queue: dict[str, Any] = {"device_class": "A", "limit": 16, "queue": [], "receipts": []}
        self.taken_back: list[str] = []  # ids of orders; "" where it was all of them
        self.groups: dict[str, dict[str, Any]] = {}
        self.group_calls: list[tuple[str, Any]] = []
        self.upstream: list[dict[str, Any]] = []
        self.nats: list[dict[str, Any]] = []
        self.findings: list[dict[str, Any]] = []
        self.simple: dict[str, dict[str, Any]] = {}
        self.simple_heard: list[dict[str, Any]] = []
        self.simple_sent: list[tuple[str, str]] = []
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
        self.wrong_tries = 0
        self.lost_commits = 0
        self.profiles: dict[str, dict[str, Any]] = {
            "default": {
                "version": "1.0.3",
                "device_class": "A",
                "codec": "cayenne",
                "description": "the usual",
            },
            "LoRaWAN-1.1-C": {"version": "1.1", "device_class": "C", "codec": "cayenne"},
        }
        self.labels: dict[str, dict[str, Any]] = {}
        self.unknown: list[dict[str, Any]] = []  # senders that are heard and not registered
        self.plans: dict[str, dict[str, Any]] = {}
        self.imported: list[tuple[str, dict[str, str], bytes]] = []  # plan, query, file
        self.asked: list[dict[str, str]] = []  # queries for devices
        self.changes: list[dict[str, Any]] = []  # of devices
        self.macs: dict[str, dict[str, Any]] = {}
        self.joins: dict[str, dict[str, Any]] = {}
        self.mac_actions: list[dict[str, Any]] = []
        self.mac_refusal = ""
        self.steering: dict[str, Any] = {"mode": "off", "region": "EU868"}
        self.codecs: dict[str, dict[str, Any]] = {}
        self.tried: list[dict[str, Any]] = []
        self.report: dict[str, Any] = {
            "data": {"level": 5},
            "records": [{"n": "level", "v": 5.0, "u": "m"}],
            "ms": 0.1,
        }
        self.session: dict[str, Any] = {
            "active": True,
            "dev_addr": "26011bda",
            "version": "1.0",
            "fcnt_up": 9,
        }
        self.me: dict[str, Any] = {"id": "1", "email": EMAIL, "role": "admin"}
        self.totp: dict[str, Any] = {"on": False, "recovery_codes": 0, "time_trusted": False}
        self.sign_ins: list[dict[str, Any]] = [
            {"id": "0a", "agent": HOSTILE, "address": "192.0.2.7", "opened": 1.8e9, "used": 1.8e9},
            {"id": "0b", "agent": "Firefox on Android", "opened": 1.8e9, "used": 1.8e9, "current": True},
        ]
        self.audited: list[dict[str, Any]] = [
            {
                "n": 2,
                "time": 1.8e9,
                "quality": "unset",
                "kind": "sign-in",
                "outcome": "refused",
                "who": HOSTILE,
                "address": "2001:db8::1",
                "door": "http",
                "detail": HOSTILE,
                "count": 12,
            },
            {"n": 1, "time": 1.8e9, "quality": "ntp", "kind": "thing", "outcome": "done", "email": EMAIL},
        ]
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
            "profile": "default",
            "version": "1.0.3",
            "device_class": "A",
            "state": "ok" if more.get("last_seen") else "never_heard",
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
                route("/auth/check", self._closed(self._check)),
                route("/claim", self._claim, "GET", "POST"),
                route("/tokens", self._tokens, "POST", "DELETE"),
                route("/oauth/token", self._oauth_token, "POST"),
                route("/oauth/authorizations", self._look, "POST"),
                route("/oauth/authorizations/decision", self._closed(self._decide), "POST"),
                route("/oauth/consents", self._closed(self._consents)),
                route("/oauth/consents/{id}", self._closed(self._consents), "DELETE"),
                route("/applications", self._closed(self._applications), "GET", "POST"),
                route("/applications/{id}", self._closed(self._application), "GET", "PUT", "DELETE"),
                route("/applications/{id}/secret", self._closed(self._new_secret), "POST"),
                route("/keys", self._closed(self._keys), "GET", "POST"),
                route("/keys/{id}", self._closed(self._key), "DELETE"),
                route("/keys/{id}/rotate", self._closed(self._key), "POST"),
                route("/users/profile", self._closed(lambda request: JSONResponse(self.me))),
                route("/users/totp", self._closed(lambda request: JSONResponse(self.totp))),
                route("/sessions", self._closed(lambda request: JSONResponse({"sessions": self.sign_ins}))),
                route("/audit", self._closed(lambda request: JSONResponse({"lines": self.audited}))),
                route("/gateway/status", self._closed(self._status)),
                route("/gateway/radio", self._closed(lambda request: JSONResponse(self.hardware))),
                route("/gateway/radio/scan", self._closed(self._scan), "POST"),
                route("/upstream", self._closed(lambda request: JSONResponse(self.upstream))),
                route("/lorawan/devices", self._closed(self._devices), "GET", "POST"),
                route("/lorawan/devices/qr", self._closed(self._label), "POST"),
                route("/lorawan/devices/export", self._closed(lambda request: Response("dev_eui\r\n"))),
                route("/lorawan/devices/import", self._closed(self._import), "POST"),
                route("/lorawan/devices/import/{plan}", self._closed(self._planned), "GET", "POST", "DELETE"),
                route("/lorawan/devices/{eui}", self._closed(self._device), "GET", "PUT", "DELETE"),
                route("/lorawan/devices/{eui}/session", self._closed(self._session), "GET", "POST"),
                route("/lorawan/devices/{eui}/session/move", self._closed(self._session), "DELETE"),
                route("/lorawan/transfer/export", self._closed(self._sealed), "POST"),
                route("/lorawan/transfer/import", self._closed(self._arrived), "POST"),
                route("/lorawan/devices/{eui}/adopt", self._closed(self._adopt), "POST"),
                route("/lorawan/heard", self._closed(lambda request: JSONResponse({"heard": self.unknown}))),
                route("/lorawan/profiles", self._closed(self._profiles)),
                route("/lorawan/profiles/{name}", self._closed(self._profile), "GET", "PUT", "DELETE"),
                route(
                    "/lorawan/devices/{eui}/downlinks", self._closed(self._downlink), "GET", "POST", "DELETE"
                ),
                route("/lorawan/devices/{eui}/downlinks/{id}", self._closed(self._downlink), "DELETE"),
                route("/lorawan/groups", self._closed(self._groups), "GET", "POST"),
                route("/lorawan/groups/{name}", self._closed(self._group), "GET", "DELETE"),
                route("/lorawan/groups/{name}/downlinks", self._closed(self._group_order), "POST", "DELETE"),
                route("/lorawan/groups/{name}/downlinks/{id}", self._closed(self._group_order), "DELETE"),
                route("/lorawan/groups/{name}/members/{eui}", self._closed(self._member), "PUT", "DELETE"),
                route("/lorawan/devices/{eui}/mac", self._closed(self._mac), "GET", "POST"),
                route("/lorawan/devices/{eui}/joins", self._closed(self._joins), "GET", "POST"),
                route("/lorawan/steering", self._closed(lambda request: JSONResponse(self.steering))),
                route("/lorawan/diagnosis", self._closed(self._diagnosis)),
                route("/rawlora/nodes", self._closed(self._simple), "GET", "POST"),
                route("/rawlora/nodes/{id}", self._closed(self._simple_gone), "DELETE"),
                route("/rawlora/nodes/{id}/downlinks", self._closed(self._simple_order), "POST"),
                route("/codecs", self._closed(self._codecs), "GET", "POST"),
                route("/codecs/test", self._closed(self._try_codec), "POST"),
                route("/codecs/{name}", self._closed(self._codec), "GET", "PUT", "DELETE"),
                route("/codecs/{name}/{what}", self._closed(self._codec_more), "GET", "POST"),
                route("/lorawan/frames", self._closed(self._frames)),
                route("/lorawan/frames/stream", self._closed(self._stream)),
            ]
        )

    def _closed(self, view: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def guarded(request: Request) -> Response:
            if self.broken:
                return problem(503, "not now")
            if not self._knows(request):
                return problem(401, "a user token is needed")
            answer = view(request)
            found: Response = await answer if asyncio.iscoroutine(answer) else answer
            return found

        return guarded

    def _knows(self, request: Request) -> bool:
        """An access token is as good as the sign-in it was made for."""
        return self.knows_token(request.headers.get("authorization", "").removeprefix("Bearer "))

    def knows_token(self, token: str) -> bool:
        return self.access.get(token, token) in self.tokens

    # -- applications and consents

    def _check(self, request: Request) -> Response:
        self.checked.append({name.lower(): value for name, value in request.headers.items()})
        if request.headers.get("x-original-uri") == "/closed":
            return problem(403, "denied")
        told = {"X-Fluxgate-Subject": "users/u-1", "X-Fluxgate-Role": "admin", "X-Other": "not for the proxy"}
        return Response(headers=told)

    async def _oauth_token(self, request: Request) -> Response:
        if "authorization" in request.headers:
            return JSONResponse({"error": "invalid_client"}, 401)
        form = dict(parse_qsl((await request.body()).decode()))
        self.oauth_calls.append(form)
        if form["grant_type"] == "refresh_token":
            sign_in = next((each for each, good in self.refresh.items() if good == form["refresh_token"]), "")
        else:
            sign_in = self.codes.pop(form.get("code", ""), "")
        if sign_in not in self.tokens:
            return JSONResponse({"error": "invalid_grant"}, 400)
        access, refresh = f"access-{len(self.oauth_calls)}", f"refresh-{len(self.oauth_calls)}"
        self.access[access], self.refresh[sign_in] = sign_in, refresh
        return JSONResponse({"access_token": access, "refresh_token": refresh, "expires_in": 600})

    async def _look(self, request: Request) -> Response:
        query = (await request.json())["query"]
        if "client_id=unknown" in query:
            return problem(400, "there is no such application; the address it sent you to is damaged")
        needs = self.authorization.get("needs", "consent") if self._knows(request) else "sign-in"
        silent = not self._knows(request) and "prompt=none" in query
        redirect = "https://app.example.org/cb?error=login_required" if silent else ""
        return JSONResponse(
            {**self.authorization, "needs": needs, "redirect": redirect or self.authorization["redirect"]}
        )

    async def _decide(self, request: Request) -> Response:
        body = await request.json()
        asked = dict(parse_qsl(body["query"]))
        if asked.get("client_id") != "fluxgate-webui":
            self.decisions.append(body)
            outcome = "code=c-1" if body["allow"] else "error=access_denied"
            return JSONResponse({"redirect": f"{asked['redirect_uri']}?{outcome}&state=s"})
        sign_in = request.headers["authorization"].removeprefix("Bearer ")
        if self.no_tokens or sign_in not in self.tokens:
            return problem(507, "no room on the disk")
        code = f"code-{len(self.codes)}"
        self.codes[code] = sign_in
        return JSONResponse({"redirect": f"{asked['redirect_uri']}?code={code}&state={asked['state']}"})

    def _consents(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.consents = [each for each in self.consents if each["id"] != request.path_params["id"]]
            return Response(status_code=204)
        return JSONResponse({"total": len(self.consents), "consents": self.consents})

    async def _applications(self, request: Request) -> Response:
        if request.method == "GET":
            name = request.query_params.get("name", "").lower()
            found = [each for each in self.applications.values() if name in each["name"].lower()]
            return JSONResponse({"total": len(found), "applications": found})
        body = await request.json()
        if any("evil" in uri for uri in body["redirect_uris"]):
            return problem(400, "a redirect URI is https://, or http:// on the user's own computer")
        made = {"id": f"app-{len(self.applications)}", "made_at": 1_750_000_000.0, "grant_types": [], **body}
        self.applications[made["id"]] = made
        return JSONResponse({**made, "secret": None if body["public"] else "a-secret-shown-once"}, 201)

    async def _application(self, request: Request) -> Response:
        app_id = request.path_params["id"]
        if app_id not in self.applications:
            return problem(404, "no such application")
        if request.method == "PUT":
            self.applications[app_id] |= await request.json()
        if request.method == "DELETE":
            del self.applications[app_id]
            return Response(status_code=204)
        return JSONResponse(self.applications[app_id])

    async def _keys(self, request: Request) -> Response:
        if request.method == "GET":
            return JSONResponse({"total": len(self.keys), "keys": list(self.keys.values())})
        body = await request.json()
        if "users:write" in body["scopes"]:
            return problem(403, "a key is never for more than its maker may: leave out users:write")
        made = {"id": f"key-{len(self.keys)}", "issued_at": "2026-11-20T10:00:00Z", **body}
        if made.pop("duration", 0):
            made["expires_at"] = "2027-11-20T10:00:00Z"
        self.keys[made["id"]] = made
        return JSONResponse({**made, "value": "fgk_shown-once"}, 201)

    async def _key(self, request: Request) -> Response:
        key = self.keys.get(request.path_params["id"])
        if key is None:
            return problem(404, "no such key")
        if request.method == "DELETE":
            del self.keys[key["id"]]
            return Response(status_code=204)
        if (await request.json())["overlap_s"]:
            key["old_value_until"] = "2026-11-21T10:00:00Z"
        return JSONResponse({**key, "value": "fgk_replaced-and-shown-once"})

    def _new_secret(self, request: Request) -> Response:
        return JSONResponse({"id": request.path_params["id"], "secret": "another-secret-shown-once"})

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
        if self.wrong_tries >= 5:
            return problem(429, "too many wrong passwords; wait a little")
        if (body["email"], body["password"]) != (EMAIL, PASSPHRASE):
            self.wrong_tries += 1
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
                    "lost_commits": self.lost_commits,
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
            query = dict(request.query_params)
            self.asked.append(query)
            found = sorted(self.devices.values(), key=lambda each: -(each["last_seen"] or 0.0))
            text = query.get("q", "").lower()
            found = [each for each in found if text in each["name"].lower() or text in each["dev_eui"]]
            if query.get("attention"):
                found = [each for each in found if each["state"] != "ok"]
            offset, limit = int(query.get("offset", 0)), int(query.get("limit", len(found)))
            return JSONResponse(found[offset : offset + limit], headers={"x-total-count": str(len(found))})
        return self._added(await request.json())

    def _added(self, body: dict[str, Any]) -> Response:
        if body["dev_eui"] in self.devices:
            return problem(409, "A device with this DevEUI is registered already.")
        made = self.add_device(body["dev_eui"], body["name"], activation=body.get("activation", "otaa"))
        self.changes.append(body)
        found = {key: made[key] for key in ("dev_eui", "thing_id", "channel_id")}
        return JSONResponse({**found, "thing_key": "a-thing-key-shown-once"}, 201)

    async def _adopt(self, request: Request) -> Response:
        body = await request.json()
        if body["app_key"].startswith("00"):
            return problem(400, "this AppKey does not fit the join-request heard 20 s ago: compare it")
        return self._added({**body, "dev_eui": request.path_params["eui"]})

    async def _session(self, request: Request) -> Response:
        if request.method == "POST":
            return await self._sealed(request)
        if request.method == "DELETE":
            self.session = {}
            return Response(status_code=204)
        return JSONResponse(self.session)

    async def _sealed(self, request: Request) -> Response:
        body = await request.json()
        if body["move"]:
            self.session = {"active": True, "moved": time.time(), "exported": time.time()}
        return JSONResponse({"head": {"moved": body["move"]}})

    async def _arrived(self, request: Request) -> Response:
        body = await request.json()
        if body["passphrase"] != PASSPHRASE:
            return problem(400, "wrong passphrase, or the file was changed on its way")
        arrival = {"dev_eui": "a84041ffff1c3d77", "name": HOSTILE, "joined": True, "warnings": ["no codec"]}
        return JSONResponse({"received": 1, "arrivals": [arrival]})

    async def _label(self, request: Request) -> Response:
        text = (await request.json())["text"]
        if text not in self.labels:
            return problem(400, "there is no DevEUI in it: 16 hex digits")
        return JSONResponse(self.labels[text])

    async def _import(self, request: Request) -> Response:
        data = await request.body()
        if b"dev_eui" not in data:
            return problem(400, "no column is called dev_eui, DevEUI or the like")
        self.imported.append(("", dict(request.query_params), data))
        return JSONResponse(self.plans["plan-1"])

    def _planned(self, request: Request) -> Response:
        plan = self.plans.get(request.path_params["plan"])
        if plan is None:
            return problem(404, "this preview is too old: send the file again")
        if request.method == "GET":
            state = request.query_params.get("state", "")
            lines = [line for line in plan["lines"] if not state or line["state"] == state]
            return JSONResponse({**plan, "lines": lines, "total": len(lines)})
        del self.plans[request.path_params["plan"]]
        if request.method == "DELETE":
            return Response(status_code=204)
        self.imported.append((plan["plan"], dict(request.query_params), b""))
        return JSONResponse({"registered": plan["counts"]["new"], "passed_over": 1, "devices": []}, 201)

    def _profiles(self, _request: Request) -> Response:
        return JSONResponse({"region": "EU868", "profiles": [self._shown(name) for name in self.profiles]})

    def _shown(self, name: str) -> dict[str, Any]:
        built_in = name == "default" or name.startswith("LoRaWAN-")
        used = sum(device["profile"] == name for device in self.devices.values())
        return {"name": name, "built_in": built_in, "devices": used, "body": self.profiles[name]}

    async def _profile(self, request: Request) -> Response:
        name = request.path_params["name"]
        if request.method == "PUT":
            body = await request.json()
            if body.get("max_dr") == 15:
                return problem(400, "max_dr 15 is not an uplink data rate of EU868")
            self.profiles[name] = body
        elif name not in self.profiles:
            return problem(404, "there is no such profile")
        elif request.method == "DELETE":
            if self._shown(name)["devices"]:
                return problem(409, f"1 device has the profile {name!r}: give them another one first")
            del self.profiles[name]
            return Response(status_code=204)
        return JSONResponse(self._shown(name))

    async def _device(self, request: Request) -> Response:
        eui = request.path_params["eui"]
        if eui not in self.devices:
            return problem(404, "No such device.")
        if request.method == "PUT":
            body = await request.json()
            if body.get("app_key", "").startswith("00"):
                return problem(400, "AppKey is one that is refused")
            self.changes.append(body)
            known = {name: value for name, value in body.items() if name in self.devices[eui]}
            self.devices[eui] |= {name: value for name, value in known.items() if value is not None}
        if request.method == "DELETE":
            del self.devices[eui]
            return Response(status_code=204)
        return JSONResponse(self.devices[eui])

    async def _downlink(self, request: Request) -> Response:
        if request.method == "GET":
            return JSONResponse(self.queue)
        if request.method == "DELETE":
            self.taken_back.append(request.path_params.get("id", ""))
            return Response(status_code=204)
        body = await request.json()
        if len(body.get("payload", "")) > 100:
            return problem(422, "At most 51 bytes at this data rate.")
        self.downlinks.append({"dev_eui": request.path_params["eui"], **body})
        return JSONResponse({"id": str(len(self.downlinks))}, 202)

    async def _groups(self, request: Request) -> Response:
        if request.method == "GET":
            return JSONResponse(list(self.groups.values()))
        body = await request.json()
        if body["name"] in self.groups:
            return problem(409, f"there is a group {body['name']} already")
        self.group_calls.append(("POST", body))
        self.groups[body["name"]] = {"name": body["name"], "mc_addr": body["mc_addr"]}
        made = {"name": body["name"], "thing_id": "t-1", "thing_key": "k-1", "channel_id": "c-1"}
        return JSONResponse(made, 201)

    def _group(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self.groups:
            return problem(404, f"there is no group '{name}'")
        if request.method == "DELETE":
            del self.groups[name]
            return Response(status_code=204)
        return JSONResponse(self.groups[name])

    async def _group_order(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.taken_back.append(request.path_params.get("id", ""))
            return Response(status_code=204)
        self.group_calls.append(("order", await request.json()))
        return JSONResponse({"id": "o-1"}, 202)

    def _member(self, request: Request) -> Response:
        if request.path_params["eui"] not in self.devices:
            return problem(404, f"{request.path_params['eui']} is not registered: register the device first")
        self.group_calls.append((request.method, request.path_params["eui"]))
        return Response(status_code=204)

    async def _codecs(self, request: Request) -> Response:
        if request.method == "POST":
            body = await request.json()
            if body["name"] in self.codecs:
                return problem(409, f"there is a codec {body['name']} already")
            return self._keep_codec(body["name"], body, 201)
        own = {"name": "cayenne", "kind": "own", "description": "Cayenne", "devices": 2}
        stored = [
            {"kind": "javascript", **each, "samples": len(each["samples"])} for each in self.codecs.values()
        ]
        process = {"running": True, "holds": ["seccomp"], "calls": 5}
        return JSONResponse({"codecs": [own, *stored], "process": process})

    def _keep_codec(self, name: str, body: dict[str, Any], status: int) -> Response:
        if "SYNTAX" in body["source"]:
            return problem(422, "source: SyntaxError: unexpected token (line 2)")
        if any(each.get("expected") == "wrong" for each in body["samples"]) and not body["force"]:
            return problem(422, 'sample 1: it gives something else, 5 where "wrong" was expected')
        before = self.codecs.get(name, {"version": 0, "earlier": []})
        made = {key: body[key] for key in ("source", "description", "samples", "units")}
        earlier = [before["version"], *before["earlier"]] if before["version"] else []
        about = {"name": name, "devices": 0, "held": "", "version": before["version"] + 1, "earlier": earlier}
        self.codecs[name] = {**about, **made}
        return JSONResponse(self.codecs[name], status)

    async def _codec(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self.codecs:
            return problem(404, f"there is no codec {name}")
        if request.method == "PUT":
            return self._keep_codec(name, await request.json(), 200)
        if request.method == "DELETE":
            if self.codecs[name]["devices"]:
                return problem(409, f"1 devices use {name}: give them another codec first")
            del self.codecs[name]
            return Response(status_code=204)
        return JSONResponse(self.codecs[name])

    async def _codec_more(self, request: Request) -> Response:
        codec, what = self.codecs[request.path_params["name"]], request.path_params["what"]
        if what == "lift":
            codec["held"] = ""
        if what == "rollback":
            codec["rolled_back"] = (await request.json())["version"]
        return JSONResponse(codec)

    async def _try_codec(self, request: Request) -> Response:
        self.tried.append(await request.json())
        return JSONResponse(self.report)

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

    async def _simple(self, request: Request) -> Response:
        if request.method == "GET":
            body = {"nodes": list(self.simple.values()), "heard": self.simple_heard, "counters": {}}
            return JSONResponse(body)
        node = await request.json()
        node["id"] = f"raw-{node['header']}-{node.get('address', 0)}"
        if node["id"] in self.simple:
            return problem(409, "It is registered already.")
        self.simple[node["id"]] = node
        return JSONResponse({"id": node["id"]}, 201)

    def _simple_gone(self, request: Request) -> Response:
        if self.simple.pop(request.path_params["id"], None) is None:
            return problem(404, "no such node")
        return Response(status_code=204)

    async def _simple_order(self, request: Request) -> Response:
        node_id = request.path_params["id"]
        if node_id not in self.simple:
            return problem(404, "no such node")
        self.simple_sent.append((node_id, (await request.json())["payload"]))
        return JSONResponse({"id": "raw-1"}, 202)

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

    async def _mac(self, request: Request) -> Response:
        eui = request.path_params["eui"]
        if request.method == "GET":
            return JSONResponse(self.macs.get(eui, {"dev_eui": eui, "session": False}))
        if self.mac_refusal:
            return problem(400, self.mac_refusal)
        self.mac_actions.append({"dev_eui": eui, **await request.json()})
        return JSONResponse({"words": "noted"})

    async def _joins(self, request: Request) -> Response:
        eui = request.path_params["eui"]
        if request.method == "POST":
            minutes = (await request.json())["restart_minutes"]
            self.joins[eui]["restart_until"] = time.time() + 60 * minutes if minutes else None
        return JSONResponse(self.joins[eui])

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

    def post(self, path: str, data: Mapping[str, Any] | None = None, **more: Any) -> Any:
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
